"""CloudEvents in their three HTTP modes, sent by the official SDK, and by hand where the SDK would not."""

from base64 import b64decode
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from serving import found, refused

ROUTES = ["/v2/ingest/events", "/v2/ingest/batch"]
ATTRIBUTES = {"id": "A-1", "source": "/shop/till 7", "specversion": "1.0", "type": "com.example.sold"}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}


def cloud_event(stream: str, data: Any = None, **attributes: Any) -> CloudEvent:
    time = datetime(2024, 3, 15, 10, 30, tzinfo=UTC)
    return CloudEvent({**ATTRIBUTES, "time": time, "streamid": stream, **attributes}, data)


def post(client: httpx.Client, message: HTTPMessage, route: str = ROUTES[0]) -> httpx.Response:
    return client.post(route, content=message.body, headers=message.headers)


def post_json(client: httpx.Client, stream: str, **members: Any) -> httpx.Response:
    return client.post(f"{ROUTES[0]}?stream_id={stream}", json={**ATTRIBUTES, **members}, headers=STRUCTURED)


@pytest.mark.parametrize("to_message", [to_structured_event, to_binary_event])
def test_an_event_of_the_sdk_is_an_event_of_ours(client: httpx.Client, stream: str, to_message: Any) -> None:
    """Type, time and data keep their places; all other attributes are metadata."""
    event = cloud_event(stream, {"amount": 12.5}, datacontenttype="application/json", subject="Grüße, 100 %")
    answer = post(client, to_message(event)).json()
    [stored] = found(client, stream)

    assert answer["status"] == "accepted"
    assert stored == {
        "event_id": answer["event_id"],
        "timestamp": "2024-03-15T10:30:00Z",
        "event_type": "com.example.sold",
        "data": {"amount": 12.5},
        "metadata": {
            "id": "A-1",
            "source": "/shop/till 7",
            "specversion": "1.0",
            "datacontenttype": "application/json",
            "subject": "Grüße, 100 %",
            "streamid": stream,
        },
    }


@pytest.mark.parametrize("route", ROUTES)
def test_a_batch_is_taken_on_both_routes(client: httpx.Client, stream: str, route: str) -> None:
    """As an array, and answered as a batch."""
    events = [{**ATTRIBUTES, "id": str(number), "streamid": stream} for number in range(3)]
    answer = client.post(route, json=events, headers=BATCH).json()

    assert (answer["stream_id"], answer["accepted"]) == (stream, 3)
    assert [event["metadata"]["id"] for event in found(client, stream)] == ["0", "1", "2"]


def test_one_event_on_the_batch_route_is_a_batch_of_one(client: httpx.Client, stream: str) -> None:
    """The route decides what the answer looks like."""
    answers = [post(client, mode(cloud_event(stream)), ROUTES[1]).json() for mode in (to_structured_event,)]
    answers.append(post(client, to_binary_event(cloud_event(stream, id="A-2")), ROUTES[1]).json())

    assert [answer["accepted"] for answer in answers] == [1, 1]


@pytest.mark.parametrize(
    ("data", "content_type", "kept"),
    [
        ({"a": 1}, "application/json", {"a": 1}),
        ([1, 2], "application/json", {"value": [1, 2]}),
        ("text", "text/plain", {"value": "text"}),
        (b"\x00\xff", "application/octet-stream", {"base64": "AP8="}),
        (None, None, {}),
    ],
)
@pytest.mark.parametrize("to_message", [to_structured_event, to_binary_event])
def test_data_that_is_no_object_is_wrapped(
    client: httpx.Client, stream: str, to_message: Any, data: Any, content_type: str | None, kept: Any
) -> None:
    """In `value`, or in `base64` when it is no text."""
    named = {} if content_type is None else {"datacontenttype": content_type}
    post(client, to_message(cloud_event(stream, data, **named)))

    assert [event["data"] for event in found(client, stream)] == [kept]


def test_source_and_id_make_a_repeat(client: httpx.Client, stream: str) -> None:
    """In whatever mode; another source is another event."""
    first = post(client, to_structured_event(cloud_event(stream))).json()
    again = post(client, to_binary_event(cloud_event(stream))).json()
    other = post(client, to_binary_event(cloud_event(stream, source="/shop/till 8"))).json()

    assert again["duplicate"] is True
    assert again["event_id"] == first["event_id"]
    assert "duplicate" not in other


