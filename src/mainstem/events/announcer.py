"""What was announced, appended to the log by the one process that owns it."""

import asyncio
from collections.abc import Sequence
from itertools import groupby

import msgspec
from msgspec import Raw

from mainstem.errors import MainstemError, Unavailable
from mainstem.events.announcements import KIND
from mainstem.events.model import DEDUPE_WINDOW_S_MAX
from mainstem.events.topics import Topics
from mainstem.storage import Draft, Drafts, Log
from mainstem.telemetry import get_logger
from mainstem.work import LeaseLost, Queue, Task

logger = get_logger("mainstem.announcements")

_BATCH_TASKS = 500
_GATHER_S = 0.25
_LEASE_S = 3_600.0
_WAIT_S = 30.0
_PAUSE_S = 1.0


class _Kept(msgspec.Struct, frozen=True):
    """An announcement as the queue keeps it. `data` stays as it was written."""

    topic: str
    event_type: str
    data: Raw
    event_id: str
    time_us: int

    def draft(self) -> Draft:
        return Draft(self.time_us, self.event_type, bytes(self.data), event_id=self.event_id)


_decode = msgspec.json.Decoder(list[_Kept]).decode


class Announcer:
    """Appends what was announced. There is one, in the process that owns the log."""

    def __init__(self, queue: Queue, log: Log, topics: Topics) -> None:
        self._queue = queue
        self._log = log
        self._topics = topics

    async def run(self) -> None:
        """Append until cancelled. Many announcements make few commits: after each it lets some gather."""
        await self._recover()
        while True:
            try:
                batch = await self._queue.lease([KIND], lease_s=_LEASE_S, count=_BATCH_TASKS)
            except Unavailable as error:
                logger.warning("announcements wait", error=str(error))
                await asyncio.sleep(_PAUSE_S)
                continue
            if not batch:
                await self._queue.wait([KIND], _WAIT_S)
                continue
            await self._append_all(batch)
            if len(batch) < _BATCH_TASKS:
                await asyncio.sleep(_GATHER_S)

    async def _recover(self) -> None:
        """What an earlier process held goes first, as it would have: nobody else appends."""
        while True:
            try:
                await self._queue.reclaim([KIND])
            except Unavailable as error:
                logger.warning("announcements wait", error=str(error))
                await asyncio.sleep(_PAUSE_S)
            else:
                return

    async def _append_all(self, batch: Sequence[Task]) -> None:
        """Once begun it is tried until it succeeds: later announcements must not overtake."""
        while True:
            try:
                await self._append(batch)
            except LeaseLost:
                return  # what is left of it is leased again, and what is in the log is known there
            except MainstemError as error:
                logger.warning("announcements wait", count=len(batch), error=str(error))
                await asyncio.sleep(_PAUSE_S)
            except Exception:  # a mistake of ours: the changes are made, and the rest of the server goes on
                logger.exception("announcements wait", count=len(batch))
                await asyncio.sleep(_PAUSE_S)
            else:
                return

    async def _append(self, batch: Sequence[Task]) -> None:
        kept: list[_Kept] = []
        unreadable: dict[Task, str] = {}
        for task in batch:
            try:
                kept += _decode(task.payload)
            except msgspec.DecodeError as error:  # of another version: it must not keep the others waiting
                unreadable[task] = str(error)
        kept.sort(key=_topic_of)  # which leaves those of one topic in order
        for topic_name, announcements in groupby(kept, _topic_of):
            topic = await self._topics.own(topic_name)
            drafts = Drafts.of(announcement.draft() for announcement in announcements)
            # The topic's own window may be shorter than the time a server is down.
            await self._log.append(topic.id, drafts, dedupe_window_s=DEDUPE_WINDOW_S_MAX)
        async with self._queue.begin() as tx:
            await self._queue.finish_all(tx, [task for task in batch if task not in unreadable])
            for task, reason in unreadable.items():
                logger.error("an announcement cannot be read", task=task.id, reason=reason)
                await self._queue.park(tx, task, reason)


def _topic_of(announcement: _Kept) -> str:
    return announcement.topic
