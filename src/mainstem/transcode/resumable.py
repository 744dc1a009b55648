"""Uploads that may break off and go on, also after the server's end: kept in files until all of their bytes are there.

What was acknowledged is synced: an upload's description says how many bytes of its data count, and is replaced only
when those are on disk. Whatever lies behind them, an end of the server may have left, and it is cut off.
"""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from mainstem.clock import SECOND_US, Clock
from mainstem.errors import Conflict, Exhausted, Invalid, NotFound, Unavailable
from mainstem.ids import AccountId
from mainstem.transcode.model import TooLarge

CHECKSUMS = ("sha1", "sha256", "md5")
PARTS_MAX = 64

_SYNC_EVERY_BYTES = 8 << 20
_READ_BYTES = 1 << 20
_TAKE_OVER_S = 10.0


class Resumable(msgspec.Struct, frozen=True, kw_only=True):
    """An upload that has begun."""

    id: str
    owner: AccountId | None
    length: int | None
    """How many bytes it will have; None: nobody has said so yet."""
    offset: int = 0
    """How many of them are here."""
    metadata: Mapping[str, str] = {}
    is_part: bool = False
    """It is a piece of another, and nothing is made of it alone."""
    parts: Sequence[str] = ()
    """What it was put together from."""
    touched_us: int
    job: str | None = None
    """What became of it."""

    @property
    def is_complete(self) -> bool:
        return self.offset == self.length


class Checksum(NamedTuple):
    algorithm: str
    digest: bytes


class UploadNotFound(NotFound):
    """No such upload, or none that the caller may see: it was ended, or nobody went on with it for too long."""


class UploadBusy(Conflict):
    """Another request is writing to the upload, or has taken it over."""


class WrongOffset(Conflict):
    """The bytes do not follow those that are there."""


class ChecksumMismatch(Conflict):
    """The bytes that came are not those that the checksum is of."""


class ResumableLimits(msgspec.Struct, frozen=True, kw_only=True):
    file_bytes_max: int
    open_max: int
    lifetime_s: float
    """An upload that nobody goes on with is kept for so long."""
    disk_free_bytes_min: int


