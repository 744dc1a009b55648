"""Whether events can be taken, kept and found right now, tried and not guessed; and what the log counts."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from heapq import nlargest
from pathlib import Path

import msgspec
from sqlalchemy import text

from mainstem.clock import SECOND_US, Clock
from mainstem.errors import MainstemError
from mainstem.events.topics import Topics
from mainstem.storage import Condition, Health, Log, Records
from mainstem.telemetry import LABELS_MAX, Family, single

FRESH_S = 1.0
"""A probe syncs a file, so its result is good for a second: asking for health must not be a way to slow us down."""
PROBE_TIMEOUT_S = 5.0
FREE_IS_LOW = 4
"""So many times the room below which writes are refused is little enough to be told."""

_HEALTHY = Health(Condition.HEALTHY)
_WORST_LAST = tuple(Condition)


class Vitals(msgspec.Struct, frozen=True):
    """The condition of each component, and of the whole: the worst of them."""

    components: dict[str, Health]
    checked_us: int

    @property
    def condition(self) -> Condition:
        return max((health.condition for health in self.components.values()), key=_WORST_LAST.index)


class Probe:
    """Looks after one server's log, records and data folder. `processing` tells of the processes beside it."""

    def __init__(
        self,
        log: Log,
        records: Records,
        topics: Topics,
        data: Path,
        clock: Clock,
        free_min: int,
        processing: Callable[[], Health] = lambda: _HEALTHY,
    ) -> None:
        self._log = log
        self._records = records
        self._topics = topics
        self._data = data
        self._clock = clock
        self._free_bytes_min = free_min
        self._processing = processing
        self._latest: Vitals | None = None
        self._probing = asyncio.Lock()

    async def check(self) -> Vitals:
        """The present condition, at most a second old."""
        async with self._probing:
            if self._latest is None or self._clock() - self._latest.checked_us >= FRESH_S * SECOND_US:
                self._latest = Vitals(
                    components={
                        "ingestion": _HEALTHY if self._log.accepts else self._log.health(),
                        "processing": self._processing(),
                        "storage": await self._storage(),
                        # Webhooks have nothing that could be ill before there are any.
                        "delivery": _HEALTHY,
                    },
                    checked_us=self._clock(),
                )
            return self._latest

    def is_ready(self) -> bool:
        """Whether writes would be taken now."""
        return self._log.accepts

    def families(self) -> Iterator[Family]:
        """What the log and the disk tell, for /metrics."""
        figures = self._log.figures()
        yield single("events_ingested_total", "counter", "Events stored since start.", figures.events)
        yield single("events_repeated_total", "counter", "Events dropped as repeats since start.", figures.repeats)
        yield single("ingest_commits_total", "counter", "Synced commits since start.", figures.commits)
        yield Family(
            "ingest_commit_duration_seconds",
            "summary",
            "Time to write and sync a commit, over the last 1,024.",
            [({}, figures.commit_seconds)],
        )
        yield from self._stream_families()
        yield Family(
            "storage_bytes",
            "gauge",
            "Bytes of events, sealed on disk and not sealed yet.",
            [({"state": "sealed"}, figures.sealed_bytes), ({"state": "unsealed"}, figures.unsealed_bytes)],
        )
        yield Family(
            "storage_events",
            "gauge",
            "Events kept, sealed and not sealed yet.",
            [({"state": "sealed"}, figures.sealed_events), ({"state": "unsealed"}, figures.unsealed_events)],
        )
        yield single("storage_raw_bytes", "gauge", "Bytes of event text in sealed segments.", figures.raw_bytes)
        yield single("storage_segments", "gauge", "Sealed segments.", figures.sealed_segments)
        disk = shutil.disk_usage(self._data)
        yield single("disk_total_bytes", "gauge", "Size of the data folder's file system.", disk.total)
        yield single("disk_free_bytes", "gauge", "Room left on the data folder's file system.", disk.free)
        yield single("storage_utilization_ratio", "gauge", "Share of that file system in use.", _used_share(disk))
        yield single(
            "log_tail_cut_bytes",
            "gauge",
            "Bytes of a torn, never acknowledged tail cut at start.",
            figures.tail_cut_bytes,
        )
        yield single("log_quarantined_segments", "gauge", "Segments moved aside as damaged.", len(figures.quarantined))

    def _stream_families(self) -> Iterator[Family]:
        """The busiest streams under their own names, the rest together."""
        states = [(topic.name, self._log.state(topic.id)) for topic in self._topics]
        named = nlargest(LABELS_MAX, states, key=lambda item: item[1].next_idx)
        other = sum(state.next_idx for _, state in states) - sum(state.next_idx for _, state in named)
        counts: list[tuple[dict[str, str], float]] = [({"stream": name}, state.next_idx) for name, state in named]
        yield single("streams", "gauge", "Streams there are.", len(states))
        yield Family(
            "stream_events_total",
            "counter",
            "Events a stream ever got; the hundred largest by name, the rest as `other`.",
            [*counts, ({"stream": "other"}, other)] if len(states) > LABELS_MAX else counts,
        )
        yield single(
            "events_per_second",
            "gauge",
            "Events that arrived in the last 60 s, a second.",
            sum(state.rate_per_s for _, state in states),
        )

    async def _storage(self) -> Health:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await asyncio.to_thread(_write_and_sync, self._data)
                async with self._records.read() as rows:
                    await rows.execute(text("SELECT 1"))
        except TimeoutError:
            return Health(Condition.UNHEALTHY, f"The disk or the records did not answer within {PROBE_TIMEOUT_S:g} s.")
        except OSError as error:
            return Health(Condition.UNHEALTHY, f"Nothing can be written to the data folder: {error.strerror}.")
        except MainstemError as error:
            return Health(Condition.UNHEALTHY, f"The records do not answer: {error.message}")
        health = self._log.health()
        return self._room() if health.condition is Condition.HEALTHY else health

    def _room(self) -> Health:
        disk = shutil.disk_usage(self._data)
        if disk.free < self._free_bytes_min:
            return Health(Condition.UNHEALTHY, f"Only {disk.free} bytes are free; writes are refused.")
        if disk.free < FREE_IS_LOW * self._free_bytes_min:
            return Health(
                Condition.DEGRADED, f"Only {disk.free} bytes are free; below {self._free_bytes_min} writes end."
            )
        return _HEALTHY


def _used_share(disk: "shutil._ntuple_diskusage") -> float:
    return disk.used / disk.total if disk.total else 0.0


def _write_and_sync(folder: Path) -> None:
    path = folder / ".probe"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, b"mainstem\n")
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)
