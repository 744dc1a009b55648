"""Analytics by DuckDB: SQL over a snapshot's Parquet files and its live Arrow table together."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as FilePath
from typing import NamedTuple

import duckdb
import pyarrow as pa

from mainstem.errors import Exhausted, Unavailable
from mainstem.storage import leaves
from mainstem.storage.columns import SCHEMA
from mainstem.storage.leaves import Columns, identifier, literal
from mainstem.storage.ports import Part, Path, Snapshot, Sql

type _Cursor = duckdb.DuckDBPyConnection

_COLUMNS = [name for name in SCHEMA.names if name != "topic"]
_LIVE = "live"
_RUNNING_MAX = 2
_INTERRUPT_EVERY_S = 0.02
_GATHERED_ROWS_MAX = 20_000_000
"""A gigabyte on disk or two, and some seconds."""


class DuckAnalytics:
    """An in-memory database that owns no data: every query names the files and the Arrow table that it reads.

    At most `queries_max` queries run or wait, two of them run at once, and all share `threads` threads and
    `memory_bytes`; what does not fit goes to files in `temp_dir`.
    """

    def __init__(self, threads: int, memory_bytes: int, queries_max: int, temp_dir: FilePath) -> None:
        self._queries_max = queries_max
        self._queries = 0
        self._running: set[duckdb.DuckDBPyConnection] = set()
        self._turn = asyncio.Semaphore(_RUNNING_MAX)
        self._threads = ThreadPoolExecutor(_RUNNING_MAX, "query")
        self._database = duckdb.connect(
            config={
                "threads": threads,
                "memory_limit": f"{memory_bytes}B",
                "temp_directory": str(temp_dir),
                # Nothing is fetched from a network, whatever a statement mentions.
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "allow_community_extensions": False,
                "python_enable_replacements": False,
                # Only ORDER BY promises an order; without this a plain scan would keep one at a cost.
                "preserve_insertion_order": False,
            }
        )
        # A sealed file never changes, so its footer is read once. This setting is none of the start's.
        self._database.execute("SET parquet_metadata_cache = true").fetchall()
        self._database.execute("SET lock_configuration = true").fetchall()

    async def close(self) -> None:
        """Stop what runs, and let go of memory and threads."""
        for cursor in self._running:
            cursor.interrupt()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        self._database.close()

    async def run(self, snapshot: Snapshot, sql: Sql, *, timeout_s: float) -> list[tuple[object, ...]]:
        return await self._ask(_rows, snapshot, sql, timeout_s)

    async def table(self, snapshot: Snapshot, sql: Sql, *, timeout_s: float) -> pa.Table:
        return await self._ask(_table, snapshot, sql, timeout_s)

    async def _ask[Answer](
        self, read: Callable[[_Cursor, Sql], Answer], snapshot: Snapshot, sql: Sql, timeout_s: float
    ) -> Answer:
        if self._queries >= self._queries_max:
            raise Exhausted("Too many queries are waiting. Try again in a moment.", retry_after_s=1)
        self._queries += 1
        try:
            async with asyncio.timeout(timeout_s), self._turn:
                return await self._in_thread(read, snapshot, sql)
        except TimeoutError:
            raise Unavailable(
                f"The query took longer than {timeout_s:.3g} s and was stopped. Narrow its time range or its filters.",
            ) from None
        finally:
            self._queries -= 1

    async def _in_thread[Answer](self, read: Callable[[_Cursor, Sql], Answer], snapshot: Snapshot, sql: Sql) -> Answer:
        cursor = self._database.cursor()
        self._running.add(cursor)
        work = asyncio.get_running_loop().run_in_executor(self._threads, _answer, read, cursor, snapshot, sql)
        try:
            return await asyncio.shield(work)
        finally:
            # Past the deadline or cancelled, the thread still reads the snapshot's files: it must be gone before the
            # caller closes them. An interrupt that comes before the statement starts is lost, hence the repetition.
            while not work.done():
                cursor.interrupt()
                await asyncio.wait([work], timeout=_INTERRUPT_EVERY_S)
            if not work.cancelled():
                work.exception()  # seen, so asyncio does not report it as forgotten
            self._running.discard(cursor)
            cursor.close()


class _Kind(NamedTuple):
    """What sealed files must have in common to be read together."""

    has: frozenset[Path]
    """Those of the wanted leaves that are columns."""
    where: str
    """What tells the snapshot's rows from others in the file."""


