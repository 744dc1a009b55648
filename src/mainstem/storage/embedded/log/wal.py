"""The write-ahead file, and the thread that writes and syncs it."""

import errno
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from mainstem.storage.columns import Chunk
from mainstem.storage.embedded.files import sync_folder
from mainstem.storage.embedded.log.frame import Buffer, Noted, encode

_BUFFERS_MAX = 1_024  # IOV_MAX on Linux

type Sync = Callable[[int], None]


class NoRoom(Exception):
    """Nothing was written, and the file is as it was: the same may succeed later."""


@dataclass(slots=True)
class Job:
    """What one commit writes. `path`: begin this file first."""

    arrived_us: int
    first_seq: int
    path: FilePath | None = None
    parts: list[tuple[int, Chunk | None, Noted | None]] = field(default_factory=list)
    """First sequence number, events, note."""


type Finished = Callable[[Job, BaseException | None, float], None]
"""Called in the commit thread: the job, why it failed, how many seconds it took."""


class Committer:
    """Writes jobs in the order given, one sync each, in a thread of its own.

    After a failed sync nobody knows what is on disk, so the thread refuses everything from then on.
    """

    def __init__(self, path: FilePath, size: int, sync: Sync, finished: Finished) -> None:
        self._sync = sync
        self._finished = finished
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        self._size = size
        self._broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="log-commit")
        self._thread.start()

    def put(self, job: Job) -> None:
        self._jobs.put(job)

    def close(self) -> None:
        """Finish what was put, then close the file. Blocks."""
        self._jobs.put(None)
        self._thread.join()
        os.close(self._descriptor)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            started = time.perf_counter()
            error: BaseException | None = None
            try:
                self._commit(job)
            except BaseException as caught:  # the thread must not die in silence: every job gets its answer
                error = caught
                if not isinstance(caught, NoRoom):
                    self._broken = caught
            self._finished(job, error, time.perf_counter() - started)

    def _commit(self, job: Job) -> None:
        if self._broken is not None:
            raise OSError(f"the log stopped: {self._broken}") from self._broken
        if job.path is not None:
            self._begin(job.path)
        if job.parts:
            buffers = [
                buffer
                for first_seq, chunk, noted in job.parts
                for buffer in encode(first_seq, job.arrived_us, chunk, noted)
            ]
            self._write(buffers)
            self._sync(self._descriptor)

    def _begin(self, path: FilePath) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        except OSError as error:
            raise NoRoom(str(error)) from error
        try:
            sync_folder(path.parent)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise NoRoom(str(error)) from error
            raise
        os.close(self._descriptor)
        self._descriptor, self._size = descriptor, 0

    def _write(self, buffers: Sequence[Buffer]) -> None:
        try:
            written = _write_all(self._descriptor, buffers)
        except OSError as error:
            os.ftruncate(self._descriptor, self._size)
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise NoRoom(str(error)) from error
            raise
        self._size += written


def _write_all(descriptor: int, buffers: Sequence[Buffer]) -> int:
    pending = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
    total = 0
    while pending:
        written = os.writev(descriptor, pending[:_BUFFERS_MAX])
        total += written
        while pending and written >= len(pending[0]):
            written -= len(pending.pop(0))
        if written:
            pending[0] = pending[0][written:]
    return total
