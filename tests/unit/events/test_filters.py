"""The filter language: what is written, what it finds, and that SQL and Python find the same."""

import contextlib
import json

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mainstem.events.filters import (
    FILTERS_MAX,
    Filter,
    InvalidQuery,
    Leaves,
    Operator,
    Plain,
    compile_filters,
    decode,
    matches,
    parse_field,
    parse_filter,
    parse_filters,
    spell_field,
)
from mainstem.storage import Row, leaves
from snapshots import event, table

# What is written


@pytest.mark.parametrize(
    ("text", "field", "operator", "value"),
    [
        ("data.amount>10", ("data", "amount"), ">", 10),
        (" data.amount  >=  -1.5e2 ", ("data", "amount"), ">=", -150),
        ("data.amount=0.5", ("data", "amount"), "=", 0.5),
        ("data.big=9007199254740993", ("data", "big"), "=", 9007199254740993),
        ("data.user.id=u 1", ("data", "user", "id"), "=", "u 1"),
        ('data.user.id="u \\"1\\""', ("data", "user", "id"), "=", 'u "1"'),
        ('data.zip="12"', ("data", "zip"), "=", "12"),
        ('data.zip=""', ("data", "zip"), "=", ""),
        ("data.zip=012", ("data", "zip"), "=", "012"),
        ("data.ok!=true", ("data", "ok"), "!=", True),
        ("data.ok=null", ("data", "ok"), "=", None),
        ("data.ok~true", ("data", "ok"), "~", "true"),
        ("metadata.source~mob>=ile", ("metadata", "source"), "~", "mob>=ile"),
        ('data."a.b"."=".c<Ünï', ("data", "a.b", "=", "c"), "<", "Ünï"),
        ("data.items.0.price>5", ("data", "items", "0", "price"), ">", 5),
        ("event_type=12", Plain.EVENT_TYPE, "=", "12"),
        ("event_id>evt_0000000012", Plain.EVENT_ID, ">", 12),
        ("timestamp<2024-03-15T10:30:00.000001+01:00", Plain.TIMESTAMP, "<", 1710495000000001),
    ],
)
def test_a_filter_is_read_as_written(text: str, field: object, operator: str, value: object) -> None:
    """Field, operator, value; the value's type shows in how it is written."""
    assert parse_filter(text) == Filter(field, Operator(operator), value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("", 0, "name is missing"),
        ("data", 4, "path goes on"),
        ("data.", 5, "name is missing"),
        ("data..a=1", 5, "name is missing"),
        ("amount>1", 0, "begins with data"),
        ("data.a", 6, "is missing"),
        ("data.a b=1", 7, "is missing"),
        ("data.a=", 7, "value is missing"),
        ("data.a==1", 7, "Equal is written ="),
        ("data.a>true", 6, "compares numbers or text"),
        ("data.a<null", 6, "compares numbers or text"),
        ('data.a="open', 7, "in quotes"),
        ('data.a="x" y', 11, "Nothing more"),
        ('data.a="\\ud800"', 7, "surrogate"),
        ("data.a=1e999", 7, "too large"),
        ("data.a=\0", 7, "NUL"),
        ('data."\\u0000"=1', 5, "NUL"),
        ("event_id=12", 9, "looks like evt_"),
        ("event_id~evt_0000000012", 8, "does not go with"),
        ("timestamp>2024-03-15T10:30:00", 10, "RFC 3339"),
        ("data." + "a" * 5000 + "=1", 0, "at most 4096"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, position: int, reason: str) -> None:
    """The message says what was expected, the details say where."""
    with pytest.raises(InvalidQuery, match=reason) as caught:
        parse_filter(text)

    assert caught.value.details["position"] == position


def test_the_number_of_filters_is_limited() -> None:
    """A query cannot ask for unbounded work."""
    with pytest.raises(InvalidQuery, match="at most 32 filters"):
        parse_filters(["data.a=1"] * (FILTERS_MAX + 1))


@given(st.lists(st.text().filter(lambda name: "\0" not in name), min_size=1, max_size=4))
def test_every_path_can_be_spelled(names: list[str]) -> None:
    """Whatever a JSON object calls its members, a path can say it."""
    path = ("data", *names)

    assert parse_field(spell_field(path)) == path


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    """Any text is a filter or a clear mistake."""
    for written in (text, "data." + text, "data.a=" + text, "data.a~" + text):
        with contextlib.suppress(InvalidQuery):
            parse_filter(written)


# What is found

SALE = event(
    12,
    {"amount": 12.5, "zip": "12", "ok": True, "no": None, "page": "/Home é", "user": {"id": 7}, "tags": ["a", "b"]},
    event_type="sale",
    metadata={"source": "mobile"},
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("data.amount=12.50", True),
        ("data.amount>12", True),
        ("data.amount>12.5", False),
        ("data.zip=12", False),
        ('data.zip="12"', True),
        ("data.zip!=12", True),
        ("data.zip>=012", True),
        ("data.ok=true", True),
        ('data.ok="true"', False),
        ("data.ok~tru", False),
        ("data.no=null", True),
        ("data.gone=null", True),
        ("data.gone!=1", True),
        ("data.gone<1", False),
        ("data.user!=null", True),
        ("data.user={}", False),
        ("data.user.id=7", True),
        ("data.tags.1=b", True),
        ("data.tags.2=null", True),
        ("data.tags~a", False),
        ("data.page~Home", True),
        ("data.page~home", False),
        ("data.page~é", True),
        ("data.page<a", True),
        ("event_type!=sale", False),
        ("event_type~al", True),
        ("metadata.source=mobile", True),
        ("event_id=evt_0000001024", True),
        ("event_id<evt_9999999999999999999", True),
        ("timestamp>=1970-01-01T00:00:12Z", True),
        ("timestamp>1970-01-01T00:00:12Z", False),
    ],
)
def test_a_filter_finds_what_its_text_promises(text: str, found: bool) -> None:
    """The rules of the language, one by one, in Python and in SQL."""
    filters = parse_filters([text])

    assert matches(filters, decode(SALE)) is found
    assert found_by_sql([SALE], filters) == ([SALE.idx] if found else [])


