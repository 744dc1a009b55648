"""What is committed but not sealed: one generation a write-ahead file, all in memory."""

from collections.abc import Iterable
from pathlib import Path as FilePath

import pyarrow as pa
import pyarrow.compute as pc

from mainstem.storage.columns import SCHEMA, Chunk, join_chunks
from mainstem.storage.embedded.log.dedupe import Digest, Seen
from mainstem.storage.embedded.log.frame import Noted

_SMALL_ROWS = 1_000
_SMALL_CHUNKS = 64


class Generation:
    """The events of one write-ahead file. Only the event loop changes it; once sealing begins nobody does."""

    def __init__(self, path: FilePath, first_seq: int) -> None:
        self.path = path
        self.first_seq = first_seq
        self.next_seq = first_seq
        self.chunks: list[Chunk] = []
        self.rows = 0
        self.bytes = 0
        self.opened_us: int | None = None
        """When its first event arrived."""
        self.ids: dict[Digest, Seen] = {}
        self.notes: dict[bytes, Noted] = {}

    def topics(self) -> set[int]:
        """Those that have events in it."""
        found: set[int] = set()
        for chunk in self.chunks:
            if chunk.only_topic is not None:
                found.add(chunk.only_topic)
            else:
                found.update(chunk.topics.tolist())
        return found

    def add(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self.rows += chunk.count
        self.bytes += chunk.bytes
        self.next_seq = chunk.next_seq
        if self.opened_us is None:
            self.opened_us = int(chunk.arrived_us[0])
        if chunk.count < _SMALL_ROWS:
            self._join_small()

    def _join_small(self) -> None:
        """Keep chunks few: DuckDB pays for each, and single events make thousands a second."""
        small, next_seq = 0, self.next_seq
        for chunk in reversed(self.chunks):
            # Behind damage there is a gap, which must stay one.
            if chunk.count >= _SMALL_ROWS or chunk.next_seq != next_seq:
                break
            small, next_seq = small + 1, chunk.first_seq
        if small >= _SMALL_CHUNKS:
            self.chunks[-small:] = [join_chunks(self.chunks[-small:])]


def table_of(chunks: Iterable[Chunk], topic: int) -> pa.Table:
    """A topic's rows among these chunks, as one table. Shares memory with them."""
    batches = []
    for chunk in chunks:
        if chunk.only_topic == topic:
            batches.append(chunk.batch)
        elif chunk.only_topic is None:
            rows = chunk.batch.filter(pc.equal(chunk.batch.column(0), topic))
            if rows.num_rows:
                batches.append(rows)
    return pa.Table.from_batches(batches, SCHEMA)
