"""What every Log engine promises: acknowledged = synced = readable, in order, once, for as long as it is kept."""

import asyncio
import os
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path as FilePath

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from logs import draft, drafts, in_snapshot, kept, numbers_of, single
from mainstem.clock import SECOND_US, FixedClock
from mainstem.errors import Unavailable
from mainstem.ids import TopicId
from mainstem.storage import Draft, Drafts, Log, Note, Receipt, Snapshot, Sql
from mainstem.storage.embedded.analytics import DuckAnalytics
from mainstem.storage.embedded.log import EmbeddedLog, LogOptions
from mainstem.storage.ports import Condition
from waiting import PATIENCE_S

type Open = Callable[[FilePath, FixedClock], AbstractAsyncContextManager[Log]]

ORDERS, CLICKS = TopicId(1), TopicId(2)
KEY = b"sixteen bytes ok"
DAY_S = 86_400


@asynccontextmanager
async def embedded(folder: FilePath, clock: FixedClock) -> AsyncIterator[Log]:
    """Seals often, and does nothing by itself that a test would have to wait for."""
    options = LogOptions(segment_events=50, disk_free_bytes_min=0, maintain_every_s=3_600, compaction_events=400)
    async with EmbeddedLog.open(folder, options, clock) as log:
        yield log


ENGINES: list[Open] = [embedded]


class Engine:
    """A log that can be closed and opened again over what it has stored."""

    def __init__(self, open_log: Open, folder: FilePath) -> None:
        self.clock = FixedClock()
        self.folder = folder
        self._open_log = open_log
        self._stack = AsyncExitStack()
        self.log: Log

    async def open(self) -> None:
        self.log = await self._stack.enter_async_context(self._open_log(self.folder, self.clock))

    async def close(self) -> None:
        await self._stack.aclose()

    async def reopen(self) -> None:
        await self.close()
        await self.open()


@pytest.fixture(params=ENGINES)
async def engine(request: pytest.FixtureRequest, tmp_path: FilePath) -> AsyncIterator[Engine]:
    made = Engine(request.param, tmp_path / "log")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def log(engine: Engine) -> Log:
    """For tests that never reopen."""
    return engine.log


# Order, receipts, all or nothing


async def test_events_are_kept_in_the_order_they_came(engine: Engine) -> None:
    """Across seals and a restart, whatever their own timestamps say."""
    given = [(number * 7_919) % 331 for number in range(330)]
    for start in range(0, 330, 33):
        await engine.log.append(ORDERS, drafts(given[start : start + 33]))
    assert numbers_of(await kept(engine.log, ORDERS)) == given

    await engine.log.maintain()
    await engine.reopen()

    assert numbers_of(await kept(engine.log, ORDERS)) == given


async def test_a_receipt_tells_where_the_events_are(log: Log) -> None:
    """Sequence numbers and indexes are those under which the events are read."""
    await log.append(CLICKS, drafts(range(5)))
    receipt = await log.append(ORDERS, drafts(range(3)))

    rows = await kept(log, ORDERS)

    assert [row.seq for row in rows] == receipt.seqs(3) == [receipt.first_seq + place for place in range(3)]
    assert [row.idx for row in rows] == [0, 1, 2] == [receipt.first_idx + place for place in range(3)]


async def test_sequence_numbers_have_no_gaps_under_concurrency(engine: Engine) -> None:
    """Singles and batches of several topics at once: one number each, and each topic's indexes count from 0."""
    topics = [TopicId(number) for number in range(1, 8)]

    async def write(topic: TopicId) -> list[int]:
        seqs: list[int] = []
        for number in range(40):
            if number % 3:
                seqs.append((await single(engine.log, topic, draft(number))).first_seq)
            else:
                seqs += (await engine.log.append(topic, drafts([number] * 5))).seqs(5)
        return seqs

    written = await asyncio.gather(*(write(topic) for topic in [*topics, *topics]))
    await engine.reopen()

    rows = {topic: await kept(engine.log, topic) for topic in topics}
    assert all([row.idx for row in found] == list(range(len(found))) for found in rows.values())
    seqs = sorted(seq for group in written for seq in group)
    assert seqs == sorted(row.seq for found in rows.values() for row in found)
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


