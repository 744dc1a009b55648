"""What StreamSource's door tells of people, of the archive and of the log: to readers, and to who is nobody at all."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serving import Server, serving
from streamsource import Person, bearer, error_of, fresh, got
from waiting import PATIENCE_S
from windows import EVENTS, SHEET, a_window, cell

SHOWN = {"user.email", "posted_by"}
"""Where the contract has emails: a stream's owner, and who posted something, which is his email unless he says else."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("discreet") / "data", signup_roles=True, public_feed="yes") as running:
        yield running


@pytest.fixture(scope="module")
def number(ada: Person) -> int:
    """A stream of hers with all that can hang on one."""
    made: int = ada.listing(title="A stream", city="Austin", notes="Seen", link="https://www.twitch.tv/ada")["id"]
    moment = {"title": "A moment", "event_timestamp": "2025-01-05T10:00:00Z", "streams": [{"stream_id": made}]}
    got(ada.api.post("/timestamps", json=moment), 201)
    return made


def emails_in(value: Any, at: str = "") -> set[str]:
    """The names under which there are emails, with the name of what they are in; lists count for nothing."""
    if isinstance(value, dict):
        return set().union(*(emails_in(one, f"{at.rpartition('.')[2]}.{name}") for name, one in value.items()))
    if isinstance(value, list):
        return set().union(*(emails_in(one, at) for one in value))
    return {at} if isinstance(value, str) and "@example.com" in value else set()


def names(found: set[str]) -> set[str]:
    """`user.email` is told from any other; else the last name is enough."""
    return {name if name == "user.email" else name.rpartition(".")[2] for name in found}


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/streams", SHOWN),
        ("/streams/{}", SHOWN),
        ("/streams/export", {"posted_by", "owner_email"}),
        ("/streams/{}/analytics", set()),
        ("/streamers", {"posted_by"}),
        ("/streamers/1", {"posted_by"}),
        ("/timestamps", {"user.email"}),
        ("/timestamps/1", {"user.email"}),
        ("/locations", set()),
        ("/locations/all", set()),
        ("/locations/1", set()),
        ("/features", set()),
        ("/features/stream_tags", set()),
        ("/feed", set()),
    ],
)
def test_a_reader_sees_emails_where_the_contract_has_them(
    reader: Person, number: int, path: str, shown: set[str]
) -> None:
    """And nowhere else."""
    answer = got(reader.api.get(path.format(number)))

    assert answer
    assert names(emails_in(answer)) == shown


def test_nobody_at_all_reads_the_public_feed_and_nothing_of_people(server: Server, ada: Person, number: int) -> None:
    """What is in an entry is a list that does not grow by itself."""
    feed = got(httpx.get(f"{server.url}/api/v1/feed", timeout=PATIENCE_S))
    entry = next(one for one in feed if one["id"] == number)

    assert entry.keys() == {
        *("id", "link", "kind", "source", "status", "is_pinned", "label", "platform", "city", "notes"),
    }
    assert emails_in(feed) == set()
    assert ada.email.partition("@")[0] not in json.dumps(feed)
    for path in ("streams", "streams/export", "streamers", "timestamps", "locations/all", "features", "users"):
        error_of(httpx.get(f"{server.url}/api/v1/{path}", timeout=PATIENCE_S), 401)


def test_the_sheet_tells_names_without_their_addresses(reader: Person, ada: Person, admin: Person, number: int) -> None:
    """The part before the `@`; and the other channel tells of a stream what the API does."""
    with a_window(reader, SHEET, EVENTS) as watching, a_window(ada) as window:
        heard: list[dict[str, Any]] = []
        window.act("lock_cell", cell_id=cell(number))
        window.act("update_cell", cell_id=cell(number), stream_id=number, field="title", value=fresh("title"))
        window.next("cell_updated", field="title")
        ada.api.patch(f"/streams/{number}", json={"streamer_id": 1, "posted_by": admin.email})
        while not heard or heard[-1]["message"].get("stream", {}).get("posted_by") != admin.email:
            heard.append(watching.hear())
    on_sheet = [frame["message"] for frame in heard if frame["identifier"] == SHEET]
    of_streams = [frame["message"] for frame in heard if frame["identifier"] == EVENTS]

    assert {message["action"] for message in on_sheet} >= {"cell_locked", "cell_updated", "active_users_list"}
    assert emails_in(on_sheet) == set()
    assert names(emails_in(of_streams)) == SHOWN
    assert not [message for message in of_streams if {"tags", "analytics_url"} & message["stream"].keys()]


def test_readers_learn_of_no_gate_and_no_account(reader: Person, ada: Person, number: int) -> None:
    """Whether a feature is on for oneself, and how many opened a link; not for whom, nor who."""
    for one in got(reader.api.get("/features"))["features"]:
        assert one.keys() == {"name", "enabled"}
    reader.api.get(f"/streams/{number}/open")
    figures = got(ada.api.get(f"/streams/{number}/analytics"))
    assert all(not isinstance(value, list | dict) for value in figures.values())
    shown = got(reader.api.get(f"/streams/{number}"))["user"]
    assert shown.keys() == {"id", "email", "role", "created_at", "updated_at"}


def test_the_archive_is_in_no_list_of_a_readers(reader: Person, ada: Person, admin: Person, server: Server) -> None:
    """However he asks: not among them, and not in their number; by its own number it is found."""
    title, link = fresh("Archived"), f"https://live.example/{fresh('old')}"
    old = ada.listing(title=title, link=link, source=fresh("Grace"))
    got(ada.api.post(f"/streams/{old['id']}/archive"))
    asked: list[dict[str, Any]] = [
        *({"search": title}, {"search": title, "is_archived": "true"}, {"link": link, "archived": "1"}),
        *({"streamer_id": old["streamer_id"]}, {"search": title, "sort": "name"}, {"link": link, "status": "unknown"}),
    ]
    for query in asked:
        for somebody in (reader, ada):
            reply = somebody.api.get("/streams", params=query)
            assert (got(reply)["streams"], reply.headers["x-total-count"]) == ([], "0"), query
            assert got(somebody.api.get("/streams/export", params=query))["count"] == 0, query
        assert got(admin.api.get("/streams", params=query))["meta"]["total_count"] == 1, query
    assert title not in httpx.get(f"{server.url}/api/v1/feed", timeout=PATIENCE_S).text
    assert got(reader.api.get(f"/streams/{old['id']}"))["is_archived"] is True


def test_the_log_of_changes_is_the_operators(server: Server, reader: Person, ada: Person, number: int) -> None:
    """It tells who did what; behind every door."""
    with server.client() as operator:
        assert operator.get("/v2/query/events", params={"stream_id": "mainstem.listings"}).json()["events"]
    for somebody in (reader, ada):
        headers = bearer(somebody.token) | {"Accept": "application/json, text/event-stream"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=PATIENCE_S) as client:
            assert "mainstem.listings" not in client.get("/v2/streams").text
            for path in (
                *("query/events?stream_id=mainstem.listings", "export/events?stream_id=mainstem.listings"),
                *("streams/mainstem.listings", "streams/mainstem.listings/events"),
            ):
                assert client.get(f"/v2/{path}").status_code in (403, 404), path
