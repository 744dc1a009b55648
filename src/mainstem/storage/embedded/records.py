"""Records in SQLite: one file, write-ahead log, synced at every commit, open to several processes at once."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple, Self, cast

from sqlalchemy import URL, Connection, FromClause, event, exc
from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_cursor
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteExecutionContext_aiosqlite
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from mainstem.errors import Conflict, Unavailable
from mainstem.storage import migrations

WRITER_WAIT_S = 10
READERS = 4

_REFUSALS = {
    sqlite3.SQLITE_BUSY: f"another process held the database for {WRITER_WAIT_S} s",
    sqlite3.SQLITE_LOCKED: "another connection holds the table",
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write",
    sqlite3.SQLITE_CORRUPT: "the database is damaged: run `mainstem doctor`",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
    sqlite3.SQLITE_NOTADB: "mainstem.sqlite is no SQLite database: restore it from a backup",
}


class SqliteRecords:
    """`Records` in one SQLite file, for which see the port. Several processes may have it open.

    `migrate` makes the file and its tables, and `open` refuses a file whose tables are not those of this version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = asyncio.Lock()
        self._deadline = 0.0
        self._watchers: list[Callable[[], None]] = []
        self._watcher: sqlite3.Connection | None = None
        self._writer = self._engine(connections=1, pragmas=("synchronous = FULL",))
        self._readers = self._engine(connections=READERS, pragmas=("query_only = ON",))
        event.listen(self._writer.sync_engine, "begin", self._begin_writing)
        event.listen(self._readers.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))

    async def migrate(self) -> list[str]:
        """Bring the tables to this version, in one transaction; answers the names of the steps that were taken."""
        with _refusals():
            return await asyncio.to_thread(migrations.upgrade, self._path)

    async def open(self) -> None:
        """Raises Conflict when the tables are of another version of mainstem, Unavailable without a database."""
        if not self._path.exists():
            raise Unavailable(
                f"There is no database at {self._path}: run `mainstem migrate`, or start the server once."
            )
        with _refusals():
            pending = await asyncio.to_thread(migrations.pending, self._path)
            if pending:
                raise Conflict(
                    f"{self._path} is of an older version of mainstem: run `mainstem migrate`.", pending=pending
                )
            self._watcher = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)

    async def close(self) -> None:
        await self._readers.dispose()
        await self._writer.dispose()
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        self._deadline = monotonic() + WRITER_WAIT_S
        async with self._writers_turn():
            with _refusals():
                async with self._writer.begin() as connection:
                    yield connection
            for committed in tuple(self._watchers):
                committed()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        with _refusals():
            async with self._readers.connect() as connection:
                yield connection

    async def version(self) -> int:
        # This connection never writes, so it counts every commit, those of this process as well. It is asked on the
        # loop: the answer comes from shared memory in about 2 µs, where a thread would cost 50.
        assert self._watcher is not None, "open() comes first"
        with _refusals():
            (version,) = self._watcher.execute("PRAGMA data_version").fetchone()
        return int(version)

    def watch(self, committed: Callable[[], None]) -> Callable[[], None]:
        self._watchers.append(committed)
        return lambda: self._watchers.remove(committed)

    async def check(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when nothing is. Reads all of it."""
        async with self.read() as connection:
            try:
                found = (await connection.exec_driver_sql("PRAGMA quick_check")).scalars().all()
            except exc.DatabaseError as error:
                if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF not in (
                    sqlite3.SQLITE_CORRUPT,
                    sqlite3.SQLITE_NOTADB,
                ):
                    raise
                return [str(error.orig)]  # so damaged that the check itself cannot go on
        return [] if list(found) == ["ok"] else [str(line) for line in found]

    @asynccontextmanager
    async def _writers_turn(self) -> AsyncIterator[None]:
        """Writers of this process queue here, in order; SQLite alone would let them race."""
        try:
            async with asyncio.timeout(WRITER_WAIT_S):
                await self._turn.acquire()
        except TimeoutError as error:
            raise Unavailable(f"The database was busy for {WRITER_WAIT_S} s: try again.") from error
        try:
            yield
        finally:
            self._turn.release()

    def _begin_writing(self, connection: Connection) -> None:
        # What is left of the wait goes to writers of other processes. IMMEDIATE takes the lock now: a transaction that
        # began as a reader could not be made to wait later, only to fail.
        remaining_ms = max(1, int((self._deadline - monotonic()) * 1_000))
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {remaining_ms}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def _engine(self, connections: int, pragmas: tuple[str, ...]) -> AsyncEngine:
        engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=str(self._path)),
            pool_size=connections,
            max_overflow=0,
            pool_timeout=WRITER_WAIT_S,
            connect_args={"timeout": WRITER_WAIT_S},
        )

        def prepare(connection: Any, record: object) -> None:
            connection.isolation_level = None  # transactions begin where this module says so
            cursor = connection.cursor()
            for pragma in ("foreign_keys = ON", *pragmas):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        event.listen(engine.sync_engine, "connect", prepare)
        engine.dialect.statement_compiler = _Compiler
        engine.dialect.execution_ctx_cls = _Context
        return engine


class _Compiler(SQLiteCompiler):
    """Writes hints after a table's name, where SQLite has them: `INDEXED BY …`."""

    def get_from_hint_text(self, table: FromClause, text: str | None) -> str | None:
        return text


class _Done(NamedTuple):
    """What is left of a statement that ran, under the names that SQLAlchemy asks a cursor for."""

    description: Any
    rowcount: int
    lastrowid: int | None


class _Cursor(AsyncAdapt_dbapi_cursor):
    """Runs a statement in one visit to the connection's thread.

    To make a cursor, execute, fetch and close it are four visits otherwise, and those cost more than most statements.
    """

    __slots__ = ()

    def _aenter_cursor(self, cursor: Any) -> Any:
        return cursor

    def _make_new_cursor(self, connection: Any) -> Any:
        return _Done(None, -1, None)

    async def _execute_async(self, operation: Any, parameters: Any) -> Any:
        return await self._visit(lambda cursor: cursor.execute(operation, parameters or ()))

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> Any:
        return await self._visit(lambda cursor: cursor.executemany(operation, seq_of_parameters))

    async def _visit(self, execute: Callable[[sqlite3.Cursor], object]) -> None:
        connection: Any = self._connection

        def run() -> tuple[_Done, deque[Any]]:
            with closing(connection._conn.cursor()) as cursor:
                execute(cursor)
                rows = deque(cursor.fetchall() if cursor.description else ())
                return _Done(cursor.description, cursor.rowcount, cursor.lastrowid), rows

        async with self._adapt_connection._execute_mutex:
            done, self._rows = await connection._execute(run)
        self._cursor = cast(Any, done)

    async def _async_soft_close(self) -> None:
        """It is closed already."""

    def close(self) -> None:
        self._rows.clear()


class _Context(SQLiteExecutionContext_aiosqlite):
    def create_default_cursor(self) -> Any:
        return _Cursor(cast(Any, self._dbapi_connection.dbapi_connection))


@contextmanager
def _refusals() -> Iterator[None]:
    """What SQLite cannot do now becomes Unavailable; what the caller did wrong (a broken constraint) passes through."""
    try:
        yield
    except exc.TimeoutError as error:
        raise Unavailable(f"All connections to the database were busy for {WRITER_WAIT_S} s: try again.") from error
    except (exc.DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        # An extended code carries its kind in the low byte.
        reason = _REFUSALS.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF)
        if reason is None:
            raise
        raise Unavailable(f"Records are unavailable: {reason}.") from error
