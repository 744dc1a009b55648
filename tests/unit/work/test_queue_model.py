"""The queue against a model of it that is a dictionary: whatever is asked in whatever order, both say the same."""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from mainstem.clock import SECOND_US, FixedClock
from mainstem.storage import SqliteRecords
from mainstem.work import LeaseLost, Priority, Queue, Task, TaskId, TaskNotFound

KINDS = ["bake", "eat"]
ATTEMPTS_MAX = 2
LEASE_S = 15
HEAD_START_US = {Priority.URGENT: 0, Priority.NORMAL: 600 * SECOND_US, Priority.BACKGROUND: 3_600 * SECOND_US}


@dataclass
class Model:
    """A task as the model has it."""

    id: TaskId
    kind: str
    key: str
    priority: Priority
    due_us: int
    held_until_us: int | None
    lease: str | None = None
    attempt: int = 0
    error: str | None = None
    parked: bool = False

    def lease_ends(self) -> None:
        if self.lease is not None:
            self.lease = self.error = None
        self.held_until_us = None


@cache
def migrated() -> bytes:
    """A database without tasks."""

    async def migrate(path: Path) -> None:
        records = SqliteRecords(path)
        await records.migrate()
        await records.close()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mainstem.sqlite"
        asyncio.run(migrate(path))
        return path.read_bytes()


