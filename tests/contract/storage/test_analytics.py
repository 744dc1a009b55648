"""What every Analytics engine promises about a snapshot."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path as FilePath

import pytest

from mainstem.errors import Exhausted, Unavailable
from mainstem.storage import Analytics, Row, Sql
from mainstem.storage.embedded.analytics import DuckAnalytics
from snapshots import FileSnapshot, event
from waiting import PATIENCE_S

AMOUNT = ("data", "amount")
USER = ("data", "user", "id")
SOURCE = ("metadata", "source")
ENDLESS = Sql("SELECT count(*) FROM range(1000000) a, range(1000000) b, events WHERE a.range * b.range = 7")
ROWS = [
    event(place, {"amount": place, "user": {"id": f"u{place % 3}"}}, metadata={"source": "web"}) for place in range(20)
]


@pytest.fixture
async def analytics(tmp_path: FilePath) -> AsyncIterator[Analytics]:
    engine = DuckAnalytics(threads=2, memory_bytes=256 << 20, queries_max=3, temp_dir=tmp_path / "spill")
    yield engine
    await engine.close()


@pytest.mark.parametrize("alone", [False, True])
async def test_sealed_and_live_events_are_one_relation(analytics: Analytics, tmp_path: FilePath, alone: bool) -> None:
    """Every event is there once, wherever it is kept, with all columns; other topics' events are not."""
    snapshot = FileSnapshot(tmp_path, ROWS, sealed=[8, 7], alone=alone)
    sql = Sql("SELECT seq, idx, ts, arrived, event_type, data, metadata, event_id FROM events ORDER BY seq")

    answer = await analytics.run(snapshot, sql, timeout_s=PATIENCE_S)

    assert [Row(*row[:5], row[5].encode(), row[6].encode(), row[7]) for row in answer] == ROWS  # type: ignore


async def test_an_answer_may_come_as_columns(analytics: Analytics, tmp_path: FilePath) -> None:
    """The same rows, with the names that the statement gives, even when there are none."""
    snapshot = FileSnapshot(tmp_path, ROWS, sealed=[8, 7])
    sql = Sql("SELECT seq AS s, n0 AS amount FROM events WHERE n0 >= ? ORDER BY seq", [17], [AMOUNT])
    nothing = Sql("SELECT seq AS s FROM events WHERE false")

    table = await analytics.table(snapshot, sql, timeout_s=PATIENCE_S)

    assert table.to_pydict() == {"s": [row.seq for row in ROWS[17:]], "amount": [17.0, 18.0, 19.0]}
    assert (await analytics.table(snapshot, nothing, timeout_s=PATIENCE_S)).to_pydict() == {"s": []}


@pytest.mark.parametrize("shredded", [[], [[AMOUNT]], [[AMOUNT, USER, SOURCE], [USER]], [[], [SOURCE, AMOUNT]]])
async def test_leaves_are_the_same_from_columns_and_from_text(
    analytics: Analytics, tmp_path: FilePath, shredded: list[list[tuple[str, ...]]]
) -> None:
    """Which leaves a file has as columns changes the speed and nothing else."""
    snapshot = FileSnapshot(tmp_path, ROWS, sealed=[8, 7], shredded=shredded)
    sql = Sql("SELECT sum(n0), count(t0), count(n1), string_agg(t1, '' ORDER BY seq), max(t2) FROM events",
              leaves=[AMOUNT, USER, SOURCE])  # fmt: skip

    answer = await analytics.run(snapshot, sql, timeout_s=PATIENCE_S)

    users = "".join(f'"u{place % 3}"' for place in range(20))
    assert [(190.0, 0, 0, users, '"web"')] == answer


@pytest.mark.parametrize("alone", [False, True])
async def test_what_is_past_retention_is_left_out(analytics: Analytics, tmp_path: FilePath, alone: bool) -> None:
    """Rows below the first index may still lie in a file; they are no events any more."""
    snapshot = FileSnapshot(tmp_path, ROWS, sealed=[8, 7], first_idx=5, alone=alone)

    found = await analytics.run(snapshot, Sql("SELECT count(*), min(idx) FROM events"), timeout_s=PATIENCE_S)
    assert found == [(15, 5)]


async def test_an_empty_snapshot_has_no_rows(analytics: Analytics, tmp_path: FilePath) -> None:
    """A topic without events can be asked anything."""
    sql = Sql("SELECT count(*), sum(n0) FROM events", leaves=[AMOUNT])

    assert await analytics.run(FileSnapshot(tmp_path, []), sql, timeout_s=PATIENCE_S) == [(0, None)]


async def test_parameters_are_values_and_never_sql(analytics: Analytics, tmp_path: FilePath) -> None:
    """Text with quotes, statements or NUL compares as it is."""
    evil = "'; DROP TABLE events; --\0\""
    snapshot = FileSnapshot(tmp_path, [event(0, event_type=evil), event(1)], sealed=[1])
    sql = Sql("WITH found AS (SELECT * FROM events WHERE event_type = ?) SELECT count(*) FROM found", [evil])

    assert await analytics.run(snapshot, sql, timeout_s=PATIENCE_S) == [(1,)]


