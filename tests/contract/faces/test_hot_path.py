"""Ingest has a short way and a long way; nobody can tell from an answer which one a request went."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving import API_KEY, Server, found, serving
from waiting import PATIENCE_S, in_one_window, wait_until

TIME = "2024-03-15T10:30:00Z"
ONE, MANY = "/v2/ingest/events", "/v2/ingest/batch"
LONG = "X-Goes: the long way"
"""A header that means nothing, and so is left to the long way."""


class Connection:
    """One kept-alive connection, byte by byte."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = self.socket.makefile("rb")

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._received.close()
        self.socket.close()

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def answer(self) -> "Answer":
        status = self._received.readline()
        assert status, "the connection was closed"
        headers: list[tuple[str, str]] = []
        while (line := self._received.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name.lower(), value.strip()))
        size = int(dict(headers).get("content-length", "0"))
        return Answer(status.decode().strip(), dict(headers), self._received.read(size))

    def ask(self, content: bytes) -> "Answer":
        self.send(content)
        return self.answer()

    def is_closed(self) -> bool:
        return self._received.read(1) == b""


class Answer:
    def __init__(self, status_line: str, headers: dict[str, str], body: bytes) -> None:
        self.status_line = status_line
        self.status = int(status_line.split()[1])
        self.headers = headers
        self.body: Any = json.loads(body) if body else None

    def same(self) -> tuple[object, ...]:
        """What must not differ between two answers to the same request."""
        ids = {"date", "x-request-id", "content-length"}
        return self.status_line, {k: v for k, v in self.headers.items() if k not in ids}, shape(self.body)


