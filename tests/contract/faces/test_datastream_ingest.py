"""DataStream's ingestion: what is accepted, what is refused, and what may be sent twice."""

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving import found, refused, send, serving

NDJSON = {"Content-Type": "application/x-ndjson"}
SEED_EVENT = {
    "timestamp": "2024-03-15T10:30:00Z",
    "event_type": "string",
    "data": {"user_id": "string", "action": "string", "properties": {}},
    "metadata": {"source": "string", "version": "string"},
}


def ingest(client: httpx.Client, stream: str, **event: Any) -> httpx.Response:
    return client.post("/v2/ingest/events", json={"stream_id": stream, **event})


def test_the_seeds_event_is_accepted(client: httpx.Client, stream: str) -> None:
    """The answer has the three members that the API documents, and no more."""
    response = ingest(client, stream, **SEED_EVENT)
    answer = response.json()

    assert response.status_code == 200
    assert answer.keys() == {"status", "event_id", "processing_time_ms"}
    assert answer["status"] == "accepted"
    assert re.fullmatch(r"evt_[0-9]{10,}", answer["event_id"])
    assert answer["processing_time_ms"] >= 0
    assert found(client, stream) == [{"event_id": answer["event_id"], **SEED_EVENT}]


def test_the_seeds_batch_is_accepted(client: httpx.Client, stream: str) -> None:
    """The answer counts, and names the first and last event."""
    events = [{"timestamp": "2024-03-15T10:30:00Z", "event_type": "string", "data": {}}] * 3
    answer = send(client, stream, *events)
    ids = [event["event_id"] for event in found(client, stream)]

    assert answer.pop("processing_time_ms") >= 0
    assert answer == {
        "status": "accepted",
        "stream_id": stream,
        "accepted": 3,
        "duplicates": 0,
        "rejected": 0,
        "first_event_id": ids[0],
        "last_event_id": ids[-1],
        "errors": [],
    }


def test_what_is_accepted_can_be_read_at_once(client: httpx.Client, stream: str) -> None:
    """A query that is sent after the answer sees the event, each time."""
    for number in range(20):
        ingest(client, stream, event_type="x", data={"number": number})
        assert client.get(f"/v2/query/events?stream_id={stream}&limit=1").json()["total_count"] == number + 1


def test_what_is_accepted_outlives_a_kill(tmp_path: Path) -> None:
    """Accepted means synced: a server that is killed at that moment has it when it starts again."""
    with serving(tmp_path / "data") as server, server.client() as client:
        sent = ingest(client, "kept", **SEED_EVENT).json()["event_id"]
        server.process.kill()
    with serving(tmp_path / "data") as server, server.client() as client:
        assert [event["event_id"] for event in found(client, "kept")] == [sent]


def test_ids_ascend(client: httpx.Client, stream: str) -> None:
    """Within a stream and over routes."""
    ids = [ingest(client, stream, event_type="x").json()["event_id"] for _ in range(3)]
    ids += send(client, stream, {"event_type": "x"}, {"event_type": "x"}, ids="true")["event_ids"]

    assert ids == sorted(ids)
    assert len(set(ids)) == 5


def test_only_stream_and_type_are_needed(client: httpx.Client, stream: str) -> None:
    """The time is now then, data is empty, metadata absent."""
    before = datetime.now(UTC)
    ingest(client, stream, event_type="x")
    [event] = found(client, stream)

    assert before - timedelta(seconds=1) < datetime.fromisoformat(event["timestamp"]) < datetime.now(UTC)
    assert event["data"] == {}
    assert "metadata" not in event


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2024-03-15T10:30:00Z", "2024-03-15T10:30:00Z"),
        ("2024-03-15T10:30:00.123456Z", "2024-03-15T10:30:00.123456Z"),
        ("2024-03-15T10:30:00.5Z", "2024-03-15T10:30:00.500000Z"),
        ("2024-03-15T12:30:00+02:00", "2024-03-15T10:30:00Z"),
        ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z"),
    ],
)
def test_times_keep_their_microseconds(client: httpx.Client, stream: str, given: str, kept: str) -> None:
    """In UTC, whatever zone they came in, on both routes."""
    ingest(client, stream, event_type="x", timestamp=given)
    send(client, stream, {"event_type": "x", "timestamp": given})

    assert [event["timestamp"] for event in found(client, stream)] == [kept, kept]


