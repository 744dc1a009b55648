"""/cable, as programs that speak ActionCable see it: who is let in, who is there, who types where, what changes."""

import json
import secrets
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import pairwise
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from foreign import node
from mainstem.cli import main
from mainstem.clock import FixedClock
from mainstem.identity import Signer, signing_key
from mainstem.ids import AccountId
from mainstem.storage import Layout
from serving import API_KEY, Server, serving
from streamsource import Person, person
from waiting import PATIENCE_S
from windows import EVENTS, SHEET, a_window, cable_of, cell, name_of, opened, row


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One where people choose their roles themselves."""
    with serving(tmp_path_factory.mktemp("cable") / "data", signup_roles=True) as running:
        yield running


# Who is let in


@pytest.mark.parametrize("way", ["query", "cookie", "header"])
def test_a_token_lets_in_however_it_comes(server: Server, ada: Person, way: str) -> None:
    """Browsers cannot set headers, pages of the server have a cookie, programs like a header."""
    query = f"?token={ada.token}" if way == "query" else ""
    headers = {
        "query": {},
        "cookie": {"Cookie": f"theme=dark; jwt_token={ada.token}", "Origin": server.url},
        "header": {"Authorization": f"Bearer {ada.token}"},
    }[way]
    with opened(server.url, query, additional_headers=headers) as window:
        window.say("subscribe")
        assert window.hear() == {"identifier": SHEET, "type": "confirm_subscription"}


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "ms_nothing-that-is-known"])
def test_who_has_no_token_is_told_not_to_come_back(server: Server, token: str) -> None:
    """The connection is made, told why it ends, and ended: so clients do not try for ever."""
    with connect(cable_of(server.url) + f"?token={token}", open_timeout=PATIENCE_S) as line:
        assert json.loads(line.recv(PATIENCE_S)) == {"type": "disconnect", "reason": "unauthorized", "reconnect": False}
        with pytest.raises(ConnectionClosed):
            line.recv(PATIENCE_S)


def test_a_key_lets_in_who_may_read_the_catalogue(server: Server) -> None:
    """One that is limited to a stream of events may not."""
    with server.client() as makes:
        limited = makes.post("/v2/keys", json={"name": "one stream", "streams": ["orders"]}).json()["key"]
    with opened(server.url, f"?token={API_KEY}") as window:
        window.say("subscribe")
        assert window.hear()["type"] == "confirm_subscription"
    with connect(cable_of(server.url) + f"?token={limited}", open_timeout=PATIENCE_S) as line:
        assert json.loads(line.recv(PATIENCE_S))["reason"] == "unauthorized"


def test_a_cookie_lets_in_no_page_of_another_origin(server: Server, ada: Person) -> None:
    """Browsers send it along whichever page asks."""
    headers = {"Cookie": f"jwt_token={ada.token}", "Origin": "https://elsewhere.example"}
    with connect(cable_of(server.url), additional_headers=headers, open_timeout=PATIENCE_S) as line:
        assert json.loads(line.recv(PATIENCE_S))["reason"] == "unauthorized"


def test_who_does_not_ask_for_a_websocket_is_told_to(server: Server) -> None:
    """A look with a browser shows what is there."""
    response = httpx.get(f"{server.url}/cable", timeout=PATIENCE_S)
    assert response.status_code == 426
    assert "error" in response.json()


def test_a_ping_comes_every_three_seconds(ada: Person) -> None:
    """With the Unix time: clients reconnect when they hear none."""
    began = time.time()
    with a_window(ada) as window:
        while len(window.pings) < 3:
            with suppress(TimeoutError):
                window.hear(within_s=4)

    assert began - 1 <= window.pings[0] <= window.pings[-1] <= time.time()
    gaps_s = [later - earlier for earlier, later in pairwise(window.pings)]
    assert 2 <= min(gaps_s) <= 4  # a machine that has much else to do may be late now and then


def test_an_unknown_channel_is_refused(ada: Person) -> None:
    """And so is an identifier that names none; what is subscribed already is confirmed once."""
    with a_window(ada) as window:
        for identifier in ('{"channel":"SecretChannel"}', "nonsense"):
            window.say("subscribe", identifier)
            while window.hear() != {"identifier": identifier, "type": "reject_subscription"}:
                pass


@pytest.mark.parametrize("frame", ["", "[]", '{"command":"dance","identifier":"x"}', b"{}"])
def test_who_does_not_speak_the_protocol_is_let_go(ada: Person, frame: str | bytes) -> None:
    """There is nothing to answer him in."""
    with a_window(ada) as window:
        window.line.send(frame)
        while (heard := window.hear()).get("type") != "disconnect":
            pass
        assert heard == {"type": "disconnect", "reason": "invalid_request", "reconnect": False}


def test_a_message_over_64_kib_ends_the_connection(ada: Person) -> None:
    """With the status that says so."""
    with a_window(ada) as window:
        window.line.send("x" * (64 * 1024 + 1))
        with suppress(ConnectionClosed):
            deque(window.line, maxlen=0)
        assert window.line.close_code == 1009


# Who is there


def test_people_are_told_once_each_with_name_and_colour(ada: Person, bob: Person) -> None:
    """However many windows they have; by number, in eight colours."""
    with a_window(ada) as window, a_window(ada), a_window(bob):
        both = window.told(lambda message: {ada.id, bob.id} <= {user["user_id"] for user in message.get("users", [])})

    users = both["users"]
    assert [user["user_id"] for user in users] == sorted(user["user_id"] for user in users)
    shown = next(user for user in users if user["user_id"] == ada.id)
    colours = ["#FF6B6B", "#4ECDC4", "#45B7D1", "#FFA07A", "#98D8C8", "#F7DC6F", "#BB8FCE", "#85C1E2"]
    assert shown == {
        "user_id": ada.id,
        "user_name": name_of(ada),
        "user_color": colours[ada.id % 8],
        "inactive": False,
    }


def test_people_come_and_leave_with_their_last_window(ada: Person, bob: Person) -> None:
    """The others are told of both."""
    with a_window(ada) as window:
        with a_window(bob):
            came = window.next("user_joined", user_id=bob.id)
            with a_window(bob):
                pass
            assert window.quiet("user_left")
        window.next("user_left", user_id=bob.id)

    assert came["user_name"] == name_of(bob)
    assert came["user_color"].startswith("#")


def test_a_presence_ping_is_answered_by_the_list(ada: Person) -> None:
    """That is how a window learns that it still counts."""
    with a_window(ada) as window:
        window.next("active_users_list")
        window.act("presence_ping")
        assert ada.id in [user["user_id"] for user in window.next("active_users_list")["users"]]


# Who types where


def test_a_locked_cell_is_told_to_all_and_refused_to_the_other(admin: Person, ada: Person) -> None:
    """The refusal is told to the one who asked, and to nobody else."""
    number = row(ada)
    with a_window(ada) as first, a_window(admin) as second:
        first.act("lock_cell", cell_id=cell(number))
        told = second.next("cell_locked", cell_id=cell(number))
        assert (told["user_id"], told["user_name"]) == (ada.id, name_of(ada))
        second.act("lock_cell", cell_id=cell(number))
        refusal = second.refusal()
        assert refusal["cell_id"] == cell(number)
        assert refusal["user_id"] == ada.id
        assert first.quiet("error")

        first.act("unlock_cell", cell_id=cell(number))
        assert second.next("cell_unlocked")["user_id"] == ada.id
        second.act("lock_cell", cell_id=cell(number))
        first.next("cell_locked", user_id=admin.id)


def test_who_comes_later_learns_what_is_locked(admin: Person, ada: Person) -> None:
    """Else he would type where somebody does."""
    number = row(ada)
    with a_window(ada) as first:
        first.act("lock_cell", cell_id=cell(number))
        first.next("cell_locked")
        with a_window(admin) as second:
            assert second.next("cell_locked", cell_id=cell(number))["user_id"] == ada.id


def test_a_closed_window_frees_its_cells(admin: Person, ada: Person) -> None:
    """Each of them is told."""
    number = row(ada)
    with a_window(admin) as second:
        with a_window(ada) as first:
            for field in ("title", "city"):
                first.act("lock_cell", cell_id=cell(number, field))
                first.next("cell_locked", cell_id=cell(number, field))
        freed = {second.next("cell_unlocked")["cell_id"] for _ in range(2)}

    assert freed == {cell(number, "title"), cell(number, "city")}


@pytest.mark.parametrize(
    "name", ["stream_{}_id", "stream_{}_is_pinned", "stream_{}", "stream_0_title", "title", "", None, 7, ["x"]]
)
def test_what_is_no_cell_cannot_be_locked(ada: Person, name: Any) -> None:
    """An existing row and an editable field make a cell."""
    number = row(ada)
    with a_window(ada) as window:
        window.act("lock_cell", cell_id=name.format(number) if isinstance(name, str) else name)
        assert window.refusal() == {"error": "Invalid field"}


def test_readers_watch(reader: Person, ada: Person, bob: Person) -> None:
    """Who could not change the row by the API cannot lock its cells: neither a reader nor another editor."""
    number = row(ada)
    for other in (reader, bob):
        with a_window(other) as window:
            window.act("lock_cell", cell_id=cell(number))
            assert window.refusal() == {"error": "You are not authorized to edit streams"}
            ada.api.patch(f"/streams/{number}", json={"title": name_of(other)})
            assert window.next("cell_updated")["value"] == name_of(other)


def test_a_connection_holds_twenty_cells(ada: Person) -> None:
    """One that wants more is told."""
    numbers = [row(ada) for _ in range(3)]
    fields = ("title", "source", "city", "state", "notes", "link", "status")
    cells = [cell(number, field) for number in numbers for field in fields]
    with a_window(ada) as window:
        for name in cells[:21]:
            window.act("lock_cell", cell_id=name)
        assert "20" in window.refusal()["error"]


# What changes


def test_a_change_is_told_to_all_and_lets_the_cell_go(admin: Person, ada: Person) -> None:
    """First what stands there, then that it is free; and the API has it."""
    number = row(ada)
    with a_window(ada) as first, a_window(admin) as second:
        first.act("lock_cell", cell_id=cell(number))
        first.act("update_cell", cell_id=cell(number), stream_id=number, field="title", value="By hand")
        for window in (first, second):
            seen = [window.told(lambda message: message.get("cell_id") == cell(number)) for _ in range(3)]
            assert [message["action"] for message in seen] == ["cell_locked", "cell_updated", "cell_unlocked"]
            assert seen[1] == {
                "action": "cell_updated",
                "cell_id": cell(number),
                "stream_id": number,
                "field": "title",
                "value": "By hand",
                "user_id": ada.id,
            }

    assert ada.api.get(f"/streams/{number}").json()["title"] == "By hand"


@pytest.mark.parametrize(
    ("field", "given", "stored"),
    [
        ("status", "Live", "live"),
        ("status", "OFFLINE", "offline"),
        ("platform", "tiktok", "TikTok"),
        ("platform", "", "Other"),
        ("kind", "hologram", "video"),
        ("orientation", "vertical", "vertical"),
        ("started_at", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
        ("ended_at", "", None),
        ("city", None, None),
        ("notes", "ü\n€", "ü\n€"),
    ],
)
def test_a_cell_takes_what_the_field_takes(ada: Person, field: str, given: Any, stored: Any) -> None:
    """Labels and keys; a blank platform is told from the link; an unknown kind becomes video; blank dates are none."""
    number = row(ada)
    with a_window(ada) as window:
        window.act("lock_cell", cell_id=cell(number, field))
        window.act("update_cell", cell_id=cell(number, field), stream_id=number, field=field, value=given)
        assert window.next("cell_updated", cell_id=cell(number, field))["value"] == stored
        window.next("cell_unlocked")

    assert ada.api.get(f"/streams/{number}").json()[field] == stored


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("link", "not a url", "Link must be a valid HTTP or HTTPS URL"),
        ("source", "", "Source can't be blank"),
        ("status", "perhaps", "Status is not included in the list"),
        ("started_at", "yesterday", None),
        ("title", {"a": 1}, None),
    ],
)
def test_a_value_that_does_not_fit_is_told_to_the_sender(ada: Person, field: str, value: Any, said: str | None) -> None:
    """In the words of the API; the cell stays his, and nothing has changed."""
    number = row(ada)
    before = ada.api.get(f"/streams/{number}").json()
    with a_window(ada) as window:
        window.act("lock_cell", cell_id=cell(number, field))
        window.act("update_cell", cell_id=cell(number, field), stream_id=number, field=field, value=value)
        refusal = window.refusal()["error"]
        assert said is None or said in refusal
        assert window.quiet("cell_unlocked")

    assert ada.api.get(f"/streams/{number}").json() == before


def test_a_change_needs_the_lock_and_fields_that_agree(ada: Person, bob: Person) -> None:
    """Nothing is written where they do not."""
    number, other = row(ada, title="As it was"), row(ada)
    change: dict[str, Any] = {"cell_id": cell(number), "stream_id": number, "field": "title", "value": "x"}
    with a_window(ada) as window:
        window.act("update_cell", **change)
        assert window.refusal()["error"].startswith("Update failed")
        window.act("lock_cell", cell_id=cell(number))
        for wrong in ({"stream_id": other}, {"field": "notes"}, {"stream_id": None}, {"cell_id": cell(other)}):
            window.act("update_cell", **{**change, **wrong})
            assert window.refusal() == {"error": "Invalid field"}

    assert ada.api.get(f"/streams/{number}").json()["title"] == "As it was"


def test_a_value_that_stands_there_already_lets_the_cell_go(ada: Person) -> None:
    """There is nothing new to tell, and yet the others see the cell come free."""
    number = row(ada, title="Same")
    with a_window(ada) as window:
        window.act("lock_cell", cell_id=cell(number))
        window.act("update_cell", cell_id=cell(number), stream_id=number, field="title", value="Same")
        assert window.next("cell_updated")["value"] == "Same"
        window.next("cell_unlocked")


def test_changes_by_the_api_are_told_as_changes_by_hand_are(ada: Person, reader: Person) -> None:
    """One message for each field that has changed, and one when it was checked."""
    number = row(ada)
    with a_window(reader) as window:
        moment = "2026-01-02T03:04:05Z"
        ada.api.patch(f"/streams/{number}", json={"city": "Austin", "status": "live", "last_checked_at": moment})
        heard = [window.told(lambda message: message.get("stream_id") == number) for _ in range(3)]

    changed = {message["field"]: message["value"] for message in heard if message["action"] == "cell_updated"}
    assert changed["city"] == "Austin"
    checked = [message for message in heard if message["action"] == "stream_updated"]
    for message in checked:
        assert message["last_checked_at"] == moment


def test_a_new_streamer_is_told(admin: Person, ada: Person) -> None:
    """With his name and the platforms he is on."""
    streamer = ada.api.post(
        "/streamers",
        json={
            "streamer": {
                "name": f"Grace {secrets.token_hex(4)}",
                "accounts_attributes": [
                    {"platform": "twitch", "username": "grace"},
                    {"platform": "tiktok", "username": "grace"},
                ],
            }
        },
    ).json()
    number = row(ada)
    with a_window(admin) as window:
        ada.api.patch(f"/streams/{number}", json={"streamer_id": streamer["id"]})
        told = window.next("streamer_updated", stream_id=number)

    assert told["streamer_id"] == streamer["id"]
    assert told["streamer_name"] == streamer["name"]
    assert sorted(told["streamer_platform"].split(", ")) == ["tiktok", "twitch"]


def test_the_other_channel_tells_what_becomes_of_listings(ada: Person, admin: Person) -> None:
    """From its making to its end, each with the listing as the API shows it."""
    with a_window(admin, EVENTS) as window:

        def told(event: str, number: int) -> dict[str, Any]:
            return window.told(lambda said: (said["event"], said["stream_id"]) == (event, number), EVENTS)

        number = row(ada, title="One")
        assert told("stream.created", number)["stream"]["title"] == "One"
        ada.api.patch(f"/streams/{number}", json={"title": "Two"})
        assert told("stream.updated", number)["stream"]["title"] == "Two"
        ada.api.put(f"/streams/{number}/pin")
        assert told("stream.pinned", number)["stream"]["is_pinned"] is True
        ada.api.post(f"/streams/{number}/archive")
        assert told("stream.archived", number)["stream"]["is_archived"] is True
        ada.api.delete(f"/streams/{number}")
        told("stream.deleted", number)


def test_what_another_process_changes_is_told_as_well(server: Server, ada: Person, admin: Person) -> None:
    """The operator's command beside the server, in this case."""
    number = row(ada)
    with a_window(admin, EVENTS) as window:
        assert main(["listing", "pin", str(number), "--data", str(server.data)]) == 0
        told = window.told(lambda said: (said["event"], said["stream_id"]) == ("stream.pinned", number), EVENTS)

    assert told["stream"]["is_pinned"] is True


