"""Opening all of a server's storage, and closing it in reverse."""

import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mainstem.clock import Clock
from mainstem.errors import Unavailable
from mainstem.settings import Settings
from mainstem.storage.embedded.analytics import DuckAnalytics
from mainstem.storage.embedded.blobs import FolderBlobs
from mainstem.storage.embedded.log import EmbeddedLog, LogOptions
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


@asynccontextmanager
async def open_storage(settings: Settings, clock: Clock) -> AsyncIterator[Storage]:
    """The storage of the one server that may use `settings.data`, made at the first start and migrated when needed.

    Raises Unavailable while another server uses the folder.
    """
    layout = Layout(settings.data)
    layout.make()
    log_options = {name: getattr(settings, name) for name in LogOptions.__struct_fields__}
    async with AsyncExitStack() as stack:
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
        blobs = FolderBlobs(layout.blobs, layout.temporary)
        yield Storage(records=records, log=log, blobs=blobs, analytics=analytics, signals=LocalSignals(clock))


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
