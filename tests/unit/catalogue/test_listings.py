"""Listings as the rest of the server asks for them: who may what, what is told, and who comes first when many come."""

import asyncio
from typing import Any

import msgspec
import pytest

from mainstem.catalogue import (
    ListingChanges,
    ListingNotFound,
    Listings,
    NotAllowed,
    PageRequest,
    PlaceDraft,
    Platform,
    Status,
    StreamerChanges,
    Streamers,
)
from mainstem.clock import FixedClock
from mainstem.errors import InvalidFields
from mainstem.identity import Principal, Scope
from mainstem.work import Queue

LINK = "https://www.tiktok.com/@ada.l/live"


def described(**fields: Any) -> ListingChanges:
    return ListingChanges(**{"source": "Ada", "link": LINK, **fields})


async def told(queue: Queue) -> list[tuple[str, dict[str, Any]]]:
    """What was announced since the last time: event types and data."""
    tasks = await queue.lease(["announce"], lease_s=60, count=1_000)
    events = [event for task in tasks for event in msgspec.json.decode(task.payload)]
    async with queue.begin() as tx:
        for task in tasks:
            await queue.finish(tx, task)
    return [(event["event_type"].removeprefix("listing."), event["data"]) for event in events]


async def types_told(queue: Queue) -> list[str]:
    return [kind for kind, _ in await told(queue)]


# Who may


async def test_editors_change_their_own_and_administrators_everything(
    listings: Listings, ada: Principal, bob: Principal, administrator: Principal
) -> None:
    made = await listings.create(ada, described())

    with pytest.raises(NotAllowed):
        await listings.update(bob, made.id, ListingChanges(title="mine"))
    assert (await listings.update(ada, made.id, ListingChanges(title="1"))).title == "1"
    assert (await listings.update(administrator, made.id, ListingChanges(title="2"))).title == "2"


async def test_readers_make_nothing_and_change_nothing_even_of_their_own(
    listings: Listings, ada: Principal, reader: Principal
) -> None:
    made = await listings.create(ada, described())
    lowered = msgspec.structs.replace(reader, account=ada.account)

    with pytest.raises(NotAllowed):
        await listings.create(reader, described())
    for work in (
        listings.update(lowered, made.id, ListingChanges(title="x")),
        listings.pin(lowered, made.id, pinned=True),
        listings.archive(lowered, made.id, archived=True),
        listings.delete(lowered, made.id),
    ):
        with pytest.raises(NotAllowed):
            await work
    assert await listings.get(reader, made.id) == made


async def test_what_is_not_there_is_told_before_who_may_and_that_before_what_is_wrong(
    listings: Listings, ada: Principal, bob: Principal
) -> None:
    made = await listings.create(ada, described())
    wrong = ListingChanges(kind="nothing")

    with pytest.raises(ListingNotFound):
        await listings.update(bob, 999, wrong)
    with pytest.raises(NotAllowed):
        await listings.update(bob, made.id, wrong)
    with pytest.raises(InvalidFields, match="Kind is not included in the list"):
        await listings.update(ada, made.id, wrong)


async def test_a_credential_for_something_else_sees_nothing(listings: Listings, ada: Principal) -> None:
    made = await listings.create(ada, described())

    for limited in (
        msgspec.structs.replace(ada, topics=frozenset({"one"})),
        msgspec.structs.replace(ada, scopes=frozenset({Scope.EVENTS_WRITE})),
    ):
        with pytest.raises(NotAllowed):
            await listings.get(limited, made.id)
        with pytest.raises(NotAllowed):
            await listings.page(limited, PageRequest())


async def test_archived_listings_are_in_lists_of_administrators_alone(
    listings: Listings, ada: Principal, administrator: Principal
) -> None:
    made = await listings.create(ada, described())
    await listings.archive(ada, made.id, archived=True)

    assert (await listings.page(ada, PageRequest())).total == 0
    assert (await listings.page(administrator, PageRequest())).total == 1
    assert (await listings.get(ada, made.id)).is_archived


# What is told


async def test_every_change_is_told_with_the_row(listings: Listings, queue: Queue, ada: Principal) -> None:
    made = await listings.create(ada, described(status="live"))
    await listings.update(ada, made.id, ListingChanges(status="offline", title="over"))
    await listings.pin(ada, made.id, pinned=True)
    await listings.archive(ada, made.id, archived=True)
    await listings.click(ada, made.id)
    await listings.delete(ada, made.id)

    events = await told(queue)
    kinds = ["created", "live", "updated", "offline", "updated", "updated", "archived", "clicked", "deleted"]
    assert [kind for kind, _ in events] == kinds
    assert all(data["id"] == made.id and data["by"] == ada.account for _, data in events)
    assert events[2][1]["changes"].items() >= {"status": "offline", "title": "over"}.items()
    assert events[3][1] == {"id": made.id, "by": ada.account, "status": "offline", "was": "live"}


