"""stream-server: segments by the short way are the same as by the long one."""

import socket

import httpx
import pytest

from streamserver import completed, refused
from tunes import tune
from waiting import PATIENCE_S

LONG = {"X-Long-Way": "please"}
"""A header that the short way does not know."""
OWN = ("date", "x-request-id")


@pytest.fixture(scope="module")
def segment(transcoder: httpx.Client) -> str:
    job = completed(transcoder, tune(8))
    path = f"/v1/stream/hls/{job}/segment_00001.ts"
    transcoder.get(path)  # from here on it is in memory
    return path


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost:3000"},
        {"Origin": "https://elsewhere.example"},
        {"Referer": "http://localhost:3000/", "Sec-Fetch-Mode": "cors", "Cookie": "a=b"},
        {"Authorization": "Bearer nonsense"},
    ],
    ids=str,
)
def test_both_ways_give_the_same(transcoder: httpx.Client, segment: str, headers: dict[str, str]) -> None:
    long = transcoder.get(segment, headers=headers | LONG)
    short = transcoder.get(segment, headers=headers)

    assert short.content == long.content
    assert [one for one in short.headers.multi_items() if one[0] not in OWN] == [
        one for one in long.headers.multi_items() if one[0] not in OWN
    ]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Range": "bytes=0-187"}, 206), ({"If-None-Match": "*"}, 304), ({"Range": "bytes=99999999-"}, 416)],
    ids=str,
)
def test_whatever_is_special_goes_the_long_way(
    transcoder: httpx.Client, segment: str, headers: dict[str, str], status: int
) -> None:
    assert transcoder.get(segment, headers=headers).status_code == status


def test_a_job_that_is_removed_is_gone_by_both_ways(transcoder: httpx.Client) -> None:
    job = completed(transcoder)
    path = f"/v1/stream/hls/{job}/segment_00001.ts"
    assert [transcoder.get(path).status_code for _ in range(3)] == [200, 200, 200]

    transcoder.delete(f"/v1/stream/job/{job}")

    refused(transcoder.get(path), 404)


def test_requests_sent_ahead_are_answered_in_order(transcoder: httpx.Client, segment: str) -> None:
    """Also by who takes nothing before all is sent."""
    url = transcoder.base_url
    size = len(transcoder.get(segment).content)
    ahead = 50
    request = f"GET {segment} HTTP/1.1\r\nHost: {url.host}\r\n\r\n".encode()
    with socket.create_connection((url.host, url.port or 80), timeout=PATIENCE_S) as connection:
        connection.sendall(request * ahead)
        with connection.makefile("rb") as answers:
            for _ in range(ahead):
                assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
                while answers.readline() != b"\r\n":
                    pass
                assert answers.read(size)[0] == 0x47
