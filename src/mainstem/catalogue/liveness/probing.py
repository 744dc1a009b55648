"""One check of one link: the ways to find out, in order, until one can tell.

Our own streams are asked of the engine. RTMP and RTSP are played. The pages of platforms are asked as their adapters
say. Everything else is fetched, and is what it turns out to be: a playlist, a medium, a page. Libraries that know
platforms have the last word when all this could not tell.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Protocol

from mainstem.catalogue.liveness import rtmp, rtsp
from mainstem.catalogue.liveness.address import Target, Unreachable, target_of
from mainstem.catalogue.liveness.connection import Dialer
from mainstem.catalogue.liveness.direct import DirectMedia
from mainstem.catalogue.liveness.fetch import Fetcher
from mainstem.catalogue.liveness.hosts import Hosts
from mainstem.catalogue.liveness.own import OwnStreams
from mainstem.catalogue.liveness.platforms import Adapter, adapter_for, read
from mainstem.catalogue.liveness.verdict import Reason, Result, Verdict, unknown
from mainstem.telemetry import get_logger

logger = get_logger("mainstem.liveness")

CHECK_S_MAX = 90.0
"""No check takes longer, whatever it waits for: the playlist that has to be watched included."""

_WORTH_A_SECOND_OPINION = frozenset({Reason.CHALLENGE, Reason.DENIED, Reason.BROKEN_ANSWER, Reason.NO_ADAPTER})
"""Not after an error, a time-out or a rest: whoever is unwell is not asked by somebody else instead."""


class Library(Protocol):
    """A library that knows platforms."""

    async def ask(self, target: Target) -> Verdict: ...


class Prober:
    """Checks links. Everything that a check may use is handed in, and is shared by all of them."""

    def __init__(
        self,
        *,
        own: OwnStreams,
        dialer: Dialer,
        hosts: Hosts,
        fetcher: Fetcher,
        direct: DirectMedia,
        libraries: Sequence[Library] = (),
        timeout_s: float = 10.0,
    ) -> None:
        self._own = own
        self._dialer = dialer
        self._hosts = hosts
        self._fetcher = fetcher
        self._direct = direct
        self._libraries = libraries
        self._timeout_s = timeout_s

    async def check(self, link: str, trace: str | None = None) -> Verdict:
        """What is known of a link now; `trace` is that of the check before. Never raises for what a link does."""
        try:
            async with asyncio.timeout(CHECK_S_MAX):
                return await self._check(target_of(link), trace)
        except Unreachable as error:
            return unknown(error.reason, retry_s=error.retry_s)
        except TimeoutError:
            return unknown(Reason.TIMED_OUT)
        except Exception:
            # A bug of ours, met by one link, must not end the checks of all others; the log has it, and the listing.
            logger.exception("check failed")
            return unknown(Reason.CHECK_FAILED)

    async def _check(self, target: Target, trace: str | None) -> Verdict:
        own = await self._own.ask(target)
        if own is not None:
            return own
        if target.scheme in {"rtmp", "rtmps"}:
            async with self._hosts.turn(target.authority):
                return await self._noted(target, rtmp.check(self._dialer, target, self._timeout_s))
        if target.scheme in {"rtsp", "rtsps"}:
            async with self._hosts.turn(target.authority):
                return await self._noted(target, rtsp.check(self._dialer, target, self._timeout_s))
        adapter = adapter_for(target)
        if adapter is not None:
            return await self._platform(adapter, target)
        found = await self._direct.check(target, trace)
        if isinstance(found, Verdict):
            return found
        adapter = adapter_for(found)
        assert adapter is not None, "that is why it was answered"
        return await self._platform(adapter, found)

    async def _noted(self, target: Target, checking: Coroutine[None, None, Verdict]) -> Verdict:
        """What a player found, and told to the host's record."""
        try:
            verdict = await checking
        except Unreachable as error:
            if error.reason is not Reason.FORBIDDEN_ADDRESS:
                self._hosts.failed(target.authority)
            raise
        self._hosts.worked(target.authority)
        return verdict

    async def _platform(self, adapter: Adapter, target: Target, *, moved: bool = False) -> Verdict:
        verdict = unknown(Reason.NO_ADAPTER)
        steps = adapter.steps(target)
        for step in steps:
            try:
                answer = await self._fetcher.get(step.target, step.accept)
            except Unreachable as error:
                verdict = unknown(error.reason, retry_s=error.retry_s)
                continue
            if step.target == target != answer.target and not moved and _asks_elsewhere(adapter, answer.target):
                return await self._platform(adapter, answer.target, moved=True)
            verdict = read(answer, step)
            if verdict.result is not Result.UNKNOWN:
                return verdict
        if steps and verdict.reason in _WORTH_A_SECOND_OPINION:
            for library in self._libraries:
                second = await library.ask(target)
                if second.result is not Result.UNKNOWN:
                    return second
        return verdict


def _asks_elsewhere(adapter: Adapter, target: Target) -> bool:
    """Where a short link led is the same platform's, and is asked in another way than by reading that page."""
    return adapter_for(target) is adapter and any(step.target != target for step in adapter.steps(target))
