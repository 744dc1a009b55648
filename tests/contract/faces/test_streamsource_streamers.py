"""Streamers behind StreamSource's door: who is behind streams."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serving import Server, serving
from streamsource import FORBIDDEN, Person, error_of, fresh, got


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which people choose their roles."""
    with serving(tmp_path_factory.mktemp("streamers") / "data", signup_roles="yes") as running:
        yield running


def streamer(ada: Person, **fields: Any) -> dict[str, Any]:
    body = {"streamer": {"name": fresh("Streamer"), **fields}}
    made: dict[str, Any] = got(ada.api.post("/streamers", json=body), 201)
    return made


def test_a_streamer_is_made_with_his_accounts(ada: Person) -> None:
    made = streamer(ada, accounts_attributes=[{"platform": "tiktok", "username": " Ada.L "}])
    inner = made.pop("streamer")
    assert inner == made
    assert (made["posted_by"], made["notes"], made["streams_count"]) == (ada.email, None, 0)
    (account,) = made["accounts"]
    assert account.pop("id")
    assert account == {
        "platform": "TikTok",
        "username": "ada.l",
        "profile_url": "https://www.tiktok.com/@ada.l",
        "is_active": True,
    }


@pytest.mark.parametrize(
    ("platform", "url"),
    [
        ("Twitch", "https://www.twitch.tv/x"),
        ("Instagram", "https://www.instagram.com/x/"),
        ("YouTube", None),
        ("Facebook", None),
        ("Other", None),
    ],
)
def test_an_account_has_a_page_where_its_name_tells_it(ada: Person, platform: str, url: str | None) -> None:
    made = streamer(ada, accounts_attributes=[{"platform": platform, "username": "X"}])
    assert made["accounts"][0]["profile_url"] == url


def test_an_accounts_page_follows_its_name_unless_somebody_said_which(ada: Person) -> None:
    """A name that no platform gives makes no address."""
    given = {"platform": "Kick", "username": "mine", "profile_url": "https://example.com/me"}
    made = streamer(ada, accounts_attributes=[{"platform": "Twitch", "username": "one"}, given])
    renamed = [{"id": account["id"], "username": "another"} for account in made["accounts"]]
    body = {"accounts_attributes": [*renamed, {"platform": "Twitch", "username": "a/../b"}]}

    accounts = got(ada.api.patch(f"/streamers/{made['id']}", json=body))["accounts"]

    urls = ["https://www.twitch.tv/another", "https://example.com/me", None]
    assert [account["profile_url"] for account in accounts] == urls


def test_accounts_are_changed_and_taken_away(ada: Person) -> None:
    two = [{"platform": "Twitch", "username": "one"}, {"platform": "Kick", "username": "two"}]
    made = streamer(ada, accounts_attributes=two)
    first, second = (account["id"] for account in made["accounts"])
    changes = [{"id": first, "is_active": False}, {"id": second, "_destroy": "1"}]
    body = {"streamer": {"accounts_attributes": changes}}

    (left,) = got(ada.api.patch(f"/streamers/{made['id']}", json=body))["accounts"]

    assert (left["id"], left["is_active"], left["username"]) == (first, False, "one")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": " "}, "Name can't be blank"),
        ({"accounts_attributes": [{"platform": "x", "username": "x"}]}, "Platform is not included in the list"),
        ({"accounts_attributes": [{"platform": "Kick"}]}, "Username can't be blank"),
        (
            {"accounts_attributes": [{"platform": "Kick", "username": "x", "profile_url": "ftp://x"}]},
            "Profile url must be a valid URL starting with http:// or https://",
        ),
        (
            {"accounts_attributes": [{"platform": "Kick", "username": name} for name in ("x", "X")]},
            "Username already exists for this platform",
        ),
        (
            {"accounts_attributes": [{"platform": "Kick", "username": str(number)} for number in range(51)]},
            "A streamer has at most 50 accounts",
        ),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_made(ada: Person, fields: dict[str, Any], message: str) -> None:
    name = fresh("Wrong")
    assert error_of(ada.api.post("/streamers", json={"streamer": {"name": name, **fields}}), 422) == message
    assert got(ada.api.get("/streamers", params={"search": name}))["streamers"] == []


