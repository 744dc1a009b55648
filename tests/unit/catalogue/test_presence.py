"""Who is there: the people behind connections, by a clock that only the test moves."""

import pytest

from mainstem.catalogue.presence import Person, Presence, Present
from mainstem.clock import FixedClock
from mainstem.ids import AccountId

ADA, BOB = Person(AccountId(9), "ada"), Person(AccountId(8), "bob")
MINUTE_S = 60


@pytest.fixture
def presence(clock: FixedClock) -> Presence:
    return Presence(clock)


async def test_a_person_is_there_once_however_many_windows_he_has(presence: Presence) -> None:
    """And the people are told by their number."""
    assert await presence.join("a1", ADA)
    assert not await presence.join("a2", ADA)
    assert await presence.join("b1", BOB)

    assert await presence.people() == [Present(BOB, inactive=False), Present(ADA, inactive=False)]


async def test_a_person_leaves_with_the_last_window(presence: Presence) -> None:
    """Not with the one before it."""
    await presence.join("a1", ADA)
    await presence.join("a2", ADA)

    assert await presence.leave("a1") is None
    assert await presence.leave("a2") == ADA
    assert await presence.people() == []
    assert await presence.leave("a2") is None


async def test_to_say_that_one_is_there_is_doing_nothing(presence: Presence, clock: FixedClock) -> None:
    """Ten minutes to the second are still active; only what somebody does makes him so again."""
    await presence.join("a", ADA)
    clock.advance(10 * MINUTE_S)
    await presence.hear("a", acted=False)
    assert await presence.people() == [Present(ADA, inactive=False)]

    clock.advance(1)
    await presence.hear("a", acted=False)
    assert await presence.people() == [Present(ADA, inactive=True)]

    await presence.hear("a", acted=True)
    assert await presence.people() == [Present(ADA, inactive=False)]


async def test_who_is_silent_for_twelve_minutes_is_gone_until_he_speaks(presence: Presence, clock: FixedClock) -> None:
    """His leaving and his return are told once each."""
    await presence.join("a", ADA)
    clock.advance(12 * MINUTE_S - 1)
    assert await presence.sweep() == []

    clock.advance(1)
    assert await presence.sweep() == [ADA]
    assert await presence.sweep() == []
    assert await presence.people() == []

    assert await presence.hear("a", acted=False) == ADA
    assert await presence.hear("a", acted=False) is None
    assert [present.person for present in await presence.people()] == [ADA]


async def test_who_left_in_silence_does_not_leave_again(presence: Presence, clock: FixedClock) -> None:
    """The others were told when he went silent."""
    await presence.join("a", ADA)
    clock.advance(12 * MINUTE_S)
    await presence.sweep()

    assert await presence.leave("a") is None