async def test_an_acknowledged_event_is_readable_at_once(log: Log) -> None:
    """In the very turn of the loop in which the acknowledgement comes, `state` and `snapshot` know it."""
    seen: list[tuple[int, asyncio.Task[Snapshot]]] = []

    def done(_: Receipt | Exception) -> None:
        seen.append((log.state(ORDERS).next_idx, asyncio.ensure_future(log.snapshot(ORDERS))))

    for number in range(3):
        log.submit(ORDERS, draft(number), 0, done)
    await log.append(ORDERS, drafts(range(3, 6)))

    for next_idx, opening in seen:
        snapshot = await opening
        assert len(in_snapshot(snapshot)) >= next_idx >= 1
        snapshot.close()
    assert numbers_of(await kept(log, ORDERS)) == list(range(6))


async def test_a_batch_is_stored_whole_or_not_at_all(tmp_path: FilePath, engine: Engine) -> None:
    """No snapshot ever sees a part of a batch."""
    batches = [asyncio.ensure_future(engine.log.append(ORDERS, drafts(range(70)))) for _ in range(10)]
    while not all(batch.done() for batch in batches):
        await asyncio.sleep(0)
        snapshot = await engine.log.snapshot(ORDERS)
        assert len(in_snapshot(snapshot)) % 70 == 0
        snapshot.close()

    assert numbers_of(await kept(engine.log, ORDERS)) == list(range(70)) * 10


async def test_a_caller_who_goes_away_loses_nothing(engine: Engine) -> None:
    """A cancelled append is either stored whole or not at all, and the log goes on."""
    waiting = asyncio.ensure_future(engine.log.append(ORDERS, drafts(range(3))))
    await asyncio.sleep(0)
    waiting.cancel()

    await engine.log.append(ORDERS, drafts([9]))

    assert numbers_of(await kept(engine.log, ORDERS)) in ([9], [0, 1, 2, 9])


async def test_an_unknown_topic_is_empty(log: Log) -> None:
    """Asking for a topic that never got an event costs nothing and finds nothing."""
    assert await kept(log, TopicId(99)) == []
    assert log.state(TopicId(99))[:4] == (0, 0, None, None)


async def test_bytes_are_kept_exactly(engine: Engine) -> None:
    """White space, escapes, key order, duplicate keys, numbers no float can hold, a megabyte: as they came."""
    texts = [
        b"{}",
        b'{ "b" : 1,\n\t"a" : [ 1.0, 1e400, 123456789012345678901234567890 ] }',
        '{"ключ":"значение 🌊","é":"é"}'.encode(),
        rb'{"escaped":"\u00e9\n\"\\\/\ud83c\udf0a","":null}',
        b'{"a":1,"a":2}',
        b'{"blob":"' + b"x" * (1 << 20) + b'"}',
    ]
    events = [Draft(n, "typ\u00e9 🌊", text, b"" if n % 2 else text, f"id {n} é") for n, text in enumerate(texts)]
    await engine.log.append(ORDERS, Drafts.of(events, author=8))
    for event in events:
        await single(engine.log, ORDERS, event._replace(author=9))

    for step in (engine.log.maintain, engine.reopen):
        await step()
        rows = await kept(engine.log, ORDERS)
        assert [(*row[2:3], *row[4:6], row.metadata or b"", row.event_id, row.author) for row in rows] == [
            event._replace(author=author) for author in (8, 9) for event in events
        ]


@pytest.mark.parametrize("ts_us", [-62_135_596_800_000_000, -1, 0, 253_402_300_799_999_999])
async def test_any_year_is_kept(engine: Engine, ts_us: int) -> None:
    """From the year 1 to the end of 9999."""
    await engine.log.append(ORDERS, Drafts.of([Draft(ts_us, "old", b"{}")]))
    await engine.log.maintain()

    assert [row.ts_us for row in await kept(engine.log, ORDERS)] == [ts_us]
    assert engine.log.state(ORDERS).last_ts_us == ts_us


# Repeats


async def test_a_repeat_answers_with_the_first(engine: Engine) -> None:
    """Inside one batch, across batches and as singles; repeats take no number and leave no hole."""
    first = await engine.log.append(ORDERS, drafts([1, 2, 1, 3, 2], prefix="id"), dedupe_window_s=60)
    again = await engine.log.append(ORDERS, drafts([3, 4, 1], prefix="id"), dedupe_window_s=60)
    alone = await single(engine.log, ORDERS, draft(2, "id2"), 60)

    a, b, c = (first.first_seq + place for place in range(3))
    assert first.seqs(5) == [a, b, a, c, b]
    assert again.seqs(3) == [c, again.first_seq, a]
    assert (alone.count, alone.seqs(1)) == (0, [b])
    assert numbers_of(await kept(engine.log, ORDERS)) == [1, 2, 3, 4]
    assert engine.log.figures().repeats == 5


