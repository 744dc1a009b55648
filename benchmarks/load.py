"""Load: closed loops, where each connection asks again as soon as it is answered, and an open loop, where requests
come when they come and latency counts from the moment a request was due.

Everything is sent from prepared bytes, and answers are counted rather than read, so the generator takes as little of
the machine as it can. It does take some: wrk about a fifth of a core at full load, the loops here more.
"""

import asyncio
import gc
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, cast, override

import msgspec
import uvloop

from benchmarks.figures import percentile
from benchmarks.processes import HOST
from benchmarks.software import debian, run

TICK_S = 0.0005
ROTATE = Path(__file__).with_name("rotate.lua")
TOLD = Path(__file__).with_name("told.lua")


class Load(msgspec.Struct, frozen=True):
    """What came of a load."""

    answers: int
    seconds: float
    refused: int
    """Answers that say no."""
    broken: int
    """Connections that failed and requests that timed out."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    worst_ms: float

    @property
    def rate(self) -> float:
        """Requests a second; 0 when the server refused any, for then the figure means nothing."""
        return 0.0 if self.refused else self.answers / self.seconds


def summarize(latencies_s: Sequence[float], seconds: float, refused: int = 0) -> Load:
    p50, p95, p99, worst = (percentile(latencies_s, percent) * 1e3 for percent in (50, 95, 99, 100))
    return Load(len(latencies_s), seconds, refused, 0, p50, p95, p99, worst)


# wrk


class Wrk:
    """Debian's wrk with one thread, rotating over prepared bodies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._program = debian("wrk", ["wrk"])

    def bodies(self, name: str, bodies: Sequence[bytes]) -> Path:
        path = self._folder / f"{name}.bodies"
        with path.open("wb") as file:
            for body in bodies:
                file.write(b"%d\n" % len(body) + body)
        return path

    def post(self, url: str, bodies: Path, headers: Sequence[str], *, connections: int, seconds: float) -> Load:
        options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s", "-s", ROTATE]
        said = run(self._program.path, *options, url, "--", bodies, *headers)
        return msgspec.json.decode(said.strip().splitlines()[-1], type=Load)

    def get(self, url: str, *, connections: int, seconds: float) -> Load:
        """The same GET again and again."""
        options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s", "-s", TOLD]
        said = run(self._program.path, *options, url)
        return msgspec.json.decode(said.strip().splitlines()[-1], type=Load)


# Closed loop, any protocol


class Answers(Protocol):
    """Counts answers in the stream of bytes that a server sends on one connection."""

    def feed(self, data: bytes) -> int:
        """How many answers ended in these bytes."""

    @property
    def refused(self) -> int: ...


class HttpAnswers:
    """HTTP/1.1 answers that name their length."""

    def __init__(self) -> None:
        self.refused = 0
        self._rest = b""

    def feed(self, data: bytes) -> int:
        data, ended = self._rest + data, 0
        while (head := data.find(b"\r\n\r\n")) >= 0:
            end = head + 4 + self._content_length(data[:head])
            if len(data) < end:
                break
            self.refused += data[9:10] != b"2"
            ended += 1
            data = data[end:]
        self._rest = data
        return ended

    @staticmethod
    def _content_length(head: bytes) -> int:
        folded = head.lower()
        begin = folded.index(b"content-length:") + 15
        end = folded.find(b"\r", begin)
        return int(folded[begin : end if end >= 0 else len(folded)])