def test_a_name_is_taken_in_any_case(ada: Person) -> None:
    made = streamer(ada)
    body = {"name": f" {made['name'].upper()} "}
    assert error_of(ada.api.post("/streamers", json=body), 422) == "Name has already been taken"
    assert got(ada.api.patch(f"/streamers/{made['id']}", json=body))["name"] == made["name"].upper()


def test_a_stream_finds_or_makes_its_streamer(ada: Person) -> None:
    name = fresh("Behind")
    first = ada.listing(source=name, link=f"https://www.twitch.tv/{name.replace('-', '_')}")
    second = ada.listing(source=name.upper(), link="https://example.org/", is_archived=True)
    assert first["streamer"] == second["streamer"] == {"id": first["streamer_id"], "name": name}

    found = got(ada.api.get(f"/streamers/{first['streamer_id']}"))
    assert (found["streams_count"], found["active_streams_count"]) == (2, 1)
    assert found["accounts"][0]["username"] == name.replace("-", "_").lower()


def test_streamers_are_listed_by_name_and_found_by_part_of_it_or_platform(ada: Person) -> None:
    word = fresh("Listed")
    for name in ("b", "A", "c"):
        streamer(ada, name=f"{word} {name}", accounts_attributes=[{"platform": "Kick", "username": f"{word}{name}"}])

    def names(**parameters: Any) -> list[str]:
        found = got(ada.api.get("/streamers", params={"search": word.lower(), **parameters}))
        return [one["name"] for one in found["streamers"]]

    assert names() == names(platform="kick") == [f"{word} A", f"{word} b", f"{word} c"]
    assert names(per_page=2, page=2) == [f"{word} c"]
    assert names(platform="Twitch") == names(platform="nothing") == names(search="100%") == []


def test_only_administrators_delete_streamers_and_their_streams_with_them(ada: Person, operator: httpx.Client) -> None:
    made = ada.listing(source=fresh("Gone"))
    path = f"/streamers/{made['streamer_id']}"
    assert error_of(ada.api.delete(path), 403) == FORBIDDEN
    assert operator.delete(path).status_code == 204
    assert error_of(ada.api.get(path), 404) == error_of(ada.api.get(f"/streams/{made['id']}"), 404)


def test_readers_only_read(ada: Person, reader: Person) -> None:
    path = f"/streamers/{streamer(ada)['id']}"
    assert got(reader.api.get(path))
    for response in (
        reader.api.post("/streamers", json={"name": fresh("No")}),
        reader.api.patch(path, json={"notes": "x"}),
        reader.api.delete(path),
        reader.api.post(f"{path}/continue", json={}),
    ):
        assert error_of(response, 403) == FORBIDDEN


def test_who_is_live_again_goes_on_in_the_same_stream(ada: Person) -> None:
    path = f"/streamers/{streamer(ada)['id']}/continue"
    body = {"source": "Ada", "link": "https://example.org/ada"}
    assert "Link can't be blank" in error_of(ada.api.post(path, json={}), 422)

    first = got(ada.api.post(path, json=body), 201)
    second = got(ada.api.post(path, json={"title": "again"}))

    assert first["status"] == "live"
    assert (second["id"], second["title"], second["started_at"]) == (first["id"], "again", first["started_at"])
    assert second["stream"]["id"] == second["id"]


def test_a_new_stream_goes_on_where_that_is_asked_for_and_is_new_where_not(ada: Person) -> None:
    number = streamer(ada)["id"]
    body = {"streamer_id": number, "status": "live"}
    first, second = ada.listing(**body), ada.listing(**body)
    third = ada.listing(**body, **{"continue": True})
    assert first["id"] != second["id"]
    assert third["id"] in (first["id"], second["id"])


def test_a_streamer_that_nobody_is_is_not_found(ada: Person) -> None:
    for number in ("999999", "abc"):
        assert error_of(ada.api.get(f"/streamers/{number}"), 404) == "Record not found"
        assert error_of(ada.api.post(f"/streamers/{number}/continue", json={}), 404) == "Record not found"
