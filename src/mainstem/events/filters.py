"""The filter language: `data.amount>10`, `event_type!=view`, `metadata.source~mobile`.

A filter is a field, an operator and a value; spaces around the operator mean nothing.

*Fields* are `event_type`, `event_id`, `timestamp`, and dotted paths under `data` and `metadata`. A name that holds a
dot, a space or an operator stands in quotes: `data."first name"=Ada`. Digits alone find a member of a list, too:
`data.items.0.price>5`.

*Operators* are `=`, `!=`, `>`, `>=`, `<`, `<=` and `~` (contains).

*Values* are numbers, `true`, `false`, `null`, text in JSON quotes, and any other text as it stands. So `"12"` is text
and 12 a number.

How they compare:

- A number compares with JSON numbers alone: `data.zip=12` does not find `"12"`. Real numbers compare as doubles,
  integers exactly up to 38 digits.
- Text compares with JSON text alone, by code point, so `Z` comes before `a`. Case counts, in `~` as well.
- `true` and `false` are found by `=`. An object or a list equals nothing; `!=null` tells that it is there.
- `=null` finds what is null or absent.
- `!=` finds exactly what `=` does not: other values, values of other types, and absent ones. To leave out the absent
  ones add `data.x!=null`.
- `>`, `>=`, `<`, `<=` want a number or text, `~` wants text (12 and true are text there), and none finds an absent
  field.
- Values of `event_type` are always text; of `timestamp` RFC 3339 with a zone; of `event_id` ids such as
  `evt_0000000012`, in the order in which the events came.

Each filter has two meanings that must be one: `compile_filters` writes SQL for the analytics engine, `matches` looks at
one event. A test holds them together.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from operator import eq, ge, gt, le, lt
from typing import NamedTuple, NoReturn

import msgspec

from mainstem.clock import EARLIEST_US, LATEST_US
from mainstem.errors import Invalid
from mainstem.ids import parse_event_id
from mainstem.storage import Path, Row

FILTERS_MAX = 32
FILTER_CHARACTERS_MAX = 4_096
PATH_NAMES_MAX = 32

_EXACT_DOUBLE_MAX = 2**53
_EXACT_INTEGER_MAX = 10**38 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class InvalidQuery(Invalid):
    """A query that cannot be understood, or is too large. Details may hold `filter` and `position` (from 0)."""


class Operator(StrEnum):
    EQUAL = "="
    UNEQUAL = "!="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    CONTAINS = "~"


class Plain(StrEnum):
    """Fields that every event has."""

    EVENT_TYPE = "event_type"
    EVENT_ID = "event_id"
    TIMESTAMP = "timestamp"


type Field = Plain | Path
type Value = int | float | str | bool | None


class Filter(msgspec.Struct, frozen=True):
    """One comparison. The value of an `event_id` is its sequence number, of a `timestamp` its microseconds; a whole
    number is an int however it was written."""

    field: Field
    operator: Operator
    value: Value


class Decoded(NamedTuple):
    """An event with its JSON decoded."""

    seq: int
    ts_us: int
    event_type: str
    data: object
    metadata: object


class Leaves:
    """The leaves that one statement reads, each once: the place of a path here is its number in `storage.Sql`."""

    def __init__(self) -> None:
        self._places: dict[Path, int] = {}

    @property
    def paths(self) -> list[Path]:
        return list(self._places)

    def columns(self, path: Path) -> tuple[str, str]:
        """The names of the number column and the text column."""
        place = self._places.setdefault(path, len(self._places))
        return f"n{place}", f"t{place}"


class Condition(NamedTuple):
    """SQL that is true, false or NULL for a row, and the values for its question marks."""

    sql: str
    parameters: list[object]


# To read


def parse_filters(texts: Sequence[str]) -> tuple[Filter, ...]:
    """Filters that must all be met. Raises InvalidQuery."""
    if len(texts) > FILTERS_MAX:
        raise InvalidQuery(f"A query has at most {FILTERS_MAX} filters; this one has {len(texts)}.")
    return tuple(parse_filter(text) for text in texts)


def parse_filter(text: str) -> Filter:
    """Raises InvalidQuery, which says what was expected and at which character."""
    scanner = Scanner(text)
    field = scanner.field()
    return Filter(field, *scanner.comparison(field))


def parse_field(text: str) -> Field:
    """A field by itself, for projections and groups. Raises InvalidQuery."""
    scanner = Scanner(text)
    field = scanner.field()
    scanner.end()
    return field


def spell_field(field: Field) -> str:
    """The field as one would write it; `parse_field` reads it back."""
    if isinstance(field, Plain):
        return field.value
    return ".".join(name if _NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False) for name in field)


_NAME = re.compile(r"[^\s.,=!<>~\"'()\[\]{}\x00-\x1f]+")
_OPERATOR = re.compile(r"!=|>=|<=|=|>|<|~")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_SPACE = re.compile(r"\s*")
_EXPECTED = {
    Plain.EVENT_ID: "An event_id looks like evt_0000000012",
    Plain.TIMESTAMP: "A timestamp is RFC 3339 with a zone, as in 2024-03-15T10:30:00Z",
}
_CONSTANTS: Mapping[str, Value] = {"true": True, "false": False, "null": None}


class Scanner:
    """Reads a text from left to right; `position` is the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        if len(text) > FILTER_CHARACTERS_MAX:
            self.fail(f"A filter has at most {FILTER_CHARACTERS_MAX} characters", 0)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            self.fail("This is no Unicode character", error.start)
        if "\0" in text:
            self.fail("NUL must be written \\u0000", text.index("\0"))

    def fail(self, reason: str, position: int | None = None) -> NoReturn:
        at = self.position if position is None else position
        raise InvalidQuery(f"{reason}, at character {at} of {self.text[:200]!r}.", filter=self.text, position=at)

    def take(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self.text, self.position)
        if found is None:
            return None
        self.position = found.end()
        return found[0]

    def field(self) -> Field:
        self.take(_SPACE)
        start = self.position
        names = [self._name()]
        while self.text.startswith(".", self.position):
            self.position += 1
            names.append(self._name())
        if len(names) == 1 and names[0] in Plain:
            return Plain(names[0])
        if names[0] not in ("data", "metadata"):
            self.fail(
                "A field is event_type, event_id, timestamp, or a path that begins with data. or metadata.", start
            )
        if len(names) == 1:
            self.fail(f"A path goes on: write {names[0]}.name")
        if len(names) > PATH_NAMES_MAX:
            self.fail(f"A path has at most {PATH_NAMES_MAX} names", start)
        return tuple(names)

    def comparison(self, field: Field | None = None) -> tuple[Operator, Value]:
        """The operator and the value, which go to the end of the text and fit each other and the field."""
        self.take(_SPACE)
        start = self.position
        text = self.take(_OPERATOR)
        if text is None:
            self.fail("One of = != > >= < <= ~ is missing")
        operator = Operator(text)
        self.take(_SPACE)
        if isinstance(field, Plain):
            return operator, self._plain_value(field, operator, start)
        value = self._text() if operator is Operator.CONTAINS else self._value()
        if operator not in (Operator.EQUAL, Operator.UNEQUAL) and (value is None or isinstance(value, bool)):
            self.fail(f"{operator} compares numbers or text; true, false and null have = and !=", start)
        return operator, value

    def end(self) -> None:
        self.take(_SPACE)
        if self.position < len(self.text):
            self.fail("Nothing more is expected")

    def _name(self) -> str:
        start = self.position
        if self.text.startswith('"', start):
            quoted = self._quoted()
            if "\0" in quoted:
                self.fail("A name holds no NUL", start)
            return quoted
        name = self.take(_NAME)
        if name is None:
            self.fail("A name is missing; one with other characters than letters and digits stands in double quotes")
        return name

    def _quoted(self) -> str:
        try:
            text, end = json.JSONDecoder().raw_decode(self.text, self.position)
            text.encode()
        except json.JSONDecodeError as error:
            self.fail("Text in quotes is written as in JSON, and must end", error.pos)
        except UnicodeEncodeError:
            self.fail("Half of a surrogate pair is no Unicode")
        self.position = end
        return str(text)

    def _text(self) -> str:
        """The rest as text: what is in the quotes, or all as it stands."""
        rest = self.text[self.position :].rstrip()
        if not rest:
            self.fail('A value is missing; "" is empty text')
        if rest.startswith('"'):
            text = self._quoted()
            self.end()
            return text
        self.position = len(self.text)
        return rest

    def _value(self) -> Value:
        start = self.position
        rest = self.text[start:].rstrip()
        if rest.startswith("="):
            self.fail("Equal is written =, and text that begins with = stands in quotes")
        if rest in _CONSTANTS:
            self.position = len(self.text)
            return _CONSTANTS[rest]
        if _NUMBER.fullmatch(rest):
            self.position = len(self.text)
            return self._number(rest, start)
        return self._text()

    def _number(self, text: str, start: int) -> int | float:
        value = float(text)
        if not math.isfinite(value):
            self.fail("This number is too large for a double", start)
        if text.lstrip("-").isdigit():
            return int(text)
        return int(value) if value.is_integer() else value

    def _plain_value(self, field: Plain, operator: Operator, start: int) -> Value:
        value_start = self.position
        text = self._text()
        if field is Plain.EVENT_TYPE:
            return text
        if operator is Operator.CONTAINS:
            self.fail(f"~ does not go with {field}", start)
        value = parse_event_id(text) if field is Plain.EVENT_ID else parse_timestamp(text)
        if value is None:
            self.fail(_EXPECTED[field], value_start)
        return value


