"""Records in SQLite: what is particular to that engine."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from mainstem.errors import Unavailable
from mainstem.storage import SqliteRecords
from mainstem.storage.embedded import records as module


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mainstem.sqlite"


@pytest.fixture
async def records(path: Path) -> AsyncIterator[SqliteRecords]:
    engine = SqliteRecords(path)
    await engine.migrate()
    async with engine:
        yield engine


async def begin(records: SqliteRecords) -> None:
    async with records.begin():
        pass


async def test_commits_are_synced_and_logged_ahead(records: SqliteRecords) -> None:
    async with records.begin() as tx:
        modes = [(await tx.execute(text(f"PRAGMA {name}"))).scalar() for name in ("journal_mode", "synchronous")]

    assert modes == ["wal", 2]  # 2 is FULL: every commit is on disk when it returns


async def test_a_reader_cannot_write(records: SqliteRecords) -> None:
    async def write_while_reading() -> None:
        async with records.read() as rows:
            await rows.execute(text("DELETE FROM accounts"))

    with pytest.raises(Unavailable, match="read-only"):
        await write_while_reading()


async def test_a_writer_waits_for_one_of_another_process(records: SqliteRecords, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    asyncio.get_running_loop().call_later(0.1, other.rollback)

    await begin(records)

    other.close()


async def test_a_writer_gives_up_in_the_end(
    records: SqliteRecords, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WRITER_WAIT_S", 0.1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(Unavailable, match="another process held the database"):
        await begin(records)
    other.rollback()
    other.close()

    await begin(records)


async def test_a_writer_that_waits_for_one_of_this_process_gives_up_as_well(
    records: SqliteRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WRITER_WAIT_S", 0.1)
    async with records.begin():
        with pytest.raises(Unavailable, match="busy"):
            await begin(records)

    await begin(records)


async def test_a_full_disk_is_a_refusal_and_not_the_end(records: SqliteRecords) -> None:
    async def fill() -> None:
        async with records.begin() as tx:
            pages = (await tx.execute(text("PRAGMA page_count"))).scalar_one()
            await tx.execute(text(f"PRAGMA max_page_count = {pages + 2}"))
            await tx.execute(
                text("INSERT INTO accounts (name, is_admin, created_us) VALUES (hex(randomblob(50000)), 0, 0)")
            )

    with pytest.raises(Unavailable, match="the disk is full"):
        await fill()

    async with records.begin() as tx:
        await tx.execute(text("PRAGMA max_page_count = 1000000"))
        await tx.execute(text("INSERT INTO accounts (name, is_admin, created_us) VALUES ('alice', 0, 0)"))


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4_096] = b"\xff" * 4_096
    path.write_bytes(content)


async def test_damage_is_found(path: Path) -> None:
    engine = SqliteRecords(path)
    await engine.migrate()
    async with engine:
        async with engine.begin() as tx:
            for number in range(2_000):
                await tx.execute(
                    text("INSERT INTO accounts (name, is_admin, created_us) VALUES (:name, 0, 0)"),
                    {"name": f"account number {number}"},
                )
        assert await engine.check() == []
    damage(path)

    async with SqliteRecords(path) as damaged:
        assert await damaged.check() != []
