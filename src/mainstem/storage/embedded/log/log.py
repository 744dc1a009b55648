"""The embedded log: one writer, one sync for all that wait, sealed segments behind.

The event loop owns all state and gives the order; the commit thread writes and syncs one finished job at a time; the
sealer thread turns full write-ahead files into segments; the upkeep thread verifies, expires and compacts. There is no
timer in the way of a commit: while one is being synced, the next gathers.
"""

import asyncio
import os
import sqlite3
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path as FilePath
from typing import NamedTuple

import msgspec
import numpy as np
import structlog

from mainstem.clock import SECOND_US, Clock, rfc3339, system_clock
from mainstem.errors import Exhausted, MainstemError, Unavailable
from mainstem.ids import TopicId
from mainstem.storage.columns import Chunk, Draft, Drafts, Row, Text
from mainstem.storage.embedded.log.catalog import NOTE_LIFE_S, Catalog, Placed, State
from mainstem.storage.embedded.log.dedupe import EventIds, Seen, digest
from mainstem.storage.embedded.log.frame import Noted
from mainstem.storage.embedded.log.layout import Layout
from mainstem.storage.embedded.log.reading import LogSnapshot, Shelf, live_rows
from mainstem.storage.embedded.log.recovery import Recovered, recover
from mainstem.storage.embedded.log.sealing import Sealed, seal
from mainstem.storage.embedded.log.segments import GroupCache
from mainstem.storage.embedded.log.tail import Generation
from mainstem.storage.embedded.log.topics import TopicLine
from mainstem.storage.embedded.log.upkeep import Policy, Upkeep
from mainstem.storage.embedded.log.wal import Committer, Job, NoRoom, Sync
from mainstem.storage.ports import (
    Condition,
    Done,
    Health,
    LogFigures,
    Note,
    Path,
    Receipt,
    Snapshot,
    TopicState,
)

_log = structlog.get_logger("mainstem.log")

_PENDING_BYTES_MAX = 128 << 20
_NO_REPEATS: dict[int, int] = {}
_DISK_CHECK_S = 1.0
_CALM_EVENTS_PER_S = 150_000
_COMMITS_TIMED = 1_024
_CLOSE_S = 5.0
_NO_SEALING = "Too much waits to be sealed, and that fails: nothing can be stored until it succeeds."


class LogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes and times of the embedded log; `docs/reference/settings.md` tells what each means."""

    segment_events: int = 131_072
    segment_bytes: int = 48 << 20
    seal_age_s: float = 900
    unsealed_events_max: int = 600_000
    unsealed_bytes_max: int = 256 << 20
    disk_free_bytes_min: int = 256 << 20
    row_group_cache_bytes: int = 64 << 20
    compaction_events: int = 1_048_576
    maintain_every_s: float = 30


type _Single = tuple[TopicId, Draft, float, Done]
"""An event on its way in: its topic, itself, the window for repeats, and whom to tell. A tuple without names takes a
fifth of the time to make."""


class _Many(NamedTuple):
    topic: TopicId
    drafts: Drafts
    dedupe_window_s: float
    done: Done
    note: Note | None


class _Commit:
    """A job on its way to disk, and what to do when it is there, or cannot be."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.acks: list[tuple[Done, Receipt]] = []
        self.chunks: list[Chunk] = []
        self.notes: list[Noted] = []
        self.new_ids: list[bytes] = []
        self.repeats = 0


