"""Exports: all events of a topic that match, as columns, from one snapshot, in memory that does not grow with them.

Rows come in the order in which they came in. They are read in windows of indexes, one query each, so that ordinary
queries have their turn in between and no sort is larger than a window.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from mainstem.errors import Exhausted
from mainstem.events import paging
from mainstem.events.filters import (
    Condition,
    Field,
    Filter,
    InvalidQuery,
    Leaves,
    Operator,
    Plain,
    all_of,
    compile_filters,
    parse_field,
    parse_filters,
    spell_field,
)
from mainstem.events.paging import Excerpt, Extent, Range
from mainstem.events.query import ReadableTopics
from mainstem.identity import Principal
from mainstem.storage import Analytics, Log, Path, Snapshot, Sql

COLUMNS_MAX = 100
EXPORTS_MAX = 4
"""How many run at once."""

_WINDOW_ROWS_MIN, _WINDOW_ROWS_MAX = 1_024, 262_144
_WINDOW_BYTES = 8 << 20
_TRIES = 8
_EXACT = "9007199254740992"  # 2^53
_EVENT_ID_DIGITS = 10


class Kind(StrEnum):
    """What a column of an export holds; any may be absent in a row, but those that every event has."""

    TEXT = "text"
    JSON = "json"
    """JSON as text."""
    TIME = "time"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"


class Column(NamedTuple):
    name: str
    kind: Kind
    always: bool = False
    """It has a value in every row."""


WHOLE = (
    Column("event_id", Kind.TEXT, always=True),
    Column("timestamp", Kind.TIME, always=True),
    Column("event_type", Kind.TEXT, always=True),
    Column("data", Kind.JSON, always=True),
    Column("metadata", Kind.JSON),
)
"""The columns of whole events."""

ARROW = {
    Kind.TEXT: pa.string(),
    Kind.JSON: pa.string(),
    Kind.TIME: pa.timestamp("us", "UTC"),
    Kind.INTEGER: pa.int64(),
    Kind.NUMBER: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
}
_SOURCES = {"event_id": "seq", "timestamp": "ts", "event_type": "event_type", "data": "data", "metadata": "metadata"}


class ExportRequest(msgspec.Struct, frozen=True, kw_only=True):
    stream: str
    start_us: int | None = None
    """Inclusive."""
    end_us: int | None = None
    """Exclusive."""
    event_type: str | None = None
    filters: Sequence[str] = ()
    columns: Sequence[str] | None = None
    """Fields that become columns instead of whole events: `event_id`, `data`, `data.amount`."""


class Exports:
    """Exports for somebody who may read. Raises InvalidQuery, Denied, NotFound, Exhausted."""

    def __init__(self, log: Log, analytics: Analytics, topics: ReadableTopics, timeout_s: float) -> None:
        self._log = log
        self._analytics = analytics
        self._topics = topics
        self._timeout_s = timeout_s
        self._running = 0

    async def open(self, principal: Principal, request: ExportRequest) -> "Export":
        """An export whose columns are known; close it."""
        time, filters, fields = _understand(request)
        topic = await self._topics.for_reading(principal, request.stream)
        if self._running >= EXPORTS_MAX:
            raise Exhausted(f"{EXPORTS_MAX} exports are running already: try again when one is done", retry_after_s=10)
        self._running += 1
        try:
            snapshot = await self._log.snapshot(topic.id, start_us=time.start_us, end_us=time.end_us)
        except BaseException:
            self._running -= 1
            raise
        export = Export(self, snapshot, time, filters)
        try:
            await export.prepare(fields)
        except BaseException:
            export.close()
            raise
        return export

    async def ask(self, snapshot: Snapshot, sql: Sql) -> pa.Table:
        self._log.used(snapshot.topic, sql.leaves)
        return await self._analytics.table(snapshot, sql, timeout_s=self._timeout_s)

    def closed(self) -> None:
        self._running -= 1


class Export:
    """One export under way."""

    def __init__(self, exports: Exports, snapshot: Snapshot, time: Range, filters: Sequence[Filter]) -> None:
        self.columns: Sequence[Column] = WHOLE
        self._exports = exports
        self._snapshot: Snapshot | None = snapshot
        self._time = time
        self._filters = filters
        self._leaves = Leaves()
        self._where = all_of([*time.condition(), compile_filters(filters, self._leaves)])
        self._selected: list[str] = []
        self._extents: list[Extent] = []

    async def prepare(self, fields: Sequence[Field | str] | None) -> None:
        """Find out what there is, and of which kind each column is."""
        assert self._snapshot is not None
        found = await asyncio.to_thread(paging.extents, self._snapshot)
        self._extents = [extent for extent in found if self._time.meets(extent)]
        if fields is not None:
            names = [spell_field(field) if not isinstance(field, str) else field for field in fields]
            kinds = await self._kinds([field for field in fields if isinstance(field, tuple)])
            whole = {column.name: column for column in WHOLE}
            self.columns = [whole.get(name) or Column(name, kinds[name]) for name in names]
        paths = {spell_field(field): field for field in fields or () if isinstance(field, tuple)}
        self._selected = [
            f"{self._expression(column, paths.get(column.name))} AS c{place}"
            for place, column in enumerate(self.columns)
        ]

    async def tables(self) -> AsyncGenerator[pa.Table]:
        """All rows, with the columns as told. While one table is used, the next is read."""
        async with aclosing(self._windows()) as windows:
            following = asyncio.ensure_future(anext(windows, None))
            try:
                while (table := await following) is not None:
                    following = asyncio.ensure_future(anext(windows, None))
                    if table.num_rows:
                        yield table
            finally:
                following.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.gather(following, return_exceptions=True)

    def close(self) -> None:
        if self._snapshot is not None:
            self._snapshot.close()
            self._snapshot = None
            self._exports.closed()

    async def _windows(self) -> AsyncGenerator[pa.Table]:
        assert self._snapshot is not None
        size = _WINDOW_ROWS_MIN
        for extent in self._extents:
            idx = max(extent.first_idx, self._snapshot.first_idx)
            while idx < extent.end_idx:
                table, size = await self._window(extent, idx, size)
                idx += size
                fitting = _WINDOW_BYTES * size // max(table.nbytes, 1)
                size = max(_WINDOW_ROWS_MIN, min(fitting, 4 * size, _WINDOW_ROWS_MAX))
                yield self._shaped(table)

    async def _window(self, extent: Extent, idx: int, size: int) -> tuple[pa.Table, int]:
        """The rows of some indexes, and how many indexes those were: fewer where there is little memory."""
        assert self._snapshot is not None
        excerpt = Excerpt(self._snapshot, [extent])
        for attempt in range(_TRIES):
            try:
                return await self._exports.ask(excerpt, self._window_sql(idx, idx + size)), size
            except Exhausted:
                if attempt + 1 == _TRIES:
                    raise
            size = max(size // 2, 1)
            await asyncio.sleep(0.1 * 2**attempt)
        raise AssertionError("the last try has answered or raised")

    def _window_sql(self, begin: int, end: int) -> Sql:
        where = all_of([Condition("idx >= ? AND idx < ?", [begin, end]), self._where])
        text = f"SELECT {', '.join(self._selected)} FROM events WHERE {where.sql} ORDER BY seq"
        return Sql(text, where.parameters, self._leaves.paths)

    # Columns

    async def _kinds(self, paths: Sequence[Path]) -> dict[str, Kind]:
        """The kind of each leaf, from all events that will be exported."""
        assert self._snapshot is not None
        if not paths:
            return {}
        leaves = Leaves()
        counts = [count for path in paths for count in _counts(*leaves.columns(path))]
        where = all_of([*self._time.condition(), compile_filters(self._filters, leaves)])
        sql = Sql(f"SELECT {', '.join(counts)} FROM events WHERE {where.sql}", where.parameters, leaves.paths)
        answer = await self._exports.ask(Excerpt(self._snapshot, self._extents), sql)
        numbers = [column[0].as_py() for column in answer.columns]
        width = len(numbers) // len(paths)
        return {
            spell_field(path): _kind(*numbers[place * width : (place + 1) * width]) for place, path in enumerate(paths)
        }

    def _expression(self, column: Column, path: Path | None) -> str:
        if path is None:
            return _SOURCES[column.name]
        number, text = self._leaves.columns(path)
        whole = f"coalesce(TRY_CAST({text} AS BIGINT), TRY_CAST({number} AS BIGINT))"
        match column.kind:
            case Kind.INTEGER:
                return whole
            case Kind.NUMBER:
                return number
            case Kind.BOOLEAN:
                return f"{text} = 'true'"
            case _:
                written = f"CASE WHEN {number} = trunc({number}) THEN {whole}::VARCHAR ELSE {number}::VARCHAR END"
                unquoted = f"CASE WHEN starts_with({text}, '\"') THEN json_extract_string({text}, '$') ELSE {text} END"
                return f"coalesce({unquoted}, {written})"

    def _shaped(self, table: pa.Table) -> pa.Table:
        arrays = [_shape(column, values) for column, values in zip(self.columns, table.columns, strict=True)]
        return pa.Table.from_arrays(arrays, schema=schema(self.columns))


def schema(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of an export with these columns."""
    return pa.schema([pa.field(column.name, ARROW[column.kind], nullable=not column.always) for column in columns])


