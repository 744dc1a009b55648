"""Following a topic: everything once, in order, and memory within bounds."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from logs import draft, drafts
from mainstem.clock import FixedClock
from mainstem.errors import Denied
from mainstem.events import Following, Reader, Row, Skipped, Start, TailBatch
from mainstem.events.follow import BUFFER_BYTES_MAX
from mainstem.identity import OPERATOR, Principal
from mainstem.ids import Seq, TopicId
from mainstem.storage import Draft, Drafts
from mainstem.storage.embedded.log import EmbeddedLog, LogOptions
from waiting import PATIENCE_S

TOPIC, OTHER = TopicId(1), TopicId(2)


class OneTopic(NamedTuple):
    id: TopicId = TOPIC

    async def for_reading(self, principal: Principal, name: str) -> "OneTopic":
        return self


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[EmbeddedLog]:
    options = LogOptions(segment_events=50, disk_free_bytes_min=0, maintain_every_s=3_600)
    async with EmbeddedLog.open(tmp_path / "log", options, FixedClock()) as opened:
        yield opened


@pytest.fixture
def following(log: EmbeddedLog) -> Following:
    return Following(log, OneTopic())


def number(row: Row) -> bytes:
    """An event as these tests write it out."""
    return b"%d" % (row.ts_us // 1_000_000)


def whole(row: Row) -> bytes:
    return row.data


async def follow(following: Following, start: Start) -> Reader:
    return await following.follow(OPERATOR, "s", start, number)


async def take(reader: Reader, count: int) -> list[int]:
    """The next `count` events at least, none left out."""
    taken: list[int] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(taken) < count:
            piece = await reader.next()
            assert isinstance(piece, TailBatch)
            taken += map(int, piece.texts)
    return taken


async def test_all_that_is_there_and_all_that_comes(log: EmbeddedLog, following: Following) -> None:
    """Sealed, live and new events follow each other."""
    await log.append(TOPIC, drafts(range(700)))
    await log.seal()
    await log.append(TOPIC, drafts(range(700, 730)))
    reader = await follow(following, "earliest")

    assert await take(reader, 730) == list(range(730))
    await log.append(TOPIC, drafts(range(730, 740)))
    assert await take(reader, 10) == list(range(730, 740))
    reader.close()


async def test_nothing_is_missed_or_repeated_while_others_write(log: EmbeddedLog, following: Following) -> None:
    """Readers that begin anywhere, in the middle of writing, see every event from there on once."""
    seqs: list[int] = []

    async def write() -> None:
        for first in range(0, 3_000, 10):
            await log.append(OTHER, drafts([1]))
            seqs.extend((await log.append(TOPIC, drafts(range(first, first + 10)))).seqs(10))

    async def read(delay_s: float, start: Start) -> list[int]:
        await asyncio.sleep(delay_s)
        if isinstance(start, int):
            start = Seq(seqs[start] if len(seqs) > start else 0)
        reader = await follow(following, start)
        taken = await take(reader, 1)
        while taken[-1] < 2_999:
            taken += await take(reader, 1)
        reader.close()
        return taken

    starts: list[Start] = ["earliest", "latest", Seq(5), Seq(100)]
    readers = [read(delay / 100, start) for delay in range(0, 30, 3) for start in starts]
    writing = asyncio.create_task(write())
    found = await asyncio.gather(*readers)
    await writing

    for taken in found:
        assert taken == list(range(taken[0], 3_000))


async def test_an_event_id_is_where_to_go_on(log: EmbeddedLog, following: Following) -> None:
    """What comes after it; it may be the last, of another topic, or none at all."""
    receipts = [await log.append(topic, drafts([place])) for place in range(200) for topic in (TOPIC, OTHER)]
    await log.seal()
    mine, others = receipts[::2], receipts[1::2]

    for place in (0, 1, 50, 137, 198):
        for receipt in (mine[place], others[place]):
            reader = await follow(following, Seq(receipt.first_seq))
            assert (await take(reader, 1))[0] == place + 1
            reader.close()
    for last in (mine[-1].first_seq, 10_000):
        reader = await follow(following, Seq(last))
        await log.append(TOPIC, drafts([200]))
        assert await take(reader, 1) == [200]
        reader.close()


async def test_a_slow_reader_is_told_what_it_missed(log: EmbeddedLog, following: Following) -> None:
    """How many, and which event comes next; then it goes on. One beside it misses nothing."""
    large = b'{"x":"%b"}' % (b"x" * 100_000)
    slow, quick = [await following.follow(OPERATOR, "s", "latest", whole) for _ in range(2)]
    for reader in (slow, quick):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.next(), 0.3)  # so that both have caught up
    events = 2 * BUFFER_BYTES_MAX // len(large)
    for count in range(events):
        receipt = await log.append(TOPIC, Drafts.of([Draft(count, "x", large)]))
        piece = await asyncio.wait_for(quick.next(), PATIENCE_S)
        assert isinstance(piece, TailBatch)
        assert piece.seqs == [receipt.first_seq]

    told = await slow.next()
    assert isinstance(told, Skipped)
    left = events - told.lost
    seqs: list[int] = []
    for _ in range(left):
        piece = await slow.next()
        assert isinstance(piece, TailBatch)
        seqs += piece.seqs
    assert 0 < left * len(large) <= BUFFER_BYTES_MAX
    assert seqs == list(range(told.next_seq, receipt.first_seq + 1))


async def test_a_reader_of_history_is_not_hurried(log: EmbeddedLog, following: Following) -> None:
    """However slow it is and however much there is, it gets all of it."""
    large = b'{"x":"%b"}' % (b"x" * 20_000)
    await log.append(TOPIC, Drafts.of([Draft(count, "x", large) for count in range(300)]))
    reader = await following.follow(OPERATOR, "s", "earliest", whole)
    count = 0
    while count < 300:
        await asyncio.sleep(0.001)
        piece = await reader.next()
        assert isinstance(piece, TailBatch)
        count += len(piece.texts)


async def test_pages_of_large_events_are_short(
    log: EmbeddedLog, following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of the most events of the largest size would be a quarter of a gigabyte, for each reader."""
    large = b'{"x":"%b"}' % (b"x" * 400_000)
    await log.append(TOPIC, Drafts.of([Draft(count, "x", large) for count in range(60)]))
    pages: list[int] = []
    read = log.read

    async def noted(topic: TopicId, first_idx: int, count: int) -> list[Row]:
        rows = await read(topic, first_idx, count)
        pages.append(len(rows))
        return rows

    monkeypatch.setattr(log, "read", noted)
    reader = await following.follow(OPERATOR, "s", "earliest", whole)
    given = 0
    while given < 60:
        piece = await reader.next()
        assert isinstance(piece, TailBatch)
        given += len(piece.texts)

    assert pages[0] <= 16
    assert max(pages[1:]) * len(large) <= BUFFER_BYTES_MAX