def test_nonsense_in_the_log_holds_nothing_up(server: Server, ada: Person, admin: Person) -> None:
    """An administrator may write into the topic that tells of changes; what cannot be read is passed over."""
    number = row(ada)
    events = [
        {"event_type": "listing.updated", "timestamp": "2025-01-01T00:00:00Z", "data": data}
        for data in ({"x": 1}, {"id": "x"}, {"id": number, "changes": 5}, {"id": 1 << 70}, {"id": -1})
    ]
    with a_window(admin) as window, server.client() as operator:
        batch = {"stream_id": "mainstem.listings", "events": events}
        assert operator.post("/v2/ingest/batch", json=batch).status_code == 200
        ada.api.patch(f"/streams/{number}", json={"title": "After it"})
        assert window.next("cell_updated", field="title", value="After it")["stream_id"] == number
    assert ada.api.get(f"/streams/{number}/analytics").status_code == 200


def test_the_sheet_goes_on_when_the_log_of_changes_is_deleted(server: Server, ada: Person) -> None:
    """The next change makes it anew, and is told."""
    number = row(ada)
    with a_window(ada) as window, server.client() as operator:
        ada.api.patch(f"/streams/{number}", json={"title": "Before"})
        window.next("cell_updated", value="Before")
        gone = operator.delete("/v2/streams/mainstem.listings", params={"confirm": "mainstem.listings"})
        assert gone.status_code == 204
        ada.api.patch(f"/streams/{number}", json={"title": "After"})
        window.next("cell_updated", value="After")


