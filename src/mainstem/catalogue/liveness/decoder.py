"""Whether bytes that a stranger sent are sound or picture: asked of FFmpeg, in a child that may crash or hang.

The child gets bytes, never an address, so it needs no network and has no say in where we connect.
"""

import asyncio
import struct
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from mainstem.catalogue.liveness.environment import bare_environment

DECODE_S = 10.0
_CHILD = Path(__file__).with_name("decoding.py")
"""Run as a file: a child must not wait for the database's library, nor have it in memory."""
_LENGTH = struct.Struct("!I")


class Decoder:
    """One child that decodes samples one after the other; a new one is started after a hang or a crash.

    Close it at the end.
    """

    def __init__(self, timeout_s: float = DECODE_S) -> None:
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()
        self._child: Process | None = None

    async def decode(self, sample: bytes) -> bool:
        """Whether a frame of sound or picture can be decoded. A sample over which the child dies cannot."""
        async with self._turn:
            child = self._child or await self._start()
            self._child = child
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await _asked(child, sample)
            except (TimeoutError, OSError, asyncio.IncompleteReadError):
                await self._end()
                return False
            except asyncio.CancelledError:
                await self._end()  # its answer to this sample must not be taken for that to the next
                raise

    async def close(self) -> None:
        await self._end()

    async def _start(self) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            str(_CHILD),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=bare_environment(),
            start_new_session=True,
        )

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            if child.returncode is None:
                child.kill()
            await child.wait()


async def _asked(child: Process, sample: bytes) -> bool:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(_LENGTH.pack(len(sample)) + sample)
    await child.stdin.drain()
    return await child.stdout.readexactly(1) == b"1"
