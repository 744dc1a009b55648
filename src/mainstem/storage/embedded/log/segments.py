"""Sealed segments: Parquet files, sorted by topic and sequence, under a checksum each.

They are ordinary Parquet (zstd), readable by anything; the columns are `storage.columns.SCHEMA` and, for the leaves
that queries ask for most, two more each (see `storage.leaves`).
"""

import os
import re
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mainstem.storage import leaves
from mainstem.storage.columns import SCHEMA, Chunk, Row
from mainstem.storage.embedded.files import sync_folder, write_whole
from mainstem.storage.embedded.log.catalog import Extent, Segment
from mainstem.storage.ports import Path

GROUP_ROWS = 16_384
"""Rows in a row group: what a look-up by index has to decode (9 ms; eight times as much at eight times the size)."""

_DELTA = ("topic", "seq", "idx", "ts", "arrived", "author")
_NOT_DICTIONARY = {*_DELTA, "data", "event_id"}
_TYPES_MAX = 64
_COUNTED_TOPICS_MAX = 64


def write(
    folder: FilePath, rows: pa.Table, hot: Sequence[Path], *, within: tuple[int, int] | None = None, label: str = "0"
) -> tuple[Segment, list[Extent]]:
    """Seal rows (at least one, each topic's in sequence order) into a new file; durable on return.

    `within` is the sequence range it stands for, where that is more than its rows'. The name has the range; `label`, so
    that a rewritten segment does not meet the one it replaces; and the checksum, known so without a catalogue.
    """
    seqs = rows.column("seq").to_numpy()
    first_seq, next_seq = within or (int(seqs.min()), int(seqs.max()) + 1)
    rows = _sorted(rows)
    extents = extents_of(rows)
    raw_bytes = raw_bytes_of(rows)
    if hot:
        rows = shred(rows, hot)
    buffer = pa.BufferOutputStream()
    pq.write_table(
        rows,
        buffer,
        row_group_size=GROUP_ROWS,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in rows.column_names if name not in _NOT_DICTIONARY],
        column_encoding=dict.fromkeys(_DELTA, "DELTA_BINARY_PACKED"),
        write_page_checksum=True,
        write_page_index=True,
        store_schema=False,
    )
    content = memoryview(buffer.getvalue())
    crc = zlib.crc32(content)
    name = f"{first_seq:020d}-{next_seq:020d}-{label}-{crc:08x}.parquet"
    write_whole(folder / name, content)
    segment = Segment(
        file=name,
        first_seq=first_seq,
        next_seq=next_seq,
        rows=rows.num_rows,
        size=len(content),
        raw_bytes=raw_bytes,
        crc=crc,
        leaves=frozenset(map(leaves.dotted, hot)),
    )
    return segment, extents


def table(chunks: Sequence[Chunk]) -> pa.Table:
    """The rows of chunks, sharing their memory; sorted already where each chunk is of one topic."""
    if all(chunk.only_topic is not None for chunk in chunks):
        # Moving chunks about is free, where sorting their rows would copy all of them.
        chunks = sorted(chunks, key=lambda chunk: chunk.only_topic or 0)
    return pa.Table.from_batches([chunk.batch for chunk in chunks], SCHEMA)


def unbroken(chunks: Iterable[Chunk]) -> list[list[Chunk]]:
    """Chunks in groups without gaps: only what was lost to damage leaves one."""
    groups: list[list[Chunk]] = []
    for chunk in chunks:
        if groups and groups[-1][-1].next_seq == chunk.first_seq:
            groups[-1].append(chunk)
        else:
            groups.append([chunk])
    return groups


def raw_bytes_of(rows: pa.Table) -> int:
    """What the rows' text takes as it was sent, a timestamp counted as 24 bytes."""
    text: int = sum(rows.column(name).nbytes for name in ("data", "metadata", "event_type"))
    return text + 24 * int(rows.num_rows)


def shred(rows: pa.Table, hot: Sequence[Path]) -> pa.Table:
    """The rows with two columns more for each of these leaves."""
    with duckdb.connect(config={"threads": 1}) as database:
        named = {path: leaves.stored(path) for path in hot}
        source = rows.select(["data", "metadata"])
        database.register("source", source)
        found = database.sql(leaves.select("source", [], named)).to_arrow_table()
    for name in found.column_names:
        rows = rows.append_column(name, found.column(name))
    return rows


def _sorted(rows: pa.Table) -> pa.Table:
    topics = rows.column("topic").to_numpy()
    if (topics[1:] >= topics[:-1]).all():
        return rows
    return rows.take(pa.array(np.argsort(topics, kind="stable")))


