"""Sealing of the embedded log, beside what else it does."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from logs import drafts, kept, numbers_of
from mainstem.ids import TopicId
from mainstem.storage.embedded.files import sync_folder
from mainstem.storage.embedded.log import EmbeddedLog, LogOptions, wal
from waiting import PATIENCE_S

TOPIC = TopicId(9)


@pytest.fixture
def slow_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """Until it is set, no new file gets onto the disk."""
    ready = Event()

    def slow(folder: Path) -> None:
        ready.wait(PATIENCE_S)
        sync_folder(folder)

    monkeypatch.setattr(wal, "sync_folder", slow)
    yield ready
    ready.set()


async def test_sealing_ends_while_the_next_file_is_still_on_its_way(tmp_path: Path, slow_folder: Event) -> None:
    """That commit brings no event, and a file without events is never sealed."""
    async with EmbeddedLog.open(tmp_path, LogOptions(disk_free_bytes_min=0)) as log:
        await log.append(TOPIC, drafts([1]))
        await log.seal()
        sealing = asyncio.create_task(log.seal())
        await asyncio.sleep(0)
        slow_folder.set()

        async with asyncio.timeout(PATIENCE_S):
            await sealing
        await log.append(TOPIC, drafts([2]))
        assert numbers_of(await kept(log, TOPIC)) == [1, 2]