async def test_a_folder_may_have_any_name(analytics: Analytics, tmp_path: FilePath) -> None:
    """Characters that mean something in patterns or in SQL are only characters in a path."""
    folder = tmp_path / "it's [a] *?{b}"
    folder.mkdir()
    snapshot = FileSnapshot(folder, ROWS, sealed=[10])

    assert await analytics.run(snapshot, Sql("SELECT count(*) FROM events"), timeout_s=PATIENCE_S) == [(20,)]


async def test_a_query_past_its_deadline_is_stopped(analytics: Analytics, tmp_path: FilePath) -> None:
    """The caller hears of it in time, and the next query has the engine for itself."""
    snapshot = FileSnapshot(tmp_path, ROWS)
    with pytest.raises(Unavailable, match=r"longer than 0\.2 s"):
        await asyncio.wait_for(analytics.run(snapshot, ENDLESS, timeout_s=0.2), PATIENCE_S)

    assert await analytics.run(snapshot, Sql("SELECT count(*) FROM events"), timeout_s=PATIENCE_S) == [(20,)]


async def test_a_cancelled_query_is_stopped(analytics: Analytics, tmp_path: FilePath) -> None:
    """When the caller goes away the engine stops working for him, before his files may be closed."""
    snapshot = FileSnapshot(tmp_path, ROWS)
    query = asyncio.create_task(analytics.run(snapshot, ENDLESS, timeout_s=3 * PATIENCE_S))
    await asyncio.sleep(0.1)
    query.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(query, PATIENCE_S)
    assert await analytics.run(snapshot, Sql("SELECT count(*) FROM events"), timeout_s=PATIENCE_S) == [(20,)]


async def test_closing_stops_what_runs(tmp_path: FilePath) -> None:
    """A server that shuts down does not wait for a query."""
    engine = DuckAnalytics(threads=2, memory_bytes=256 << 20, queries_max=3, temp_dir=tmp_path / "spill")
    query = asyncio.create_task(engine.run(FileSnapshot(tmp_path, ROWS), ENDLESS, timeout_s=3 * PATIENCE_S))
    await asyncio.sleep(0.1)

    await asyncio.wait_for(engine.close(), PATIENCE_S)

    with pytest.raises(Unavailable, match="stopped"):
        await query


async def test_more_queries_than_may_wait_are_refused(analytics: Analytics, tmp_path: FilePath) -> None:
    """The queue has an end: the one too many is told at once, the others are served."""
    snapshot = FileSnapshot(tmp_path, ROWS)
    waiting = [asyncio.create_task(analytics.run(snapshot, ENDLESS, timeout_s=2)) for _ in range(3)]
    await asyncio.sleep(0.05)

    with pytest.raises(Exhausted, match="Too many queries"):
        await analytics.run(snapshot, Sql("SELECT 1 FROM events"), timeout_s=PATIENCE_S)
    assert all(isinstance(end, Unavailable) for end in await asyncio.gather(*waiting, return_exceptions=True))


async def test_a_query_that_needs_too_much_memory_fails_alone(tmp_path: FilePath) -> None:
    """Memory has a limit, and reaching it is that query's problem."""
    engine = DuckAnalytics(threads=1, memory_bytes=16 << 20, queries_max=3, temp_dir=tmp_path / "spill")
    snapshot = FileSnapshot(tmp_path, ROWS)
    with pytest.raises(Exhausted, match="memory"):
        await engine.run(snapshot, Sql("SELECT list(a.range) FROM range(100000000) a, events"), timeout_s=PATIENCE_S)

    assert await engine.run(snapshot, Sql("SELECT count(*) FROM events"), timeout_s=PATIENCE_S) == [(20,)]
    await engine.close()


async def test_what_does_not_fit_in_memory_goes_to_disk(tmp_path: FilePath) -> None:
    """A large sort is slower for it, and answered; nothing stays in the folder."""
    spill = tmp_path / "spill"
    engine = DuckAnalytics(threads=1, memory_bytes=24 << 20, queries_max=3, temp_dir=spill)
    text = (
        "SELECT max(place) FROM (SELECT row_number() OVER (ORDER BY hash(a.range)) place FROM range(3000000) a, events)"
    )

    assert await engine.run(FileSnapshot(tmp_path, ROWS[:1]), Sql(text), timeout_s=PATIENCE_S) == [(3_000_000,)]
    await engine.close()
    assert not spill.exists() or not list(spill.iterdir())


async def test_files_of_several_kinds_are_counted_in_little_memory(tmp_path: FilePath) -> None:
    """What differs is counted exactly, where a part of the files has a leaf as a column and others have it as text."""
    rows = [event(place, {"amount": place, "user": {"id": f"u{place}"}}) for place in range(60_000)]
    snapshot = FileSnapshot(tmp_path, rows, sealed=[20_000, 20_000], shredded=[[], [AMOUNT]])
    counts = ", ".join(f"count(DISTINCT {column})" for column in ("n0", "t0", "n1", "t1"))
    engine = DuckAnalytics(threads=2, memory_bytes=20 << 20, queries_max=3, temp_dir=tmp_path / "spill")
    sql = Sql(f"SELECT {counts} FROM events WHERE event_type = ?", ["view"], [AMOUNT, USER])

    assert await engine.run(snapshot, sql, timeout_s=PATIENCE_S) == [(60_000, 0, 0, 60_000)]
    await engine.close()
