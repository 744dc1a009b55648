"""Feature flags and maintenance, as administrators switch them and everybody meets them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from zlib import crc32

import httpx
import pytest

from serving import EMAIL, PASSWORD
from streamsource import FORBIDDEN, PASSWORD_OF_ALL, House, error_of, got, house

CLOSED = "The API is currently under maintenance. Please try again later."
DEFAULTS = {
    "advanced_search": ("on", "on", "on"),
    "location_validation": ("off", "off", "off"),
    "maintenance_mode": ("off", "off", "off"),
    "stream_analytics": ("on", "on", "on"),
    "stream_bulk_import": ("off", "on", "on"),
    "stream_export": ("on", "on", "on"),
    "stream_tags": ("off", "off", "on"),
}
"""For the roles default, editor and admin."""


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, signup_roles=True) as running:
        yield running


async def member(here: House, role: str = "default") -> tuple[int, httpx.AsyncClient]:
    answer = await here.sign_up(role=role)
    return answer["user"]["id"], here.client(answer["token"])


async def switch(here: House, name: str, verb: str = "enable", **gate: Any) -> dict[str, Any]:
    answer: dict[str, Any] = got(await here.operator().post(f"/features/{name}/{verb}", json=gate))
    return answer


async def is_on(client: httpx.AsyncClient, name: str) -> bool:
    answer: bool = got(await client.get(f"/features/{name}"))["enabled"]
    return answer


@pytest.mark.parametrize(("position", "role"), [(0, "default"), (1, "editor"), (2, "admin")])
async def test_what_is_on_from_the_start(here: House, position: int, role: str) -> None:
    """Bulk import is for editors and administrators, tags for administrators."""
    _, client = await member(here, role)
    listed = got(await client.get("/features"))["features"]

    assert {one["name"]: "on" if one["enabled"] else "off" for one in listed} == {
        name: of_roles[position] for name, of_roles in DEFAULTS.items()
    }


async def test_only_administrators_see_and_change_for_whom(here: House) -> None:
    """Others learn what is on for themselves."""
    _, client = await member(here, "editor")

    assert got(await client.get("/features/stream_export")).keys() == {"name", "enabled", "feature"}
    for verb in ("enable", "disable", "clear"):
        assert error_of(await client.post(f"/features/stream_export/{verb}"), 403) == FORBIDDEN
    assert (await switch(here, "stream_export"))["state"] == "on"


async def test_analytics_are_switched_off_and_on_for_one(here: House) -> None:
    """Their address is in a stream only for whom they are on."""
    ada, of_ada = await member(here, "editor")
    _, of_bob = await member(here, "editor")
    body = {"source": "Ada", "link": "https://live.example/ada"}
    number = got(await of_ada.post("/streams", json=body), 201)["id"]
    await switch(here, "stream_analytics", "disable")
    refusal = await of_bob.get(f"/streams/{number}/analytics")
    assert error_of(refusal, 403) == "This feature is not currently available"
    assert error_of(await of_bob.get("/streams/999/analytics"), 403) == "This feature is not currently available"

    await switch(here, "stream_analytics", actor=f"User:{ada}")
    assert got(await of_ada.get(f"/streams/{number}"))["analytics_url"] == f"/api/v1/streams/{number}/analytics"
    assert "analytics_url" not in got(await of_bob.get(f"/streams/{number}"))
    got(await of_ada.get(f"/streams/{number}/analytics"))
    assert error_of(await of_ada.get("/streams/999/analytics"), 404) == "Record not found"


@pytest.mark.parametrize(
    ("name", "method", "path", "said"),
    [
        ("stream_bulk_import", "POST", "/streams/bulk_import", "Bulk import is not currently available"),
        ("stream_export", "GET", "/streams/export", "Export feature is not currently available"),
    ],
)
async def test_what_is_off_says_so_in_its_own_words(here: House, name: str, method: str, path: str, said: str) -> None:
    """Before anything is looked at: a broken body is not even read."""
    _, client = await member(here, "editor")
    await switch(here, name, "disable")

    assert error_of(await client.request(method, path, content=b"{"), 403) == said


async def test_tags_are_shown_to_whom_they_are_on_for(here: House) -> None:
    """To administrators from the start, and nobody has any yet."""
    people = {role: (await member(here, role))[1] for role in ("default", "editor", "admin")}
    body = {"source": "Ada", "link": "https://live.example/ada"}
    number = got(await people["editor"].post("/streams", json=body), 201)["id"]
    seen = {role: got(await client.get(f"/streams/{number}")).get("tags") for role, client in people.items()}
    assert seen == {"default": None, "editor": None, "admin": []}


async def test_an_import_that_is_on_for_all_still_takes_an_editor(here: House) -> None:
    """The feature is asked first, then the role."""
    _, client = await member(here)
    refusal = await client.post("/streams/bulk_import", json=[])
    assert error_of(refusal, 403) == "Bulk import is not currently available"
    await switch(here, "stream_bulk_import")
    assert error_of(await client.post("/streams/bulk_import", json=[]), 403) == FORBIDDEN


async def test_groups_are_kinds_of_callers(here: House) -> None:
    """Premium users are the administrators, beta users nobody."""
    people = {role: (await member(here, role))[1] for role in ("default", "editor", "admin")}
    for group, roles in {
        "admins": {"admin"},
        "editors": {"editor"},
        "premium_users": {"admin"},
        "beta_users": set(),
    }.items():
        await switch(here, "new_thing")
        await switch(here, "new_thing", "clear")
        await switch(here, "new_thing", group=group)
        assert {role for role, client in people.items() if await is_on(client, "new_thing")} == roles, group


async def test_a_percentage_of_actors_is_the_same_ones_each_time(here: House) -> None:
    """By the checksum of the flag's name and theirs, so that more percent add and none take away."""
    people = [await member(here) for _ in range(12)]
    places = {number: crc32(f"new_thing{f'User:{number}'}".encode()) % 100_000 for number, _ in people}
    for percentage in (0, 12.5, 50, 100):
        await switch(here, "new_thing", percentage_of_actors=percentage)
        on = {number for number, client in people if await is_on(client, "new_thing")}
        assert on == {number for number, place in places.items() if place < percentage * 1_000}, percentage


