"""The queue of tasks: put in the transaction that makes them needed, done once or parked, whoever dies in between."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, case, delete, func, insert, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.clock import SECOND_US, Clock
from mainstem.errors import Invalid
from mainstem.storage import Records
from mainstem.work.model import HEAD_START_S, LeaseLost, ParkedTask, Priority, QueueFigures, Task, TaskId, TaskNotFound
from mainstem.work.tables import tasks

PAYLOAD_BYTES_MAX = 256 << 10
KEY_CHARACTERS_MAX = 512
ERROR_CHARACTERS_MAX = 2_000
LEASE_COUNT_MAX = 1_000
PARKED_PAGE_MAX = 1_000

_POLL_S = 0.25
"""How late a process may learn of what another one has put."""

_FREE = tasks.c.held_until_us.is_(None) & tasks.c.parked_us.is_(None)
_ORDER = (tasks.c.due_us, tasks.c.id)


class Queue:
    """Tasks in Records. Every process has a queue of its own on the same rows.

    A task is waiting, held back (delayed, or to be tried again), leased, or parked; done or cancelled, it is gone. What
    takes a transaction `tx` happens with the rest of that transaction or not at all.
    """

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock
        self._put_kinds: set[str] = set()
        self._waiters: dict[asyncio.Event, frozenset[str]] = {}
        records.watch(self._committed)

    def begin(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction to finish, retry or park in; see `Records.begin`."""
        return self._records.begin()

    async def version(self) -> int:
        """Stays the same while no process commits anything; see `Records.version`."""
        return await self._records.version()

    # To have something done

    async def put(
        self,
        tx: AsyncConnection,
        kind: str,
        payload: bytes,
        *,
        key: str | None = None,
        priority: Priority = Priority.NORMAL,
        delay_s: float = 0.0,
        attempts_max: int = 3,
    ) -> TaskId:
        """Put a task; its id. With a key that a task of this kind already has, waiting, leased or parked, nothing
        changes, and the answer is that task's id.

        Raises Invalid for a payload or key that is too large.
        """
        _check(payload, key)
        now_us = self._clock()
        ready_us = now_us + int(delay_s * SECOND_US)
        if key is not None:
            same = select(tasks.c.id).where(tasks.c.kind == kind, tasks.c.key == key)
            if (there := await tx.scalar(same)) is not None:
                return TaskId(there)
        row = insert(tasks).values(
            kind=kind,
            key=secrets.token_urlsafe(12) if key is None else key,
            payload=payload,
            priority=int(priority),
            created_us=now_us,
            due_us=ready_us + HEAD_START_S[priority] * SECOND_US,
            held_until_us=ready_us if ready_us > now_us else None,
            attempt=0,
            attempts_max=attempts_max,
        )
        task_id = TaskId((await tx.execute(row.returning(tasks.c.id))).scalar_one())
        self._put_kinds.add(kind)
        return task_id

    async def cancel(self, tx: AsyncConnection, kind: str, key: str) -> bool:
        """Take a task away, whatever its state; False when there is none. Its holder, if any, has lost it."""
        gone = await tx.execute(delete(tasks).where(tasks.c.kind == kind, tasks.c.key == key))
        return gone.rowcount > 0

    # To do it

    async def lease(self, kinds: Sequence[str], *, lease_s: float, count: int = 1) -> list[Task]:
        """Up to `count` tasks (at most 1,000), for nobody else until `lease_s` from now: the most due first.

        Those whose holder let the lease run out are among them. Look at `Task.spent` before you begin. There may be
        more though fewer come, where several processes lease at once.
        """
        assert 1 <= count <= LEASE_COUNT_MAX
        now_us = self._clock()
        overdue = and_(tasks.c.kind.in_(kinds), tasks.c.held_until_us <= now_us)
        # Looking costs no writer's turn, so those who find nothing keep nobody from writing.
        async with self._records.read() as rows:
            has_overdue = await rows.scalar(select(tasks.c.id).where(overdue).limit(1)) is not None
            first = list((await rows.execute(_first(kinds, count))).scalars())
        if not first and not has_overdue:
            return []
        async with self._records.begin() as tx:
            if has_overdue:
                await tx.execute(_let_go(overdue))
                first = list((await tx.execute(_first(kinds, count))).scalars())
            taken = (
                update(tasks)
                .where(tasks.c.id.in_(first), _FREE)  # another process may have been quicker
                .values(
                    lease=func.lower(func.hex(func.randomblob(12))),
                    held_until_us=now_us + int(lease_s * SECOND_US),
                    attempt=tasks.c.attempt + 1,
                )
                .returning(tasks)
            )
            leased = (await tx.execute(taken)).all()
        return [_task_of(row) for row in sorted(leased, key=lambda row: (row.due_us, row.id))]

    async def renew(self, task: Task, lease_s: float) -> None:
        """Hold a task for `lease_s` from now. Raises LeaseLost."""
        if not await self.renew_all([task], lease_s):
            raise _lost(task)

    async def renew_all(self, held: Sequence[Task], lease_s: float) -> set[TaskId]:
        """Hold these tasks for `lease_s` from now; the ids of those that are still their holder's."""
        until_us = self._clock() + int(lease_s * SECOND_US)
        renewed = update(tasks).where(_held(*held)).values(held_until_us=until_us).returning(tasks.c.id)
        async with self._records.begin() as tx:
            return set((await tx.execute(renewed)).scalars())

    async def held(self, held: Sequence[Task]) -> set[TaskId]:
        """The ids of those of these tasks that are still their holder's."""
        async with self._records.read() as rows:
            return set((await rows.execute(select(tasks.c.id).where(_held(*held)))).scalars())

    async def confirm(self, tx: AsyncConnection, task: Task) -> None:
        """Let the rest of the transaction happen only if the task is still the caller's. Raises LeaseLost."""
        if await tx.scalar(select(tasks.c.id).where(_held(task))) is None:
            raise _lost(task)

    async def finish(self, tx: AsyncConnection, task: Task) -> None:
        """The task is done and gone. Raises LeaseLost, so that the caller's transaction, too, is as if it never was."""
        _require_one(task, await tx.execute(delete(tasks).where(_held(task))))

    async def finish_all(self, tx: AsyncConnection, done: Sequence[Task]) -> None:
        """`finish` for tasks that were leased together and are done together."""
        if (await tx.execute(delete(tasks).where(_held(*done)))).rowcount != len(done):
            raise LeaseLost("Some of these tasks are no longer yours.")

    async def release(self, tx: AsyncConnection, task: Task) -> None:
        """Give a task back undone, as if it had not been leased: others may have it at once. Raises LeaseLost."""
        back = update(tasks).where(_held(task)).values(lease=None, held_until_us=None, attempt=tasks.c.attempt - 1)
        _require_one(task, await tx.execute(back))
        self._put_kinds.add(task.kind)

    async def retry(self, tx: AsyncConnection, task: Task, error: str, *, delay_s: float) -> bool:
        """Let a task be tried again in `delay_s`; False when no attempt is left and it was parked instead.

        Raises LeaseLost.
        """
        if task.attempt >= task.attempts_max:
            await self.park(tx, task, error)
            return False
        until_us = self._clock() + int(delay_s * SECOND_US) if delay_s > 0 else None
        again = update(tasks).where(_held(task)).values(lease=None, held_until_us=until_us, error=_told(error))
        _require_one(task, await tx.execute(again))
        self._put_kinds.add(task.kind)
        return True

    async def park(self, tx: AsyncConnection, task: Task, error: str) -> None:
        """Put a task aside, to be looked at by somebody. Raises LeaseLost."""
        aside = {"lease": None, "held_until_us": None, "parked_us": self._clock(), "error": _told(error)}
        _require_one(task, await tx.execute(update(tasks).where(_held(task)).values(aside)))

    async def reclaim(self, kinds: Sequence[str]) -> None:
        """End every lease on tasks of these kinds, for one who knows that their holders are dead."""
        async with self._records.begin() as tx:
            await tx.execute(_let_go(and_(tasks.c.kind.in_(kinds), tasks.c.lease.is_not(None))))

    async def wait(self, kinds: Sequence[str], timeout_s: float) -> None:
        """Come back when there may be something to lease, at the latest after `timeout_s`.

        What this process puts is noticed at once; what another one does, or the clock, within a quarter of a second.
        """
        woken = asyncio.Event()
        self._waiters[woken] = frozenset(kinds)
        try:
            async with asyncio.timeout(timeout_s):
                await self._watch(kinds, woken)
        except TimeoutError:
            return
        finally:
            del self._waiters[woken]

    async def _watch(self, kinds: Sequence[str], woken: asyncio.Event) -> None:
        seen, due_us = -1, None
        while not woken.is_set():
            version = await self._records.version()  # before the rows: what is committed in between is seen next time
            if version != seen:
                seen = version
                async with self._records.read() as rows:
                    if await rows.scalar(_anything(kinds, self._clock())) is not None:
                        return
                    due_us = await rows.scalar(_next_release(kinds))
            if due_us is not None and due_us <= self._clock():
                return
            try:
                async with asyncio.timeout(_POLL_S):
                    await woken.wait()
            except TimeoutError:
                continue

    def _committed(self) -> None:
        """A transaction of this process was committed, perhaps one that put something."""
        if not self._put_kinds:
            return
        for woken, kinds in self._waiters.items():
            if kinds & self._put_kinds:
                woken.set()
        self._put_kinds.clear()

    # To look at it

    async def parked(self, kind: str | None = None, *, limit: int = 100, after: int = 0) -> list[ParkedTask]:
        """Parked tasks of one kind or all, by id, from behind `after`; at most 1,000."""
        query = select(tasks).where(tasks.c.parked_us.is_not(None), tasks.c.id > after).order_by(tasks.c.id)
        if kind is not None:
            query = query.where(tasks.c.kind == kind)
        async with self._records.read() as rows:
            return [_parked_of(row) for row in await rows.execute(query.limit(min(limit, PARKED_PAGE_MAX)))]

    async def replay(self, task_id: TaskId) -> None:
        """Let a parked task wait once more, with all its attempts. Raises TaskNotFound."""
        now_us = self._clock()
        head_start_us = case(
            {int(one): after * SECOND_US for one, after in HEAD_START_S.items()}, value=tasks.c.priority
        )
        anew = {"parked_us": None, "attempt": 0, "due_us": now_us + head_start_us}
        async with self._records.begin() as tx:
            parked = and_(tasks.c.id == task_id, tasks.c.parked_us.is_not(None))
            kind = await tx.scalar(update(tasks).where(parked).values(anew).returning(tasks.c.kind))
            if kind is None:
                raise TaskNotFound(f"There is no parked task {task_id}: see `mainstem tasks list`.", task=task_id)
            self._put_kinds.add(kind)

    async def depth(self, kind: str) -> int:
        """How many tasks of this kind there are that are neither done nor parked."""
        async with self._records.read() as rows:
            there = select(func.count()).where(tasks.c.kind == kind, tasks.c.parked_us.is_(None))
            return (await rows.scalar(there)) or 0

    async def figures(self) -> Mapping[str, QueueFigures]:
        """How each kind stands that has tasks at all. Reads all rows: for every few seconds at most."""
        async with self._records.read() as rows:
            found = (await rows.execute(_FIGURES)).all()
        now_us = self._clock()
        return {
            row.kind: QueueFigures(
                waiting=row.waiting,
                delayed=row.there - row.waiting - row.leased - row.parked,
                leased=row.leased,
                parked=row.parked,
                oldest_waiting_s=0.0 if row.oldest_us is None else max(0, now_us - row.oldest_us) / SECOND_US,
            )
            for row in found
        }


