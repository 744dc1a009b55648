"""/cable by a clock that the test moves: what runs out, who falls silent, who is too slow, and how it all ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from mainstem.app import Server, compose
from mainstem.clock import FixedClock
from mainstem.settings import Settings
from waiting import PATIENCE_S

SHEET = json.dumps({"channel": "CollaborativeStreamsChannel"})
PASSWORD = "Correct-horse-1"


class Line:
    """A client of the application in this process."""

    def __init__(self, server: Server, query: str) -> None:
        self._to_server: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._to_client: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.reads = asyncio.Event()
        self.reads.set()
        scope = {
            "type": "websocket",
            "path": "/cable",
            "raw_path": b"/cable",
            "root_path": "",
            "query_string": query.encode(),
            "headers": [],
            "client": ("127.0.0.1", 1),
            "subprotocols": ["actioncable-v1-json"],
            "extensions": {"websocket.http.response": {}},
        }
        self.task = asyncio.create_task(server.application(scope, self._to_server.get, self._send))
        self._to_server.put_nowait({"type": "websocket.connect"})

    async def _send(self, message: Any) -> None:
        await self.reads.wait()
        self._to_client.put_nowait(message)

    def say(self, command: str, **rest: Any) -> None:
        text = json.dumps({"command": command, "identifier": SHEET, **rest})
        self._to_server.put_nowait({"type": "websocket.receive", "text": text})

    def act(self, action: str, **data: Any) -> None:
        self.say("message", data=json.dumps({"action": action, **data}))

    async def hear(self, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next frame that fits, or what is in the next message that does."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = await self._to_client.get()
                if message["type"] != "websocket.send":
                    if fits(message):
                        return message
                    continue
                frame = json.loads(message["text"])
                content: dict[str, Any] = frame.get("message", frame) if "identifier" in frame else frame
                if fits(content):
                    return content

    async def told(self, action: str, **facts: Any) -> dict[str, Any]:
        wanted = {"action": action, **facts}
        return await self.hear(lambda content: wanted.items() <= content.items())

    async def goodbye(self) -> dict[str, Any]:
        return await self.hear(lambda content: content.get("type") == "disconnect")

    async def close(self) -> None:
        self.reads.set()
        self._to_server.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await self.task


class House:
    """A server in this process, its clock, and the people who have accounts."""

    def __init__(self, server: Server, clock: FixedClock, lines: AsyncExitStack) -> None:
        self.server = server
        self.clock = clock
        self._lines = lines
        transport = httpx.ASGITransport(app=server.application)
        self.api = httpx.AsyncClient(transport=transport, base_url="http://here/api/v1")

    async def sign_up(self, name: str) -> tuple[int, str]:
        body = {"email": f"{name}@example.com", "password": PASSWORD, "role": "admin"}
        answer = (await self.api.post("/users/signup", json=body)).json()
        return answer["user"]["id"], answer["token"]

    async def listing(self, token: str) -> int:
        body = {"source": "Ada", "link": "https://live.example/ada"}
        response = await self.api.post("/streams", json=body, headers={"Authorization": f"Bearer {token}"})
        number: int = response.json()["id"]
        return number

    async def window(self, token: str) -> Line:
        line = Line(self.server, f"token={token}")
        self._lines.push_async_callback(line.close)
        await line.hear(lambda content: content.get("type") == "welcome")
        line.say("subscribe")
        await line.hear(lambda content: content.get("type") == "confirm_subscription")
        return line


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = FixedClock()
    settings = Settings(
        data=tmp_path / "data",
        admin_password=PASSWORD,
        api_key="ms_a-key-that-only-the-tests-know",
        transcode_jobs=0,
        check=False,
        signup_roles=True,
    )
    async with compose(settings, clock) as server, AsyncExitStack() as lines:
        yield House(server, clock, lines)


async def test_a_lock_runs_out_after_thirty_seconds(house: House) -> None:
    """Everybody is told, and another may have the cell."""
    (ada, of_ada), (bob, of_bob) = await house.sign_up("ada"), await house.sign_up("bob")
    cell = f"stream_{await house.listing(of_ada)}_title"
    first, second = await house.window(of_ada), await house.window(of_bob)
    first.act("lock_cell", cell_id=cell)
    await second.told("cell_locked", cell_id=cell)

    house.clock.advance(29)
    second.act("lock_cell", cell_id=cell)
    await second.hear(lambda content: "error" in content)
    house.clock.advance(1)
    assert (await second.told("cell_unlocked", cell_id=cell))["user_id"] == ada
    second.act("lock_cell", cell_id=cell)
    assert (await first.told("cell_locked", cell_id=cell, user_id=bob))["user_name"] == "bob"


async def test_a_lock_that_ran_out_writes_nothing(house: House) -> None:
    """Whoever typed for too long is told, and takes the cell again."""
    _, of_ada = await house.sign_up("ada")
    number = await house.listing(of_ada)
    window = await house.window(of_ada)
    cell = f"stream_{number}_title"
    window.act("lock_cell", cell_id=cell)
    await window.told("cell_locked")

    house.clock.advance(30)
    window.act("update_cell", cell_id=cell, stream_id=number, field="title", value="Late")
    refusal = await window.hear(lambda content: "error" in content)
    assert refusal["error"].startswith("Update failed")


async def test_who_does_nothing_is_inactive_and_who_is_silent_is_gone(house: House) -> None:
    """Ten minutes and twelve; one who pings stays, and one who speaks is back."""
    (ada, of_ada), (bob, of_bob) = await house.sign_up("ada"), await house.sign_up("bob")
    first, second = await house.window(of_ada), await house.window(of_bob)
    await first.hear(lambda content: len(content.get("users", [])) == 2)

    house.clock.advance(11 * 60)
    first.act("presence_ping")
    shown = await first.hear(lambda content: any(user["inactive"] for user in content.get("users", [])))
    assert [user["user_id"] for user in shown["users"]] == sorted([ada, bob])
    house.clock.advance(60)
    assert (await first.told("user_left"))["user_id"] == bob
    second.act("presence_ping")
    assert (await first.told("user_joined"))["user_id"] == bob


async def test_a_token_that_expires_ends_the_connection(house: House) -> None:
    """And the client is told not to come back with it."""
    _, token = await house.sign_up("ada")
    window = await house.window(token)
    house.clock.advance(24 * 3_600 + 1)

    assert await window.goodbye() == {"type": "disconnect", "reason": "unauthorized", "reconnect": False}
    await asyncio.wait_for(window.task, PATIENCE_S)


async def test_a_server_that_stops_asks_clients_to_come_back(house: House) -> None:
    """They do so by themselves."""
    _, token = await house.sign_up("ada")
    window = await house.window(token)
    house.server.datastream.stop()

    assert await window.goodbye() == {"type": "disconnect", "reason": "server_restart", "reconnect": True}
    assert (await window.hear(lambda message: message.get("type") == "websocket.close"))["code"] == 1001


async def test_a_reader_that_is_too_slow_is_let_go(house: House) -> None:
    """Nothing waits for it without end, and the others are not held up."""
    (_, of_ada), (_, of_bob) = await house.sign_up("ada"), await house.sign_up("bob")
    number = await house.listing(of_ada)
    slow, quick = await house.window(of_ada), await house.window(of_bob)
    slow.reads.clear()
    headers = {"Authorization": f"Bearer {of_ada}"}
    for step in range(20):
        body = {"notes": f"{step}" + "x" * 60_000}
        assert (await house.api.patch(f"/streams/{number}", json=body, headers=headers)).status_code == 200
        await quick.told("cell_updated", field="notes")

    await asyncio.wait_for(slow.task, PATIENCE_S)


async def test_who_was_not_told_everything_is_asked_to_come_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than to look at a sheet that is no longer true."""
    _, token = await house.sign_up("ada")
    window = await house.window(token)
    headers = {"Authorization": f"Bearer {token}"}
    await house.api.patch(f"/streams/{await house.listing(token)}", json={"title": "News"}, headers=headers)
    await window.told("cell_updated")
    for limit in ("_BEHIND_ROWS_MAX", "_PAGE_ROWS_MAX"):
        monkeypatch.setattr(f"mainstem.events.follow.{limit}", 1)
    rows = [{"source": "Ada", "link": f"https://live.example/{number}"} for number in range(10)]
    await house.api.post("/streams/bulk_import", json=rows, headers=headers)

    assert await window.goodbye() == {"type": "disconnect", "reason": "server_restart", "reconnect": True}