async def test_repeats_at_the_same_moment_are_stored_once(log: Log) -> None:
    """Of twenty who send the same id at once, in batches and alone, one has it stored and all get its number."""
    alone = [single(log, ORDERS, draft(1, "same"), 60) for _ in range(10)]
    batches = [log.append(ORDERS, drafts([1], prefix="sam"), dedupe_window_s=60) for _ in range(5)]
    together = [log.append(ORDERS, Drafts.of([draft(1, "same")]), dedupe_window_s=60) for _ in range(10)]

    receipts = await asyncio.gather(*alone, *batches, *together)

    assert len(await kept(log, ORDERS)) == 2
    assert len({receipt.seqs(1)[0] for receipt in [*receipts[:10], *receipts[15:]]}) == 1


@pytest.mark.parametrize("between", ["nothing", "seal", "restart", "seal and restart", "many seals"])
async def test_a_repeat_is_known_across(engine: Engine, between: str) -> None:
    """Wherever the first one has got to meanwhile."""
    first = await engine.log.append(ORDERS, drafts(range(30), prefix="id"), dedupe_window_s=60)
    if "seal" in between:
        await engine.log.maintain()
    if "restart" in between:
        await engine.reopen()
    if "many" in between:
        for place in range(12):
            await engine.log.append(CLICKS, drafts(range(5), prefix=f"other{place}-"), dedupe_window_s=60)
            await engine.log.maintain()
        await engine.reopen()

    again = await engine.log.append(ORDERS, drafts(range(31), prefix="id"), dedupe_window_s=60)

    assert again.count == 1
    assert again.seqs(31)[:30] == first.seqs(30)
    assert numbers_of(await kept(engine.log, ORDERS)) == list(range(31))


@pytest.mark.parametrize("sealed", [False, True])
async def test_past_the_window_an_id_is_new(engine: Engine, sealed: bool) -> None:
    """The window counts from the last time that the id was stored."""
    first = await engine.log.append(ORDERS, drafts([1], prefix="id"), dedupe_window_s=60)
    if sealed:
        await engine.log.maintain()
    engine.clock.advance(59)
    repeated = await engine.log.append(ORDERS, drafts([1], prefix="id"), dedupe_window_s=60)
    engine.clock.advance(2)
    fresh = await engine.log.append(ORDERS, drafts([1], prefix="id"), dedupe_window_s=60)
    await engine.reopen()
    last = await engine.log.append(ORDERS, drafts([1], prefix="id"), dedupe_window_s=60)

    assert repeated.seqs(1) == first.seqs(1)
    assert fresh.count == 1
    assert last.seqs(1) == fresh.seqs(1)


async def test_ids_belong_to_their_topic(log: Log) -> None:
    """The same id in another topic, or without a window, is another event."""
    await log.append(ORDERS, drafts([1], prefix="id"), dedupe_window_s=60)

    assert (await log.append(CLICKS, drafts([1], prefix="id"), dedupe_window_s=60)).count == 1
    assert (await log.append(CLICKS, drafts([1, 1], prefix="id"))).count == 2


# Notes


@pytest.mark.parametrize("between", ["nothing", "seal", "restart", "seal and restart"])
async def test_a_note_is_kept_with_its_receipt(engine: Engine, between: str) -> None:
    """Also that of an append that brought nothing new."""
    await engine.log.append(ORDERS, drafts([1, 2], prefix="id"), dedupe_window_s=60)
    other = b"another key 1234"
    first = await engine.log.append(
        ORDERS, drafts([1, 2, 3], prefix="id"), dedupe_window_s=60, note=Note(KEY, b"\0value")
    )
    empty = await engine.log.append(ORDERS, drafts([3, 1], prefix="id"), dedupe_window_s=60, note=Note(other, b""))
    if "seal" in between:
        await engine.log.maintain()
    if "restart" in between:
        await engine.reopen()

    assert await engine.log.note(KEY) == (b"\0value", first)
    assert await engine.log.note(other) == (b"", empty)
    assert await engine.log.note(b"unknown key 1234") is None