_FIGURES = (
    select(
        tasks.c.kind,
        func.count().label("there"),
        func.count().filter(_FREE).label("waiting"),
        func.count().filter(tasks.c.lease.is_not(None)).label("leased"),
        func.count().filter(tasks.c.parked_us.is_not(None)).label("parked"),
        func.min(tasks.c.created_us).filter(_FREE).label("oldest_us"),
    )
    .group_by(tasks.c.kind)
    .order_by(tasks.c.kind)
)


def _anything(kinds: Sequence[str], now_us: int) -> Any:
    """Whether a lease would find something: one look at each of two indexes for each kind."""
    return union_all(
        *(
            select(select(tasks.c.id).where(tasks.c.kind == kind, condition).limit(1).subquery().c.id)
            for kind in kinds
            for condition in (_FREE, tasks.c.held_until_us <= now_us)
        )
    ).limit(1)


def _first(kinds: Sequence[str], count: int) -> Any:
    """The ids of the most due, from the head of each kind's part of the index: others' tasks are never passed over."""
    heads = [
        select(tasks.c.id, tasks.c.due_us).where(tasks.c.kind == kind, _FREE).order_by(*_ORDER).limit(count).subquery()
        for kind in kinds
    ]
    together = union_all(*(select(head.c.id, head.c.due_us) for head in heads)).subquery()
    return select(together.c.id).order_by(together.c.due_us, together.c.id).limit(count)