@pytest.mark.parametrize("wrong", ["2024-03-15T10:30:00", "2024-03-15", "yesterday", "", "2024-02-30T10:30:00Z"])
def test_a_wrong_time_is_refused(client: httpx.Client, stream: str, wrong: str) -> None:
    """A time without a zone is one of them."""
    event = {"event_type": "x", "timestamp": wrong}

    assert refused(ingest(client, stream, **event), 400, "INVALID_TIMESTAMP")["field"] == "timestamp"
    response = client.post("/v2/ingest/batch", json={"stream_id": stream, "events": [event]})
    assert refused(response, 400, "INVALID_TIMESTAMP")["errors"][0]["index"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"event_type": ""},
        {"event_type": "x" * 256},
        {"event_type": "a\nb"},
        {"event_type": 5},
        {"event_type": None},
        {"event_type": "x", "data": [1]},
        {"event_type": "x", "data": "text"},
        {"event_type": "x", "metadata": 7},
        {"event_type": "x", "event_id": ""},
        {"event_type": "x", "event_id": "x" * 129},
        {},
    ],
)
def test_a_wrong_event_is_refused(client: httpx.Client, stream: str, wrong: dict[str, Any]) -> None:
    """On both routes; nothing is stored, not even the stream."""
    refused(ingest(client, stream, **wrong), 400, "INVALID_EVENT")
    response = client.post("/v2/ingest/batch", json={"stream_id": stream, "events": [wrong]})
    assert refused(response, 400, "INVALID_EVENT")["errors"][0]["index"] == 0

    refused(client.get(f"/v2/streams/{stream}"), 404, "INVALID_STREAM_ID")


@pytest.mark.parametrize("wrong", ["", "x" * 256, "a\x00b", "tab\there"])
def test_a_wrong_stream_id_is_refused(client: httpx.Client, wrong: str) -> None:
    """1 to 255 characters, no control characters."""
    assert ingest(client, wrong, event_type="x").status_code == 400
    assert (
        client.post("/v2/ingest/batch", json={"stream_id": wrong, "events": [{"event_type": "x"}]}).status_code == 400
    )


def test_a_batch_with_one_wrong_event_stores_nothing(client: httpx.Client, stream: str) -> None:
    """All or nothing: the error has the index of every wrong one."""
    events = [{"event_type": "good"}, {"event_type": ""}, {"event_type": "good"}, {"event_type": "x", "data": 1}]
    response = client.post("/v2/ingest/batch", json={"stream_id": stream, "events": events})
    details = refused(response, 400, "INVALID_EVENT")

    assert [error["index"] for error in details["errors"]] == [1, 3]
    assert all(error["code"] == "INVALID_EVENT" and error["message"] for error in details["errors"])
    refused(client.get(f"/v2/streams/{stream}"), 404, "INVALID_STREAM_ID")


def test_no_more_than_a_hundred_errors_are_told(client: httpx.Client, stream: str) -> None:
    """But all are counted."""
    response = client.post("/v2/ingest/batch", json={"stream_id": stream, "events": [{"event_type": ""}] * 150})
    details = refused(response, 400, "INVALID_EVENT")

    assert len(details["errors"]) == 100
    assert details["rejected"] == 150


