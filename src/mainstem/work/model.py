"""The nouns of work: a task, how urgent it is, and what can become of it."""

from enum import IntEnum
from typing import NewType

import msgspec

from mainstem.errors import Conflict, NotFound

TaskId = NewType("TaskId", int)
"""A task's number, 1 and up, never used again."""


class Priority(IntEnum):
    """How long a task lets others pass: each class is as if put so much later (see `HEAD_START_S`)."""

    URGENT = 0
    NORMAL = 1
    BACKGROUND = 2


HEAD_START_S = {Priority.URGENT: 0, Priority.NORMAL: 600, Priority.BACKGROUND: 3_600}
"""Seconds that are added to when a task was put; who comes first in that order is leased first. That is all there is to
ageing: an urgent task passes normal ones that have waited for less than ten minutes, and no others."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task that the caller holds."""

    id: TaskId
    kind: str
    key: str
    payload: bytes
    attempt: int
    """1 for the first."""
    attempts_max: int
    lease: str
    """What proves that the caller holds it: a fresh text for each lease."""
    priority: Priority
    created_us: int
    error: str | None
    """Why the attempt before failed; None for the first, and where its holder died without a word."""

    @property
    def spent(self) -> bool:
        """The holder of the last attempt died: there is nothing to try any more, only to give up and park."""
        return self.attempt > self.attempts_max


class ParkedTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task that failed too often, or in a way that trying again cannot mend. It waits for somebody to look at it."""

    id: TaskId
    kind: str
    key: str
    attempts: int
    error: str
    created_us: int
    parked_us: int


class QueueFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How a kind of task stands."""

    waiting: int
    delayed: int
    leased: int
    parked: int
    oldest_waiting_s: float
    """Since the one that has waited longest was put; 0 when none waits."""


class LeaseLost(Conflict):
    """The task is no longer the caller's: it was cancelled, or its lease ran out and somebody else has it."""


class TaskNotFound(NotFound):
    """There is no parked task with this id."""
