"""Opening all of a server's storage, and closing it in reverse."""

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mainstem.clock import Clock
from mainstem.errors import Unavailable
from mainstem.settings import Settings
from mainstem.storage.embedded.blobs import FolderBlobs
from mainstem.storage.embedded.records import SqliteRecords
from mainstem.storage.embedded.signals import LocalSignals
from mainstem.storage.layout import Layout
from mainstem.storage.ports import Analytics, Blobs, Log, Records, Signals


@dataclass(frozen=True, slots=True)
class Storage:
    """The five ports of one server, open."""

    records: Records
    log: Log
    blobs: Blobs
    analytics: Analytics
    signals: Signals
    scratch: Path
    """A folder of this process alone, on the same file system as the blobs; gone when it ends."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """What processes have that work beside the server: never the log, which is the server's."""

    records: Records
    blobs: Blobs
    scratch: Path
    """As in `Storage`."""


@asynccontextmanager
async def open_storage(settings: Settings, clock: Clock) -> AsyncIterator[Storage]:
    """The storage of the one server that may use `settings.data`, made at the first start and migrated when needed.

    Raises Unavailable while another server uses the folder, and where the file system refuses what is needed.
    """
    # Here, for processes that open a workplace alone must not carry these: they are half of such a process.
    from mainstem.storage.embedded.analytics import DuckAnalytics
    from mainstem.storage.embedded.log import EmbeddedLog, LogOptions

    layout = Layout(settings.data)
    layout.make()
    log_options = {name: getattr(settings, name) for name in LogOptions.__struct_fields__}
    async with AsyncExitStack() as stack:
        with _refusing_plainly(layout):
            stack.enter_context(exclusive(layout.lock))
            layout.clear_temporary()
            records = SqliteRecords(layout.records)
            stack.push_async_callback(records.close)
            await records.migrate()
            await records.open()
            log = await stack.enter_async_context(EmbeddedLog.open(layout.log, LogOptions(**log_options), clock))
            analytics = DuckAnalytics(
                threads=settings.query_threads,
                memory_bytes=settings.query_memory_bytes,
                queries_max=settings.queries_max,
                temp_dir=layout.temporary / "queries",
            )
            stack.push_async_callback(analytics.close)
            own = stack.enter_context(scratch(layout))
            blobs = FolderBlobs(layout.blobs, layout.temporary)
        yield Storage(
            records=records, log=log, blobs=blobs, analytics=analytics, signals=LocalSignals(clock), scratch=own
        )


@asynccontextmanager
async def open_workplace(settings: Settings) -> AsyncIterator[Workplace]:
    """The storage of one of several processes that work on `settings.data`, whether its server runs or not.

    Raises Unavailable where no server has made the folder yet, Conflict when it is of another version.
    """
    layout = Layout(settings.data)
    async with AsyncExitStack() as stack:
        records = await stack.enter_async_context(SqliteRecords(layout.records))
        layout.make()
        own = stack.enter_context(scratch(layout))
        # What is not written yet lies here: a server that starts clears its own temporary folder.
        yield Workplace(records=records, blobs=FolderBlobs(layout.blobs, own), scratch=own)


@contextmanager
def _refusing_plainly(layout: Layout) -> Iterator[None]:
    """A full disk, or a folder of another user's, in a sentence for the operator. Raises Unavailable."""
    try:
        yield
    except OSError as error:
        where = error.filename or layout.data
        raise Unavailable(f"The data folder {layout.data} cannot be used: {where}: {error.strerror}.") from error
    except sqlite3.OperationalError as error:
        raise Unavailable(f"The data folder {layout.data} cannot be used: {error}.") from error


@contextmanager
def scratch(layout: Layout) -> Iterator[Path]:
    """A fresh folder for this process, removed at the end of the block; those of dead processes are removed, too."""
    with _locked(layout.scratch):
        for leftover in layout.scratch.iterdir():
            _remove_if_left(leftover)
        own = Path(tempfile.mkdtemp(dir=layout.scratch))
        descriptor = os.open(own, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        os.close(descriptor)


def _remove_if_left(folder: Path) -> None:
    """The kernel lets go of a folder's lock when its process dies."""
    try:
        with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return


@contextmanager
def _locked(folder: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file until the end of the block; the kernel lets go of it even when the process is killed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise Unavailable(
                f"Another mainstem server (process {holder}) uses the data folder {path.parent}:"
                " stop it, or give this one another folder with MAINSTEM_DATA."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
