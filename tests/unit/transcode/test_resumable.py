"""Uploads that break off: what came stays, and everything after it can be sent again."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from mainstem.clock import FixedClock
from mainstem.errors import Exhausted, Invalid, Unavailable
from mainstem.transcode.model import TooLarge
from mainstem.transcode.resumable import (
    Checksum,
    ChecksumMismatch,
    Resumable,
    ResumableLimits,
    ResumableUploads,
    UploadBusy,
    UploadNotFound,
    WrongOffset,
)

LIMITS = ResumableLimits(file_bytes_max=1_000, open_max=3, lifetime_s=60, disk_free_bytes_min=0)


class BrokenOff(Exception):
    """What the network does."""


async def opened(folder: Path, clock: FixedClock | None = None) -> ResumableUploads:
    uploads = ResumableUploads(folder / "uploads", LIMITS, clock or FixedClock())
    await uploads.open()
    return uploads


async def bytes_of(*chunks: bytes, then: BaseException | None = None) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    if then is not None:
        raise then


async def add(uploads: ResumableUploads, upload: Resumable, *chunks: bytes, offset: int = 0) -> Resumable:
    async with uploads.held(upload.id):
        return await uploads.append(upload.id, offset, bytes_of(*chunks))


async def whole(uploads: ResumableUploads, upload: Resumable) -> bytes:
    return b"".join([chunk async for chunk in uploads.content(upload.id)])


def anybody(_: Resumable) -> bool:
    return True


async def test_bytes_follow_each_other_in_several_requests(tmp_path: Path) -> None:
    uploads = await opened(tmp_path)
    upload = await uploads.create(None, 6, {"filename": "a.wav"})

    assert (await add(uploads, upload, b"a", b"bc")).offset == 3
    upload = await add(uploads, upload, b"def", offset=3)

    assert upload.is_complete
    assert await whole(uploads, upload) == b"abcdef"


async def test_what_the_disk_has_no_room_for_can_be_sent_later(tmp_path: Path) -> None:
    """The room that the server keeps for itself stays free, also when others have filled the disk since it began."""
    uploads = await opened(tmp_path)
    upload = await uploads.create(None, 6, {})
    await add(uploads, upload, b"abc")
    full = ResumableUploads(tmp_path / "uploads", replace(LIMITS, disk_free_bytes_min=1 << 60), FixedClock())
    await full.open()

    with pytest.raises(Unavailable):
        await add(full, upload, b"def", offset=3)

    assert full.find(upload.id, anybody).offset == 3
    assert (await add(uploads, upload, b"def", offset=3)).is_complete


async def test_what_came_before_the_end_of_the_connection_stays(tmp_path: Path) -> None:
    uploads = await opened(tmp_path)
    upload = await uploads.create(None, 6, {})

    with pytest.raises(BrokenOff):
        await uploads.append(upload.id, 0, bytes_of(b"abc", then=BrokenOff()))

    assert uploads.find(upload.id, anybody).offset == 3
    assert await whole(uploads, await add(uploads, upload, b"def", offset=3)) == b"abcdef"


async def test_what_was_acknowledged_outlives_the_server(tmp_path: Path) -> None:
    """And what a crash left behind it does not count."""
    before = await opened(tmp_path)
    upload = await before.create(None, 6, {"filename": "ä.wav"})
    await add(before, upload, b"abc")
    with (tmp_path / "uploads" / f"{upload.id}.data").open("ab") as file:
        file.write(b"xyz, never acknowledged")

    after = await opened(tmp_path)
    found = after.find(upload.id, anybody)

    assert (found.offset, found.metadata) == (3, {"filename": "ä.wav"})
    assert await whole(after, await add(after, found, b"def", offset=3)) == b"abcdef"


async def test_a_start_clears_away_what_cannot_be_used(tmp_path: Path) -> None:
    uploads = await opened(tmp_path)
    upload = await uploads.create(None, 6, {})
    await add(uploads, upload, b"abc")
    folder = tmp_path / "uploads"
    (folder / f"{upload.id}.data").write_bytes(b"a")  # less than what was acknowledged
    (folder / "other.data").write_bytes(b"abc")
    (folder / "third.json").write_bytes(b"{")

    with pytest.raises(UploadNotFound):
        (await opened(tmp_path)).find(upload.id, anybody)
    assert list(folder.iterdir()) == []


async def test_bytes_from_another_place_are_refused(tmp_path: Path) -> None:
    uploads = await opened(tmp_path)
    upload = await uploads.create(None, 6, {})

    with pytest.raises(WrongOffset) as raised:
        await add(uploads, upload, b"def", offset=3)

    assert raised.value.details["offset"] == 0


async def test_more_bytes_than_were_declared_are_refused(tmp_path: Path) -> None:
    uploads = await opened(tmp_path)
    upload = await uploads.create(None, 3, {})
    open_ended = await uploads.create(None, None, {})

    with pytest.raises(Invalid):
        await add(uploads, upload, b"abcd")
    with pytest.raises(TooLarge):
        await add(uploads, open_ended, b"x" * 1_001)
    with pytest.raises(TooLarge):
        await uploads.create(None, 1_001, {})


async def test_with_a_checksum_all_bytes_count_or_none(tmp_path: Path) -> None:
    uploads = await opened(tmp_path)
    upload = await uploads.create(None, 6, {})
    right, wrong = Checksum("sha1", hashlib.sha1(b"abc").digest()), Checksum("sha1", b"?" * 20)

    with pytest.raises(ChecksumMismatch):
        await uploads.append(upload.id, 0, bytes_of(b"abc"), wrong)
    with pytest.raises(BrokenOff):
        await uploads.append(upload.id, 0, bytes_of(b"ab", then=BrokenOff()), right)
    assert uploads.find(upload.id, anybody).offset == 0

    assert (await uploads.append(upload.id, 0, bytes_of(b"abc"), right)).offset == 3


async def test_a_client_that_comes_back_takes_over_from_its_dead_connection(tmp_path: Path) -> None:
    uploads = await opened(tmp_path)
    upload = await uploads.create(None, 6, {})
    arrived = asyncio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield b"abc"
        arrived.set()
        await asyncio.Event().wait()

    async def first() -> None:
        async with uploads.held(upload.id):
            await uploads.append(upload.id, 0, hanging())

    dead = asyncio.create_task(first())
    await arrived.wait()

    async with uploads.held(upload.id):
        assert uploads.find(upload.id, anybody).offset == 3
        assert (await uploads.append(upload.id, 3, bytes_of(b"def"))).is_complete
    with pytest.raises(UploadBusy):
        await dead


async def test_parts_are_put_together_in_the_order_given(tmp_path: Path) -> None:
    uploads = await opened(tmp_path)
    parts = [await uploads.create(None, 3, {}, is_part=True) for _ in range(2)]
    first, second = [await add(uploads, part, text) for part, text in zip(parts, (b"abc", b"def"), strict=True)]

    together = await uploads.concatenate(None, [second, first], {"filename": "a.wav"})

    assert together.is_complete
    assert await whole(uploads, together) == b"defabc"
    with pytest.raises(UploadNotFound):
        uploads.find(first.id, anybody)


async def test_a_part_that_is_not_complete_is_not_put_together(tmp_path: Path) -> None:
    uploads = await opened(tmp_path)
    part = await uploads.create(None, 3, {}, is_part=True)

    with pytest.raises(Invalid):
        await uploads.concatenate(None, [part], {})


async def test_uploads_that_nobody_goes_on_with_are_forgotten(tmp_path: Path) -> None:
    clock = FixedClock()
    uploads = await opened(tmp_path, clock)
    upload = await uploads.create(None, 3, {})
    clock.advance(61)

    with pytest.raises(UploadNotFound):
        uploads.find(upload.id, anybody)
    await uploads.sweep()
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_there_are_only_so_many_at_once(tmp_path: Path) -> None:
    """One that became a job does not count: its bytes are gone."""
    uploads = await opened(tmp_path)
    first = await uploads.create(None, 3, {})
    for _ in range(2):
        await uploads.create(None, 3, {})

    with pytest.raises(Exhausted):
        await uploads.create(None, 3, {})
    await uploads.settle(first.id, "job")
    await uploads.create(None, 3, {})
    assert (await opened(tmp_path)).find(first.id, anybody).job == "job"