def _understand(request: ExportRequest) -> tuple[Range, list[Filter], list[Field | str] | None]:
    if request.start_us is not None and request.end_us is not None and request.start_us >= request.end_us:
        raise InvalidQuery("The end of the time range must come after its start.", field="end_time")
    filters = list(parse_filters(request.filters))
    if request.event_type is not None:
        filters.insert(0, Filter(Plain.EVENT_TYPE, Operator.EQUAL, request.event_type))
    time = Range(request.start_us, request.end_us)
    if request.columns is None:
        return time, filters, None
    names = [name.strip() for name in request.columns]
    fields: list[Field | str] = [name if name in ("data", "metadata") else parse_field(name) for name in names]
    spelled = [field if isinstance(field, str) else spell_field(field) for field in fields]
    if not 1 <= len(fields) <= COLUMNS_MAX or len(set(spelled)) < len(spelled):
        raise InvalidQuery(f"columns names 1 to {COLUMNS_MAX} fields, each once.", field="columns")
    return time, filters, fields


def _counts(number: str, text: str) -> list[str]:
    """SQL that counts a leaf's values: all, whole numbers, numbers, booleans, text."""
    exact = f"{text} IS NULL AND {number} = trunc({number}) AND abs({number}) < {_EXACT}"
    return [
        f"count(*) FILTER ({number} IS NOT NULL OR {text} IS NOT NULL)",
        f"count(*) FILTER ({exact} OR {number} IS NOT NULL AND TRY_CAST({text} AS BIGINT) IS NOT NULL)",
        f"count({number})",
        f"count(*) FILTER ({text} IN ('true', 'false'))",
    ]


def _kind(present: int, whole: int, numbers: int, booleans: int) -> Kind:
    if not present:
        return Kind.TEXT
    kinds = {Kind.INTEGER: whole, Kind.NUMBER: numbers, Kind.BOOLEAN: booleans}
    return next((kind for kind, count in kinds.items() if count == present), Kind.TEXT)


def _shape(column: Column, values: Any) -> Any:
    if column.name == "event_id":
        digits = pc.utf8_lpad(values.cast(pa.string()), _EVENT_ID_DIGITS, "0")
        return pc.binary_join_element_wise("evt_", digits, "")
    if column.kind is Kind.TIME:
        return values.cast(pa.timestamp("us")).cast(ARROW[column.kind])
    return values.cast(ARROW[column.kind])
