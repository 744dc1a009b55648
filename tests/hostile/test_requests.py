"""Requests that are meant to hurt: each gets the right refusal, leaves nothing behind, and slows nobody down."""

import gzip
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from statistics import median
from typing import Any

import httpx
import pytest
import zstandard

from serving import API_KEY, Server, found, refused, serving
from waiting import PATIENCE_S

LIMIT = 1 << 20
EVENT_LIMIT = 64 << 10
TARGET = "target"
"""The stream that every attack is for, and that must never come to be."""

JSON = "application/json"
NDJSON = "application/x-ndjson"
CLOUDEVENT = "application/cloudevents+json"
CLOUDEVENTS = "application/cloudevents-batch+json"
PATHS = ("/v2/ingest/events", "/v2/ingest/batch")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this file's own, with smaller limits and less patience than usual."""
    limits = {"body_bytes_max": LIMIT, "event_bytes_max": EVENT_LIMIT, "batch_events_max": 100}
    patience = {"header_timeout_s": 1, "body_timeout_s": 1}
    with serving(tmp_path_factory.mktemp("hostile") / "data", **limits, **patience) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_happened(server: Server, client: httpx.Client) -> Iterator[None]:
    """After each test: nothing is stored for the target, the process lives, nothing in it went wrong that nobody
    foresaw, and an honest client is served."""
    pid = server.process.pid
    yield
    assert server.process.poll() is None
    assert server.process.pid == pid
    refused(client.get(f"/v2/streams/{TARGET}"), 404, "INVALID_STREAM_ID")
    assert client.post(PATHS[0], json={"stream_id": "honest", "event_type": "x"}).status_code == 200
    assert [line for line in server.log_lines() if line.get("level") in ("error", "critical")] == []


def speak(server: Server, *pieces: bytes, silence_s: float = PATIENCE_S) -> bytes:
    """Send raw bytes and give all that comes back until the server closes, or after its first words says no more."""
    answer = b""
    with server.connection() as connection:
        with suppress(OSError):  # it may well close before all is sent
            for piece in pieces:
                connection.sendall(piece)
        with suppress(OSError):
            while chunk := connection.recv(65_536):
                answer += chunk
                connection.settimeout(silence_s)
    return answer


def request(*headers: str, path: str = PATHS[0], method: str = "POST", body: bytes = b"", length: bool = True) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"X-API-Key: {API_KEY}", f"Content-Type: {JSON}", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def statuses(answer: bytes) -> list[int]:
    """The status of each answer; none of our bodies holds a status line."""
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def attack(client: httpx.Client, body: bytes, media_type: str, path: str = PATHS[1], **headers: str) -> httpx.Response:
    return client.post(
        path, content=body, params={"stream_id": TARGET}, headers={"Content-Type": media_type, **headers}
    )


def single(**members: Any) -> bytes:
    return json.dumps({"stream_id": TARGET, "event_type": "x", **members}).encode()


# Text that is none