async def test_a_note_is_kept_for_a_day(engine: Engine) -> None:
    """Through rounds of upkeep; and a key may be used anew."""
    await engine.log.append(ORDERS, drafts([1]), note=Note(KEY, b"a"))
    await engine.log.maintain()
    engine.clock.advance(DAY_S - 1)
    await engine.log.maintain()
    assert await engine.log.note(KEY) is not None

    second = await engine.log.append(ORDERS, drafts([2]), note=Note(KEY, b"b"))
    assert await engine.log.note(KEY) == (b"b", second)
    await engine.log.maintain()
    await engine.reopen()
    assert await engine.log.note(KEY) == (b"b", second)


# Snapshots


async def test_a_snapshot_stands_still(engine: Engine) -> None:
    """Appends, seals, compaction and retention go on; it shows the same events to its end, and its files are there."""
    for start in range(0, 200, 40):
        await engine.log.append(ORDERS, drafts(range(start, start + 40)))
        engine.clock.advance(60)
        await asyncio.sleep(0.02)
    snapshot = await engine.log.snapshot(ORDERS)
    before = in_snapshot(snapshot)
    assert numbers_of(before) == list(range(200))

    engine.log.retain(ORDERS, 120, None)
    for start in range(200, 500, 60):
        await engine.log.append(ORDERS, drafts(range(start, start + 60)))
        await engine.log.maintain()
        assert in_snapshot(snapshot) == before
        assert await asyncio.to_thread(snapshot.fetch, range(200)) == before

    snapshot.close()
    snapshot.close()  # a second time does no harm
    await engine.log.maintain()
    assert numbers_of(await kept(engine.log, ORDERS))[-300:] == list(range(200, 500))


async def test_files_are_deleted_when_the_last_snapshot_is_closed(engine: Engine) -> None:
    """What was compacted away takes no room for longer than somebody reads it."""
    for start in range(0, 300, 50):
        await engine.log.append(ORDERS, drafts(range(start, start + 50)))
        await engine.log.maintain()
    held = await engine.log.snapshot(ORDERS)
    await engine.log.append(ORDERS, drafts(range(300, 350)))
    await engine.log.maintain()
    held.close()
    await engine.log.maintain()

    sealed = sum(file.stat().st_size for file in engine.folder.rglob("*.parquet"))
    assert sealed == engine.log.figures().sealed_bytes


async def test_snapshots_have_no_gap_and_no_repeat_while_all_goes_on(engine: Engine) -> None:
    """Two writers, upkeep without pause, and readers: each snapshot and each read is a prefix of what was written."""
    writing = True

    async def write(topic: TopicId) -> None:
        for start in range(0, 1_500, 25):
            await engine.log.append(topic, drafts(range(start, start + 25)))
            await asyncio.sleep(0.001)

    async def upkeep() -> None:
        while writing:
            await engine.log.maintain()

    async def look(topic: TopicId) -> int:
        looks = 0
        while writing:
            at_least = engine.log.state(topic).next_idx
            snapshot = await engine.log.snapshot(topic)
            rows = numbers_of(await asyncio.to_thread(in_snapshot, snapshot))
            snapshot.close()
            assert rows == list(range(len(rows)))
            assert len(rows) >= at_least
            first = max(at_least - 60, 0)
            found = numbers_of(await engine.log.read(topic, first, at_least - first))
            assert found == list(range(first, at_least))
            looks += 1
        return looks

    others = [asyncio.ensure_future(work) for work in (upkeep(), look(ORDERS), look(CLICKS), look(ORDERS))]
    await asyncio.gather(write(ORDERS), write(CLICKS))
    writing = False
    _, *looks = await asyncio.gather(*others)

    assert all(looks)
    assert numbers_of(await kept(engine.log, ORDERS)) == numbers_of(await kept(engine.log, CLICKS)) == [*range(1_500)]


async def test_a_snapshot_leaves_out_only_what_cannot_match(engine: Engine) -> None:
    """Parts outside the range of time are left out, all others are whole; `tail_only` has none."""
    for start in range(0, 600, 150):
        await engine.log.append(ORDERS, drafts(range(start, start + 150)))
        await engine.log.maintain()
    await engine.log.append(ORDERS, drafts(range(600, 640)))

    wanted = await engine.log.snapshot(ORDERS, start_us=460 * SECOND_US, end_us=470 * SECOND_US)
    tail = await engine.log.snapshot(ORDERS, tail_only=True)

    assert set(range(460, 470)) <= set(numbers_of(in_snapshot(wanted)))
    assert len(wanted.parts) < len((await engine.log.snapshot(ORDERS)).parts)
    assert numbers_of(in_snapshot(tail)) == list(range(600, 640))
    assert numbers_of(tail.fetch([3, 630])) == [3, 630]