class QueueMachine(RuleBasedStateMachine):
    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        path = self.folder / "mainstem.sqlite"
        path.write_bytes(migrated())
        self.clock = FixedClock()
        self.records = SqliteRecords(path)
        self.do(self.records.open())
        self.queue = Queue(self.records, self.clock)
        self.model: dict[TaskId, Model] = {}

    def teardown(self) -> None:
        self.do(self.records.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    def do[Answer](self, work: Coroutine[None, None, Answer]) -> Answer:
        return self.loop.run_until_complete(work)

    def mine(self, task: Task) -> Model | None:
        """The model's task when the lease still holds."""
        one = self.model.get(task.id)
        return one if one is not None and one.lease == task.lease else None

    def expire(self, kinds: list[str]) -> None:
        for one in self.model.values():
            if one.kind in kinds and one.held_until_us is not None and one.held_until_us <= self.clock():
                one.lease_ends()

    # What can be asked

    @rule(seconds=st.sampled_from([0.5, 5, 15, 600, 3_600]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(
        kind=st.sampled_from(KINDS),
        key=st.sampled_from("abcdef"),
        priority=st.sampled_from(Priority),
        delay_s=st.sampled_from([0, 0, 5]),
    )
    def put(self, kind: str, key: str, priority: Priority, delay_s: int) -> None:
        async def put() -> TaskId:
            async with self.queue.begin() as tx:
                return await self.queue.put(
                    tx, kind, b"", key=key, priority=priority, delay_s=delay_s, attempts_max=ATTEMPTS_MAX
                )

        task_id = self.do(put())
        same = [one.id for one in self.model.values() if (one.kind, one.key) == (kind, key)]
        if same:
            assert [task_id] == same
            return
        assert task_id > max(self.model, default=0)
        ready_us = self.clock() + delay_s * SECOND_US
        due_us = ready_us + HEAD_START_US[priority]
        self.model[task_id] = Model(task_id, kind, key, priority, due_us, ready_us if delay_s else None)

    @rule(target=held, kinds=st.sampled_from([["bake"], ["eat"], KINDS]), count=st.integers(1, 3))
    def lease(self, kinds: list[str], count: int) -> object:
        tasks = self.do(self.queue.lease(kinds, lease_s=LEASE_S, count=count))
        self.expire(kinds)
        free = [
            one for one in self.model.values() if one.kind in kinds and one.held_until_us is None and not one.parked
        ]
        first = sorted(free, key=lambda one: (one.due_us, one.id))[:count]
        assert [task.id for task in tasks] == [one.id for one in first]
        for task, one in zip(tasks, first, strict=True):
            one.lease, one.held_until_us = task.lease, self.clock() + LEASE_S * SECOND_US
            one.attempt += 1
            assert (task.attempt, task.error, task.priority) == (one.attempt, one.error, one.priority)
        return multiple(*tasks)

    @rule(task=held)
    def renew(self, task: Task) -> None:
        one = self.mine(task)
        if one is None:
            with pytest.raises(LeaseLost):
                self.do(self.queue.renew(task, LEASE_S))
        else:
            self.do(self.queue.renew(task, LEASE_S))
            one.held_until_us = self.clock() + LEASE_S * SECOND_US

    @rule(task=consumes(held))
    def finish(self, task: Task) -> None:
        async def finish() -> None:
            async with self.queue.begin() as tx:
                await self.queue.finish(tx, task)

        if self.mine(task) is None:
            with pytest.raises(LeaseLost):
                self.do(finish())
        else:
            self.do(finish())
            del self.model[task.id]

    @rule(task=consumes(held))
    def release(self, task: Task) -> None:
        async def release() -> None:
            async with self.queue.begin() as tx:
                await self.queue.release(tx, task)

        one = self.mine(task)
        if one is None:
            with pytest.raises(LeaseLost):
                self.do(release())
        else:
            self.do(release())
            one.lease = one.held_until_us = None
            one.attempt -= 1

    @rule(task=consumes(held), delay_s=st.sampled_from([0, 5]))
    def retry(self, task: Task, delay_s: int) -> None:
        async def retry() -> bool:
            async with self.queue.begin() as tx:
                return await self.queue.retry(tx, task, "burnt", delay_s=delay_s)

        one = self.mine(task)
        if one is None:
            with pytest.raises(LeaseLost):
                self.do(retry())
            return
        again = self.do(retry())
        assert again == (one.attempt < ATTEMPTS_MAX)
        one.lease, one.held_until_us, one.error = None, None, "burnt"
        if not again:
            one.parked = True
        elif delay_s:
            one.held_until_us = self.clock() + delay_s * SECOND_US

    @rule(kind=st.sampled_from(KINDS), key=st.sampled_from("abcdef"))
    def cancel(self, kind: str, key: str) -> None:
        async def cancel() -> bool:
            async with self.queue.begin() as tx:
                return await self.queue.cancel(tx, kind, key)

        same = [one.id for one in self.model.values() if (one.kind, one.key) == (kind, key)]
        assert self.do(cancel()) == bool(same)
        for task_id in same:
            del self.model[task_id]

    @rule(task=held)
    def replay(self, task: Task) -> None:
        one = self.model.get(task.id)
        if one is None or not one.parked:
            with pytest.raises(TaskNotFound):
                self.do(self.queue.replay(task.id))
        else:
            self.do(self.queue.replay(task.id))
            one.parked, one.attempt = False, 0
            one.due_us = self.clock() + HEAD_START_US[one.priority]

    # What must hold at any time

    @invariant()
    def the_figures_are_those_of_the_model(self) -> None:
        figures = self.do(self.queue.figures())
        for kind in KINDS:
            there = [one for one in self.model.values() if one.kind == kind]
            if not there:
                assert kind not in figures
                continue
            one = figures[kind]
            assert one.leased == sum(task.lease is not None for task in there)
            assert one.parked == sum(task.parked for task in there)
            assert one.waiting == sum(task.held_until_us is None and not task.parked for task in there)
            assert one.waiting + one.delayed + one.leased + one.parked == len(there)

    @invariant()
    def the_parked_are_those_of_the_model(self) -> None:
        parked = self.do(self.queue.parked())
        assert [one.id for one in parked] == sorted(one.id for one in self.model.values() if one.parked)


TestQueueModel = pytest.mark.slow(QueueMachine.TestCase)
TestQueueModel.settings = settings(max_examples=25, stateful_step_count=40)
