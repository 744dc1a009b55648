"""Doing tasks: as many at once as each kind allows, held while they run, tried again, and given up in the end."""

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.errors import MainstemError, Unavailable
from mainstem.telemetry import get_logger
from mainstem.work.model import LeaseLost, Task
from mainstem.work.queue import Queue

logger = get_logger("mainstem.work")

LOST_GRACE_S = 5.0

_LOOK_EVERY_S = 0.5
"""How late a holder may learn that its task was cancelled."""

_WAIT_S = 30.0
_PAUSE_S = 1.0
_BACK_OFF_S = (5.0, 60.0, 300.0)


class Held:
    """What a handler may ask about the task in its hands."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        """Set when the task is no longer the handler's, within a second of its being cancelled: nothing that it
        publishes would be taken, so it ends. After five seconds more it is cancelled."""


class Handler(Protocol):
    """Does the tasks of one kind."""

    async def run(self, task: Task, held: Held) -> None:
        """Do the work, and finish the task in the transaction that publishes it (`Queue.finish`).

        Whatever it raises, the task is tried again after 5 s, then 1 min, then 5 min each. When it is cancelled though
        `held.lost` is not set, the worker ends, and the task goes back as it was.
        """

    async def give_up(self, tx: AsyncConnection, task: Task, error: str) -> None:
        """Say that the work will not be done, in the transaction that parks the task: no attempt is left, or the holder
        of the last one died."""


@dataclass(frozen=True, slots=True)
class _Holding:
    task: Task
    held: Held
    doing: asyncio.Task[None]


class Worker:
    """Leases the tasks that it has handlers for and sees to them until it is cancelled.

    `concurrency` says of each kind how many are under way at once. A lease outlives two late heartbeats, and what a
    process held that dies is tried again when its lease runs out.
    """

    def __init__(
        self,
        queue: Queue,
        handlers: Mapping[str, Handler],
        *,
        concurrency: Mapping[str, int],
        lease_s: float = 15.0,
        heartbeat_s: float = 5.0,
    ) -> None:
        assert heartbeat_s * 2 < lease_s
        self._queue = queue
        self._handlers = handlers
        self._concurrency = concurrency
        self._lease_s = lease_s
        self._heartbeat_s = heartbeat_s
        self._holding: dict[str, _Holding] = {}  # by lease

    async def run(self) -> None:
        """Work until cancelled. What is under way then is stopped and given back, and has cost no attempt."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep())
            for kind, handler in self._handlers.items():
                group.create_task(self._serve(group, kind, handler))

    async def _serve(self, group: asyncio.TaskGroup, kind: str, handler: Handler) -> None:
        doing: set[asyncio.Task[None]] = set()
        while True:
            room = self._concurrency[kind] - len(doing)
            if room == 0:
                _, doing = await asyncio.wait(doing, return_when=asyncio.FIRST_COMPLETED)
                continue
            leased = await self._lease(kind, room)
            for task in leased:
                held = Held()
                one = group.create_task(self._see_to(handler, task, held), name=f"{kind} {task.key}")
                self._holding[task.lease] = _Holding(task, held, one)
                one.add_done_callback(lambda _, lease=task.lease: self._holding.pop(lease))  # type: ignore[misc]
                doing.add(one)
            if len(leased) < room:
                await self._wait(kind)
            doing = {one for one in doing if not one.done()}

    async def _lease(self, kind: str, count: int) -> list[Task]:
        leasing = asyncio.ensure_future(self._queue.lease([kind], lease_s=self._lease_s, count=count))
        try:
            return await asyncio.shield(leasing)
        except asyncio.CancelledError:
            with suppress(MainstemError):
                for task in await leasing:
                    await self._give_back(task)
            raise
        except Unavailable as error:
            await self._pause(kind, error)
            return []

    async def _wait(self, kind: str) -> None:
        try:
            await self._queue.wait([kind], _WAIT_S)
        except Unavailable as error:
            await self._pause(kind, error)

    async def _pause(self, kind: str, error: Unavailable) -> None:
        logger.warning("no tasks can be had", kind=kind, error=str(error))
        await asyncio.sleep(_PAUSE_S)

    # One task

    async def _see_to(self, handler: Handler, task: Task, held: Held) -> None:
        try:
            if task.spent:
                error = f"Whoever worked on it died, {task.attempts_max} times."
                await _undisturbed(self._give_up(handler, task, error))
            else:
                await self._attempt(handler, task, held)
        except LeaseLost:
            logger.info("task lost", kind=task.kind, key=task.key, attempt=task.attempt)
        except Unavailable as error:
            # Its lease runs out, and then it is tried again.
            logger.warning("task left alone", kind=task.kind, key=task.key, error=str(error))
        except Exception:  # giving up failed: the others go on
            logger.exception("task left alone", kind=task.kind, key=task.key)

    async def _attempt(self, handler: Handler, task: Task, held: Held) -> None:
        try:
            await handler.run(task, held)
        except LeaseLost:
            raise
        except asyncio.CancelledError:
            if not held.lost.is_set():
                await self._give_back(task)
            raise
        except MainstemError as error:
            await _undisturbed(self._failed(handler, task, str(error)))
        except Exception as error:  # whatever is wrong with one task, the others go on
            logger.exception("task failed", kind=task.kind, key=task.key, attempt=task.attempt)
            await _undisturbed(self._failed(handler, task, f"{type(error).__name__}: {error}"))

    async def _failed(self, handler: Handler, task: Task, error: str) -> None:
        logger.warning("attempt failed", kind=task.kind, key=task.key, attempt=task.attempt, error=error)
        delay_s = _BACK_OFF_S[min(task.attempt, len(_BACK_OFF_S)) - 1]
        async with self._queue.begin() as tx:
            if not await self._queue.retry(tx, task, error, delay_s=delay_s):
                await handler.give_up(tx, task, error)

    async def _give_up(self, handler: Handler, task: Task, error: str) -> None:
        async with self._queue.begin() as tx:
            await self._queue.park(tx, task, error)
            await handler.give_up(tx, task, error)

    async def _give_back(self, task: Task) -> None:
        try:
            async with self._queue.begin() as tx:
                await self._queue.release(tx, task)
        except MainstemError as error:
            logger.info("task not given back", kind=task.kind, key=task.key, error=str(error))

    # All that are held

    async def _keep(self) -> None:
        """Renew every lease in time, and tell those who have lost theirs."""
        loop = asyncio.get_running_loop()
        seen, renew_at = -1, loop.time() + self._heartbeat_s
        while True:
            await asyncio.sleep(min(_LOOK_EVERY_S, self._heartbeat_s))
            holding = list(self._holding.values())
            if not holding:
                continue
            tasks = [one.task for one in holding]
            try:
                version = await self._queue.version()
                late = loop.time() >= renew_at
                if not late and version == seen:
                    continue
                if late:
                    renew_at = loop.time() + self._heartbeat_s
                    mine = await self._queue.renew_all(tasks, self._lease_s)
                else:
                    mine = await self._queue.held(tasks)
            except Unavailable as error:
                logger.warning("leases not renewed", error=str(error))
                continue
            seen = version
            for one in holding:
                if one.task.id not in mine and not one.doing.done() and not one.held.lost.is_set():
                    one.held.lost.set()
                    loop.call_later(LOST_GRACE_S, one.doing.cancel)


async def _undisturbed(work: Coroutine[None, None, None]) -> None:
    """Do this to its end, also when cancelled meanwhile: what has come of a task is worth the moment that it takes to
    write it down."""
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise
