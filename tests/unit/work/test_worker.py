"""The worker: how many at once, what it does about failure and loss, and how it ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.clock import SECOND_US, FixedClock
from mainstem.errors import Invalid, Unavailable
from mainstem.storage import SqliteRecords
from mainstem.work import Held, LeaseLost, Priority, Queue, Task, Worker, worker
from mainstem.work.tables import tasks
from waiting import PATIENCE_S

LEASE_S = 15

type Recipe = Callable[[Task, Held], Awaitable[None]]


class Baker:
    """A handler that does what a test tells it, and remembers."""

    def __init__(self, queue: Queue, recipe: Recipe | None = None) -> None:
        self.queue = queue
        self.recipe = recipe
        self.begun: list[str] = []
        self.given_up: list[tuple[str, str]] = []
        self.changed = asyncio.Condition()

    async def run(self, task: Task, held: Held) -> None:
        await self._note(self.begun, task.key)
        if self.recipe is not None:
            await self.recipe(task, held)
        async with self.queue.begin() as tx:
            await self.queue.finish(tx, task)

    async def give_up(self, tx: AsyncConnection, task: Task, error: str) -> None:
        await self._note(self.given_up, (task.key, error))

    async def _note[Item](self, where: list[Item], what: Item) -> None:
        async with self.changed:
            where.append(what)
            self.changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(condition)


@asynccontextmanager
async def working(baker: Baker, at_once: int = 1, kind: str = "bake") -> AsyncIterator[asyncio.Task[None]]:
    one = Worker(baker.queue, {kind: baker}, concurrency={kind: at_once}, lease_s=LEASE_S, heartbeat_s=0.1)
    running = asyncio.create_task(one.run())
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.wait([running])


async def put(queue: Queue, *keys: str, priority: Priority = Priority.NORMAL, attempts_max: int = 3) -> None:
    async with queue.begin() as tx:
        for key in keys:
            await queue.put(tx, "bake", b"", key=key, priority=priority, attempts_max=attempts_max)


async def emptied(queue: Queue, left: int = 0) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await queue.depth("bake") > left:  # noqa: ASYNC110  # the rows tell, and rows have no event
            await asyncio.sleep(0.01)


async def renewed(queue: Queue, clock: FixedClock) -> None:
    """Until the lease of the task that is under way counts from now."""
    async with asyncio.timeout(PATIENCE_S):
        held_until_us = None
        while held_until_us != clock() + LEASE_S * SECOND_US:
            async with queue.begin() as tx:
                held_until_us = await tx.scalar(select(func.max(tasks.c.held_until_us)))


async def test_tasks_are_done_in_their_order(queue: Queue) -> None:
    await put(queue, "second", "third")
    await put(queue, "first", priority=Priority.URGENT)
    baker = Baker(queue)

    async with working(baker):
        await emptied(queue)

    assert baker.begun == ["first", "second", "third"]


async def test_what_is_put_while_it_waits_is_done_at_once(queue: Queue) -> None:
    baker = Baker(queue)
    async with working(baker):
        await put(queue, "bread")
        await emptied(queue)

    assert baker.begun == ["bread"]


async def test_no_more_are_under_way_than_allowed_and_no_fewer(queue: Queue) -> None:
    enough = asyncio.Event()
    under_way: list[int] = []

    async def recipe(task: Task, held: Held) -> None:
        await enough.wait()
        under_way.append(len(baker.begun))

    await put(queue, *"abcde")
    baker = Baker(queue, recipe)
    async with working(baker, at_once=3):
        await baker.until(lambda: len(baker.begun) == 3)
        assert await queue.depth("bake") == 5
        assert [task.key for task in await queue.lease(["bake"], lease_s=1, count=9)] == ["d", "e"]
        enough.set()
        await emptied(queue, left=2)

    assert baker.begun == ["a", "b", "c"]
    assert len(under_way) == 3


async def test_a_failure_is_tried_again_later_and_told_the_next_time(queue: Queue, clock: FixedClock) -> None:
    async def recipe(task: Task, held: Held) -> None:
        if (task.key, task.attempt) == ("bread", 1):
            raise Invalid("the oven was cold")
        told.append((task.key, task.error))

    told: list[tuple[str, str | None]] = []

    await put(queue, "bread")
    baker = Baker(queue, recipe)
    async with working(baker):
        await baker.until(lambda: len(baker.begun) == 1)
        await put(queue, "cake")
        await baker.until(lambda: len(baker.begun) == 2)  # so the failure of the first is written
        clock.advance(5)
        await emptied(queue)

    assert told == [("cake", None), ("bread", "the oven was cold")]


async def test_after_the_last_failure_it_is_given_up_and_parked(queue: Queue) -> None:
    async def recipe(task: Task, held: Held) -> None:
        raise ZeroDivisionError("no flour")

    await put(queue, "bread", attempts_max=1)
    baker = Baker(queue, recipe)
    async with working(baker):
        await baker.until(lambda: len(baker.given_up) == 1)
        await emptied(queue)

    assert baker.given_up == [("bread", "ZeroDivisionError: no flour")]
    (parked,) = await queue.parked()
    assert parked.error == "ZeroDivisionError: no flour"


async def test_a_task_whose_holders_all_died_is_given_up_without_another_try(queue: Queue, clock: FixedClock) -> None:
    await put(queue, "bread", attempts_max=2)
    for _ in range(2):
        await queue.lease(["bake"], lease_s=15)
        clock.advance(15)
    baker = Baker(queue)

    async with working(baker):
        await emptied(queue)

    assert baker.begun == []
    assert baker.given_up == [("bread", "Whoever worked on it died, 2 times.")]


async def test_one_failure_does_not_keep_the_others_from_being_done(queue: Queue) -> None:
    async def recipe(task: Task, held: Held) -> None:
        if task.key == "bad":
            raise RuntimeError

    await put(queue, "bad", attempts_max=1)
    await put(queue, "good")
    baker = Baker(queue, recipe)
    async with working(baker):
        await emptied(queue)

    assert baker.begun == ["bad", "good"]


async def test_a_lease_is_renewed_as_long_as_the_work_takes(queue: Queue, other: Queue, clock: FixedClock) -> None:
    enough = asyncio.Event()

    async def recipe(task: Task, held: Held) -> None:
        await enough.wait()

    await put(queue, "bread")
    baker = Baker(queue, recipe)
    async with working(baker):
        await baker.until(lambda: len(baker.begun) == 1)
        for _ in range(4):
            clock.advance(10)
            await renewed(queue, clock)
            assert await other.lease(["bake"], lease_s=15) == []
        enough.set()
        await emptied(queue)

    assert baker.begun == ["bread"]


class Failing(Queue):
    """A queue whose database is away for a moment: the next so many questions whether it has changed."""

    questions = 0

    async def version(self) -> int:
        if self.questions:
            self.questions -= 1
            raise Unavailable("Records are unavailable: the disk failed to read or write.")
        return await super().version()

    async def wait(self, kinds: Sequence[str], timeout_s: float) -> None:
        await self.version()
        await super().wait(kinds, timeout_s)


async def test_a_database_that_is_away_for_a_moment_ends_no_work(
    records: SqliteRecords, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what is under way nor the worker."""
    monkeypatch.setattr(worker, "_PAUSE_S", 0.01)
    enough = asyncio.Event()

    async def recipe(task: Task, held: Held) -> None:
        await enough.wait()

    queue = Failing(records, clock)
    queue.questions = 1
    baker = Baker(queue, recipe)
    async with working(baker) as running:
        await put(queue, "bread", "rolls")
        await baker.until(lambda: baker.begun == ["bread"])
        queue.questions = 2
        clock.advance(10)
        await renewed(queue, clock)
        enough.set()
        await emptied(queue)
        assert not running.done()

    assert baker.begun == ["bread", "rolls"]


