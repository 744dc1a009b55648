"""How the tables of records came to be, step by step; each step is a file in `versions`.

Steps are written by hand, and a test holds them to the tables that the capabilities declare.
"""

import sqlite3
from pathlib import Path
from time import monotonic, sleep

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event

from mainstem.errors import Conflict

_FOLDER = Path(__file__).parent
_LOCK_WAIT_S = 10


def upgrade(path: Path) -> list[str]:
    """Bring the SQLite file to the newest version; makes it where there is none.

    All steps are one transaction, and of two processes that start at once, one waits and then finds nothing to do.
    Answers the steps that were taken, oldest first. Raises Conflict when the file is of a newer mainstem.
    """
    _write_ahead(path)
    engine = _engine(path, "BEGIN IMMEDIATE")
    with engine.begin() as connection:
        steps = _pending(connection)
        config = Config()
        config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return steps


def pending(path: Path) -> list[str]:
    """The steps that the SQLite file lacks, oldest first. Raises Conflict when it is of a newer mainstem."""
    with _engine(path, "BEGIN").begin() as connection:
        return _pending(connection)


def _pending(connection: Connection) -> list[str]:
    scripts = ScriptDirectory(str(_FOLDER))
    known = [script.revision for script in scripts.walk_revisions()]  # newest first
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise Conflict(f"The database is of a newer version of mainstem (step {current}): upgrade mainstem.")
    steps = known if current is None else known[: known.index(current)]
    return steps[::-1]


def _engine(path: Path, begin: str) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)), poolclass=NullPool, connect_args={"timeout": _LOCK_WAIT_S}
    )

    def prepare(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous = FULL")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _write_ahead(path: Path) -> None:
    """Switch the file to write-ahead logging, once and for all."""
    deadline = monotonic() + _LOCK_WAIT_S
    while True:
        connection = sqlite3.connect(path, timeout=_LOCK_WAIT_S)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # SQLite does not wait for this lock when two processes make the file at once.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
            sleep(0.02)
        finally:
            connection.close()