def relation(parts: Sequence[Part], wanted: Sequence[Path], snapshot: Snapshot) -> str:
    """SQL for the rows of `Sql`'s relation `events`: sealed files, grouped by the wanted leaves they have as columns,
    and the live table. Leaves that a file has not are taken out of its JSON text."""
    names = {path: Columns(f"n{place}", f"t{place}") for place, path in enumerate(wanted)}
    kinds: dict[_Kind, list[str]] = {}
    for part in parts:
        has = frozenset(path for path in wanted if leaves.dotted(path) in part.leaves)
        kinds.setdefault(_Kind(has, _where(part, snapshot)), []).append(part.path)
    return " UNION ALL BY NAME ".join(
        [_sealed(files, kind, names) for kind, files in kinds.items()]
        + [leaves.select(_LIVE, _COLUMNS, names, where=f"idx >= {snapshot.first_idx:d}")]
    )


def _where(part: Part, snapshot: Snapshot) -> str:
    # To compare two more columns with what they hold anyway would take half the time of counting by a third.
    conditions = [] if part.alone else [f"topic = {snapshot.topic:d}"]
    if part.first_idx < snapshot.first_idx:
        conditions.append(f"idx >= {snapshot.first_idx:d}")
    return " AND ".join(conditions)


def _rows(cursor: _Cursor, sql: Sql) -> list[tuple[object, ...]]:
    return cursor.execute(sql.text, list(sql.parameters)).fetchall()


def _table(cursor: _Cursor, sql: Sql) -> pa.Table:
    return cursor.sql(sql.text, params=list(sql.parameters)).to_arrow_table()


def _answer[Answer](read: Callable[[_Cursor, Sql], Answer], cursor: _Cursor, snapshot: Snapshot, sql: Sql) -> Answer:
    try:
        cursor.register(_LIVE, snapshot.live)
        cursor.execute(f"CREATE TEMP VIEW events AS {relation(snapshot.parts, sql.leaves, snapshot)}").fetchall()
        try:
            return read(cursor, sql)
        except duckdb.OutOfMemoryException:
            if sum(part.rows for part in snapshot.parts) > _GATHERED_ROWS_MAX:
                raise
            _gather(cursor, sql)
            return read(cursor, sql)
    except duckdb.InterruptException as error:
        raise Unavailable("The query was stopped.") from error
    except duckdb.OutOfMemoryException as error:
        raise Exhausted(
            "The query needs more memory than queries may use. Narrow it, group by less, or raise"
            " MAINSTEM_QUERY_MEMORY_BYTES."
        ) from error
    except duckdb.IOException as error:
        raise Unavailable("A file that the query needs could not be read.") from error


def _gather(cursor: _Cursor, sql: Sql) -> None:
    """Copy what a query reads into one table first, which goes to disk where it must: slower, but with less memory.

    Read from the files themselves, each kind of them is decoded and grouped beside the others.
    """
    words = set(re.findall(r"\w+", sql.text))
    columns = [*_COLUMNS, *(name for place in range(len(sql.leaves)) for name in (f"n{place}", f"t{place}"))]
    named = [identifier(name) for name in columns if name in words] or ["seq"]
    cursor.execute(f"CREATE TEMP TABLE gathered AS SELECT {', '.join(named)} FROM events").fetchall()
    cursor.execute("DROP VIEW events").fetchall()
    cursor.execute("ALTER TABLE gathered RENAME TO events").fetchall()


def _sealed(files: Sequence[str], kind: _Kind, names: Mapping[Path, Columns]) -> str:
    columns = [identifier(name) for name in _COLUMNS]
    for path in kind.has:
        for there, here in zip(leaves.stored(path), names[path], strict=True):
            columns.append(f"{identifier(there)} AS {identifier(here)}")
    rows = (
        f"(SELECT {', '.join(columns)} FROM read_parquet([{', '.join(map(_file, files))}])"
        f"{kind.where and ' WHERE ' + kind.where})"
    )
    there_already = [name for path in kind.has for name in names[path]]
    missing = {path: names[path] for path in names if path not in kind.has}
    return leaves.select(rows, _COLUMNS + there_already, missing)


def _file(path: str) -> str:
    # A path is a pattern to DuckDB; in brackets these characters stand for themselves.
    return literal(re.sub(r"[\[*?]", r"[\g<0>]", path))