async def test_events_past_retention_are_missed_aloud(log: EmbeddedLog, following: Following) -> None:
    """A reader that went on where nothing is left learns how many are gone."""
    receipt = await log.append(TOPIC, drafts(range(100)))
    await log.maintain()
    reader = await follow(following, Seq(receipt.first_seq + 9))
    log.retain(TOPIC, None, 1)
    await log.maintain()
    await log.append(TOPIC, drafts([100]))

    kept_from = log.state(TOPIC).first_idx
    assert kept_from > 10
    assert await reader.next() == Skipped(kept_from - 10, Seq(receipt.first_seq + kept_from))


async def test_an_event_is_written_out_once_for_all(log: EmbeddedLog, following: Following) -> None:
    """However many read along; and not at all when nobody does."""
    written: list[int] = []

    def encode(row: Row) -> bytes:
        written.append(row.idx)
        return number(row)

    readers = [await following.follow(OPERATOR, "s", "latest", encode) for _ in range(50)]
    waiting = [asyncio.ensure_future(take(reader, 20)) for reader in readers]
    for count in range(20):
        await asyncio.sleep(0.002)
        await log.append(TOPIC, Drafts.of([draft(count)]))
    assert await asyncio.gather(*waiting) == [list(range(20))] * 50
    for reader in readers:
        reader.close()
    await log.append(TOPIC, drafts(range(20, 30)))
    await asyncio.sleep(0.05)

    assert written == list(range(20))


async def test_a_reader_can_be_ended(following: Following) -> None:
    """It says why, at once."""
    reader = await follow(following, "latest")
    waiting = asyncio.ensure_future(reader.next())
    await asyncio.sleep(0.01)
    reader.end(Denied("no more"))

    with pytest.raises(Denied):
        await asyncio.wait_for(waiting, PATIENCE_S)
    reader.close()
