"""`kill -9` at any moment: of every row that is there, and of no other, there is one event."""

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from crash.announcing import TOPIC
from serving import Server, serving
from waiting import wait_until

KILLS = 10
SEED = 20_240_315
AT_LEAST = 20
"""So many changes are told before anything is killed: else the test would show nothing."""


@pytest.mark.slow
def test_rows_and_events_agree_whatever_is_killed(tmp_path: Path) -> None:
    """Now the server is killed, now the process that changes rows, now both."""
    chance = random.Random(SEED)
    data = tmp_path / "data"
    for kill in range(KILLS):
        with serving(data) as server:
            before = told_count(data)
            changing = start_changing(data, f"run{kill:02d}")
            wait_until(lambda: told_count(data) >= before + AT_LEAST)  # noqa: B023
            time.sleep(chance.expovariate(1 / 0.4))
            victims = chance.choice(
                [[server.process], [changing], [server.process, changing], [changing, server.process]]
            )
            for victim in victims:
                assert victim.poll() is None, "it ended by itself"
                victim.kill()
            changing.kill()
            changing.wait()

    with serving(data) as server:
        await_announcements(data)
        told = list(events(server))

    assert told == changed(data)


def start_changing(data: Path, run: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "crash.announcing", str(data / "mainstem.sqlite"), run]
    return subprocess.Popen(command, cwd=Path(__file__).parents[1])


def changed(data: Path) -> list[str]:
    """The rows, in the order of their changes."""
    with closing(sqlite3.connect(data / "mainstem.sqlite")) as records:
        return [name for (name,) in records.execute("SELECT name FROM accounts WHERE name LIKE 'run%' ORDER BY id")]


def told_count(data: Path) -> int:
    return len(changed(data)) - waiting(data)


def waiting(data: Path) -> int:
    with closing(sqlite3.connect(data / "mainstem.sqlite")) as records:
        (count,) = records.execute("SELECT count(*) FROM tasks WHERE kind = 'announce'").fetchone()
    return int(count)


def await_announcements(data: Path) -> None:
    wait_until(lambda: not waiting(data))


def events(server: Server) -> Iterator[str]:
    """What is told, by the API, in order."""
    query = {"stream_id": TOPIC, "limit": "1000"}
    with server.client() as client:
        while True:
            response = client.get("/v2/query/events", params=query)
            assert response.status_code == 200, response.text
            answer = response.json()
            yield from (event["data"]["name"] for event in answer["events"])
            if answer["next_cursor"] is None:
                return
            query["cursor"] = answer["next_cursor"]
