"""The far side of a check: servers on loopback that answer well, badly, or not at all, and a live source that moves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from mainstem.clock import SECOND_US, Clock, rfc3339

type Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

PLAYLIST = "application/vnd.apple.mpegurl"


def page(body: str | bytes, status: int = 200, media_type: str = "text/html", **headers: str) -> bytes:
    """An ordinary answer. Underscores in names of headers stand for hyphens."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(content)}", f"Content-Type: {media_type}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


class FarSide:
    """A server whose answers a test chooses, byte for byte, by path."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[str] = []
        self.heads: list[str] = []
        self.at_once_max = 0
        self._at_once = 0
        self._handlers: dict[str, Handler] = {}

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def says(self, path: str, *answers: bytes | Callable[[], bytes]) -> None:
        """Answer so at this path: each in turn, and the last one from then on."""
        left = list(answers)

        async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            answer = left.pop(0) if len(left) > 1 else left[0]
            writer.write(answer if isinstance(answer, bytes) else answer())

        self._handlers[path] = handle

    def does(self, path: str, handler: Handler) -> None:
        self._handlers[path] = handler

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._at_once += 1
        self.at_once_max = max(self.at_once_max, self._at_once)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                path = head.split(" ")[1]
                self.asked.append(path)
                self.heads.append(head)
                await self._handlers[path](reader, writer)
                await writer.drain()
        finally:
            self._at_once -= 1
            writer.close()


@asynccontextmanager
async def listening(handler: Handler, port: int = 0) -> AsyncIterator[int]:
    """A TCP server on this port of loopback, or a free one; its port. What it still does at the end is cut off."""
    running: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await handler(reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            running.discard(task)
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in running:
            task.cancel()
        await server.wait_closed()


@asynccontextmanager
async def far_side() -> AsyncIterator[FarSide]:
    far = FarSide()
    async with listening(far) as far.port:
        yield far


class HlsSource:
    """A live encoder: a segment is added whenever one is due by the clock, and old ones go."""

    def __init__(self, clock: Clock, *, segment_s: float = 4, window: int = 6, dated: bool = False) -> None:
        self.ended = False
        self._clock = clock
        self._segment_s = segment_s
        self._window = window
        self._dated = dated
        self._began_us = clock() - int(100 * segment_s * SECOND_US)
        self._stopped_us: int | None = None

    def stop(self) -> None:
        """The encoder dies; the playlist stays as it is."""
        self._stopped_us = self._clock()

    def text(self) -> str:
        now_us = self._clock() if self._stopped_us is None else self._stopped_us
        made = int((now_us - self._began_us) / SECOND_US / self._segment_s)
        first = max(0, made - self._window)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{round(self._segment_s)}"]
        lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
        for number in range(first, made):
            if self._dated:
                began_us = self._began_us + int(number * self._segment_s * SECOND_US)
                lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{rfc3339(began_us)}")
            lines += [f"#EXTINF:{self._segment_s:.3f},", f"segment{number}.ts"]
        if self.ended:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"

    def answer(self) -> bytes:
        return page(self.text(), media_type=PLAYLIST)
