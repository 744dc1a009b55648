"""The processes that a server starts to work beside it: kept running while it runs, and ended with it."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import StrEnum

import msgspec

from mainstem.settings import Settings
from mainstem.storage import Condition, Health
from mainstem.telemetry import Family, get_logger

logger = get_logger("mainstem.children")

BACK_OFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)
"""Pauses before a child that ended is started again, the last one from then on."""

STEADY_S = 60.0
"""A child that ran for so long is started again as if for the first time."""


class Trade(StrEnum):
    """What a process of its own is for."""

    TRANSCODE = "transcode"
    CHECK = "check"


def wanted(settings: Settings) -> list[Trade]:
    """The trades for which a server with these settings starts a child."""
    chosen = {Trade.TRANSCODE: settings.transcode_jobs > 0, Trade.CHECK: settings.check}
    return [trade for trade, is_wanted in chosen.items() if is_wanted]


class Child:
    """A process that is started again whenever it ends.

    It gets `first_line` on its standard input, which then stays open: its end tells the child that the server is gone,
    however that came. Its log goes where the server's goes.
    """

    def __init__(self, name: str, command: Sequence[str], first_line: bytes, stop_timeout_s: float) -> None:
        self.name = name
        self.starts = 0
        self.running = False
        self._stopping = asyncio.Event()
        self._command = command
        self._first_line = first_line
        self._stop_timeout_s = stop_timeout_s

    async def run(self) -> None:
        """Keep it running until told to stop, or cancelled; then ask it to end, and make it when it takes longer than
        allowed."""
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._stopping.is_set():
            started = loop.time()
            status = await self._run_once()
            if self._stopping.is_set():
                return
            failures = 0 if loop.time() - started >= STEADY_S else failures + 1
            pause_s = BACK_OFF_S[min(failures, len(BACK_OFF_S)) - 1] if failures else 0.0
            logger.error("child ended", child=self.name, status=status, again_in_s=pause_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    def stop(self) -> None:
        """Ask it to end, and do not start it again. `run` returns when it has ended."""
        self._stopping.set()

    async def _run_once(self) -> int | str:
        try:
            # In a session of its own: a Ctrl-C in the terminal is the server's to answer.
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=DEVNULL, start_new_session=True
            )
        except OSError as error:
            return str(error)
        self.starts += 1
        self.running = True
        logger.info("child started", child=self.name, pid=process.pid)
        try:
            assert process.stdin is not None
            with suppress(ConnectionError):
                process.stdin.write(self._first_line + b"\n")
                await process.stdin.drain()
            async with asyncio.TaskGroup() as group:
                stopping = group.create_task(self._end_when_told(process))
                status = await process.wait()
                stopping.cancel()
            return status
        finally:
            await self._end(process)
            self.running = False

    async def _end_when_told(self, process: Process) -> None:
        await self._stopping.wait()
        await self._end(process)

    async def _end(self, process: Process) -> None:
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self._stop_timeout_s):
                await process.wait()
        except TimeoutError:
            logger.warning("child killed", child=self.name, after_s=self._stop_timeout_s)
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Children:
    """All children of a server."""

    def __init__(self, settings: Settings) -> None:
        first_line = msgspec.json.encode(settings, enc_hook=str)
        self._children = [
            Child(
                trade, [sys.executable, "-P", "-m", "mainstem.worker", trade], first_line, settings.shutdown_timeout_s
            )
            for trade in wanted(settings)
        ]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for child in self._children:
                group.create_task(child.run())

    def stop(self) -> None:
        """Let them end while the server answers what is under way."""
        for child in self._children:
            child.stop()

    def health(self) -> Health:
        """Degraded while one that should run does not: what it is for waits, and nothing is lost."""
        missing = [child.name for child in self._children if not child.running]
        if not missing:
            return Health(Condition.HEALTHY)
        return Health(Condition.DEGRADED, f"No process runs for {' or '.join(missing)}: that work waits.")

    def families(self) -> Iterator[Family]:
        yield Family(
            "worker_processes",
            "gauge",
            "Whether the process for a kind of work runs: 1 or 0.",
            [({"kind": child.name}, int(child.running)) for child in self._children],
        )
        yield Family(
            "worker_starts_total",
            "counter",
            "How often it was started since the server was.",
            [({"kind": child.name}, child.starts) for child in self._children],
        )
