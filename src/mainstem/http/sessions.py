"""Those who stay on: sockets and tails, which last longer than what was true when they began."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from mainstem.clock import Clock
from mainstem.errors import MainstemError, Unauthenticated, Unavailable
from mainstem.identity import Directory, Principal
from mainstem.telemetry import Family, single

_LOOK_EVERY_S = 0.5

type Check = Callable[[Principal], Awaitable[object]]


class Session:
    """One of those who stay. `checks` are asked with the principal, and raise where something may no longer be."""

    def __init__(
        self,
        principal: Principal,
        authenticate: Callable[[], Awaitable[Principal]],
        end: Callable[[MainstemError], None],
    ) -> None:
        self.principal = principal
        self.epoch: int | None = None
        """What was looked at last; None: look soon, for something may have changed since the answer was found."""
        self.authenticate = authenticate
        self.end = end
        self.checks: list[Check] = []

    def add_check(self, check: Check) -> None:
        self.checks.append(check)
        self.epoch = None


class Sessions:
    """Looks again at everybody who stays when an account, a key or a right has changed or a credential has expired, and
    lets them go when the server stops."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._sessions: dict[Session, None] = {}
        self._unnamed: dict[object, Callable[[MainstemError], None]] = {}
        self._stopping = False

    @contextmanager
    def stay(
        self,
        principal: Principal,
        authenticate: Callable[[], Awaitable[Principal]],
        end: Callable[[MainstemError], None],
    ) -> Iterator[Session]:
        """Be one of them for the block. `end` is called when it must not go on, with why."""
        session = Session(principal, authenticate, end)
        self._sessions[session] = None
        if self._stopping:
            end(_stopping())
        try:
            yield session
        finally:
            del self._sessions[session]

    @contextmanager
    def stay_unnamed(self, end: Callable[[MainstemError], None]) -> Iterator[None]:
        """As `stay`, for somebody who had to show nothing: only the server's stop ends it."""
        key = object()
        self._unnamed[key] = end
        if self._stopping:
            end(_stopping())
        try:
            yield
        finally:
            del self._unnamed[key]

    async def watch(self) -> None:
        """Runs until cancelled. What changes often is looked at no more than twice a second."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            for session in list(self._sessions):
                epoch = self._directory.epoch
                if session in self._sessions and (session.epoch != epoch or self._has_expired(session.principal)):
                    await self._look_at(session, epoch)

    def families(self) -> Iterator[Family]:
        """What /metrics tells of them."""
        yield single("live_connections", "gauge", "WebSockets and tails that are open.", self._count)

    @property
    def _count(self) -> int:
        return len(self._sessions) + len(self._unnamed)

    def stop(self) -> None:
        """Let everybody go: the server stops."""
        self._stopping = True
        for end in list(self._unnamed.values()):
            end(_stopping())
        for session in list(self._sessions):
            session.end(_stopping())

    def _has_expired(self, principal: Principal) -> bool:
        return principal.expires_us is not None and self._clock() >= principal.expires_us

    async def _look_at(self, session: Session, epoch: int) -> None:
        session.epoch = epoch  # at first: a check that is added meanwhile is looked at again
        try:
            session.principal = await session.authenticate()
            if self._has_expired(session.principal):
                raise Unauthenticated("The credential has expired: use another")
            for check in list(session.checks):
                await check(session.principal)
        except Unavailable:
            session.epoch = None  # nothing is known to have changed: look again soon
        except MainstemError as error:
            session.end(error)


def _stopping() -> Unavailable:
    return Unavailable("The server is shutting down: connect again shortly", retry_after_s=1)