async def test_a_part_says_what_it_holds(engine: Engine) -> None:
    """Rows, times and types of the topic alone, though others share its file."""
    await engine.log.append(ORDERS, Drafts.of([draft(n, event_type="ab"[n % 2]) for n in range(10)]))
    await engine.log.append(CLICKS, drafts(range(100, 140)))
    await engine.log.maintain()

    snapshot = await engine.log.snapshot(ORDERS)
    (part,) = snapshot.parts
    snapshot.close()

    assert (part.rows, part.first_idx, part.min_ts_us, part.max_ts_us) == (10, 0, 0, 9 * SECOND_US)
    assert part.types == {"a": 5, "b": 5}


# Reading by index


async def test_reading_goes_over_every_border(engine: Engine) -> None:
    """Sealed to sealed, sealed to live, before the beginning and past the end; a read has at most what is asked."""
    for start in range(0, 300, 30):
        await engine.log.append(ORDERS, drafts(range(start, start + 30)))
        await engine.log.append(CLICKS, drafts(range(7)))
        if start % 60 == 0:
            await engine.log.maintain()

    for first, count in [(0, 300), (0, 1), (49, 3), (95, 10), (299, 1), (299, 50), (300, 5), (1_000, 5), (10, 0)]:
        rows = await engine.log.read(ORDERS, first, count)
        assert numbers_of(rows) == list(range(300))[first : first + count]
        assert [row.idx for row in rows] == list(range(300))[first : first + count]


async def test_a_read_has_at_most_ten_thousand(engine: Engine) -> None:
    """Whoever asks for more gets the first ten thousand."""
    await engine.log.append(ORDERS, drafts(range(10_500)))

    assert numbers_of(await engine.log.read(ORDERS, 100, 20_000)) == list(range(100, 10_100))


async def test_fetch_gives_what_is_asked_in_the_order_asked(engine: Engine) -> None:
    """Repeated, scattered, unknown."""
    await engine.log.append(ORDERS, drafts(range(120)))
    await engine.log.maintain()
    await engine.log.append(ORDERS, drafts(range(120, 150)))
    snapshot = await engine.log.snapshot(ORDERS)

    assert numbers_of(snapshot.fetch([149, 0, 500, 119, 120, -1, 3])) == [149, 0, 119, 120, 3]
    assert snapshot.fetch([]) == []
    snapshot.close()


async def test_who_watches_a_topic_is_told_of_each_commit(engine: Engine) -> None:
    """Once the events can be read, of this topic alone, and no more after the end."""
    told: list[tuple[int, int]] = []
    end = engine.log.watch(ORDERS, lambda next_idx: told.append((next_idx, engine.log.state(ORDERS).next_idx)))
    await engine.log.append(ORDERS, drafts(range(3)))
    await engine.log.append(CLICKS, drafts(range(3)))
    await asyncio.gather(*(single(engine.log, topic, draft(1)) for topic in (ORDERS, CLICKS, ORDERS)))
    end()
    await engine.log.append(ORDERS, drafts(range(3)))

    assert told == [(3, 3), (5, 5)]


async def test_who_watches_is_not_told_of_repeats(engine: Engine) -> None:
    """They are no new events."""
    told: list[int] = []
    await engine.log.append(ORDERS, drafts(range(3), "id"), dedupe_window_s=60)
    engine.log.watch(ORDERS, told.append)
    await engine.log.append(ORDERS, drafts(range(3), "id"), dedupe_window_s=60)

    assert told == []


# Keeping


async def test_old_events_go_by_arrival(engine: Engine) -> None:
    """Retention counts from arrival, not from the events' own time, and drops single rows."""
    engine.log.retain(ORDERS, 100, None)
    for start in range(0, 40, 10):
        await engine.log.append(ORDERS, drafts(range(start, start + 10)))
        await engine.log.append(CLICKS, drafts(range(start, start + 10)))
        engine.clock.advance(40)
    await engine.log.maintain()

    assert numbers_of(await kept(engine.log, ORDERS)) == list(range(20, 40))
    assert numbers_of(await engine.log.read(ORDERS, 0, 5)) == list(range(20, 25))
    assert engine.log.state(ORDERS).first_idx == 20
    assert numbers_of(await kept(engine.log, CLICKS)) == list(range(40))

    await engine.reopen()
    assert engine.log.state(ORDERS)[:2] == (40, 20)
    assert numbers_of(await kept(engine.log, ORDERS)) == list(range(20, 40))


