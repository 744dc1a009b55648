"""Aggregates: what may be asked, the SQL that asks it, and the answer put together. All pure.

- `count` of no field counts events, of a field those where it is present and not null.
- `count_distinct` tells JSON types apart: 1 and "1" are two values, 1 and 1.0 are one.
- `sum`, `avg`, `min`, `max`, `stddev` (of the sample) and `p50` to `p99` (continuous) take JSON numbers; other values
  that are not null are left out and counted in `skipped`.
- `first` and `last` are the first and last value that is not null, by timestamp, then sequence.
- Where there is nothing to aggregate the value is null.
- A group's values are typed JSON; events without the field, and with null, form the group null.
- Without `order_by`, results are ordered by bucket, then by group: numbers, then text, null last.
"""

import math
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, NamedTuple

import msgspec

from mainstem.events.filters import (
    Condition,
    Field,
    InvalidQuery,
    Leaves,
    Operator,
    Plain,
    Scanner,
    Value,
    all_of,
    compare,
    parse_field,
    spell_field,
)
from mainstem.storage import Sql

AGGREGATIONS_MAX = 32
GROUP_BY_MAX = 8
GROUPS_MAX = 10_000
HAVING_MAX = 32

type Json = bool | int | float | str | list[Json] | dict[str, Json] | None


class Operation(StrEnum):
    COUNT = "count"
    SUM = "sum"
    AVG = "avg"
    MIN = "min"
    MAX = "max"
    COUNT_DISTINCT = "count_distinct"
    STDDEV = "stddev"
    P50 = "p50"
    P90 = "p90"
    P95 = "p95"
    P99 = "p99"
    FIRST = "first"
    LAST = "last"


_PERCENTILES = {Operation.P50: 0.5, Operation.P90: 0.9, Operation.P95: 0.95, Operation.P99: 0.99}
_OF_NUMBERS = {
    # The sums are compensated: threads add in no fixed order, and the answer shall be the same each time.
    Operation.SUM: "fsum",
    Operation.AVG: "favg",
    Operation.MIN: "min",
    Operation.MAX: "max",
    Operation.STDDEV: "stddev_samp",
}


class Aggregation(msgspec.Struct, frozen=True):
    operation: str
    field: str | None = None


class Order(msgspec.Struct, frozen=True):
    """`field` is `bucket`, `count`, a field of `group_by`, or an aggregation such as `sum(data.amount)`."""

    field: str
    direction: Literal["asc", "desc"] = "asc"


class AggregateRequest(msgspec.Struct, frozen=True, kw_only=True):
    stream: str
    start_us: int | None = None
    end_us: int | None = None
    aggregations: Sequence[Aggregation] = ()
    group_by: Sequence[str] = ()
    filters: Sequence[str] = ()
    interval: str | None = None
    """A whole number with s, m, h, d or w: `5m`. Weeks begin on Monday, all in UTC."""
    having: Sequence[str] = ()
    """Like filters, over aggregations: `sum(data.amount)>100`, `count>=5`."""
    order_by: Sequence[Order | str] = ()
    """A bare string is ascending, with `-` before it descending."""
    limit: int | None = None


class Group(msgspec.Struct, frozen=True):
    group: dict[str, Json]
    bucket_us: int | None
    values: dict[str, Json]
    count: int
    skipped: dict[str, int]
    """Only where values were left out."""


class AggregateAnswer(msgspec.Struct, frozen=True):
    stream: str
    start_us: int | None
    end_us: int | None
    results: list[Group]
    events_scanned: int
    """How many events were looked at, matching or not."""
    query_time_ms: float


# What is asked for


class Key(NamedTuple):
    """One aggregation, parsed."""

    operation: Operation
    field: Field | None

    @property
    def name(self) -> str:
        return self.operation.value if self.field is None else f"{self.operation.value}({spell_field(self.field)})"

    @property
    def is_numeric(self) -> bool:
        return self.operation not in (Operation.FIRST, Operation.LAST)

    @property
    def skips(self) -> bool:
        """Whether it leaves out what is no number."""
        return self.operation in _OF_NUMBERS or self.operation in _PERCENTILES


COUNT = Key(Operation.COUNT, None)


class Query(NamedTuple):
    """A request that has been understood, but for its filters and its time."""

    keys: list[Key]
    groups: list[Field]
    interval_us: int | None
    having: list[tuple[Key, Operator, Value]]
    order_by: list[tuple[Key | Field | Literal["bucket"], bool]]
    limit: int | None