def shape(value: Any) -> Any:
    """An answer's body, without ids and times."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"evt_[0-9]+", "evt_", value)
    return "a time" if isinstance(value, float) else value


def request(
    path: str, body: object, *headers: str, key: str | None = API_KEY, content_type: str = "application/json"
) -> bytes:
    """A request as most clients write it."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "User-Agent: test", "Accept: */*"]
    lines += [f"X-API-Key: {key}"] if key else []
    lines += [f"Content-Type: {content_type}", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


@pytest.fixture
def connection(server: Server, stream: str) -> Iterator[Connection]:
    """A connection on which the key and the stream are known already, so that the short way is open."""
    with Connection(server.port) as opened:
        assert opened.ask(request(ONE, event(stream))).status == 200
        yield opened


def event(stream: str, number: int = 0, **more: object) -> dict[str, object]:
    return {"stream_id": stream, "event_type": "click", "timestamp": TIME, "data": {"n": number}, **more}


def batch(stream: str, *events: dict[str, object]) -> dict[str, object]:
    return {"stream_id": stream, "events": [{**item, "stream_id": stream} for item in events]}


def numbers(client: httpx.Client, stream: str) -> list[int]:
    return [item["data"]["n"] for item in found(client, stream, limit="1000")]


# The same answers

REQUESTS: dict[str, tuple[str, object]] = {
    "an event": (ONE, event("$")),
    "an event with everything": (ONE, event("$", 1, metadata={"a": None}, event_id="x")),
    "the same again": (ONE, event("$", 1, event_id="first")),
    "an event without a time": (ONE, {"stream_id": "$", "event_type": "click"}),
    "a batch": (MANY, batch("$", event("$", 1), event("$", 2))),
    "a batch with repeats": (MANY, batch("$", event("$", event_id="a"), event("$", event_id="a"))),
    "a batch of repeats": (MANY, batch("$", event("$", event_id="first"))),
    "metadata of null": (ONE, event("$", metadata=None)),
    "no data": (ONE, event("$", data=None)),
    "data of another kind": (ONE, event("$", data=[1])),
    "no type": (ONE, {"stream_id": "$"}),
    "an empty type": (ONE, event("$", event_type="")),
    "a control character": (ONE, event("$", event_type="a\x01")),
    "a long type": (ONE, event("$", event_type="é" * 256)),
    "a bad time": (ONE, event("$", timestamp="yesterday")),
    "a time without a zone": (ONE, event("$", timestamp="2024-03-15T10:30:00")),
    "no stream": (ONE, {"event_type": "click"}),
    "a bad stream": (ONE, event("\x01")),
    "an unknown field": (ONE, event("$", colour="red")),
    "a wrong id": (ONE, event("$", event_id="")),
    "a long id": (ONE, event("$", event_id="i" * 129)),
    "a large event": (ONE, event("$", data={"x": "x" * (1 << 20)})),
    "no json": (ONE, b"{"),
    "nothing": (ONE, b""),
    "no utf-8": (ONE, b'{"stream_id":"$","event_type":"\xff"}'),
    "no utf-8 in data": (ONE, b'{"stream_id":"$","event_type":"a","data":{"a":"\xff"}}'),
    "half a character": (ONE, rb'{"stream_id":"$","event_type":"a","data":{"a":"\ud800"}}'),
    "a wrong escape": (ONE, rb'{"stream_id":"$","event_type":"a","data":{"a":"\q"}}'),
    "a wrong number": (ONE, b'{"stream_id":"$","event_type":"a","data":{"a":01}}'),
    "a line break in a string": (ONE, b'{"stream_id":"$","event_type":"a","data":{"a":"\n"}}'),
    "too deep": (ONE, b'{"stream_id":"$","event_type":"a","data":{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}}"),
    "an empty batch": (MANY, batch("$")),
    "a batch with one wrong": (MANY, batch("$", event("$"), event("$", event_type=""))),
    "a batch with many wrong": (MANY, batch("$", *[event("$", timestamp="?")] * 120)),
    "a batch of no list": (MANY, {"stream_id": "$", "events": 5}),
    "too many": (MANY, batch("$", *[event("$")] * 10_001)),
    "an array": (MANY, b"[]"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_both_ways_answer_the_same(connection: Connection, stream: str, name: str) -> None:
    """Status, headers and body, whatever is right or wrong with the request; twice, for what is remembered."""
    path, body = REQUESTS[name]
    connection.ask(request(ONE, event(stream, event_id="first")))
    content = (body if isinstance(body, bytes) else json.dumps(body).encode()).replace(b"$", stream.encode())
    first_short, first_long = request(path, content), request(path, content, LONG)
    if b"event_id" in content:  # the first one to come would be the only new one
        connection.ask(first_long)

    answers = [connection.ask(asked).same() for asked in (first_short, first_long, first_short)]

    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("headers", [(), (LONG,)])
@pytest.mark.parametrize(
    ("key", "status"), [(None, 401), ("ms_unknown", 401), ("nonsense", 401), (API_KEY + "x", 401), (API_KEY, 200)]
)
def test_a_wrong_key_is_refused_on_both_ways(
    connection: Connection, stream: str, key: str | None, status: int, headers: tuple[str, ...]
) -> None:
    """On a connection on which the right key was used a moment ago."""
    assert connection.ask(request(ONE, event(stream), *headers, key=key)).status == status


@pytest.mark.parametrize("given", ["X-API-Key: {}", "Authorization: Bearer {}", "authorization: Bearer {}"])
def test_a_key_may_be_shown_either_way(connection: Connection, stream: str, given: str) -> None:
    """And the two ways of showing it give the same answers."""
    shown = given.format(API_KEY)
    short, long = (connection.ask(request(ONE, event(stream), shown, *more, key=None)) for more in [(), (LONG,)])

    assert short.same() == long.same()
    assert short.status == 200


def test_what_a_key_may_not_do_is_refused_on_both_ways(client: httpx.Client, server: Server, stream: str) -> None:
    """Scopes and streams of a key count on the short way as well."""
    fields = {"name": "narrow", "scopes": ["events:read"], "tier": "unlimited"}
    reader = client.post("/v2/keys", json=fields).json()["key"]
    fields = {"name": "narrow", "scopes": ["events:write"], "tier": "unlimited", "streams": [stream]}
    writer = client.post("/v2/keys", json=fields).json()["key"]
    client.post(ONE, json=event(stream))
    with Connection(server.port) as connection:
        for key, name, status in [(reader, stream, 403), (writer, stream, 200), (writer, "another", 404)]:
            answers = [connection.ask(request(ONE, event(name), *more, key=key)) for more in [(), (LONG,), ()]]
            assert [answer.status for answer in answers] == [status] * 3
            assert len({repr(answer.same()) for answer in answers}) == 1


@pytest.mark.parametrize("path", [ONE, MANY])
def test_a_revoked_key_is_refused_at_once(client: httpx.Client, server: Server, stream: str, path: str) -> None:
    """On the next request of a connection that used it a moment ago."""
    made = client.post("/v2/keys", json={"name": "short-lived", "tier": "unlimited"}).json()
    asked = request(path, event(stream) if path == ONE else batch(stream, event(stream)), key=made["key"])
    with Connection(server.port) as connection:
        assert [connection.ask(asked).status for _ in range(3)] == [200] * 3
        assert client.delete(f"/v2/keys/{made['id']}").status_code == 204

        assert connection.ask(asked).status == 401
    assert len(numbers(client, stream)) == 3


def test_a_deleted_stream_takes_nothing_more(client: httpx.Client, connection: Connection, stream: str) -> None:
    """What the short way remembers of a stream ends with it: the next event makes a new one."""
    for number in range(3):
        connection.ask(request(ONE, event(stream, number)))
    assert client.delete(f"/v2/streams/{stream}", params={"confirm": stream}).status_code == 204

    assert connection.ask(request(ONE, event(stream, 9))).status == 200
    assert numbers(client, stream) == [9]


def test_a_key_with_a_tier_is_counted_on_both_ways(client: httpx.Client, server: Server, stream: str) -> None:
    """Its answers have the RateLimit headers, and each request costs one."""

    def ask() -> list[int]:
        key = client.post("/v2/keys", json={"name": "counted", "tier": "standard"}).json()["key"]
        with Connection(server.port) as connection:
            answers = [connection.ask(request(ONE, event(stream), *more, key=key)) for more in [(), (LONG,), (), ()]]
        return [int(answer.headers["x-ratelimit-remaining"]) for answer in answers]

    left = in_one_window(3_600, ask)
    assert left == [left[0] - place for place in range(4)]


def test_a_request_id_is_echoed_on_both_ways(connection: Connection, stream: str) -> None:
    """And without one each request gets its own."""
    given = [connection.ask(request(ONE, event(stream), "X-Request-Id: abc-1", *more)) for more in [(), (LONG,)]]
    own = [connection.ask(request(ONE, event(stream), *more)) for more in [(), (LONG,), ()]]

    assert {answer.headers["x-request-id"] for answer in given} == {"abc-1"}
    assert len({answer.headers["x-request-id"] for answer in own}) == 3


@pytest.mark.parametrize(
    "headers",
    [
        ("Accept: application/problem+json",),
        ("Idempotency-Key: k1",),
        ("Content-Encoding: gzip",),
        ("Expect: 100-continue",),
        ("Content-Type: text/plain",),
        ("X-API-Key: ms_another",),
    ],
)
def test_a_header_that_means_something_is_never_missed(
    connection: Connection, stream: str, headers: tuple[str]
) -> None:
    """A second one of a kind, too: with a meaningless header beside it the answer is the same."""
    answers = []
    for more in [(), (LONG,)]:
        answer = connection.ask(request(ONE, event(stream), *headers, *more))
        while answer.status == 100:
            answer = connection.answer()
        answers.append(answer)
        if answer.headers.get("connection") == "close":
            return

    assert answers[0].status == answers[1].status


# However the bytes arrive


def test_a_request_may_be_split_at_every_byte(client: httpx.Client, connection: Connection, stream: str) -> None:
    """In two pieces, wherever the border lies."""
    asked = request(ONE, event(stream, 1))
    for border in range(1, len(asked)):
        connection.send(asked[:border])
        time.sleep(0.0005)
        assert connection.ask(asked[border:]).status == 200

    assert numbers(client, stream) == [0] + [1] * (len(asked) - 1)


def test_a_request_may_come_byte_by_byte(client: httpx.Client, connection: Connection, stream: str) -> None:
    """As from a very slow sender."""
    asked = request(MANY, batch(stream, event(stream, 1), event(stream, 2)))
    for byte in asked:
        connection.send(bytes([byte]))

    assert connection.answer().body["accepted"] == 2
    assert numbers(client, stream) == [0, 1, 2]


@pytest.mark.parametrize("size", [1_000, 65_536, 100_001])
def test_a_large_body_may_come_in_pieces(client: httpx.Client, connection: Connection, stream: str, size: int) -> None:
    """Together with the next request in its last piece."""
    events = [event(stream, number, metadata={"filling": "x" * 200}) for number in range(1, 900)]
    content = request(MANY, batch(stream, *events)) + request(ONE, event(stream, 900))
    for start in range(0, len(content), size):
        connection.send(content[start : start + size])
        time.sleep(0.001)

    assert connection.answer().body["accepted"] == 899
    assert connection.answer().status == 200
    assert numbers(client, stream) == list(range(901))


@pytest.mark.parametrize("long_every", [0, 1, 7])
def test_a_thousand_requests_ahead_are_answered_in_order(
    client: httpx.Client, connection: Connection, stream: str, long_every: int
) -> None:
    """Also when some of them go the long way, and are more than the server will hold."""
    asked = []
    for number in range(1, 1_000):
        path, body = (ONE, event(stream, number)) if number % 3 else (MANY, batch(stream, event(stream, number)))
        headers = [f"X-Request-Id: number-{number}"]
        asked.append(request(path, body, *headers, *([LONG] if long_every and number % long_every == 0 else [])))
    sending = threading.Thread(target=connection.send, args=(b"".join(asked),))
    sending.start()
    answers = [connection.answer() for _ in asked]
    sending.join()

    assert [answer.headers["x-request-id"] for answer in answers] == [f"number-{n}" for n in range(1, 1_000)]
    assert {answer.status for answer in answers} == {200}
    assert numbers(client, stream) == list(range(1_000))


def test_more_may_be_sent_ahead_than_is_held(connection: Connection, stream: str) -> None:
    """A megabyte in front of the first answer: reading pauses and goes on, whichever way the requests go."""
    small = request(ONE, event(stream, 1, metadata={"filling": "x" * 5_000}))
    long = request(ONE, event(stream, 1, metadata={"filling": "x" * 5_000}), LONG)
    sending = threading.Thread(target=connection.send, args=((small * 60 + long) * 4,))
    sending.start()

    assert {connection.answer().status for _ in range(244)} == {200}
    sending.join()


def test_a_refused_request_does_not_stop_those_behind_it(connection: Connection, stream: str) -> None:
    """Right, wrong, right, sent at once: three answers in that order."""
    good, bad = request(ONE, event(stream)), request(ONE, event(stream, timestamp="?"))

    connection.send(good + bad + good + request(ONE, event(stream), key="ms_wrong") + good)

    assert [connection.answer().status for _ in range(5)] == [200, 400, 200, 401, 200]


# The end of a connection


@pytest.mark.parametrize("more", [(), (LONG,)])
def test_connection_close_is_obeyed(connection: Connection, stream: str, more: tuple[str, ...]) -> None:
    """After the answer, not before."""
    answer = connection.ask(request(ONE, event(stream), "Connection: close", *more))

    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert connection.is_closed()


def test_a_client_that_goes_away_harms_nobody(server: Server, client: httpx.Client, stream: str) -> None:
    """In the head, in the body, and before its answer."""
    asked = request(ONE, event(stream))
    for size in (10, len(asked) - 5, len(asked)):
        with Connection(server.port) as connection:
            connection.send(asked)
            assert connection.answer().status == 200
            connection.send(asked[:size])

    assert client.get("/health").status_code == 200
    assert len(numbers(client, stream)) in (3, 4)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with small limits and little patience; headers get so much that they come in time."""
    limits = {"body_bytes_max": 4_096, "event_bytes_max": 2_048, "header_timeout_s": 2, "body_timeout_s": 0.3}
    with serving(tmp_path_factory.mktemp("impatient") / "data", **limits) as running:
        yield running


@pytest.mark.parametrize("more", [(), (LONG,)])
def test_a_body_over_the_limit_is_refused(impatient: Server, stream: str, more: tuple[str, ...]) -> None:
    """At its announcement, on a connection on which smaller ones were taken."""
    with Connection(impatient.port) as connection:
        assert connection.ask(request(ONE, event(stream))).status == 200
        large = request(ONE, event(stream, metadata={"filling": "x" * 4_096}), *more)

        answer = connection.ask(large[: len(large) // 2])

        assert (answer.status, answer.body["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("more", [(), (LONG,)])
def test_a_body_that_does_not_come_is_given_up(impatient: Server, stream: str, more: tuple[str, ...]) -> None:
    """With an answer or without one, the connection is free again soon, and nothing of it is stored."""
    with Connection(impatient.port) as connection:
        assert connection.ask(request(ONE, event(stream))).status == 200
        connection.send(request(ONE, event(stream), *more)[:-5])
        received = b"".join(iter(lambda: connection.socket.recv(4_096), b""))

        assert not received or b" 408 " in received.splitlines()[0]
    with impatient.client() as client:
        assert len(numbers(client, stream)) == 1


def test_an_idle_connection_is_closed(tmp_path: Path, stream: str) -> None:
    """After the keep-alive time, counted from the last answer on either way."""
    with serving(tmp_path / "data", keep_alive_s=2) as server, Connection(server.port) as connection:
        for more in [(), (LONG,), (), ()]:
            assert connection.ask(request(ONE, event(stream), *more)).status == 200
            time.sleep(0.7)
        assert connection.is_closed()


@pytest.mark.parametrize("more", [(), (LONG,)])
def test_a_request_under_way_is_answered_before_the_end(tmp_path: Path, stream: str, more: tuple[str, ...]) -> None:
    """SIGTERM comes in the middle of a body: it is taken, stored and answered, and the server ends."""
    with serving(tmp_path / "data") as server, Connection(server.port) as connection:
        assert connection.ask(request(ONE, event(stream))).status == 200
        asked = request(ONE, event(stream, 1), *more)
        connection.send(asked[:-5])
        with server.client() as other:
            other.get("/health")  # its answer says that what came before was read
        server.process.terminate()
        wait_until(lambda: server.has_logged("stopping"))
        time.sleep(0.3)  # while it closes the connections that wait for nothing
        answer = connection.ask(asked[-5:])

        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert server.process.wait(PATIENCE_S) == 0
    with serving(tmp_path / "data") as server, server.client() as client:
        assert numbers(client, stream) == [0, 1]