BROKEN_TEXT = {
    "a stray byte": b"\xff",
    "a cut sequence": b"\xe2\x82",
    "an overlong slash": b"\xc0\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "past Unicode": b"\xf4\x90\x80\x80",
}
PLACES: dict[str, tuple[str, str, bytes]] = {
    "data": (JSON, PATHS[0], b'{"stream_id":"target","event_type":"x","data":{"a":"%b"}}'),
    "metadata": (JSON, PATHS[0], b'{"stream_id":"target","event_type":"x","metadata":{"%b":1}}'),
    "event_type": (JSON, PATHS[0], b'{"stream_id":"target","event_type":"%b"}'),
    "an unknown member": (JSON, PATHS[0], b'{"stream_id":"target","event_type":"x","%b":1}'),
    "a batch": (JSON, PATHS[1], b'{"stream_id":"target","events":[{"event_type":"x","data":{"a":"%b"}}]}'),
    "a line": (NDJSON, PATHS[1], b'{"event_type":"x","data":{"a":"%b"}}'),
    "a CloudEvent": (CLOUDEVENT, PATHS[0], b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":"%b"}'),
    "CloudEvents": (CLOUDEVENTS, PATHS[1], b'[{"specversion":"1.0","id":"1","source":"/s","type":"t","who":"%b"}]'),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("broken", BROKEN_TEXT)
def test_invalid_utf8_in_a_body_is_refused(client: httpx.Client, place: str, broken: str) -> None:
    """Wherever it stands, and with `partial`, too."""
    media_type, path, body = PLACES[place]
    refused(attack(client, body % BROKEN_TEXT[broken], media_type, path), 400, "INVALID_JSON")


@pytest.mark.parametrize("url", ["/v2/streams/%ff", "/v2/query/events?stream_id=%ff", f"{PATHS[1]}?stream_id=%ff"])
def test_invalid_utf8_in_a_url_is_refused(client: httpx.Client, url: str) -> None:
    """After percent-decoding; or it names no stream."""
    line: dict[str, Any] = {"content": b'{"event_type":"x"}', "headers": {"Content-Type": NDJSON}}
    answer = client.post(url, **line) if "ingest" in url else client.get(url)

    assert answer.status_code in (400, 404)


def test_half_a_surrogate_pair_is_no_name(client: httpx.Client) -> None:
    """JSON can write down what UTF-8 cannot: not in names, and in data it does no harm to those who read."""
    for body in (b'{"stream_id":"\\ud800","event_type":"x"}', b'{"stream_id":"target","event_type":"\\ud800"}'):
        assert attack(client, body, JSON, PATHS[0]).status_code == 400
    body = b'{"stream_id":"honest","event_type":"x","data":{"half":"\\ud800","whole":1}}'
    if client.post(PATHS[0], content=body, headers={"Content-Type": JSON}).status_code == 200:
        for wanted in ("data.half=x", "data.half~x", "data.whole=1"):
            parameters = {"stream_id": "honest", "filter": wanted}
            assert client.get("/v2/query/events", params=parameters).status_code in (200, 400)


@pytest.mark.parametrize("name", ["X-Request-Id", "Idempotency-Key", "ce-id", "Accept", "Authorization", "Cookie"])
def test_odd_bytes_in_a_header_do_no_harm(server: Server, name: str) -> None:
    """No answer repeats them, and none is a server error."""
    for value in ("\xff\xfe", "\t", "a" * 5_000, "\x7f", '"' * 100, "%ff%00"):
        [status] = statuses(speak(server, request(f"{name}: {value}", "Connection: close", body=b"{}")))
        assert 400 <= status < 500


# Depth

DEEP = 200_000


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("place", ["data", "metadata", "a batch", "a line", "a CloudEvent", "CloudEvents"])
def test_deep_nesting_is_refused(server: Server, client: httpx.Client, place: str, opening: bytes) -> None:
    """As JSON that cannot be read, closed or not, and quickly."""
    media_type, path, body = PLACES[place]
    closing = b"]" if opening == b"[" else b"}"
    depth = DEEP // len(opening)
    before_s = processor_s(server)
    for nested in (opening * depth, opening * (depth // 2) + b"1" + closing * (depth // 2)):
        members = body.replace(b'"%b"', nested).replace(b'{"a":%b}' % nested, nested).replace(b"%b", b"x")
        assert attack(client, members, media_type, path).status_code == 400

    assert processor_s(server) - before_s < 2


def test_a_deep_schema_or_query_is_refused(client: httpx.Client) -> None:
    """Other routes read JSON, too."""
    deep = b'{"not":' * 20_000 + b"{}" + b"}" * 20_000
    headers = {"Content-Type": JSON}
    for path, body in (
        ("/v2/streams", b'{"stream_id":"target","schema":%b}' % deep),
        ("/v2/query/aggregate", b'{"stream_id":"honest","aggregations":%b}' % deep),
        ("/v2/keys", b'{"name":%b}' % deep),
    ):
        assert client.post(path, content=body, headers=headers).status_code == 400
    parameters = {"stream_id": "honest", "filter": "data" + ".a" * 3_000 + "=1"}
    assert client.get("/v2/query/events", params=parameters).status_code in (200, 400)


# Bombs


def gzip_bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)), packer.flush()])


