"""Ignore lists, many entries at a time."""

import asyncio

from mainstem.catalogue import IgnoreChanges, IgnoreLists
from mainstem.catalogue.ignore import BULK_MAX
from mainstem.clock import FixedClock
from mainstem.identity import Principal
from mainstem.storage import Records


def domain(number: int) -> IgnoreChanges:
    return IgnoreChanges(list_type="domain", value=f"WWW.{number}.example")


async def test_a_thing_is_listed_once_however_far_apart_it_is_named(
    records: Records, clock: FixedClock, administrator: Principal
) -> None:
    """The entries come in the order in which they were given."""
    lists = IgnoreLists(records, clock)
    before = await lists.create(administrator, domain(7))
    made = await lists.create_many(administrator, [domain(number % 1_000) for number in range(1_500)])

    assert [entry.value for entry in made.created] == [f"{number}.example" for number in range(1_000) if number != 7]
    assert [entry.id for entry in made.created] == list(range(before.id + 1, before.id + 1_000))
    assert len(made.failed) == 501
    assert made.failed[0] == ("WWW.7.example", ["Value has already been taken"])


async def test_others_write_while_many_entries_are_made(
    records: Records, clock: FixedClock, administrator: Principal
) -> None:
    lists = IgnoreLists(records, clock)
    making = asyncio.create_task(lists.create_many(administrator, [domain(number) for number in range(BULK_MAX)]))
    await lists.create(administrator, IgnoreChanges(list_type="url", value="first.example"))

    assert not making.done()
    assert len((await making).created) == BULK_MAX
