"""Timestamps behind StreamSource's door: moments, and where in which streams they are to be seen."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serving import Server, serving
from streamsource import FORBIDDEN, Person, error_of, fresh, got

MOMENT = "2025-07-05T10:00:00.250Z"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which people choose their roles."""
    with serving(tmp_path_factory.mktemp("timestamps") / "data", signup_roles="yes") as running:
        yield running


def noted(who: Person, **fields: Any) -> dict[str, Any]:
    body = {"title": "Fire", "event_timestamp": MOMENT, **fields}
    made: dict[str, Any] = got(who.api.post("/timestamps", json={"timestamp": body}), 201)
    return made


def test_a_moment_is_told_in_full(ada: Person) -> None:
    """Bare and under its name, with the streams that show it."""
    stream = ada.listing(title="Downtown")["id"]
    made = noted(ada, title=" Fire ", description="At the mill", streams=[{"stream_id": stream, "seconds": 3_723}])
    nested = made.pop("timestamp")

    assert nested == made
    assert (made["title"], made["description"], made["event_timestamp"]) == ("Fire", "At the mill", MOMENT)
    assert made["user"]["id"] == ada.id
    assert made["streams"] == [
        {
            "stream_id": stream,
            "stream_timestamp_seconds": 3_723,
            "stream_timestamp_display": "1:02:03",
            "source": "Ada",
            "title": "Downtown",
            "added_by_user_id": ada.id,
        }
    ]
    assert got(ada.api.get(f"/timestamps/{made['id']}"))["timestamp"] == made


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "Unknown"), (0, "0:00"), (9, "0:09"), (125, "2:05"), (3_599, "59:59"), (3_600, "1:00:00"), ("90", "1:30")],
)
def test_seconds_are_shown_as_players_show_them(ada: Person, seconds: object, shown: str) -> None:
    made = noted(ada, streams=[{"stream_id": ada.listing()["id"], "seconds": seconds}])

    assert made["streams"][0]["stream_timestamp_display"] == shown


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2025-07-05T12:00:00+02:00", "2025-07-05T10:00:00.000Z"),
        ("2025-07-05 10:00:00 UTC", "2025-07-05T10:00:00.000Z"),
        ("2025-07-05", "2025-07-05T00:00:00.000Z"),
        (1_751_709_600, "2025-07-05T10:00:00.000Z"),
        (1_751_709_600_250, "2025-07-05T10:00:00.250Z"),
    ],
)
def test_times_are_read_as_clients_write_them(ada: Person, given: object, kept: str) -> None:
    assert noted(ada, event_timestamp=given)["event_timestamp"] == kept


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"title": None, "event_timestamp": None},
            "Title can't be blank, Title is too short (minimum is 3 characters), Event timestamp can't be blank",
        ),
        ({"title": "ab"}, "Title is too short (minimum is 3 characters)"),
        ({"title": "a" * 201}, "Title is too long (maximum is 200 characters)"),
        ({"description": "a" * 2_001}, "Description is too long (maximum is 2000 characters)"),
        ({"event_timestamp": "soon"}, "Event timestamp is not a time"),
        ({"event_timestamp": 1e300}, "Event timestamp is not a time"),
        ({"streams": [{"stream_id": 99_999}]}, "Stream must exist"),
        ({"streams": ["x"]}, "Stream must exist"),
    ],
)
def test_all_that_is_wrong_is_told(ada: Person, fields: dict[str, Any], said: str) -> None:
    """And nothing is made."""
    word = fresh("word")
    body = {"title": "Fire", "description": word, "event_timestamp": MOMENT, **fields}

    assert error_of(ada.api.post("/timestamps", json={"timestamp": body}), 422) == said
    assert got(ada.api.get("/timestamps", params={"search": word}))["timestamps"] == []


@pytest.mark.parametrize("seconds", [-1, "x", 1.5])
def test_a_stream_begins_at_nought(ada: Person, seconds: object) -> None:
    made = noted(ada)
    body = {"stream_id": ada.listing()["id"], "seconds": seconds}
    said = error_of(ada.api.post(f"/timestamps/{made['id']}/streams", json=body), 422)

    assert said.startswith("Stream timestamp seconds ")


