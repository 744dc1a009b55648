"""A write that power or a kill cut short was never acknowledged: it goes, and nothing else does."""

import os
import random
from pathlib import Path

import pytest

from crash.folders import OPTIONS, ORDERS, Filled, fill, newest_wal, opened
from logs import draft, drafts, kept
from mainstem.storage import Drafts
from mainstem.storage.ports import Condition


@pytest.fixture
async def filled(tmp_path: Path) -> Filled:
    return await fill(tmp_path / "log", sealed=1, live=2)


async def last_frame(filled: Filled) -> bytes:
    """Append one more event, and say which bytes that added."""
    before = newest_wal(filled.folder).stat().st_size
    async with opened(filled.folder) as log:
        await log.append(ORDERS, Drafts.of([draft(9_999)]))
    return newest_wal(filled.folder).read_bytes()[before:]


async def check(filled: Filled, folder: Path, *, cut: int) -> None:
    """All earlier events are there, so much was cut, and writing goes on; twice."""
    async with opened(folder) as log:
        assert log.figures().tail_cut_bytes == cut
        assert log.health().condition is Condition.HEALTHY
        assert await kept(log, ORDERS) == filled.rows[ORDERS]
        receipt = await log.append(ORDERS, drafts([1, 2]))
        assert receipt.first_seq == filled.next_seq
        assert receipt.first_idx == len(filled.rows[ORDERS])
    async with opened(folder) as log:
        assert log.figures().tail_cut_bytes == 0
        rows = await kept(log, ORDERS)
        assert rows[:-2] == filled.rows[ORDERS]
        assert [row.seq for row in rows[-2:]] == receipt.seqs(2)


async def test_a_frame_cut_at_any_byte_is_cut_off(filled: Filled, tmp_path: Path) -> None:
    """From its first byte to the one before its last."""
    frame = await last_frame(filled)
    for kept_bytes in range(len(frame)):
        folder = filled.copy(tmp_path / f"{kept_bytes}")
        wal = newest_wal(folder)
        os.truncate(wal, wal.stat().st_size - len(frame) + kept_bytes)

        await check(filled, folder, cut=kept_bytes)


@pytest.mark.parametrize("count", [1, 7, 63, 64, 65, 4_096])
async def test_zeros_behind_the_last_frame_are_cut_off(filled: Filled, count: int) -> None:
    """A file system may have grown the file before the bytes came."""
    with newest_wal(filled.folder).open("ab") as wal:
        wal.write(bytes(count))

    await check(filled, filled.folder, cut=count)


async def test_a_frame_whose_end_is_zeros_is_cut_off_or_reported(filled: Filled, tmp_path: Path) -> None:
    """The length is there, the bytes are not all: nothing of it is taken for an event."""
    frame = await last_frame(filled)
    for sound in range(0, len(frame) - 8, 5):
        folder = filled.copy(tmp_path / f"{sound}")
        wal = newest_wal(folder)
        content = wal.read_bytes()
        wal.write_bytes(content[: len(content) - len(frame) + sound] + bytes(len(frame) - sound))

        async with opened(folder) as log:
            assert await kept(log, ORDERS) == filled.rows[ORDERS]
            assert log.figures().tail_cut_bytes or log.health().condition is Condition.UNHEALTHY
            assert (await log.append(ORDERS, drafts([1]))).first_seq >= filled.next_seq


@pytest.mark.parametrize("count", [1, 3, 8, 63, 64, 200, 5_000])
async def test_garbage_behind_the_last_frame_is_reported(filled: Filled, count: int) -> None:
    """It may once have been an acknowledged event, so it is never cut in silence."""
    garbage = random.Random(count).randbytes(count)
    with newest_wal(filled.folder).open("ab") as wal:
        wal.write(garbage)

    for _ in range(2):
        async with opened(filled.folder) as log:
            assert log.health().condition is Condition.UNHEALTHY
            assert await kept(log, ORDERS) == filled.rows[ORDERS]
    async with opened(filled.folder) as log:
        receipt = await log.append(ORDERS, drafts([1]))
        assert receipt.first_seq >= filled.next_seq
    async with opened(filled.folder) as log:
        rows = await kept(log, ORDERS)
        assert rows[:-1] == filled.rows[ORDERS]
        assert rows[-1].seq == receipt.first_seq


async def test_a_torn_file_that_is_not_the_newest_is_reported(filled: Filled) -> None:
    """Only the last write may be short: anywhere else something acknowledged is missing."""
    older = newest_wal(filled.folder)
    async with opened(filled.folder) as log:
        await log.append(ORDERS, drafts([1]))
    next_seq = filled.next_seq + 1
    os.truncate(older, older.stat().st_size - 3)
    (older.parent / f"{next_seq:020d}.wal").touch()

    async with opened(filled.folder, OPTIONS) as log:
        assert log.health().condition is Condition.UNHEALTHY
        assert await kept(log, ORDERS) == filled.rows[ORDERS]
        assert (await log.append(ORDERS, drafts([1]))).first_seq >= next_seq