def understand(request: AggregateRequest) -> Query:
    """Raises InvalidQuery, with what is wrong and what would be right."""
    _at_most(AGGREGATIONS_MAX, "aggregations", request.aggregations)
    _at_most(GROUP_BY_MAX, "group_by fields", request.group_by)
    _at_most(HAVING_MAX, "having conditions", request.having)
    if request.limit is not None and not 1 <= request.limit <= GROUPS_MAX:
        raise InvalidQuery(f"limit is 1 to {GROUPS_MAX}.", field="limit")
    keys = list(dict.fromkeys(_key(aggregation) for aggregation in request.aggregations))
    groups = list(dict.fromkeys(_group_field(text) for text in request.group_by))
    interval_us = None if request.interval is None else _interval(request.interval)
    return Query(
        keys,
        groups,
        interval_us,
        [_having(text, keys) for text in request.having],
        [_order(order, keys, groups, interval_us) for order in request.order_by],
        request.limit,
    )


def _at_most(limit: int, what: str, given: Sequence[object]) -> None:
    if len(given) > limit:
        raise InvalidQuery(f"A query has at most {limit} {what}; this one has {len(given)}.")


def _key(aggregation: Aggregation) -> Key:
    if aggregation.operation not in Operation:
        known = ", ".join(Operation)
        raise InvalidQuery(f"Operation {aggregation.operation[:100]!r} is none of {known}.", field="operation")
    operation = Operation(aggregation.operation)
    if aggregation.field is None:
        if operation is not Operation.COUNT:
            raise InvalidQuery(f"{operation} wants a field, such as data.amount.", field="field")
        return COUNT
    return Key(operation, _aggregate_field(operation, parse_field(aggregation.field)))


def _aggregate_field(operation: Operation, field: Field) -> Field:
    if field in (Plain.EVENT_ID, Plain.TIMESTAMP):
        raise InvalidQuery(f"Aggregates are of event_type, data.… and metadata.…, not of {field}.", field="field")
    if field is Plain.EVENT_TYPE and Key(operation, field).skips:
        raise InvalidQuery(f"{operation} wants numbers, and event_type is text.", field="field")
    return field


def _group_field(text: str) -> Field:
    field = parse_field(text)
    if field in (Plain.EVENT_ID, Plain.TIMESTAMP):
        raise InvalidQuery(f"Groups are by event_type, data.… and metadata.…, not by {field}.", field="group_by")
    return field


_UNITS_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}
_MONDAY_US = 4 * _UNITS_US["d"]  # 1970 began on a Thursday


def _interval(text: str) -> int:
    found = re.fullmatch(r"([1-9]\d{0,5})([smhdw])", text, re.ASCII)
    if found is None:
        raise InvalidQuery("interval is a whole number with s, m, h, d or w: 5m, 1h, 1d.", field="interval")
    return int(found[1]) * _UNITS_US[found[2]]


_AGGREGATION_NAME = re.compile(r"[a-z][a-z0-9_]*")
_OPEN, _CLOSE = re.compile(r"\s*\(\s*"), re.compile(r"\s*\)")


def _scan_key(scanner: Scanner, keys: Sequence[Key]) -> Key:
    scanner.take(re.compile(r"\s*"))
    start = scanner.position
    name = scanner.take(_AGGREGATION_NAME)
    if name is None or name not in Operation:
        scanner.fail("An aggregation is missing, such as sum(data.amount) or count", start)
    if scanner.take(_OPEN) is None:
        key = Key(Operation(name), None)
    else:
        key = Key(Operation(name), scanner.field())
        if scanner.take(_CLOSE) is None:
            scanner.fail("A closing bracket is missing")
    if key != COUNT and key not in keys:
        scanner.fail(f"{key.name} is not among the aggregations", start)
    return key


def _having(text: str, keys: Sequence[Key]) -> tuple[Key, Operator, Value]:
    scanner = Scanner(text)
    key = _scan_key(scanner, keys)
    start = scanner.position
    operator, value = scanner.comparison()
    if key.is_numeric and (operator is Operator.CONTAINS or isinstance(value, str | bool)):
        scanner.fail(f"{key.name} is a number", start)
    return key, operator, value


