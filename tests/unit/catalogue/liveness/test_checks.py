"""The schedule of checks and what becomes of their results, in real records on a clock that only the test moves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select, text, update

from catalogue import add_listings
from mainstem.catalogue.feed import Feed
from mainstem.catalogue.liveness import Checks, DueCheck, Found, Pace, Reason, Result, Verdict, live, offline, unknown
from mainstem.catalogue.liveness.checks import CONFIRM_S, LEASE_S, due_listings
from mainstem.catalogue.liveness.watch import ListingsWatch
from mainstem.catalogue.tables import listings
from mainstem.clock import SECOND_US, FixedClock
from mainstem.storage import Records, SqliteRecords
from mainstem.work import Queue

LINK = "https://example.com/live.m3u8"
SEEN = live(Reason.ADVANCES)
QUIET = offline(Reason.STANDS_STILL)
ENDED = offline(Reason.ENDED, explicit=True)
TROUBLE = unknown(Reason.CHALLENGE)


def new_checks(records: Records, queue: Queue, clock: FixedClock) -> Checks:
    return Checks(records, queue, clock, Pace(live_s=120, idle_s=420), chance=lambda: 0.5)


def always(chance: float) -> Callable[[], float]:
    return lambda: chance


@pytest.fixture
def checks(records: Records, queue: Queue, clock: FixedClock) -> Checks:
    return new_checks(records, queue, clock)


async def row_of(records: Records, listing: int) -> Any:
    async with records.read() as rows:
        return (await rows.execute(select(listings).where(listings.c.id == listing))).one()


async def check(checks: Checks, clock: FixedClock, verdict: Verdict) -> DueCheck:
    """Have the one listing that is due, find this, and have it kept."""
    (due,) = await checks.exchange([], room=10)
    await checks.exchange([Found(due, verdict, clock())], room=0)
    return due


async def told(queue: Queue) -> list[tuple[str, dict[str, Any]]]:
    tasks = await queue.lease(["announce"], lease_s=60, count=1_000)
    events = [event for task in tasks for event in msgspec.json.decode(task.payload)]
    return [(event["event_type"], event["data"]) for event in events]


async def test_a_new_listing_is_due_at_once(records: Records, checks: Checks) -> None:
    ids = await add_listings(records, [LINK])

    assert [due.listing for due in await checks.exchange([], room=10)] == ids
    assert await checks.exchange([], room=10) == []


async def test_an_archived_listing_is_never_due(records: Records, checks: Checks, clock: FixedClock) -> None:
    await add_listings(records, [LINK], is_archived=True)
    clock.advance(10_000)

    assert await checks.exchange([], room=10) == []


@pytest.mark.parametrize(
    ("verdict", "pause_s"),
    [
        (SEEN, 120),
        (ENDED, 420),
        (TROUBLE, 420),
        (QUIET, CONFIRM_S),
        (unknown(Reason.HOST_RESTS, retry_s=1_000), 1_000),
        (unknown(Reason.HOST_RESTS, retry_s=5), 420),
        (unknown(Reason.RATE_LIMITED, retry_s=1e9), 3_600),
        (unknown(Reason.HOST_BUSY, retry_s=10), CONFIRM_S),
    ],
)
async def test_what_was_found_says_when_to_look_again(
    records: Records, checks: Checks, clock: FixedClock, verdict: Verdict, pause_s: float
) -> None:
    await add_listings(records, [LINK])
    await check(checks, clock, verdict)

    clock.advance(pause_s - 1)
    assert await checks.exchange([], room=10) == []
    clock.advance(1)
    assert len(await checks.exchange([], room=10)) == 1


async def test_chance_keeps_listings_apart(records: Records, queue: Queue, clock: FixedClock) -> None:
    """A tenth earlier or later: those that were imported together drift apart."""
    (listing,) = await add_listings(records, [LINK])
    for chance, after_s in ((0.0, 108), (1.0, 132)):
        checks = Checks(records, queue, clock, Pace(120, 420), chance=always(chance))
        clock.advance(1_000)
        await check(checks, clock, SEEN)
        assert (await row_of(records, listing)).next_check_us == clock() + after_s * SECOND_US


async def test_two_checkers_share_the_work(records: Records, queue: Queue, clock: FixedClock) -> None:
    """None of the listings is checked twice, and the longest overdue goes first."""
    ids = await add_listings(records, [f"{LINK}?{number}" for number in range(50)])
    one, other = new_checks(records, queue, clock), new_checks(records, queue, clock)

    taken: list[int] = []
    while due := [*await one.exchange([], room=7), *await other.exchange([], room=5)]:
        taken += [each.listing for each in due]

    assert sorted(taken) == ids


async def test_what_a_dead_checker_had_is_due_again(records: Records, queue: Queue, clock: FixedClock) -> None:
    """When its lease is over; and should it not be dead after all, what it found then is dropped."""
    (listing,) = await add_listings(records, [LINK])
    dead, heir = new_checks(records, queue, clock), new_checks(records, queue, clock)
    (left,) = await dead.exchange([], room=1)
    clock.advance(LEASE_S)
    (taken,) = await heir.exchange([], room=1)

    await dead.exchange([Found(left, SEEN, clock())], room=0)
    assert (await row_of(records, listing)).status == "unknown"
    await heir.exchange([Found(taken, ENDED, clock())], room=0)
    assert (await row_of(records, listing)).status == "offline"


async def test_what_is_given_back_is_due_at_once(records: Records, checks: Checks) -> None:
    await add_listings(records, [LINK])
    due = await checks.exchange([], room=1)
    await checks.give_back(due)

    assert len(await checks.exchange([], room=1)) == 1


async def test_another_link_is_another_question(records: Records, checks: Checks, clock: FixedClock) -> None:
    """What is found at the old address meanwhile says nothing, and the new one is due at once."""
    (listing,) = await add_listings(records, [LINK])
    (due,) = await checks.exchange([], room=1)
    async with records.begin() as tx:
        await tx.execute(update(listings).where(listings.c.id == listing).values(link="https://example.com/new"))

    await checks.exchange([Found(due, SEEN, clock())], room=0)

    assert (await row_of(records, listing)).check_result is None
    (again,) = await checks.exchange([], room=1)
    assert again.link == "https://example.com/new"


async def test_live_is_dated(records: Records, checks: Checks, clock: FixedClock) -> None:
    (listing,) = await add_listings(records, [LINK])
    await check(checks, clock, live(Reason.ADVANCES, trace="hls 1 0 2 3"))

    row = await row_of(records, listing)
    now_us = clock()
    assert (row.status, row.check_result, row.check_reason) == ("live", "live", "playlist_advances")
    assert [row.last_checked_us, row.last_live_us, row.started_us, row.checked_us, row.updated_us] == [now_us] * 5
    assert row.check_trace == "hls 1 0 2 3"


async def test_the_feed_has_what_was_found_before_its_last_change_and_kept_after_it(
    records: Records, checks: Checks, clock: FixedClock
) -> None:
    """A check is kept up to a second after it was made."""
    await add_listings(records, [LINK, LINK])
    feed = Feed(records)
    due, _ = await checks.exchange([], room=2)
    seen = Found(due, SEEN, clock())
    clock.advance(0.5)
    async with records.begin() as tx:
        await tx.execute(update(listings).where(listings.c.id != due.listing).values(title="News", updated_us=clock()))
    await feed.edition()
    clock.advance(0.5)
    await checks.exchange([seen], room=0)

    assert {"live", "unknown"} == {one.status for one in (await feed.edition()).listings}


async def test_a_check_that_could_not_tell_dates_nothing(records: Records, checks: Checks, clock: FixedClock) -> None:
    """But that there was one, and why it could not."""
    (listing,) = await add_listings(records, [LINK])
    await check(checks, clock, SEEN)
    before = await row_of(records, listing)
    clock.advance(200)
    await check(checks, clock, TROUBLE)

    after = await row_of(records, listing)
    kept = ("status", "last_checked_us", "last_live_us", "started_us", "ended_us", "updated_us")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert (after.check_result, after.check_reason, after.checked_us) == ("unknown", "challenge_page", clock())


async def test_a_first_offline_is_looked_at_again(records: Records, checks: Checks, clock: FixedClock) -> None:
    """It is a check that could tell, but not enough alone; only Live moves last_live_at."""
    (listing,) = await add_listings(records, [LINK])
    await check(checks, clock, SEEN)
    live_us = clock()
    clock.advance(200)
    await check(checks, clock, QUIET)
    once = await row_of(records, listing)
    clock.advance(CONFIRM_S)
    await check(checks, clock, QUIET)
    twice = await row_of(records, listing)

    assert (once.status, once.last_live_us) == ("live", live_us)
    assert (twice.status, twice.last_live_us, twice.left_live_us) == ("offline", live_us, clock())


@pytest.mark.parametrize(("pause_s", "same"), [(1_700, True), (1_801, False)])
async def test_half_an_hour_separates_broadcasts(
    records: Records, checks: Checks, clock: FixedClock, pause_s: float, same: bool
) -> None:
    (listing,) = await add_listings(records, [LINK])
    await check(checks, clock, SEEN)
    began_us = clock()
    clock.advance(200)
    await check(checks, clock, ENDED)
    clock.advance(pause_s)
    await check(checks, clock, SEEN)

    assert (await row_of(records, listing)).started_us == (began_us if same else clock())


async def test_every_check_is_told_and_every_change_beside_it(
    records: Records, checks: Checks, queue: Queue, clock: FixedClock
) -> None:
    (listing,) = await add_listings(records, [LINK])
    for verdict in (SEEN, SEEN, TROUBLE, ENDED):
        await check(checks, clock, verdict)
        clock.advance(430)

    events = await told(queue)
    assert [kind.removeprefix("listing.") for kind, _ in events] == [
        *("checked", "updated", "live"),
        "checked",
        "checked",
        *("checked", "updated", "offline"),
    ]
    checked = [data for kind, data in events if kind == "listing.checked"]
    assert [data["live_seconds"] for data in checked] == [0, 430, 0, 0]
    assert [data["status"] for data in checked] == ["live", "live", "live", "offline"]
    assert checked[2] == {
        "id": listing,
        "by": None,
        "result": "unknown",
        "reason": "challenge_page",
        "confidence": 0,
        "status": "live",
        "live_seconds": 0,
    }
    assert events[-1][1] == {
        "id": listing,
        "by": None,
        "status": "offline",
        "was": "live",
        "reason": "playlist_has_ended",
    }


async def test_a_checker_that_is_down_for_hours_makes_no_live_time(
    records: Records, checks: Checks, queue: Queue, clock: FixedClock
) -> None:
    await add_listings(records, [LINK])
    await check(checks, clock, SEEN)
    clock.advance(7_200)
    await check(checks, clock, SEEN)

    assert [data["live_seconds"] for kind, data in await told(queue) if kind == "listing.checked"] == [0, 0]


async def test_the_schedule_survives_a_restart(tmp_path: Path, clock: FixedClock) -> None:
    path = tmp_path / "mainstem.sqlite"
    engine = SqliteRecords(path)
    await engine.migrate()
    async with engine:
        await add_listings(engine, [LINK])
        await check(new_checks(engine, Queue(engine, clock), clock), clock, SEEN)
    clock.advance(119)
    async with SqliteRecords(path) as again:
        checks = new_checks(again, Queue(again, clock), clock)
        early = await checks.exchange([], room=1)
        clock.advance(1)
        due = await checks.exchange([], room=1)

    assert (early, len(due)) == ([], 1)


async def test_results_of_all_kinds_are_words_of_the_catalogue() -> None:
    assert {Result.LIVE, Result.OFFLINE, Result.UNKNOWN} == {"live", "offline", "unknown"}


async def test_what_is_due_is_found_by_an_index(records: Records) -> None:
    """However many are not due: it is asked every second."""
    async with records.read() as rows:
        query = due_listings(1).limit(1).compile(dialect=rows.dialect, compile_kwargs={"literal_binds": True})
        plan = [row.detail for row in await rows.execute(text(f"EXPLAIN QUERY PLAN {query}"))]

    assert plan == ["SEARCH listings USING INDEX listings_to_check (next_check_us<?)"]


async def test_the_figures_tell_whether_checkers_keep_up(records: Records, checks: Checks, clock: FixedClock) -> None:
    """What is archived is nobody's to check, and what somebody has in hand is not waiting."""
    await add_listings(records, [f"{LINK}?{number}" for number in range(5)])
    await add_listings(records, [LINK], is_archived=True, status="live")
    (due,) = await checks.exchange([], room=1)
    await checks.exchange([Found(due, SEEN, clock())], room=1)
    watch = ListingsWatch(records, clock)
    await watch.look()

    figures = {
        family.name: {tuple(labels.values()): value for labels, value in family.values} for family in watch.families()
    }
    assert figures["listings"] == {("live",): 1, ("offline",): 0, ("unknown",): 4}
    assert figures["listings_due"] == {(): 3}


async def test_what_is_archived_meanwhile_stays_as_it_is(records: Records, checks: Checks, clock: FixedClock) -> None:
    (listing,) = await add_listings(records, [LINK])
    (due,) = await checks.exchange([], room=1)
    async with records.begin() as tx:
        await tx.execute(update(listings).where(listings.c.id == listing).values(is_archived=True))

    await checks.exchange([Found(due, SEEN, clock())], room=0)

    assert (await row_of(records, listing)).status == "unknown"


async def test_offlines_from_before_somebody_said_live_are_spent(
    records: Records, checks: Checks, clock: FixedClock
) -> None:
    """A client that knows better is not overruled by one Offline."""
    (listing,) = await add_listings(records, [LINK])
    await check(checks, clock, QUIET)
    clock.advance(CONFIRM_S)
    await check(checks, clock, QUIET)
    async with records.begin() as tx:
        await tx.execute(update(listings).where(listings.c.id == listing).values(status="live"))
    clock.advance(500)
    await check(checks, clock, QUIET)

    assert (await row_of(records, listing)).status == "live"
