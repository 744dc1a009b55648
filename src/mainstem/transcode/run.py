"""Doing a job: a child process makes the segments, this process keeps them, and publishes when all are there.

A run's files lie under a prefix of its own, so nothing that a run leaves behind when it is killed can be seen in what
another one makes. What players may see of a job changes in one transaction, together with the end of the task.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Self

import msgspec
from msgspec.structs import replace
from sqlalchemy import and_, case, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.clock import Clock
from mainstem.errors import Unavailable
from mainstem.events import Announcement, announce
from mainstem.ids import random_id
from mainstem.settings import Settings
from mainstem.storage import Blobs, Records
from mainstem.telemetry import get_logger
from mainstem.transcode import places
from mainstem.transcode.child import COVER_FILE, WAVEFORM_FILE, Broken, Done, Message, Spec, Told, Written, file_name
from mainstem.transcode.children import Child, running
from mainstem.transcode.model import OPEN_STATES, Job, JobState
from mainstem.transcode.rows import encoded, job_of, told_of
from mainstem.transcode.sandbox import Allowance
from mainstem.transcode.tables import jobs, segments
from mainstem.work import Held, LeaseLost, Priority, Queue, Task

logger = get_logger("mainstem.transcode")

KIND = "transcode"
TOPIC = "mainstem.transcodes"
ATTEMPTS_MAX = 3

_NICENESS = {Priority.URGENT: 0, Priority.NORMAL: 5, Priority.BACKGROUND: 15}
_GATHER_S = 0.25
_TELL_EVERY_S = 0.5
_GIB = 1 << 30
_EVENTS = {
    JobState.COMPLETED: "transcode.completed",
    JobState.FAILED: "transcode.failed",
    JobState.CANCELLED: "transcode.cancelled",
}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a job may take."""

    timeout_s: float = 3_600
    """How long one attempt may last."""
    duration_max_s: float = 43_200
    """How much sound a file may hold."""
    memory_bytes: int = 2 * _GIB
    disk_free_bytes_min: int = 0
    """The free space below which nothing more is written."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            timeout_s=settings.transcode_timeout_s,
            duration_max_s=settings.transcode_duration_max_s,
            memory_bytes=settings.transcode_memory_bytes,
            disk_free_bytes_min=settings.disk_free_bytes_min,
        )


class AttemptFailed(Unavailable):
    """An attempt ended without an output; another one may do better."""


class TranscodeHandler:
    """Does the tasks of the kind `transcode`; each one's key is a job's id."""

    def __init__(
        self, records: Records, blobs: Blobs, queue: Queue, clock: Clock, *, scratch: Path, limits: Limits
    ) -> None:
        """`scratch` is a folder of this process, on the file system of the blobs if they are in one."""
        self._records = records
        self._blobs = blobs
        self._queue = queue
        self._clock = clock
        self._scratch = scratch
        self._limits = limits

    async def run(self, task: Task, held: Held) -> None:
        """One attempt at a job, published when it succeeds."""
        working = asyncio.create_task(self._attempt(task))
        losing = asyncio.create_task(held.lost.wait())
        try:
            await asyncio.wait({working, losing}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise LeaseLost("The job was cancelled, or somebody else has it.")
            await working
        finally:
            for one in (working, losing):
                one.cancel()
            await asyncio.wait({working, losing})  # the child is dead when we come back

    async def give_up(self, tx: AsyncConnection, task: Task, error: str) -> None:
        """The job failed for good, in the transaction that parks its task."""
        await end(tx, self._queue, task.key, JobState.FAILED, self._clock(), error)

    async def _attempt(self, task: Task) -> None:
        begun = await self._begin(task)
        if begun is None:
            return
        job, run = begun
        with _folder(self._scratch) as folder:
            await self._blobs.copy(places.source(job.id), folder / "source")
            output = folder / "output"
            output.mkdir()
            try:
                async with asyncio.timeout(self._limits.timeout_s), running(self._spec(job, folder, output)) as child:
                    last = await self._attend(job, run, child, output)
            except TimeoutError:
                last = Broken(f"It took longer than the {self._limits.timeout_s:g} s that a job may take.", final=True)
            match last:
                case Done():
                    await self._publish(task, job, run, last, output)
                case Broken(final=True):
                    await self._fail(task, job, last.message)
                case Broken():
                    raise AttemptFailed(last.message)

    async def _begin(self, task: Task) -> tuple[Job, int] | None:
        """The job and the number of this run; None when there is nothing to do any more."""
        async with self._records.begin() as tx:
            # Who lost his lease must not take the job from who has it.
            await self._queue.confirm(tx, task)
            row = (await tx.execute(select(jobs).where(_alive(task.key)))).one_or_none()
            if row is None:
                await self._queue.finish(tx, task)
                return None
            begun = {
                "state": JobState.PROCESSING,
                "started_us": row.started_us or self._clock(),
                "attempt": task.attempt,
                "run": row.run + 1,
            }
            await tx.execute(update(jobs).where(jobs.c.id == task.key).values(begun))
        return job_of(row), row.run + 1

    def _spec(self, job: Job, folder: Path, output: Path) -> Spec:
        allowance = Allowance(
            memory_bytes=self._limits.memory_bytes,
            cpu_s=int(self._limits.timeout_s) + 1,
            file_bytes=_GIB,
            niceness=_NICENESS[job.order.priority],
        )
        return Spec(
            source=str(folder / "source"),
            folder=str(output),
            rungs=job.rungs,
            target_lufs=job.order.loudness,
            duration_max_s=self._limits.duration_max_s,
            disk_free_bytes_min=self._limits.disk_free_bytes_min,
            allowance=allowance,
        )

    async def _attend(self, job: Job, run: int, child: Child, output: Path) -> Done | Broken:
        """Keep what the child writes as it comes. The first segment is kept at once, and while that goes on what
        follows gathers, so that many share a transaction and a sync."""
        last: Message | None = None
        saved_at = 0.0
        async for told in child.messages():
            last = told[-1]
            news = [message for message in told if isinstance(message, Written | Told)]
            written = any(isinstance(message, Written) for message in news)
            if written or (news and monotonic() - saved_at > _TELL_EVERY_S):
                await self._save(job, run, news, output)
                saved_at = monotonic()
                if written:
                    await asyncio.sleep(_GATHER_S)
        if isinstance(last, Done | Broken):
            return last
        status = await child.status()
        logger.warning("child died", job=job.id, run=run, status=status, said=child.said())
        return Broken(f"Its process ended early ({status}).", final=False)

    async def _save(self, job: Job, run: int, news: Sequence[Written | Told], output: Path) -> None:
        written = [message for message in news if isinstance(message, Written)]
        paths = [f"{job.rungs[one.rung].name}/{file_name(job.rungs[one.rung], one.number)}" for one in written]
        await self._blobs.adopt({places.output(job.id, run, path): output / path for path in paths})
        progress = news[-1].progress
        async with self._records.begin() as tx:
            higher = case((jobs.c.progress < progress, progress), else_=jobs.c.progress)
            number = await tx.scalar(
                update(jobs).where(_mine(job.id, run)).values(progress=higher).returning(jobs.c.number)
            )
            if number is None:
                raise LeaseLost("The job was cancelled, or somebody else has it.")
            if written:
                same = [and_(segments.c.rung == one.rung, segments.c.number == one.number) for one in written]
                await tx.execute(delete(segments).where(segments.c.job == number, or_(*same)))
                await tx.execute(insert(segments), [_segment_row(number, run, one) for one in written])

    async def _publish(self, task: Task, job: Job, run: int, done: Done, output: Path) -> None:
        extras = [WAVEFORM_FILE, *([COVER_FILE] if done.cover else [])]
        await self._blobs.adopt({places.output(job.id, run, name): output / name for name in extras})
        values = {
            "state": JobState.COMPLETED,
            "progress": 100.0,
            "completed_us": self._clock(),
            "media": encoded(replace(job.media, duration_s=done.duration_s)),
            "loudness": encoded(done.loudness),
            "cover": done.cover,
            "has_waveform": True,
        }
        async with self._records.begin() as tx:
            row = (
                await tx.execute(update(jobs).where(_mine(job.id, run)).values(values).returning(jobs))
            ).one_or_none()
            if row is None:
                raise LeaseLost("The job was cancelled, or somebody else has it.")
            await tx.execute(delete(segments).where(segments.c.job == row.number, segments.c.run != run))
            await self._queue.finish(tx, task)
            await _announce(tx, self._queue, job_of(row))

    async def _fail(self, task: Task, job: Job, error: str) -> None:
        async with self._records.begin() as tx:
            await self._queue.finish(tx, task)
            await end(tx, self._queue, job.id, JobState.FAILED, self._clock(), error)


async def end(
    tx: AsyncConnection, queue: Queue, job_id: str, state: JobState, now_us: int, error: str | None = None
) -> Job | None:
    """Bring a job to its end without an output and tell of it; None when it had one already."""
    values = {"state": state, "completed_us": now_us, "error": error}
    row = (await tx.execute(update(jobs).where(_alive(job_id)).values(values).returning(jobs))).one_or_none()
    if row is None:
        return None
    await tx.execute(delete(segments).where(segments.c.job == row.number))
    job = job_of(row)
    await _announce(tx, queue, job)
    return job


async def _announce(tx: AsyncConnection, queue: Queue, job: Job) -> None:
    assert job.completed_us is not None
    event = Announcement(TOPIC, _EVENTS[job.state], dict(told_of(job)), random_id("transcode"), job.completed_us)
    await announce(tx, queue, event)


def _alive(job_id: str) -> Any:
    return and_(jobs.c.id == job_id, jobs.c.state.in_(OPEN_STATES), jobs.c.removed_us.is_(None))


def _mine(job_id: str, run: int) -> Any:
    return and_(jobs.c.id == job_id, jobs.c.run == run, jobs.c.state == JobState.PROCESSING)


def _segment_row(number: int, run: int, one: Written) -> Mapping[str, int]:
    return {
        "job": number,
        "rung": one.rung,
        "number": one.number,
        "run": run,
        "ticks": one.ticks,
        "bytes": one.size,
    }


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="job-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
