"""Who is live, as clients of the catalogue see it: a real server, its checker beside it, and a source that moves."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from farside import FarSide, HlsSource, far_side, listening, page
from mainstem.clock import system_clock
from mediaservers import camera, ffmpegs_rtmp, free_port, rtmp_server, status
from serving import EMAIL, PASSWORD, Server, serving
from waiting import PATIENCE_S

SHEET = json.dumps({"channel": "CollaborativeStreamsChannel"})


@pytest.fixture(scope="module")
def checking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that checks what is on loopback, every second or two."""
    seconds = {"check_live_seconds": 1, "check_idle_seconds": 1, "check_timeout_seconds": 10}
    data = tmp_path_factory.mktemp("checking") / "data"
    with serving(data, check=True, check_allow_private=True, **seconds) as server:
        yield server


@pytest.fixture
async def client(checking: Server) -> AsyncIterator[httpx.AsyncClient]:
    """Its administrator."""
    async with httpx.AsyncClient(base_url=checking.url, timeout=PATIENCE_S) as client:
        signed_in = await client.post("/api/v1/users/login", json={"email": EMAIL, "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {signed_in.json()['token']}"
        yield client


@pytest.fixture
async def far() -> AsyncIterator[FarSide]:
    async with far_side() as far:
        yield far


async def add(client: httpx.AsyncClient, link: str) -> int:
    answer = await client.post("/api/v1/streams", json={"source": "Camera", "link": link})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


async def until(client: httpx.AsyncClient, listing: int, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The listing as soon as it fits."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found: dict[str, Any] = (await client.get(f"/api/v1/streams/{listing}")).json()
        if fits(found):
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"The checker did not get there: {found}")


async def test_a_listing_goes_live_and_offline_by_itself(client: httpx.AsyncClient, far: FarSide) -> None:
    source = HlsSource(system_clock, segment_s=2, dated=True)
    far.says("/live.m3u8", source.answer)
    listing = await add(client, far.url("/live.m3u8"))

    live = await until(client, listing, lambda found: found["status"] == "live")
    assert live["check"]["result"] == "live"
    assert live["check"]["reason"] == "playlist_is_fresh"
    assert live["last_checked_at"] == live["last_live_at"] == live["started_at"] == live["check"]["at"]

    source.ended = True
    ended = await until(client, listing, lambda found: found["status"] == "offline")
    assert ended["check"]["reason"] == "playlist_has_ended"
    assert ended["last_live_at"] < ended["last_checked_at"]


async def test_an_rtmp_link_goes_live_and_offline_by_itself(client: httpx.AsyncClient) -> None:
    """FFmpeg plays on it, and later a server on that port knows no such stream."""
    gone = rtmp_server(status("NetStream.Play.StreamNotFound", "error"))
    port = free_port()
    async with ffmpegs_rtmp(port):
        listing = await add(client, f"rtmp://127.0.0.1:{port}/live/key")
        live = await until(client, listing, lambda found: found["status"] == "live")
    assert (live["check"]["reason"], live["platform"]) == ("media_arrives", "Other")

    async with listening(gone, port):
        ended = await until(client, listing, lambda found: found["status"] == "offline")
    assert ended["check"]["reason"] == "not_found"


async def test_an_rtsp_link_goes_live_and_offline_by_itself(client: httpx.AsyncClient) -> None:
    async with camera() as one:
        listing = await add(client, one.link)
        live = await until(client, listing, lambda found: found["status"] == "live")
        assert live["check"]["reason"] == "media_arrives"

        one.is_on = False
        ended = await until(client, listing, lambda found: found["status"] == "offline")
        assert ended["check"]["reason"] == "not_found"


async def test_a_challenge_leaves_a_live_listing_live(client: httpx.AsyncClient, far: FarSide) -> None:
    """Its reason is told, and nothing else moves."""
    source = HlsSource(system_clock, segment_s=2, dated=True)
    far.says("/live.m3u8", source.answer)
    listing = await add(client, far.url("/live.m3u8"))
    await until(client, listing, lambda found: found["status"] == "live")

    far.says("/live.m3u8", page("<script>window._wafchallengeid='x'</script>"))
    troubled = await until(client, listing, lambda found: found["check"]["result"] == "unknown")
    again = await until(client, listing, lambda found: found["check"]["at"] != troubled["check"]["at"])

    assert again["check"]["reason"] == "challenge_page"
    assert again["status"] == "live"
    assert again["last_checked_at"] == troubled["last_checked_at"] == troubled["last_live_at"]


async def test_what_the_checker_finds_is_told_and_counted(
    checking: Server, client: httpx.AsyncClient, far: FarSide
) -> None:
    """By the cable to whoever has the sheet open, and in the listing's figures: the checker is another process."""
    source = HlsSource(system_clock, segment_s=2, dated=True)
    far.says("/live.m3u8", source.answer)
    listing = await add(client, far.url("/live.m3u8"))
    await until(client, listing, lambda found: found["status"] == "live")
    token = client.headers["Authorization"].removeprefix("Bearer ")
    address = f"{checking.url}/cable?token={token}".replace("http", "ws", 1)
    async with connect(address, open_timeout=PATIENCE_S) as line, asyncio.timeout(PATIENCE_S):
        await line.send(json.dumps({"command": "subscribe", "identifier": SHEET}))
        source.ended = True
        told = await heard(line, "cell_updated", cell_id=f"stream_{listing}_status", value="offline")
        assert told["user_id"] is None
        checked = await heard(line, "stream_updated", stream_id=listing)
        assert checked["last_live_at"] <= checked["last_checked_at"]

    figures = (await client.get(f"/api/v1/streams/{listing}/analytics")).json()
    assert figures["checks"] >= figures["checks_live"] + figures["checks_offline"] >= 2
    assert (figures["status_changes"], figures["broadcasts"]) == (2, 1)
    assert 0 < figures["availability"] < 1


async def heard(line: ClientConnection, action: str, **facts: Any) -> dict[str, Any]:
    """The next message of the sheet that fits."""
    wanted = {"action": action, **facts}
    while True:
        message = json.loads(await line.recv()).get("message")
        if isinstance(message, dict) and wanted.items() <= message.items():
            return message


async def test_a_checker_that_dies_is_started_again(checking: Server, client: httpx.AsyncClient, far: FarSide) -> None:
    far.says("/live.m3u8", HlsSource(system_clock, segment_s=2, dated=True).answer)
    started = await line(checking, 1)
    os.kill(int(str(started["pid"])), signal.SIGKILL)

    await line(checking, 2)
    listing = await add(client, far.url("/live.m3u8"))
    await until(client, listing, lambda found: found["status"] == "live")


async def line(server: Server, count: int) -> dict[str, object]:
    """What the server logs when it starts its checker for the so-manieth time."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        starts = [
            each for each in server.log_lines() if each.get("event") == "child started" and each.get("child") == "check"
        ]
        if len(starts) >= count:
            return starts[count - 1]
        await asyncio.sleep(0.1)
    raise AssertionError("The checker was not started")
