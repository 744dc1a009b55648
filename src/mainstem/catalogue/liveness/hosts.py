"""Manners towards the hosts that are asked: never many requests at once, and a rest for a host that is unwell.

A host that fails again and again, or that asks to be left alone, is not asked at all for a while. Whoever would have
asked it learns that at once, and its listings keep their status.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mainstem.catalogue.liveness.address import Unreachable
from mainstem.catalogue.liveness.verdict import Reason

FAILURES_UNTIL_REST = 5
REST_S, REST_S_MAX = 30.0, 900.0
RETRY_AFTER_S_MAX = 3_600.0
_HOSTS_MAX = 10_000


class _Host:
    def __init__(self, at_once: int) -> None:
        self.places = asyncio.Semaphore(at_once)
        self.here = 0
        """How many ask it or wait for a place."""
        self.failures = 0
        self.rest_s = REST_S
        self.rests_until = 0.0


class Hosts:
    """Who may ask which host now. It forgets hosts that nobody asked of late, beyond 10,000."""

    def __init__(self, *, at_once: int = 2, wait_s: float = 10.0, now: Callable[[], float] = time.monotonic) -> None:
        self._at_once = at_once
        self._wait_s = wait_s
        self._now = now
        self._hosts: dict[str, _Host] = {}

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[None]:
        """Hold one of the host's few places; raises Unreachable: HOST_RESTS at once, HOST_BUSY after waiting."""
        known = self._known(host)
        self._look_awake(known, host)
        known.here += 1
        try:
            try:
                async with asyncio.timeout(self._wait_s):
                    await known.places.acquire()
            except TimeoutError as error:
                raise Unreachable(Reason.HOST_BUSY, host, retry_s=self._wait_s) from error
            try:
                self._look_awake(known, host)  # it may have failed while we waited
                yield
            finally:
                known.places.release()
        finally:
            known.here -= 1

    def worked(self, host: str) -> None:
        known = self._known(host)
        known.failures = 0
        known.rest_s = REST_S

    def failed(self, host: str, retry_after_s: float | None = None) -> None:
        """The host was unwell. It rests after several failures in a row, or at once for as long as it asked for."""
        known = self._known(host)
        known.failures += 1
        if retry_after_s is not None:
            known.rests_until = self._now() + min(retry_after_s, RETRY_AFTER_S_MAX)
        elif known.failures >= FAILURES_UNTIL_REST and known.rests_until <= self._now():
            known.rests_until = self._now() + known.rest_s
            known.rest_s = min(known.rest_s * 2, REST_S_MAX)

    @property
    def resting(self) -> int:
        """How many hosts rest now."""
        now = self._now()
        return sum(known.rests_until > now for known in self._hosts.values())

    def _look_awake(self, known: _Host, host: str) -> None:
        rest_s = known.rests_until - self._now()
        if rest_s > 0:
            raise Unreachable(Reason.HOST_RESTS, host, retry_s=rest_s)

    def _known(self, host: str) -> _Host:
        known = self._hosts.pop(host, None)
        if known is None:
            known = _Host(self._at_once)
            if len(self._hosts) >= _HOSTS_MAX:
                self._forget_one()
        self._hosts[host] = known  # at the end: the order is that of the last use
        return known

    def _forget_one(self) -> None:
        now = self._now()
        for host, known in self._hosts.items():
            if known.here == 0 and known.rests_until <= now:
                del self._hosts[host]
                return