def test_nothing_is_told_of_a_channel_that_was_left(ada: Person, admin: Person) -> None:
    """The other subscription of the same connection goes on."""
    with a_window(admin, SHEET, EVENTS) as window:
        window.say("unsubscribe", SHEET)
        number = row(ada)
        with a_window(ada) as other:
            other.act("lock_cell", cell_id=cell(number))
            other.next("cell_locked")
        window.told(lambda said: said["stream_id"] == number, EVENTS)
        window.act("presence_ping")
        while "error" not in (heard := window.hear()).get("message", {}):
            assert heard.get("identifier") == EVENTS


# The reference client


def test_the_reference_client_edits_a_sheet(server: Server, admin: Person, ada: Person) -> None:
    """Two people with @rails/actioncable: a lock, a conflict, a change, a window that closes, an old token."""
    number = row(ada)
    stdin = {"ada": ada.token, "bob": admin.token, "expired": expired(server, ada), "stream": number}
    address = cable_of(server.url)
    told = json.loads(node("cable.cjs", address, stdin=json.dumps(stdin).encode()))

    by_bob = [message for message in told["bob"] if message.get("cell_id") == cell(number)]
    assert [message.get("action", "refused") for message in by_bob] == [
        "cell_locked",
        "refused",
        "cell_updated",
        "cell_unlocked",
    ]
    assert by_bob[2]["value"] == "By hand"
    left = [message for message in told["ada"] if message.get("action") == "user_left"]
    assert left[-1]["user_id"] == admin.id  # the list of who is there may be told before or after it
    assert told["late"] == []
    assert told["retries"] is False
    assert ada.api.get(f"/streams/{number}").json()["title"] == "By hand"


