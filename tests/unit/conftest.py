"""What most rooms stand on: records of their own, a clock that stands still, and a queue."""

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
