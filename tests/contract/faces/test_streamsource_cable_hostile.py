"""Hostile clients of /cable: whatever they send or do not read, nothing stays of them, and what others see is right."""

import base64
import json
import os
import secrets
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from mainstem.clock import FixedClock
from mainstem.identity import Signer, signing_key
from mainstem.ids import AccountId
from mainstem.storage import Layout
from serving import Server, serving
from streamsource import Person, bearer, error_of, got, person
from waiting import PATIENCE_S, wait_until
from windows import SHEET, Window, a_window, cable_of, cell, opened, row, url_of

MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("rude") / "data", signup_roles=True) as running:
        yield running


@pytest.fixture
def ada(server: Server) -> Iterator[Person]:
    """An editor of each test's own: some do not survive it."""
    with person(server, "editor") as made:
        yield made


def connections(server: Server) -> float:
    """How many WebSockets are open."""
    with server.client() as client:
        text = client.get("/metrics").text
    return float(next(line for line in text.splitlines() if line.startswith("mainstem_live_connections ")).split()[1])


def open_files(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def goodbye(window: Window) -> dict[str, Any]:
    while (heard := window.hear()).get("type") != "disconnect":
        pass
    return heard


def plug(of: Person) -> socket.socket:
    """A WebSocket of which the test writes every byte, hands shaken; what comes then is still to be read."""
    url = httpx.URL(url_of(of))
    line = socket.create_connection((url.host, url.port or 80), timeout=PATIENCE_S)
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    head = (f"GET /cable?token={of.token} HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade")
    rest = ("Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", "", "")
    line.sendall("\r\n".join((*head, *rest)).encode())
    read_until(line, b"101 Switching")
    return line


def read_until(line: socket.socket, wanted: bytes) -> None:
    heard = b""
    while wanted not in heard:
        part = line.recv(MIB)
        assert part, heard
        heard += part


def frame(opcode: int, content: bytes, size: int | None = None) -> bytes:
    """A client's frame, masked with zeros; `size` is what it claims to have (RFC 6455, section 5.2)."""
    size = len(content) if size is None else size
    length = bytes([128 | size]) if size < 126 else struct.pack("!BQ", 255, size)
    if 126 <= size < 1 << 16:  # the shortest form, and no other
        length = struct.pack("!BH", 254, size)
    return bytes([128 | opcode]) + length + bytes(4) + content


def said(command: str, identifier: str = SHEET, **rest: Any) -> bytes:
    return frame(1, json.dumps({"command": command, "identifier": identifier, **rest}).encode())


# What is sent


def test_an_update_without_a_value_changes_nothing(ada: Person, admin: Person) -> None:
    """Only null, or an empty text, clears a cell; the sender alone is told."""
    number = row(ada, title="Stays")
    with a_window(admin) as other, a_window(ada) as window:
        window.act("lock_cell", cell_id=cell(number))
        window.next("cell_locked")
        window.act("update_cell", cell_id=cell(number), stream_id=number, field="title")
        assert window.refusal() == {"error": "Invalid field"}
        assert other.quiet("cell_updated", "cell_unlocked")
        assert got(ada.api.get(f"/streams/{number}"))["title"] == "Stays"
        window.act("update_cell", cell_id=cell(number), stream_id=number, field="title", value=None)
        assert other.next("cell_updated")["value"] is None


@pytest.mark.parametrize("value", ["a\0b", "x" * 1_001, [], {}, ["x"]])
def test_what_does_not_fit_into_a_cell_is_told_to_the_sender_alone(ada: Person, admin: Person, value: Any) -> None:
    """The lock stays, so that he may mend it."""
    number = row(ada, title="Stays")
    with a_window(admin) as other, a_window(ada) as window:
        window.act("lock_cell", cell_id=cell(number))
        window.act("update_cell", cell_id=cell(number), stream_id=number, field="title", value=value)
        assert set(window.refusal()) == {"error"}
        assert other.quiet("cell_updated", "cell_unlocked")
        window.act("update_cell", cell_id=cell(number), stream_id=number, field="title", value="\U0001f4fa")
        assert other.next("cell_updated")["value"] == "\U0001f4fa"


DEEP = "[" * 20_000 + "]" * 20_000


@pytest.mark.parametrize("data", ["[]", "1", "null", '"lock_cell"', "{", DEEP, '{"action":1}', '{"action":{}}', "{}"])
def test_data_that_is_no_action_is_told_and_the_line_stays(ada: Person, data: str) -> None:
    """It is what one message says; the protocol was kept."""
    with a_window(ada) as window:
        window.say("message", data=data)
        assert "Malformed" in window.refusal()["error"]
        assert window.quiet()


@pytest.mark.parametrize(
    "sent",
    [
        *(DEEP, "null", "1", '"x"', "{", '{"command":"message"}', '{"command":1,"identifier":"x"}'),
        *('{"command":"subscribe","identifier":{}}', '{"command":"message","identifier":"x","data":{}}'),
        *(json.dumps({"command": "subscribe", "identifier": "x" * 2_001}), b"\x00\x01", b""),
    ],
)
def test_frames_that_are_no_commands_end_the_line(ada: Person, server: Server, sent: str | bytes) -> None:
    """Told once, for good; the window is closed for the others, too."""
    with a_window(ada) as window:
        window.line.send(sent)
        assert goodbye(window) == {"type": "disconnect", "reason": "invalid_request", "reconnect": False}
        with pytest.raises(ConnectionClosed):
            window.hear()
    wait_until(lambda: connections(server) == 0)


def test_a_long_message_is_refused_before_it_is_read(ada: Person) -> None:
    """The frame's own head says how much would come: 16 MiB are not waited for."""
    with plug(ada) as line:
        line.sendall(frame(1, b"", size=16 * MIB))
        heard = b""
        while part := line.recv(MIB):
            heard += part
    assert struct.pack("!H", 1009) in heard


@pytest.mark.parametrize("piece", ["x" * 1_000, ""])
def test_pieces_without_end_end_the_line(ada: Person, server: Server, piece: str) -> None:
    """A message has 64 KiB in however many pieces, and of empty ones an end as well."""
    with a_window(ada) as window:
        with suppress(ConnectionClosed):
            window.line.send(piece for _ in range(20_000))
        with suppress(ConnectionClosed):
            deque(window.line, maxlen=0)
        assert window.line.close_code == 1009
    wait_until(lambda: connections(server) == 0)


def test_who_never_reads_the_answers_to_his_pings_is_not_listened_to(ada: Person) -> None:
    """Else each of them would wait in memory; how much goes into a line that is stuck is up to the system."""
    with plug(ada) as line:
        line.settimeout(1)
        with pytest.raises(TimeoutError):
            _flood(line, frame(9, b"x" * 125) * 1_000, 256 * MIB)


def _flood(line: socket.socket, content: bytes, size: int) -> None:
    sent = 0
    while sent < size:
        sent += line.send(content)


def test_the_same_subscription_counts_once_and_there_are_twenty(ada: Person) -> None:
    """Clients repeat their wish until it is confirmed; each identifier is told everything once."""
    identifiers = [json.dumps({"channel": "StreamsChannel", "room": room}) for room in range(25)]
    with opened(url_of(ada), f"?token={ada.token}") as window:
        for identifier in identifiers:
            for _ in range(3):
                window.say("subscribe", identifier)
        window.say("message", identifiers[0], data='{"action":"last"}')
        heard: list[tuple[str, str]] = []
        while "message" not in (answer := window.hear()):
            heard.append((answer["identifier"], answer["type"]))
        assert [one for one, kind in heard if kind == "confirm_subscription"] == identifiers[:20]
        assert {one for one, kind in heard if kind == "reject_subscription"} == set(identifiers[20:])
        number = row(ada)
        told = [window.hear()["identifier"] for _ in range(20)]
        assert sorted(told) == sorted(identifiers[:20])
        ada.api.patch(f"/streams/{number}", json={"title": "x"})
        assert window.hear()["message"]["event"] == "stream.updated"


# Locks


def test_another_ones_lock_is_not_to_be_had(server: Server, ada: Person, admin: Person) -> None:
    """Neither taken, nor let go, nor written under, nor renewed; not even by an administrator."""
    number = row(ada, title="Hers")
    with a_window(ada) as window, a_window(admin) as other:
        window.act("lock_cell", cell_id=cell(number))
        other.next("cell_locked", cell_id=cell(number))
        other.act("lock_cell", cell_id=cell(number))
        assert other.refusal()["user_id"] == ada.id
        other.act("unlock_cell", cell_id=cell(number))
        other.act("update_cell", cell_id=cell(number), stream_id=number, field="title", value="His")
        assert other.refusal()["error"].startswith("Update failed")
        assert window.quiet("cell_unlocked", "cell_updated")
        with a_window(admin) as later:
            assert later.next("cell_locked", cell_id=cell(number))["user_id"] == ada.id
    assert got(ada.api.get(f"/streams/{number}"))["title"] == "Hers"


def test_twenty_locks_are_twenty_and_all_go_with_the_line(ada: Person, admin: Person) -> None:
    """One that is let go makes room for one."""
    cells = [
        cell(row(ada), field)
        for _ in range(3)
        for field in ("title", "source", "city", "state", "notes", "link", "kind")
    ]
    with a_window(admin) as other:
        with a_window(ada) as window:
            for name in cells:
                window.act("lock_cell", cell_id=name)
            assert "20" in window.refusal()["error"]
            window.act("unlock_cell", cell_id=cells[0])
            window.act("lock_cell", cell_id=cells[20])
            window.next("cell_locked", cell_id=cells[20])
        freed = [other.next("cell_unlocked")["cell_id"] for _ in range(21)]
        assert sorted(freed) == sorted(cells)
    with a_window(admin) as later:
        assert later.quiet("cell_locked")


# Who may no longer


def test_a_token_that_is_ended_ends_its_line_and_what_it_held(ada: Person, admin: Person) -> None:
    """Signing out anywhere, while the window is open."""
    number = row(ada)
    with a_window(admin) as other, a_window(ada) as window:
        window.act("lock_cell", cell_id=cell(number))
        other.next("cell_locked", cell_id=cell(number))
        got(ada.api.delete("/logout"))
        window.act("update_cell", cell_id=cell(number), stream_id=number, field="title", value="Too late")
        assert goodbye(window) == {"type": "disconnect", "reason": "unauthorized", "reconnect": False}
        told = [other.told(lambda message: message.get("action") in ("cell_unlocked", "user_left")) for _ in range(2)]
        assert [message["user_id"] for message in told] == [ada.id, ada.id]
    assert got(admin.api.get(f"/streams/{number}"))["title"] is None


def test_a_token_that_runs_out_ends_its_line(server: Server, ada: Person, admin: Person) -> None:
    """To the second, not with the next message."""
    signer = Signer(signing_key(Layout(server.data).keys), 2, FixedClock(time.time_ns() // 1_000))
    token = signer.issue(AccountId(ada.id)).access_token
    with a_window(admin) as other, opened(server.url, f"?token={token}") as window:
        window.say("subscribe")
        other.next("user_joined", user_id=ada.id)
        assert goodbye(window)["reason"] == "unauthorized"
        other.next("user_left", user_id=ada.id)


def test_a_deleted_account_leaves_at_once(server: Server, ada: Person, admin: Person) -> None:
    """With its locks; its rows are the administrator's and can be edited on."""
    number = row(ada)
    with a_window(admin) as other, a_window(ada) as window:
        window.act("lock_cell", cell_id=cell(number))
        other.next("cell_locked", cell_id=cell(number))
        assert admin.api.delete(f"/users/{ada.id}").status_code == 204
        assert goodbye(window)["reason"] == "unauthorized"
        other.next("cell_unlocked", cell_id=cell(number))
        other.act("lock_cell", cell_id=cell(number))
        other.next("cell_locked", cell_id=cell(number), user_id=admin.id)


def test_a_role_that_is_lowered_counts_for_the_next_message(ada: Person, admin: Person) -> None:
    """He stays and watches, and may let go what he has."""
    number = row(ada, title="Stays")
    with a_window(admin) as other, a_window(ada) as window:
        window.act("lock_cell", cell_id=cell(number))
        other.next("cell_locked", cell_id=cell(number))
        got(admin.api.patch(f"/users/{ada.id}", json={"role": "default"}))
        window.act("update_cell", cell_id=cell(number), stream_id=number, field="title", value="Too late")
        assert window.refusal() == {"error": "You are not authorized to edit streams"}
        window.act("lock_cell", cell_id=cell(number))
        assert window.refusal() == {"error": "You are not authorized to edit streams"}
        window.act("unlock_cell", cell_id=cell(number))
        other.next("cell_unlocked", cell_id=cell(number))
        got(admin.api.patch(f"/streams/{number}", json={"title": "Watched"}))
        assert window.next("cell_updated", field="title")["value"] == "Watched"


def test_in_maintenance_who_is_connected_watches_and_no_more(server: Server, ada: Person, admin: Person) -> None:
    """And nobody comes in."""
    number = row(ada)
    with a_window(ada) as window:
        got(admin.api.post("/features/maintenance_mode/enable"))
        try:
            window.act("lock_cell", cell_id=cell(number))
            assert window.refusal() == {"error": "Update failed: The API is under maintenance"}
            upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
            upgrade |= bearer(ada.token) | {"Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw=="}
            assert "maintenance" in error_of(httpx.get(f"{server.url}/cable", headers=upgrade, timeout=PATIENCE_S), 503)
        finally:
            got(admin.api.post("/features/maintenance_mode/disable"))
        window.act("lock_cell", cell_id=cell(number))
        window.next("cell_locked", cell_id=cell(number))


# Who does not read, and who is gone


def test_who_reads_nothing_is_let_go_and_forgotten(server: Server, ada: Person, admin: Person) -> None:
    """However much there is to tell: no more than a mebibyte waits for him, and his line is cut in the end."""
    number = row(ada)
    before = open_files(server)
    with a_window(admin) as other, plug(ada) as line:
        identifiers = [SHEET, *(json.dumps({"channel": "StreamsChannel", "room": room}) for room in range(19))]
        for identifier in identifiers:
            line.sendall(said("subscribe", identifier))
        other.next("user_joined", user_id=ada.id)
        for count in range(40):
            got(ada.api.patch(f"/streams/{number}", json={"notes": f"{count}" * 30_000}))
        other.next("user_left", user_id=ada.id)
        wait_until(lambda: connections(server) == 1)
        wait_until(lambda: open_files(server) <= before + 2)  # `other`, and the look at it
    wait_until(lambda: open_files(server) <= before)


def test_much_news_at_once_cuts_off_nobody_who_reads_on(ada: Person, admin: Person) -> None:
    """Six times what may wait for a client, as fast as it can be changed: each of it is told."""
    number = row(ada)
    notes = [f"{count:02}" * 30_000 for count in range(100)]
    with a_window(admin) as other:
        for text in notes:
            got(ada.api.patch(f"/streams/{number}", json={"notes": text}))
        last = {"cell_id": cell(number, "notes"), "value": notes[-1]}
        assert other.next("cell_updated", **last)["user_id"] == ada.id


def test_an_account_has_a_hundred_windows_at_most(server: Server, ada: Person, admin: Person) -> None:
    with ExitStack() as stack:
        lines = [stack.enter_context(plug(ada)) for _ in range(100)]
        wait_until(lambda: connections(server) == 100)
        with connect(cable_of(server.url) + f"?token={ada.token}", open_timeout=PATIENCE_S) as one_too_many:
            heard = json.loads(one_too_many.recv(PATIENCE_S))
        assert heard == {"type": "disconnect", "reason": "invalid_request", "reconnect": False}
        stack.enter_context(a_window(admin))
        lines.pop().close()
        wait_until(lambda: connections(server) == 100)
        stack.enter_context(a_window(ada))
    wait_until(lambda: connections(server) == 0)


def test_two_hundred_who_vanish_leave_nothing(server: Server, admin: Person) -> None:
    """Not a person, not a lock, not a line, not a file: the network cut them off without a word."""
    before = open_files(server)
    with ExitStack() as stack:
        people = [stack.enter_context(person(server, "editor")) for _ in range(10)]
        other = stack.enter_context(a_window(admin))
        lines = [stack.enter_context(_seated(one, cell(row(one)))) for one in people for _ in range(20)]
        wait_until(lambda: connections(server) == 201)
        for line in lines:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            line.close()
        left = {other.next("user_left")["user_id"] for _ in people}
        assert left == {one.id for one in people}
        wait_until(lambda: connections(server) == 1)
        with a_window(admin) as later:
            assert [user["user_id"] for user in later.next("active_users_list")["users"]] == [admin.id]
            assert later.quiet("cell_locked")
    wait_until(lambda: open_files(server) <= before)


def _seated(of: Person, name: str) -> socket.socket:
    """Somebody who has the sheet open and a cell locked, at a line that can be cut."""
    line = plug(of)
    line.sendall(said("subscribe"))
    line.sendall(said("message", data=json.dumps({"action": "lock_cell", "cell_id": name})))
    read_until(line, f'"cell_locked","cell_id":"{name}"'.encode())
    return line


def test_nothing_of_all_this_was_a_server_error(server: Server) -> None:
    """The log knows of those that a client may have missed."""
    assert [line for line in server.log_lines() if line.get("level") in ("error", "critical")] == []
