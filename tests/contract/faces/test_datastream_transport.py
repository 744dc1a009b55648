"""What DataStream promises of every request, whatever the route: encodings, limits, ids, errors."""

import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import httpx
import pytest
import zstandard

from serving import API_KEY, Server, found, refused, send, serving
from waiting import wait_until

JSON = {"Content-Type": "application/json"}
EVENT = {"event_type": "page_view", "timestamp": "2024-03-15T10:30:00Z", "data": {"user_id": "1"}}


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("zstd", zstandard.compress), ("GZIP", gzip.compress), ("identity", bytes)],
)
def test_a_body_may_be_compressed(client: httpx.Client, stream: str, encoding: str, compress: object) -> None:
    """Content-Encoding gzip and zstd are taken, on events as on everything else."""
    assert callable(compress)
    body = compress(json.dumps({"stream_id": stream, **EVENT}).encode())

    response = client.post("/v2/ingest/events", content=body, headers={**JSON, "Content-Encoding": encoding})

    assert response.status_code == 200, response.text
    assert [event["event_type"] for event in found(client, stream)] == ["page_view"]


def test_a_gzip_body_of_several_members_is_one_body(client: httpx.Client, stream: str) -> None:
    """gzip allows members one after the other; what follows the first must not be lost."""
    lines = [json.dumps({"stream_id": stream, **EVENT}).encode() + b"\n" for _ in range(3)]
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}

    response = client.post("/v2/ingest/batch", content=b"".join(map(gzip.compress, lines)), headers=headers)

    assert response.json()["accepted"] == 3


def test_an_unknown_content_encoding_is_refused(client: httpx.Client) -> None:
    """415 names the encodings that work."""
    response = client.post("/v2/ingest/events", content=b"x", headers={**JSON, "Content-Encoding": "br"})

    assert refused(response, 415, "UNSUPPORTED_MEDIA_TYPE")["accepted"] == ["gzip", "zstd"]


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize(
    "body", [b"nonsense", gzip.compress(b"{}" * 99, mtime=0)[:-9], zstandard.compress(b"{}" * 99)[:-3]]
)
def test_a_body_that_is_not_what_it_says_is_refused(client: httpx.Client, encoding: str, body: bytes) -> None:
    """Neither nonsense nor a stream that ends too early is taken for an empty body."""
    response = client.post("/v2/ingest/batch", content=body, headers={**JSON, "Content-Encoding": encoding})

    refused(response, 400, "INVALID_JSON")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with small limits."""
    limits = {"body_bytes_max": 4_096, "event_bytes_max": 1_024, "batch_events_max": 10}
    with serving(tmp_path_factory.mktemp("small") / "data", **limits) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with little patience; headers get so much that they come in time where they are meant to."""
    patience = {"header_timeout_s": 2, "body_timeout_s": 0.4, "keep_alive_s": 600}
    with serving(tmp_path_factory.mktemp("impatient") / "data", **patience) as running:
        yield running


def test_a_body_over_the_limit_is_refused_at_once(small: Server) -> None:
    """A Content-Length over the limit is answered before the body has come."""
    with small.connection() as connection:
        connection.sendall(_head("POST /v2/ingest/batch", "Content-Length: 5000000"))

        assert b" 413 " in connection.recv(65_536)


