"""P14: from the acknowledgement of an event to each of a thousand who read along, over both kinds of connection."""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import cast, override

import numpy as np
import uvloop
from numpy.typing import NDArray

from benchmarks import events
from benchmarks.figures import Figure, at_most
from benchmarks.ingest import MAINSTEM
from benchmarks.load import HttpAnswers
from benchmarks.processes import HOST
from benchmarks.server import EVENTS_PATH, Server
from benchmarks.software import Missing
from benchmarks.stage import Stage
from benchmarks.table import Row, megabytes, milliseconds, row

READERS = 1_000
RATE_PER_S = 1_000

_ID = b'"event_id":"evt_'
_DIGITS = 10
_MASK = b"\0\0\0\0"

type Acks = list[tuple[int, float]]
"""Sequence numbers, and when the publisher learnt that the event is durable."""


def tails(stage: Stage) -> Iterator[Row]:
    """P14: 1,000 readers of one stream at 1,000 events a second."""
    seconds = 2 * stage.scale.round_s
    for kind, connect in (("SSE", _ask_for_events), ("WebSocket", _ask_for_socket)):
        p95s, p50s, memory = [], [], []
        with stage.fresh_server() as server:
            server.post(EVENTS_PATH, {"stream_id": "live", "event_type": "first"})
            before = server.process.rss_bytes()
            for _ in range(stage.scale.rounds):
                delays = _round(server, connect(server), seconds)
                p50s.append(float(np.percentile(delays, 50)) * 1e3)
                p95s.append(float(np.percentile(delays, 95)) * 1e3)
                memory.append((server.process.rss_peak_bytes() - before) / 1e6)
        what = f"{READERS:,} {kind} readers at {RATE_PER_S:,} ev/s"
        yield row("P14", f"{what}: ack to reader, p50", MAINSTEM, Figure(tuple(p50s)), milliseconds)
        yield row("P14", f"{what}: ack to reader, p95", MAINSTEM, Figure(tuple(p95s)), milliseconds, at_most(100))
        yield row("P14", f"{what}: memory for them", MAINSTEM, Figure((max(memory),)), megabytes)


def _ask_for_events(server: Server) -> bytes:
    lines = ["GET /v2/streams/live/events HTTP/1.1", f"Host: {HOST}", f"X-API-Key: {server.key}"]
    return "\r\n".join([*lines, "Accept: text/event-stream", "", ""]).encode()


def _ask_for_socket(server: Server) -> bytes:
    lines = ["GET /v2/ws HTTP/1.1", f"Host: {HOST}", f"X-API-Key: {server.key}", "Upgrade: websocket"]
    lines += ["Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    return "\r\n".join([*lines, "", ""]).encode()


_SUBSCRIBE = b'{"op":"subscribe","stream_id":"live"}'
_SUBSCRIBE_FRAME = bytes([0x81, 0x80 | len(_SUBSCRIBE)]) + _MASK + _SUBSCRIBE


class _Reader(asyncio.Protocol):
    """Notes which events came when; it takes apart no more of them than that needs."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._rest = b""
        self.seen: list[tuple[int, int, float]] = []
        """First and last of some neighbouring events, and when they were there."""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    @override
    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self.ready.done():
            if b" 101 " in data[:20]:
                self.transport.write(_SUBSCRIBE_FRAME)
            elif b"subscribed" in data or b"tail begins" in data:
                self.ready.set_result(None)
            return
        data = self._rest + data
        first, last = data.find(_ID), data.rfind(_ID)
        # What begins with the last id counts when the next bytes come, unless its end is here.
        is_whole = data.endswith((b"\n\n\r\n", b"]}"))
        begin = last if last >= 0 and not is_whole else len(data)
        if first >= 0 and first < begin:
            last = data.rfind(_ID, 0, begin)
            self.seen.append((_number(data, first), _number(data, last), now))
        self._rest = b"" if is_whole else data[begin:] if last >= 0 else data[-64:]

    def has(self, seq: int) -> bool:
        return bool(self.seen) and self.seen[-1][1] >= seq


def _number(data: bytes, place: int) -> int:
    return int(data[place + len(_ID) : place + len(_ID) + _DIGITS])


def _round(server: Server, request: bytes, seconds: float) -> NDArray[np.float64]:
    """Seconds from ack to reader, for each event and each reader. Raises Missing when a reader missed any."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as beside:
        beside.submit(time.sleep, 0).result()

        async def measure() -> tuple[Acks, list[_Reader]]:
            loop = asyncio.get_running_loop()
            readers = [_Reader(request) for _ in range(READERS)]
            for reader in readers:
                await loop.create_connection(lambda reader=reader: reader, HOST, server.port)  # type: ignore[misc]
            await asyncio.gather(*(reader.ready for reader in readers))
            acks = await loop.run_in_executor(beside, publish, server.port, server.key, seconds)
            deadline = loop.time() + 5
            while not all(reader.has(acks[-1][0]) for reader in readers) and loop.time() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            for reader in readers:
                reader.transport.close()
            return acks, readers

        acks, readers = uvloop.run(measure())
    first = acks[0][0]
    moments = np.array([moment for _, moment in sorted(acks)])
    delays = []
    for reader in readers:
        known = first
        for begin, end, moment in reader.seen:
            if begin != known:
                raise Missing(f"a reader saw event {begin} where {known} was due")
            known = end + 1
            delays.append(np.maximum(moment - moments[begin - first : end + 1 - first], 0))
        if known != first + len(acks):
            raise Missing(f"a reader saw {known - first} of {len(acks)} events")
    return np.concatenate(delays)


def publish(port: int, key: str, seconds: float) -> Acks:
    """Send single events at a steady rate, in a process of its own, and note when each was acknowledged."""
    rows = events.make(RATE_PER_S, seed=3, first_us=time.time_ns() // 1_000, step_us=1_000)
    head = f"POST {EVENTS_PATH} HTTP/1.1\r\nHost: {HOST}\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"
    bodies = [events.http_single("live", event) for event in rows]
    requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
    return uvloop.run(_publish(port, requests, seconds))


class _Publisher(asyncio.Protocol):
    def __init__(self, acks: Acks) -> None:
        self._answers = HttpAnswers()
        self._acks = acks

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    @override
    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        place = data.find(_ID)
        while place >= 0:
            self._acks.append((_number(data, place), now))
            place = data.find(_ID, place + 1)


async def _publish(port: int, requests: list[bytes], seconds: float) -> Acks:
    acks: Acks = []
    loop = asyncio.get_running_loop()
    lines = [(await loop.create_connection(lambda: _Publisher(acks), HOST, port))[1] for _ in range(256)]
    begin, sent, total = time.perf_counter(), 0, int(RATE_PER_S * seconds)
    while sent < total:
        due = int((time.perf_counter() - begin) * RATE_PER_S)
        while sent < min(due, total):
            lines[sent % len(lines)].transport.write(requests[sent % len(requests)])
            sent += 1
        await asyncio.sleep(0.001)
    deadline = loop.time() + 5
    while len(acks) < total and loop.time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    if len(acks) < total:
        raise Missing(f"{len(acks)} of {total} events were acknowledged")
    return sorted(acks)