def test_streams_are_linked_and_unlinked(ada: Person) -> None:
    """Each once."""
    stream, made = ada.listing()["id"], noted(ada)
    path = f"/timestamps/{made['id']}/streams"
    linked = got(ada.api.post(path, json={"stream_id": stream, "timestamp_seconds": 5}), 201)

    assert linked["streams"][0]["stream_timestamp_seconds"] == 5
    assert error_of(ada.api.post(path, json={"stream_id": stream}), 422) == "Stream has already been taken"
    assert got(ada.api.delete(f"{path}/{stream}"))["streams"] == []
    assert error_of(ada.api.delete(f"{path}/{stream}"), 404) == "Record not found"
    twice = [{"stream_id": stream}, {"stream_id": stream}]
    refusal = ada.api.patch(f"/timestamps/{made['id']}", json={"streams": twice})
    assert error_of(refusal, 422) == "Stream has already been taken"


def test_a_stream_that_goes_takes_its_links_along(ada: Person) -> None:
    """The moment stays."""
    stream = ada.listing()["id"]
    made = noted(ada, streams=[{"stream_id": stream}])

    assert ada.api.delete(f"/streams/{stream}").status_code == 204
    assert got(ada.api.get(f"/timestamps/{made['id']}"))["streams"] == []


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_moment_is_changed_in_part(ada: Person, method: str) -> None:
    """The list of streams as a whole, where it is given."""
    first, second = ada.listing()["id"], ada.listing()["id"]
    made = noted(ada, description="At the mill", streams=[{"stream_id": first}])
    path = f"/timestamps/{made['id']}"
    changed = got(ada.api.request(method, path, json={"title": "Flood"}))
    assert (changed["title"], changed["description"], len(changed["streams"])) == ("Flood", "At the mill", 1)

    moved = got(ada.api.request(method, path, json={"timestamp": {"streams": [{"stream_id": second}]}}))
    assert [link["stream_id"] for link in moved["streams"]] == [second]
    assert got(ada.api.request(method, path))["title"] == "Flood"


def test_everybody_reads_and_whoever_wrote_it_changes_it(
    ada: Person, bob: Person, reader: Person, operator: httpx.Client
) -> None:
    """Administrators change everything."""
    made = noted(ada)
    path = f"/timestamps/{made['id']}"
    for who in (bob, reader):
        got(who.api.get(path))
        for method, of in (("PATCH", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/streams"), ("DELETE", "/streams/1")):
            assert error_of(who.api.request(method, path + of), 403) == FORBIDDEN, (method, of)
        assert error_of(who.api.patch("/timestamps/99999"), 404) == "Record not found"
    assert error_of(reader.api.post("/timestamps", json={}), 403) == FORBIDDEN
    assert got(operator.patch(path, json={"title": "Flood"}))["user"]["id"] == ada.id
    assert operator.delete(path).status_code == 204
    assert error_of(ada.api.get(path), 404) == "Record not found"


def test_lists_are_filtered_and_paged(ada: Person) -> None:
    """The latest first; a day counts from its first moment to its last."""
    word, stream = fresh("word"), ada.listing()["id"]
    for time in (
        "2025-01-04T23:59:59.999Z",
        "2025-01-05T00:00:00Z",
        "2025-01-05T23:59:59.999Z",
        "2025-01-06T00:00:00Z",
    ):
        noted(ada, title=f"{word} of {time}", event_timestamp=time)
    noted(ada, description=f"also {word}", event_timestamp="2025-02-01", streams=[{"stream_id": stream}])

    def listed(**params: object) -> list[str]:
        answer = got(ada.api.get("/timestamps", params={"search": word.upper(), **params}))  # type: ignore[dict-item]
        return [one["event_timestamp"] for one in answer["timestamps"]]

    assert listed(start_date="2025-01-05", end_date="2025-01-05") == [
        "2025-01-05T23:59:59.999Z",
        "2025-01-05T00:00:00.000Z",
    ]
    assert listed(end_date="2025-01-05T00:00:00Z") == ["2025-01-05T00:00:00.000Z", "2025-01-04T23:59:59.999Z"]
    assert listed(stream_id=stream) == ["2025-02-01T00:00:00.000Z"]
    assert listed(start_date="whenever", per_page=1, page=5) == ["2025-01-04T23:59:59.999Z"]
    page = ada.api.get("/timestamps", params={"search": word, "per_page": 2})
    assert page.json()["meta"] == {"current_page": 1, "total_pages": 3, "total_count": 5, "per_page": 2}
    assert page.headers["x-total-count"] == "5"
