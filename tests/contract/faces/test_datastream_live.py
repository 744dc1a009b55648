"""DataStream live: server-sent events and the WebSocket, as clients of both see them."""

import itertools
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from serving import API_KEY, Server, found, refused, send, serving
from waiting import PATIENCE_S, in_one_window, wait_until

EVENT = {"event_type": "x", "timestamp": "2024-03-15T10:30:00Z"}
LARGE = "x" * 100_000


class Talk:
    """A socket that speaks JSON."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def say(self, **frame: Any) -> None:
        self.connection.send(json.dumps(frame))

    def hear(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(self.connection.recv(timeout=PATIENCE_S))
        return frame

    def ask(self, **frame: Any) -> dict[str, Any]:
        self.say(**frame)
        return self.hear()

    def events(self, count: int) -> list[dict[str, Any]]:
        """The next events, however many frames they take."""
        events: list[dict[str, Any]] = []
        while len(events) < count:
            frame = self.hear()
            assert frame["op"] == "events", frame
            events += frame["events"]
        return events


@contextmanager
def talking(server: Server, key: str = API_KEY, **options: Any) -> Iterator[Talk]:
    url, headers = f"{server.url}/v2/ws".replace("http", "ws"), {"X-API-Key": key}
    with connect(url, additional_headers=headers, open_timeout=PATIENCE_S, **options) as line:
        yield Talk(line)


@pytest.fixture
def talk(server: Server) -> Iterator[Talk]:
    with talking(server) as line:
        yield line


class Tail:
    """The events of a tail, one by one, as the standard parses them."""

    def __init__(self, response: httpx.Response) -> None:
        self.lines = response.iter_lines()

    def next(self) -> tuple[str, str, Any]:
        """The id, the kind and the data of the next event."""
        fields: dict[str, str] = {}
        for line in self.lines:
            if not line and "data" in fields:
                return fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"])
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
        raise EOFError


@contextmanager
def tailing(client: httpx.Client, stream: str, last: str | None = None, **parameters: str) -> Iterator[Tail]:
    headers = {"Accept": "text/event-stream", **({} if last is None else {"Last-Event-ID": last})}
    with client.stream("GET", f"/v2/streams/{stream}/events", params=parameters, headers=headers) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "text/event-stream"
        yield Tail(response)


# Server-sent events


def test_a_tail_begins_with_now(client: httpx.Client, stream: str) -> None:
    """What was there before is not sent; each event comes as a query would show it, under its id."""
    send(client, stream, EVENT)
    with tailing(client, stream) as tail:
        next(tail.lines)
        answer = send(client, stream, EVENT | {"data": {"n": 1}, "metadata": {"m": 2}})
        event_id, kind, data = tail.next()

    assert (event_id, kind) == (answer["first_event_id"], "message")
    assert data == found(client, stream)[-1]


def test_a_tail_resumes_without_gap_or_repeat(client: httpx.Client, stream: str) -> None:
    """A reader that loses its connection after each event still sees every event once."""
    for first in range(0, 10, 2):
        send(client, stream, *(EVENT | {"data": {"n": number}} for number in (first, first + 1)))
    seen, last = [], None
    for _ in range(10):
        parameters = {"from": "earliest"} if last is None else {}
        with tailing(client, stream, last, **parameters) as tail:
            last, _, data = tail.next()
            seen.append(data["data"]["n"])

    assert seen == list(range(10))


def test_a_tail_may_begin_after_an_event(client: httpx.Client, stream: str) -> None:
    """`from` takes an id as well; Last-Event-ID goes before it."""
    ids = send(client, stream, *[EVENT] * 3, ids="true")["event_ids"]
    with tailing(client, stream, **{"from": ids[0]}) as tail:
        assert tail.next()[0] == ids[1]
    with tailing(client, stream, ids[1], **{"from": "earliest"}) as tail:
        assert tail.next()[0] == ids[2]


def test_an_event_in_many_lines_is_one_event(client: httpx.Client, stream: str) -> None:
    """Line ends between the tokens of the JSON that was sent do not break the frame."""
    body = f'{{"stream_id":"{stream}","event_type":"x","data":{{\r\n"a":\n"b\\n"}}}}'
    client.post("/v2/ingest/events", content=body, headers={"Content-Type": "application/json"})
    with tailing(client, stream, **{"from": "earliest"}) as tail:
        assert tail.next()[2]["data"] == {"a": "b\n"}


@pytest.mark.parametrize(
    ("headers", "parameters", "status", "code"),
    [
        ({"Accept": "application/json"}, {}, 406, "NOT_ACCEPTABLE"),
        ({}, {"from": "yesterday"}, 400, "INVALID_REQUEST"),
        ({"Last-Event-ID": "7"}, {}, 400, "INVALID_REQUEST"),
        ({}, {"form": "earliest"}, 400, "INVALID_REQUEST"),
    ],
)
def test_a_wrong_tail_is_refused(
    client: httpx.Client, stream: str, headers: dict[str, str], parameters: dict[str, str], status: int, code: str
) -> None:
    """Before anything is sent."""
    send(client, stream, EVENT)
    headers = {"Accept": "text/event-stream"} | headers

    refused(client.get(f"/v2/streams/{stream}/events", headers=headers, params=parameters), status, code)


def test_a_tail_takes_its_key_from_the_query(server: Server, client: httpx.Client, stream: str) -> None:
    """Browsers cannot give an EventSource headers; a wrong key is refused all the same."""
    send(client, stream, EVENT)
    with server.client(None) as nobody:
        with tailing(nobody, stream, **{"from": "earliest", "api_key": API_KEY}) as tail:
            assert tail.next()[2]["event_type"] == "x"
        refused(nobody.get(f"/v2/streams/{stream}/events?api_key=ms_wrong-wrong-wrong"), 401, "UNAUTHENTICATED")
    refused(client.get("/v2/streams/nowhere/events", headers={"Accept": "text/event-stream"}), 404, "INVALID_STREAM_ID")


def test_a_slow_tail_is_told_what_it_missed(server: Server, client: httpx.Client, stream: str) -> None:
    """A client that reads nothing for a while costs no more than its buffer, and goes on from where it is told."""
    send(client, stream, EVENT)
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        line.settimeout(PATIENCE_S)
        line.connect(("127.0.0.1", server.port))
        head = (
            f"GET /v2/streams/{stream}/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nX-API-Key: {API_KEY}"
        )
        line.sendall(f"{head}\r\n\r\n".encode())
        line.recv(1_000)
        ids = []
        for _ in range(15):
            ids += send(client, stream, *[EVENT | {"data": {"x": LARGE}}] * 10, ids="true")["event_ids"]
        time.sleep(0.2)
        got = b""
        while ids[-1].encode() not in got:
            got += line.recv(1 << 20)

    lines = got.replace(b"\r\n", b"\n").split(b"\n")
    seen: list[str] = []
    for kind, text in itertools.pairwise(lines):
        if kind == b"event: lagging":
            told = json.loads(text[6:])
            seen += ids[len(seen) : len(seen) + told["skipped"]]
            assert (told["stream_id"], told["skipped_to"]) == (stream, ids[len(seen)])
        elif kind.startswith(b"id: "):
            seen.append(kind[4:].decode())
    assert b"event: lagging" in lines
    assert seen == ids


@pytest.mark.slow
def test_a_quiet_tail_is_kept_open(client: httpx.Client, stream: str) -> None:
    """A comment about every 15 s."""
    send(client, stream, EVENT)
    with tailing(client, stream) as tail:
        next(tail.lines)
        started = time.monotonic()
        assert next(tail.lines).startswith(":")
        assert 14 < time.monotonic() - started < 30  # what proxies usually wait at least


# The WebSocket


def test_what_is_published_is_durable_when_acknowledged(client: httpx.Client, talk: Talk, stream: str) -> None:
    """The ack has the publish's `ref`, and a query sees the events."""
    events = [EVENT | {"event_id": "a"}, EVENT | {"event_id": "a"}, EVENT]
    ack = talk.ask(op="publish", ref=7, stream_id=stream, events=events)
    shown = found(client, stream)

    assert (ack["op"], ack["ref"], ack["stream_id"]) == ("ack", 7, stream)
    assert (ack["accepted"], ack["duplicates"]) == (2, 1)
    assert [event["event_id"] for event in shown] == [ack["first_event_id"], ack["last_event_id"]]


