"""Leaves: values inside the JSON of an event as two SQL columns, in one spelling for whoever writes and whoever reads.

A leaf has a number column `n` and a text column `t`:

====================================  ==================  =====================
the JSON value                        `n` (DOUBLE)        `t` (VARCHAR)
====================================  ==================  =====================
a number                              the number          NULL
an integer of more than 15 digits     the nearest double  its JSON text
a number too large for a double       NULL                its JSON text
text, true, false, an object or list  NULL                its JSON text
null, or nothing there                NULL                NULL
====================================  ==================  =====================

JSON text is the value as DuckDB writes it: no spaces, only `"`, `\\` and control characters escaped. So two equal
strings have equal text however they were escaped when they came. Of equal keys in one object the first counts. An event
whose JSON is no Unicode (half of a surrogate pair) has no leaves.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mainstem.storage.ports import Path

_PLAIN_NAME = re.compile(r"[^\W\d][\w-]*|\d+")


class Columns(NamedTuple):
    """What the two columns of a leaf are called."""

    number: str
    text: str


def dotted(path: Path) -> str:
    """A path as people write it: `data.user.id`, with quotes where a name needs them: `data."a.b"`."""
    return ".".join(name if _PLAIN_NAME.fullmatch(name) else _quoted(name) for name in path)


def stored(path: Path) -> Columns:
    """The leaf's columns in a sealed file.

    DuckDB takes no notice of case in column names, JSON does: so `userId` is stored as `user^id`.
    """
    name = re.sub("[A-Z^]", lambda match: "^" + match[0].lower(), dotted(path))
    return Columns(f"n:{name}", f"t:{name}")


def select(relation: str, columns: Sequence[str], leaves: Mapping[Path, Columns], *, where: str = "") -> str:
    """SQL that reads `columns` of a relation together with leaves, taken out of the JSON text in `data` and `metadata`.

    All leaves of one JSON column cost one parse of it. `relation` is trusted SQL; column names are quoted here.
    """
    by_source: dict[str, list[Path]] = {}
    for path in leaves:
        by_source.setdefault(path[0], []).append(path)
    lists = [f"{_extracted(source, paths)} AS {_list_of(source)}" for source, paths in by_source.items()]
    values = [
        value
        for source, paths in by_source.items()
        for place, path in enumerate(paths, 1)
        for value in _values(f"{_list_of(source)}[{place}]", leaves[path])
    ]
    inner = f"SELECT {', '.join([*map(identifier, columns), *lists])} FROM {relation}{where and ' WHERE ' + where}"
    if not leaves:
        return inner
    return f"SELECT {', '.join([*map(identifier, columns), *values])} FROM ({inner})"


def identifier(name: str) -> str:
    """A name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Text as an SQL literal. NUL cannot be written in SQL; no path has it."""
    assert "\0" not in text
    return "'" + text.replace("'", "''") + "'"


def pointer(path: Path) -> str:
    """Where the leaf is inside its JSON column, as a JSON pointer (RFC 6901)."""
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in path[1:])


def _extracted(source: str, paths: Sequence[Path]) -> str:
    # Without TRY one malformed row would fail the query; with it that row has NULL, at no cost to the others.
    pointers = ", ".join(literal(pointer(path)) for path in paths)
    return f"TRY(json_extract({identifier(source)}, [{pointers}]))::VARCHAR[]"


def _list_of(source: str) -> str:
    return identifier(f"leaves of {source}")


def _values(json: str, names: Columns) -> tuple[str, str]:
    # JSON numbers begin with a digit or a minus, and nothing else does. To try the cast on text as well would cost
    # half as much as parsing the JSON.
    is_number = f"{json} >= '-' AND {json} < ':'"
    cast = f"TRY_CAST({json} AS DOUBLE)"  # of 1e400 gives infinity
    number = f"CASE WHEN {is_number} THEN CASE WHEN isfinite({cast}) THEN {cast} END END"
    # DuckDB has rounded real numbers already when it parsed them; only long integers are exact in text alone.
    inexact = f"NOT isfinite({cast}) OR strlen({json}) > 15 AND NOT contains({json}, '.')"
    text = f"CASE WHEN {is_number} THEN CASE WHEN {inexact} THEN {json} END ELSE nullif({json}, 'null') END"
    return f"{number} AS {identifier(names.number)}", f"{text} AS {identifier(names.text)}"


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
