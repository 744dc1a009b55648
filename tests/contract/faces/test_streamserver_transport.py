"""stream-server: pages of other origins, limits while a file arrives, and what every answer carries."""

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving import Server, serving
from streamserver import TUNE, refused
from waiting import PATIENCE_S, wait_until

LIMIT = 200_000


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes small files, from two origins of the operator's, and has little patience."""
    data = tmp_path_factory.mktemp("small") / "data"
    origins = "https://a.example,https://b.example"
    with serving(data, max_file_size=LIMIT, allowed_origins=origins, body_timeout_s=2) as server:
        yield server


# Pages of other origins


@pytest.mark.parametrize("origin", ["http://localhost:5176", "http://localhost:3000"])
def test_the_two_pages_of_the_seed_are_let_in(transcoder: httpx.Client, origin: str) -> None:
    answer = transcoder.get("/v1/stream/jobs", headers={"Origin": origin})

    assert answer.headers["access-control-allow-origin"] == origin
    assert "origin" in answer.headers["vary"]
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"Content-Range", "Content-Length", "Accept-Ranges", "ETag", "Stream-Job-Id"} <= set(exposed)


@pytest.mark.parametrize("path", ["/v1/stream/jobs", "/v1/stream/job/none", "/v1/stream/nothing"])
def test_other_pages_get_no_headers_and_the_answer_all_the_same(transcoder: httpx.Client, path: str) -> None:
    plain, foreign = transcoder.get(path), transcoder.get(path, headers={"Origin": "https://c.example"})

    assert foreign.status_code == plain.status_code
    assert not [name for name in foreign.headers if name.startswith("access-control")]


def test_errors_can_be_read_by_pages_that_are_let_in(transcoder: httpx.Client) -> None:
    answer = transcoder.get("/v1/stream/job/none", headers={"Origin": "http://localhost:3000"})

    refused(answer, 404)
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"


def test_a_browser_may_ask_first(transcoder: httpx.Client) -> None:
    asking = {
        "Origin": "http://localhost:5176",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "range",
    }
    for path in ("hls/x/segment_00001.ts", "transcode", "uploads", "uploads/x"):
        answer = transcoder.options(f"/v1/stream/{path}", headers=asking)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "http://localhost:5176"
        assert {"GET", "POST", "PATCH", "DELETE"} <= set(answer.headers["access-control-allow-methods"].split(", "))
        allowed = answer.headers["access-control-allow-headers"].split(", ")
        assert {"Range", "Authorization", "Content-Type", "Tus-Resumable"} <= set(allowed)
        assert answer.headers["access-control-max-age"] == "3600"


def test_origins_are_the_operators_to_choose(small: Server) -> None:
    with small.client(None) as client:
        for origin, allowed in (
            ("https://a.example", True),
            ("https://b.example", True),
            ("http://localhost:3000", False),
        ):
            answer = client.get("/v1/stream/jobs", headers={"Origin": origin})
            assert ("access-control-allow-origin" in answer.headers) is allowed


def test_every_answer_is_careful(transcoder: httpx.Client) -> None:
    for path in ("/v1/stream/jobs", "/v1/stream/job/none", "/v1/stream/nothing"):
        headers = transcoder.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "strict-origin-when-cross-origin"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-request-id"]


# Files that arrive


def left_behind(server: Server) -> list[Path]:
    folders = ("scratch", "blobs", "uploads", "tmp")
    return [path for folder in folders for path in (server.data / folder).rglob("*") if path.is_file()]


def test_a_file_over_the_limit_is_refused_and_nothing_stays(small: Server) -> None:
    with small.client(None) as client:
        response = client.post("/v1/stream/transcode", files={"file": ("tune.wav", TUNE)})
        assert len(TUNE) > LIMIT
        refused(response, 413)
        huge = b"x" * (LIMIT + (2 << 20))  # more than the whole form may have
        refused(client.post("/v1/stream/transcode", files={"file": ("tune.wav", huge)}), 413)

    assert left_behind(small) == []


def head(length: int, *more: str) -> bytes:
    lines = [
        "POST /v1/stream/transcode HTTP/1.1",
        "Host: localhost",
        "Content-Type: multipart/form-data; boundary=x",
        f"Content-Length: {length}",
        *more,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'


def test_a_client_that_asks_first_is_told_before_it_sends(small: Server) -> None:
    """With Expect: 100-continue, the file's bytes are only asked for when they would be taken."""
    with small.connection() as connection:
        connection.sendall(head(10 << 20, "Expect: 100-continue"))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")
    with small.connection() as connection:
        body = PART + b"no audio\r\n--x--\r\n"
        connection.sendall(head(len(body), "Expect: 100-continue"))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 400 ")


def test_a_client_that_goes_on_sending_still_reads_why_it_was_refused(small: Server) -> None:
    """The server throws away what comes instead of cutting the connection, which would lose the answer on its way."""
    size = 30 << 20
    with small.connection() as connection:
        connection.sendall(head(size) + PART)
        sending = threading.Thread(target=connection.sendall, args=(b"x" * (size - len(PART)),))
        sending.start()
        sending.join(PATIENCE_S)
        assert not sending.is_alive()
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")


def test_a_file_that_stops_coming_is_given_up(small: Server) -> None:
    with small.connection() as connection:
        connection.sendall(head(1_000) + PART + b"RIFF")
        answer = connection.recv(65_536)

    assert answer.startswith(b"HTTP/1.1 408 ")
    wait_until(lambda: left_behind(small) == [])


def test_a_client_that_goes_away_leaves_nothing(small: Server) -> None:
    with small.connection() as connection:
        connection.sendall(head(100_000) + PART + b"RIFF" + b"x" * 50_000)
    wait_until(lambda: left_behind(small) == [])


def test_a_form_of_too_many_parts_is_refused(small: Server) -> None:
    fields = {f"field{number}": "x" for number in range(50)}
    with small.client(None) as client:
        refused(client.post("/v1/stream/transcode", files={"file": ("a.wav", TUNE)}, data=fields), 400)
        refused(client.post("/v1/stream/transcode", files={"x": ("a", b"")}, data={"codec": "a" * 100_000}), 400)
    assert left_behind(small) == []


def test_a_path_that_nobody_has_is_told_in_the_same_shape(transcoder: httpx.Client) -> None:
    refused(transcoder.get("/v1/stream/nothing"), 404, "Not found")
    refused(transcoder.put("/v1/stream/transcode"), 405)


def test_the_openapi_document_names_every_route(transcoder: httpx.Client) -> None:
    document = transcoder.get("/v1/stream/openapi.json").json()

    assert document["info"]["title"] == "stream-server"
    assert {"post"} == document["paths"]["/v1/stream/transcode"].keys()
    assert {"get", "delete"} == document["paths"]["/v1/stream/job/{job_id}"].keys()