class EmbeddedLog:
    """The `Log` port over a folder. Use `EmbeddedLog.open`."""

    def __init__(
        self, layout: Layout, options: LogOptions, clock: Clock, sync: Sync, catalog: Catalog, recovered: Recovered
    ) -> None:
        self._layout = layout
        self._options = options
        self._clock = clock
        self._catalog = catalog
        self._loop = asyncio.get_running_loop()

        self._topics = recovered.topics
        self._next_seq = recovered.next_seq
        self._generations = recovered.generations  # the last one is being written
        self._ids = EventIds(layout.dedupe)
        self._ids.newest = [generation.ids for generation in self._generations]
        self._ids.runs = recovered.runs
        self._tail_cut_bytes = recovered.tail_cut_bytes
        self._forgotten_until = recovered.forgotten_until

        self._watchers: dict[TopicId, list[Callable[[int], None]]] = {}
        self._singles: list[_Single] = []
        self._many: list[_Many] = []
        self._pending_bytes = 0
        self._hand_scheduled = False
        self._idle = asyncio.Event()  # nothing pending, nothing in flight
        self._idle.set()
        self._rotate_due = False
        self._in_flight: _Commit | None = None
        self._path_due: FilePath | None = None
        self._refusal: str | None = None
        self._broken: str | None = None
        self._seal_trouble: str | None = None
        self._closing = False

        self._events = self._commits = self._repeats = 0
        self._pace = 0.0  # events a second, lately
        self._commit_seconds: deque[float] = deque(maxlen=_COMMITS_TIMED)

        self._shelf = Shelf(layout.segments, GroupCache(options.row_group_cache_bytes))
        self._sealer = ThreadPoolExecutor(1, "log-seal")
        self._readers = ThreadPoolExecutor(2, "log-read")
        self._seal_due = asyncio.Event()
        self._sealed_one = asyncio.Event()
        self._upkeep = Upkeep(layout, catalog, self._shelf, options.compaction_events, clock)
        self._upkeep_due = asyncio.Event()
        self._upkeep_lock = asyncio.Lock()
        self._leaf_uses: Counter[tuple[int, Path]] = Counter()
        self._committer = Committer(self._generations[-1].path, recovered.tail_size, sync, self._commit_ended)
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    @asynccontextmanager
    async def open(
        cls, folder: FilePath, options: LogOptions, clock: Clock = system_clock, *, sync: Sync = os.fdatasync
    ) -> "AsyncIterator[EmbeddedLog]":
        """Recover what is in the folder and begin to serve. The caller sees to it that nobody else has it open.

        `sync` makes a descriptor's data durable; it is a parameter so that a test can let it fail.
        """
        layout = Layout(folder)
        catalog, recovered = await asyncio.to_thread(recover, layout, clock())
        log = cls(layout, options, clock, sync, catalog, recovered)
        log._check_disk()
        log._tasks = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("log-seal", log._seal_forever()),
                ("log-disk", log._watch_disk()),
                ("log-upkeep", log._upkeep_forever()),
            )
        ]
        try:
            yield log
        finally:
            await log._close()

    async def _close(self) -> None:
        """Refuse what is new, commit what is pending, end the threads. Nothing is sealed: a start replays quickly."""
        self._closing = True
        with suppress(TimeoutError):  # past that they are told that nothing was written
            await asyncio.wait_for(self._idle.wait(), _CLOSE_S)
        self._fail_pending(Unavailable("The server is shutting down: try again later."))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._end_threads)
        with suppress(sqlite3.Error):  # a full disk must not keep the log from closing
            self._catalog.count_leaf_uses(self._leaf_uses)
        self._catalog.close()

    def _end_threads(self) -> None:
        self._committer.close()
        self._sealer.shutdown()
        self._readers.shutdown()
        self._upkeep.close()

    # Append

    def submit(self, topic: TopicId, draft: Draft, dedupe_window_s: float, done: Done) -> None:
        if (refusal := self._refuses()) is not None:
            done(refusal)
            return
        self._pending_bytes += len(draft.data) + len(draft.metadata) + 256
        self._singles.append((topic, draft, dedupe_window_s, done))
        if not self._hand_scheduled:
            self._kick()

    def submit_many(
        self, topic: TopicId, drafts: Drafts, dedupe_window_s: float, done: Done, note: Note | None = None
    ) -> None:
        if (refusal := self._refuses()) is not None:
            done(refusal)
            return
        self._pending_bytes += len(drafts.data.utf8) + len(drafts.metadata.utf8) + 64 * drafts.count
        self._many.append(_Many(topic, drafts, dedupe_window_s, done, note))
        if not self._hand_scheduled:
            self._kick()

    async def append(
        self, topic: TopicId, drafts: Drafts, *, dedupe_window_s: float = 0, note: Note | None = None
    ) -> Receipt:
        future: asyncio.Future[Receipt] = self._loop.create_future()

        def done(result: Receipt | Exception) -> None:
            if future.done():
                return  # the caller went away; the events are kept all the same
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.submit_many(topic, drafts, dedupe_window_s, done, note)
        return await future

    def _refuses(self) -> MainstemError | None:
        if self._closing:
            return Unavailable("The server is shutting down: try again later.", retry_after_s=5)
        if self._broken is not None:
            return Unavailable("The log has stopped after a failed sync: the operator must restart the server.")
        if self._refusal is not None:
            return Unavailable(self._refusal, retry_after_s=10)
        if self._seal_trouble is not None and self._is_full():
            return Unavailable(_NO_SEALING, retry_after_s=10)
        if self._pending_bytes > _PENDING_BYTES_MAX:
            return Exhausted("Too much is waiting to be written: send less, or later.", retry_after_s=1)
        return None

    # Order: from pending to a job for the commit thread

    def _kick(self) -> None:
        """Hand over at the end of this turn of the loop, so that all it reads shares one sync."""
        self._idle.clear()
        if not self._hand_scheduled and self._in_flight is None:
            self._hand_scheduled = True
            self._loop.call_soon(self._hand)

    def _hand(self) -> None:
        self._hand_scheduled = False
        if self._in_flight is not None or self._is_full():
            return
        now_us = self._clock()
        if self._must_rotate():
            self._rotate()
        if not (self._singles or self._many or self._path_due):
            self._idle.set()
            return
        singles, many = self._singles, self._many
        self._singles, self._many, self._pending_bytes = [], [], 0
        commit = _Commit(Job(now_us, self._next_seq, self._path_due))
        try:
            if singles:
                self._order_singles(commit, singles, now_us)
            for item in many:
                self._order_many(commit, item, now_us)
        except Exception as error:  # a mistake of ours: numbers were given that nobody will use, so go no further
            self._stop(error)
            self._singles, self._many = [*singles, *self._singles], [*many, *self._many]
            self._fail_pending(self._refuses() or Unavailable("The log has stopped."))
            return
        self._in_flight = commit
        self._committer.put(commit.job)

    def _is_full(self) -> bool:
        """Whether so much waits to be sealed that commits must wait, too."""
        if len(self._generations) == 1:
            return False
        rows = sum(generation.rows for generation in self._generations)
        size = sum(generation.bytes for generation in self._generations)
        return rows >= self._options.unsealed_events_max or size >= self._options.unsealed_bytes_max

    def _must_rotate(self) -> bool:
        newest, options = self._generations[-1], self._options
        return newest.opened_us is not None and (
            self._rotate_due or newest.rows >= options.segment_events or newest.bytes >= options.segment_bytes
        )

    def _rotate(self) -> None:
        """Begin a new write-ahead file with the next commit; the old one is to be sealed."""
        generation = Generation(self._layout.wal_file(self._next_seq), self._next_seq)
        self._generations.append(generation)
        self._ids.newest.append(generation.ids)
        self._path_due = generation.path
        self._rotate_due = False
        self._seal_due.set()

    def _line(self, topic: int) -> TopicLine:
        line = self._topics.get(topic)
        if line is None:
            line = self._topics[topic] = TopicLine()
        return line

    def _order_singles(self, commit: _Commit, singles: Sequence[_Single], now_us: int) -> None:
        first_seq = seq = self._next_seq
        topics: list[int] = []
        indexes: list[int] = []
        drafts: list[Draft] = []
        acks = commit.acks
        for topic, draft, window_s, done in singles:
            line = self._line(topic)
            idx = line.next_idx
            if draft.event_id and window_s:
                seen = self._note_ids(commit, topic, [draft.event_id], window_s, seq, now_us)[0]
                if seen:
                    acks.append((done, Receipt(seq, idx, 0, {0: seen})))
                    continue
            line.next_idx = idx + 1
            topics.append(topic)
            indexes.append(idx)
            drafts.append(draft)
            acks.append((done, Receipt(seq, idx, 1, _NO_REPEATS)))
            seq += 1
        if not drafts:
            return
        ts_us, types, data, metadata, ids, authors = zip(*drafts, strict=True)
        chunk = Chunk(
            first_seq=first_seq,
            only_topic=topics[0] if len(set(topics)) == 1 else None,
            topics=np.array(topics, np.int64),
            idx=np.array(indexes, np.int64),
            ts_us=np.array(ts_us, np.int64),
            arrived_us=np.full(len(topics), now_us, np.int64),
            event_types=Text.of_strings(types),
            data=Text.of_bytes(data),
            metadata=Text.of_bytes(metadata),
            event_ids=Text.of_strings(ids) if any(ids) else None,
            authors=np.array(authors, np.int64),
        )
        self._next_seq = seq
        commit.chunks.append(chunk)
        commit.job.parts.append((first_seq, chunk, None))

    def _order_many(self, commit: _Commit, item: _Many, now_us: int) -> None:
        topic, drafts, window_s, done, note = item
        repeats = _NO_REPEATS
        if drafts.event_ids is not None and window_s:
            seen = self._note_ids(commit, topic, drafts.event_ids, window_s, self._next_seq, now_us)
            repeats = {row: seq for row, seq in enumerate(seen) if seq}
            if repeats:
                drafts = drafts.take(np.array([row for row in range(drafts.count) if row not in repeats], np.intp))
        line = self._line(topic)
        receipt = Receipt(self._next_seq, line.next_idx, drafts.count, repeats)
        chunk = None
        if drafts.count:
            chunk = _chunk_of(topic, drafts, receipt, now_us)
            line.next_idx += drafts.count
            self._next_seq += drafts.count
            commit.chunks.append(chunk)
        noted = Noted(note, receipt) if note is not None else None
        if noted is not None:
            commit.notes.append(noted)
        if chunk is not None or noted is not None:
            commit.job.parts.append((receipt.first_seq, chunk, noted))
        commit.acks.append((done, receipt))

    def _note_ids(
        self, commit: _Commit, topic: int, ids: Sequence[str], window_s: float, first_seq: int, now_us: int
    ) -> list[int]:
        """For each id the sequence number of the event that had it within the window, else 0.

        New ids are remembered for the sequence numbers from `first_seq` on, so that a repeat later in the same commit
        is a repeat already.
        """
        newest = self._generations[-1].ids
        digests = [digest(topic, event_id) for event_id in ids]
        not_before = now_us - int(window_s * SECOND_US)
        found: list[int] = []
        seq = first_seq
        for event_id, key, seen in zip(ids, digests, self._ids.find(digests), strict=True):
            if not event_id:
                found.append(0)
                seq += 1
                continue
            known = newest.get(key) or seen
            if known is not None and known.arrived_us >= not_before:
                found.append(known.seq)
                continue
            newest[key] = Seen(seq, now_us)
            commit.new_ids.append(key)
            found.append(0)
            seq += 1
        commit.repeats += len(ids) - (seq - first_seq)
        return found

    # After the sync

    def _commit_ended(self, job: Job, error: BaseException | None, seconds: float) -> None:
        """Called in the commit thread."""
        self._loop.call_soon_threadsafe(self._commit_done, job, error, seconds)

    def _commit_done(self, job: Job, error: BaseException | None, seconds: float) -> None:
        commit = self._in_flight
        assert commit is not None
        assert commit.job is job
        self._in_flight = None
        if error is not None:
            self._undo(commit, error)
            return
        self._path_due = None
        self._repeats += commit.repeats
        if job.parts:
            self._commits += 1
            self._commit_seconds.append(seconds)
        generation = self._generations[-1]
        for chunk in commit.chunks:
            generation.add(chunk)
            self._events += chunk.count
            self._tell_topics(chunk, job.arrived_us)
        for noted in commit.notes:
            generation.notes[noted.note.key] = noted
            generation.opened_us = generation.opened_us or job.arrived_us
        if self._singles or self._many or self._rotate_due:
            self._kick()
        else:
            self._idle.set()
        for done, receipt in commit.acks:
            _call(done, receipt)
        if self._watchers:
            self._tell_watchers(commit.chunks)

    def _tell_topics(self, chunk: Chunk, arrived_us: int) -> None:
        if chunk.only_topic is not None:
            line = self._topics[chunk.only_topic]
            line.committed(int(chunk.idx[-1]) + 1, chunk.count, int(chunk.ts_us[-1]), arrived_us)
            return
        counts = Counter(chunk.topics.tolist())
        last = dict(zip(chunk.topics.tolist(), zip(chunk.idx.tolist(), chunk.ts_us.tolist(), strict=True), strict=True))
        for topic, count in counts.items():
            idx, ts_us = last[topic]
            self._topics[topic].committed(idx + 1, count, ts_us, arrived_us)

    def _tell_watchers(self, chunks: Sequence[Chunk]) -> None:
        fresh: set[int] = set()
        for chunk in chunks:
            fresh.update([chunk.only_topic] if chunk.only_topic is not None else chunk.topics.tolist())
        for topic in self._watchers.keys() & fresh:
            for seen in list(self._watchers[topic]):
                seen(self._topics[topic].readable_idx)

    def _undo(self, commit: _Commit, error: BaseException) -> None:
        """Nothing of the commit is on disk, or nobody knows: give back its numbers, and say so to all who wait."""
        self._next_seq = commit.job.first_seq
        for chunk in commit.chunks:
            for topic, count in Counter(chunk.topics.tolist()).items():
                self._topics[topic].next_idx -= count
        newest = self._generations[-1].ids
        for key in commit.new_ids:
            newest.pop(key, None)
        if isinstance(error, NoRoom):
            self._refusal = "The disk is full: nothing can be stored until there is room."
            _log.error("log refuses writes", reason=str(error))
        else:
            self._stop(error)
        answer = self._refuses() or Unavailable("The log could not write.")
        for done, _ in commit.acks:
            _call(done, answer)
        self._fail_pending(answer)
        self._idle.set()

    def _stop(self, error: BaseException) -> None:
        """Write nothing any more; what is there can be read until the operator restarts the server."""
        self._broken = str(error) or type(error).__name__
        _log.critical("log has stopped", reason=self._broken, exc_info=error)
        self._idle.set()

    def _fail_pending(self, answer: MainstemError) -> None:
        waiting = [done for _, _, _, done in self._singles] + [item.done for item in self._many]
        self._singles, self._many, self._pending_bytes = [], [], 0
        for done in waiting:
            _call(done, answer)

    # Room on the disk

    def _check_disk(self) -> None:
        try:
            stat = os.statvfs(self._layout.folder)
        except OSError as error:
            self._refusal = f"The data folder cannot be read: {error.strerror}."
            return
        free = stat.f_bavail * stat.f_frsize
        if free < self._options.disk_free_bytes_min:
            if self._refusal is None:
                _log.error("log refuses writes", free_bytes=free, free_bytes_min=self._options.disk_free_bytes_min)
            self._refusal = "The disk is full: nothing can be stored until there is room."
        elif self._refusal is not None:
            _log.info("log accepts writes again", free_bytes=free)
            self._refusal = None

    async def _watch_disk(self) -> None:
        while True:
            before = self._events
            await asyncio.sleep(_DISK_CHECK_S)
            self._pace = (self._events - before) / _DISK_CHECK_S
            self._check_disk()
            generation = self._generations[-1]
            opened = generation.opened_us
            if opened is not None and self._clock() - opened > self._options.seal_age_s * SECOND_US:
                self._rotate_due = True
                self._kick()

    # Sealing

    async def seal(self) -> None:
        """Seal all that is committed now, however little. Returns when it is done.

        What is still on its way to disk may bring no event, and a file without events is never sealed.
        """
        due = self._generations[:-1]
        if self._generations[-1].opened_us is not None:
            due.append(self._generations[-1])
            self._rotate_due = True
            self._kick()
        while any(generation in self._generations for generation in due):
            self._sealed_one.clear()
            await self._sealed_one.wait()

    async def _seal_forever(self) -> None:
        delay_s = 1.0
        while True:
            if len(self._generations) == 1:
                self._seal_due.clear()
                await self._seal_due.wait()
                continue
            generation = self._generations[0]
            try:
                sealed = await self._loop.run_in_executor(self._sealer, self._seal_one, generation)
                await self._swap(generation, sealed)
                self._seal_trouble, delay_s = None, 1.0
            except Exception as error:  # whatever it is, the events are safe where they are, and giving up helps nobody
                self._seal_trouble = str(error)
                _log.error("cannot seal, will try again", reason=self._seal_trouble, in_s=delay_s, exc_info=error)
                if self._is_full():
                    self._fail_pending(Unavailable(_NO_SEALING, retry_after_s=10))
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 30)

    def _seal_one(self, generation: Generation) -> Sealed:
        dropped = {topic for topic, line in list(self._topics.items()) if line.dropped}
        hot = self._upkeep.hot_leaves(set(generation.topics()) - dropped)
        return seal(self._layout, self._catalog, generation, dropped, hot, self._clock() + NOTE_LIFE_S * SECOND_US)

    async def _swap(self, generation: Generation, sealed: Sealed) -> None:
        """In one turn of the loop the events leave memory and are in segments."""
        self._generations.remove(generation)
        self._ids.newest = [item.ids for item in self._generations]
        if sealed.run is not None:
            self._ids.runs = [*self._ids.runs, sealed.run]
        for segment, extents in sealed.segments:
            for extent in extents:
                self._line(extent.topic).bytes += segment.size * extent.rows // segment.rows
        self._sealed_one.set()
        self._kick()  # commits may have waited for this
        await self._loop.run_in_executor(self._sealer, generation.path.unlink, True)

    # Reading

    async def note(self, key: bytes) -> tuple[bytes, Receipt] | None:
        for generation in reversed(self._generations):
            if (noted := generation.notes.get(key)) is not None:
                return noted.note.value, noted.receipt
        kept = await self._loop.run_in_executor(self._readers, self._catalog.note, key)
        return None if kept is None else (kept.note.value, kept.receipt)

    def state(self, topic: TopicId) -> TopicState:
        line = self._topics.get(topic)
        return (line or TopicLine()).state(self._clock())

    def watch(self, topic: TopicId, seen: Callable[[int], None]) -> Callable[[], None]:
        watchers = self._watchers.setdefault(topic, [])
        watchers.append(seen)

        def end() -> None:
            watchers.remove(seen)
            if not watchers and self._watchers.get(topic) is watchers:
                del self._watchers[topic]

        return end

    async def snapshot(
        self, topic: TopicId, *, start_us: int | None = None, end_us: int | None = None, tail_only: bool = False
    ) -> Snapshot:
        release = self._upkeep.pin()
        try:
            placed = await self._sealed(topic)
            line = self._kept_line(topic)
            first_idx = line.first_idx
            # Nothing of a topic that is not there or has been dropped, whatever still lies about.
            chunks = [chunk for generation in self._generations for chunk in generation.chunks if line.next_idx]
            next_seq = self._generations[-1].next_seq
            placed = await self._loop.run_in_executor(self._readers, self._upkeep.sound, placed)
        except BaseException:
            release()
            raise
        wanted = [
            item
            for item in placed
            if not tail_only
            and item.extent.next_idx > first_idx
            and (start_us is None or item.extent.max_ts >= start_us)
            and (end_us is None or item.extent.min_ts < end_us)
        ]
        return LogSnapshot(
            topic,
            placed,
            wanted=wanted,
            chunks=chunks,
            first_idx=first_idx,
            next_seq=next_seq,
            shelf=self._shelf,
            release=release,
        )

    async def _sealed(self, topic: TopicId) -> list[Placed]:
        """A topic's extents up to where this turn of the loop finds the first event that is not sealed.

        A segment is in the catalogue a moment before its events leave memory, so what lies above that border is left
        out; and compaction keeps below it, lest one segment lie on both sides.
        """
        while True:
            border = self._generations[0].first_seq
            extents = self._catalog.known_extents(topic)
            if extents is None:
                extents = await self._loop.run_in_executor(self._readers, self._catalog.extents, topic)
            if self._generations[0].first_seq == border:
                known = () if self._kept_line(topic).dropped else extents
                return [placed for placed in known if placed.segment.next_seq <= border]

    def _kept_line(self, topic: TopicId) -> TopicLine:
        """A topic's line, or an empty one where it has none or was dropped."""
        line = self._topics.get(topic)
        return TopicLine() if line is None or line.dropped else line

    async def read(self, topic: TopicId, first_idx: int, count: int) -> list[Row]:
        rows: list[Row] = []
        count = min(count, 10_000)
        release = self._upkeep.pin()
        try:
            sealed = await self._sealed(topic)
            line = self._kept_line(topic)
            chunks = [chunk for generation in self._generations for chunk in generation.chunks if line.next_idx]
            first = max(first_idx, line.first_idx)
            for placed in sealed:
                begin = max(first, placed.extent.first_idx)
                size = min(count - len(rows), placed.extent.next_idx - begin)
                if size <= 0:
                    continue
                if self._shelf.has(placed, begin, size):
                    rows += self._shelf.rows(placed, begin, size)
                elif await self._loop.run_in_executor(self._readers, self._upkeep.is_sound, placed.segment):
                    rows += await self._loop.run_in_executor(self._readers, self._shelf.rows, placed, begin, size)
        finally:
            release()
        return rows + live_rows(chunks, topic, first, count - len(rows))

    # Keeping

    def used(self, topic: TopicId, paths: Sequence[Path]) -> None:
        fresh = self._upkeep.used(topic, paths)
        for path in paths:
            self._leaf_uses[topic, path] += 1
        if fresh:
            self._upkeep_due.set()

    def retain(self, topic: TopicId, age_s: float | None, bytes_max: int | None) -> None:
        line = self._line(topic)
        line.keep_us = None if age_s is None else int(age_s * SECOND_US)
        line.bytes_max = bytes_max

    async def drop(self, topic: TopicId) -> None:
        line = self._line(topic)
        line.dropped = True
        line.bytes = 0
        await self._loop.run_in_executor(self._readers, self._catalog.drop, topic)
        self._upkeep_due.set()

    async def maintain(self) -> None:
        """Seals first, so that retention reaches everything."""
        await self.seal()
        await self._maintain(eager=True)

    async def _upkeep_forever(self) -> None:
        eager = False
        while True:
            try:
                await self._maintain(eager=eager)
            except Exception as error:  # upkeep is tried again; what it found stays as it was
                _log.error("upkeep failed, will try again", reason=str(error), exc_info=error)
            self._upkeep_due.clear()
            try:
                await asyncio.wait_for(self._upkeep_due.wait(), self._options.maintain_every_s)
            except TimeoutError:
                continue
            await asyncio.sleep(1)  # let a burst of queries tell all their leaves

    async def _maintain(self, *, eager: bool) -> None:
        async with self._upkeep_lock:
            uses, self._leaf_uses = self._leaf_uses, Counter()
            policies = {
                topic: Policy(line.keep_us, line.bytes_max, line.first_idx)
                for topic, line in self._topics.items()
                if not line.dropped and (line.keep_us is not None or line.bytes_max is not None)
            }
            outcome = await self._upkeep.run(
                uses,
                policies,
                list(self._ids.runs),
                border=self._generations[0].first_seq,
                calm=self._is_calm,
                eager=eager,
            )
            for topic, first_idx in outcome.first_idx.items():
                line = self._line(topic)
                line.first_idx = max(line.first_idx, first_idx)
            for line in self._topics.values():
                line.bytes = 0
            for topic, size in outcome.sizes.items():
                self._line(topic).bytes = size
            if outcome.runs is not None:
                merged, replaced = outcome.runs
                kept = [run for run in self._ids.runs if run.run.file not in replaced]
                self._ids.runs = sorted([*merged, *kept], key=lambda item: item.run.first_seq)

    def _is_calm(self) -> bool:
        """Whether there is time, and memory, for compaction: nothing waits to be sealed, and little arrives."""
        return len(self._generations) == 1 and self._pace < _CALM_EVENTS_PER_S

    # How it is

    def health(self) -> Health:
        if self._broken is not None:
            return Health(Condition.UNHEALTHY, f"The log has stopped: {self._broken}. Restart the server.")
        if self._refusal is not None:
            return Health(Condition.UNHEALTHY, self._refusal)
        damaged = self._catalog.segments(State.QUARANTINED)
        if damaged:
            names = ", ".join(segment.file for segment in damaged)
            return Health(
                Condition.UNHEALTHY,
                f"Damaged and moved aside: {names}. Restore it, or run `mainstem doctor --accept-loss {names}`.",
            )
        if self._seal_trouble is not None:
            return Health(Condition.DEGRADED, f"Events cannot be sealed: {self._seal_trouble}.")
        if self._clock() < self._forgotten_until:
            return Health(
                Condition.DEGRADED,
                "The log's catalogue was lost or damaged and has been made anew. No event is missing for it, but the"
                f" Idempotency-Keys of before are forgotten. This is said until {rfc3339(self._forgotten_until)}.",
            )
        return Health(Condition.HEALTHY)

    @property
    def accepts(self) -> bool:
        """Whether an append would be taken now."""
        return self._refuses() is None

    def figures(self) -> LogFigures:
        sound = self._catalog.segments(State.SOUND)
        return LogFigures(
            events=self._events,
            commits=self._commits,
            repeats=self._repeats,
            unsealed_events=sum(generation.rows for generation in self._generations),
            unsealed_bytes=sum(generation.bytes for generation in self._generations),
            sealed_segments=len(sound),
            sealed_bytes=sum(segment.size for segment in sound),
            sealed_events=sum(segment.rows for segment in sound),
            raw_bytes=sum(segment.raw_bytes for segment in sound),
            tail_cut_bytes=self._tail_cut_bytes,
            quarantined=[segment.file for segment in self._catalog.segments(State.QUARANTINED)],
            commit_seconds=list(self._commit_seconds),
        )


def _chunk_of(topic: int, drafts: Drafts, receipt: Receipt, now_us: int) -> Chunk:
    count = drafts.count
    ids = drafts.event_ids
    return Chunk(
        first_seq=receipt.first_seq,
        only_topic=topic,
        topics=np.full(count, topic, np.int64),
        idx=np.arange(receipt.first_idx, receipt.first_idx + count, dtype=np.int64),
        ts_us=drafts.ts_us,
        arrived_us=np.full(count, now_us, np.int64),
        event_types=drafts.event_types,
        data=drafts.data,
        metadata=drafts.metadata,
        event_ids=None if ids is None else Text.of_strings([event_id or "" for event_id in ids]),
        authors=np.full(count, drafts.author, np.int64),
    )


def _call(done: Done, result: Receipt | Exception) -> None:
    """An answer that cannot be delivered must not keep the others from theirs."""
    try:
        done(result)
    except Exception as error:  # it belongs to the one who waited
        _log.warning("an acknowledgement could not be delivered", reason=str(error), exc_info=error)