def test_partial_stores_the_good_events(client: httpx.Client, stream: str) -> None:
    """And says which are not."""
    events = [{"event_type": "a"}, {"event_type": ""}, {"event_type": "b"}, {"event_type": "c", "timestamp": "x"}]
    answer = send(client, stream, *events, partial="true")

    assert (answer["accepted"], answer["rejected"]) == (2, 2)
    assert [(error["index"], error["code"]) for error in answer["errors"]] == [
        (1, "INVALID_EVENT"),
        (3, "INVALID_TIMESTAMP"),
    ]
    assert [event["event_type"] for event in found(client, stream)] == ["a", "b"]


def test_a_partial_batch_without_a_good_event_stores_none(client: httpx.Client, stream: str) -> None:
    """It is still answered as asked: with the errors."""
    answer = send(client, stream, {"event_type": ""}, partial="true")

    assert (answer["accepted"], answer["rejected"]) == (0, 1)
    assert answer["first_event_id"] is None


def test_an_empty_batch_is_refused(client: httpx.Client, stream: str) -> None:
    """Nobody means to send nothing."""
    response = client.post("/v2/ingest/batch", json={"stream_id": stream, "events": []})

    assert response.status_code == 400
    assert client.post("/v2/ingest/batch", content=b"", headers=NDJSON).status_code == 400


def test_ids_are_told_when_asked_for(client: httpx.Client, stream: str) -> None:
    """One an event, in order, repeats included."""
    events = [{"event_type": "x", "event_id": name} for name in ("a", "b", "a")]
    answer = send(client, stream, *events, ids="true")

    assert len(answer["event_ids"]) == 3
    assert answer["event_ids"][0] == answer["event_ids"][2] == answer["first_event_id"]
    assert answer["event_ids"][1] == answer["last_event_id"]
    assert (answer["accepted"], answer["duplicates"]) == (2, 1)


def test_a_repeated_event_id_is_stored_once(client: httpx.Client, stream: str) -> None:
    """The repeat has the first one's id and says so; another stream has ids of its own."""
    first = ingest(client, stream, event_type="x", event_id="order-1").json()
    second = ingest(client, stream, event_type="y", event_id="order-1").json()
    elsewhere = ingest(client, f"{stream}-other", event_type="x", event_id="order-1").json()

    assert "duplicate" not in first
    assert second["duplicate"] is True
    assert second["event_id"] == first["event_id"]
    assert elsewhere["event_id"] != first["event_id"]
    assert [event["event_type"] for event in found(client, stream)] == ["x"]


def test_a_repeat_is_recognised_after_a_restart(tmp_path: Path) -> None:
    """The window is kept on disk."""
    with serving(tmp_path / "data") as server, server.client() as client:
        first = ingest(client, "kept", event_type="x", event_id="order-1").json()
        assert server.stop() == 0
    with serving(tmp_path / "data") as server, server.client() as client:
        assert ingest(client, "kept", event_type="x", event_id="order-1").json() == {
            **first,
            "processing_time_ms": pytest.approx(0, abs=10_000),
            "duplicate": True,
        }


def test_a_stream_without_a_window_takes_everything(client: httpx.Client, stream: str) -> None:
    """`dedupe_window_s` 0 turns deduplication off."""
    client.post("/v2/streams", json={"stream_id": stream, "dedupe_window_s": 0})
    for _ in range(2):
        ingest(client, stream, event_type="x", event_id="same")

    assert len(found(client, stream)) == 2


@pytest.mark.parametrize("route", ["/v2/ingest/events", "/v2/ingest/batch"])
@pytest.mark.parametrize("spelling", ['"{}"', "{}"])
def test_an_idempotency_key_makes_a_repeat_harmless(
    client: httpx.Client, stream: str, route: str, spelling: str
) -> None:
    """The answer comes again, marked as replayed; quoted or bare, the key is the same."""
    event = {"event_type": "x"}
    body = {"stream_id": stream, **event} if route.endswith("events") else {"stream_id": stream, "events": [event]}
    first = client.post(route, json=body, headers={"Idempotency-Key": f'"{stream}"'})
    again = client.post(route, json=body, headers={"Idempotency-Key": spelling.format(stream)})

    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert {**again.json(), "processing_time_ms": 0} == {**first.json(), "processing_time_ms": 0}
    assert len(found(client, stream)) == 1