def parse_timestamp(text: str) -> int | None:
    """Microseconds since 1970 UTC of an RFC 3339 time, or None where it is none, has no zone, or is in no year from 1
    to 9999 once it is in UTC."""
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return None
    if moment.tzinfo is None:
        return None
    time_us = (moment - _EPOCH) // timedelta(microseconds=1)
    return time_us if EARLIEST_US <= time_us <= LATEST_US else None


# To find in SQL


def compile_filters(filters: Sequence[Filter], leaves: Leaves) -> Condition:
    """One condition for all filters, over the relation `events` of `storage.Sql` with these leaves."""
    conditions = [_condition(filter_, leaves) for filter_ in filters]
    return all_of(conditions)


def all_of(conditions: Sequence[Condition]) -> Condition:
    if not conditions:
        return Condition("true", [])
    return Condition(
        " AND ".join(f"({condition.sql})" for condition in conditions),
        [value for condition in conditions for value in condition.parameters],
    )


def compare(number: str, text: str, operator: Operator, value: Value) -> Condition:
    """A comparison of a leaf that stands in these two SQL expressions (see `storage.leaves`)."""
    if operator is Operator.UNEQUAL:
        equal = compare(number, text, Operator.EQUAL, value)
        return Condition(f"({equal.sql}) IS NOT TRUE", equal.parameters)
    if value is None:
        return Condition(f"{number} IS NULL AND {text} IS NULL", [])
    if isinstance(value, bool):
        return Condition(f"{text} = '{str(value).lower()}'", [])
    if isinstance(value, str):
        return _compare_text(text, operator, value)
    return _compare_number(number, text, operator, value)