def extents_of(rows: pa.Table) -> list[Extent]:
    """Where each topic lies in rows that are sorted by topic and sequence."""
    topics = rows.column("topic").to_numpy()
    starts = np.concatenate(([0], np.flatnonzero(np.diff(topics)) + 1))
    counts = np.diff(np.append(starts, len(topics)))
    ts, arrived = rows.column("ts").to_numpy(), rows.column("arrived").to_numpy()
    numbers = (
        topics[starts],
        starts,
        counts,
        rows.column("idx").to_numpy()[starts],
        np.minimum.reduceat(ts, starts),
        np.maximum.reduceat(ts, starts),
        np.minimum.reduceat(arrived, starts),
        np.maximum.reduceat(arrived, starts),
    )
    counted = len(starts) <= _COUNTED_TOPICS_MAX
    types = [_count_types(rows, start, count) if counted else None for start, count in zip(starts, counts, strict=True)]
    return list(map(Extent, *(column.tolist() for column in numbers), types))


def _count_types(rows: pa.Table, start: int, count: int) -> dict[str, int] | None:
    counts = rows.column("event_type").slice(start, count).value_counts()
    if len(counts) > _TYPES_MAX:
        return None
    return {item["values"]: item["counts"] for item in counts.to_pylist()}


def checksum(path: FilePath) -> int:
    """CRC-32 of a file. Raises OSError."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return crc


def read_table(path: FilePath, columns: Sequence[str] | None = None) -> pa.Table:
    return pq.read_table(path, columns=columns, use_threads=False, memory_map=False)


def read_checked(path: FilePath, crc: int, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows, from the very bytes that have this checksum. Raises OSError, also when they have not."""
    content = path.read_bytes()
    if zlib.crc32(content) != crc:
        raise OSError(f"the checksum of {path.name} does not match")
    return pq.read_table(pa.BufferReader(content), columns=columns, use_threads=False)


@dataclass(frozen=True, slots=True)
class Group:
    """A row group, decoded."""

    rows: pa.RecordBatch
    size: int


class GroupCache:
    """Row groups used lately, up to a number of bytes. Any thread may use it."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._groups: OrderedDict[tuple[str, int], Group] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, file: str, group: int) -> pa.RecordBatch | None:
        with self._lock:
            found = self._groups.get((file, group))
            if found is None:
                return None
            self._groups.move_to_end((file, group))
            return found.rows

    def load(self, folder: FilePath, file: str, group: int) -> pa.RecordBatch:
        """Read a row group from disk where it is not here yet. Raises OSError."""
        if (known := self.get(file, group)) is not None:
            return known
        with pq.ParquetFile(folder / file, page_checksum_verification=True) as parquet:
            table = parquet.read_row_group(group, columns=SCHEMA.names, use_threads=False)
        rows = table.combine_chunks().to_batches()[0]
        with self._lock:
            if (file, group) not in self._groups:
                self._groups[file, group] = Group(rows, rows.nbytes)
                self._bytes += rows.nbytes
            while self._bytes > self._bytes_max and len(self._groups) > 1:
                self._bytes -= self._groups.popitem(last=False)[1].size
        return rows

    def forget(self, files: Iterable[str]) -> None:
        gone = set(files)
        with self._lock:
            for key in [key for key in self._groups if key[0] in gone]:
                self._bytes -= self._groups.pop(key).size


def rows_of(batch: pa.RecordBatch, start: int, count: int) -> list[Row]:
    """Rows as objects, 0.5 µs each."""
    part = batch.slice(start, count)
    return list(
        map(
            Row,
            part.column(1).to_pylist(),
            part.column(2).to_pylist(),
            part.column(3).to_pylist(),
            part.column(4).to_pylist(),
            part.column(5).to_pylist(),
            part.column(6).cast(pa.binary()).to_pylist(),
            part.column(7).cast(pa.binary()).to_pylist(),
            part.column(8).to_pylist(),
            part.column(9).to_pylist(),
        )
    )


def delete(folder: FilePath, files: Iterable[str]) -> None:
    for file in files:
        (folder / file).unlink(missing_ok=True)
    sync_folder(folder)


def is_segment(name: str) -> bool:
    return re.fullmatch(r"[0-9]{20}-[0-9]{20}-[0-9a-f]+-[0-9a-f]{8}\.parquet", name) is not None


def range_of(name: str) -> tuple[int, int]:
    """The sequence range that a segment's or a run's name tells."""
    first, next_, *_ = os.path.basename(name).split(".")[0].split("-")
    return int(first), int(next_)


def checksum_in(name: str) -> int:
    """The checksum that a segment's name tells."""
    return int(name.removesuffix(".parquet").rsplit("-", 1)[1], 16)
