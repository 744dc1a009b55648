"""What every Records engine promises: whole transactions, snapshots, and a version that tells of every commit."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from mainstem.identity import tables
from mainstem.storage import Records, SqliteRecords
from waiting import PATIENCE_S

type Open = Callable[[], AbstractAsyncContextManager[Records]]


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Records]:
    engine = SqliteRecords(folder / "mainstem.sqlite")
    await engine.migrate()
    async with engine:
        yield engine


ENGINES = [sqlite]


@pytest.fixture(params=ENGINES)
def open_records(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same records again and again, as several processes do."""
    return lambda: request.param(tmp_path)


@pytest.fixture
async def records(open_records: Open) -> AsyncIterator[Records]:
    async with open_records() as engine:
        yield engine


@pytest.fixture
async def other(open_records: Open, records: Records) -> AsyncIterator[Records]:
    async with open_records() as engine:
        yield engine


async def add(records: Records, name: str) -> None:
    async with records.begin() as tx:
        await tx.execute(insert(tables.accounts).values(name=name, is_admin=False, created_us=0))


async def names(records: Records) -> list[str]:
    async with records.read() as rows:
        return list((await rows.execute(select(tables.accounts.c.name).order_by(tables.accounts.c.id))).scalars())


async def test_what_was_committed_is_read(records: Records, other: Records) -> None:
    await add(records, "alice")

    assert await names(records) == await names(other) == ["alice"]


async def test_what_was_committed_is_there_after_a_restart(open_records: Open) -> None:
    async with open_records() as engine:
        await add(engine, "alice")

    async with open_records() as engine:
        assert await names(engine) == ["alice"]


async def test_a_block_that_raises_leaves_nothing(records: Records) -> None:
    async def add_and_fail() -> None:
        async with records.begin() as tx:
            await tx.execute(insert(tables.accounts).values(name="alice", is_admin=False, created_us=0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await add_and_fail()

    assert await names(records) == []
    await add(records, "bob")


async def test_a_block_that_is_cancelled_leaves_nothing(records: Records) -> None:
    async def add_and_wait() -> None:
        async with records.begin() as tx:
            await tx.execute(insert(tables.accounts).values(name="alice", is_admin=False, created_us=0))
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(add_and_wait(), 0.1)

    await add(records, "bob")
    assert await names(records) == ["bob"]


async def test_a_reader_sees_one_moment(records: Records, other: Records) -> None:
    """What is committed during a read, by anybody, belongs to the next read."""
    await add(records, "alice")

    async with records.read() as rows:
        before = (await rows.execute(select(tables.accounts))).all()
        await add(records, "bob")
        await add(other, "carol")
        after = (await rows.execute(select(tables.accounts))).all()

    assert before == after
    assert await names(records) == ["alice", "bob", "carol"]


async def test_a_reader_never_waits_for_a_writer(records: Records, other: Records) -> None:
    async with records.begin() as tx:
        await tx.execute(insert(tables.accounts).values(name="alice", is_admin=False, created_us=0))
        async with asyncio.timeout(PATIENCE_S):
            assert await names(records) == await names(other) == []


async def test_writers_take_turns(records: Records, other: Records) -> None:
    """Read, then write what follows from it: no two writers do it on the same state."""

    async def count_up(engine: Records) -> None:
        for _ in range(10):
            async with engine.begin() as tx:
                count = len((await tx.execute(select(tables.accounts.c.id))).all())
                await asyncio.sleep(0)
                values = {"name": f"number {count}", "is_admin": False, "created_us": 0}
                await tx.execute(insert(tables.accounts).values(**values))

    await asyncio.gather(*map(count_up, [records, records, other, other]))

    assert await names(records) == [f"number {count}" for count in range(40)]


async def test_a_broken_constraint_is_the_callers_to_handle(records: Records) -> None:
    await add(records, "alice")

    with pytest.raises(IntegrityError):
        await add(records, "alice")


async def test_a_row_cannot_refer_to_one_that_is_not_there(records: Records) -> None:
    async def grant_nobody() -> None:
        async with records.begin() as tx:
            await tx.execute(insert(tables.grants).values(account=99, topic=1, right=1))

    with pytest.raises(IntegrityError):
        await grant_nobody()


async def test_the_version_differs_after_every_commit_of_anybody(records: Records, other: Records) -> None:
    versions = [await records.version()]
    for engine, name in ((records, "alice"), (other, "bob"), (records, "carol")):
        await add(engine, name)
        versions.append(await records.version())

    assert len(set(versions)) == 4


async def test_the_version_stays_while_nothing_is_committed(records: Records) -> None:
    version = await records.version()

    await names(records)
    async with records.begin() as tx:
        await tx.execute(select(tables.accounts))

    assert await records.version() == version


async def test_many_readers_at_once_all_get_their_turn(records: Records) -> None:
    await add(records, "alice")

    assert await asyncio.gather(*[names(records) for _ in range(50)]) == [["alice"]] * 50


async def test_an_engine_tells_of_its_commits(records: Records, other: Records) -> None:
    """Those made through it, once each, and only when they are made."""
    told: list[str] = []
    end = records.watch(lambda: told.append("committed"))

    async def add_and_fail() -> None:
        async with records.begin() as tx:
            await tx.execute(insert(tables.accounts).values(name="bob", is_admin=False, created_us=0))
            raise RuntimeError

    await add(records, "alice")
    await add(other, "carol")
    with pytest.raises(RuntimeError):
        await add_and_fail()
    assert told == ["committed"]

    end()
    await add(records, "dave")
    assert told == ["committed"]
