"""Reading a topic: snapshots for queries, and rows by index."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path as FilePath

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mainstem.ids import TopicId
from mainstem.storage.columns import Chunk, Row
from mainstem.storage.embedded.log.catalog import Placed
from mainstem.storage.embedded.log.segments import GROUP_ROWS, GroupCache, rows_of
from mainstem.storage.embedded.log.tail import table_of
from mainstem.storage.ports import Part


class Shelf:
    """Where sealed rows are read from: the folder, and the row groups used lately."""

    def __init__(self, folder: FilePath, cache: GroupCache) -> None:
        self.folder = folder
        self.cache = cache

    def has(self, placed: Placed, first_idx: int, count: int) -> bool:
        """Whether these rows can be had without touching the disk."""
        return all(
            self.cache.get(placed.segment.file, group) is not None for group in _groups(placed, first_idx, count)
        )

    def rows(self, placed: Placed, first_idx: int, count: int) -> list[Row]:
        """Neighbouring rows of one extent. Blocks where they are not in memory."""
        found: list[Row] = []
        position = placed.extent.row_start + first_idx - placed.extent.first_idx
        end = position + count
        while position < end:
            group, start = divmod(position, GROUP_ROWS)
            take = min(GROUP_ROWS - start, end - position)
            batch = self.cache.load(self.folder, placed.segment.file, group)
            found += rows_of(batch, start, take)
            position += take
        return found

    def pick(self, placed: Placed, indexes: Sequence[int]) -> list[Row]:
        """Single rows of one extent, by rising index. Blocks where they are not in memory."""
        found: list[Row] = []
        shift = placed.extent.row_start - placed.extent.first_idx
        by_group: dict[int, list[int]] = {}
        for index in indexes:
            group, row = divmod(index + shift, GROUP_ROWS)
            by_group.setdefault(group, []).append(row)
        for group, rows in by_group.items():
            batch = self.cache.load(self.folder, placed.segment.file, group).take(pa.array(rows))
            found += rows_of(batch, 0, len(rows))
        return found


def _groups(placed: Placed, first_idx: int, count: int) -> range:
    start = placed.extent.row_start + first_idx - placed.extent.first_idx
    return range(start // GROUP_ROWS, (start + count - 1) // GROUP_ROWS + 1)


def live_rows(chunks: Iterable[Chunk], topic: int, first_idx: int, count: int) -> list[Row]:
    """Up to `count` of a topic's rows from an index on, from memory."""
    found: list[Row] = []
    for chunk in chunks:
        if len(found) >= count:
            break
        if chunk.only_topic == topic:
            if first_idx > chunk.idx[-1]:
                continue
            start = int(np.searchsorted(chunk.idx, first_idx))
            found += rows_of(chunk.batch, start, min(count - len(found), chunk.count - start))
        elif chunk.only_topic is None:
            wanted = np.flatnonzero((chunk.topics == topic) & (chunk.idx >= first_idx))[: count - len(found)]
            found += _taken(chunk, wanted)
    return found


def live_picked(chunks: Iterable[Chunk], topic: int, indexes: Sequence[int]) -> list[Row]:
    """Those of a topic's rows that have these indexes, from memory."""
    wanted = np.array(indexes, np.int64)
    found: list[Row] = []
    for chunk in chunks:
        if chunk.only_topic in (topic, None):
            found += _taken(chunk, np.flatnonzero((chunk.topics == topic) & np.isin(chunk.idx, wanted)))
    return found


def _taken(chunk: Chunk, rows: NDArray[np.intp]) -> list[Row]:
    return rows_of(chunk.batch.take(pa.array(rows)), 0, len(rows)) if len(rows) else []


class LogSnapshot:
    """The embedded log's `Snapshot`."""

    def __init__(
        self,
        topic: TopicId,
        placed: Sequence[Placed],
        *,
        wanted: Sequence[Placed],
        chunks: Sequence[Chunk],
        first_idx: int,
        next_seq: int,
        shelf: Shelf,
        release: Callable[[], None],
    ) -> None:
        """`placed` are all extents of the topic, `wanted` those that become parts."""
        self.topic = topic
        self.first_idx = first_idx
        self.next_seq = next_seq
        self.parts = [_part(shelf.folder, item) for item in wanted]
        self._placed = placed
        self._chunks = chunks
        self._shelf = shelf
        self._release = release

    @cached_property
    def live(self) -> pa.Table:
        return table_of(self._chunks, self.topic)

    def fetch(self, indexes: Sequence[int]) -> list[Row]:
        starts = [item.extent.first_idx for item in self._placed]
        by_extent: dict[int, list[int]] = {}
        live: list[int] = []
        for index in sorted(set(indexes)):
            at = bisect_right(starts, index) - 1
            if at >= 0 and self.first_idx <= index < self._placed[at].extent.next_idx:
                by_extent.setdefault(at, []).append(index)
            else:
                live.append(index)
        found = {row.idx: row for at, wanted in by_extent.items() for row in self._shelf.pick(self._placed[at], wanted)}
        if live:
            found |= {row.idx: row for row in live_picked(self._chunks, self.topic, live)}
        return [found[index] for index in indexes if index in found]

    def close(self) -> None:
        self._release()


def _part(folder: FilePath, placed: Placed) -> Part:
    extent, segment = placed.extent, placed.segment
    return Part(
        path=str(folder / segment.file),
        leaves=segment.leaves,
        rows=extent.rows,
        first_idx=extent.first_idx,
        min_ts_us=extent.min_ts,
        max_ts_us=extent.max_ts,
        types=extent.types,
        alone=extent.rows == segment.rows,
    )
