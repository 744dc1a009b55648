"""The composition root of processes that work beside the server: settings → records and blobs → one trade or all.

`serve` starts one for each trade (`python -m mainstem.worker TRADE`, with the settings as the first line of standard
input); `mainstem work` is one that an operator starts.
"""

import asyncio
import ctypes
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import uvloop

from mainstem.catalogue import CheckerOptions, Reason, Result, Target, Verdict, keep_checking
from mainstem.children import Trade
from mainstem.clock import Clock, system_clock
from mainstem.errors import MainstemError
from mainstem.settings import Settings
from mainstem.storage import Records, Workplace, open_workplace
from mainstem.telemetry import configure_logging, get_logger
from mainstem.transcode import KIND as TRANSCODE
from mainstem.transcode import JobState, TranscodeHandler, state_of
from mainstem.transcode import Limits as JobLimits
from mainstem.work import Queue, Worker

logger = get_logger("mainstem.worker")

type Start = Callable[[Workplace, Queue, Settings, Clock], Coroutine[None, None, None]]
"""What a trade does, until it is cancelled."""


async def _check(place: Workplace, queue: Queue, settings: Settings, clock: Clock) -> None:
    options = CheckerOptions(**{name: getattr(settings, name) for name in CheckerOptions.__struct_fields__})
    await keep_checking(place.records, queue, clock, OwnJobs(place.records), options)


class OwnJobs:
    """What this server plays itself: the jobs behind stream-server's addresses."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def ask(self, target: Target) -> Verdict | None:
        """Live while the job is under way and its playlist grows; over when it is done.

        The host does not matter: a server has many names, and a job's id is one that nobody else has.
        """
        found = _OWN_PATH.match(target.path)
        state = await state_of(self._records, found[1]) if found else None
        if state is None:
            return None
        if state is JobState.PROCESSING:
            return Verdict(Result.LIVE, Reason.OWN_LIVE, explicit=True)
        return Verdict(Result.OFFLINE, Reason.OWN_OFFLINE, explicit=state is not JobState.PENDING)


_OWN_PATH = re.compile(r"/v1/stream/(?:hls|live)/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/")


async def _transcode(place: Workplace, queue: Queue, settings: Settings, clock: Clock) -> None:
    handler = TranscodeHandler(
        place.records, place.blobs, queue, clock, scratch=place.scratch, limits=JobLimits.of(settings)
    )
    # An operator who starts workers by hand wants work done, whatever the server's own child is told.
    at_once = settings.transcode_jobs or 1
    await Worker(queue, {TRANSCODE: handler}, concurrency={TRANSCODE: at_once}).run()


_TRADES: Mapping[Trade, Start] = {Trade.CHECK: _check, Trade.TRANSCODE: _transcode}


def run(settings: Settings, trades: Sequence[Trade]) -> None:
    """Work at these trades until SIGTERM or SIGINT. Raises Unavailable where no server has made the data folder yet."""
    configure_logging(settings.log_level, settings.log_format, process="work")
    uvloop.run(_until_told(settings, trades, asyncio.Event()))


def main(arguments: Sequence[str]) -> int:
    """A child of a server, which ends with it: by SIGTERM, by the end of standard input, or with its parent."""
    _die_with_parent()
    (trade,) = map(Trade, arguments)
    settings = msgspec.json.decode(sys.stdin.buffer.readline(), type=Settings, dec_hook=_path)
    configure_logging(settings.log_level, settings.log_format, process=trade)

    async def work() -> None:
        left_alone = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_watch_input(left_alone))
            await _until_told(settings, [trade], left_alone)
            watching.cancel()

    status = 0
    try:
        uvloop.run(work())
    except* MainstemError as errors:
        logger.error("cannot work", errors=[str(error) for error in errors.exceptions])
        status = 1
    return status


async def _until_told(settings: Settings, trades: Sequence[Trade], told: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for end in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(end, told.set)
    async with open_workplace(settings) as place:
        queue = Queue(place.records, system_clock)
        async with asyncio.TaskGroup() as group:
            working = [group.create_task(_TRADES[trade](place, queue, settings, system_clock)) for trade in trades]
            logger.info("working", trades=list(trades), data=str(settings.data))
            await told.wait()
            # Whoever cannot let go in time is left to the end of his lease.
            late = loop.call_later(settings.shutdown_timeout_s, os._exit, 1)
            for task in working:
                task.cancel()
        late.cancel()
    logger.info("stopped")


async def _watch_input(ended: asyncio.Event) -> None:
    """Whoever started us holds the other end, and writes nothing more: its end is his."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    with suppress(OSError):
        while await reader.read(4_096):
            pass
    ended.set()


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when our parent dies. Where it cannot, the end of standard input tells us."""
    if sys.platform == "linux":
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)


def _path(kind: type, value: object) -> object:
    assert kind is Path
    return Path(str(value))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