def _order(
    order: Order | str, keys: Sequence[Key], groups: Sequence[Field], interval_us: int | None
) -> tuple[Key | Field | Literal["bucket"], bool]:
    if isinstance(order, str):
        order = Order(order.removeprefix("-"), "desc" if order.startswith("-") else "asc")
    descending = order.direction == "desc"
    if order.field == "bucket":
        if interval_us is None:
            raise InvalidQuery("To order by bucket, give an interval.", field="order_by")
        return "bucket", descending
    if order.field == "count" or "(" in order.field:
        scanner = Scanner(order.field)
        key = _scan_key(scanner, keys)
        scanner.end()
        return key, descending
    field = parse_field(order.field)
    if field not in groups:
        raise InvalidQuery(f"To order by {spell_field(field)}, group by it.", field="order_by")
    return field, descending


# The SQL


class _Columns:
    """Aggregate expressions of the inner statement, each under one name however often it is used."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def name(self, expression: str) -> str:
        return self._names.setdefault(expression, f"x{len(self._names)}")

    def selected(self) -> list[str]:
        return [f"{expression} AS {name}" for expression, name in self._names.items()]


def write(query: Query, where: Sequence[Condition], leaves: Leaves) -> Sql:
    """One statement in three layers: groups with raw aggregates, values, and the choice and order of results.

    A row of the answer has the bucket, number and text of each group field, the count, and for each aggregation the
    number, the text and how many values were skipped.
    """
    condition = all_of(where)
    raw = _Columns()
    groups = _group_columns(query, leaves)
    values = [f"NULL::DOUBLE AS gn{place}" for place, field in enumerate(query.groups) if isinstance(field, Plain)]
    values += ["total"]
    for place, key in enumerate(query.keys):
        number, text = _value(key, query.keys, raw, leaves)
        values += [f"{number} AS v{place}", f"{text} AS w{place}", f"{_skipped(key, raw, leaves)} AS s{place}"]
    by_group = f" GROUP BY {', '.join(groups)}" if groups else ""
    grouped = ", ".join([*(f"{sql} AS {name}" for name, sql in groups.items()), "count(*) AS total", *raw.selected()])
    inner = f"SELECT {grouped} FROM events WHERE {condition.sql}{by_group}"
    middle = f"SELECT {', '.join([*groups, *values])} FROM ({inner})"
    having = all_of([compare(*_result_columns(key, query), operator, value) for key, operator, value in query.having])
    limit = GROUPS_MAX + 1 if query.limit is None else query.limit
    outer = (
        f"SELECT {', '.join(_result_row(query))} FROM ({middle}) WHERE {having.sql}{_ordered(query)} LIMIT {limit:d}"
    )
    return Sql(outer, [*condition.parameters, *having.parameters], leaves.paths)


def _group_columns(query: Query, leaves: Leaves) -> dict[str, str]:
    """Name → expression of what the events are grouped by."""
    columns: dict[str, str] = {}
    if query.interval_us is not None:
        width = query.interval_us
        since = f"(ts - {_MONDAY_US:d})" if width % _UNITS_US["w"] == 0 else "ts"
        # The remainder of a time before 1970 is negative in SQL.
        columns["bucket"] = f"ts - (({since} % {width:d} + {width:d}) % {width:d})"
    for place, field in enumerate(query.groups):
        number, text = _leaf(field, leaves)
        columns[f"gt{place}"] = text
        if not isinstance(field, Plain):  # an event type has no number, and to group by one more column costs time
            columns[f"gn{place}"] = number
    return columns


def _leaf(field: Field, leaves: Leaves) -> tuple[str, str]:
    """Expressions for the number and the JSON text of a field."""
    if isinstance(field, Plain):
        return "NULL::DOUBLE", "event_type"
    return leaves.columns(field)


def _value(key: Key, keys: Sequence[Key], raw: _Columns, leaves: Leaves) -> tuple[str, str]:
    """The value's number and text, over the columns of the inner statement, which are added to `raw`."""
    if key.field is None:
        return "total", "NULL::VARCHAR"
    number, text = _leaf(key.field, leaves)
    match key.operation:
        case Operation.COUNT:
            return raw.name(f"count(*) FILTER (WHERE {number} IS NOT NULL OR {text} IS NOT NULL)"), "NULL::VARCHAR"
        case Operation.COUNT_DISTINCT:
            numbers = raw.name(f"count(DISTINCT {number}) FILTER (WHERE {text} IS NULL)")
            return f"{numbers} + {raw.name(f'count(DISTINCT {text})')}", "NULL::VARCHAR"
        case Operation.FIRST | Operation.LAST:
            pick = "arg_min" if key.operation is Operation.FIRST else "arg_max"
            order = f"ts::HUGEINT * {2**63} + seq"  # as one number, which compares faster than a pair
            there = f"{number} IS NOT NULL OR {text} IS NOT NULL"
            column = raw.name(f"{pick}({{'n': {number}, 't': {text}}}, {order}) FILTER (WHERE {there})")
            return f"{column}.n", f"{column}.t"
        case operation if operation in _PERCENTILES:
            together = [
                other.operation for other in keys if other.field == key.field and other.operation in _PERCENTILES
            ]
            shares = ", ".join(str(_PERCENTILES[other]) for other in together)
            column = raw.name(f"quantile_cont({number}, [{shares}])")
            return f"{column}[{together.index(operation) + 1}]", "NULL::VARCHAR"
        case operation:
            return raw.name(f"{_OF_NUMBERS[operation]}({number})"), "NULL::VARCHAR"


