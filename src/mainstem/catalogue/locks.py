"""Locks on the cells of the shared sheet: who is typing where, so that two people do not overwrite each other.

Kept in the memory of the server like presence, and for the same reason; a lock that is lost costs one repeated click.
"""

from typing import NamedTuple

import msgspec

from mainstem.catalogue.presence import Person
from mainstem.clock import SECOND_US, Clock
from mainstem.errors import Conflict, Exhausted

LOCK_S = 30
LOCKS_PER_CONNECTION_MAX = 20


class Cell(NamedTuple):
    """One fact of one listing."""

    listing: int
    field: str


class CellLock(msgspec.Struct, frozen=True):
    """A cell is somebody's until a moment, unless he renews it."""

    cell: Cell
    person: Person
    connection: str
    until_us: int


class CellLocked(Conflict):
    """Somebody else has the cell."""

    def __init__(self, lock: CellLock) -> None:
        super().__init__(f"This cell is being edited by {lock.person.name}")
        self.lock = lock


class TooManyLocks(Exhausted):
    """The connection holds as many cells as one may."""

    def __init__(self) -> None:
        super().__init__(f"You hold {LOCKS_PER_CONNECTION_MAX} cells: let one go first")


class CellLocks:
    """At most one lock a cell. It is the person's, from whichever of his connections; it ends with the connection that
    took or renewed it last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._locks: dict[Cell, CellLock] = {}
        self._cells: dict[str, set[Cell]] = {}  # of each connection

    async def take(self, cell: Cell, person: Person, connection: str) -> CellLock:
        """Take the cell for 30 s, or renew it. Raises CellLocked, TooManyLocks."""
        now_us = self._clock()
        held = self._locks.get(cell)
        if held is not None and held.until_us > now_us and held.person.account != person.account:
            raise CellLocked(held)
        mine = self._cells.get(connection, set())
        if cell not in mine and len(mine) >= LOCKS_PER_CONNECTION_MAX:
            raise TooManyLocks
        if held is not None:
            self._forget(held)
        lock = CellLock(cell, person, connection, now_us + LOCK_S * SECOND_US)
        self._locks[cell] = lock
        self._cells.setdefault(connection, set()).add(cell)
        return lock

    async def holds(self, cell: Cell, person: Person) -> bool:
        lock = self._locks.get(cell)
        return lock is not None and lock.person.account == person.account and lock.until_us > self._clock()

    async def release(self, cell: Cell, person: Person) -> CellLock | None:
        """The lock that ended; None: he had none."""
        lock = self._locks.get(cell)
        if lock is None or lock.person.account != person.account:
            return None
        self._forget(lock)
        return lock

    async def release_all(self, connection: str) -> list[CellLock]:
        """The locks that ended with the connection."""
        ended = [self._locks[cell] for cell in sorted(self._cells.get(connection, ()))]
        for lock in ended:
            self._forget(lock)
        return ended

    async def sweep(self) -> list[CellLock]:
        """The locks that ran out since the last time."""
        now_us = self._clock()
        ended = [lock for lock in self._locks.values() if lock.until_us <= now_us]
        for lock in ended:
            self._forget(lock)
        return ended

    async def held(self) -> list[CellLock]:
        """Every lock that counts now."""
        now_us = self._clock()
        return [lock for lock in self._locks.values() if lock.until_us > now_us]

    def _forget(self, lock: CellLock) -> None:
        del self._locks[lock.cell]
        cells = self._cells[lock.connection]
        cells.discard(lock.cell)
        if not cells:
            del self._cells[lock.connection]
