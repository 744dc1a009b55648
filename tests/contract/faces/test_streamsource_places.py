"""Locations behind StreamSource's door, and how streams find theirs."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serving import Server, serving
from streamsource import FORBIDDEN, Person, error_of, fresh, got

UNKNOWN_CITY = "City is not a recognized city. Please contact an admin to add it."
KEYS = [
    "id",
    "city",
    "state_province",
    "region",
    "country",
    "display_name",
    "full_display_name",
    "normalized_name",
    "latitude",
    "longitude",
    "coordinates",
    "is_known_city",
    "created_at",
    "updated_at",
    "streams_count",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which people choose their roles."""
    with serving(tmp_path_factory.mktemp("places") / "data", signup_roles="yes") as running:
        yield running


def city() -> str:
    """A city that no other test knows."""
    return fresh("City")


def made(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    place: dict[str, Any] = got(client.post("/locations", json={"location": {"city": city(), **fields}}), 201)
    return place


def test_a_location_is_told_in_full(ada: Person) -> None:
    """Bare and under its name; coordinates as text and as numbers."""
    name = city()
    body = {"city": f" {name} ", "state_province": "TX", "region": " ", "country": "USA"}
    place = got(ada.api.post("/locations", json={**body, "latitude": "30.2672", "longitude": -97.7431}), 201)
    nested = place.pop("location")

    assert list(place) == KEYS
    assert nested == place
    assert (place["city"], place["region"]) == (name, None)
    assert (place["display_name"], place["full_display_name"]) == (f"{name}, TX", f"{name}, TX, USA")
    assert place["normalized_name"] == f"{name.lower()}, tx, usa"
    assert (place["latitude"], place["longitude"], place["coordinates"]) == ("30.2672", "-97.7431", [30.2672, -97.7431])
    assert (place["is_known_city"], place["streams_count"]) == (False, 0)
    assert got(ada.api.get(f"/locations/{place['id']}"))["location"] == place


@pytest.mark.parametrize(
    ("parts", "shown", "full"),
    [
        ({"country": "France"}, "{}, France", "{}, France"),
        ({"region": "Bavaria"}, "{}", "{}, Bavaria"),
        ({"region": "Bavaria", "country": "Germany"}, "{}, Germany", "{}, Bavaria, Germany"),
        ({}, "{}", "{}"),
    ],
)
def test_a_location_without_state_is_shown_by_what_it_has(
    ada: Person, parts: dict[str, str], shown: str, full: str
) -> None:
    place = made(ada.api, **parts)

    assert place["display_name"] == shown.format(place["city"])
    assert place["full_display_name"] == full.format(place["city"])
    assert (place["latitude"], place["coordinates"]) == (None, None)


@pytest.mark.parametrize(
    ("fields", "details"),
    [
        ({}, {"city": ["can't be blank"]}),
        ({"city": " "}, {"city": ["can't be blank"]}),
        ({"city": ["Austin"]}, {"city": ["can't be blank"]}),
        ({"city": "a", "latitude": 91}, {"latitude": ["must be from -90 to 90"]}),
        (
            {"city": "a", "latitude": "north", "longitude": "nan"},
            {"latitude": ["is not a number"], "longitude": ["must be from -180 to 180"]},
        ),
        ({"city": "a" * 1_001}, {"city": ["is too long (maximum is 1000 characters)"]}),
    ],
)
def test_what_is_wrong_is_told_by_field(ada: Person, fields: dict[str, Any], details: dict[str, list[str]]) -> None:
    refusal = ada.api.post("/locations", json={"location": fields})

    assert error_of(refusal, 422) == "Validation failed"
    assert refusal.json()["details"] == details


def test_a_location_is_there_once_in_any_case(ada: Person) -> None:
    """A region makes no difference, a country does."""
    place = made(ada.api, state_province="TX")
    again = {"city": f" {place['city'].upper()}", "state_province": "tx ", "region": "South"}
    refusal = ada.api.post("/locations", json={"location": again})

    assert refusal.json()["details"] == {"normalized_name": ["has already been taken"]}
    got(ada.api.post("/locations", json={**again, "country": "USA"}), 201)


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_change_makes_a_new_name(ada: Person, method: str) -> None:
    """What is not given stays, null takes away."""
    place = made(ada.api, state_province="TX", country="USA", latitude=1, longitude=2)
    changed = got(ada.api.request(method, f"/locations/{place['id']}", json={"country": None, "latitude": ""}))

    assert changed["normalized_name"] == f"{place['city'].lower()}, tx"
    assert (changed["latitude"], changed["longitude"], changed["coordinates"]) == (None, "2.0", None)
    assert got(ada.api.request(method, f"/locations/{place['id']}"))["normalized_name"] == changed["normalized_name"]


def test_readers_read_and_editors_write(ada: Person, reader: Person) -> None:
    """Lookup comes before policy."""
    place = made(ada.api)
    path = f"/locations/{place['id']}"

    got(reader.api.get(path))
    assert error_of(reader.api.post("/locations", json={"city": city()}), 403) == FORBIDDEN
    for method in ("PATCH", "PUT", "DELETE"):
        assert error_of(reader.api.request(method, path), 403) == FORBIDDEN
        assert error_of(reader.api.request(method, "/locations/99999"), 404) == "Location not found"
    assert ada.api.delete(path).status_code == 204
    assert error_of(ada.api.get(path), 404) == "Location not found"


@pytest.mark.parametrize("number", ["0", "-1", "abc", "1.5", "9" * 30])
def test_what_is_no_number_is_not_found(ada: Person, number: str) -> None:
    assert error_of(ada.api.get(f"/locations/{number}"), 404) == "Location not found"


def test_which_cities_are_known_is_for_administrators(ada: Person, operator: httpx.Client) -> None:
    """They may be changed and deleted by nobody else, or everybody could know every city."""
    mine = made(ada.api, is_known_city=True)
    known = made(operator, is_known_city=True)

    assert (mine["is_known_city"], known["is_known_city"]) == (False, True)
    assert got(ada.api.patch(f"/locations/{mine['id']}", json={"is_known_city": True}))["is_known_city"] is False
    for method in ("PATCH", "DELETE"):
        assert error_of(ada.api.request(method, f"/locations/{known['id']}"), 403) == FORBIDDEN
    assert got(operator.patch(f"/locations/{mine['id']}", json={"is_known_city": "true"}))["is_known_city"] is True


def test_lists_in_short_may_be_kept(ada: Person, operator: httpx.Client) -> None:
    """All locations for five minutes, known cities for fifteen."""
    known, other = made(operator, is_known_city=True), made(operator)
    every, cities = ada.api.get("/locations/all"), ada.api.get("/locations/known_cities")

    assert every.headers["cache-control"] == "public, max-age=300"
    assert cities.headers["cache-control"] == "public, max-age=900"
    by_id = {place["id"]: place for place in every.json()}
    assert list(by_id[other["id"]]) == (
        ["id", "city", "state_province", "country", "display_name", "normalized_name", "is_known_city"]
    )
    assert known["id"] in {place["id"] for place in cities.json()}
    assert other["id"] not in {place["id"] for place in cities.json()}
    assert "is_known_city" not in cities.json()[0]


def test_lists_are_filtered_and_paged(ada: Person) -> None:
    """By city and state, twenty a page unless more are wanted."""
    country = fresh("Country")
    for state in ("B", "A", "C"):
        made(ada.api, city=f"Köln {state}", state_province=f"S{state}", region=f"R{state}", country=country)
    listed = got(ada.api.get("/locations", params={"country": country, "per_page": 2, "page": 2}))

    assert [place["city"] for place in listed["locations"]] == ["Köln C"]
    assert listed["meta"] == {
        "current_page": 2,
        "next_page": None,
        "prev_page": 1,
        "total_pages": 2,
        "total_count": 3,
        "per_page": 2,
    }
    for search in ("KÖLN b", "sb", "rb"):
        found = got(ada.api.get("/locations", params={"search": search, "country": country, "state": "SB"}))
        assert [place["city"] for place in found["locations"]] == ["Köln B"], search
    assert got(ada.api.get("/locations", params={"page": "x", "per_page": 0}))["meta"]["per_page"] == 20
    assert got(ada.api.get("/locations", params={"page": 10**15}))["locations"] == []


# Streams


def test_streams_of_one_city_share_a_location(ada: Person) -> None:
    """Whatever the case; it is made with the first of them."""
    name = city()
    first = ada.listing(city=name, state="tx")
    second = ada.listing(city=f" {name.upper()}", state="TX ")
    elsewhere = ada.listing(city=name)

    assert first["location_id"] == second["location_id"] == second["location"]["id"]
    assert elsewhere["location_id"] not in (None, first["location_id"])
    assert got(ada.api.get(f"/locations/{first['location_id']}"))["streams_count"] == 2
    assert ada.listing(state="tx")["location"] is None
    assert ada.listing(location={"city": " ", "country": "USA"})["location"] is None


def test_a_location_that_streams_name_stays(ada: Person) -> None:
    """Until the last of them is gone."""
    stream = ada.listing(location={"city": city(), "country": "USA"})
    path = f"/locations/{stream['location_id']}"
    refusal = ada.api.delete(path)

    assert error_of(refusal, 422) == "Cannot delete location"
    assert refusal.json()["details"] == {"base": ["Location is being used by 1 stream(s)"]}
    got(ada.api.patch(f"/streams/{stream['id']}", json={"location": None}))
    assert ada.api.delete(path).status_code == 204


def test_where_locations_are_checked_only_known_cities_count(ada: Person, operator: httpx.Client) -> None:
    """In any case; one that is known without a state is known in every state."""
    austin = made(operator, state_province="TX", is_known_city=True)
    anywhere = made(operator, is_known_city=True)
    unknown = made(operator, state_province="TX")
    operator.post("/features/location_validation/enable")
    try:
        for name, state, wanted in (
            (austin["city"].upper(), "tx", austin),
            (anywhere["city"], None, anywhere),
            (anywhere["city"].lower(), "Anything", anywhere),
        ):
            assert ada.listing(city=name, state=state)["location_id"] == wanted["id"], name
        for name, state in (
            (austin["city"], "CA"),
            (unknown["city"], "TX"),
            (city(), None),
            (austin["city"][:-1], "TX"),
        ):
            body = {"source": "Ada", "link": "https://live.example/ada", "city": name, "state": state}
            assert error_of(ada.api.post("/streams", json=body), 422) == UNKNOWN_CITY, name
        assert ada.listing(city="")["location"] is None
    finally:
        operator.post("/features/location_validation/disable")