def test_the_stream_is_parameter_then_extension_then_source(client: httpx.Client, stream: str) -> None:
    """The source is taken as it is."""
    post_json(client, f"{stream}/parameter", streamid=f"{stream}/extension")
    client.post(ROUTES[0], json={**ATTRIBUTES, "streamid": f"{stream}/extension"}, headers=STRUCTURED)
    client.post(ROUTES[0], json={**ATTRIBUTES, "source": f"{stream}/source"}, headers=STRUCTURED)

    assert [len(found(client, f"{stream}/{name}")) for name in ("parameter", "extension", "source")] == [1, 1, 1]


def test_a_source_that_is_no_name_is_refused(client: httpx.Client) -> None:
    """A stream id has at most 255 characters."""
    response = client.post(ROUTES[0], json={**ATTRIBUTES, "source": "x" * 256}, headers=STRUCTURED)

    assert refused(response, 400, "INVALID_REQUEST")["field"] == "stream_id"


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"source": None},
        {"type": 5},
        {"specversion": "0.3"},
        {"time": "yesterday"},
        {"time": 5},
        {"UPPER": "x"},
        {"with-dash": "x"},
        {"extension": {"a": 1}},
        {"extension": 1.5},
        {"data": 1, "data_base64": "AA=="},
        {"data_base64": "no base64"},
        {"data_base64": 5},
    ],
)
def test_a_wrong_cloud_event_is_refused(client: httpx.Client, stream: str, wrong: dict[str, Any]) -> None:
    """Alone, and in a batch by its index; nothing is stored."""
    event = {**ATTRIBUTES, **wrong}
    code = "INVALID_TIMESTAMP" if wrong.get("time") == "yesterday" else "INVALID_EVENT"
    refused(post_json(client, stream, **wrong), 400, code)
    response = client.post(f"{ROUTES[1]}?stream_id={stream}", json=[ATTRIBUTES, event], headers=BATCH)

    assert [error["index"] for error in refused(response, 400, code)["errors"]] == [1]
    refused(client.get(f"/v2/streams/{stream}"), 404, "INVALID_STREAM_ID")


def test_what_is_no_cloud_event_at_all_is_refused(client: httpx.Client, stream: str) -> None:
    """Neither an object nor an array of them, nor JSON; and data that says it is JSON must be."""
    for headers, content in ((STRUCTURED, b"[]"), (BATCH, b"{}"), (BATCH, b"[5]"), (BATCH, b"[]"), (STRUCTURED, b"{")):
        response = client.post(f"{ROUTES[0]}?stream_id={stream}", content=content, headers=headers)
        assert response.status_code == 400, content
    binary = {"Content-Type": "application/json", **{f"ce-{name}": value for name, value in ATTRIBUTES.items()}}
    binary["ce-source"] = "/s"
    for content in (b"{", b'1,"id":"other"', b'"\xff"'):
        response = client.post(f"{ROUTES[0]}?stream_id={stream}", content=content, headers=binary)
        refused(response, 400, "INVALID_JSON")


def test_a_batch_for_two_streams_is_refused(client: httpx.Client, stream: str) -> None:
    """A request is for one stream; with `partial` the others are told."""
    events = [{**ATTRIBUTES, "id": str(number), "streamid": f"{stream}-{number}"} for number in range(2)]

    assert refused(client.post(ROUTES[1], json=events, headers=BATCH), 400, "INVALID_EVENT")["errors"][0]["index"] == 1
    assert client.post(f"{ROUTES[1]}?partial=true", json=events, headers=BATCH).json()["rejected"] == 1


def test_headers_are_read_as_the_binding_says(client: httpx.Client, stream: str) -> None:
    """Percent-encoded, or in quotes; names in any case."""
    headers = {
        "CE-SpecVersion": "1.0",
        "Ce-Id": '"a \\"b\\""',
        "ce-source": "/s",
        "ce-type": "t",
        "ce-who": "J%C3%BCrgen%20%E2%82%AC%F0%9F%98%80",
    }
    client.post(f"{ROUTES[0]}?stream_id={stream}", content=b"", headers=headers)
    [event] = found(client, stream)

    assert event["metadata"] == {
        "specversion": "1.0",
        "id": 'a "b"',
        "source": "/s",
        "who": "Jürgen €😀",
    }


def test_an_idempotency_key_works_for_cloud_events(client: httpx.Client, stream: str) -> None:
    """As for any other body."""
    message = to_binary_event(cloud_event(stream, b"\x01", datacontenttype="image/png"))
    headers = {**message.headers, "Idempotency-Key": stream}
    first, again = (client.post(ROUTES[0], content=message.body, headers=headers) for _ in range(2))

    assert first.json()["event_id"] == again.json()["event_id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert b64decode(found(client, stream)[0]["data"]["base64"]) == b"\x01"
