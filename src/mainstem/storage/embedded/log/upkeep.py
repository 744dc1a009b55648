"""What the log does when nobody waits: verify, expire, compact, make columns of leaves that queries ask for."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import structlog

from mainstem.clock import Clock
from mainstem.storage import leaves
from mainstem.storage.columns import SCHEMA
from mainstem.storage.embedded.log import segments
from mainstem.storage.embedded.log.catalog import Catalog, Extent, Placed, Segment, State
from mainstem.storage.embedded.log.dedupe import WINDOW_S_MAX, RunFile, merge_runs
from mainstem.storage.embedded.log.layout import Layout
from mainstem.storage.embedded.log.reading import Shelf
from mainstem.storage.ports import Path

_log = structlog.get_logger("mainstem.log")

_HOT_LEAVES = 8
_HOT_USES = 2
"""A leaf that was read so often is worth a column; the first `_HOT_LEAVES` of a segment's topics get one."""
_LEAVES_MAX = 24

_COMPACT_BYTES_MAX = 128 << 20
_COMPACT_SEGMENTS = 8
_GARBAGE = 0.5
_VERIFIED_FOR_S = 24 * 3_600
_RUNS_MAX = 8


class Policy(NamedTuple):
    """How much of a topic is kept: since arrival, and in bytes; None: all."""

    keep_us: int | None
    bytes_max: int | None
    first_idx: int


class Outcome(NamedTuple):
    """What upkeep changed that the log keeps in memory."""

    first_idx: dict[int, int]
    sizes: dict[int, int]
    runs: tuple[list[RunFile], set[str]] | None
    """Runs that are new, and the names of those that they replace."""