def test_publishes_are_stored_in_their_order(client: httpx.Client, talk: Talk, stream: str) -> None:
    """Many at once, without waiting for acks; the first makes the stream."""
    for number in range(300):
        talk.say(op="publish", ref=number, stream_id=stream, events=[EVENT | {"data": {"n": number}}])
    acks = [talk.hear() for _ in range(300)]

    assert [ack["ref"] for ack in acks] == list(range(300))
    assert [event["data"]["n"] for event in found(client, stream, limit="1000")] == list(range(300))


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"op": "publish", "stream_id": "s"}, "INVALID_EVENT"),
        ({"op": "publish", "stream_id": "s", "events": [{"event_type": ""}]}, "INVALID_EVENT"),
        ({"op": "publish", "stream_id": "", "events": [EVENT]}, "INVALID_REQUEST"),
        ({"op": "subscribe"}, "INVALID_REQUEST"),
        ({"op": "subscribe", "stream_id": "nowhere"}, "INVALID_STREAM_ID"),
        ({"op": "subscribe", "stream_id": "s", "form": "latest"}, "INVALID_REQUEST"),
        ({"op": "subscribe", "stream_id": "s", "from": "now"}, "INVALID_REQUEST"),
        ({"op": "unsubscribe", "stream_id": "s"}, "NOT_FOUND"),
        ({"op": "dance"}, "INVALID_REQUEST"),
        ({"opera": 1}, "INVALID_REQUEST"),
    ],
)
def test_a_wrong_frame_is_answered_and_the_socket_goes_on(talk: Talk, frame: dict[str, Any], code: str) -> None:
    """With the frame's own `ref`, whatever JSON that is."""
    answer = talk.ask(ref={"my": "ref"}, **frame)

    assert (answer["op"], answer["ref"]) == ("error", {"my": "ref"})
    assert answer["error"]["code"] == code, answer
    assert set(answer["error"]) == {"code", "message", "details"}
    assert talk.ask(op="ping", ref=2) == {"op": "pong", "ref": 2}


