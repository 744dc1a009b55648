"""Figures of streams, and the feed: what is counted, who may see it, and what polling costs."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from serving import Server, serving
from streamsource import Person, fresh, person
from waiting import PATIENCE_S


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One where people choose their roles themselves."""
    with serving(tmp_path_factory.mktemp("figures") / "data", signup_roles=True) as running:
        yield running


def row(owner: Person, **fields: Any) -> int:
    """The number of a new stream."""
    number: int = owner.listing(**{"link": f"https://live.example/{fresh('row')}", **fields})["id"]
    return number


def figures(asker: Person, number: int, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The figures as soon as they fit: the log has what was done within a moment of it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        response = asker.api.get(f"/streams/{number}/analytics")
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        if fits(found) or time.monotonic() > deadline:
            return found


# Figures


def test_clicks_are_counted_by_the_way_to_the_link(ada: Person, reader: Person) -> None:
    """As often as it was opened, and by how many people; a look with HEAD counts for nothing."""
    number = row(ada, link="https://live.example/ü?a=1#b")
    for caller in (ada, reader, reader):
        opened = caller.api.get(f"/streams/{number}/open")
        assert opened.status_code == 302
        assert opened.headers["location"] == "https://live.example/%C3%BC?a=1#b"
    assert ada.api.head(f"/streams/{number}/open").status_code == 302

    found = figures(ada, number, lambda found: found["views_count"] >= 3)
    assert (found["views_count"], found["unique_viewers"]) == (3, 2)


def test_figures_are_zero_where_nothing_happened(ada: Person) -> None:
    """With all the keys that clients know, and never a number that was made up."""
    number = row(ada)
    found = ada.api.get(f"/streams/{number}/analytics").json()
    assert found.pop("last_updated").endswith("Z")
    assert found == {
        "stream_id": number,
        "views_count": 0,
        "unique_viewers": 0,
        "average_watch_time": 0,
        "peak_concurrent_viewers": 0,
        "checks": 0,
        "checks_live": 0,
        "checks_offline": 0,
        "status_changes": 0,
        "broadcasts": 0,
        "live_seconds": 0,
        "duration_seconds": None,
        "availability": None,
    }


def test_changes_of_the_status_are_counted(ada: Person) -> None:
    """And how often it went live; what says the same again is none."""
    number = row(ada, status="live")
    for status in ("live", "offline", "unknown", "live"):
        assert ada.api.patch(f"/streams/{number}", json={"status": status}).status_code == 200

    found = figures(ada, number, lambda found: found["status_changes"] >= 3)
    assert (found["status_changes"], found["broadcasts"]) == (3, 2)
    assert 0 <= found["live_seconds"] <= PATIENCE_S
    assert 0 <= found["duration_seconds"] <= PATIENCE_S


def test_the_feature_is_asked_before_the_stream(admin: Person, ada: Person) -> None:
    """So that nobody learns by it which streams there are; where it is off no stream names the way there."""
    number = row(ada)
    assert ada.api.get(f"/streams/{number}").json()["analytics_url"] == f"/api/v1/streams/{number}/analytics"
    assert ada.api.get("/streams/999999/analytics").status_code == 404
    admin.api.post("/features/stream_analytics/disable")
    try:
        for which in (number, 999_999):
            response = ada.api.get(f"/streams/{which}/analytics")
            assert (response.status_code, response.json()) == (
                403,
                {"error": "This feature is not currently available"},
            )
        assert "analytics_url" not in ada.api.get(f"/streams/{number}").json()
        admin.api.post("/features/stream_analytics/enable", json={"actor": f"User:{ada.id}"})
        assert ada.api.get(f"/streams/{number}/analytics").status_code == 200
    finally:
        admin.api.post("/features/stream_analytics/enable")


@pytest.mark.parametrize("path", ["analytics", "open"])
def test_what_is_not_there_has_no_figures(ada: Person, path: str) -> None:
    """Nor can it be opened."""
    for number in ("999999", "0", "-1", "x", "9" * 30):
        response = ada.api.get(f"/streams/{number}/{path}")
        assert (response.status_code, response.json()) == (404, {"error": "Record not found"})


# The feed


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """An administrator of a server whose feed is open."""
    with (
        serving(tmp_path_factory.mktemp("public") / "data", signup_roles=True, public_feed=True) as running,
        person(running, "admin") as made,
    ):
        yield made


def polled(somebody: Person, **headers: str) -> httpx.Response:
    """What anybody gets of his server."""
    return httpx.get(f"{somebody.api.base_url}feed", headers=headers, timeout=PATIENCE_S)


def test_the_feed_is_closed_unless_the_operator_opens_it(server: Server, reader: Person) -> None:
    """Whoever has a token may poll it all the same."""
    refused = httpx.get(f"{server.url}/api/v1/feed", timeout=PATIENCE_S)
    assert (refused.status_code, refused.json()) == (401, {"error": "Unauthorized"})
    assert isinstance(reader.api.get("/feed").json(), list)


def test_the_feed_is_what_streamwall_reads(public: Person) -> None:
    """A bare array: labels, kinds and orientations in its words, nothing where there is nothing, nobody's email."""
    place = {"city": "Austin", "state_province": "TX", "latitude": 30.25, "longitude": -97.75}
    row(
        public,
        source="Ada",
        link="https://www.tiktok.com/@ada/live",
        status="live",
        kind="stream",
        orientation="portrait",
        title="Main stage",
        city="Austin",
        state="TX",
        notes="left side",
        location=place,
    )
    row(public, source="Bob", link="https://live.example/bob")
    bob, ada = polled(public).json()
    assert {key: value for key, value in ada.items() if key != "id"} == {
        "link": "https://www.tiktok.com/@ada/live",
        "kind": "video",
        "source": "Ada",
        "status": "Live",
        "is_pinned": False,
        "label": "Main stage",
        "platform": "TikTok",
        "orientation": "vertical",
        "city": "Austin",
        "state": "TX",
        "latitude": 30.25,
        "longitude": -97.75,
        "notes": "left side",
    }
    assert bob == {
        "id": bob["id"],
        "link": "https://live.example/bob",
        "kind": "video",
        "source": "Bob",
        "status": "Unknown",
        "is_pinned": False,
        "platform": "Other",
    }


def test_a_poll_without_news_is_answered_by_304(public: Person) -> None:
    """Until something changes: then the new edition comes, without what was archived."""
    number = row(public)
    first = polled(public)
    tag = first.headers["etag"]
    again = polled(public, **{"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert polled(public, **{"If-None-Match": f'"other", {tag}'}).status_code == 304

    for change in ({"title": "New"}, {"is_archived": True}):
        public.api.patch(f"/streams/{number}", json=change)
        now = polled(public, **{"If-None-Match": tag})
        assert now.status_code == 200
        tag = now.headers["etag"]
    assert number not in [one["id"] for one in now.json()]
    public.api.delete(f"/streams/{number}")


def test_pinned_streams_lead_the_feed(public: Person) -> None:
    """Then the newest."""
    old, new = row(public), row(public)
    public.api.put(f"/streams/{old}/pin")
    numbers = [one["id"] for one in polled(public).json()]
    assert numbers[0] == old
    assert numbers[1] == new


def test_the_feed_comes_compressed_to_who_likes_that(public: Person) -> None:
    """And is the same for all."""
    for _ in range(12):
        row(public, notes="x" * 200)
    bodies = []
    for encoding in ("gzip", "zstd", "identity"):
        response = polled(public, **{"Accept-Encoding": encoding})
        assert response.headers.get("content-encoding", "identity") == encoding
        bodies.append(response.json())
    assert bodies[0] == bodies[1] == bodies[2]