def _skipped(key: Key, raw: _Columns, leaves: Leaves) -> str:
    if not key.skips or key.field is None:
        return "0"
    number, text = _leaf(key.field, leaves)
    return raw.name(f"count(*) FILTER (WHERE {number} IS NULL AND {text} IS NOT NULL)")


def _result_row(query: Query) -> list[str]:
    """The columns of the answer, in order."""
    names = [] if query.interval_us is None else ["bucket"]
    names += [f"{kind}{place}" for place in range(len(query.groups)) for kind in ("gn", "gt")]
    return [*names, "total", *(f"{kind}{place}" for place in range(len(query.keys)) for kind in ("v", "w", "s"))]


def _result_columns(key: Key, query: Query) -> tuple[str, str]:
    if key == COUNT:
        return "total", "NULL::VARCHAR"
    place = query.keys.index(key)
    if key.field is Plain.EVENT_TYPE and not key.is_numeric:
        return f"v{place}", f"to_json(w{place})::VARCHAR"
    return f"v{place}", f"w{place}"


def _ordered(query: Query) -> str:
    terms: list[str] = []
    for target, descending in query.order_by:
        direction = "DESC" if descending else "ASC"
        terms += [f"{column} {direction} NULLS LAST" for column in _order_columns(target, query)]
    if query.interval_us is not None:
        terms.append("bucket")
    for field in query.groups:
        terms += [f"{column} NULLS LAST" for column in _order_columns(field, query)]
    return f" ORDER BY {', '.join(terms)}" if terms else ""


def _order_columns(target: Key | Field | Literal["bucket"], query: Query) -> list[str]:
    if isinstance(target, Key):
        number, text = _result_columns(target, query)
        return [number] if target.is_numeric else [number, _unquoted(text)]
    if target == "bucket":
        return ["bucket"]
    place = query.groups.index(target)
    return [f"gt{place}"] if target is Plain.EVENT_TYPE else [f"gn{place}", _unquoted(f"gt{place}")]


def _unquoted(text: str) -> str:
    """Text without its JSON quotes, so that it sorts as text."""
    return f"CASE WHEN starts_with({text}, '\"') THEN json_extract_string({text}, '$') ELSE {text} END"


# The answer


def read(rows: Sequence[tuple[object, ...]], query: Query) -> list[Group]:
    """The rows of the answer as results. Raises InvalidQuery when there are too many groups."""
    if query.limit is None and len(rows) > GROUPS_MAX:
        raise InvalidQuery(
            f"The query makes more than {GROUPS_MAX} groups: give a limit, or group by less.", field="group_by"
        )
    return [_group(row, query) for row in rows]


def _group(row: tuple[object, ...], query: Query) -> Group:
    cells = iter(row)
    bucket = next(cells) if query.interval_us is not None else None
    group = {spell_field(field): _json(field, next(cells), next(cells)) for field in query.groups}
    total = next(cells)
    values: dict[str, Json] = {}
    skipped: dict[str, int] = {}
    for key in query.keys:
        values[key.name] = _json(key.field, next(cells), next(cells))
        count = next(cells)
        if isinstance(count, int) and count:
            skipped[key.name] = count
    assert isinstance(total, int)
    assert bucket is None or isinstance(bucket, int)
    return Group(group, bucket, values, total, skipped)


def _json(field: Field | None, number: object, text: object) -> Json:
    """A value from its two columns. Whole numbers are given without a fraction."""
    if isinstance(text, str):
        if isinstance(field, Plain):
            return text
        try:
            value: Json = msgspec.json.decode(text)
        except msgspec.DecodeError:  # a number that no double holds: better as text than not at all
            return text
        return value
    if isinstance(number, float):
        if not math.isfinite(number):
            return None
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    assert number is None or isinstance(number, int)
    return number
