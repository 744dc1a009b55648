"""A file that somebody sends: taken in to disk, and looked at before anything is promised."""

import asyncio
import errno
import hashlib
import os
import tempfile
from pathlib import Path

from mainstem.errors import Unavailable
from mainstem.telemetry import get_logger
from mainstem.transcode.audio import Media
from mainstem.transcode.child import Broken, Found, Spec
from mainstem.transcode.children import running
from mainstem.transcode.model import NotAudio, TooLarge
from mainstem.transcode.run import Limits
from mainstem.transcode.sandbox import Allowance

logger = get_logger("mainstem.transcode")

PROBE_S = 10.0

_ALLOWANCE = Allowance(memory_bytes=1 << 30, cpu_s=int(PROBE_S), file_bytes=64 << 10, files=32)
_BUFFER_BYTES = 1 << 20


class Upload:
    """A file that arrives: written to disk, counted and hashed. End it by `Transcodes.accept` or `abort`."""

    def __init__(self, filename: str, folder: Path, bytes_max: int, disk_free_bytes_min: int) -> None:
        self.filename = filename
        self.size = 0
        self._bytes_max = bytes_max
        self._disk_free_bytes_min = disk_free_bytes_min
        self._file = tempfile.NamedTemporaryFile(prefix="upload-", dir=folder, delete=False)  # noqa: SIM115
        self._hash = hashlib.sha256()
        self._buffer = bytearray()

    @property
    def path(self) -> Path:
        return Path(self._file.name)

    async def write(self, chunk: bytes) -> None:
        """The next bytes of it. Raises TooLarge as soon as there are too many, Unavailable when the disk takes none."""
        self.size += len(chunk)
        if self.size > self._bytes_max:
            await self.abort()
            raise TooLarge(f"The file is larger than the {self._bytes_max} bytes that are taken.")
        self._buffer += chunk
        if len(self._buffer) >= _BUFFER_BYTES:
            await self._flush()

    async def finish(self) -> bytes:
        """All has come; its SHA-256. The file is closed, and still where it was."""
        await self._flush()
        await asyncio.to_thread(self._file.close)
        return self._hash.digest()

    async def abort(self) -> None:
        """Nothing of it is kept. Again, or after it was accepted: nothing happens."""
        self._buffer.clear()
        await asyncio.to_thread(self._discard)

    async def _flush(self) -> None:
        buffer, self._buffer = self._buffer, bytearray()
        try:
            await asyncio.to_thread(self._write, buffer)
        except OSError as error:
            await self.abort()
            raise Unavailable(f"The file cannot be kept: {error.strerror}.") from error

    def _write(self, buffer: bytearray) -> None:
        status = os.statvfs(self.path.parent)
        if status.f_bavail * status.f_frsize < self._disk_free_bytes_min + len(buffer):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._hash.update(buffer)
        self._file.write(buffer)
        self._file.flush()

    def _discard(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


async def probe(path: Path, size: int, limits: Limits) -> Media:
    """What a file is, by a child process that may do nothing but read it. Raises NotAudio."""
    if not size:
        raise NotAudio("The file is empty.")
    spec = Spec(source=str(path), duration_max_s=limits.duration_max_s, allowance=_ALLOWANCE)
    try:
        async with asyncio.timeout(PROBE_S), running(spec) as child:
            last = await child.last()
            if last is None:
                logger.warning("probe died", bytes=size, status=await child.status(), said=child.said())
    except TimeoutError:
        last = None
    match last:
        case Found():
            media = last.media
        case Broken():
            raise NotAudio(last.message)
        case _:
            raise NotAudio("The file cannot be read: it takes too long, or too much memory.")
    if media.duration_s is not None and media.duration_s > limits.duration_max_s:
        raise NotAudio(f"It lasts longer than the {limits.duration_max_s:g} s that are taken.")
    return media
