"""A job as it goes on, as server-sent events."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import msgspec

from mainstem.errors import MainstemError
from mainstem.faces.streamserver import wire
from mainstem.faces.streamserver.access import Access, Viewer, reader
from mainstem.http import Answer, Call, Sessions
from mainstem.identity import Principal
from mainstem.transcode import JobState, Progress, Transcodes

EVENT_STREAM = "text/event-stream"
HEARTBEAT_S = 15.0
RETRY_MS = 2_000

_SEEN = re.compile(r"([A-Z][a-z]{1,15})-([0-9]{1,9})-([0-9]{1,3}(?:\.[0-9]{1,6})?)")
_LAST: dict[str, str] = {JobState.COMPLETED: "completed", JobState.FAILED: "failed", JobState.CANCELLED: "cancelled"}


class Seen(NamedTuple):
    """What a client has been told; the id of an event says it, so that one who comes back need not be told again."""

    state: str = ""
    segments: int = 0
    progress: float = -1.0


class SegmentOut(msgspec.Struct):
    """More segments can be played: so many now."""

    job_id: str
    segments: int


class Follows:
    """Answers `GET /v1/stream/job/{job_id}/events`."""

    def __init__(self, transcodes: Transcodes, access: Access, sessions: Sessions, dates: wire.Dates) -> None:
        self._transcodes = transcodes
        self._access = access
        self._sessions = sessions
        self._dates: wire.Dates = dates

    async def answer(self, call: Call, viewer: Viewer, job: str) -> Answer:
        """How it stands, or what of that the client has not seen; then what happens, until the job is at its end.

        A browser that comes back after the end is told to stay away (204).
        """
        seen = _parse(call.headers.get("last-event-id", ""))
        if seen.state in _LAST:
            return Answer(204)
        steps = aiter(self._transcodes.follow(reader(viewer), job))
        first = await anext(steps)  # here, so that whoever may not see the job gets an ordinary answer
        # Without buffering by a proxy in between, which nginx asks for in a header of its own.
        headers = [("cache-control", "no-store"), ("x-accel-buffering", "no")]
        chunks = self._events(call, viewer, _Latest(first), steps, seen)
        return Answer(media_type=EVENT_STREAM, headers=headers, chunks=chunks, compress=False)

    async def _events(
        self, call: Call, viewer: Viewer, latest: "_Latest", steps: AsyncIterator[Progress], seen: Seen
    ) -> AsyncGenerator[bytes]:
        with self._staying(call, viewer, latest):
            reading = asyncio.create_task(latest.follow(steps))
            try:
                yield b"retry: %d\n\n" % RETRY_MS
                while not latest.is_over:
                    step = await latest.next()
                    if step is None:
                        yield b": still here\n\n"
                        continue
                    for event in self._new(step, seen):
                        yield event
                    seen = _seen(step)
                    if step.job.state.final:
                        return
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    def _staying(self, call: Call, viewer: Viewer, latest: "_Latest") -> AbstractContextManager[object]:
        if isinstance(viewer, Principal):
            return self._sessions.stay(viewer, lambda: self._access.again(call), latest.end)
        return self._sessions.stay_unnamed(latest.end)

    def _new(self, step: Progress, seen: Seen) -> Iterator[bytes]:
        """The events between what the client has seen and how it is now."""
        job = step.job
        if step.segments > seen.segments:
            yield _event("segment", seen._replace(segments=step.segments), SegmentOut(job.id, step.segments))
        name = _LAST.get(job.state, "progress")
        if _seen(step) != seen._replace(segments=step.segments):
            yield _event(name, _seen(step), wire.job_out(job, self._dates))


class _Latest:
    """How the job stands: a slow client is told of the last state, not of each that it missed."""

    def __init__(self, first: Progress) -> None:
        self.is_over = False
        self._step = first
        self._changed = asyncio.Event()
        self._changed.set()

    async def follow(self, steps: AsyncIterator[Progress]) -> None:
        try:
            async for step in steps:
                self._step = step
                self._changed.set()
        except MainstemError as error:  # the job is gone: a client that comes back is told so
            self.end(error)

    def end(self, error: MainstemError) -> None:
        self.is_over = True
        self._changed.set()

    async def next(self) -> Progress | None:
        """The state when it has changed; None: it has not for a while."""
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await self._changed.wait()
        except TimeoutError:
            return None
        self._changed.clear()
        return self._step


def _event(name: str, seen: Seen, data: object) -> bytes:
    id_ = f"{seen.state or JobState.PENDING.value}-{seen.segments}-{max(seen.progress, 0.0):g}"
    return b"event: %b\nid: %b\ndata: %b\n\n" % (name.encode(), id_.encode(), msgspec.json.encode(data))


def _seen(step: Progress) -> Seen:
    return Seen(step.job.state.value, step.segments, round(step.job.progress, 3))


def _parse(last_event_id: str) -> Seen:
    """What the client has seen; an id that we did not give counts as nothing."""
    match = _SEEN.fullmatch(last_event_id)
    return Seen(match[1], int(match[2]), float(match[3])) if match else Seen()