@pytest.mark.parametrize(
    "frame", ["nonsense", "[1]", "[" * 100_000, b"\x00\xff", "", '{"op":"publish","ref":1,"events":[']
)
def test_what_is_no_frame_is_answered_too(talk: Talk, frame: str | bytes) -> None:
    """Text that is no JSON object, and binary messages."""
    talk.connection.send(frame)

    assert talk.hear()["op"] == "error"
    assert talk.ask(op="ping")["op"] == "pong"


def test_a_message_over_the_limit_ends_the_socket(tmp_path: Path) -> None:
    """With the code that says so; its size is that of a body."""
    with serving(tmp_path / "data", body_bytes_max=10_000, event_bytes_max=1_000) as server, talking(server) as talk:
        assert talk.ask(op="ping", ref="x" * 9_000)["op"] == "pong"
        talk.say(op="ping", ref="x" * 20_000)
        with pytest.raises(ConnectionClosed) as closed:
            talk.hear()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize(("start", "expected"), [("earliest", [0, 1, 2, 3]), ("latest", [3]), ("second", [2, 3])])
def test_a_subscription_begins_where_it_is_told(
    client: httpx.Client, talk: Talk, stream: str, start: str, expected: list[int]
) -> None:
    """With all, with what comes, or after an event."""
    ids = send(client, stream, *(EVENT | {"data": {"n": number}} for number in range(3)), ids="true")["event_ids"]
    begin = ids[1] if start == "second" else start
    answer = talk.ask(op="subscribe", ref=1, stream_id=stream, **{"from": begin})
    send(client, stream, EVENT | {"data": {"n": 3}})

    assert answer == {"op": "subscribed", "ref": 1, "stream_id": stream, "from": begin}
    events = talk.events(len(expected))
    assert [event["data"]["n"] for event in events] == expected
    assert events == found(client, stream)[-len(expected) :]


def test_nothing_comes_after_unsubscribed(client: httpx.Client, talk: Talk, stream: str) -> None:
    """And a second subscription to a stream is refused as long as there is the first."""
    send(client, stream, EVENT)
    assert talk.ask(op="subscribe", ref=1, stream_id=stream)["op"] == "subscribed"
    assert talk.ask(op="subscribe", ref=2, stream_id=stream)["error"]["code"] == "CONFLICT"
    assert talk.ask(op="unsubscribe", ref=3, stream_id=stream) == {"op": "unsubscribed", "ref": 3, "stream_id": stream}
    send(client, stream, EVENT)
    assert talk.ask(op="ping", ref=4) == {"op": "pong", "ref": 4}
    assert talk.ask(op="subscribe", ref=5, stream_id=stream)["op"] == "subscribed"


