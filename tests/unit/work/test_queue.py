"""The queue: who is leased what, in which order, and what becomes of a task whatever happens to its holder."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from mainstem.clock import FixedClock, system_clock
from mainstem.errors import Invalid
from mainstem.identity import tables as identity
from mainstem.storage import SqliteRecords
from mainstem.work import LeaseLost, Priority, Queue, Task, TaskId, TaskNotFound
from mainstem.work import queue as queue_module
from waiting import PATIENCE_S


async def put(queue: Queue, key: str, kind: str = "bake", **options: Any) -> TaskId:
    async with queue.begin() as tx:
        return await queue.put(tx, kind, key.encode(), key=key, **options)


async def lease(queue: Queue, count: int = 100, kind: str = "bake", lease_s: float = 15) -> list[Task]:
    return await queue.lease([kind], lease_s=lease_s, count=count)


async def leased(queue: Queue, count: int = 100) -> list[str]:
    return [task.key for task in await lease(queue, count)]


async def finish(queue: Queue, task: Task) -> None:
    async with queue.begin() as tx:
        await queue.finish(tx, task)


async def park(queue: Queue, task: Task, error: str = "burnt") -> None:
    async with queue.begin() as tx:
        await queue.park(tx, task, error)


# Putting


async def test_a_task_comes_as_it_was_put(queue: Queue, clock: FixedClock) -> None:
    task_id = await put(queue, "bread", priority=Priority.URGENT, attempts_max=5)

    (task,) = await lease(queue)

    assert (task.id, task.kind, task.key, task.payload) == (task_id, "bake", "bread", b"bread")
    assert (task.attempt, task.attempts_max, task.error, task.spent) == (1, 5, None, False)
    assert (task.priority, task.created_us) == (Priority.URGENT, clock())


async def test_a_task_is_there_only_when_its_transaction_is(queue: Queue) -> None:
    async def put_and_fail() -> None:
        async with queue.begin() as tx:
            await queue.put(tx, "bake", b"")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await put_and_fail()

    assert await leased(queue) == []


@pytest.mark.parametrize("state", ["waiting", "leased", "parked"])
async def test_a_second_task_with_a_key_changes_nothing(queue: Queue, state: str) -> None:
    first = await put(queue, "bread", attempts_max=1)
    if state != "waiting":
        (task,) = await lease(queue)
        if state == "parked":
            await park(queue, task)

    assert await put(queue, "bread", priority=Priority.URGENT) == first
    assert len(await lease(queue)) == (1 if state == "waiting" else 0)


async def test_a_key_is_free_again_when_its_task_is_done(queue: Queue) -> None:
    first = await put(queue, "bread")
    await finish(queue, (await lease(queue))[0])

    assert await put(queue, "bread") > first
    assert await leased(queue) == ["bread"]


async def test_tasks_of_two_kinds_may_have_one_key(queue: Queue) -> None:
    await put(queue, "bread")
    await put(queue, "bread", kind="eat")

    assert await leased(queue) == ["bread"]
    assert len(await lease(queue, kind="eat")) == 1


async def test_tasks_without_a_key_are_all_done(queue: Queue) -> None:
    async with queue.begin() as tx:
        for _ in range(3):
            await queue.put(tx, "bake", b"")

    assert len(await lease(queue)) == 3


async def test_what_is_too_large_is_refused(queue: Queue) -> None:
    async with queue.begin() as tx:
        with pytest.raises(Invalid, match="bytes"):
            await queue.put(tx, "bake", b"x" * (256 * 1024 + 1))
        with pytest.raises(Invalid, match="key"):
            await queue.put(tx, "bake", b"", key="x" * 513)


# The order


async def test_of_one_class_the_first_goes_first(queue: Queue) -> None:
    for key in ("first", "second", "third"):
        await put(queue, key)

    assert await leased(queue, 2) + await leased(queue, 2) == ["first", "second", "third"]


async def test_the_more_urgent_goes_first(queue: Queue) -> None:
    for priority in (Priority.BACKGROUND, Priority.NORMAL, Priority.URGENT):
        await put(queue, priority.name, priority=priority)

    assert await leased(queue) == ["URGENT", "NORMAL", "BACKGROUND"]


async def test_who_waits_long_enough_is_passed_no_more(queue: Queue, clock: FixedClock) -> None:
    """Ten minutes for a normal task, an hour for one in the background."""
    await put(queue, "background", priority=Priority.BACKGROUND)
    clock.advance(3_001)
    await put(queue, "normal")
    clock.advance(600)
    await put(queue, "urgent", priority=Priority.URGENT)

    assert await leased(queue) == ["background", "normal", "urgent"]


async def test_urgent_tasks_pass_those_that_wait_less_long(queue: Queue, clock: FixedClock) -> None:
    await put(queue, "normal")
    clock.advance(599)
    await put(queue, "urgent", priority=Priority.URGENT)

    assert await leased(queue) == ["urgent", "normal"]


async def test_several_kinds_are_leased_in_one_order(queue: Queue) -> None:
    for number in range(6):
        await put(queue, str(number), kind="eat" if number % 2 else "bake")

    assert [task.key for task in await queue.lease(["bake", "eat", "sleep"], lease_s=15, count=5)] == list("01234")


async def test_a_delayed_task_is_leased_when_its_time_comes(queue: Queue, clock: FixedClock) -> None:
    await put(queue, "later", delay_s=60)
    clock.advance(59.9)
    assert await leased(queue) == []

    clock.advance(0.1)
    assert await leased(queue) == ["later"]


# Holding


async def test_a_leased_task_is_nobody_elses(queue: Queue, other: Queue) -> None:
    await put(queue, "bread")

    assert await leased(queue) == ["bread"]
    assert await leased(queue) == await leased(other) == []


async def test_a_lease_that_ran_out_is_anothers(queue: Queue, other: Queue, clock: FixedClock) -> None:
    await put(queue, "bread")
    (mine,) = await lease(queue)
    clock.advance(15)
    (theirs,) = await lease(other)

    assert (theirs.attempt, theirs.error) == (2, None)
    with pytest.raises(LeaseLost):
        await queue.renew(mine, 15)
    with pytest.raises(LeaseLost):
        await finish(queue, mine)
    await finish(other, theirs)


async def test_a_lease_holds_as_long_as_it_is_renewed(queue: Queue, other: Queue, clock: FixedClock) -> None:
    await put(queue, "bread")
    (mine,) = await lease(queue)
    for _ in range(5):
        clock.advance(10)
        await queue.renew(mine, 15)
        assert await leased(other) == []

    await finish(queue, mine)


async def test_leases_are_renewed_together(queue: Queue, other: Queue, clock: FixedClock) -> None:
    for key in ("bread", "cake"):
        await put(queue, key)
    bread, cake = await lease(queue)
    async with other.begin() as tx:
        await other.cancel(tx, "bake", "bread")

    assert await queue.held([bread, cake]) == await queue.renew_all([bread, cake], 60) == {cake.id}
    clock.advance(30)
    assert await leased(other) == []


async def test_nothing_is_published_without_the_lease(queue: Queue, records: SqliteRecords, clock: FixedClock) -> None:
    """`finish` takes the rest of the transaction with it."""
    await put(queue, "bread")
    (mine,) = await lease(queue)
    clock.advance(15)
    await lease(queue)

    async def publish() -> None:
        async with records.begin() as tx:
            await tx.execute(insert(identity.accounts).values(name="baker", is_admin=False, created_us=0))
            await queue.finish(tx, mine)

    with pytest.raises(LeaseLost):
        await publish()

    async with records.read() as rows:
        assert (await rows.execute(select(identity.accounts))).all() == []


async def test_tasks_are_finished_together_or_not_at_all(queue: Queue) -> None:
    for key in ("bread", "cake"):
        await put(queue, key)
    both = await lease(queue)
    async with queue.begin() as tx:
        await queue.cancel(tx, "bake", "cake")

    async def finish_both() -> None:
        async with queue.begin() as tx:
            await queue.finish_all(tx, both)

    with pytest.raises(LeaseLost):
        await finish_both()
    assert await queue.held(both) == {both[0].id}


async def test_what_is_given_back_has_cost_no_attempt(queue: Queue) -> None:
    await put(queue, "bread", attempts_max=1)
    for _ in range(3):
        (task,) = await lease(queue)
        assert (task.attempt, task.spent) == (1, False)
        async with queue.begin() as tx:
            await queue.release(tx, task)


async def test_the_leases_of_the_dead_can_be_ended(queue: Queue) -> None:
    await put(queue, "bread")
    await lease(queue)

    await queue.reclaim(["bake"])

    assert await leased(queue) == ["bread"]


# Failing


async def test_a_task_is_tried_again_with_the_reason_at_hand(queue: Queue, clock: FixedClock) -> None:
    await put(queue, "bread")
    (task,) = await lease(queue)
    async with queue.begin() as tx:
        assert await queue.retry(tx, task, "the oven was cold", delay_s=60)
    assert await leased(queue) == []

    clock.advance(60)
    (again,) = await lease(queue)

    assert (again.attempt, again.error) == (2, "the oven was cold")


async def test_the_last_attempt_that_fails_parks_the_task(queue: Queue, clock: FixedClock) -> None:
    task_id = await put(queue, "bread", attempts_max=1)
    (task,) = await lease(queue)
    async with queue.begin() as tx:
        assert not await queue.retry(tx, task, "burnt", delay_s=0)

    assert await leased(queue) == []
    (parked,) = await queue.parked()
    assert (parked.id, parked.key, parked.attempts, parked.error) == (task_id, "bread", 1, "burnt")
    assert parked.parked_us == clock()


async def test_a_task_whose_holders_all_died_is_spent(queue: Queue, clock: FixedClock) -> None:
    await put(queue, "bread", attempts_max=2)
    spent = []
    for _ in range(3):
        (task,) = await lease(queue)
        spent.append(task.spent)
        clock.advance(15)

    assert spent == [False, False, True]


async def test_only_the_holder_fails_a_task(queue: Queue, clock: FixedClock) -> None:
    await put(queue, "bread")
    (mine,) = await lease(queue)
    clock.advance(15)
    await lease(queue)

    async with queue.begin() as tx:
        with pytest.raises(LeaseLost):
            await queue.retry(tx, mine, "late", delay_s=0)
        with pytest.raises(LeaseLost):
            await queue.park(tx, mine, "late")
        with pytest.raises(LeaseLost):
            await queue.release(tx, mine)


async def test_parked_tasks_come_in_pages(queue: Queue) -> None:
    for number in range(5):
        await put(queue, str(number), attempts_max=1)
    for task in await lease(queue):
        await park(queue, task, "x" * 5_000)

    first = await queue.parked("bake", limit=3)
    rest = await queue.parked("bake", limit=3, after=first[-1].id)

    assert [one.key for one in first + rest] == list("01234")
    assert await queue.parked("eat") == []
    assert len(first[0].error) == 2_000


async def test_a_replayed_task_is_like_new(queue: Queue) -> None:
    task_id = await put(queue, "bread", attempts_max=1)
    await park(queue, (await lease(queue))[0])

    await queue.replay(task_id)

    (again,) = await lease(queue)
    assert (again.id, again.attempt, again.spent) == (task_id, 1, False)
    assert await queue.parked() == []


async def test_only_parked_tasks_are_replayed(queue: Queue) -> None:
    task_id = await put(queue, "bread")

    for unknown in (task_id, TaskId(99)):
        with pytest.raises(TaskNotFound, match="mainstem tasks list"):
            await queue.replay(unknown)


# Cancelling


@pytest.mark.parametrize("state", ["waiting", "leased", "parked"])
async def test_a_cancelled_task_is_gone(queue: Queue, state: str) -> None:
    await put(queue, "bread")
    held = [] if state == "waiting" else await lease(queue)
    if state == "parked":
        await park(queue, held[0])
    async with queue.begin() as tx:
        assert await queue.cancel(tx, "bake", "bread")
        assert not await queue.cancel(tx, "bake", "bread")

    assert (await queue.depth("bake"), await queue.parked()) == (0, [])
    for task in held:
        with pytest.raises(LeaseLost):
            await queue.renew(task, 15)


# Looking


async def test_the_queue_tells_how_it_stands(queue: Queue, clock: FixedClock) -> None:
    await put(queue, "parked")
    await park(queue, (await lease(queue))[0])
    await put(queue, "leased")
    await lease(queue)
    await put(queue, "delayed", delay_s=60)
    await put(queue, "waiting")
    clock.advance(3)

    figures = (await queue.figures())["bake"]

    assert (figures.waiting, figures.delayed, figures.leased, figures.parked) == (1, 1, 1, 1)
    assert figures.oldest_waiting_s == 3
    assert await queue.depth("bake") == 3


# Waiting


async def test_who_waits_is_woken_by_the_commit(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "_POLL_S", 2 * PATIENCE_S)  # not by a look of its own
    waiting = asyncio.create_task(queue.wait(["bake"], 3 * PATIENCE_S))
    await asyncio.sleep(0.05)  # until it waits; were it shorter the test would pass, too
    async with queue.begin() as tx:
        await queue.put(tx, "bake", b"", key="bread")
        assert not waiting.done()

    async with asyncio.timeout(PATIENCE_S):
        await waiting
    assert await leased(queue) == ["bread"]


async def test_who_waits_learns_what_another_process_puts(queue: Queue, other: Queue) -> None:
    waiting = asyncio.create_task(queue.wait(["bake"], 3 * PATIENCE_S))
    await put(other, "bread")

    async with asyncio.timeout(PATIENCE_S):
        await waiting


async def test_who_waits_learns_that_time_has_come(records: SqliteRecords) -> None:
    queue = Queue(records, system_clock)
    await put(queue, "bread", delay_s=0.3)

    async with asyncio.timeout(PATIENCE_S):
        await queue.wait(["bake"], 3 * PATIENCE_S)

    assert await leased(queue) == ["bread"]


async def test_waiting_ends_after_its_time(queue: Queue) -> None:
    await put(queue, "bread", kind="eat")

    async with asyncio.timeout(PATIENCE_S):
        await queue.wait(["bake"], 0.05)


async def test_waiting_is_over_at_once_when_there_is_something(queue: Queue) -> None:
    await put(queue, "bread")

    async with asyncio.timeout(PATIENCE_S):
        await queue.wait(["bake"], 3 * PATIENCE_S)


# Two processes

_COUNT = 400


async def test_two_processes_never_get_the_same_task(records: SqliteRecords, tmp_path: Path) -> None:
    """Each leases a few, finishes some and gives some back, until nothing is left."""
    queue = Queue(records, system_clock)
    async with queue.begin() as tx:
        for number in range(_COUNT):
            await queue.put(tx, "bake", b"", key=str(number))

    command = [sys.executable, str(Path(__file__).with_name("leasing.py")), str(tmp_path / "mainstem.sqlite")]
    workers = [await asyncio.create_subprocess_exec(*command, stdout=PIPE) for _ in range(2)]
    async with asyncio.timeout(PATIENCE_S):
        reports = [json.loads((await worker.communicate())[0]) for worker in workers]

    done = Counter(key for report in reports for key in report["done"])
    assert set(done.values()) == {1}
    assert len(done) == _COUNT
    assert all(report["done"] for report in reports), "one of them got nothing: the test shows nothing"
    assert await queue.depth("bake") == 0