async def test_what_changes_nothing_is_not_told(listings: Listings, queue: Queue, ada: Principal) -> None:
    made = await listings.create(ada, described(title="x"))
    await types_told(queue)

    assert await listings.update(ada, made.id, ListingChanges(title="x")) == made
    assert await types_told(queue) == []


async def test_what_is_refused_leaves_nothing_behind(
    listings: Listings, streamers: Streamers, queue: Queue, ada: Principal
) -> None:
    for wrong in (described(kind="x"), described(streamer=77), described(location=77)):
        with pytest.raises(InvalidFields):
            await listings.create(ada, wrong)

    assert await types_told(queue) == []
    assert (await streamers.page(ada)).total == 0


async def test_long_texts_are_cut_in_what_is_told(listings: Listings, queue: Queue, ada: Principal) -> None:
    await listings.create(ada, described(notes="ä" * 65_535, title="ä" * 1_000, link=LINK + "?" + "a" * 8_000))
    ((_, data),) = await told(queue)
    assert len(data["changes"]["notes"]) == 2_000


# Who is behind it


async def test_a_listing_finds_its_streamer_by_the_account_in_the_link(
    listings: Listings, streamers: Streamers, ada: Principal
) -> None:
    first = await listings.create(ada, described(source="Ada Lovelace"))
    second = await listings.create(ada, described(source="Another title"))

    assert first.streamer == second.streamer
    assert first.streamer is not None
    streamer = await streamers.get(ada, first.streamer.id)
    assert (streamer.name, streamer.listings) == ("Ada Lovelace", 2)
    assert [(one.platform, one.username) for one in streamer.accounts] == [(Platform.TIKTOK, "ada.l")]


async def test_or_by_his_name_in_any_case_and_gets_to_know_his_other_accounts(
    listings: Listings, streamers: Streamers, ada: Principal
) -> None:
    first = await listings.create(ada, described(source="Ada"))
    second = await listings.create(ada, described(source=" ADA ", link="https://twitch.tv/countess"))

    assert first.streamer is not None
    assert first.streamer == second.streamer
    accounts = (await streamers.get(ada, first.streamer.id)).accounts
    assert [one.profile_url for one in accounts] == ["https://www.tiktok.com/@ada.l", "https://www.twitch.tv/countess"]


async def test_deleting_a_streamer_deletes_his_listings_and_tells_it(
    listings: Listings, streamers: Streamers, queue: Queue, ada: Principal, administrator: Principal
) -> None:
    made = await listings.create(ada, described())
    assert made.streamer is not None

    with pytest.raises(NotAllowed):
        await streamers.delete(ada, made.streamer.id)
    await streamers.delete(administrator, made.streamer.id)

    assert await listings.find(made.id) is None
    assert await types_told(queue) == ["created", "deleted"]


async def test_city_and_state_are_a_place_as_well(listings: Listings, ada: Principal) -> None:
    first = await listings.create(ada, described(city="Austin", state="TX"))
    second = await listings.create(ada, described(city=" austin", state="tx "))
    assert first.location == second.location
    assert first.location is not None

    moved = await listings.update(ada, first.id, ListingChanges(city="Dallas"))
    assert moved.location is not None
    assert moved.location.normalized_name == "dallas, tx"
    assert (await listings.update(ada, first.id, ListingChanges(place=None))).location is None
    placed = await listings.update(ada, first.id, ListingChanges(place=PlaceDraft(city="Bonn", country="Germany")))
    assert placed.location is not None
    assert placed.location.normalized_name == "bonn, germany"


# Half an hour


async def a_streamer(streamers: Streamers, principal: Principal) -> int:
    return (await streamers.create(principal, StreamerChanges(name="Ada"))).id


@pytest.mark.parametrize(("age_s", "goes_on"), [(1_799, True), (1_800, False), (1_801, False)])
async def test_a_broadcast_goes_on_in_its_listing_within_half_an_hour(
    listings: Listings, streamers: Streamers, clock: FixedClock, ada: Principal, age_s: int, goes_on: bool
) -> None:
    streamer = await a_streamer(streamers, ada)
    first, is_new = await listings.continue_broadcast(ada, streamer, described())
    assert is_new
    clock.advance(age_s)

    second, is_new = await listings.continue_broadcast(ada, streamer, described(title="again"))

    assert is_new != goes_on
    assert (second.id == first.id) == goes_on
    assert second.started_us == (first.started_us if goes_on else clock.now_us)
    assert second.last_checked_us == second.last_live_us == clock.now_us
    assert (second.title, second.status) == ("again", Status.LIVE)