def test_an_idempotency_key_with_another_body_is_refused(client: httpx.Client, stream: str) -> None:
    """422, and nothing is stored."""
    headers = {"Idempotency-Key": stream}
    client.post("/v2/ingest/events", json={"stream_id": stream, "event_type": "x"}, headers=headers)
    response = client.post("/v2/ingest/events", json={"stream_id": stream, "event_type": "y"}, headers=headers)

    refused(response, 422, "IDEMPOTENCY_MISMATCH")
    assert len(found(client, stream)) == 1


def test_an_idempotency_key_with_another_stream_is_refused(client: httpx.Client, stream: str) -> None:
    """The same body for another `stream_id` is another request: nothing is called accepted that is not stored."""
    headers = {"Idempotency-Key": stream}
    url = f"/v2/ingest/events?stream_id={stream}"
    client.post(url, json={"event_type": "x"}, headers=headers)
    response = client.post(f"{url}-2", json={"event_type": "x"}, headers=headers)

    refused(response, 422, "IDEMPOTENCY_MISMATCH")
    assert client.post(url, json={"event_type": "x"}, headers=headers).headers["idempotent-replayed"] == "true"


def test_an_idempotency_key_counts_per_credential_and_route(client: httpx.Client, stream: str) -> None:
    """The same key on the other route is another key, even with the same body."""
    headers = {"Idempotency-Key": stream}
    client.post("/v2/ingest/events", json={"stream_id": stream, "event_type": "x"}, headers=headers)
    response = client.post(
        "/v2/ingest/batch", json={"stream_id": stream, "events": [{"event_type": "x"}]}, headers=headers
    )

    assert response.status_code == 200
    assert len(found(client, stream)) == 2

    lines = {"Idempotency-Key": f"{stream}-lines", "Content-Type": "application/x-ndjson"}
    for route in ("events", "batch"):
        url = f"/v2/ingest/{route}?stream_id={stream}"
        assert "idempotent-replayed" not in client.post(url, content=b'{"event_type":"y"}', headers=lines).headers
    assert len(found(client, stream)) == 4


def test_an_idempotency_key_of_a_deleted_stream_is_no_promise(client: httpx.Client, stream: str) -> None:
    """A stream that was made anew is another: its events are not called accepted because of the old one's."""
    headers = {"Idempotency-Key": stream}
    body = {"stream_id": stream, "event_type": "x"}
    client.post("/v2/ingest/events", json=body, headers=headers)
    client.delete(f"/v2/streams/{stream}?confirm={stream}")

    refused(client.post("/v2/ingest/events", json=body, headers=headers), 422, "IDEMPOTENCY_MISMATCH")


