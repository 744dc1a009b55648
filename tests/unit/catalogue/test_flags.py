"""Feature flags: when a gate is open, and that every process knows."""

from collections.abc import Iterator
from zlib import crc32

import msgspec
import pytest

from mainstem.catalogue import Feature, FeatureOff, Flags, Gate
from mainstem.catalogue.flags import FEATURES_MAX, is_open
from mainstem.clock import FixedClock
from mainstem.errors import Denied, Exhausted
from mainstem.identity import OPERATOR, Principal
from mainstem.ids import AccountId
from mainstem.storage import Records

NEVER, ALWAYS = 0.999_999, 0.0
"""What chance says."""


def number(account: int) -> Principal:
    return msgspec.structs.replace(OPERATOR, account=AccountId(account), is_admin=False)


@pytest.mark.parametrize("percentage", [0, 0.001, 1, 33.3, 50, 99.999, 100])
def test_a_percentage_of_actors_is_exact(percentage: float) -> None:
    """Each actor has a place from 0 to 99,999, from the checksum of the flag's name and his own."""
    feature = Feature("thing", percentage_of_actors=percentage)
    for account in range(8, 2_008):
        place = crc32(b"thingUser:%d" % account) % 100_000
        assert is_open(feature, number(account), NEVER) is (place < percentage * 1_000), account


def test_more_percent_take_nobody_out() -> None:
    """Whoever was in stays in."""
    people = [number(account) for account in range(8, 1_008)]
    before: set[int] = set()
    for percentage in range(0, 101, 10):
        feature = Feature("thing", percentage_of_actors=percentage)
        now = {person.account for person in people if is_open(feature, person, NEVER)}
        assert before <= now
        before = {int(account) for account in now}
    assert len(before) == len(people)


def test_a_percentage_of_time_is_a_matter_of_chance() -> None:
    """For everybody alike."""
    feature = Feature("thing", percentage_of_time=10)
    assert is_open(feature, None, 0.099_9)
    assert not is_open(feature, None, 0.1)
    assert not is_open(Feature("thing"), None, ALWAYS)


def test_nobody_in_particular_passes_gates_for_all_alone() -> None:
    """Maintenance, for one, is asked about without a caller."""
    for feature in (
        Feature("thing", actors=frozenset({"User:8"})),
        Feature("thing", groups=frozenset({"admins"})),
        Feature("thing", percentage_of_actors=100),
    ):
        assert not is_open(feature, None, NEVER)
        assert is_open(feature, msgspec.structs.replace(OPERATOR, account=AccountId(8)), NEVER)
    assert is_open(Feature("thing", boolean=True), None, NEVER)


@pytest.mark.parametrize(
    ("feature", "state"),
    [
        (Feature("thing"), "off"),
        (Feature("thing", boolean=True), "on"),
        (Feature("thing", percentage_of_actors=100), "on"),
        (Feature("thing", percentage_of_time=100), "on"),
        (Feature("thing", percentage_of_time=1), "conditional"),
        (Feature("thing", actors=frozenset({"User:8"})), "conditional"),
    ],
)
def test_a_state_says_how_much_is_on(feature: Feature, state: str) -> None:
    assert feature.state == state


async def test_another_process_knows_within_half_a_second(records: Records, clock: FixedClock, flags: Flags) -> None:
    """Whoever changes a flag knows at once."""
    elsewhere = Flags(records, clock)
    assert not await elsewhere.is_on("maintenance_mode")
    await flags.enable(OPERATOR, "maintenance_mode")

    assert await flags.is_on("maintenance_mode")
    clock.advance(0.5)
    assert await elsewhere.is_on("maintenance_mode")


async def test_chance_is_asked_each_time(records: Records, clock: FixedClock) -> None:
    chances: Iterator[float] = iter([0.0, 0.9, 0.3])
    flags = Flags(records, clock, lambda: next(chances))
    await flags.enable(OPERATOR, "thing", Gate(percentage_of_time=50))

    assert [await flags.is_on("thing") for _ in range(3)] == [True, False, True]


async def test_what_is_off_is_refused_by_name(flags: Flags, ada: Principal) -> None:
    with pytest.raises(FeatureOff, match="never_heard_of"):
        await flags.require("never_heard_of", ada)
    await flags.require("stream_export", ada)


async def test_only_administrators_change_flags(flags: Flags, ada: Principal, administrator: Principal) -> None:
    for change in (flags.enable, flags.disable, flags.clear):
        with pytest.raises(Denied):
            await change(ada, "stream_export")
        await change(administrator, "stream_export")


async def test_there_is_a_limit_to_how_many_flags_there_are(flags: Flags) -> None:
    """So that nobody fills the memory of every process with them."""
    known = len(await flags.all())
    for count in range(FEATURES_MAX - known):
        await flags.enable(OPERATOR, f"thing_{count}")
    with pytest.raises(Exhausted):
        await flags.enable(OPERATOR, "one_too_many")
    assert len(await flags.all()) == FEATURES_MAX