async def test_a_topic_whose_events_are_all_gone_counts_on(engine: Engine) -> None:
    """Indexes and sequence numbers are never given again, also after a restart."""
    engine.log.retain(ORDERS, 100, None)
    first = await engine.log.append(ORDERS, drafts(range(120)))
    engine.clock.advance(1_000)
    await engine.log.maintain()
    assert await kept(engine.log, ORDERS) == []
    await engine.reopen()

    second = await engine.log.append(ORDERS, drafts([7]))

    assert second.first_idx == 120
    assert second.first_seq >= first.first_seq + 120
    assert numbers_of(await kept(engine.log, ORDERS)) == [7]


async def test_a_topic_is_kept_to_its_size(engine: Engine) -> None:
    """The oldest go, never the newest, and it ends not far below what it may have."""
    noise = [Draft(n, "noise", b'{"noise":"%s"}' % os.urandom(200).hex().encode()) for n in range(1_000)]
    engine.log.retain(ORDERS, None, 60_000)
    for start in range(0, 1_000, 200):
        await engine.log.append(ORDERS, Drafts.of(noise[start : start + 200]))
        await engine.log.maintain()
    await engine.log.maintain()

    indexes = [row.idx for row in await kept(engine.log, ORDERS)]
    assert indexes == list(range(indexes[0], 1_000))
    assert 100 < len(indexes) < 320
    assert engine.log.state(ORDERS).bytes <= 61_000


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_dropped_topic_is_gone(engine: Engine, sealed: bool) -> None:
    """At once, after upkeep and after a restart; its neighbours stay."""
    await engine.log.append(ORDERS, drafts(range(30)))
    await engine.log.append(CLICKS, drafts(range(30)))
    if sealed:
        await engine.log.maintain()
    await engine.log.drop(ORDERS)

    for step in (asyncio.sleep, lambda _: engine.reopen(), lambda _: engine.log.maintain(), lambda _: engine.reopen()):
        await step(0)
        assert await kept(engine.log, ORDERS) == []
        snapshot = await engine.log.snapshot(ORDERS)
        assert in_snapshot(snapshot) == []
        snapshot.close()
        state = engine.log.state(ORDERS)
        assert state.first_idx == state.next_idx
        assert numbers_of(await kept(engine.log, CLICKS)) == list(range(30))


async def test_a_topic_dropped_at_any_moment_leaves_nothing(engine: Engine) -> None:
    """Also while its events are on their way to disk, or into a segment."""
    for number in range(10, 40):
        topic = TopicId(number)
        await engine.log.append(topic, drafts(range(60)))
        going = asyncio.ensure_future(engine.log.append(topic, drafts(range(60))))
        await asyncio.sleep(0.0005 * (number - 10))
        await engine.log.drop(topic)
        await going
    await engine.log.maintain()
    await engine.log.maintain()

    assert engine.log.figures().sealed_events == engine.log.figures().unsealed_events == 0


async def test_small_segments_become_large(engine: Engine) -> None:
    """Upkeep puts neighbours together, and nothing else changes."""
    for start in range(0, 300, 30):
        await engine.log.append(ORDERS, drafts(range(start, start + 30)))
        await engine.log.maintain()

    assert engine.log.figures().sealed_segments <= 2
    assert numbers_of(await kept(engine.log, ORDERS)) == list(range(300))


async def test_leaves_that_queries_ask_for_become_columns(engine: Engine) -> None:
    """Answers are the same before and after, and the parts say so."""
    analytics = DuckAnalytics(threads=1, memory_bytes=128 << 20, queries_max=2, temp_dir=engine.folder / "spill")
    leaf = ("data", "n")
    sql = Sql("SELECT sum(n0), count(*), max(idx) FROM events", leaves=[leaf])
    await engine.log.append(ORDERS, drafts(range(120)))
    await engine.log.maintain()
    answers = []
    for _ in range(4):
        snapshot = await engine.log.snapshot(ORDERS)
        answers.append(await analytics.run(snapshot, sql, timeout_s=PATIENCE_S))
        shredded = all("data.n" in part.leaves for part in snapshot.parts)
        snapshot.close()
        engine.log.used(ORDERS, [leaf])
        await engine.log.maintain()
    await analytics.close()

    assert shredded
    assert answers == [[(7_140.0, 120, 119)]] * 4
    assert numbers_of(await kept(engine.log, ORDERS)) == list(range(120))


