"""Folders of a log with all kinds of things in them, to be damaged."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from logs import drafts, kept
from mainstem.clock import FixedClock
from mainstem.ids import TopicId
from mainstem.storage import Note, Receipt, Row
from mainstem.storage.embedded.log import EmbeddedLog, LogOptions

ORDERS, CLICKS = TopicId(1), TopicId(2)
TOPICS = [ORDERS, CLICKS, TopicId(3)]
WINDOW_S = 3_600
OPTIONS = LogOptions(segment_events=1_000_000, disk_free_bytes_min=0, maintain_every_s=3_600, compaction_events=10_000)


def note_key(number: int) -> bytes:
    return number.to_bytes(16)


@asynccontextmanager
async def opened(folder: Path, options: LogOptions = OPTIONS) -> AsyncIterator[EmbeddedLog]:
    async with EmbeddedLog.open(folder, options, FixedClock()) as log:
        yield log


class Filled:
    """A closed log, and what was acknowledged to be in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[TopicId, list[Row]] = {}
        self.notes: dict[bytes, tuple[bytes, Receipt]] = {}

    @property
    def next_seq(self) -> int:
        return 1 + max(row.seq for rows in self.rows.values() for row in rows)

    def copy(self, place: Path) -> Path:
        return Path(shutil.copytree(self.folder, place))


async def fill(folder: Path, *, sealed: int, live: int) -> Filled:
    """So many rounds of batches sealed each on its own, and so many more in the write-ahead file."""
    filled = Filled(folder)
    async with opened(folder) as log:
        for round_ in range(sealed + live):
            for topic in TOPICS:
                numbers = range(round_ * 20, round_ * 20 + 20 - topic)
                note = Note(note_key(round_ * 10 + topic), b"what was answered")
                receipt = await log.append(
                    topic, drafts(numbers, prefix=f"{topic}-"), dedupe_window_s=WINDOW_S, note=note
                )
                filled.notes[note.key] = (note.value, receipt)
            if round_ < sealed:
                await log.seal()
        for topic in TOPICS:
            filled.rows[topic] = await kept(log, topic)
    return filled


async def reading(folder: Path) -> dict[TopicId, list[Row]]:
    """All rows of a folder's log."""
    async with opened(folder) as log:
        return {topic: await kept(log, topic) for topic in TOPICS}


def newest_wal(folder: Path) -> Path:
    return max((folder / "wal").glob("*.wal"))