async def test_a_percentage_of_time_is_all_or_nothing_at_its_ends(here: House) -> None:
    """And in between it is a matter of chance."""
    _, client = await member(here)
    await switch(here, "new_thing", percentage_of_time=0)
    assert not await is_on(client, "new_thing")
    await switch(here, "new_thing", percentage_of_time=100)
    assert await is_on(client, "new_thing")


async def test_gates_are_opened_and_closed_one_by_one(here: House) -> None:
    """Switching the whole flag on or off forgets them."""
    await switch(here, "new_thing", actor="User:9", group="admins")
    await switch(here, "new_thing", percentage_of_actors=25, percentage_of_time=10)
    closed = await switch(here, "new_thing", "disable", actor="User:9")
    assert (closed["actors"], closed["groups"], closed["state"]) == ([], ["admins"], "conditional")
    assert (closed["percentage_of_actors"], closed["percentage_of_time"]) == (25, 10)

    on = await switch(here, "new_thing")
    assert (on["state"], on["boolean"], on["groups"], on["percentage_of_time"]) == ("on", True, [], 0)
    off = await switch(here, "new_thing", "disable")
    assert (off["state"], off["boolean"]) == ("off", False)


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"actor": "Ada"}, "Actor is invalid"),
        ({"group": "friends"}, "Group is not included in the list"),
        ({"percentage_of_actors": 101}, "Percentage of actors must be from 0 to 100"),
        ({"percentage_of_time": "nan"}, "Percentage of time must be from 0 to 100"),
        ({"percentage_of_time": "much"}, "Percentage of time is not a number"),
        ({"actor": ""}, "Actor can't be blank"),
        ({"group": None}, "Group can't be blank"),
        ({"actro": "User:8"}, "Gate is not included in the list"),
    ],
)
async def test_a_gate_that_cannot_be_is_refused(here: House, gate: dict[str, Any], said: str) -> None:
    assert error_of(await here.operator().post("/features/new_thing/enable", json=gate), 422) == said


async def test_a_flag_that_nobody_added_is_off(here: House) -> None:
    """And cannot be switched off."""
    for verb in ("disable", "clear"):
        assert error_of(await here.operator().post(f"/features/never/{verb}"), 404) == "Record not found"
    assert error_of(await here.operator().post("/features/No%20Name/enable"), 422) == "Name is invalid"


# Maintenance


async def test_maintenance_closes_everything_but_health(here: House) -> None:
    """Who shows no token is told that first."""
    _, client = await member(here, "editor")
    await switch(here, "maintenance_mode")
    for refusal in (
        await client.get("/streams"),
        await client.get("/features"),
        await here.operator().get("/streams"),
        await here.client().post("/users/signup", json={"email": "a@b.example", "password": PASSWORD_OF_ALL}),
    ):
        assert error_of(refusal, 503) == CLOSED
        assert refusal.json()["maintenance"] is True
        assert refusal.headers["retry-after"]
    assert error_of(await here.client().get("/streams"), 401) == "Unauthorized"
    for path in ("/health", "/health/live", "/health/ready"):
        assert (await here.client().get(f"http://here{path}")).status_code == 200


async def test_administrators_sign_in_and_end_the_maintenance(here: House) -> None:
    """Nobody else signs in meanwhile, whether his password is right or not."""
    answer = await here.sign_up(role="editor")
    await switch(here, "maintenance_mode")
    for password in (PASSWORD_OF_ALL, "wrong"):
        body = {"email": answer["user"]["email"], "password": password}
        assert error_of(await here.client().post("/users/login", json=body), 503) == CLOSED

    signed_in = got(await here.client().post("/users/login", json={"email": EMAIL, "password": PASSWORD}))
    got(await here.client(signed_in["token"]).post("/features/maintenance_mode/disable"))
    got(await here.client(answer["token"]).get("/streams"))
