"""DataStream's streams: made, seen, changed, deleted, and how they are doing."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from serving import found, refused, send, serving

STREAM_MEMBERS = {
    "stream_id",
    "description",
    "schema",
    "retention_days",
    "retention_bytes",
    "dedupe_window_s",
    "paused",
    "created_at",
}
SCHEMA = {"type": "object", "properties": {"amount": {"type": "number"}}}


def create(client: httpx.Client, stream: str, **settings: Any) -> dict[str, Any]:
    response = client.post("/v2/streams", json={"stream_id": stream, **settings})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def test_a_new_stream_has_defaults(client: httpx.Client, stream: str) -> None:
    """Ninety days and a day of deduplication; the whole object comes back, and again when asked for."""
    made = create(client, stream)

    assert made.keys() == STREAM_MEMBERS
    assert {**made, "created_at": ""} == {
        "stream_id": stream,
        "description": "",
        "schema": None,
        "retention_days": 90,
        "retention_bytes": None,
        "dedupe_window_s": 86_400,
        "paused": False,
        "created_at": "",
    }
    assert client.get(f"/v2/streams/{stream}").json() == made


def test_a_stream_is_made_as_asked(client: httpx.Client, stream: str) -> None:
    """`retention_days` null keeps everything."""
    wanted = {
        "description": "What people buy",
        "schema": SCHEMA,
        "retention_days": None,
        "retention_bytes": 10_000_000,
        "dedupe_window_s": 0,
        "paused": True,
    }
    made = create(client, stream, **wanted)

    assert {name: made[name] for name in wanted} == wanted


def test_a_stream_exists_once(client: httpx.Client, stream: str) -> None:
    """409, and the first one stays as it is."""
    create(client, stream, description="first")

    assert refused(client.post("/v2/streams", json={"stream_id": stream}), 409, "CONFLICT") == {"stream_id": stream}
    assert client.get(f"/v2/streams/{stream}").json()["description"] == "first"


@pytest.mark.parametrize(
    "wrong",
    [
        {"stream_id": ""},
        {"stream_id": "x" * 256},
        {"stream_id": "a\nb"},
        {"retention_days": 0},
        {"retention_days": 1.5},
        {"retention_bytes": 1_000},
        {"dedupe_window_s": -1},
        {"dedupe_window_s": 604_801},
        {"description": "x" * 2_001},
        {"schema": "text"},
        {"paused": "yes"},
        {"created_at": "2024-03-15T10:30:00Z"},
    ],
)
def test_a_wrong_setting_is_refused(client: httpx.Client, stream: str, wrong: dict[str, Any]) -> None:
    """By its name; nothing is made or changed."""
    [name] = wrong
    assert (
        refused(client.post("/v2/streams", json={"stream_id": stream, **wrong}), 400, "INVALID_REQUEST")["field"]
        == name
    )
    refused(client.get(f"/v2/streams/{stream}"), 404, "INVALID_STREAM_ID")

    create(client, stream)
    if name != "stream_id":
        assert refused(client.patch(f"/v2/streams/{stream}", json=wrong), 400, "INVALID_REQUEST")["field"] == name


def test_only_what_is_named_changes(client: httpx.Client, stream: str) -> None:
    """PATCH answers with the whole object; null means null where null is a value."""
    made = create(client, stream, description="old", schema=SCHEMA)
    changed = client.patch(f"/v2/streams/{stream}", json={"retention_days": None, "schema": None}).json()

    assert changed == {**made, "retention_days": None, "schema": None}
    assert client.get(f"/v2/streams/{stream}").json() == changed
    assert client.patch(f"/v2/streams/{stream}", json={}).json() == changed


def test_a_stream_is_deleted_only_when_confirmed(client: httpx.Client, stream: str) -> None:
    """Its events go with it, and a new one of that name begins empty."""
    send(client, stream, {"event_type": "x"})

    for wrong in ("", "?confirm=", "?confirm=yes"):
        refused(client.delete(f"/v2/streams/{stream}{wrong}"), 400, "INVALID_REQUEST")
    gone = client.delete(f"/v2/streams/{stream}?confirm={stream}")
    assert (gone.status_code, gone.content) == (204, b"")
    refused(client.get(f"/v2/streams/{stream}"), 404, "INVALID_STREAM_ID")
    refused(client.get(f"/v2/query/events?stream_id={stream}"), 404, "INVALID_STREAM_ID")
    create(client, stream)
    assert found(client, stream) == []


@pytest.mark.parametrize("name", ["a/b", "100%", "ü ñ", "?q=1&r", "..", "a+b", "%2F", "{x}", '"', "emoji 🙂", "#"])
def test_any_name_works_in_a_path(client: httpx.Client, stream: str, name: str) -> None:
    """Percent-encoded, slashes included, on every route that has it."""
    name = f"{stream}{name}"
    path = f"/v2/streams/{quote(name, safe='')}"
    create(client, name)
    send(client, name, {"event_type": "x"})

    assert client.get(path).json()["stream_id"] == name
    assert client.get(f"{path}/status").json()["events_processed"] == 1
    assert client.patch(path, json={"description": "seen"}).json()["description"] == "seen"
    assert client.delete(path, params={"confirm": name}).status_code == 204


def test_a_name_that_is_no_text_is_refused(client: httpx.Client) -> None:
    """Percent-encoded bytes that are no UTF-8 are no name."""
    refused(client.get("/v2/streams/%ff"), 400, "INVALID_REQUEST")


def test_streams_are_listed_by_name_page_by_page(tmp_path: Path) -> None:
    """The cursor goes on exactly where the page ended."""
    names = ["a", "b", "c/d", "e", "ü"]
    with serving(tmp_path / "data") as server, server.client() as client:
        for name in reversed(names):
            create(client, name)
        pages: list[list[str]] = []
        cursor: str | None = ""
        while cursor is not None:
            page = client.get("/v2/streams", params={"limit": "2", **({"cursor": cursor} if cursor else {})}).json()
            pages.append([one["stream_id"] for one in page["streams"]])
            cursor = page["next_cursor"]

        assert pages == [names[:2], names[2:4], names[4:]]
        refused(client.get("/v2/streams?cursor=*"), 400, "INVALID_REQUEST")


def test_a_streams_status_counts(client: httpx.Client, stream: str) -> None:
    """With exactly the members that the API documents."""
    send(client, stream, *[{"event_type": "x", "timestamp": "2024-03-15T14:25:33Z"}] * 60)
    status = client.get(f"/v2/streams/{stream}/status").json()

    assert status == {
        "stream_id": stream,
        "status": "active",
        "events_processed": 60,
        "processing_rate": pytest.approx(1.0, abs=0.1),
        "last_event_timestamp": "2024-03-15T14:25:33Z",
        "lag_seconds": 0.0,
    }


def test_a_status_is_idle_or_paused(client: httpx.Client, stream: str) -> None:
    """Idle until there are events; paused when it is."""
    create(client, stream)
    idle = client.get(f"/v2/streams/{stream}/status").json()
    client.patch(f"/v2/streams/{stream}", json={"paused": True})
    send(client, stream, {"event_type": "x"})

    assert (idle["status"], idle["events_processed"], idle["last_event_timestamp"]) == ("idle", 0, None)
    assert client.get(f"/v2/streams/{stream}/status").json()["status"] == "paused"


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_an_unknown_stream_is_not_found(client: httpx.Client, method: str) -> None:
    """In the words of the API."""
    response = client.request(
        method,
        "/v2/streams/invalid_stream_123",
        params={"confirm": "invalid_stream_123"} if method == "DELETE" else {},
        json={} if method == "PATCH" else None,
    )

    refused(response, 404, "INVALID_STREAM_ID")
    assert response.json() == {
        "error": {
            "code": "INVALID_STREAM_ID",
            "message": "The specified stream ID does not exist",
            "details": {"stream_id": "invalid_stream_123"},
        }
    }


def test_streams_and_their_settings_outlive_a_restart(tmp_path: Path) -> None:
    """As do the counts."""
    with serving(tmp_path / "data") as server, server.client() as client:
        made = create(client, "kept", retention_days=None, description="kept")
        send(client, "kept", {"event_type": "x"})
        assert server.stop() == 0
    with serving(tmp_path / "data") as server, server.client() as client:
        assert client.get("/v2/streams/kept").json() == made
        assert client.get("/v2/streams/kept/status").json()["events_processed"] == 1
