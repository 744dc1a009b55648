"""Locks on cells, by a clock that only the test moves."""

import random

import pytest

from mainstem.catalogue.locks import LOCK_S, LOCKS_PER_CONNECTION_MAX, Cell, CellLocked, CellLocks, TooManyLocks
from mainstem.catalogue.presence import Person
from mainstem.clock import FixedClock
from mainstem.ids import AccountId

ADA, BOB = Person(AccountId(9), "ada"), Person(AccountId(8), "bob")
CELL, OTHER = Cell(1, "title"), Cell(1, "city")


@pytest.fixture
def locks(clock: FixedClock) -> CellLocks:
    return CellLocks(clock)


async def test_a_cell_is_one_persons(locks: CellLocks) -> None:
    """The other is told whose it is, and loses nothing of his own."""
    await locks.take(CELL, ADA, "a")
    with pytest.raises(CellLocked) as raised:
        await locks.take(CELL, BOB, "b")

    assert raised.value.lock.person == ADA
    assert await locks.holds(CELL, ADA)
    assert not await locks.holds(CELL, BOB)
    assert await locks.release(CELL, BOB) is None


async def test_a_lock_ends_after_thirty_seconds(locks: CellLocks, clock: FixedClock) -> None:
    """To the microsecond: from then on the cell is anybody's, even before anyone has looked."""
    await locks.take(CELL, ADA, "a")
    clock.now_us += LOCK_S * 1_000_000 - 1
    with pytest.raises(CellLocked):
        await locks.take(CELL, BOB, "b")

    clock.now_us += 1
    assert not await locks.holds(CELL, ADA)
    assert (await locks.take(CELL, BOB, "b")).person == BOB
    assert await locks.sweep() == []


async def test_to_take_a_cell_again_renews_it(locks: CellLocks, clock: FixedClock) -> None:
    """Thirty seconds count from the last time."""
    await locks.take(CELL, ADA, "a")
    clock.advance(20)
    await locks.take(CELL, ADA, "a")
    clock.advance(20)

    assert await locks.holds(CELL, ADA)
    clock.advance(10)
    assert [lock.cell for lock in await locks.sweep()] == [CELL]
    assert await locks.held() == []


async def test_locks_end_with_the_connection_that_took_them_last(locks: CellLocks) -> None:
    """A lock that was renewed from another window goes on when the first closes."""
    await locks.take(CELL, ADA, "a1")
    await locks.take(OTHER, ADA, "a1")
    await locks.take(CELL, ADA, "a2")

    assert [lock.cell for lock in await locks.release_all("a1")] == [OTHER]
    assert await locks.holds(CELL, ADA)
    assert [lock.cell for lock in await locks.release_all("a2")] == [CELL]


async def test_a_connection_holds_twenty_cells_at_most(locks: CellLocks) -> None:
    """Renewing one of them is no more, and letting one go makes room."""
    for number in range(LOCKS_PER_CONNECTION_MAX):
        await locks.take(Cell(number, "title"), ADA, "a")
    with pytest.raises(TooManyLocks):
        await locks.take(Cell(20, "title"), ADA, "a")

    await locks.take(Cell(0, "title"), ADA, "a")
    await locks.release(Cell(0, "title"), ADA)
    await locks.take(Cell(20, "title"), ADA, "a")


async def test_a_cell_never_has_two_holders(locks: CellLocks, clock: FixedClock) -> None:
    """Whatever three people do in whatever order: who believes that he holds a cell is the one the table names."""
    seed = 6
    chance = random.Random(seed)
    people = [Person(AccountId(number), str(number)) for number in range(3)]
    for _ in range(3_000):
        person, cell = chance.choice(people), Cell(chance.randrange(4), "title")
        match chance.randrange(5):
            case 0:
                clock.advance(chance.randrange(20))
            case 1:
                await locks.release(cell, person)
            case 2:
                await locks.release_all(person.name)
            case _:
                holders = [other for other in people if await locks.holds(cell, other)]
                is_free = not holders or holders == [person]
                try:
                    await locks.take(cell, person, person.name)
                except CellLocked:
                    assert not is_free, f"seed {seed}"
                else:
                    assert is_free, f"seed {seed}"
        held = [lock.cell for lock in await locks.held()]
        assert len(held) == len(set(held)), f"seed {seed}"