def test_a_chunked_body_over_the_limit_is_refused_while_it_is_read(small: Server) -> None:
    """Without a Content-Length the bytes are counted as they come: an endless body ends at the limit."""

    def endless() -> Iterator[bytes]:
        yield from islice(iter(lambda: b" " * 1_000, None), 100)

    with small.client() as client:
        response = client.post("/v2/ingest/batch", content=endless(), headers=JSON)

    refused(response, 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_a_body_over_the_limit_after_decompression_is_refused(small: Server, encoding: str, compress: object) -> None:
    """A small body that stands for a large one counts as the large one."""
    assert callable(compress)
    with small.client() as client:
        response = client.post(
            "/v2/ingest/batch", content=compress(b" " * 5_000), headers={**JSON, "Content-Encoding": encoding}
        )

    assert refused(response, 413, "PAYLOAD_TOO_LARGE")["limit_bytes"] == 4_096


def test_an_event_or_batch_over_the_limit_is_refused(small: Server, stream: str) -> None:
    """Events and batches have limits of their own, with the same code."""
    large = {"stream_id": stream, "event_type": "x", "data": {"text": "x" * 1_100}}
    with small.client() as client:
        refused(client.post("/v2/ingest/events", json=large), 413, "PAYLOAD_TOO_LARGE")
        many = {"stream_id": stream, "events": [{"event_type": "x"}] * 11}
        refused(client.post("/v2/ingest/batch", json=many), 413, "PAYLOAD_TOO_LARGE")


def test_a_body_that_stops_coming_is_given_up(impatient: Server) -> None:
    """A client that sends half a body holds a connection for no longer than the setting says."""
    with impatient.connection() as connection:
        connection.sendall(_head("POST /v2/ingest/batch", "Content-Length: 50") + b"{")
        answer = _all_of(connection)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"REQUEST_TIMEOUT" in answer


def test_headers_that_never_end_are_given_up(impatient: Server) -> None:
    """A request line and a header now and then do not hold a connection open."""
    with impatient.connection() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")

        assert _all_of(connection).startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_says_nothing_is_closed(impatient: Server) -> None:
    """Silence from the start is given as long as headers are."""
    with impatient.connection() as connection:
        assert _all_of(connection) == b""


def test_connections_over_the_limit_are_refused(tmp_path: Path) -> None:
    """503 with Retry-After, in the common shape; those that are there go on."""
    with serving(tmp_path / "data", connections_max=2) as server, server.client() as known:
        assert known.get("/health").status_code == 200
        with server.connection(), server.client() as over:
            response = over.get("/v2/streams")
            assert known.get("/health").status_code == 200
        refused(response, 503, "UNAVAILABLE")
        assert response.headers["retry-after"] == "1"
        with server.client() as later:
            wait_until(lambda: later.get("/health").status_code == 200)  # it notices in a moment who has gone


@pytest.mark.parametrize("flood", [b"X-Long: " + b"x" * 80_000, b"X: y\r\n" * 15_000])
def test_a_flood_of_headers_is_refused(small: Server, flood: bytes) -> None:
    """One endless header, or thousands of short ones, are cut off at 64 KiB."""
    with small.connection() as connection:
        with suppress(OSError):  # it may well close before all is sent
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n" + flood)

        assert b" 431 " in connection.recv(65_536)


def test_what_is_no_http_is_refused(server: Server) -> None:
    """Even then the answer is JSON, in the common shape."""
    with server.connection() as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")

        head, _, body = _all_of(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert json.loads(body)["error"]["code"] == "INVALID_REQUEST"


def test_requests_that_are_sent_ahead_are_answered_in_order(server: Server) -> None:
    """Pipelining works, and keeps to the order."""
    request = "GET /v2/nothing-{} HTTP/1.1\r\nHost: x\r\n\r\n"
    with server.connection() as connection:
        connection.sendall("".join(request.format(number) for number in range(3)).encode())
        received = b""
        while received.count(b"/v2/nothing-") < 3:
            received += connection.recv(65_536)

    assert [received.index(b"/v2/nothing-%d" % number) for number in range(3)] == sorted(
        received.index(b"/v2/nothing-%d" % number) for number in range(3)
    )


def test_an_answer_of_a_kibibyte_is_compressed_as_asked(client: httpx.Client, stream: str) -> None:
    """Accept-Encoding is honoured, small answers stay as they are, and caches learn what the answer depends on."""
    send(client, stream, *[EVENT] * 50)
    url = f"/v2/query/events?stream_id={stream}"

    packed = client.get(url, headers={"Accept-Encoding": "gzip"})
    plain = client.get(url, headers={"Accept-Encoding": "identity"})
    small = client.get(url + "&limit=1", headers={"Accept-Encoding": "gzip"})

    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in small.headers
    assert packed.json() == plain.json()
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 4
    assert "accept-encoding" in packed.headers["vary"]


@pytest.mark.parametrize(
    ("accepted", "given"),
    [
        ("gzip;q=0.5, zstd", "zstd"),
        ("zstd;q=0.2, gzip;q=0.9", "gzip"),
        ("gzip;q=0", ""),
        ("*", "zstd"),
        ("*;q=0", ""),
        ("br", ""),
    ],
)
def test_the_clients_ranking_of_encodings_decides(server: Server, accepted: str, given: str) -> None:
    """q-values are obeyed; where they do not decide, zstd goes first."""
    with server.connection() as connection:
        connection.sendall(_head("GET /v2/openapi.json", f"Accept-Encoding: {accepted}"))
        head = connection.recv(65_536).partition(b"\r\n\r\n")[0].decode().lower()

    assert (f"content-encoding: {given}" in head) if given else ("content-encoding" not in head)


def test_a_zstd_answer_is_what_the_plain_one_is(server: Server) -> None:
    """httpx may not know zstd, so the bytes are looked at by hand."""
    with server.connection() as connection:
        connection.sendall(_head("GET /v2/openapi.json", "Accept-Encoding: zstd", "Connection: close"))
        received = _all_of(connection)

    body = zstandard.ZstdDecompressor().decompress(received.partition(b"\r\n\r\n")[2])
    assert json.loads(body)["openapi"] == "3.1.0"


@pytest.mark.parametrize("given", ["mine-1", "01HZX.7/a:b", "x" * 128])
def test_a_request_id_is_echoed(client: httpx.Client, given: str) -> None:
    """So that a client finds its own id in our logs."""
    assert client.get("/health", headers={"X-Request-Id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["x" * 129, "a b", ""])
def test_an_unfit_request_id_is_replaced(client: httpx.Client, given: str) -> None:
    """What is too long or unprintable does not get into logs."""
    echoed = client.get("/health", headers={"X-Request-Id": given}).headers["x-request-id"]

    assert echoed.startswith("req_")


def test_every_answer_has_a_request_id_of_its_own(client: httpx.Client) -> None:
    """Errors too."""
    ids = {client.get(path).headers["x-request-id"] for path in ("/health", "/nothing", "/v2/streams", "/v2/nothing")}

    assert len(ids) == 4


def test_an_unknown_path_is_not_found(client: httpx.Client) -> None:
    """In the face's own shape, inside its paths and outside."""
    for path in ("/v2/nothing", "/nothing", "/v2", "/v2/streams/a/b", "/v2/streams//status"):
        refused(client.get(path), 404, "NOT_FOUND")


def test_a_wrong_method_names_the_right_ones(client: httpx.Client) -> None:
    """405 with Allow."""
    response = client.put("/v2/streams")

    refused(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == "GET, HEAD, POST"


def test_head_is_get_without_the_body(client: httpx.Client) -> None:
    """Same headers, nothing after them."""
    head, get = client.head("/v2/openapi.json"), client.get("/v2/openapi.json")

    assert head.status_code == 200
    assert head.headers["content-length"] == get.headers["content-length"]
    assert head.content == b""


def test_errors_can_be_problem_details(client: httpx.Client, stream: str) -> None:
    """RFC 9457 with the same facts, for those who accept it by name."""
    path = f"/v2/streams/{stream}"
    problem = client.get(path, headers={"Accept": "application/problem+json, application/json;q=0.5"})
    usual = client.get(path, headers={"Accept": "*/*"}).json()["error"]

    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": usual["message"],
        "instance": path,
        "code": usual["code"],
        "details": usual["details"],
    }


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b'{"stream_id":"\xff"}', b'{"stream_id":"x"} x', b'{"stream_id":"x","schema":' + b'{"a":' * 100_000],
    ids=["broken", "empty", "no UTF-8", "more behind", "nested without end"],
)
def test_a_body_that_is_no_json_is_refused(client: httpx.Client, body: bytes) -> None:
    """Told apart from JSON of the wrong kind."""
    refused(client.post("/v2/streams", content=body, headers=JSON), 400, "INVALID_JSON")


def test_a_body_of_another_type_is_refused(client: httpx.Client) -> None:
    """A form is no JSON, and the answer says what is."""
    response = client.post("/v2/streams", data={"stream_id": "x"})

    assert refused(response, 415, "UNSUPPORTED_MEDIA_TYPE")["accepted"] == ["application/json"]


def test_a_content_type_may_have_parameters(client: httpx.Client, stream: str) -> None:
    """`application/json; charset=utf-8` is JSON, in any case."""
    response = client.post(
        "/v2/streams",
        content=json.dumps({"stream_id": stream}),
        headers={"Content-Type": "Application/JSON; charset=utf-8"},
    )

    assert response.status_code == 201


def test_an_unknown_or_repeated_parameter_is_refused(client: httpx.Client) -> None:
    """A misspelt parameter that is silently ignored is worse than an error."""
    assert refused(client.get("/v2/streams?limitt=3"), 400, "INVALID_REQUEST")["field"] == "limitt"
    assert refused(client.get("/v2/streams?limit=3&limit=4"), 400, "INVALID_REQUEST")["field"] == "limit"
    assert refused(client.get("/v2/streams?limit=ten"), 400, "INVALID_REQUEST")["field"] == "limit"


def test_an_unknown_field_is_refused_by_name(client: httpx.Client, stream: str) -> None:
    """The same for bodies that hold settings."""
    response = client.post("/v2/streams", json={"stream_id": stream, "retention_day": 3})

    assert refused(response, 400, "INVALID_REQUEST")["field"] == "retention_day"


def test_a_client_that_waits_for_100_continue_gets_it(server: Server, stream: str) -> None:
    """curl does so for bodies over a mebibyte."""
    body = json.dumps({"stream_id": stream, "events": [EVENT]}).encode()
    with server.connection() as connection:
        connection.sendall(_head("POST /v2/ingest/batch", f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 100")
        connection.sendall(body)

        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")


def test_deflate_is_not_taken_for_gzip(client: httpx.Client) -> None:
    """Only what is named is known."""
    response = client.post(
        "/v2/ingest/batch", content=zlib.compress(b"{}"), headers={**JSON, "Content-Encoding": "deflate"}
    )

    refused(response, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_log_lines_carry_the_request_id_and_no_key(tmp_path: Path) -> None:
    """One id through all, and no secret in any line."""
    with serving(tmp_path / "data", log_level="debug") as server:
        with server.client() as client:
            client.get("/v2/streams", headers={"X-Request-Id": "find-me"})
        server.stop()
        lines = [line for line in server.log_lines() if line.get("request_id") == "find-me"]

        assert [line["path"] for line in lines if line["event"] == "request"] == ["/v2/streams"]
        assert API_KEY not in server.log.read_text()


def _all_of(connection: socket.socket) -> bytes:
    """What comes until the server closes, in however many pieces."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def _head(request: str, *headers: str) -> bytes:
    lines = [f"{request} HTTP/1.1", "Host: localhost", f"X-API-Key: {API_KEY}", "Content-Type: application/json"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()
