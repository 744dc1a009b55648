"""streamlink and yt-dlp, where they are installed (`pip install mainstem[platforms]`): a second opinion on platforms.

They block, and open connections of their own, so each question goes to a child process that is killed when it takes
too long, and only links on the hosts of known platforms are asked. What they raise never says Offline, but for the one
class that means nothing else.
"""

import asyncio
import importlib.util
import sys
from asyncio.subprocess import DEVNULL, PIPE
from typing import Literal

import msgspec

from mainstem.catalogue.liveness import asking
from mainstem.catalogue.liveness.address import Target
from mainstem.catalogue.liveness.asking import Told
from mainstem.catalogue.liveness.environment import bare_environment
from mainstem.catalogue.liveness.verdict import Reason, Verdict, live, offline, unknown

type Name = Literal["streamlink", "yt_dlp"]

LIBRARY_S = 15.0
_ANSWER_BYTES_MAX = 65_536


def installed() -> list[Name]:
    """The libraries there are, in the order in which they are asked: the quicker one first."""
    names: tuple[Name, ...] = ("streamlink", "yt_dlp")
    return [name for name in names if importlib.util.find_spec(name) is not None]


class PlatformLibrary:
    """Asks one library, one link at a time: each question costs a second or two of CPU."""

    def __init__(self, name: Name, timeout_s: float = LIBRARY_S) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()

    async def ask(self, target: Target) -> Verdict:
        """Its opinion of a link; Unknown when it fails, in whatever way, or has another question in hand."""
        if self._turn.locked():
            # A second opinion is not worth a queue, in which every check of a troubled platform would end up.
            return unknown(Reason.HOST_BUSY)
        async with self._turn:
            told = await self._told(target)
        match told.state:
            case "live":
                return live(Reason.SAYS_LIVE, 0.9)
            case "not_live" if may_say_offline(self._name, target):
                return offline(Reason.SAYS_OFFLINE, confidence=0.7)
        return unknown(Reason.CHECK_FAILED)

    async def _told(self, target: Target) -> Told:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            asking.__file__,
            self._name,
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=bare_environment(),
            start_new_session=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            async with asyncio.timeout(self._timeout_s):
                child.stdin.write(target.link.encode() + b"\n")
                child.stdin.write_eof()
                line = await child.stdout.read(_ANSWER_BYTES_MAX)
            return msgspec.json.decode(line, type=Told)
        except (TimeoutError, OSError, msgspec.MsgspecError):
            return Told("unknown")
        finally:
            if child.returncode is None:
                child.kill()
            await child.wait()


def may_say_offline(name: Name, target: Target) -> bool:
    """yt-dlp also says that a TikTok user is not live when it was shown a challenge or nothing at all."""
    return not (name == "yt_dlp" and target.host.endswith("tiktok.com"))


__all__ = ["LIBRARY_S", "Name", "PlatformLibrary", "Told", "installed", "may_say_offline"]