def test_one_of_many_equal_requests_at_once_is_done(client: httpx.Client, stream: str) -> None:
    """The others are told to wait (409), or get its answer."""
    answers: list[httpx.Response] = []
    body = {"stream_id": stream, "events": [{"event_type": "x", "data": {"text": "x" * 1_000}}] * 2_000}
    content = json.dumps(body).encode()
    headers = {"Idempotency-Key": stream, "Content-Type": "application/json"}

    def request() -> None:
        answers.append(client.post("/v2/ingest/batch", content=content, headers=headers))

    threads = [threading.Thread(target=request) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for answer in answers:
        if answer.status_code != 200:
            refused(answer, 409, "IDEMPOTENCY_IN_PROGRESS")
    done = [answer for answer in answers if answer.status_code == 200]
    assert len([answer for answer in done if "idempotent-replayed" not in answer.headers]) == 1
    assert client.get(f"/v2/query/events?stream_id={stream}&limit=1").json()["total_count"] == 2_000


@pytest.mark.parametrize("key", ["", '""', "x" * 256])
def test_an_unfit_idempotency_key_is_refused(client: httpx.Client, stream: str, key: str) -> None:
    """1 to 255 characters."""
    response = client.post(
        "/v2/ingest/events", json={"stream_id": stream, "event_type": "x"}, headers={"Idempotency-Key": key}
    )

    refused(response, 400, "INVALID_REQUEST")


@pytest.mark.parametrize("route", ["/v2/ingest/events", "/v2/ingest/batch"])
def test_ndjson_is_a_batch(client: httpx.Client, stream: str, route: str) -> None:
    """One event a line; the stream is a field of the lines or a parameter."""
    named = b"".join(json.dumps({"stream_id": stream, "event_type": name}).encode() + b"\n" for name in "ab")
    unnamed = b'{"event_type":"c"}\n{"event_type":"d"}'

    assert client.post(route, content=named, headers=NDJSON).json()["accepted"] == 2
    assert client.post(f"{route}?stream_id={stream}", content=unnamed, headers=NDJSON).json()["accepted"] == 2
    assert [event["event_type"] for event in found(client, stream)] == ["a", "b", "c", "d"]


def test_ndjson_tells_the_line(client: httpx.Client, stream: str) -> None:
    """A line that is no JSON is an event that is wrong, and `partial` stores the others."""
    lines = b'{"event_type":"a"}\n{"event_type":\n{"event_type":"b"}\n'
    url = f"/v2/ingest/batch?stream_id={stream}"

    response = client.post(url, content=lines, headers=NDJSON)
    assert [error["index"] for error in response.json()["error"]["details"]["errors"]] == [1]
    assert client.post(f"{url}&partial=true", content=lines, headers=NDJSON).json()["accepted"] == 2


def test_ndjson_without_a_stream_is_refused(client: httpx.Client) -> None:
    """Neither a parameter nor a field."""
    assert client.post("/v2/ingest/batch", content=b'{"event_type":"a"}\n', headers=NDJSON).status_code == 400


def test_numbers_and_text_come_back_as_they_went(client: httpx.Client, stream: str) -> None:
    """Data is kept as bytes: no number is rounded, no key reordered, no escape rewritten."""
    data = '{"z":1e3,"a":123456789012345678901234567890,"n":1.10,"text":"\\u00e9\\ud83d\\ude00","b":"ü"}'
    body = f'{{"stream_id":"{stream}","event_type":"x","data":{data}}}'
    response = client.post("/v2/ingest/events", content=body.encode(), headers={"Content-Type": "application/json"})

    assert response.status_code == 200
    assert f'"data":{data}' in client.get(f"/v2/query/events?stream_id={stream}").text


def test_bytes_that_are_no_text_are_refused(client: httpx.Client, stream: str) -> None:
    """Also inside data, where nobody looks."""
    body = b'{"stream_id":"%b","event_type":"x","data":{"a":"\xff"}}' % stream.encode()
    for content in (body, body[:-1]):
        response = client.post("/v2/ingest/events", content=content, headers={"Content-Type": "application/json"})
        refused(response, 400, "INVALID_JSON")


def test_an_unknown_content_type_is_refused(client: httpx.Client, stream: str) -> None:
    """415 names those that work; none at all is unknown, too."""
    for headers in ({"Content-Type": "text/csv"}, {}):
        response = client.post("/v2/ingest/batch", content=b"a,b", headers=headers)
        assert "application/x-ndjson" in refused(response, 415, "UNSUPPORTED_MEDIA_TYPE")["accepted"]


def test_a_paused_stream_still_takes_events(client: httpx.Client, stream: str) -> None:
    """What hangs on it waits; the events do not."""
    client.post("/v2/streams", json={"stream_id": stream, "paused": True})
    ingest(client, stream, event_type="x")

    assert len(found(client, stream)) == 1


def test_first_events_at_once_make_one_stream(client: httpx.Client, stream: str) -> None:
    """A race for a new stream has no loser."""
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ingest(client, stream, event_type="x").status_code))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [200] * 16
    assert len(found(client, stream)) == 16
