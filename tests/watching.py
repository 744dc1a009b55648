"""Canaries: a file that must not be opened, and a port that must not be called. Linux only."""

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_IN_NONBLOCK = 0o4000
_IN_ACCESS, _IN_OPEN = 0x1, 0x20


class Canary:
    """Knows whether it was touched since it was asked last."""

    def __init__(self, path: Path, watch: int, listener: socket.socket) -> None:
        self.path = path
        self._watch = watch
        self._listener = listener

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def was_opened(self) -> bool:
        try:
            return bool(os.read(self._watch, 65_536))
        except BlockingIOError:
            return False

    def was_called(self) -> bool:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return False
        connection.close()
        return True


@contextmanager
def canary(folder: Path) -> Iterator[Canary]:
    """A file with a secret in it, and a port that listens."""
    libc = ctypes.CDLL(None, use_errno=True)
    path = folder / "canary.wav"
    path.write_bytes(b"a secret that nobody may see")
    watch = libc.inotify_init1(_IN_NONBLOCK)
    assert libc.inotify_add_watch(watch, str(path).encode(), _IN_OPEN | _IN_ACCESS) > 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        try:
            yield Canary(path, watch, listener)
        finally:
            os.close(watch)