def _condition(filter_: Filter, leaves: Leaves) -> Condition:
    match filter_.field:
        case Plain.EVENT_ID:
            return Condition(f"seq {filter_.operator} ?", [filter_.value])
        case Plain.TIMESTAMP:
            return Condition(f"ts {filter_.operator} ?", [filter_.value])
        case Plain.EVENT_TYPE if filter_.operator is Operator.CONTAINS:
            return Condition("contains(event_type, ?)", [filter_.value])
        case Plain.EVENT_TYPE:
            return Condition(f"event_type {filter_.operator} ?", [filter_.value])
        case path:
            return compare(*leaves.columns(path), filter_.operator, filter_.value)


def _compare_text(text: str, operator: Operator, value: str) -> Condition:
    if operator is Operator.EQUAL:
        # Equal strings have equal JSON text, so nothing has to be unquoted, and a column's statistics help.
        return Condition(f"{text} = ?", [_json_text(value)])
    unquoted = f"CASE WHEN starts_with({text}, '\"') THEN json_extract_string({text}, '$') END"
    if operator is Operator.CONTAINS:
        return Condition(f"contains({unquoted}, ?)", [value])
    return Condition(f"{unquoted} {operator} ?", [value])


def _compare_number(number: str, text: str, operator: Operator, value: float) -> Condition:
    rounded = Condition(f"{number} {operator} ?", [float(value)])
    # Below 2^53 rounding cannot change the outcome: a longer integer stays on its side.
    if abs(value) < _EXACT_DOUBLE_MAX or abs(value) > _EXACT_INTEGER_MAX:
        return rounded
    integer = f"TRY_CAST({text} AS DECIMAL(38, 0))"
    exact = f"{integer} {operator} '{int(value)}'::DECIMAL(38, 0)"
    return Condition(
        f"CASE WHEN {number} IS NOT NULL AND {integer} IS NOT NULL THEN {exact} ELSE {rounded.sql} END",
        rounded.parameters,
    )


