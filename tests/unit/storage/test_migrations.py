"""The tables as migrations make them are those that the capabilities declare."""

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine

from mainstem.catalogue import tables as catalogue_tables
from mainstem.errors import Conflict, Unavailable
from mainstem.events import tables as events_tables
from mainstem.identity import tables as identity_tables
from mainstem.storage import SqliteRecords
from mainstem.transcode import tables as transcode_tables
from mainstem.work import tables as work_tables

DECLARED = [
    identity_tables.metadata,
    work_tables.metadata,
    events_tables.metadata,
    transcode_tables.metadata,
    catalogue_tables.metadata,
]
STEPS = ["0001", "0002", "0003", "0004"]
FULL_TEXT = ["listings_text", *(f"listings_text_{part}" for part in ("config", "data", "docsize", "idx"))]


@pytest.fixture
async def migrated(tmp_path: Path) -> Path:
    path = tmp_path / "mainstem.sqlite"
    assert await SqliteRecords(path).migrate() == STEPS
    return path


async def test_the_migrated_tables_are_the_declared_ones(migrated: Path) -> None:
    declared = MetaData()
    for metadata in DECLARED:
        for table in metadata.tables.values():
            table.to_metadata(declared)
    engine = create_engine(f"sqlite:///{migrated}")
    with engine.connect() as connection:
        # An index of texts is a virtual table with tables of its own, none of which can be declared.
        opts = {"compare_type": True, "include_name": lambda name, kind, parents: name not in FULL_TEXT}
        context = MigrationContext.configure(connection, opts=opts)
        differences = compare_metadata(context, declared)
    engine.dispose()

    # The owner of a topic refers to an account, which the declaration cannot say across capabilities.
    assert [one for one in differences if one[0] != "remove_fk"] == []


async def test_migrating_again_does_nothing(migrated: Path) -> None:
    assert await SqliteRecords(migrated).migrate() == []


async def test_of_several_that_migrate_at_once_one_does_it(tmp_path: Path) -> None:
    engines = [SqliteRecords(tmp_path / "mainstem.sqlite") for _ in range(4)]

    steps = await asyncio.gather(*[engine.migrate() for engine in engines])

    assert sorted(steps) == [[], [], [], STEPS]


async def test_a_migration_that_breaks_off_leaves_the_tables_as_they_were(tmp_path: Path) -> None:
    """The steps are one transaction: here the last of them finds its table taken."""
    path = tmp_path / "mainstem.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE identity_changes (mine INTEGER)")
    connection.close()

    with pytest.raises(Exception, match="identity_changes already exists"):
        await SqliteRecords(path).migrate()

    with sqlite3.connect(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    connection.close()
    assert tables == [("identity_changes",)]


async def test_a_database_of_a_newer_version_is_left_alone(migrated: Path) -> None:
    with sqlite3.connect(migrated) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()

    with pytest.raises(Conflict, match="newer version of mainstem"):
        await SqliteRecords(migrated).migrate()
    with pytest.raises(Conflict, match="newer version of mainstem"):
        await SqliteRecords(migrated).open()


async def test_a_database_of_an_older_version_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "mainstem.sqlite"
    sqlite3.connect(path).close()
    path.touch()

    with pytest.raises(Conflict, match="run `mainstem migrate`"):
        await SqliteRecords(path).open()


async def test_a_database_that_is_not_there_is_not_made_by_opening_it(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="There is no database"):
        await SqliteRecords(tmp_path / "mainstem.sqlite").open()
    assert os.listdir(tmp_path) == []


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mainstem.sqlite"
    path.write_bytes(b"this is text\n" * 1_000)

    with pytest.raises(Unavailable, match="no SQLite database: restore it from a backup"):
        await SqliteRecords(path).migrate()


async def test_a_name_with_any_character_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "50% of é?#.sqlite"
    records = SqliteRecords(path)
    await records.migrate()
    async with records:
        assert await records.check() == []
    assert path.exists()
