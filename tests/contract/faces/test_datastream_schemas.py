"""A JSON Schema on a stream: what it keeps out, whichever way it comes, and what it says about what is stored."""

import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pyarrow as pa
import pytest

from serving import found, refused, send

SCHEMA = {
    "type": "object",
    "properties": {"amount": {"type": "number", "minimum": 0}, "items": {"items": {"required": ["sku"]}}},
    "required": ["amount"],
}
GOOD = {"event_type": "sale", "data": {"amount": 1}}
BAD = {"event_type": "sale", "data": {"amount": -1}}


@pytest.fixture
def strict(client: httpx.Client, stream: str) -> str:
    """A stream with a schema."""
    assert client.post("/v2/streams", json={"stream_id": stream, "schema": SCHEMA}).status_code == 201
    return stream


def arrow(*events: dict[str, Any]) -> bytes:
    table = pa.table({"event_type": ["sale"] * len(events), "data": [json.dumps(event["data"]) for event in events]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def cloud(event: dict[str, Any]) -> dict[str, Any]:
    return {"specversion": "1.0", "id": json.dumps(event), "source": "/s", "type": "sale", "data": event["data"]}


FORMS: dict[str, tuple[str, Callable[[str, list[dict[str, Any]]], str | bytes]]] = {
    "json": ("application/json", lambda name, events: json.dumps({"stream_id": name, "events": events})),
    "ndjson": ("application/x-ndjson", lambda _, events: "\n".join(map(json.dumps, events))),
    "cloudevents": ("application/cloudevents-batch+json", lambda _, events: json.dumps(list(map(cloud, events)))),
    "arrow": ("application/vnd.apache.arrow.stream", lambda _, events: arrow(*events)),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_wrong_event_keeps_its_batch_out(client: httpx.Client, strict: str, form: str) -> None:
    """In every form; the answer names index and path, and `partial` stores the others."""
    media_type, write = FORMS[form]
    request: dict[str, Any] = {"content": write(strict, [GOOD, BAD, GOOD | {"data": {"amount": 2}}])}
    request |= {"headers": {"Content-Type": media_type}}
    url = f"/v2/ingest/batch?stream_id={strict}"
    details = refused(client.post(url, **request), 400, "SCHEMA_VIOLATION")

    assert (details["index"], details["path"], details["rejected"]) == (1, "data.amount", 1)
    assert found(client, strict) == []
    partial = client.post(f"{url}&partial=true", **request).json()
    assert (partial["accepted"], partial["rejected"]) == (2, 1)
    assert partial["errors"][0] == {
        "index": 1,
        "code": "SCHEMA_VIOLATION",
        "path": "data.amount",
        "message": details["reason"],
    }


def test_the_short_way_asks_the_schema_too(client: httpx.Client, strict: str) -> None:
    """Single events and batches without options, sent again and again with the same headers."""
    for _ in range(3):
        for route, body in (("events", BAD), ("batch", {"events": [BAD]})):
            response = client.post(f"/v2/ingest/{route}", json={"stream_id": strict, **body})
            refused(response, 400, "SCHEMA_VIOLATION")
        assert client.post("/v2/ingest/events", json={"stream_id": strict, **GOOD}).status_code == 200

    assert len(found(client, strict)) == 3


def test_the_path_leads_to_the_place(client: httpx.Client, strict: str) -> None:
    """Through lists; what is missing is missed where it should be."""
    for data, path in (
        ({"amount": 1, "items": [{"sku": 1}, {}]}, "data.items.1"),
        ({}, "data"),
        ({"amount": 1e400}, "data"),
    ):
        body = json.dumps({"stream_id": strict, "event_type": "x", "data": data}).replace("Infinity", "1e400")
        response = client.post("/v2/ingest/events", content=body, headers={"Content-Type": "application/json"})
        assert refused(response, 400, "SCHEMA_VIOLATION")["path"] == path


def test_indexes_are_those_of_the_body(client: httpx.Client, strict: str) -> None:
    """Also behind events that are wrong in themselves."""
    events: list[dict[str, Any]] = [{"event_type": ""}, BAD, {"event_type": "x", "data": 5}, GOOD, BAD]
    answer = send(client, strict, *events, partial="true")

    assert [(error["index"], error["code"]) for error in answer["errors"]] == [
        (0, "INVALID_EVENT"),
        (1, "SCHEMA_VIOLATION"),
        (2, "INVALID_EVENT"),
        (4, "SCHEMA_VIOLATION"),
    ]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"minimum": "1"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "https://example.com/schema.json"},
        {"$schema": "http://json-schema.org/draft-07/schema#"},
        {"$schema": 5},
        {"pattern": "("},
        {"pattern": "^(?=.*[0-9])"},
        {"pattern": r"^(.)\1$"},
    ],
)
def test_a_schema_that_is_none_is_refused(client: httpx.Client, stream: str, schema: dict[str, Any]) -> None:
    """When it is given, not when the first event comes."""
    refused(client.post("/v2/streams", json={"stream_id": stream, "schema": schema}), 400, "INVALID_REQUEST")
    client.post("/v2/streams", json={"stream_id": stream})
    refused(client.patch(f"/v2/streams/{stream}", json={"schema": schema}), 400, "INVALID_REQUEST")

    assert client.get(f"/v2/streams/{stream}").json()["schema"] is None


