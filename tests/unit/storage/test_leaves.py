"""What a leaf's two columns hold for every kind of JSON value."""

import duckdb
import msgspec
import pytest

from mainstem.storage import Path, leaves
from mainstem.storage.leaves import Columns


def leaf(data: str, *names: str) -> tuple[object, object]:
    """`n` and `t` of one leaf in one event."""
    path = ("data", *names)
    sql = leaves.select("(SELECT ?::VARCHAR AS data)", [], {path: Columns("n", "t")})
    with duckdb.connect() as database:
        row = database.execute(sql, [data]).fetchone()
    assert row is not None
    return row


@pytest.mark.parametrize(
    ("value", "number", "text"),
    [
        ("1", 1.0, None),
        ("-0.5", -0.5, None),
        ("1E5", 100000.0, None),
        ("0.30000000000000004", 0.30000000000000004, None),
        ("9007199254740993", 9007199254740992.0, "9007199254740993"),
        ("-123456789012345678901234567890", -1.2345678901234568e29, "-123456789012345678901234567890"),
        ("1e400", None, "1e400"),
        ('"12"', None, '"12"'),
        ('"null"', None, '"null"'),
        ('"\\u00e9 \\/ \\"q\\""', None, '"é / \\"q\\""'),
        ("true", None, "true"),
        ('{ "b" : [1, 2] }', None, '{"b":[1,2]}'),
        ("null", None, None),
    ],
)
def test_each_kind_of_value_has_its_column(value: str, number: float | None, text: str | None) -> None:
    """Numbers go to n, all else to t, long integers to both, null to neither."""
    assert (number, text) == leaf(f'{{"a":{value}}}', "a")


@pytest.mark.parametrize("data", ["{}", '{"a":{}}', '{"a":1}', '{"a":"\\ud800","b":1}', "", "{", "[1]"])
def test_what_is_not_there_is_null(data: str) -> None:
    """Absence, another shape and JSON that is no Unicode give NULL and no error."""
    assert leaf(data, "a", "b") == (None, None)


def test_a_malformed_event_leaves_the_others_alone() -> None:
    """One event that cannot be parsed must not cost the answer about its neighbours."""
    rows = """(VALUES ('{"a":1}'), ('{"a":"\\ud800"}'), ('{"a":3}')) AS events(data)"""
    sql = leaves.select(rows, [], {("data", "a"): Columns("n", "t")})
    with duckdb.connect() as database:
        assert database.execute(sql).fetchall() == [(1.0, None), (None, None), (3.0, None)]


@pytest.mark.parametrize(
    "name", ["a b", "a'b", 'a"b', "a/b", "a~1b", "~", "", "*", "$", "é", "a\\b", "a\nb", "a.b", "💧"]
)
def test_any_name_is_found_and_nothing_else(name: str) -> None:
    """No character of a name means anything to SQL or to the JSON path."""
    data = msgspec.json.encode({name: {"x'": 7}, "other": {"x'": 8}}).decode()
    assert leaf(data, name, "x'") == (7.0, None)


def test_columns_of_two_leaves_never_collide() -> None:
    """Stored names differ even where a database folds case, and where names hold dots, quotes and carets."""
    paths = [
        ("data", "userId"), ("data", "userid"), ("data", "USERID"), ("data", "user^id"), ("data", "user^Id"),
        ("data", "a", "b"), ("data", "a.b"), ("data", 'a"."b'), ("data", "a\\b"), ("data", ""), ("metadata", "a"),
    ]  # fmt: skip
    names = [leaves.stored(path).number.lower() for path in paths]

    assert len(names) == len(set(names))
    assert leaves.stored(("data", "user", "id")) == ("n:data.user.id", "t:data.user.id")


def test_columns_are_read_beside_leaves_of_both_sources() -> None:
    """`data` and `metadata` are parsed once each, and other columns pass through, filtered."""
    rows = """(VALUES (1, '{"a":1,"b":2}', '{"a":3}'), (2, '{"a":4}', NULL)) AS events(seq, data, metadata)"""
    wanted: dict[Path, Columns] = {
        ("data", "a"): Columns("n0", "t0"),
        ("metadata", "a"): Columns("n1", "t1"),
        ("data", "b"): Columns("n2", "t2"),
    }
    sql = leaves.select(rows, ["seq"], wanted, where="seq < 2")
    with duckdb.connect() as database:
        answer = database.execute(f"SELECT seq, n0, n1, n2, t0 FROM ({sql})").fetchall()

    assert answer == [(1, 1.0, 3.0, 2.0, None)]
