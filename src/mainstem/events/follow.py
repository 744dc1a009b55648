"""Following a topic: what is there already, then every event as it comes, without gap or repeat.

However many read along, a follower reads each new row once and writes it out once for all of them. A reader holds no
more than `BUFFER_BYTES_MAX`: one that is too slow loses the oldest of what waits for it, and is told how many. A reader
of history is never hurried: it has its pages one by one, as fast as it takes them, and joins the others at the end. A
page is as many events as, by those before them, come to about `BUFFER_BYTES_MAX`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, NamedTuple

import structlog

from mainstem.errors import MainstemError, Unavailable
from mainstem.events.model import TopicNotFound
from mainstem.events.query import ReadableTopics
from mainstem.identity import Principal
from mainstem.ids import Seq, TopicId
from mainstem.storage import Log, Row

_log = structlog.get_logger("mainstem.events")

BUFFER_BYTES_MAX = 1 << 20
"""What may wait for one reader."""

_PAGE_ROWS_MAX = 256
_FIRST_PAGE_ROWS = 16
"""Few, since each may be as large as events can be."""
_BATCH_BYTES = 128 * 1024
_BEHIND_ROWS_MAX = 100_000
"""A follower that is further behind than this goes on with the newest events."""
_PAGES_AT_ONCE = 4
_REST_S_MAX = 0.1
_REST_SHARE = 0.4

type Start = Literal["latest", "earliest"] | Seq
"""Where to begin: with what comes from now on, with the oldest event kept, or after the event with this number."""

type Encode = Callable[[Row], bytes]


class TailBatch:
    """Neighbouring events of a topic, written out."""

    def __init__(self, first_idx: int, seqs: Sequence[int], texts: Sequence[bytes]) -> None:
        self.first_idx = first_idx
        self.seqs = seqs
        self.texts = texts
        self.size = sum(map(len, texts))
        self._made: dict[Hashable, object] = {}

    @property
    def next_idx(self) -> int:
        return self.first_idx + len(self.texts)

    def once[Made](self, key: Hashable, make: Callable[["TailBatch"], Made]) -> Made:
        """What `make` makes of it, made for the first reader that asks and kept for the others."""
        if key not in self._made:
            self._made[key] = make(self)
        return self._made[key]  # type: ignore[return-value]  # what `make` gave under this key

    def from_idx(self, idx: int) -> "TailBatch":
        """The events from this index on."""
        start = max(idx - self.first_idx, 0)
        return TailBatch(self.first_idx + start, self.seqs[start:], self.texts[start:]) if start else self


class Skipped(NamedTuple):
    """Events that this reader will not get: it was too slow, or they are gone."""

    lost: int
    next_seq: Seq
    """The event that comes next."""


class Following:
    """All that follow topics on this server."""

    def __init__(self, log: Log, topics: ReadableTopics) -> None:
        self._log = log
        self._topics = topics
        self._followers: dict[tuple[TopicId, Encode], _Follower] = {}
        self._pages = asyncio.Semaphore(_PAGES_AT_ONCE)

    async def follow(self, principal: Principal, name: str, start: Start, encode: Encode) -> "Reader":
        """A reader, at its place; close it. Readers with the same `encode` share its work.

        Raises Denied, TopicNotFound.
        """
        topic = await self._topics.for_reading(principal, name)
        key = (topic.id, encode)
        follower = self._followers.get(key)
        if follower is None:
            follower = self._followers[key] = _Follower(self._log, topic.id, encode, self._pages)
        follower.users += 1
        try:
            idx = await _place(self._log, topic.id, start)
        except BaseException:
            self._leave(key)
            raise
        return Reader(name, follower, idx, lambda: self._leave(key))

    async def check(self, principal: Principal, reader: "Reader") -> None:
        """Whether a reader may go on. Raises Denied, and TopicNotFound also where there is another of the same name."""
        topic = await self._topics.for_reading(principal, reader.name)
        if topic.id != reader.topic:
            raise TopicNotFound(reader.name)

    def _leave(self, key: tuple[TopicId, Encode]) -> None:
        follower = self._followers[key]
        follower.users -= 1
        if not follower.users:
            del self._followers[key]


class Reader:
    """One reader of a topic. `next` is for one task; `end` and `close` may be called beside it."""

    def __init__(self, name: str, follower: "_Follower", idx: int, left: Callable[[], None]) -> None:
        self.name = name
        self.topic = follower.topic
        self._follower = follower
        self._left: Callable[[], None] | None = left
        self._given_idx = idx  # the next to be given out
        self._idx = idx  # the next to be read
        self._waiting: deque[TailBatch] = deque()
        self._bytes = 0
        self._promised: TailBatch | None = None
        self._joined = False
        self._nudged = False
        self._ended: MainstemError | None = None
        self._wake: asyncio.Future[None] | None = None

    @property
    def idx(self) -> int:
        """The next event to be read; those before it wait here, or have been given out."""
        return self._idx

    async def next(self) -> TailBatch | Skipped | None:
        """What comes next, as soon as there is something; None after a `nudge` when there is nothing.

        Raises what `end` was given. Cancelled, it loses nothing.
        """
        while True:
            if self._ended is not None:
                raise self._ended
            if self._promised is not None:
                batch, self._promised = self._promised, None
                return batch
            if self._waiting:
                return self._take()
            if not self._joined and not await self._catch_up():
                self._joined = True
            elif self._joined:
                if self._nudged:
                    self._nudged = False
                    return None
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake

    def _take(self) -> TailBatch | Skipped:
        batch = self._waiting.popleft()
        self._bytes -= batch.size
        lost, self._given_idx = batch.first_idx - self._given_idx, batch.next_idx
        if not lost:
            return batch
        self._promised = batch  # whatever is lost meanwhile, this comes next
        return Skipped(lost, Seq(batch.seqs[0]))

    async def _catch_up(self) -> bool:
        """Read a page of what is there; False: there is no more, and what comes will be `put`."""
        if self._follower.join(self):
            return False
        batches, next_idx = await self._follower.page(self._idx)
        for batch in batches:
            self.put(batch)
        self._idx = next_idx
        return True

    def put(self, batch: TailBatch) -> None:
        """Take note of events from where this reader is on; what it had before is left out."""
        if batch.next_idx <= self._idx:
            return
        batch = batch.from_idx(self._idx)
        if self._joined and self._waiting and self._bytes + batch.size > BUFFER_BYTES_MAX:
            self._waiting.clear()
            self._bytes = 0
        self._waiting.append(batch)
        self._bytes += batch.size
        self._idx = batch.next_idx
        self._awake()

    def end(self, error: MainstemError) -> None:
        """Let `next` raise this, at once."""
        self._ended = self._ended or error
        self._awake()

    def nudge(self) -> None:
        """Let `next` come back although there is nothing."""
        self._nudged = True
        self._awake()

    def close(self) -> None:
        if self._left is not None:
            self._follower.leave(self)
            self._left()
            self._left = None

    def _awake(self) -> None:
        if self._wake is not None:
            if not self._wake.done():
                self._wake.set_result(None)
            self._wake = None


class _Follower:
    """Reads what is new in a topic for all readers that have caught up. Works only while there are some."""

    def __init__(self, log: Log, topic: TopicId, encode: Encode, pages: asyncio.Semaphore) -> None:
        self.users = 0
        self.topic = topic
        self._log = log
        self._encode = encode
        self._pages = pages
        self._readers: dict[Reader, None] = {}
        self._idx = 0  # the readers have everything before it
        self._page_rows = _FIRST_PAGE_ROWS
        self._news = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._unwatch: Callable[[], None] | None = None

    def join(self, reader: Reader) -> bool:
        """Let a reader have what comes, if it has caught up with the others."""
        if not self._readers:
            if reader.idx < self._log.state(self.topic).next_idx:
                return False
            self._idx = reader.idx
            self._news.clear()
            self._unwatch = self._log.watch(self.topic, lambda _: self._news.set())
            self._work = asyncio.create_task(self._run(), name="follow")
        elif reader.idx < self._idx:
            return False
        self._readers[reader] = None
        return True

    def leave(self, reader: Reader) -> None:
        if self._readers.pop(reader, True) is not None or self._readers:
            return
        assert self._unwatch is not None
        assert self._work is not None
        self._unwatch()
        self._work.cancel()

    async def page(self, idx: int) -> tuple[list[TailBatch], int]:
        """Some events from an index on, for a reader that is behind, and the index where to go on."""
        async with self._pages:
            await asyncio.sleep(0)  # others have their turn, even where all is in memory
            return await self._read(idx)

    async def _run(self) -> None:
        try:
            while True:
                self._news.clear()
                if self._idx >= self._log.state(self.topic).next_idx:
                    await self._news.wait()
                await self._hand_out()
        except Exception as error:  # whatever it is, nobody shall wait for what will not come
            _log.exception("cannot follow", topic=self.topic)
            for reader in self._readers:
                reader.end(Unavailable(f"The stream cannot be read now: {error}"))

    async def _hand_out(self) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        next_idx = self._log.state(self.topic).next_idx
        if next_idx - self._idx > _BEHIND_ROWS_MAX:
            self._idx = next_idx - _PAGE_ROWS_MAX
        batches, self._idx = await self._read(self._idx)
        for batch in batches:
            for reader in self._readers:
                reader.put(batch)
        await asyncio.sleep(0)  # now they send
        # The more read along, the longer that took, and the more is gathered for the next time.
        await asyncio.sleep(min((loop.time() - started) * _REST_SHARE, _REST_S_MAX))

    async def _read(self, idx: int) -> tuple[list[TailBatch], int]:
        next_idx = self._log.state(self.topic).next_idx
        rows = await self._log.read(self.topic, idx, self._page_rows)
        if not rows:  # nothing is left of what there was, so what comes is all there is to wait for
            return [], max(idx, next_idx)
        batches = self._batches(rows)
        size = sum(batch.size for batch in batches)
        self._page_rows = min(max(len(rows) * BUFFER_BYTES_MAX // max(size, 1), 1), _PAGE_ROWS_MAX)
        return batches, rows[-1].idx + 1

    def _batches(self, rows: Sequence[Row]) -> list[TailBatch]:
        """Rows written out, in batches that are neither large nor have gaps."""
        batches: list[TailBatch] = []
        seqs: list[int] = []
        texts: list[bytes] = []
        size = 0
        for place, row in enumerate(rows):
            texts.append(self._encode(row))
            seqs.append(row.seq)
            size += len(texts[-1])
            is_last = place + 1 == len(rows)
            if is_last or size >= _BATCH_BYTES or rows[place + 1].idx != row.idx + 1:
                batches.append(TailBatch(row.idx + 1 - len(texts), seqs, texts))
                seqs, texts, size = [], [], 0
        return batches


async def _place(log: Log, topic: TopicId, start: Start) -> int:
    """The index to begin with."""
    state = log.state(topic)
    if start == "latest":
        return state.next_idx
    if start == "earliest":
        return state.first_idx
    return await _after(log, topic, start, state.first_idx, state.next_idx)


async def _after(log: Log, topic: TopicId, seq: Seq, low: int, high: int) -> int:
    """The index of the first event after `seq`, which is mostly near the end: so look there first."""
    step = 1
    while low < high:
        probe = max(high - step, low) if step else (low + high) // 2
        rows = await log.read(topic, probe, 1)
        if not rows or rows[0].idx >= high:  # nothing is left there
            high = probe
        elif rows[0].seq > seq:
            high, step = probe, step * 2
        else:
            low, step = rows[0].idx + 1, 0
    return low