def expired(server: Server, holder: Person) -> str:
    """A token of his that ended yesterday, signed with the server's key."""
    key = signing_key(Layout(server.data).keys)
    token = Signer(key, 60, FixedClock(time.time_ns() // 1_000 - 86_400_000_000)).issue(AccountId(holder.id))
    return token.access_token


# Many at once


def test_of_five_who_want_a_cell_at_once_one_gets_it(server: Server, admin: Person) -> None:
    """The lock is one person's, so each of them is somebody else."""
    number = row(admin)
    with ExitStack() as stack:
        people = [admin, *(stack.enter_context(person(server, "admin")) for _ in range(4))]
        windows = [stack.enter_context(a_window(one)) for one in people]
        for window in windows:
            window.act("lock_cell", cell_id=cell(number))
        winners = {window.next("cell_locked", cell_id=cell(number))["user_id"] for window in windows}
        refused = [window for window, one in zip(windows, people, strict=True) if one.id not in winners]
        assert len(winners) == 1
        for window in refused:
            window.act("lock_cell", cell_id=cell(number))
            assert window.refusal()["user_id"] in winners


def test_more_than_thirty_messages_a_second_wait_and_none_is_lost(ada: Person) -> None:
    """They are read no faster."""
    with a_window(ada) as window:
        started = time.monotonic()
        for _ in range(70):
            window.act("no_such_action")
        for _ in range(70):
            window.refusal()
        assert time.monotonic() - started > 1.5