async def test_a_holder_learns_that_its_task_was_cancelled(queue: Queue, other: Queue) -> None:
    ended: list[str] = []

    async def recipe(task: Task, held: Held) -> None:
        if task.key == "bread":
            await held.lost.wait()
            ended.append(task.key)
            raise LeaseLost("as the handler sees it")

    await put(queue, "bread", "cake")
    baker = Baker(queue, recipe)
    async with working(baker):
        await baker.until(lambda: len(baker.begun) == 1)
        async with asyncio.timeout(PATIENCE_S):
            async with other.begin() as tx:
                await other.cancel(tx, "bake", "bread")
            await baker.until(lambda: len(baker.begun) == 2)
        await emptied(queue)

    assert (ended, baker.begun, baker.given_up) == (["bread"], ["bread", "cake"], [])
    assert await queue.parked() == []


async def test_a_holder_that_does_not_let_go_is_made_to(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LOST_GRACE_S", 0.1)

    async def recipe(task: Task, held: Held) -> None:
        if task.key == "bread":
            await asyncio.sleep(3 * PATIENCE_S)

    await put(queue, "bread", "cake")
    baker = Baker(queue, recipe)
    async with working(baker):
        await baker.until(lambda: len(baker.begun) == 1)
        async with queue.begin() as tx:
            await queue.cancel(tx, "bake", "bread")
        await emptied(queue)

    assert baker.begun == ["bread", "cake"]


async def test_a_worker_that_ends_gives_back_what_it_holds(queue: Queue) -> None:
    async def recipe(task: Task, held: Held) -> None:
        await asyncio.sleep(3 * PATIENCE_S)

    await put(queue, "bread")
    baker = Baker(queue, recipe)
    async with working(baker):
        await baker.until(lambda: len(baker.begun) == 1)

    (task,) = await queue.lease(["bake"], lease_s=15)
    assert (task.key, task.attempt) == ("bread", 1)


async def test_one_that_cannot_be_given_up_keeps_no_other_from_being_done(queue: Queue) -> None:
    class Clumsy(Baker):
        async def give_up(self, tx: AsyncConnection, task: Task, error: str) -> None:
            raise RuntimeError

    async def recipe(task: Task, held: Held) -> None:
        if task.key == "bad":
            raise RuntimeError

    await put(queue, "bad", attempts_max=1)
    await put(queue, "good")
    baker = Clumsy(queue, recipe)
    async with working(baker):
        await emptied(queue, left=1)

    assert baker.begun == ["bad", "good"]


async def test_a_worker_that_ends_while_it_leases_keeps_nothing(queue: Queue) -> None:
    """Wherever in its turn it is cancelled."""
    for delay_s in (0, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005):
        await put(queue, f"bread {delay_s}")
        baker = Baker(queue)
        async with working(baker):
            await asyncio.sleep(delay_s)

        assert (await queue.figures()).get("bake") is None or (await queue.figures())["bake"].leased == 0
