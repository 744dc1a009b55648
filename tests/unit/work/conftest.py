"""A queue on a database of its own, as two processes see it, and a clock that stands still."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mainstem.clock import FixedClock
from mainstem.storage import SqliteRecords
from mainstem.work import Queue


@pytest.fixture
async def other(records: SqliteRecords, tmp_path: Path, clock: FixedClock) -> AsyncIterator[Queue]:
    """The same queue through connections of its own, as another process has it."""
    async with SqliteRecords(tmp_path / "mainstem.sqlite") as engine:
        yield Queue(engine, clock)
