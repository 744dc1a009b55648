"""Ignore lists behind StreamSource's door: what programs that collect streams pass over."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serving import Server, serving
from streamsource import FORBIDDEN, Person, error_of, fresh, got, person

KEYS = ["id", "list_type", "value", "notes", "created_at", "updated_at"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which people choose their roles."""
    with serving(tmp_path_factory.mktemp("ignore") / "data", signup_roles="yes") as running:
        yield running


@pytest.fixture(scope="module")
def editor(server: Server) -> Iterator[Person]:
    with person(server, "editor") as somebody:
        yield somebody


def added(operator: httpx.Client, **fields: Any) -> dict[str, Any]:
    entry: dict[str, Any] = got(
        operator.post("/ignore_lists", json={"list_type": "twitch_user", "value": fresh("user"), **fields}), 201
    )
    return entry


@pytest.mark.parametrize(
    ("list_type", "value", "kept"),
    [
        ("twitch_user", " LoudOne ", "loudone"),
        ("discord_user", "Some#1234 ", "some#1234"),
        ("domain", " WWW.Example.COM ", "example.com"),
        ("domain", "www.www.example.com", "www.example.com"),
        ("url", " example.com/Path/ ", "https://example.com/Path"),
        ("url", "HTTP://example.com/a//", "HTTP://example.com/a"),
        ("url", "https://example.com", "https://example.com"),
    ],
)
def test_a_value_is_kept_as_its_type_writes_it(operator: httpx.Client, list_type: str, value: str, kept: str) -> None:
    entry = got(operator.post("/ignore_lists", json={"ignore_list": {"list_type": list_type, "value": value}}), 201)

    assert list(entry) == KEYS
    assert (entry["list_type"], entry["value"], entry["notes"]) == (list_type, kept, None)
    assert got(operator.get(f"/ignore_lists/{entry['id']}")) == entry


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({}, ["List type is not included in the list", "Value can't be blank"]),
        ({"list_type": "person", "value": "x"}, ["List type is not included in the list"]),
        ({"list_type": "url", "value": " "}, ["Value can't be blank"]),
        ({"list_type": "url", "value": ["x"]}, ["Value can't be blank"]),
        ({"list_type": "domain", "value": "www."}, ["Value can't be blank"]),
    ],
)
def test_what_is_wrong_is_told_one_by_one(operator: httpx.Client, fields: dict[str, Any], errors: list[str]) -> None:
    """As an array, and in one string as every error."""
    refusal = operator.post("/ignore_lists", json={"ignore_list": fields})

    assert error_of(refusal, 422) == ", ".join(errors)
    assert refusal.json()["errors"] == errors


def test_a_value_is_there_once_for_each_type(operator: httpx.Client) -> None:
    """In any case."""
    entry = added(operator)
    again = {"list_type": "twitch_user", "value": entry["value"].upper()}

    assert operator.post("/ignore_lists", json=again).json()["errors"] == ["Value has already been taken"]
    got(operator.post("/ignore_lists", json={**again, "list_type": "discord_user"}), 201)


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_an_entry_is_changed_in_part(operator: httpx.Client, method: str) -> None:
    entry = added(operator, notes="loud")
    path = f"/ignore_lists/{entry['id']}"
    changed = got(operator.request(method, path, json={"ignore_list": {"value": f"{entry['value']}X"}}))

    assert (changed["value"], changed["notes"]) == (f"{entry['value']}x", "loud")
    assert got(operator.request(method, path, json={"notes": None}))["notes"] is None
    assert operator.request(method, path, json={"value": added(operator)["value"]}).status_code == 422
    assert operator.delete(path).status_code == 204
    assert error_of(operator.request(method, path), 404) == "Record not found"


def test_the_lists_are_for_administrators(editor: Person) -> None:
    """Editors are refused in words."""
    for method, path in (
        ("GET", "/ignore_lists"),
        ("GET", "/ignore_lists/by_type"),
        ("GET", "/ignore_lists/1"),
        ("POST", "/ignore_lists"),
        ("PATCH", "/ignore_lists/1"),
        ("DELETE", "/ignore_lists/1"),
        ("POST", "/ignore_lists/bulk_create"),
        ("DELETE", "/ignore_lists/bulk_delete"),
    ):
        assert error_of(editor.api.request(method, path), 403) == FORBIDDEN, (method, path)


def test_lists_are_filtered_and_paged(operator: httpx.Client) -> None:
    """A type that is none has no entries."""
    word = fresh("word")
    for number in range(3):
        added(operator, value=f"{word}{number}")
    added(operator, list_type="domain", value=f"{word}.example")
    page = got(
        operator.get("/ignore_lists", params={"search": word.upper(), "list_type": "twitch_user", "per_page": 2})
    )

    assert [entry["value"] for entry in page["ignore_lists"]] == [f"{word}2", f"{word}1"]
    assert page["meta"] == {"current_page": 1, "total_pages": 2, "total_count": 3, "per_page": 2}
    assert got(operator.get("/ignore_lists", params={"list_type": "person"}))["ignore_lists"] == []
    by_type = got(operator.get("/ignore_lists/by_type"))
    assert list(by_type) == ["twitch_users", "discord_users", "urls", "domains"]
    assert f"{word}.example" in by_type["domains"]


def test_of_many_each_is_made_or_refused_by_itself(operator: httpx.Client) -> None:
    """201 even when all fail."""
    word = fresh("word")
    entries = [
        {"list_type": "domain", "value": f"{word}.example", "notes": "n"},
        {"list_type": "domain", "value": f"WWW.{word}.example"},
        {"list_type": "nothing", "value": "x"},
        "no object",
    ]
    answer = got(operator.post("/ignore_lists/bulk_create", json={"entries": entries}), 201)

    assert [entry["value"] for entry in answer["created"]] == [f"{word}.example"]
    assert answer["errors"] == [
        {"value": f"WWW.{word}.example", "errors": ["Value has already been taken"]},
        {"value": "x", "errors": ["List type is not included in the list"]},
        {"value": None, "errors": ["List type is not included in the list", "Value can't be blank"]},
    ]
    nothing: list[Any] = [{}, {"entries": []}, {"entries": "x"}, []]
    for body in nothing:
        assert got(operator.post("/ignore_lists/bulk_create", json=body), 201) == {"created": [], "errors": []}
    too_many = {"entries": [{"list_type": "domain"}] * 10_001}
    assert error_of(operator.post("/ignore_lists/bulk_create", json=too_many), 422) == "At most 10000 entries at once"


@pytest.mark.parametrize("way", ["query", "json", "form"])
def test_many_are_deleted_at_once(operator: httpx.Client, way: str) -> None:
    """The ids come in the query string, as JSON or as a form; what is none counts for nothing."""
    ids = [added(operator)["id"] for _ in range(3)]
    sent: dict[str, Any] = {
        "query": {"params": {"ids[]": [*ids, ids[0], "x"]}},
        "json": {"json": {"ids": [*ids, str(ids[0]), None, 1 << 70]}},
        "form": {"data": {"ids[]": [*map(str, ids), "99999999"]}},
    }[way]

    assert got(operator.request("DELETE", "/ignore_lists/bulk_delete", **sent)) == {"deleted_count": 3}
    assert got(operator.request("DELETE", "/ignore_lists/bulk_delete", **sent)) == {"deleted_count": 0}
