"""A queue on a database of its own, as two processes see it, and a clock that stands still."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mainstem.clock import FixedClock
from mainstem.storage import SqliteRecords
from mainstem.work import Queue


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[SqliteRecords]:
    engine = SqliteRecords(tmp_path / "mainstem.sqlite")
    await engine.migrate()
    async with engine:
        yield engine


@pytest.fixture
def queue(records: SqliteRecords, clock: FixedClock) -> Queue:
    return Queue(records, clock)


@pytest.fixture
async def other(records: SqliteRecords, tmp_path: Path, clock: FixedClock) -> AsyncIterator[Queue]:
    """The same queue through connections of its own, as another process has it."""
    async with SqliteRecords(tmp_path / "mainstem.sqlite") as engine:
        yield Queue(engine, clock)