class ResumableUploads:
    """All of them, in one folder. One server process owns it."""

    def __init__(self, folder: Path, limits: ResumableLimits, clock: Clock) -> None:
        self._folder = folder
        self._limits = limits
        self._clock = clock
        self._uploads: dict[str, Resumable] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._writers: dict[str, asyncio.Task[None]] = {}

    @property
    def length_max(self) -> int:
        return self._limits.file_bytes_max

    async def open(self) -> None:
        """Find what an earlier process left, and clear away what cannot be used."""
        for upload in await asyncio.to_thread(_load, self._folder):
            self._uploads[upload.id] = upload

    async def create(
        self,
        owner: AccountId | None,
        length: int | None,
        metadata: Mapping[str, str],
        *,
        is_part: bool = False,
    ) -> Resumable:
        """Begin one; durable on return. Raises TooLarge, Exhausted when too many are open, Unavailable without room."""
        self._check_length(length)
        if sum(not upload.job for upload in self._uploads.values()) >= self._limits.open_max:
            raise Exhausted(f"There are {self._limits.open_max} uploads under way already: try again later")
        upload = Resumable(
            id=uuid4().hex,
            owner=owner,
            length=length,
            metadata=metadata,
            is_part=is_part,
            touched_us=self._clock(),
        )
        self._uploads[upload.id] = upload
        try:
            with _refusals():
                await asyncio.to_thread(self._begin, upload)
        except BaseException:
            del self._uploads[upload.id]
            raise
        return upload

    def find(self, upload_id: str, may_see: Callable[[Resumable], bool]) -> Resumable:
        """Raises UploadNotFound also for one that the caller may not see."""
        upload = self._uploads.get(upload_id)
        if upload is None or self._is_over(upload) or not may_see(upload):
            raise UploadNotFound("There is no such upload: begin a new one")
        return upload

    def expires_us(self, upload: Resumable) -> int:
        return upload.touched_us + int(self._limits.lifetime_s * SECOND_US)

    @asynccontextmanager
    async def held(self, upload_id: str) -> AsyncIterator[None]:
        """Have the upload alone. A request that still writes to it is ended: its client has come back since.

        Raises UploadBusy when it does not give way, UploadNotFound when the upload is gone then.
        """
        writer = self._writers.get(upload_id)
        if writer is not None:
            writer.cancel()
        lock = self._locks.setdefault(upload_id, asyncio.Lock())
        try:
            async with asyncio.timeout(_TAKE_OVER_S):
                await lock.acquire()
        except TimeoutError as error:
            raise UploadBusy("Another request holds the upload: try again shortly") from error
        try:
            if upload_id not in self._uploads:
                raise UploadNotFound("There is no such upload any more")
            yield
        finally:
            lock.release()

    async def append(
        self, upload_id: str, offset: int, chunks: AsyncIterable[bytes], checksum: Checksum | None = None
    ) -> Resumable:
        """Add the bytes that follow the first `offset`; hold it meanwhile.

        When the bytes stop coming, what came stays, and the error is raised on. With a checksum all of them count, or
        none. Raises WrongOffset, TooLarge past the declared length, ChecksumMismatch, UploadBusy when another request
        took over.
        """
        upload = self._uploads[upload_id]
        if upload.offset != offset:
            raise WrongOffset(f"The upload has {upload.offset} bytes: go on from there", offset=upload.offset)
        writing = asyncio.create_task(self._write(upload, chunks, checksum))
        self._writers[upload_id] = writing
        try:
            await asyncio.wait((writing,))
            if writing.cancelled():
                raise UploadBusy("Another request goes on with the upload")
            with _refusals():
                writing.result()
        finally:
            if self._writers.get(upload_id) is writing:
                del self._writers[upload_id]
            if not writing.done():
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
        return self._uploads[upload_id]

    async def declare_length(self, upload_id: str, length: int) -> Resumable:
        """Say how long it will be, once. Raises Invalid, TooLarge."""
        upload = self._uploads[upload_id]
        if upload.length not in (None, length) or length < upload.offset:
            raise Invalid("The length of the upload is known already, or more bytes than that are here")
        self._check_length(length)
        return await self._keep(replace(upload, length=length))

    async def concatenate(
        self, owner: AccountId | None, parts: Sequence[Resumable], metadata: Mapping[str, str]
    ) -> Resumable:
        """Put complete parts together as a new upload, and end them. Raises Invalid, and what `create` raises."""
        if not all(part.is_part and part.is_complete for part in parts) or not 1 <= len(parts) <= PARTS_MAX:
            raise Invalid(f"An upload is put together from 1 to {PARTS_MAX} parts, each of them complete")
        whole = await self.create(owner, sum(part.offset for part in parts), metadata)

        async def content() -> AsyncIterator[bytes]:
            for part in parts:
                async for chunk in self.content(part.id):
                    yield chunk

        async with self.held(whole.id):
            await self.append(whole.id, 0, content())
            whole = await self._keep(replace(self._uploads[whole.id], parts=[part.id for part in parts]))
        for part in parts:
            await self.end(part.id)
        return whole

    async def content(self, upload_id: str) -> AsyncIterator[bytes]:
        """All bytes that are here."""
        with await asyncio.to_thread(self._data(upload_id).open, "rb") as file:
            while chunk := await asyncio.to_thread(file.read, _READ_BYTES):
                yield chunk

    async def settle(self, upload_id: str, job: str) -> Resumable:
        """It became a job: its bytes are not needed any more, but a client that comes back learns what became of it."""
        upload = await self._keep(replace(self._uploads[upload_id], job=job))
        await asyncio.to_thread(self._data(upload_id).unlink, missing_ok=True)
        return upload

    async def end(self, upload_id: str) -> None:
        """Forget it."""
        self._uploads.pop(upload_id, None)
        self._locks.pop(upload_id, None)
        await asyncio.to_thread(self._remove, upload_id)

    async def sweep(self) -> None:
        """Forget those that nobody went on with for too long."""
        for upload in list(self._uploads.values()):
            if self._is_over(upload) and upload.id not in self._writers:
                await self.end(upload.id)

    # Files

    def _begin(self, upload: Resumable) -> None:
        self._check_room(upload.length or 0)
        self._data(upload.id).touch(mode=0o600, exist_ok=False)
        _write_description(self._folder, upload)

    async def _write(self, upload: Resumable, chunks: AsyncIterable[bytes], checksum: Checksum | None) -> None:
        digest = None if checksum is None else hashlib.new(checksum.algorithm, usedforsecurity=False)
        end = upload.offset
        with await asyncio.to_thread(self._open_at, upload) as file:
            try:
                async for chunk in chunks:
                    end += len(chunk)
                    self._check_end(upload, end)
                    await asyncio.to_thread(self._add, file, chunk)
                    if digest is not None:
                        digest.update(chunk)
                    elif end - self._uploads[upload.id].offset >= _SYNC_EVERY_BYTES:
                        await self._sync(file, upload.id)
            except BaseException:
                if digest is None:
                    # Also when it is cancelled: what came is worth keeping, and a sync is soon done.
                    await asyncio.shield(self._sync(file, upload.id))
                raise
            if checksum is not None and digest is not None and digest.digest() != checksum.digest:
                raise ChecksumMismatch("The bytes do not have that checksum: send them again", offset=upload.offset)
            await self._sync(file, upload.id)

    def _add(self, file: BinaryIO, chunk: bytes) -> None:
        self._check_room(len(chunk))  # each time: others write to the disk as well
        file.write(chunk)

    def _check_room(self, size: int) -> None:
        if shutil.disk_usage(self._folder).free - self._limits.disk_free_bytes_min < size:
            raise Unavailable("The server's disk has no room for this upload: try again later")

    def _open_at(self, upload: Resumable) -> BinaryIO:
        # A buffered file has a lock, so whoever syncs it waits for a thread that still writes.
        file = self._data(upload.id).open("r+b")
        file.truncate(upload.offset)
        file.seek(upload.offset)
        return file

    def _check_length(self, length: int | None) -> None:
        if length is not None and length > self._limits.file_bytes_max:
            raise TooLarge(
                f"The file is over the limit of {self._limits.file_bytes_max} bytes",
                limit_bytes=self._limits.file_bytes_max,
            )

    def _check_end(self, upload: Resumable, end: int) -> None:
        if upload.length is None:
            self._check_length(end)
        elif end > upload.length:
            raise Invalid(f"The upload was to have {upload.length} bytes, and these are more")

    async def _sync(self, file: BinaryIO, upload_id: str) -> None:
        end = await asyncio.to_thread(_synced, file)
        await self._keep(replace(self._uploads[upload_id], offset=end))

    async def _keep(self, upload: Resumable) -> Resumable:
        upload = replace(upload, touched_us=self._clock())
        with _refusals():
            await asyncio.to_thread(_write_description, self._folder, upload)
        self._uploads[upload.id] = upload
        return upload

    def _remove(self, upload_id: str) -> None:
        # The description goes first: data without one is cleared away at the next start.
        _description(self._folder, upload_id).unlink(missing_ok=True)
        self._data(upload_id).unlink(missing_ok=True)

    def _data(self, upload_id: str) -> Path:
        return self._folder / f"{upload_id}.data"

    def _is_over(self, upload: Resumable) -> bool:
        return self._clock() >= self.expires_us(upload)


def _synced(file: BinaryIO) -> int:
    """Sync what was written; how far that is."""
    file.flush()
    os.fdatasync(file.fileno())
    return file.tell()


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"The upload cannot be kept: {error.strerror}; try again later") from error


def _description(folder: Path, upload_id: str) -> Path:
    return folder / f"{upload_id}.json"


def _write_description(folder: Path, upload: Resumable) -> None:
    path = _description(folder, upload.id)
    unfinished = path.with_suffix(".new")
    with unfinished.open("wb") as file:
        file.write(msgspec.json.encode(upload))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _load(folder: Path) -> list[Resumable]:
    """The uploads of a folder, each with at least the bytes that its description speaks of."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = {}
    for path in folder.glob("*.json"):
        try:
            upload = msgspec.json.decode(path.read_bytes(), type=Resumable)
        except msgspec.DecodeError:
            continue
        data = path.with_suffix(".data")
        if upload.id == path.stem and (upload.job or (data.exists() and data.stat().st_size >= upload.offset)):
            found[upload.id] = upload
    for path in folder.iterdir():
        if path.stem not in found or path.suffix == ".new":
            path.unlink()
    return list(found.values())