# How it is


async def test_state_costs_no_waiting_and_is_true(engine: Engine) -> None:
    """Counts, last times and the rate of the last minute."""
    await engine.log.append(ORDERS, drafts(range(120)))
    engine.clock.advance(30)
    await engine.log.append(ORDERS, drafts([7]))

    state = engine.log.state(ORDERS)
    assert state[:4] == (121, 0, 7 * SECOND_US, engine.clock())
    assert state.rate_per_s == pytest.approx(121 / 60)
    engine.clock.advance(45)
    assert engine.log.state(ORDERS).rate_per_s == pytest.approx(1 / 60)
    engine.clock.advance(3_600)
    assert engine.log.state(ORDERS).rate_per_s == 0
    await engine.reopen()
    assert engine.log.state(ORDERS)[:3] == (121, 0, 7 * SECOND_US)


async def test_a_sound_log_says_so(engine: Engine) -> None:
    """And its figures add up."""
    await engine.log.append(ORDERS, drafts(range(70)))
    await engine.log.maintain()
    await engine.log.append(ORDERS, drafts(range(5)))

    assert engine.log.health().condition is Condition.HEALTHY
    assert engine.log.accepts
    figures = engine.log.figures()
    assert (figures.events, figures.sealed_events, figures.unsealed_events) == (75, 70, 5)
    assert (figures.tail_cut_bytes, list(figures.quarantined)) == (0, [])
    assert figures.commits == len(figures.commit_seconds) == 2


async def test_closing_answers_all_who_wait(engine: Engine) -> None:
    """What was acknowledged is there afterwards, and what was not was refused."""
    waiting = [asyncio.ensure_future(engine.log.append(ORDERS, drafts([number]))) for number in range(20)]
    await asyncio.sleep(0)
    log = engine.log
    await engine.close()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    with pytest.raises(Unavailable):
        await log.append(ORDERS, drafts([99]))
    await engine.open()

    stored = numbers_of(await kept(engine.log, ORDERS))
    assert stored == [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Receipt)]
    assert all(isinstance(outcome, Receipt | Unavailable) for outcome in outcomes)


# Ten thousand topics


async def test_ten_thousand_topics_cost_little(tmp_path: FilePath) -> None:
    """Few files, few descriptors, little more than a kilobyte of memory each, and each is found again."""
    engine = Engine(embedded_at_full_size, tmp_path)
    await engine.open()
    await engine.log.append(ORDERS, drafts(range(10)))
    descriptors = len(os.listdir("/proc/self/fd"))
    topics = [TopicId(number) for number in range(1, 10_001)]
    try:
        tracemalloc.start()
        for _ in range(2):
            await asyncio.gather(*(single(engine.log, topic, draft(topic)) for topic in topics))
            await engine.log.maintain()
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert taken < 10_000 * 1_500
        assert count_files(tmp_path) < 30
        assert len(os.listdir("/proc/self/fd")) < descriptors + 20
        await engine.reopen()
        for topic in topics[10::997]:
            assert numbers_of(await kept(engine.log, topic)) == [topic, topic]
        assert Counter(engine.log.state(topic).next_idx for topic in topics) == {2: 9_999, 12: 1}
    finally:
        await engine.close()


def count_files(folder: FilePath) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


@asynccontextmanager
async def embedded_at_full_size(folder: FilePath, clock: FixedClock) -> AsyncIterator[Log]:
    async with EmbeddedLog.open(folder, LogOptions(disk_free_bytes_min=0, maintain_every_s=3_600), clock) as log:
        yield log


# Any order of things


