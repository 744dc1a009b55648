"""What is kept of jobs, and for how long; the rest is cleared away."""

from sqlalchemy import and_, delete, select, update

from mainstem.clock import SECOND_US, Clock
from mainstem.storage import Blobs, Records
from mainstem.transcode import places
from mainstem.transcode.model import FINAL_STATES, JobState
from mainstem.transcode.tables import jobs

_SETTLED_S = 60.0
"""So long after a job's end nobody writes files of it any more: its child is dead."""

_ABANDONED_S = 3_600.0
"""So old a file without a job is not on its way to one."""

_SEARCH_EVERY_S = 86_400.0
_SWEEP_COUNT = 100


class Retention:
    """Removes jobs past their time, and files that nobody needs any more."""

    def __init__(self, records: Records, blobs: Blobs, clock: Clock, keep_days: float) -> None:
        """Final jobs are kept for `keep_days`, 0 being for ever."""
        self._records = records
        self._blobs = blobs
        self._clock = clock
        self._keep_us = int(keep_days * 86_400 * SECOND_US)
        self._searched_us: int | None = None

    async def sweep(self) -> None:
        """Once over all of it; cheap when there is nothing to do."""
        now_us = self._clock()
        await self._retire(now_us)
        await self._tidy(now_us)
        if self._searched_us is None or now_us - self._searched_us > int(_SEARCH_EVERY_S * SECOND_US):
            self._searched_us = now_us
            await self._search(now_us)

    async def _retire(self, now_us: int) -> None:
        if not self._keep_us:
            return
        old = and_(
            jobs.c.state.in_(FINAL_STATES), jobs.c.completed_us < now_us - self._keep_us, jobs.c.removed_us.is_(None)
        )
        async with self._records.read() as rows:
            if await rows.scalar(select(jobs.c.number).where(old).limit(1)) is None:
                return
        async with self._records.begin() as tx:
            await tx.execute(update(jobs).where(old).values(removed_us=now_us, tidy=False))

    async def _tidy(self, now_us: int) -> None:
        """Of final jobs only the published run stays, of removed ones nothing. Those that ended just now are left
        alone: a child may still be dying."""
        settled = and_(~jobs.c.tidy, jobs.c.completed_us < now_us - int(_SETTLED_S * SECOND_US))
        async with self._records.read() as rows:
            untidy = (await rows.execute(select(jobs).where(settled).limit(_SWEEP_COUNT))).all()
        for row in untidy:
            published = row.removed_us is None and row.state == JobState.COMPLETED
            kept = places.output(row.id, row.run, "") if published else None
            async for name in self._blobs.list(places.folder(row.id)):
                if kept is None or not name.startswith(kept):
                    await self._blobs.delete(name)
            async with self._records.begin() as tx:
                if row.removed_us is None:
                    unchanged = and_(jobs.c.number == row.number, jobs.c.removed_us.is_(None))
                    await tx.execute(update(jobs).where(unchanged).values(tidy=True))
                else:
                    await tx.execute(delete(jobs).where(jobs.c.number == row.number))

    async def _search(self, now_us: int) -> None:
        """Delete files of jobs that are not there at all: a crash came between a file and its row."""
        unknown: set[str] = set()
        known: set[str] = set()
        async for name in self._blobs.list(places.ROOT):
            belongs = places.run_of(name)
            if belongs is None or belongs[0] in known:
                continue
            if belongs[0] not in unknown:
                async with self._records.read() as rows:
                    there = await rows.scalar(select(jobs.c.number).where(jobs.c.id == belongs[0]))
                (unknown if there is None else known).add(belongs[0])
                if there is not None:
                    continue
            info = await self._blobs.info(name)
            if info is not None and info.modified_us < now_us - int(_ABANDONED_S * SECOND_US):
                await self._blobs.delete(name)