def test_a_slow_subscriber_is_told_what_it_missed(server: Server, client: httpx.Client, stream: str) -> None:
    """How many, and with which event it goes on; never silently."""
    send(client, stream, EVENT)
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        line.connect(("127.0.0.1", server.port))
        with talking(server, sock=line, max_queue=1) as talk:
            talk.ask(op="subscribe", ref=1, stream_id=stream)
            ids = []
            for _ in range(15):
                ids += send(client, stream, *[EVENT | {"data": {"x": LARGE}}] * 10, ids="true")["event_ids"]
            time.sleep(0.2)
            seen: list[str] = []
            told: list[dict[str, Any]] = []
            while not seen or seen[-1] != ids[-1]:
                frame = talk.hear()
                if frame["op"] == "lagging":
                    told.append(frame)
                    assert frame["stream_id"] == stream
                    seen += ids[len(seen) : len(seen) + frame["skipped"]]
                    assert frame["skipped_to"] == ids[len(seen)]
                else:
                    seen += [event["event_id"] for event in frame["events"]]

    assert told
    assert seen == ids


def test_a_socket_needs_a_credential(server: Server) -> None:
    """It may come in the query; without one the handshake is answered as any request."""
    url = f"{server.url}/v2/ws".replace("http", "ws")
    with connect(f"{url}?api_key={API_KEY}", open_timeout=PATIENCE_S) as line:
        assert Talk(line).ask(op="ping")["op"] == "pong"
    for wrong in ("", "?api_key=ms_wrong-wrong-wrong-wrong"):
        with pytest.raises(InvalidStatus) as refusal:
            connect(url + wrong, open_timeout=PATIENCE_S)
        assert refusal.value.response.status_code == 401
        assert json.loads(refusal.value.response.body or b"")["error"]["code"] == "UNAUTHENTICATED"


def test_an_ordinary_request_to_the_socket_is_told_so(client: httpx.Client) -> None:
    """426, with what to upgrade to."""
    response = client.get("/v2/ws")

    refused(response, 426, "UPGRADE_REQUIRED")
    assert response.headers["upgrade"] == "websocket"


def make_key(client: httpx.Client, **wanted: Any) -> dict[str, Any]:
    key: dict[str, Any] = client.post("/v2/keys", json={"name": "test", **wanted}).json()
    return key


def test_scopes_count_on_a_socket(server: Server, client: httpx.Client, stream: str) -> None:
    """A key that only reads publishes nothing; one that only writes subscribes to nothing."""
    send(client, stream, EVENT)
    reads, writes = (make_key(client, scopes=[scope])["key"] for scope in ("events:read", "events:write"))
    with talking(server, reads) as talk:
        assert talk.ask(op="publish", stream_id=stream, events=[EVENT])["error"]["code"] == "PERMISSION_DENIED"
        assert talk.ask(op="subscribe", stream_id=stream)["op"] == "subscribed"
    with talking(server, writes) as talk:
        assert talk.ask(op="subscribe", stream_id=stream)["error"]["code"] == "PERMISSION_DENIED"
        assert talk.ask(op="publish", stream_id=stream, events=[EVENT])["op"] == "ack"


def test_publishes_count_as_requests(server: Server, client: httpx.Client, stream: str) -> None:
    """Past the key's limit they are refused, and the socket stays."""

    def publish() -> list[dict[str, Any]]:
        with talking(server, make_key(client, tier="standard")["key"]) as talk:  # which is one of the thousand
            for number in range(1_000):
                talk.say(op="publish", ref=number, stream_id=stream, events=[EVENT])
            answers = [talk.hear() for _ in range(1_000)]
            assert talk.ask(op="ping")["op"] == "pong"
            return answers

    answers = in_one_window(3_600, publish)
    assert sorted(answer["op"] for answer in answers).count("ack") == 999
    [refusal] = [answer for answer in answers if answer["op"] == "error"]
    assert (refusal["ref"], refusal["error"]["code"]) == (999, "RATE_LIMITED")
    assert refusal["error"]["details"]["retry_after_s"] > 0


def test_a_revoked_key_ends_its_sockets_and_tails(server: Server, client: httpx.Client, stream: str) -> None:
    """Within a second or two, and each learns why."""
    send(client, stream, EVENT)
    key = make_key(client)
    with talking(server, key["key"]) as talk, server.client(key["key"]) as reader, tailing(reader, stream) as tail:
        talk.ask(op="subscribe", ref=1, stream_id=stream)
        next(tail.lines)
        client.delete(f"/v2/keys/{key['id']}")

        frame = talk.hear()
        assert (frame["op"], frame["error"]["code"]) == ("error", "UNAUTHENTICATED")
        with pytest.raises(ConnectionClosed) as closed:
            talk.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        assert tail.next()[1:] == ("error", {"error": frame["error"]})
        assert list(tail.lines) == []


