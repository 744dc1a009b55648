"""What the queue tells of itself, for /metrics and /health."""

import asyncio
from collections.abc import Iterator, Mapping

from mainstem.errors import Unavailable
from mainstem.telemetry import Family
from mainstem.work.model import QueueFigures
from mainstem.work.queue import Queue

LOOK_EVERY_S = 5.0
"""Counting reads every task, so it is done seldom, and only after somebody has committed something."""


class QueueWatch:
    """Knows how each kind of task stood a few seconds ago."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._figures: Mapping[str, QueueFigures] = {}

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        seen = -1
        while True:
            try:
                version = await self._queue.version()
                # Those that wait grow older though nobody commits.
                if version != seen or any(one.waiting for one in self._figures.values()):
                    self._figures = await self._queue.figures()
                    seen = version
            except Unavailable:
                pass  # health tells of the database; here the figures of before must do
            await asyncio.sleep(LOOK_EVERY_S)

    def families(self) -> Iterator[Family]:
        kinds = self._figures.items()
        yield Family(
            "tasks",
            "gauge",
            "Tasks that are waiting, delayed (for later, or to be tried again), leased or parked, a few seconds ago.",
            [
                ({"kind": kind, "state": state}, getattr(figures, state))
                for kind, figures in kinds
                for state in ("waiting", "delayed", "leased", "parked")
            ],
        )
        yield Family(
            "tasks_oldest_waiting_seconds",
            "gauge",
            "How long ago the task was put that has waited longest.",
            [({"kind": kind}, figures.oldest_waiting_s) for kind, figures in kinds],
        )