def zstd_bomb(size: int) -> bytes:
    packer = zstandard.ZstdCompressor(level=3).compressobj()
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)), packer.flush()])


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "gzip": ("gzip", lambda: gzip_bomb(512 << 20)),
    "zstd": ("zstd", lambda: zstd_bomb(1 << 30)),
    "gzip in gzip": ("gzip", lambda: gzip.compress(gzip_bomb(256 << 20)) + gzip_bomb(64 << 20)),
    "many members": ("gzip", lambda: gzip.compress(b" ") * 40_000),
    "many frames": ("zstd", lambda: zstandard.compress(b"") * 80_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_decompression_bomb_is_put_out(server: Server, client: httpx.Client, name: str) -> None:
    """No more is unpacked than the limit, so neither memory nor time runs away."""
    encoding, make = BOMBS[name]
    bomb = make()[:LIMIT]
    before, before_s = resident_bytes(server), processor_s(server)
    answers = [attack(client, bomb, JSON, **{"Content-Encoding": encoding}) for _ in range(3)]

    assert {answer.status_code for answer in answers} <= {400, 413}
    assert processor_s(server) - before_s < 3
    assert resident_bytes(server) - before < 96 << 20


def resident_bytes(server: Server) -> int:
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS"))


def processor_s(server: Server) -> float:
    """How long the server has been computing: unlike the time of a clock it does not depend on what else runs here."""
    with open(f"/proc/{server.process.pid}/stat") as status:
        user, system = status.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


# Slowness


def test_slow_clients_do_not_hold_others_up(server: Server, client: httpx.Client) -> None:
    """A hundred connections that send half a request each, while an honest one is served as quickly as before."""
    quiet = typical_s(client)
    heads = [b"POST /v2", request(body=b"{", length=False)[:-3], request("Content-Length: 90", length=False) + b"{"]
    slow = [server.connection() for _ in range(100)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(heads[number % 3])
        assert typical_s(client) < max(10 * quiet, 0.5)
        for number, connection in enumerate(slow[:6]):
            assert statuses(connection.recv(65_536)) == [408], number
    finally:
        for connection in slow:
            connection.close()


def typical_s(client: httpx.Client) -> float:
    """How long an honest request takes."""
    samples = []
    for _ in range(30):
        began = time.perf_counter()
        assert client.post(PATHS[0], json={"stream_id": "honest", "event_type": "x"}).status_code == 200
        samples.append(time.perf_counter() - began)
    return median(samples)


def test_half_a_request_stores_nothing(server: Server) -> None:
    """A client that goes away in the middle has sent nothing."""
    body = single()
    whole = request(body=body)
    for cut in (len(whole) - 1, len(whole) - len(body), len(whole) // 2, 1):
        with server.connection() as connection:
            connection.sendall(whole[:cut])


def test_a_client_that_reads_nothing_costs_nothing(server: Server, client: httpx.Client) -> None:
    """Its answers wait in bounded room, and others are served."""
    with server.connection() as connection:
        connection.settimeout(0.5)
        before = resident_bytes(server)
        with suppress(TimeoutError):
            for _ in range(20_000):
                connection.sendall(request(path="/v2/openapi.json", method="GET"))
        assert typical_s(client) < 1
        assert resident_bytes(server) - before < 96 << 20


# Many at once


def test_pipelined_requests_are_answered_in_order(server: Server, client: httpx.Client) -> None:
    """Three hundred in one breath, on the short way and the long one in turns, with wrong ones between."""
    turns: list[tuple[bytes, int]] = [
        (request(body=b'{"stream_id":"honest","event_type":"x"}'), 200),
        (request("X-Other: 1", body=b'{"stream_id":"honest","event_type":"x"}'), 200),
        (request(body=b'{"stream_id":"honest","event_type":""}'), 400),
        (request(method="GET", path="/nothing"), 404),
        (request(body=b"{"), 400),
    ]
    last = request("Connection: close", method="GET", path="/nothing")
    answer = speak(server, b"".join(turns[number % 5][0] for number in range(300)) + last)

    assert statuses(answer) == [turns[number % 5][1] for number in range(300)] + [404]


def test_a_pipelined_attack_ends_what_came_before_well(server: Server) -> None:
    """The honest request is answered, on whichever way; after the nonsense nothing is read any more."""
    body = b'{"stream_id":"honest","event_type":"x"}'
    for good, wanted in ((request(body=body), [200, 400]), (request("X-Other: 1", body=body), [200])):
        answer = speak(server, good + b"NONSENSE\x00\r\n\r\n" + request(body=single()))
        assert statuses(answer) == wanted


CHUNKED = "Transfer-Encoding: chunked"
SMUGGLED = request("Connection: close", body=single())
OF_ITS_OWN = ("a folded header", "bare line feeds", "a space before the colon")
"""Where the second request may be read as one: its answer ends the connection."""
AMBIGUOUS: dict[str, bytes] = {
    "two lengths": request("Content-Length: 2", f"Content-Length: {len(SMUGGLED) + 2}", length=False)
    + b"{}"
    + SMUGGLED,
    "length and chunks": request("Content-Length: 5", "Transfer-Encoding: chunked", length=False)
    + b"0\r\n\r\n"
    + SMUGGLED,
    "a negative length": request("Content-Length: -1", length=False) + SMUGGLED,
    "a length with a sign": request("Content-Length: +2", length=False) + b"{}" + SMUGGLED,
    "a length in hex": request("Content-Length: 0x2", length=False) + b"{}" + SMUGGLED,
    "an endless length": request("Content-Length: 99999999999999999999999", length=False) + SMUGGLED,
    "unknown chunking": request("Transfer-Encoding: xchunked", length=False) + b"0\r\n\r\n" + SMUGGLED,
    "chunks twice": request("Transfer-Encoding: chunked, chunked", length=False) + b"0\r\n\r\n" + SMUGGLED,
    "a bad chunk size": request(CHUNKED, length=False) + b"zz\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "an endless chunk": request(CHUNKED, length=False) + b"FFFFFFFFFFFFFFFFF\r\n" + SMUGGLED,
    "a space before the colon": request("Content-Length : 2", length=False) + b"{}" + SMUGGLED,
    "a folded header": request("X-A: 1\r\n Content-Length: 2", length=False) + b"{}" + SMUGGLED,
    "a NUL in a header": request("X-A: \x00", body=b"{}") + SMUGGLED,
    "bare line feeds": request(body=b"{}").replace(b"\r\n", b"\n") + SMUGGLED,
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_request_hides_no_other(server: Server, client: httpx.Client, name: str) -> None:
    """Where a proxy and we could read different requests, the first is refused and the second not read.

    Where the reading is clear, the second is a request of its own like any other.
    """
    answer = statuses(speak(server, AMBIGUOUS[name], silence_s=PATIENCE_S if name in OF_ITS_OWN else 0.3))

    assert answer
    assert answer[0] in (400, 413, 415)
    if answer[1:]:
        assert answer[1:] == [200]
        assert name in OF_ITS_OWN
        client.delete(f"/v2/streams/{TARGET}", params={"confirm": TARGET})


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/3.0",
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"G\x00T / HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"CONNECT example.com:443 HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"SSH-2.0-client",
    ],
)
def test_what_is_no_request_is_refused(server: Server, line: bytes) -> None:
    """TLS, HTTP/2, other protocols, nonsense: an answer in the 400s, or the connection ends."""
    answer = statuses(speak(server, line + b"\r\nHost: x\r\n\r\n", silence_s=0.3))

    assert all(400 <= status < 500 for status in answer)


# Floods of headers


@pytest.mark.parametrize(
    "flood",
    [
        [f"X-{number}: 1" for number in range(20_000)],
        ["X-Long: " + "a" * 100_000],
        ["Cookie: " + "a" * 1_000] * 100,
        ["X" * 100_000 + ": 1"],
    ],
    ids=["many", "long", "cookies", "a long name"],
)
def test_a_flood_of_headers_is_cut_off(server: Server, flood: Sequence[str]) -> None:
    """64 KiB are enough for everybody."""
    answer = speak(server, request(*flood, body=single()))

    assert statuses(answer) == [431]


def test_an_endless_path_is_cut_off(server: Server) -> None:
    """It counts as a header does."""
    answer = speak(server, request(path="/" + "a" * 100_000, body=single()))

    assert statuses(answer) in ([431], [414], [400], [])


# One too many


def padded(size: int) -> bytes:
    """A wrong event in a body of exactly that many bytes."""
    body = b'{"stream_id":"target","event_type":""'
    return body + b" " * (size - len(body) - 1) + b"}"


@pytest.mark.parametrize(("size", "status"), [(LIMIT, 400), (LIMIT + 1, 413)])
def test_a_body_may_be_as_long_as_the_limit(client: httpx.Client, size: int, status: int) -> None:
    """To the byte: with its length, in chunks, and as what it unpacks to."""
    body = padded(size)
    pieces = [body[at : at + 50_000] for at in range(0, size, 50_000)]
    answers = [
        attack(client, body, JSON, PATHS[0]),
        client.post(PATHS[0], content=iter(pieces), headers={"Content-Type": JSON}),
        attack(client, gzip.compress(body), JSON, PATHS[0], **{"Content-Encoding": "gzip"}),
        attack(client, zstandard.compress(body), JSON, PATHS[0], **{"Content-Encoding": "zstd"}),
    ]

    assert [answer.status_code for answer in answers] == [status] * 4


@pytest.mark.parametrize("route", PATHS)
@pytest.mark.parametrize(
    ("fits", "over", "status"),
    [
        ({"event_type": "x" * 255}, {"event_type": "x" * 256}, 400),
        ({"event_type": "ü" * 255}, {"event_type": "ü" * 256}, 400),
        ({"event_id": "x" * 128}, {"event_id": "x" * 129}, 400),
        ({"data": {"a": "x" * (EVENT_LIMIT - 8)}}, {"data": {"a": "x" * (EVENT_LIMIT - 7)}}, 413),
        (
            {"data": {"a": "x" * 1_000}, "metadata": {"a": "x" * (EVENT_LIMIT - 1_016)}},
            {"data": {"a": "x" * 1_000}, "metadata": {"a": "x" * (EVENT_LIMIT - 1_015)}},
            413,
        ),
    ],
    ids=["type", "type in two bytes", "id", "data", "data and metadata"],
)
def test_an_event_fits_or_not_by_one(
    client: httpx.Client, route: str, fits: dict[str, Any], over: dict[str, Any], status: int
) -> None:
    """The limit itself is allowed; one more is not, and says so."""

    def send(name: str, event: dict[str, Any]) -> int:
        whole = {"event_type": "x", **event}
        body = {"stream_id": name, **whole} if route == PATHS[0] else {"stream_id": name, "events": [whole]}
        content = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        return client.post(route, content=content, headers={"Content-Type": JSON}).status_code

    assert send("honest", fits) == 200
    assert send(TARGET, over) == status


def test_a_batch_fits_or_not_by_one(client: httpx.Client) -> None:
    """In every form of text."""
    for count, name, status in ((100, "honest", 200), (101, TARGET, 413)):
        events = [{"event_type": "x"}] * count
        clouds = [{"specversion": "1.0", "id": str(n), "source": "/s", "type": "t"} for n in range(count)]
        bodies = [
            (JSON, json.dumps({"stream_id": name, "events": events})),
            (NDJSON, "\n".join(map(json.dumps, events))),
            (CLOUDEVENTS, json.dumps(clouds)),
        ]
        for media_type, body in bodies:
            url = f"{PATHS[1]}?stream_id={name}"
            assert client.post(url, content=body, headers={"Content-Type": media_type}).status_code == status


def test_a_stream_id_fits_or_not_by_one(client: httpx.Client) -> None:
    """255 characters, whatever they are."""
    for name, status in (("ü" * 255, 200), ("ü" * 256, 400)):
        answers = [
            client.post(PATHS[0], json={"stream_id": name, "event_type": "x"}),
            client.post(PATHS[1], json={"stream_id": name, "events": [{"event_type": "x"}]}),
        ]
        assert [answer.status_code for answer in answers] == [status] * 2
    client.delete(f"/v2/streams/{'ü' * 255}", params={"confirm": "ü" * 255})


# In the end


def test_after_all_of_it_the_server_answers_as_before(server: Server, client: httpx.Client) -> None:
    """What was stored can be read, what is sent is stored, no file is left open, and nothing went wrong inside."""
    stored = client.get("/v2/query/events?stream_id=honest&limit=1").json()["total_count"]
    assert client.post(PATHS[0], json={"stream_id": "honest", "event_type": "last"}).status_code == 200
    assert len(found(client, "honest", event_type="last")) == 1
    assert client.get("/v2/query/events?stream_id=honest&limit=1").json()["total_count"] == stored + 1
    assert client.get("/health").json()["status"] == "healthy"