def test_no_pattern_holds_up_the_server(client: httpx.Client, stream: str) -> None:
    """Patterns that backtracking engines need ages for take as long as the text is."""
    schema = {"additionalProperties": {"pattern": "^(x+x+)+y$"}}
    assert client.post("/v2/streams", json={"stream_id": stream, "schema": schema}).status_code == 201
    event = {"stream_id": stream, "event_type": "x", "data": {f"f{n}": "x" * 40 for n in range(5_000)}}
    refused(client.post("/v2/ingest/events", json=event), 400, "SCHEMA_VIOLATION")


def test_nothing_is_fetched_for_a_schema(client: httpx.Client, stream: str) -> None:
    """A `$ref` to elsewhere is refused without a look there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        reference = f"http://127.0.0.1:{listener.getsockname()[1]}/schema.json"
        schema = {"$id": reference, "$ref": "other.json"}
        refused(client.post("/v2/streams", json={"stream_id": stream, "schema": schema}), 400, "INVALID_REQUEST")
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_change_tells_what_stored_events_break(client: httpx.Client, stream: str) -> None:
    """How many, and the newest; `dry_run` tells without changing anything."""
    events = [{"event_type": "x", "data": {"amount": number - 5}} for number in range(20)]
    ids = send(client, stream, *events, ids="true")["event_ids"]
    dry = client.patch(f"/v2/streams/{stream}?dry_run=true", json={"schema": SCHEMA, "description": "new"}).json()

    assert dry["description"] == "new"
    assert client.get(f"/v2/streams/{stream}").json()["schema"] is None
    wet = client.patch(f"/v2/streams/{stream}", json={"schema": SCHEMA}).json()
    assert wet["schema"] == SCHEMA
    assert wet["schema_check"] == dry["schema_check"]
    assert {**wet["schema_check"], "examples": []} == {"checked": 20, "violations": 5, "complete": True, "examples": []}
    assert [example["event_id"] for example in wet["schema_check"]["examples"]] == ids[4::-1]
    assert wet["schema_check"]["examples"][0]["path"] == "data.amount"


def test_a_new_schema_counts_at_once(client: httpx.Client, strict: str) -> None:
    """For the next event, on every way in; null takes it away."""
    for schema, status in (({"required": ["other"]}, 400), (None, 200), (False, 400), (True, 200)):
        assert client.patch(f"/v2/streams/{strict}", json={"schema": schema}).status_code == 200
        assert client.post("/v2/ingest/events", json={"stream_id": strict, **GOOD}).status_code == status


def test_a_repeat_gets_its_answer_whatever_the_schema_is_now(client: httpx.Client, stream: str) -> None:
    """An Idempotency-Key is asked before the schema."""
    request: dict[str, Any] = {"json": {"stream_id": stream, **BAD}, "headers": {"Idempotency-Key": stream}}
    first = client.post("/v2/ingest/events", **request)
    client.patch(f"/v2/streams/{stream}", json={"schema": SCHEMA})
    again = client.post("/v2/ingest/events", **request)

    assert again.json()["event_id"] == first.json()["event_id"]


def test_a_schema_may_go_in_circles(client: httpx.Client, stream: str) -> None:
    """Endless references and patterns that never end do not hang the server."""
    tree = {"$ref": "#/$defs/node", "$defs": {"node": {"properties": {"child": {"$ref": "#/$defs/node"}}}}}
    text = {"properties": {"text": {"pattern": "^(a+)+$"}}}
    for number, schema in enumerate(({"$ref": "#"}, {"allOf": [{"$ref": "#"}]}, tree, text)):
        name = f"{stream}-{number}"
        client.post("/v2/streams", json={"stream_id": name, "schema": schema})
        data: dict[str, Any] = {}
        for _ in range(200):
            data = {"child": data, "text": "a" * 5_000 + "b"}
        event = {"stream_id": name, "event_type": "x", "data": data}
        response = client.post("/v2/ingest/events", json=event)
        assert response.status_code == (400 if schema is text else 200)
