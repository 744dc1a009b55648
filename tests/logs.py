"""Events for a log, and reading back all that it holds."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mainstem.ids import TopicId
from mainstem.storage import Draft, Drafts, Log, Receipt, Row, Snapshot


def draft(number: int, event_id: str = "", event_type: str = "click") -> Draft:
    return Draft(1_000_000 * number, event_type, b'{"n":%d}' % number, b"", event_id)


def drafts(numbers: Sequence[int], prefix: str = "") -> Drafts:
    """One event a number; with a prefix each has an event id made of it."""
    return Drafts.of([draft(number, prefix and f"{prefix}{number}") for number in numbers])


async def single(log: Log, topic: TopicId, event: Draft, window_s: float = 0) -> Receipt:
    answer: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()

    def done(result: Receipt | Exception) -> None:
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    log.submit(topic, event, window_s, done)
    return await answer


async def kept(log: Log, topic: TopicId) -> list[Row]:
    """All events of a topic by `read`, and a check that a snapshot holds the same."""
    state = log.state(topic)
    rows: list[Row] = []
    for first_idx in range(state.first_idx, state.next_idx, 97):
        rows += [row for row in await log.read(topic, first_idx, 97) if row.idx < first_idx + 97]
    snapshot = await log.snapshot(topic)
    try:
        assert in_snapshot(snapshot) == rows
        assert await asyncio.to_thread(snapshot.fetch, [row.idx for row in rows]) == rows
    finally:
        snapshot.close()
    return rows


def in_snapshot(snapshot: Snapshot) -> list[Row]:
    """What a query would see."""
    tables = [pq.read_table(part.path, columns=snapshot.live.schema.names) for part in snapshot.parts]
    rows = pa.concat_tables([*tables, snapshot.live])
    mine = pc.and_(pc.equal(rows["topic"], snapshot.topic), pc.greater_equal(rows["idx"], snapshot.first_idx))
    found = [Row(**_as_kept(item)) for item in rows.filter(mine).drop_columns("topic").to_pylist()]
    assert all(row.seq < snapshot.next_seq for row in found)
    return sorted(found)


def _as_kept(item: dict[str, Any]) -> dict[str, Any]:
    metadata = item.pop("metadata")
    return {
        **{{"ts": "ts_us", "arrived": "arrived_us"}.get(name, name): value for name, value in item.items()},
        "data": item["data"].encode(),
        "metadata": None if metadata is None else metadata.encode(),
    }


def numbers_of(rows: Sequence[Row]) -> list[int]:
    return [row.ts_us // 1_000_000 for row in rows]