def found_by_sql(rows: list[Row], filters: tuple[Filter, ...]) -> list[int]:
    """The indexes of events that the compiled filters find in DuckDB."""
    wanted = Leaves()
    condition = compile_filters(filters, wanted)
    columns = {path: leaves.Columns(*wanted.columns(path)) for path in wanted.paths}
    events = leaves.select("live", ["seq", "idx", "ts", "event_type"], columns)
    with duckdb.connect() as database:
        database.register("live", table(rows))
        sql = f"SELECT idx FROM ({events}) WHERE {condition.sql} ORDER BY idx"
        return [idx for (idx,) in database.execute(sql, condition.parameters).fetchall()]


NAMES = st.sampled_from(["a", "b", "A", "a b", 'q"', "é💧", "0", "1", "x.y", "'; DROP TABLE live; --", "~/", ""])
INTEGERS = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 10**15, 2**63, 2**64, 10**38 - 1, 10**38, 10**38 + 1, 10**400]),
)
TEXTS = st.one_of(
    st.sampled_from(["", "a", "ab", "Z", "é", "1", "-3", "null", "true", '"', "'", "\\", "\0", "\x1f", "💧", "\ue000"]),
    st.text(max_size=5),
)
REALS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.one_of(st.none(), st.booleans(), INTEGERS, REALS, TEXTS)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=5
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)


@st.composite
def written_filters(draw: st.DrawFn) -> str:
    path = (draw(st.sampled_from(["data", "metadata"])), *draw(st.lists(NAMES, min_size=1, max_size=2)))
    operator = draw(st.sampled_from(Operator))
    value = draw(SCALARS.filter(lambda value: not isinstance(value, int) or abs(value) < 10**300))
    if operator is Operator.CONTAINS:
        value = str(value)
    elif operator not in ("=", "!=") and (value is None or isinstance(value, bool)):
        value = 0
    return f"{spell_field(path)}{operator}{json.dumps(value)}"


@settings(max_examples=150)
@given(
    st.lists(st.tuples(OBJECTS, OBJECTS | st.none(), st.booleans()), min_size=1, max_size=6),
    st.lists(written_filters(), min_size=1, max_size=3),
)
@example([({"a": 2**53 + 1}, None, False)], ["data.a=9007199254740993", "data.a<9007199254740994"])
@example([({"a": float(2**53)}, None, False)], ["data.a=9007199254740993"])
@example([({"a": [{"b": 1}]}, None, False)], ["data.a.0.b=1"])
def test_sql_and_python_find_the_same(
    objects: list[tuple[dict[str, object], dict[str, object] | None, bool]], texts: list[str]
) -> None:
    """For any events and filters, the compiled SQL and the plain evaluation agree on each event."""
    rows = [
        event(place, json.dumps(data, ensure_ascii=ascii_only).encode(), metadata=None)._replace(
            metadata=None if metadata is None else json.dumps(metadata, ensure_ascii=ascii_only).encode()
        )
        for place, (data, metadata, ascii_only) in enumerate(objects)
    ]
    filters = parse_filters(texts)

    assert found_by_sql(rows, filters) == [row.idx for row in rows if matches(filters, decode(row))]


@pytest.mark.parametrize(
    "data", [b'{"a":"\\ud800","b":1}', b'{"a":1e400}', b'{"b":1,"b":2}', b'{"a":[1' + b"0" * 5000 + b"]}"]
)
@pytest.mark.parametrize("text", ["data.b=1", "data.b=2", "data.a=null", "data.a>0", "data.a.0>0"])
def test_both_read_strange_json_alike(data: bytes, text: str) -> None:
    """What JSON permits and languages dispute: halves of pairs, huge numbers, equal keys."""
    filters = parse_filters([text])
    row = event(0, data)

    assert found_by_sql([row], filters) == ([0] if matches(filters, decode(row)) else [])