async def test_twenty_who_say_at_once_that_a_streamer_is_live_make_one_listing(
    listings: Listings, streamers: Streamers, ada: Principal
) -> None:
    streamer = await a_streamer(streamers, ada)

    answers = await asyncio.gather(*[listings.continue_broadcast(ada, streamer, described()) for _ in range(20)])

    assert sorted(is_new for _, is_new in answers) == [False] * 19 + [True]
    assert len({listing.id for listing, _ in answers}) == 1
    assert (await listings.page(ada, PageRequest())).total == 1


async def test_a_plain_creation_always_creates_and_one_that_may_continues(
    listings: Listings, streamers: Streamers, ada: Principal
) -> None:
    streamer = await a_streamer(streamers, ada)
    first = await listings.create(ada, described(streamer=streamer, status="live"))
    second = await listings.create(ada, described(streamer=streamer, status="live"))
    third = await listings.create(ada, described(streamer=streamer, status="live"), continues=True)
    fourth = await listings.create(ada, described(streamer=streamer), continues=True)

    assert first.id != second.id == third.id != fourth.id


async def test_a_new_listing_of_somebody_elses_streamer_belongs_to_who_made_it(
    listings: Listings, streamers: Streamers, ada: Principal, bob: Principal, administrator: Principal
) -> None:
    streamer = await a_streamer(streamers, ada)
    bobs, _ = await listings.continue_broadcast(bob, streamer, described())
    adas, is_new = await listings.continue_broadcast(ada, streamer, described())

    assert is_new
    assert (bobs.owner, adas.owner) == (bob.account, ada.account)


async def test_a_row_that_is_looked_at_all_day_begins_anew_in_the_evening(
    listings: Listings, clock: FixedClock, ada: Principal
) -> None:
    made = await listings.create(ada, described(status="live"))
    await listings.update(ada, made.id, ListingChanges(status="offline"))
    clock.advance(8 * 3_600)
    await listings.update(ada, made.id, ListingChanges(last_checked_us=clock.now_us))

    assert (await listings.update(ada, made.id, ListingChanges(status="live"))).started_us == clock.now_us


# The archive


async def test_the_sweep_archives_what_is_over_and_tells_it(
    listings: Listings, queue: Queue, clock: FixedClock, ada: Principal
) -> None:
    over = await listings.create(ada, described(status="offline"))
    live = await listings.create(ada, described(status="live"))
    pinned = await listings.create(ada, described(status="offline", is_pinned=True))
    tonight = await listings.create(ada, described())
    clock.advance(1_800)
    assert await listings.sweep() == 0
    clock.advance(1)
    await told(queue)

    assert await listings.sweep() == 1
    assert await listings.sweep() == 0

    swept = await listings.find(over.id)
    assert swept is not None
    assert (swept.is_archived, swept.ended_us) == (True, over.last_checked_us)
    assert [(kind, data["by"]) for kind, data in await told(queue)] == [("updated", None), ("archived", None)]
    for kept in (live, pinned, tonight):
        found = await listings.find(kept.id)
        assert found is not None
        assert not found.is_archived


async def test_the_sweep_gives_half_an_hour_to_what_was_taken_out_of_the_archive(
    listings: Listings, clock: FixedClock, ada: Principal
) -> None:
    made = await listings.create(ada, described(status="offline"))
    clock.advance(4_000)
    await listings.sweep()
    await listings.archive(ada, made.id, archived=False)

    clock.advance(1_800)
    assert await listings.sweep() == 0
    clock.advance(1)
    assert await listings.sweep() == 1


async def test_the_sweep_goes_on_until_nothing_is_over(listings: Listings, clock: FixedClock, ada: Principal) -> None:
    for _ in range(205):
        await listings.create(ada, described(status="offline"))
    clock.advance(1_801)
    assert await listings.sweep() == 205


# Many at once


async def test_pins_and_changes_at_once_are_all_kept(listings: Listings, ada: Principal) -> None:
    made = await listings.create(ada, described())

    await asyncio.gather(
        *[listings.pin(ada, made.id, pinned=True) for _ in range(5)],
        *[listings.update(ada, made.id, ListingChanges(title=str(number))) for number in range(5)],
        *[listings.update(ada, made.id, ListingChanges(notes="n", status="live")) for _ in range(5)],
    )

    after = await listings.get(ada, made.id)
    assert (after.is_pinned, after.notes, after.status) == (True, "n", Status.LIVE)
    assert after.title in set("01234")


async def test_of_many_who_delete_one_listing_one_does(listings: Listings, queue: Queue, ada: Principal) -> None:
    made = await listings.create(ada, described())

    answers = await asyncio.gather(*[listings.delete(ada, made.id) for _ in range(10)], return_exceptions=True)

    assert sum(isinstance(answer, ListingNotFound) for answer in answers) == 9
    assert (await types_told(queue)).count("deleted") == 1
