"""A place to transcode in: records, blobs, a queue, and a worker of this process."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from mainstem.clock import FixedClock
from mainstem.identity import Principal
from mainstem.settings import Settings
from mainstem.storage import Storage, open_storage
from mainstem.transcode import KIND, Job, Limits, Progress, TranscodeHandler, Transcodes, order_of
from mainstem.work import Queue, Worker
from waiting import PATIENCE_S


@dataclass
class Place:
    """Everything that a job needs. `clock` stands still, so that nothing expires but what a test lets expire."""

    storage: Storage
    clock: FixedClock
    queue: Queue
    transcodes: Transcodes
    limits: Limits

    def handler(self) -> TranscodeHandler:
        return TranscodeHandler(
            self.storage.records,
            self.storage.blobs,
            self.queue,
            self.clock,
            scratch=self.storage.scratch,
            limits=self.limits,
        )

    @asynccontextmanager
    async def working(self, at_once: int = 2) -> AsyncIterator[None]:
        """A worker, until the end of the block."""
        async with asyncio.TaskGroup() as group:
            work = Worker(self.queue, {KIND: self.handler()}, concurrency={KIND: at_once}).run()
            worker = group.create_task(work)
            yield
            worker.cancel()

    async def send(self, file: Path, principal: Principal | None = None, **fields: str) -> Job:
        """Upload a file in pieces."""
        upload = self.transcodes.upload(file.name)
        content = await asyncio.to_thread(file.read_bytes)
        for start in range(0, len(content), 100_000):
            await upload.write(content[start : start + 100_000])
        return await self.transcodes.accept(None if principal is None else principal.account, upload, order_of(fields))

    async def until(self, job: Job, reached: Callable[[Progress], bool]) -> Job:
        """The job as soon as that is so; it fails when the job ends before."""
        async with asyncio.timeout(PATIENCE_S):
            async for progress in self.transcodes.follow(None, job.id):
                if reached(progress):
                    return progress.job
        raise AssertionError(f"It ended otherwise: {progress.job}")

    async def playable(self, job: Job) -> Job:
        """The job as soon as its first segment is there."""
        return await self.until(job, lambda now: now.segments > 0)

    async def ended(self, job: Job) -> Job:
        return await self.until(job, lambda now: now.job.state.final)

    async def retried_in(self, seconds: float) -> None:
        """Let time pass as soon as a failed attempt waits for its next."""
        async with asyncio.timeout(PATIENCE_S):
            while not (await self.queue.figures())[KIND].delayed:  # noqa: ASYNC110  # nobody tells us
                await asyncio.sleep(0.01)
        self.clock.advance(seconds)

    async def files(self) -> list[str]:
        """All that is kept, and what lies about."""
        scratch = [path.name for path in self.storage.scratch.iterdir()]
        return [name async for name in self.storage.blobs.list("")] + scratch


def children() -> list[int]:
    """The processes that this one has started and that transcode."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"transcode.child" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


async def children_are(count: int, within_s: float = PATIENCE_S) -> list[int]:
    """The processes that transcode, when there are so many; nobody tells us, so we look."""
    async with asyncio.timeout(within_s):
        while len(found := children()) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


@pytest.fixture
async def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
async def storage(tmp_path: Path, clock: FixedClock) -> AsyncIterator[Storage]:
    async with open_storage(Settings(data=tmp_path / "data"), clock) as opened:
        yield opened


@pytest.fixture
def place(storage: Storage, clock: FixedClock) -> Place:
    return made(storage, clock)


def made(storage: Storage, clock: FixedClock, *, bytes_max: int = 50_000_000, **limits: float) -> Place:
    queue = Queue(storage.records, clock)
    chosen = Limits(**limits)  # type: ignore[arg-type]
    transcodes = Transcodes(
        storage.records,
        storage.blobs,
        queue,
        clock,
        scratch=storage.scratch,
        bytes_max=bytes_max,
        waiting_max=3,
        keep_days=7,
        limits=chosen,
    )
    return Place(storage, clock, queue, transcodes, chosen)
