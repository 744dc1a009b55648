"""Starting the child process, listening to it, and ending it."""

import asyncio
import os
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import IO

import msgspec

from mainstem.transcode.child import Message, Spec

_COMMAND = (sys.executable, "-P", "-m", "mainstem.transcode.child")
_PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
"""What the child may know of our environment, which can hold secrets."""

_READ_BYTES = 1 << 16
_LINE_BYTES_MAX = 1 << 20
_SAID_BYTES = 2_000

_decode = msgspec.json.Decoder(Message).decode


class Child:
    """A running child."""

    def __init__(self, process: Process, errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors

    async def messages(self) -> AsyncIterator[list[Message]]:
        """What it tells, as much at a time as there is, until it ends. One that tells what is no message is killed: the
        file that it reads may have taken it over."""
        assert self._process.stdout is not None
        rest = b""
        while chunk := await self._process.stdout.read(_READ_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            try:
                told = [_decode(line) for line in lines]
            except msgspec.DecodeError:
                told = None
            if told is None or len(rest) > _LINE_BYTES_MAX:
                _kill(self._process)
                return
            if told:
                yield told

    async def last(self) -> Message | None:
        """Its last message, for one who waits for nothing else; None when it died without a word."""
        last = None
        async for told in self.messages():
            last = told[-1]
        return last

    def said(self) -> str:
        """The end of what it wrote to its standard error: nothing, unless a program is wrong."""
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _SAID_BYTES))
        return self._errors.read().decode(errors="replace")

    async def status(self) -> str:
        """How it ended, for people."""
        code = await self._process.wait()
        if code >= 0:
            return f"exit status {code}"
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"


@asynccontextmanager
async def running(spec: Spec) -> AsyncIterator[Child]:
    """A child with this to do. At the end of the block it is dead, and so is everything that it may have started."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment["OPENBLAS_NUM_THREADS"] = "1"
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            *_COMMAND, stdin=PIPE, stdout=PIPE, stderr=errors, env=environment, start_new_session=True
        )
        try:
            assert process.stdin is not None
            with suppress(ConnectionError):  # it is dead already: its output says no more
                process.stdin.write(msgspec.json.encode(spec))
                await process.stdin.drain()
            process.stdin.close()
            yield Child(process, errors)
        finally:
            _kill(process)
            await process.wait()


def _kill(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # it leads a session, so its group is its own
