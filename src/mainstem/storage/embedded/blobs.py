"""Blobs in a folder: one file each, under its own name."""

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mainstem.errors import Conflict, Invalid, NotFound, Unavailable
from mainstem.storage.embedded.files import sync_folder
from mainstem.storage.ports import BlobInfo

_ATTEMPTS = 20


class FolderBlobs:
    """`Blobs` as files. A blob is written beside the tree, synced and then moved into it, so it is whole or absent.

    `temporary` must be on the same file system as `folder`. Names follow the file system's limit of 255 bytes between
    slashes, and no blob may have another's name as its folder: Conflict.
    """

    def __init__(self, folder: Path, temporary: Path) -> None:
        self._folder = folder
        self._temporary = temporary

    async def write(self, name: str, chunks: bytes | AsyncIterator[bytes]) -> BlobInfo:
        path = self._path(name)
        with _refusals(name):
            # A buffered file has a lock, so closing it after a cancellation waits for the thread that still writes.
            file = tempfile.NamedTemporaryFile(prefix="blob-", dir=self._temporary, delete=False)  # noqa: SIM115
            unfinished = Path(file.name)
            try:
                with file:
                    if isinstance(chunks, bytes):
                        await asyncio.to_thread(file.write, chunks)
                    else:
                        async for chunk in chunks:
                            await asyncio.to_thread(file.write, chunk)
                    return await asyncio.to_thread(self._finish, file, unfinished, path)
            finally:
                _discard(unfinished)

    async def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        path = self._path(name)
        with _refusals(name):
            return await asyncio.to_thread(_read, path, start, end)

    async def adopt(self, files: Mapping[str, Path]) -> None:
        places = {name: (self._path(name), path) for name, path in files.items()}
        await asyncio.to_thread(self._adopt, places)

    async def copy(self, name: str, path: Path) -> None:
        blob = self._path(name)
        with _refusals(name):
            await asyncio.to_thread(_copy, blob, path)

    async def info(self, name: str) -> BlobInfo | None:
        path = self._path(name)
        try:
            with _refusals(name):
                return await asyncio.to_thread(lambda: _info(_regular(path)))
        except NotFound:
            return None

    async def list(self, prefix: str) -> AsyncIterator[str]:
        folder = prefix.rpartition("/")[0]
        if folder and not _is_name(folder):
            return
        # Depth first with names in order, a folder's compared with its slash: that is the order of the whole names.
        pending = [f"{folder}/" if folder else ""]
        while pending:
            name = pending.pop()
            if name and not name.endswith("/"):
                yield name
                continue
            entries = await asyncio.to_thread(_entries, self._folder, name)
            pending += reversed([entry for entry in entries if entry.startswith(prefix)])

    async def delete(self, name: str) -> None:
        path = self._path(name)
        with _refusals(name):
            await asyncio.to_thread(self._delete, path)

    def _path(self, name: str) -> Path:
        if not _is_name(name):
            raise Invalid(f"{name!r} is no name for a blob: no part between slashes may be empty, `.` or `..`.")
        return self._folder / name

    def _adopt(self, places: Mapping[str, tuple[Path, Path]]) -> None:
        changed = set()
        for name, (path, local) in places.items():
            with _refusals(name):
                _sync_file(local)
                self._move(local, path)
                changed.add(path.parent)
        for folder in changed:
            _sync(folder)

    def _finish(self, file: IO[bytes], unfinished: Path, path: Path) -> BlobInfo:
        file.flush()
        os.fsync(file.fileno())
        info = _info(os.fstat(file.fileno()))
        self._move(unfinished, path)
        _sync(path.parent)
        return info

    def _move(self, file: Path, path: Path) -> None:
        """Give a synced file its place; the folder has yet to be synced."""
        for _ in range(_ATTEMPTS):
            try:
                self._make_folder(path.parent)
                _replace(file, path, self._temporary)
            except FileNotFoundError:
                if not file.exists():
                    raise
                continue  # a deletion took the empty folder away in between
            return
        raise BlockingIOError(errno.EAGAIN, "its folder keeps being deleted")

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)

    def _delete(self, path: Path) -> None:
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return
        _sync(path.parent)
        for folder in path.parents:
            if folder == self._folder:
                return
            try:
                folder.rmdir()
            except OSError:
                return  # it holds other blobs


def _entries(root: Path, folder: str) -> list[str]:
    """What is in a folder, in order, each with the folder's name before it; a folder's name ends in a slash."""
    try:
        with os.scandir(root / folder) as entries:
            return sorted(folder + entry.name + ("/" if entry.is_dir() else "") for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_name(text: str) -> bool:
    return "\0" not in text and not any(part in ("", ".", "..") for part in text.split("/"))


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(file: Path, path: Path, temporary: Path) -> None:
    try:
        file.replace(path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # It lies on another file system: bring it here first.
        with tempfile.NamedTemporaryFile(prefix="blob-", dir=temporary, delete=False) as near:
            here = Path(near.name)
        try:
            shutil.copyfile(file, here)
            _sync_file(here)
            here.replace(path)
        finally:
            _discard(here)
        file.unlink()


def _copy(blob: Path, path: Path) -> None:
    _regular(blob)
    try:
        path.hardlink_to(blob)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copyfile(blob, path)


def _sync(folder: Path) -> None:
    with suppress(FileNotFoundError):  # whoever deleted it since has synced that
        sync_folder(folder)


def _discard(unfinished: Path) -> None:
    unfinished.unlink(missing_ok=True)  # it is gone already when it was moved to its place


def _read(path: Path, start: int, end: int | None) -> bytes:
    status = _regular(path)
    with path.open("rb") as file:
        file.seek(start)
        return file.read(max(0, (status.st_size if end is None else end) - start))


def _regular(path: Path) -> os.stat_result:
    if path.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return path.stat()


def _info(status: os.stat_result) -> BlobInfo:
    # A rewritten blob is another file, so the inode tells it apart even within one tick of the clock.
    etag = f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    return BlobInfo(status.st_size, etag, status.st_mtime_ns // 1_000)


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"There is no blob {name!r}.") from error
    except (IsADirectoryError, FileExistsError) as error:
        raise Conflict(f"{name!r} and another blob cannot both exist: one would be the other's folder.") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise Invalid(f"{name!r} is too long a name for a blob.") from error
        raise Unavailable(f"The blob {name!r} cannot be kept or read: {error.strerror}.") from error
