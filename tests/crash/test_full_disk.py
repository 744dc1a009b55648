"""A full disk: writes are refused in plain words, reading goes on, and with room again so does writing."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import msgspec
import pytest

from crash.folders import OPTIONS, ORDERS
from logs import kept, numbers_of
from mainstem.clock import system_clock
from mainstem.errors import Unavailable
from mainstem.storage import Draft, Drafts
from mainstem.storage.embedded.log import EmbeddedLog
from mainstem.storage.ports import Condition
from serving import Server, found, refused, serving
from waiting import PATIENCE_S, until


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB of our own."""
    if os.geteuid():
        pytest.skip("only root may mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


class Ballast:
    """A file that takes all the room there is, but for so many bytes."""

    def __init__(self, disk: Path) -> None:
        self.path = disk / "ballast"

    def fill(self, but: int = 0) -> None:
        with suppress(OSError), self.path.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4_096))
        os.truncate(self.path, max(self.path.stat().st_size - but, 0))

    def remove(self) -> None:
        self.path.unlink()


@pytest.fixture
async def log(disk: Path) -> AsyncIterator[EmbeddedLog]:
    options = msgspec.structs.replace(OPTIONS, segment_events=2_000, maintain_every_s=0.2)
    async with EmbeddedLog.open(disk / "log", options, system_clock) as opened:
        yield opened


def event(number: int) -> Draft:
    return Draft(number * 1_000_000, "filling", b'{"filling":"%s"}' % os.urandom(500).hex().encode())


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 3_000, 70_000, 700_000])
async def test_a_full_disk_loses_nothing(log: EmbeddedLog, disk: Path, left: int) -> None:
    """Wherever it runs out: in the write-ahead file, a new file, a segment or the catalogue."""
    ballast, number = Ballast(disk), 0
    acknowledged: list[int] = []

    async def write_until_refused() -> Unavailable:
        nonlocal number
        while True:
            numbers = range(number, number + 50)
            number += 50
            try:
                await log.append(ORDERS, Drafts.of(map(event, numbers)))
            except Unavailable as refusal:
                return refusal
            acknowledged.extend(numbers)

    for _ in range(40):
        await log.append(ORDERS, Drafts.of(map(event, range(number, number + 50))))
        acknowledged.extend(range(number, number + 50))
        number += 50
    for _ in range(3):
        ballast.fill(but=left)
        refusal = await asyncio.wait_for(write_until_refused(), PATIENCE_S)
        assert "full" in refusal.message
        assert refusal.details["retry_after_s"]
        assert log.health().condition is Condition.UNHEALTHY
        assert numbers_of(await kept(log, ORDERS)) == acknowledged
        ballast.remove()
        await until(lambda: log.accepts)
        await log.append(ORDERS, Drafts.of([event(number)]))
        acknowledged.append(number)
        number += 1
    await asyncio.wait_for(log.maintain(), PATIENCE_S)
    assert log.health().condition is Condition.HEALTHY
    assert numbers_of(await kept(log, ORDERS)) == acknowledged


@pytest.mark.slow
async def test_a_log_on_a_full_disk_closes_and_opens(disk: Path) -> None:
    """A restart is no way out and does no harm."""
    ballast = Ballast(disk)
    async with EmbeddedLog.open(disk / "log", OPTIONS, system_clock) as log:
        await log.append(ORDERS, Drafts.of(map(event, range(100))))
        await log.append(ORDERS, Drafts.of(map(event, range(100))))
        log.used(ORDERS, [("data", "filling")])
        ballast.fill()
    with suppress(OSError):
        async with EmbeddedLog.open(disk / "log", OPTIONS, system_clock) as log:
            assert numbers_of(await kept(log, ORDERS)) == [*range(100), *range(100)]
    ballast.remove()
    async with EmbeddedLog.open(disk / "log", OPTIONS, system_clock) as log:
        assert log.health().condition is Condition.HEALTHY
        await log.append(ORDERS, Drafts.of([event(7)]))
        assert numbers_of(await kept(log, ORDERS)) == [*range(100), *range(100), 7]


@pytest.fixture
def server(disk: Path) -> Iterator[Server]:
    with serving(disk / "data", disk_free_bytes_min=2 << 20) as running:
        yield running


@pytest.mark.slow
def test_a_server_on_a_full_disk_answers_503(server: Server, disk: Path) -> None:
    """With Retry-After; queries and health answer meanwhile; with room again all goes on by itself."""
    ballast = Ballast(disk)
    with server.client() as client:
        body = {"stream_id": "orders", "event_type": "order", "data": {"n": 1}}
        assert client.post("/v2/ingest/events", json=body).status_code == 200
        ballast.fill(but=1 << 20)
        response = wait_for(client, body, 503)
        refused(response, 503, "UNAVAILABLE")
        assert int(response.headers["retry-after"]) > 0
        assert client.post("/v2/ingest/batch", json={"stream_id": "orders", "events": [body]}).status_code == 503
        assert client.get("/health").status_code == 503
        assert len(found(client, "orders")) >= 1
        before = len(found(client, "orders"))
        ballast.remove()
        assert wait_for(client, body, 200).json()["status"] == "accepted"
        assert len(found(client, "orders")) == before + 1
        wait_until_healthy(client)


def wait_until_healthy(client: httpx.Client) -> None:
    """A probe's answer is used for a few seconds."""
    deadline = time.monotonic() + PATIENCE_S
    while (response := client.get("/health")).status_code != 200:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.1)


def wait_for(client: httpx.Client, body: Mapping[str, object], status: int) -> httpx.Response:
    """Send until it is answered so."""
    deadline = time.monotonic() + PATIENCE_S
    while (response := client.post("/v2/ingest/events", json=body)).status_code != status:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.1)
    return response