class PlainList(RuleBasedStateMachine):
    """A log against lists: whatever is done in whatever order, it holds what they hold."""

    open_log: Open

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.engine = Engine(type(self).open_log, FilePath(self.temporary.name))
        self.expected: dict[TopicId, list[Draft]] = {ORDERS: [], CLICKS: [], TopicId(3): []}
        self.ids: dict[tuple[TopicId, str], int] = {}
        self.seqs: list[int] = []
        self.dropped: set[TopicId] = set()
        self.notes: dict[bytes, tuple[bytes, Receipt]] = {}
        self.snapshots: list[tuple[Snapshot, list[Draft]]] = []
        self.number = 0

    @initialize()
    def begin(self) -> None:
        self.runner.run(self.engine.open())

    @rule(
        topic=st.sampled_from([1, 2, 3]),
        ids=st.lists(st.sampled_from(["", "", "a", "b", "c", "d"]), min_size=1, max_size=60),
        with_note=st.booleans(),
        alone=st.booleans(),
    )
    def append(self, topic: TopicId, ids: list[str], with_note: bool, alone: bool) -> None:
        if topic in self.dropped:
            return
        if alone:
            ids = ids[:3]
        given = [draft(self.number + place, event_id) for place, event_id in enumerate(ids)]
        self.number += len(given)
        note = Note(self.number.to_bytes(16), b"note") if with_note and not alone else None
        seqs = self.runner.run(self._append(topic, given, note, alone=alone))
        for event, seq in zip(given, seqs, strict=True):
            known = self.ids.get((topic, event.event_id)) if event.event_id else None
            if known is not None:
                assert seq == known
                continue
            assert not self.seqs or seq == self.seqs[-1] + 1
            self.seqs.append(seq)
            self.expected[topic].append(event)
            if event.event_id:
                self.ids[topic, event.event_id] = seq

    async def _append(self, topic: TopicId, given: list[Draft], note: Note | None, *, alone: bool) -> list[int]:
        log = self.engine.log
        if alone:
            receipts = await asyncio.gather(*(single(log, topic, event, 60) for event in given))
            return [receipt.seqs(1)[0] for receipt in receipts]
        receipt = await log.append(topic, Drafts.of(given), dedupe_window_s=60, note=note)
        if note is not None:
            self.notes[note.key] = (note.value, receipt)
        return receipt.seqs(len(given))

    @rule()
    def maintain(self) -> None:
        self.runner.run(self.engine.log.maintain())

    @rule()
    def reopen(self) -> None:
        self._close_snapshots()
        self.runner.run(self.engine.reopen())

    @rule(topic=st.sampled_from([1, 2, 3]), path=st.sampled_from([("data", "n"), ("data", "m"), ("metadata", "x")]))
    def use(self, topic: TopicId, path: tuple[str, ...]) -> None:
        for _ in range(2):
            self.engine.log.used(topic, [path])

    @rule(topic=st.sampled_from([1, 2, 3]))
    def hold(self, topic: TopicId) -> None:
        self.snapshots.append((self.runner.run(self.engine.log.snapshot(topic)), list(self.expected[topic])))

    @precondition(lambda self: len(self.expected) == 3 and not self.dropped)
    @rule()
    def drop(self) -> None:
        self.runner.run(self.engine.log.drop(TopicId(3)))
        self.dropped.add(TopicId(3))
        self.expected[TopicId(3)] = []

    @invariant()
    def holds_what_the_lists_hold(self) -> None:
        if not hasattr(self.engine, "log"):
            return
        for topic, expected in self.expected.items():
            rows = self.runner.run(kept(self.engine.log, topic))
            assert [(row.ts_us, row.event_id or "") for row in rows] == [(e.ts_us, e.event_id) for e in expected]
            assert [row.idx for row in rows] == list(range(len(rows)))
        for key, noted in self.notes.items():
            assert self.runner.run(self.engine.log.note(key)) == noted
        for snapshot, events in self.snapshots:
            assert [row.ts_us for row in in_snapshot(snapshot)] == [event.ts_us for event in events]

    def _close_snapshots(self) -> None:
        for snapshot, _ in self.snapshots:
            snapshot.close()
        self.snapshots.clear()

    def teardown(self) -> None:
        self._close_snapshots()
        if hasattr(self.engine, "log"):
            self.runner.run(self.engine.close())
        self.runner.close()
        self.temporary.cleanup()


@pytest.mark.parametrize("open_log", ENGINES)
def test_any_order_of_things_keeps_what_was_appended(open_log: Open) -> None:
    """Appends, seals, compaction, restarts, leaves, held snapshots and a drop, against plain lists."""
    machine = type("Machine", (PlainList,), {"open_log": staticmethod(open_log)})
    bounds = settings(max_examples=25, stateful_step_count=20, suppress_health_check=list(HealthCheck), database=None)
    machine.TestCase.settings = bounds  # type: ignore[attr-defined]
    machine.TestCase("runTest").runTest()  # type: ignore[attr-defined]
