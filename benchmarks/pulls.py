"""P9: single events and ranges by their index, straight from the log: what a pull costs the server, without HTTP."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import numpy as np
import uvloop

from benchmarks import events
from benchmarks.events import DATA, METADATA, TYPE, Rows
from benchmarks.figures import Figure, Goal, at_most, percentile
from benchmarks.ingest import MAINSTEM
from benchmarks.stage import Stage
from benchmarks.table import Row, milliseconds, row
from mainstem.ids import TopicId
from mainstem.storage import Drafts, Text
from mainstem.storage.embedded.log import EmbeddedLog, LogOptions

TOPIC = TopicId(1)
STORED = 2_000_000
RANGE = 1_000


def drafts(rows: Rows, first_us: int, step_us: int) -> Drafts:
    """A block of synthetic events as the log takes them, without the cost of parsing."""

    def column(place: slice) -> Text:
        part = np.ascontiguousarray(rows[:, place])
        return Text(np.arange(len(rows) + 1, dtype=np.int32) * np.int32(part.shape[1]), part.tobytes())

    times = first_us + step_us * np.arange(len(rows), dtype=np.int64)
    return Drafts(times, column(TYPE), column(DATA), column(METADATA), None)


async def fill(log: EmbeddedLog, count: int) -> None:
    """Append until `count` more events are stored, and wait until all but the last are sealed."""
    step_us = events.DAY_US // count
    rows = events.make(10_000, seed=9, first_us=0, step_us=1)
    for first in range(0, count, len(rows)):
        await log.append(TOPIC, drafts(rows, first * step_us, step_us))
    while log.figures().unsealed_events > LogOptions().segment_events:  # noqa: ASYNC110  # the log tells no sooner
        await asyncio.sleep(0.05)


def pulls(stage: Stage) -> Iterator[Row]:
    """P9: a hit finds its piece of a segment in memory; a miss reads it from the file."""
    folder = stage.fresh_folder("log")
    figures = uvloop.run(measure(folder, STORED, stage.scale.rounds))
    for name, (rounds, goal) in figures.items():
        yield row("P9", f"{name}, {STORED / 1e6:g}M stored: p50", MAINSTEM, rounds, milliseconds, goal)


async def measure(folder: Path, stored: int, rounds: int) -> dict[str, tuple[Figure, Goal]]:
    chance = random.Random(9)
    async with EmbeddedLog.open(folder, LogOptions()) as log:
        await fill(log, stored)
        sealed = stored - log.figures().unsealed_events
        place = sealed // 2
        hit = await _medians(rounds, 200, lambda: _one(log, place + chance.randrange(2_000), 1))
        hit_range = await _medians(rounds, 100, lambda: _one(log, place + chance.randrange(1_000), RANGE))
        miss = await _medians(rounds, 30, lambda: _one(log, chance.randrange(sealed), 1))
    return {
        "one event by index, a hit": (hit, at_most(0.1)),
        f"{RANGE:,} events by index, a hit": (hit_range, at_most(0.5)),
        "one event by index, a miss": (miss, at_most(10)),
    }


async def _one(log: EmbeddedLog, first_idx: int, count: int) -> None:
    found = await log.read(TOPIC, first_idx, count)
    assert len(found) == count
    assert found[0].idx == first_idx


async def _medians(rounds: int, reads: int, read: Callable[[], Awaitable[None]]) -> Figure:
    """The median of each round, after one read that does not count."""
    await read()
    samples = []
    for _ in range(rounds):
        spent = []
        for _ in range(reads):
            begin = time.perf_counter()
            await read()
            spent.append((time.perf_counter() - begin) * 1e3)
        samples.append(percentile(spent, 50))
    return Figure(tuple(samples))