def _next_release(kinds: Sequence[str]) -> Any:
    return select(func.min(tasks.c.held_until_us)).where(tasks.c.kind.in_(kinds), tasks.c.held_until_us.is_not(None))


def _let_go(which: ColumnElement[bool]) -> Any:
    """A holder that let its lease run out said nothing of why: the error of an attempt before must not stand for it."""
    silent = case((tasks.c.lease.is_not(None), None), else_=tasks.c.error)
    return update(tasks).where(which).values(error=silent, lease=None, held_until_us=None)


def _held(*held: Task) -> ColumnElement[bool]:
    """Those of these tasks whose lease is still the holder's. No two rows ever have the same lease."""
    return and_(tasks.c.id.in_([task.id for task in held]), tasks.c.lease.in_([task.lease for task in held]))


def _require_one(task: Task, result: Any) -> None:
    if result.rowcount != 1:
        raise _lost(task)


def _lost(task: Task) -> LeaseLost:
    return LeaseLost(f"The {task.kind} task {task.key} is no longer yours.", task=task.id)


def _check(payload: bytes, key: str | None) -> None:
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise Invalid(f"A task carries at most {PAYLOAD_BYTES_MAX:,} bytes.", limit_bytes=PAYLOAD_BYTES_MAX)
    if key is not None and len(key) > KEY_CHARACTERS_MAX:
        raise Invalid(f"A task's key has at most {KEY_CHARACTERS_MAX} characters.")


def _told(error: str) -> str:
    return error[:ERROR_CHARACTERS_MAX]


def _task_of(row: Row[Any]) -> Task:
    return Task(
        id=TaskId(row.id),
        kind=row.kind,
        key=row.key,
        payload=row.payload,
        attempt=row.attempt,
        attempts_max=row.attempts_max,
        lease=row.lease,
        priority=Priority(row.priority),
        created_us=row.created_us,
        error=row.error,
    )


def _parked_of(row: Row[Any]) -> ParkedTask:
    return ParkedTask(
        id=TaskId(row.id),
        kind=row.kind,
        key=row.key,
        attempts=row.attempt,
        error=row.error or "",
        created_us=row.created_us,
        parked_us=row.parked_us,
    )