def test_an_expired_key_ends_its_sockets_and_tails(server: Server, client: httpx.Client, stream: str) -> None:
    """A connection does not outlive the credential that opened it."""
    send(client, stream, EVENT)
    expires = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()  # time enough to open both
    key = make_key(client, expires_at=expires)["key"]
    with talking(server, key) as talk, server.client(key) as reader, tailing(reader, stream) as tail:
        next(tail.lines)
        assert talk.hear()["error"]["code"] == "UNAUTHENTICATED"
        assert tail.next()[1] == "error"


def test_a_dropped_stream_ends_its_subscription_alone(client: httpx.Client, talk: Talk, stream: str) -> None:
    """The socket goes on with the others."""
    other = f"{stream}-other"
    for name in (stream, other):
        send(client, name, EVENT)
        talk.ask(op="subscribe", ref=name, stream_id=name)
    client.delete(f"/v2/streams/{stream}", params={"confirm": stream})

    frame = talk.hear()
    assert (frame["op"], frame["ref"], frame["error"]["code"]) == ("error", stream, "INVALID_STREAM_ID")
    send(client, other, EVENT)
    assert len(talk.events(1)) == 1


def test_a_stream_of_the_same_name_is_another(client: httpx.Client, talk: Talk, stream: str) -> None:
    """Dropped and made anew at once, it still ends what followed the old one."""
    send(client, stream, EVENT)
    talk.ask(op="subscribe", ref=1, stream_id=stream)
    client.delete(f"/v2/streams/{stream}", params={"confirm": stream})
    send(client, stream, EVENT)

    assert talk.hear()["error"]["code"] == "INVALID_STREAM_ID"


@pytest.mark.parametrize("path", ["/v2/streams/{}/events", "/v2/export/events?stream_id={}"])
def test_head_tells_what_get_would(client: httpx.Client, stream: str, path: str) -> None:
    """And sends nothing of it."""
    send(client, stream, EVENT)
    response = client.head(path.format(stream), headers={"Accept": "text/event-stream"})

    assert (response.status_code, response.content) == (200, b"")
    assert client.get("/health/live").status_code == 200


def test_a_client_that_reads_no_acks_is_not_read_either(server: Server, client: httpx.Client, stream: str) -> None:
    """What it publishes waits at its own end, and is stored when it reads again."""
    with talking(server, max_queue=1) as talk:
        frame = json.dumps({"op": "publish", "ref": "r" * 20_000, "stream_id": stream, "events": [EVENT]})
        for _ in range(200):
            talk.connection.send(frame)
        acks = [talk.hear() for _ in range(200)]

    assert {ack["op"] for ack in acks} == {"ack"}
    assert len(found(client, stream, limit="1000")) == 200


def test_a_stopping_server_ends_tails_and_sockets_cleanly(tmp_path: Path) -> None:
    """The tail's answer is whole, the socket is closed with the code for it, and the process ends soon."""
    with serving(tmp_path / "data", shutdown_timeout_s=5 * PATIENCE_S) as server, server.client() as client:
        send(client, "s", EVENT)
        with talking(server) as talk, tailing(client, "s", **{"from": "earliest"}) as tail:
            talk.ask(op="subscribe", ref=1, stream_id="s")
            tail.next()
            server.process.send_signal(signal.SIGTERM)
            assert not [line for line in tail.lines if line]
            with pytest.raises(ConnectionClosed) as closed:
                talk.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert server.process.wait(PATIENCE_S) == 0
        assert not [line for line in server.log_lines() if line["level"] in ("warning", "error")]


def test_readers_that_leave_are_forgotten(server: Server, client: httpx.Client, stream: str) -> None:
    """Connections that are cut leave nothing open in the server."""
    send(client, stream, EVENT)
    descriptors = Path(f"/proc/{server.process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    for _ in range(20):
        with tailing(client, stream, **{"from": "earliest"}) as tail:
            tail.next()
        with talking(server) as talk:
            talk.ask(op="subscribe", stream_id=stream)
            talk.connection.socket.close()
    send(client, stream, EVENT)

    wait_until(lambda: len(list(descriptors.iterdir())) <= before + 2)
    wait_until(lambda: "mainstem_live_connections 0.0" in client.get("/metrics").text)
