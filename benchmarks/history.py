"""A day of events, loaded into mainstem or PostgreSQL in the order of their time, for queries to ask about."""

import itertools
import time
from collections.abc import Iterator

from benchmarks import events
from benchmarks.events import DAY_US, Rows
from benchmarks.load import HttpAnswers, closed_loop
from benchmarks.server import BATCH_PATH, Server
from benchmarks.software import Missing

BATCH = 1_000
CHUNK = 100_000
CONNECTIONS = 8


class Day:
    """`count` events spread evenly over the 24 hours before now; the same events whenever they are asked for."""

    def __init__(self, stream: str, count: int, seed: int = 7) -> None:
        self.stream = stream
        self.count = count
        self.end_us = time.time_ns() // 1_000
        self.begin_us = self.end_us - DAY_US
        self._seed = seed

    def batches(self) -> Iterator[Rows]:
        # Only the times of the later events are new: what repeats after 100,000 events is too far away to compress.
        rows = events.make(min(CHUNK, self.count), seed=self._seed, first_us=self.begin_us, step_us=1)
        step_us = DAY_US // self.count
        for first in range(0, self.count, CHUNK):
            events.set_times(rows, self.begin_us + first * step_us, step_us)
            yield from events.batches(rows[: self.count - first], BATCH)

    def load(self, server: Server) -> float:
        """Send all of it, and give the events a second. Raises Missing when the server refused any."""
        requests = (server.request(BATCH_PATH, events.http_batch(self.stream, rows)) for rows in self.batches())
        load = closed_loop(server.port, HttpAnswers, list(itertools.repeat(requests, CONNECTIONS)))
        if load.refused or load.answers < self.count // BATCH:
            raise Missing(f"of {self.count // BATCH} batches {load.answers - load.refused} were taken")
        return load.rate * BATCH

    def copy_lines(self) -> Iterator[bytes]:
        return (events.postgres_copy(self.stream, rows) for rows in self.batches())