class _Caller(asyncio.Protocol):
    """One connection that sends a request, waits for all its answers, and sends the next."""

    def __init__(self, answers: Answers, per_request: int, requests: Iterator[bytes], deadline: float) -> None:
        self._answers = answers
        self._per_request = per_request
        self._requests = requests
        self._deadline = deadline
        self._missing = 0
        self._sent_at = 0.0
        self.latencies: list[float] = []
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is one only in effect
        self._ask()

    def _ask(self) -> None:
        self._sent_at = time.perf_counter()
        request = next(self._requests, None) if self._sent_at < self._deadline else None
        if request is None:
            self._transport.close()
            return
        self._missing = self._per_request
        self._transport.write(request)

    @override
    def data_received(self, data: bytes) -> None:
        self._missing -= self._answers.feed(data)
        if self._missing <= 0:
            self.latencies.append(time.perf_counter() - self._sent_at)
            self._ask()

    @override
    def connection_lost(self, error: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_result(None)


def closed_loop(
    port: int,
    answers: Callable[[], Answers],
    requests: Sequence[Iterator[bytes]],
    *,
    per_request: int = 1,
    seconds: float = 1e9,
) -> Load:
    """Run one connection for each iterator of requests until time or requests run out.

    The load's answers count requests, each of which the server answers `per_request` times. A connection that the
    server breaks ends early; what it got counts.
    """

    async def measure() -> Load:
        begin = time.perf_counter()
        callers = []
        for prepared in requests:
            counter = answers()
            caller = _Caller(counter, per_request, prepared, begin + seconds)
            await asyncio.get_running_loop().create_connection(lambda caller=caller: caller, HOST, port)  # type: ignore[misc]
            callers.append((caller, counter))
        await asyncio.wait([caller.finished for caller, _ in callers])
        latencies = [latency for caller, _ in callers for latency in caller.latencies]
        refused = sum(counter.refused for _, counter in callers)
        return summarize(latencies or [float("inf")], time.perf_counter() - begin, refused)

    with _no_collection():
        return uvloop.run(measure())


# Open loop, HTTP


class _Line(asyncio.Protocol):
    """One keep-alive connection of the open loop: free, or waiting for the answer to a request that was due."""

    def __init__(self, loop: "_OpenLoop") -> None:
        self._loop = loop
        self.answers = HttpAnswers()
        self.due = 0.0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    @override
    def data_received(self, data: bytes) -> None:
        if self.answers.feed(data):
            self._loop.answered(self)


class _OpenLoop:
    """Sends each request when it is due, or, when all lines are busy, as soon as one is free again."""

    def __init__(self, requests: Sequence[bytes], rate_per_s: float) -> None:
        self._requests = requests
        self._period = 1 / rate_per_s
        self._sent = 0
        self._free: deque[_Line] = deque()
        self._lines: list[_Line] = []
        self.latencies: list[float] = []

    async def run(self, port: int, connections: int, seconds: float, stop: threading.Event) -> Load:
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, line = await loop.create_connection(lambda: _Line(self), HOST, port)
            self._lines.append(line)
        self._free.extend(self._lines)
        total = int(seconds / self._period)
        begin = self._begin = time.perf_counter()
        # The loop's own timers are rounded to a millisecond; a thread that sleeps is exact to a tenth of one.
        ticker = threading.Thread(target=self._tick, args=(loop, total, stop), daemon=True)
        ticker.start()
        while ticker.is_alive() or len(self._free) < connections:
            await asyncio.sleep(0.01)
            if time.perf_counter() > begin + seconds + 10:
                break
        spent = time.perf_counter() - begin
        for line in self._lines:
            line.transport.close()
        return summarize(self.latencies or [float("inf")], spent, sum(line.answers.refused for line in self._lines))

    def _tick(self, loop: asyncio.AbstractEventLoop, total: int, stop: threading.Event) -> None:
        while self._sent < total and not stop.is_set():
            time.sleep(TICK_S)
            loop.call_soon_threadsafe(self._send, total)

    def _send(self, total: int) -> None:
        now = time.perf_counter()
        while self._free and self._sent < total:
            due = self._begin + self._sent * self._period
            if due > now:
                return
            line = self._free.popleft()
            line.due = due
            line.transport.write(self._requests[self._sent % len(self._requests)])
            self._sent += 1

    def answered(self, line: _Line) -> None:
        self.latencies.append(time.perf_counter() - line.due)
        self._free.append(line)


def open_loop(port: int, requests: Sequence[bytes], *, rate_per_s: float, seconds: float, connections: int) -> Load:
    """Offer whole HTTP requests at a steady rate. Latency counts from when a request was due, sent or not."""
    with _no_collection():
        return uvloop.run(_OpenLoop(requests, rate_per_s).run(port, connections, seconds, threading.Event()))


@contextmanager
def arriving(port: int, requests: Sequence[bytes], *, rate_per_s: float, connections: int) -> Iterator[list[Load]]:
    """Offer requests at a steady rate while the block runs; the list then holds what came of them."""
    stop, outcome = threading.Event(), list[Load]()

    def offer() -> None:
        loop = _OpenLoop(requests, rate_per_s).run(port, connections, 3_600, stop)
        outcome.append(uvloop.run(loop))

    thread = threading.Thread(target=offer)
    thread.start()
    try:
        yield outcome
    finally:
        stop.set()
        thread.join()


@contextmanager
def _no_collection() -> Iterator[None]:
    """A collection in the generator would show as latency of the server."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
