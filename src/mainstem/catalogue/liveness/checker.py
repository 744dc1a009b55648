"""The checker: takes what is due, checks it, tells what was found, once a second.

Checks run side by side, many of them waiting for answers; the number is bounded, and so is what waits for one host. A
stop gives back what is not finished, and a crash costs nothing but the time of a lease.
"""

import asyncio

from mainstem.catalogue.liveness.checks import Checks, DueCheck, Found
from mainstem.catalogue.liveness.probing import Prober
from mainstem.clock import Clock
from mainstem.errors import Unavailable
from mainstem.telemetry import get_logger

logger = get_logger("mainstem.liveness")

AT_ONCE = 256
EXCHANGE_EVERY_S = 1.0


class Checker:
    """Keeps the catalogue true, until cancelled."""

    def __init__(
        self,
        checks: Checks,
        prober: Prober,
        clock: Clock,
        *,
        at_once: int = AT_ONCE,
        every_s: float = EXCHANGE_EVERY_S,
    ) -> None:
        self._checks = checks
        self._prober = prober
        self._clock = clock
        self._at_once = at_once
        self._every_s = every_s
        self._running: dict[DueCheck, asyncio.Task[None]] = {}
        self._found: list[Found] = []
        self._unfinished: list[DueCheck] = []

    async def run(self) -> None:
        """Check what is due, again and again. While the database cannot be written, nothing new is begun."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    try:
                        await self.turn(group)
                    except Unavailable as error:
                        logger.warning("checks wait", error=str(error))
                    await asyncio.sleep(self._every_s)
        finally:
            await self._leave()

    async def turn(self, group: asyncio.TaskGroup) -> None:
        """Tell what was found since the last turn, and begin what is due."""
        found, self._found = self._found, []
        try:
            due = await self._checks.exchange(found, self._at_once - len(self._running))
        except BaseException:  # of what was kept nevertheless, the lease is gone, and so it is not kept twice
            self._found = found + self._found
            raise
        for one in due:
            self._running[one] = group.create_task(self._check(one))

    async def _check(self, due: DueCheck) -> None:
        try:
            verdict = await self._prober.check(due.link, due.trace)
        except asyncio.CancelledError:
            self._unfinished.append(due)
            raise
        finally:
            del self._running[due]
        self._found.append(Found(due, verdict, self._clock()))
        logger.debug("checked", listing=due.listing, result=verdict.result, reason=verdict.reason)

    async def _leave(self) -> None:
        """Keep what was found, and let others have the rest: the group has ended all checks by now."""
        found, self._found = self._found, []
        try:
            await self._checks.exchange(found, room=0)
            await self._checks.give_back(self._unfinished)
        except Unavailable as error:
            logger.warning("checks are left to their leases", error=str(error))
