"""Who looks at the shared sheet now, and who of them does something.

Kept in the memory of the server: a restart ends every connection, so there is nothing to remember. The methods are
coroutines, so that an engine which several servers share fits behind the same names.
"""

import msgspec

from mainstem.clock import SECOND_US, Clock
from mainstem.ids import AccountId

PRESENT_S = 12 * 60
"""How long a connection that says nothing counts as somebody who is there."""
ACTIVE_S = 10 * 60
"""How long after the last thing that he did somebody counts as active; to say that one is there is doing nothing."""


class Person(msgspec.Struct, frozen=True):
    """Somebody as the others see him."""

    account: AccountId
    name: str


class Present(msgspec.Struct, frozen=True):
    """Somebody who is there."""

    person: Person
    inactive: bool


class _Visit(msgspec.Struct):
    person: Person
    connections: set[str]
    heard_us: int
    acted_us: int
    shown: bool = True
    """False: he went silent, and the others were told that he left."""


class Presence:
    """The people behind the connections of a sheet, each once, however many windows he has open.

    A person is there from his first connection to the end of the last, unless all of them are silent for 12 minutes; he
    is back with the next word.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._visits: dict[AccountId, _Visit] = {}
        self._connections: dict[str, AccountId] = {}

    async def join(self, connection: str, person: Person) -> bool:
        """Whether he has just come, and did not have another connection before."""
        now_us = self._clock()
        self._connections[connection] = person.account
        visit = self._visits.get(person.account)
        if visit is None:
            self._visits[person.account] = _Visit(person, {connection}, now_us, now_us)
            return True
        was_shown = visit.shown
        visit.person = person
        visit.connections.add(connection)
        visit.heard_us = visit.acted_us = now_us
        visit.shown = True
        return not was_shown

    async def hear(self, connection: str, *, acted: bool) -> Person | None:
        """Note that a connection said something; who has come back by that, if he had gone silent."""
        visit = self._visit_of(connection)
        if visit is None:
            return None
        visit.heard_us = self._clock()
        if acted:
            visit.acted_us = visit.heard_us
        was_shown, visit.shown = visit.shown, True
        return None if was_shown else visit.person

    async def leave(self, connection: str) -> Person | None:
        """Who has left with the end of this connection, if it was his last and the others believed him there."""
        visit = self._visit_of(connection)
        if visit is None:
            return None
        del self._connections[connection]
        visit.connections.discard(connection)
        if visit.connections:
            return None
        del self._visits[visit.person.account]
        return visit.person if visit.shown else None

    async def sweep(self) -> list[Person]:
        """Those who have been silent for too long since the last time, and no longer count."""
        before_us = self._clock() - PRESENT_S * SECOND_US
        gone = [visit for visit in self._visits.values() if visit.shown and visit.heard_us <= before_us]
        for visit in gone:
            visit.shown = False
        return [visit.person for visit in gone]

    async def people(self) -> list[Present]:
        """Everybody who is there, by number of account."""
        active_from_us = self._clock() - ACTIVE_S * SECOND_US
        shown = sorted(account for account, visit in self._visits.items() if visit.shown)
        return [
            Present(visit.person, inactive=visit.acted_us < active_from_us)
            for visit in (self._visits[account] for account in shown)
        ]

    def _visit_of(self, connection: str) -> _Visit | None:
        account = self._connections.get(connection)
        return None if account is None else self._visits.get(account)
