"""Snapshots made from plain files, for tests of whatever reads a snapshot, without a log."""

from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from mainstem.ids import TopicId
from mainstem.storage import SCHEMA, Part, Path, Row, leaves

TOPIC = TopicId(7)


class FileSnapshot:
    """Rows in as many Parquet files as `sealed` has entries, the rest live; `shredded` leaves are columns of a file."""

    def __init__(
        self,
        folder: FilePath,
        rows: Sequence[Row],
        *,
        sealed: Sequence[int] = (),
        shredded: Sequence[Sequence[Path]] = (),
        first_idx: int = 0,
        types: bool = True,
        alone: bool = False,
    ) -> None:
        self.topic = TOPIC
        self.first_idx = first_idx
        self.next_seq = rows[-1].seq + 1 if rows else 1
        self.closed = False
        self.parts: Sequence[Part] = []
        self._rows = {row.idx: row for row in rows}
        start = 0
        for place, count in enumerate(sealed):
            paths = shredded[place] if place < len(shredded) else []
            part = write_part(folder / f"{start}.parquet", rows[start : start + count], paths, types=types, alone=alone)
            self.parts = [*self.parts, part]
            start += count
        self.live = table(rows[start:])

    def fetch(self, indexes: Sequence[int]) -> list[Row]:
        return [self._rows[idx] for idx in indexes if idx in self._rows]

    def close(self) -> None:
        self.closed = True


def event(
    place: int,
    data: object = None,
    *,
    ts_us: int | None = None,
    event_type: str = "view",
    metadata: object = None,
) -> Row:
    """The event with this index. Its number is another one, so that nobody mistakes them; objects become JSON."""
    return Row(
        seq=1_000 + 2 * place,
        idx=place,
        ts_us=place * 1_000_000 if ts_us is None else ts_us,
        arrived_us=place * 1_000_000 + 5,
        event_type=event_type,
        data=data if isinstance(data, bytes) else msgspec.json.encode({} if data is None else data),
        metadata=None if metadata is None else msgspec.json.encode(metadata),
        event_id=None,
    )


def table(rows: Sequence[Row], topic: int = TOPIC) -> pa.Table:
    columns: Mapping[str, list[object]] = {
        "topic": [topic] * len(rows),
        "seq": [row.seq for row in rows],
        "idx": [row.idx for row in rows],
        "ts": [row.ts_us for row in rows],
        "arrived": [row.arrived_us for row in rows],
        "event_type": [row.event_type for row in rows],
        "data": [row.data.decode() for row in rows],
        "metadata": [None if row.metadata is None else row.metadata.decode() for row in rows],
        "event_id": [row.event_id for row in rows],
        "author": [row.author for row in rows],
    }
    return pa.table(columns, schema=SCHEMA)


def write_part(
    path: FilePath, rows: Sequence[Row], shredded: Sequence[Path], *, types: bool = True, alone: bool = False
) -> Part:
    """A sealed file as the log writes it: with other topics' events in it unless `alone`, and leaves as columns."""
    neighbours = (
        table(rows) if alone else pa.concat_tables([table(rows, TOPIC - 1), table(rows, TOPIC), table(rows, TOPIC + 1)])
    )
    if shredded:
        with duckdb.connect() as database:
            database.register("neighbours", neighbours)
            wanted = {leaf: leaves.stored(leaf) for leaf in shredded}
            sql = leaves.select("neighbours", SCHEMA.names, wanted) + " ORDER BY topic, seq"
            neighbours = database.sql(sql).to_arrow_table()
    pq.write_table(neighbours, path, row_group_size=16_384)
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.event_type] = counts.get(row.event_type, 0) + 1
    return Part(
        path=str(path),
        leaves=frozenset(map(leaves.dotted, shredded)),
        rows=len(rows),
        first_idx=rows[0].idx,
        min_ts_us=min(row.ts_us for row in rows),
        max_ts_us=max(row.ts_us for row in rows),
        types=counts if types else None,
        alone=alone,
    )
