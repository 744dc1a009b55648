"""Queries: pages of a topic's events, and aggregates over them."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple, Protocol

import msgspec

from mainstem.clock import Clock
from mainstem.errors import Unavailable
from mainstem.events import aggregates, paging
from mainstem.events.aggregates import AggregateAnswer, AggregateRequest, Group
from mainstem.events.filters import (
    Condition,
    Filter,
    InvalidQuery,
    Leaves,
    Operator,
    Plain,
    all_of,
    compile_filters,
    parse_filters,
)
from mainstem.events.paging import Cursor, Excerpt, Extent, Mark, Range, Timeline
from mainstem.identity import Principal
from mainstem.ids import TopicId
from mainstem.storage import Analytics, Log, Path, Row, Snapshot, Sql

PAGE_LIMIT_DEFAULT = 100
PAGE_LIMIT_MAX = 1_000
OFFSET_MAX = 2**31 - 1

_MARKS_MAX = 1_000
_ROWS_READ_ON_LOOP_MAX = 200
_OFFSET_READ_MAX = 5_000
_SKIPS_MAX = 4
_PAGE_BYTES_MAX = 64 << 20
"""Of event text in one page. A limit of 60 always fits, however large the events."""
_FETCH_ROWS = 64


class PageRequest(msgspec.Struct, frozen=True, kw_only=True):
    stream: str
    start_us: int | None = None
    """Inclusive."""
    end_us: int | None = None
    """Exclusive."""
    event_type: str | None = None
    filters: Sequence[str] = ()
    order: Literal["asc", "desc"] = "asc"
    """By timestamp, then by sequence."""
    limit: int = PAGE_LIMIT_DEFAULT
    offset: int = 0
    cursor: str | None = None


class Page(msgspec.Struct, frozen=True):
    events: list[Row]
    total_count: int
    """How many events the query finds on all its pages; with a cursor, as it was on the first page."""
    has_more: bool
    next_cursor: str | None


class ReadableTopic(Protocol):
    @property
    def id(self) -> TopicId: ...


class ReadableTopics(Protocol):
    async def for_reading(self, principal: Principal, name: str) -> ReadableTopic:
        """Raises NotFound or Denied."""


class Queries:
    """Asks a topic's snapshot, on behalf of somebody who may read it.

    A query sees every event that was acknowledged before it began. Raises InvalidQuery where the request is wrong,
    Unavailable past `timeout_s` and Exhausted when too many queries wait.
    """

    def __init__(self, log: Log, analytics: Analytics, topics: ReadableTopics, clock: Clock, timeout_s: float) -> None:
        self._log = log
        self._analytics = analytics
        self._topics = topics
        self._clock = clock
        self._timeout_s = timeout_s
        self._marks: OrderedDict[bytes, Mark] = OrderedDict()

    async def page(self, principal: Principal, request: PageRequest) -> Page:
        """Events by time, oldest first unless asked otherwise, and how many there are in all.

        Going on by cursor never repeats or skips an event that was there when the first page was read, and never
        shows one that came later.
        """
        question = _question(request)
        topic = await self._topics.for_reading(principal, request.stream)
        digest = paging.query_digest(topic.id, question.time, question.all_filters, descending=question.descending)
        cursor = None if request.cursor is None else paging.decode_cursor(request.cursor, digest)
        async with self._asking(topic.id, question.time) as (snapshot, deadline):
            self._log.used(topic.id, question.paths)
            found = await asyncio.to_thread(paging.extents, snapshot)
            total = cursor.total_count if cursor else await self._count(snapshot, found, question, digest, deadline)
            rows: list[_Place] = []
            if request.offset < total:
                rows = await self._places(snapshot, found, question, cursor, request, total, deadline)
            shown = rows[: request.limit]
            events = await asyncio.to_thread(_fetch, snapshot, shown)
            next_seq = cursor.next_seq if cursor else snapshot.next_seq
        next_cursor = None
        if len(rows) > request.limit:
            last = shown[-1]
            next_cursor = paging.encode_cursor(Cursor(digest, last.ts_us, last.seq, next_seq, total))
        return Page(events, total, next_cursor is not None, next_cursor)

    async def aggregate(self, principal: Principal, request: AggregateRequest) -> AggregateAnswer:
        """Groups of events, each with its count and the values asked for."""
        started_us = self._clock()
        query = aggregates.understand(request)
        filters = parse_filters(request.filters)
        time = _time(request.start_us, request.end_us)
        leaves = Leaves()
        where = [*time.condition(), compile_filters(filters, leaves)]
        sql = aggregates.write(query, where, leaves)
        topic = await self._topics.for_reading(principal, request.stream)
        async with self._asking(topic.id, time) as (snapshot, deadline):
            self._log.used(topic.id, sql.leaves)
            found = await asyncio.to_thread(paging.extents, snapshot)
            found = [extent for extent in found if time.meets(extent)]
            answer = await self._run(Excerpt(snapshot, found), sql, deadline)
        return AggregateAnswer(
            stream=request.stream,
            start_us=request.start_us,
            end_us=request.end_us,
            results=await _read(answer, query),
            events_scanned=sum(extent.rows for extent in found),
            query_time_ms=(self._clock() - started_us) / 1_000,
        )

    # Within

    @asynccontextmanager
    async def _asking(self, topic: TopicId, time: Range) -> AsyncIterator[tuple[Snapshot, float]]:
        """A snapshot, and the moment (of the loop's time) by which the query must be done."""
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        snapshot = await self._log.snapshot(topic, start_us=time.start_us, end_us=time.end_us)
        try:
            yield snapshot, deadline
        finally:
            snapshot.close()

    async def _run(self, snapshot: Snapshot, sql: Sql, deadline: float) -> list[tuple[object, ...]]:
        left_s = deadline - asyncio.get_running_loop().time()
        if left_s <= 0:
            raise Unavailable(f"The query took longer than {self._timeout_s:.3g} s. Narrow its time range or filters.")
        return await self._analytics.run(snapshot, sql, timeout_s=left_s)

    async def _count(
        self, snapshot: Snapshot, found: Sequence[Extent], question: "_Question", digest: bytes, deadline: float
    ) -> int:
        """All events that match. Looks into parts only where their figures do not tell, and only once: what has been
        counted for the same query before is remembered, and just the newer events are counted."""
        if not question.filters:
            return await self._count_exactly(snapshot, found, question, question.time, deadline)
        mark = self._marks.get(digest)
        if mark is None or not paging.still_true(mark, found, snapshot.first_idx):
            mark = Mark(snapshot.first_idx, snapshot.first_idx, 0, 0)
        newer_extents = [extent for extent in found if extent.end_idx > mark.end_idx and question.time.meets(extent)]
        count = mark.found
        if newer_extents:
            excerpt = Excerpt(snapshot, newer_extents, mark.end_idx)
            count += await self._count_in(excerpt, question, question.time, deadline)
        self._remember(digest, paging.mark_of(found, snapshot.first_idx, count))
        return count

    async def _count_exactly(
        self, snapshot: Snapshot, found: Sequence[Extent], question: "_Question", time: Range, deadline: float
    ) -> int:
        """The events of a stretch of time that match, from figures where they tell."""
        if question.filters:
            counted = paging.Counted(0, [extent for extent in found if time.meets(extent)])
        else:
            counted = paging.count_by_figures(found, time, snapshot.first_idx, question.event_type)
        if not counted.open:
            return counted.known
        return counted.known + await self._count_in(Excerpt(snapshot, counted.open), question, time, deadline)

    async def _count_in(self, excerpt: Excerpt, question: "_Question", time: Range, deadline: float) -> int:
        [(count,)] = await self._run(excerpt, question.count_sql(time), deadline)
        assert isinstance(count, int)
        return count

    async def _places(
        self,
        snapshot: Snapshot,
        found: Sequence[Extent],
        question: "_Question",
        cursor: Cursor | None,
        request: PageRequest,
        total: int,
        deadline: float,
    ) -> list["_Place"]:
        """Where the page's events are, and the one after them if there is one."""
        timeline = Timeline(found, question.after(cursor), question.event_type)
        share = total / max(timeline.rows, 1)
        offset = request.offset
        if offset > _OFFSET_READ_MAX:
            timeline, offset = await self._skip(snapshot, timeline, question, offset, total, deadline)
        if offset > _OFFSET_READ_MAX:  # so many events at one time that counting did not help
            sql = question.places_sql(timeline.time, cursor, limit=request.limit + 1, offset=offset)
            return await self._read_places(Excerpt(snapshot, timeline.extents), sql, deadline)
        wanted = offset + request.limit + 1
        places: list[_Place] = []
        for window in timeline.windows(wanted, share, descending=question.descending):
            extents = [extent for extent in timeline.extents if window.meets(extent)]
            if extents:
                sql = question.places_sql(window, cursor, limit=wanted - len(places))
                places += await self._read_places(Excerpt(snapshot, extents), sql, deadline)
            if len(places) == wanted:
                break
        return places[offset:]

    async def _read_places(self, excerpt: Excerpt, sql: Sql, deadline: float) -> list["_Place"]:
        rows = await self._run(excerpt, sql, deadline)
        return [_Place(*row) for row in rows]  # type: ignore[arg-type]  # three integers

    async def _skip(
        self,
        snapshot: Snapshot,
        timeline: Timeline,
        question: "_Question",
        offset: int,
        total: int,
        deadline: float,
    ) -> tuple[Timeline, int]:
        """Pass over most of a large offset by counting, which costs less than sorting: the time that is left, and
        what is left of the offset in it."""
        for _ in range(_SKIPS_MAX):
            share = (offset - _OFFSET_READ_MAX / 2) / max(total, 1)
            rows = timeline.rows * (1 - share if question.descending else share)
            edge = timeline.time_at(rows)
            start_us, end_us = timeline.time
            passed, left = Range(start_us, edge), Range(edge, end_us)
            if question.descending:
                passed, left = left, passed
            count = await self._count_exactly(snapshot, timeline.extents, question, passed, deadline)
            if not 0 < count <= offset:
                break
            offset -= count
            total -= count
            timeline = Timeline(timeline.extents, left, question.event_type)
            if offset <= _OFFSET_READ_MAX:
                break
        return timeline, offset

    def _remember(self, digest: bytes, mark: Mark) -> None:
        self._marks[digest] = mark
        self._marks.move_to_end(digest)
        if len(self._marks) > _MARKS_MAX:
            self._marks.popitem(last=False)


def _fetch(snapshot: Snapshot, places: Sequence["_Place"]) -> list[Row]:
    """The events themselves. Raises InvalidQuery where they are too much for one page: cutting it short would make
    those who count on with `offset` skip events."""
    events: list[Row] = []
    size = 0
    for start in range(0, len(places), _FETCH_ROWS):
        rows = snapshot.fetch([place.idx for place in places[start : start + _FETCH_ROWS]])
        events += rows
        size += sum(len(row.data) + len(row.metadata or b"") for row in rows)
        if size > _PAGE_BYTES_MAX:
            fits = max(len(events) // 2, 1)
            raise InvalidQuery(
                f"These events are too large for one page of {_PAGE_BYTES_MAX >> 20} MiB: ask for {fits} at a time",
                field="limit",
                limit=fits,
            )
    return events


class _Place(NamedTuple):
    """Where an event is, ordered as events are."""

    ts_us: int
    seq: int
    idx: int


class _Question(NamedTuple):
    """A page request, understood."""

    time: Range
    event_type: str | None
    filters: tuple[Filter, ...]
    """All but the event type, which parts have figures on."""
    descending: bool

    @property
    def all_filters(self) -> tuple[Filter, ...]:
        if self.event_type is None:
            return self.filters
        return (Filter(Plain.EVENT_TYPE, Operator.EQUAL, self.event_type), *self.filters)

    @property
    def paths(self) -> list[Path]:
        """The leaves that the filters read."""
        return [filter_.field for filter_ in self.filters if not isinstance(filter_.field, Plain)]

    def count_sql(self, time: Range) -> Sql:
        leaves = Leaves()
        where = self._where(leaves, time, None)
        return Sql(f"SELECT count(*) FROM events WHERE {where.sql}", where.parameters, leaves.paths)

    def places_sql(self, time: Range, cursor: Cursor | None, *, limit: int, offset: int = 0) -> Sql:
        """The first events of a stretch of time that match and are beyond the cursor, as `_Place`s."""
        leaves = Leaves()
        where = self._where(leaves, time, cursor)
        direction = "DESC" if self.descending else "ASC"
        order = f"ORDER BY ts {direction}, seq {direction} LIMIT {limit:d} OFFSET {offset:d}"
        return Sql(f"SELECT ts, seq, idx FROM events WHERE {where.sql} {order}", where.parameters, leaves.paths)

    def _where(self, leaves: Leaves, time: Range, cursor: Cursor | None) -> Condition:
        conditions = [*time.condition(), compile_filters(self.all_filters, leaves)]
        if cursor is not None:
            beyond = "ts < ? OR seq < ?" if self.descending else "ts > ? OR seq > ?"
            conditions += [
                Condition(beyond, [cursor.ts_us, cursor.seq]),
                Condition("seq < ?", [cursor.next_seq]),
            ]
        return all_of(conditions)

    def after(self, cursor: Cursor | None) -> Range:
        """The part of the time that pages from the cursor on can lie in. Events of the cursor's own microsecond are
        told apart by their sequence."""
        if cursor is None:
            return self.time
        if self.descending:
            return Range(self.time.start_us, cursor.ts_us + 1)
        return Range(cursor.ts_us, self.time.end_us)


def _question(request: PageRequest) -> _Question:
    if not 1 <= request.limit <= PAGE_LIMIT_MAX:
        raise InvalidQuery(f"limit is 1 to {PAGE_LIMIT_MAX}.", field="limit")
    if not 0 <= request.offset <= OFFSET_MAX:
        raise InvalidQuery(f"offset is 0 to {OFFSET_MAX}.", field="offset")
    if request.cursor is not None and request.offset:
        raise InvalidQuery("A cursor says where the page begins; leave out offset.", field="offset")
    filters = parse_filters(request.filters)
    event_type = request.event_type
    if event_type is None:
        event_type, filters = _type_of(filters)
    elif not event_type.isprintable() and not _is_unicode(event_type):
        raise InvalidQuery("event_type is no Unicode text.", field="event_type")
    return _Question(_time(request.start_us, request.end_us), event_type, filters, request.order == "desc")


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _type_of(filters: tuple[Filter, ...]) -> tuple[str | None, tuple[Filter, ...]]:
    """Takes `event_type=…` out of the filters, if it is there."""
    for filter_ in filters:
        if filter_.field is Plain.EVENT_TYPE and filter_.operator is Operator.EQUAL:
            return str(filter_.value), tuple(other for other in filters if other is not filter_)
    return None, filters


def _time(start_us: int | None, end_us: int | None) -> Range:
    if start_us is not None and end_us is not None and start_us >= end_us:
        raise InvalidQuery("The end of the time range must come after its start.", field="end_time")
    return Range(start_us, end_us)


async def _read(rows: list[tuple[object, ...]], query: aggregates.Query) -> list[Group]:
    if len(rows) <= _ROWS_READ_ON_LOOP_MAX:
        return aggregates.read(rows, query)
    return await asyncio.to_thread(aggregates.read, rows, query)