def _json_text(value: str) -> str:
    """The text as DuckDB writes it in JSON: as Python does, but for capital digits in \\u001F."""
    quoted = json.dumps(value, ensure_ascii=False)
    return re.sub(r"\\u00[01][0-9a-f]", lambda escape: escape[0][:2] + escape[0][2:].upper(), quoted)


# To look at one event


def decode(row: Row) -> Decoded:
    """The event as `matches` wants it."""
    metadata = None if row.metadata is None else _decode_json(row.metadata)
    return Decoded(row.seq, row.ts_us, row.event_type, _decode_json(row.data), metadata)


def matches(filters: Sequence[Filter], event: Decoded) -> bool:
    """Whether the event meets all filters: the same answer that the compiled SQL gives."""
    return all(_matches(filter_, event) for filter_ in filters)


_COMPARE: Mapping[Operator, Callable[..., bool]] = {
    Operator.EQUAL: eq,
    Operator.GREATER: gt,
    Operator.GREATER_OR_EQUAL: ge,
    Operator.LESS: lt,
    Operator.LESS_OR_EQUAL: le,
    Operator.CONTAINS: lambda text, part: str(part) in str(text),
}


def _matches(filter_: Filter, event: Decoded) -> bool:
    if filter_.operator is Operator.UNEQUAL:
        return not _matches(msgspec.structs.replace(filter_, operator=Operator.EQUAL), event)
    there, wanted = _look_up(filter_.field, event), filter_.value
    if wanted is None or isinstance(wanted, bool):
        return there is wanted
    if isinstance(wanted, str):
        return isinstance(there, str) and _COMPARE[filter_.operator](there, wanted)
    if isinstance(there, bool) or not isinstance(there, int | float):
        return False
    return _compare_numbers(there, filter_.operator, wanted)


def _compare_numbers(there: float, operator: Operator, wanted: float) -> bool:
    try:
        rounded = float(there)
    except OverflowError:
        return False
    if not math.isfinite(rounded):
        return False
    exact = isinstance(there, int) and abs(there) <= _EXACT_INTEGER_MAX and abs(wanted) <= _EXACT_INTEGER_MAX
    return _COMPARE[operator](there, wanted) if exact else _COMPARE[operator](rounded, float(wanted))


def _look_up(field: Field, event: Decoded) -> object:
    match field:
        case Plain.EVENT_ID:
            return event.seq
        case Plain.TIMESTAMP:
            return event.ts_us
        case Plain.EVENT_TYPE:
            return event.event_type
        case path:
            there = event.data if path[0] == "data" else event.metadata
            for name in path[1:]:
                there = _member(there, name)
            return there


def _member(there: object, name: str) -> object:
    if isinstance(there, dict):
        return there.get(name)
    if isinstance(there, list) and re.fullmatch(r"0|[1-9]\d{0,8}", name, re.ASCII) and int(name) < len(there):
        return there[int(name)]
    return None


def _decode_json(text: bytes) -> object:
    try:
        value = json.loads(text, object_pairs_hook=_first_of_equals)
    except ValueError:  # Python refuses integers of more than 4,300 digits; as a double they are infinite
        value = json.loads(text, object_pairs_hook=_first_of_equals, parse_int=float)
    if b"\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # half of a surrogate pair: no Unicode, no leaves
            return None
    return value


def _first_of_equals(pairs: list[tuple[str, object]]) -> dict[str, object]:
    return dict(reversed(pairs))
