"""Programs that work with the catalogue, in the calls that such programs make, against a real server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from foreign import node
from serving import Server, serving
from streamsource import PASSWORD_OF_ALL, Person, got, person


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of its own: these programs read everything that is there."""
    with serving(tmp_path_factory.mktemp("programs") / "data", signup_roles=True) as running:
        yield running


@pytest.fixture
def robot(server: Server) -> Iterator[Person]:
    with person(server, "admin") as made:
        yield made


def run(script: str, server: Server, who: Person, **given: Any) -> Any:
    """What a program prints, signed in as somebody."""
    stdin = {"email": who.email.upper(), "password": PASSWORD_OF_ALL, **given}
    return json.loads(node(script, server.url, stdin=json.dumps(stdin).encode()))


def test_an_updater_keeps_statuses_true(server: Server, robot: Person) -> None:
    """It signs in again on a 401, reads every page, finds streams by link, writes what it found, and archives."""
    links = [f"https://www.tiktok.com/@streamer{number}/live" for number in range(103)]
    for link in links:
        robot.listing(link=link, source=link.split("@")[1])
    robot.listing(link="https://live.example/elsewhere", source="No platform of its own")
    done = run(
        "updater.cjs",
        server,
        robot,
        live=links[:2],
        archive=[links[0], links[5], links[6]],
        missing={"source": "New", "link": "https://www.twitch.tv/new", "status": "live"},
    )

    assert done["signIns"] == 1
    assert len(done["streams"]) == 104
    assert [one["platform"] for one in done["checked"]] == ["TikTok"] * 103
    for one in done["checked"]:
        wrote = one["wrote"]
        assert {field: one[field] for field in wrote} == wrote
    assert sorted(one["link"] for one in done["checked"] if one["status"] == "live") == sorted(links[:2])
    assert [one["link"] for one in done["archived"]] == [links[5], links[6]]
    assert all(one["is_archived"] and one["ended_at"] for one in done["archived"])
    assert done["created"]["platform"] == "Twitch"
    assert set(done["left"]) == {*links, "https://live.example/elsewhere", "https://www.twitch.tv/new"} - set(
        links[5:7]
    )


def test_a_monitor_posts_each_link_once(server: Server, robot: Person) -> None:
    """With the words it has for platforms that nobody else knows, and notes that are no text."""
    got(robot.api.post("/locations", json={"location": {"city": "Austin", "state_province": "TX"}}), 201)
    city = got(robot.api.get("/locations"))["locations"][0]
    got(robot.api.patch(f"/locations/{city['id']}", json={"location": {"is_known_city": True}}))
    robot.listing(link="https://www.twitch.tv/known")
    seen = [
        {"link": "https://kick.com/eve", "source": "Eve", "platform": "Kick", "city": "Austin", "state": "TX"},
        {"link": "https://www.twitch.tv/known", "source": "Known", "platform": "Twitch"},
        {"link": "https://live.example/x", "source": "X", "platform": "Unknown", "city": None, "state": None},
        {"link": "https://kick.com/eve", "source": "Eve again", "platform": "Kick"},
    ]
    done = run("monitor.cjs", server, robot, seen=seen)

    assert done["before"] == ["https://www.twitch.tv/known"]
    assert [one["platform"] for one in done["made"]] == ["Kick", "Other"]
    assert all(isinstance(one["id"], int) for one in done["made"])
    assert {one["posted_by"] for one in done["made"]} == {"somebody in a chat"}
    assert {one["notes"] for one in done["made"]} == {None}
    assert done["found"] == ["https://kick.com/eve"]
    assert [one["city"] for one in done["cities"]] == ["Austin"]