class Upkeep:
    """Runs in a thread of its own; `pin`, `used` and `hot_leaves` may be called from any."""

    def __init__(self, layout: Layout, catalog: Catalog, shelf: Shelf, compaction_events: int, clock: Clock) -> None:
        self._layout = layout
        self._catalog = catalog
        self._shelf = shelf
        self._compaction_events = compaction_events
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "log-upkeep")
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._epoch = 0
        self._pins: Counter[int] = Counter()
        self._doomed: list[tuple[int, str]] = []
        self._verified: dict[str, float] = {}
        self._uses = catalog.leaf_uses()

    def close(self) -> None:
        self._stopping.set()
        self._thread.shutdown()

    # Files stay while a snapshot may read them

    def pin(self) -> Callable[[], None]:
        """Keep every file that the catalogue names now from deletion, until the answer is called."""
        with self._lock:
            epoch = self._epoch
            self._pins[epoch] += 1

        released = False

        def release() -> None:
            nonlocal released
            with self._lock:
                if released:
                    return
                released = True
                self._pins[epoch] -= 1
                if not self._pins[epoch]:
                    del self._pins[epoch]

        return release

    def _doom(self, gone: Iterable[Segment]) -> None:
        """Delete these files as soon as no snapshot knows them."""
        with self._lock:
            self._doomed += [(self._epoch, segment.file) for segment in gone]
            self._epoch += 1

    def _bury(self) -> None:
        with self._lock:
            oldest = min(self._pins, default=self._epoch)
            files = [file for epoch, file in self._doomed if epoch < oldest]
            self._doomed = [(epoch, file) for epoch, file in self._doomed if epoch >= oldest]
        if files:
            self._shelf.cache.forget(files)
            segments.delete(self._layout.segments, files)

    # Verification

    def is_sound(self, segment: Segment) -> bool:
        """Whether a segment has its checksum; looked at once a day. A damaged one is moved aside. Blocks."""
        if time.monotonic() - self._verified.get(segment.file, -_VERIFIED_FOR_S) < _VERIFIED_FOR_S:
            return True
        path = self._layout.segments / segment.file
        try:
            reason = "" if segments.checksum(path) == segment.crc else "its checksum does not match"
        except FileNotFoundError:
            reason = "the file is missing"
        if not reason:
            self._verified[segment.file] = time.monotonic()
            return True
        with self._lock:
            known = self._catalog.segment(segment.file)
            if known is not None and known.state is State.SOUND:
                self._quarantine(segment, reason)
        return False

    def _quarantine(self, segment: Segment, reason: str) -> None:
        path = self._layout.segments / segment.file
        if path.exists():
            path.replace(self._layout.quarantine / segment.file)
        self._catalog.set_state(segment.file, State.QUARANTINED, reason)
        self._shelf.cache.forget([segment.file])
        _log.error("a damaged segment was moved aside", segment=segment.file, reason=reason, events=segment.rows)

    def sound(self, extents: Iterable[Placed]) -> list[Placed]:
        """Those in segments that are sound. Blocks."""
        return [placed for placed in extents if self.is_sound(placed.segment)]

    # Leaves

    def used(self, topic: int, paths: Iterable[Path]) -> bool:
        """Count; whether one of them has just become worth a column."""
        uses = self._uses.setdefault(topic, Counter())
        fresh = False
        for path in paths:
            uses[path] += 1
            fresh |= uses[path] == _HOT_USES
        return fresh

    def hot_leaves(self, topics: Iterable[int]) -> list[Path]:
        """The leaves that a new segment of these topics should have as columns, the most used first."""
        return [path for path, uses in self._uses_of(topics).most_common(_HOT_LEAVES) if uses >= _HOT_USES]

    def _columns_for(self, topics: Iterable[int], present: frozenset[str]) -> list[Path]:
        """Those that a rewritten segment should have: the hot ones, and what it has already, within bounds. Taking a
        column away would only make it come back when two leaves are used equally often."""
        ranked = [path for path, _ in self._uses_of(topics).most_common()]
        hot = self.hot_leaves(topics)
        kept = [path for path in ranked if path not in hot and leaves.dotted(path) in present]
        return [*hot, *kept][:_LEAVES_MAX]

    def _uses_of(self, topics: Iterable[int]) -> Counter[Path]:
        total: Counter[Path] = Counter()
        for topic in topics:
            total.update(dict(self._uses.get(topic, ())))  # a copy: the loop may be counting
        return total

    # A round

    async def run(
        self,
        uses: Counter[tuple[int, Path]],
        policies: Mapping[int, Policy],
        runs: Sequence[RunFile],
        *,
        border: int,
        calm: Callable[[], bool],
        eager: bool,
    ) -> Outcome:
        """One round. Compaction waits for calm, unless eager, and leaves alone what lies above the border."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._run, uses, policies, runs, border, calm, eager
        )

    def _run(
        self,
        uses: Counter[tuple[int, Path]],
        policies: Mapping[int, Policy],
        runs: Sequence[RunFile],
        border: int,
        calm: Callable[[], bool],
        eager: bool,
    ) -> Outcome:
        self._catalog.refresh()
        if uses:
            self._catalog.count_leaf_uses(uses)
        now_us = self._clock()
        self._catalog.expire_notes(now_us)
        first_idx = self._expire(policies, now_us, eager=eager)
        self._doom(self._catalog.delete_empty())
        for segment in self._catalog.segments(State.SOUND):
            if self._stopping.is_set():
                break
            self.is_sound(segment)
        for group in self._groups(border, eager=eager):
            if self._stopping.is_set() or not (eager or calm()):
                break
            self._rewrite(group)
        merged = self._merge_runs(runs, now_us)
        self._bury()
        pa.default_memory_pool().release_unused()
        return Outcome(first_idx, self._catalog.sizes(), merged)

    # Retention

    def _expire(self, policies: Mapping[int, Policy], now_us: int, *, eager: bool) -> dict[int, int]:
        raised: dict[int, int] = {}
        for topic, policy in policies.items():
            first_idx = max(self._too_old(topic, policy, now_us, eager=eager), self._too_much(topic, policy))
            if first_idx > policy.first_idx:
                self._catalog.expire(topic, first_idx)
                raised[topic] = first_idx
        return raised

    def _too_old(self, topic: int, policy: Policy, now_us: int, *, eager: bool) -> int:
        if policy.keep_us is None:
            return 0
        not_before = now_us - policy.keep_us
        first_idx = 0
        for placed in self._catalog.extents(topic):
            extent = placed.extent
            if extent.max_arrived < not_before:
                first_idx = extent.next_idx
                continue
            # To look into a segment for single rows is worth it once a twentieth of the time has passed.
            if extent.min_arrived < not_before - (0 if eager else policy.keep_us // 20) and self.is_sound(
                placed.segment
            ):
                return extent.first_idx + self._rows_before(placed, not_before)
            # Not `extent.first_idx`: what is missing before it may be in quarantine, and come back.
            break
        return first_idx

    def _rows_before(self, placed: Placed, not_before: int) -> int:
        arrived = segments.read_table(self._layout.segments / placed.segment.file, ["arrived"]).column(0)
        part = arrived.slice(placed.extent.row_start, placed.extent.rows).to_numpy()
        # Arrivals rise, but for a clock that was set back: then all from the first that is kept on are.
        return int(np.argmax(part >= not_before))

    def _too_much(self, topic: int, policy: Policy) -> int:
        if policy.bytes_max is None:
            return 0
        room = policy.bytes_max
        for placed in reversed(self._catalog.extents(topic)):
            extent, segment = placed.extent, placed.segment
            fitting = room * segment.rows // max(segment.size, 1)
            if fitting < extent.rows:
                return extent.next_idx - fitting
            room -= segment.size * extent.rows // segment.rows
        return 0

    # Compaction

    def _groups(self, border: int, *, eager: bool) -> Iterator[list[Segment]]:
        """Neighbours that are better as one segment, and single segments that are better rewritten."""
        first_idx = {item.topic: item.first_idx for item in self._catalog.standings()}
        group: list[Segment] = []
        for segment in self._catalog.segments():
            if segment.next_seq > border:
                break
            fits = (
                segment.state is State.SOUND
                and segment.rows <= self._compaction_events // 2
                and segment.raw_bytes <= _COMPACT_BYTES_MAX // 2
            )
            rows = sum(item.rows for item in group) + segment.rows
            raw = sum(item.raw_bytes for item in group) + segment.raw_bytes
            if fits and rows <= self._compaction_events and raw <= _COMPACT_BYTES_MAX:
                group.append(segment)
                continue
            yield from self._worthwhile(group, first_idx, full=True)
            group = [segment] if fits else []
            if not fits and segment.state is State.SOUND:
                yield from self._worthwhile([segment], first_idx, full=False)
        yield from self._worthwhile(group, first_idx, full=eager or len(group) >= _COMPACT_SEGMENTS)

    def _worthwhile(self, group: list[Segment], first_idx: Mapping[int, int], *, full: bool) -> Iterator[list[Segment]]:
        parts = self._joinable(group) if full and len(group) > 1 else [group]
        for part in parts:
            if full and len(part) > 1:
                yield part
            else:
                yield from self._rewritable(part, first_idx)

    def _joinable(self, group: Sequence[Segment]) -> list[list[Segment]]:
        """The group, cut wherever a topic misses events in between: rows of an extent are found by counting."""
        parts: list[list[Segment]] = []
        next_idx: dict[int, int] = {}
        for segment in group:
            extents = self._catalog.extents_in(segment.file)
            if not parts or any(next_idx.get(item.topic, item.first_idx) != item.first_idx for item in extents):
                parts.append([])
                next_idx = {}
            parts[-1].append(segment)
            next_idx.update((item.topic, item.next_idx) for item in extents)
        return parts

    def _rewritable(self, group: Iterable[Segment], first_idx: Mapping[int, int]) -> Iterator[list[Segment]]:
        for segment in group:
            extents = self._catalog.extents_in(segment.file)
            kept = sum(_kept(extent, first_idx) for extent in extents)
            if kept < segment.rows * (1 - _GARBAGE) or not self._leaves_for(extents) <= segment.leaves:
                yield [segment]

    def _leaves_for(self, extents: Sequence[Extent]) -> frozenset[str]:
        return frozenset(map(leaves.dotted, self.hot_leaves(extent.topic for extent in extents)))

    def _rewrite(self, group: Sequence[Segment]) -> None:
        """Put one new segment in the place of a group, without what is past retention."""
        # The copy gets a checksum of its own, so what is copied must be sound now, not some time today.
        for segment in group:
            self._verified.pop(segment.file, None)
        if not all(self.is_sound(segment) for segment in group):
            return
        first_idx = {item.topic: item.first_idx for item in self._catalog.standings()}
        pieces: list[tuple[int, pa.Table]] = []
        for segment in group:
            rows = segments.read_checked(self._layout.segments / segment.file, segment.crc, SCHEMA.names)
            for extent in self._catalog.extents_in(segment.file):
                kept = _kept(extent, first_idx)
                pieces.append((extent.topic, rows.slice(extent.row_start + extent.rows - kept, kept)))
        # In the order of topics already, so that no row has to be moved.
        pieces.sort(key=itemgetter(0))
        topics = {topic for topic, _ in pieces}
        rows = pa.concat_tables([piece for _, piece in pieces]) if pieces else None
        made = []
        if rows is not None and rows.num_rows:
            within = (group[0].first_seq, group[-1].next_seq)
            label = format(time.time_ns(), "x")
            columns = self._columns_for(topics, frozenset().union(*(segment.leaves for segment in group)))
            made = [segments.write(self._layout.segments, rows, columns, within=within, label=label)]
        self._catalog.replace(group, made)
        self._doom(group)
        _log.info(
            "segments rewritten",
            segments=len(group),
            events=sum(segment.rows for segment, _ in made),
            size=sum(segment.size for segment, _ in made),
            leaves=sorted(made[0][0].leaves) if made else [],
        )

    # Event ids

    def _merge_runs(self, runs: Sequence[RunFile], now_us: int) -> tuple[list[RunFile], set[str]] | None:
        not_before = now_us - WINDOW_S_MAX * 1_000_000
        expired = [run for run in runs if run.run.last_arrived < not_before]
        if len(runs) <= _RUNS_MAX and not expired:
            return None
        made = merge_runs(self._layout.dedupe, runs, not_before)
        self._catalog.replace_runs([run.run for run in runs], made)
        replaced = {run.run.file for run in runs} - ({made.file} if made else set())
        for file in replaced:
            (self._layout.dedupe / file).unlink(missing_ok=True)
        return ([RunFile(self._layout.dedupe, made)] if made else []), {run.run.file for run in runs}


def _kept(extent: Extent, first_idx: Mapping[int, int]) -> int:
    """How many of an extent's rows are within retention."""
    return min(max(extent.next_idx - first_idx.get(extent.topic, 0), 0), extent.rows)
