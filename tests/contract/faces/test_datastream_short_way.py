"""The short way of the hot routes and the long way of all others: whoever takes which must not notice."""

import json
import re
from typing import Any

import httpx
import pyarrow as pa
import pytest

from serving import send
from waiting import wait_until

LONG_WAY = {"X-Nothing-Special": "but not plain either"}
OUR_ID = re.compile(r"req_[\w-]{12}_[0-9a-f]+")
"""The ids that the short way gives; those of the long way are random to the end."""

GOOD: list[tuple[str, Any]] = [
    ("events", {"event_type": "x"}),
    ("events", {"event_type": "x", "timestamp": "2024-03-15T10:30:00.5Z", "data": {"ü": [1]}, "metadata": {}}),
    ("events", {"event_type": "x", "event_id": "same"}),
    ("batch", {"events": [{"event_type": "x"}] * 3}),
    ("batch", {"events": [{"event_type": "x", "event_id": "same"}, {"event_type": "y", "event_id": "other"}]}),
]
WRONG: list[tuple[str, Any]] = [
    ("events", {"event_type": ""}),
    ("events", {"event_type": "x", "timestamp": "2024-03-15"}),
    ("events", {"event_type": "x", "data": []}),
    ("events", {}),
    ("batch", {"events": []}),
    ("batch", {"events": [{"event_type": "x"}, {"event_type": ""}]}),
    ("batch", {"events": "none"}),
    ("batch", {}),
    ("batch", {"events": [{"event_type": "x", "data": {"text": "x" * (1 << 20)}}]}),
]


@pytest.fixture
def plain(client: httpx.Client, stream: str) -> httpx.Client:
    """A client whose key and stream the short way knows.

    What the server remembers of rights it forgets within half a second of the making of the stream, unless the long way
    has looked before.
    """
    first = {"event_type": "first", "event_id": "same"}
    send(client, stream, first)
    both(client, stream, "events", first)
    return client


def both(client: httpx.Client, stream: str, route: str, body: Any) -> list[httpx.Response]:
    """The same request on either way; the server knows key and stream."""
    content = json.dumps({"stream_id": stream, **body}).encode()
    headers = {"Content-Type": "application/json"}
    return [
        client.post(f"/v2/ingest/{route}", content=content, headers={**headers, **extra}) for extra in ({}, LONG_WAY)
    ]


def common(response: httpx.Response) -> dict[str, Any]:
    """All that two answers to the same request share."""
    told = re.sub(r'evt_\d+|"processing_time_ms":[\d.]+', "", response.text)
    headers = {name: value for name, value in response.headers.items() if name not in ("x-request-id", "date")}
    headers.pop("content-length")
    return {"status": response.status_code, "headers": headers, "body": told}


@pytest.mark.parametrize(("route", "body"), GOOD)
def test_both_ways_accept_alike(plain: httpx.Client, stream: str, route: str, body: Any) -> None:
    """Status, headers and members; and both were really taken."""
    both(plain, stream, route, body)  # repeats of an event_id are repeats from here on

    def took_both() -> bool:
        short, long = both(plain, stream, route, body)
        assert common(short) == common(long)
        assert short.status_code == 200
        assert not OUR_ID.fullmatch(long.headers["x-request-id"])
        return OUR_ID.fullmatch(short.headers["x-request-id"]) is not None

    wait_until(took_both)  # what the server remembers of keys it forgets now and then


@pytest.mark.parametrize(("route", "body"), WRONG)
def test_both_ways_refuse_alike(plain: httpx.Client, stream: str, route: str, body: Any) -> None:
    """To the letter."""
    short, long = both(plain, stream, route, body)

    assert common(short) == common(long)
    assert short.status_code >= 400


def test_both_ways_store_alike(plain: httpx.Client, stream: str) -> None:
    """The same bytes, wherever they came in."""
    body = {"event_type": "x", "timestamp": "2024-03-15T10:30:00Z", "data": {"b": 1, "a": {"ü": None}}}
    both(plain, stream, "events", body)
    url = f"/v2/query/events?stream_id={stream}&event_type=x&fields=timestamp,event_type,data"
    short, long = plain.get(url).json()["events"]

    assert short == long


def test_a_request_id_is_echoed_on_both_ways(plain: httpx.Client, stream: str) -> None:
    """As everywhere."""
    content = json.dumps({"stream_id": stream, "event_type": "x"}).encode()
    headers = {"Content-Type": "application/json", "X-Request-Id": "mine"}

    for extra in ({}, LONG_WAY):
        response = plain.post("/v2/ingest/events", content=content, headers={**headers, **extra})
        assert response.headers["x-request-id"] == "mine"


def test_problem_details_come_on_both_ways(plain: httpx.Client, stream: str) -> None:
    """When asked for by name."""
    content = json.dumps({"stream_id": stream, "event_type": ""}).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/problem+json"}

    for extra in ({}, LONG_WAY):
        response = plain.post("/v2/ingest/events", content=content, headers={**headers, **extra})
        assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("event_types", "status"), [(["a", "b"], 200), (["a", ""], 400), ([], 400)])
def test_arrow_goes_the_short_way_too(plain: httpx.Client, stream: str, event_types: list[str], status: int) -> None:
    """With its stream in the path; a wrong body is told of as on the long way."""
    types = pa.array(event_types, pa.string())
    batch = pa.record_batch({"event_type": types, "data": pa.array(["{}"] * len(types), pa.string())})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    request: dict[str, Any] = {"content": sink.getvalue().to_pybytes(), "url": f"/v2/ingest/batch?stream_id={stream}"}
    headers = {"Content-Type": "application/vnd.apache.arrow.stream"}

    def took_both() -> bool:
        short, long = (plain.post(headers={**headers, **extra}, **request) for extra in ({}, LONG_WAY))
        assert common(short) == common(long)
        assert short.status_code == status
        return (status == 200) == bool(OUR_ID.fullmatch(short.headers["x-request-id"]))

    wait_until(took_both)
