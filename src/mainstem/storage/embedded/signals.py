"""Signals within one process."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mainstem.clock import SECOND_US, Clock
from mainstem.storage.ports import Hit

BACKLOG_MAX = 1_000


class LocalSignals:
    """`Signals` for one event loop; nothing outlives the process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._readers: dict[str, set[_Backlog]] = {}
        self._windows: dict[int, tuple[int, dict[str, int]]] = {}

    def publish(self, channel: str, message: bytes) -> None:
        for backlog in self._readers.get(channel, ()):
            backlog.put(message)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[bytes]]:
        backlog = _Backlog()
        readers = self._readers.setdefault(channel, set())
        readers.add(backlog)
        try:
            yield backlog
        finally:
            readers.discard(backlog)
            if not readers and self._readers.get(channel) is readers:
                del self._readers[channel]

    def hit(self, key: str, window_s: int, by: int = 1) -> Hit:
        now_us = self._clock()
        window_us = window_s * SECOND_US
        index = now_us // window_us
        window = self._windows.get(window_s)
        if window is None or window[0] != index:
            # All windows of one length turn over together, so old counts are dropped with one assignment.
            window = self._windows[window_s] = (index, {})
        counts = window[1]
        counts[key] = count = counts.get(key, 0) + by
        return Hit(count, ((index + 1) * window_us - now_us) / SECOND_US)


class _Backlog:
    """What one reader has not taken yet: at most `BACKLOG_MAX` messages, the newest."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque(maxlen=BACKLOG_MAX)
        self._filled = asyncio.Event()

    def put(self, message: bytes) -> None:
        self._messages.append(message)
        self._filled.set()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._messages:
            self._filled.clear()
            await self._filled.wait()
        return self._messages.popleft()
