"""Lists answer as a few lines of Python over all listings would, and never read more than an index."""

import asyncio
import random
from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from catalogue import add_listings
from mainstem.catalogue import (
    Filters,
    Kind,
    Listing,
    Listings,
    LocationId,
    Orientation,
    PageRequest,
    Platform,
    Sort,
    Status,
    StreamerId,
    lists,
)
from mainstem.catalogue.findings import Findings
from mainstem.catalogue.tables import listing_counts, locations, streamers
from mainstem.catalogue.tables import listings as rows
from mainstem.identity import AccountNotFound, Principal
from mainstem.ids import AccountId
from mainstem.storage import Records
from waiting import until

COUNT = 120
WORDS = ["march", "Bridge", "ÄRGER", "NY", "100%", "a_b", 'say "hi"', "it's"]


async def fill(records: Records, owners: Iterable[int], seed: int) -> None:
    """Listings of every kind, some alike in everything that a list is sorted by."""
    chance = random.Random(seed)
    async with records.begin() as tx:
        for number in (1, 2, 3):
            made = {"id": number, "created_us": 0, "updated_us": 0}
            name = f"s{number}"
            await tx.execute(insert(streamers).values(**made, name=name, name_folded=name, owner=next(iter(owners))))
            place = {"city": name, "normalized_name": name, "is_known_city": False}
            await tx.execute(insert(locations).values(**made, **place))
    for number in range(COUNT):
        words = chance.choices(WORDS, k=2)
        await add_listings(
            records,
            [f"https://example.org/{number % 90}"],
            source=" ".join(words),
            source_folded=" ".join(words).casefold(),
            title=chance.choice([None, *WORDS]),
            state=chance.choice([None, "NY", "TX"]),
            notes=chance.choice([None, "notes on a march"]),
            status=chance.choice(list(Status)),
            platform=chance.choice([None, *Platform]),
            orientation=chance.choice([None, *Orientation]),
            kind=chance.choice(list(Kind)),
            is_pinned=chance.random() < 0.2,
            is_archived=chance.random() < 0.3,
            owner=chance.choice(list(owners)),
            streamer=chance.choice([None, 1, 2, 3]),
            location=chance.choice([None, 1, 2, 3]),
            last_checked_us=chance.choice([None, 1, 2, 3]),
            created_us=chance.randrange(20),
            updated_us=chance.randrange(20),
        )


def fits(one: Listing, filters: Filters) -> bool:
    searched = (one.source, one.link, one.title, one.city, one.state, one.notes, one.posted_by)
    return (
        (filters.statuses is None or one.status in filters.statuses)
        and (filters.platforms is None or one.platform in filters.platforms)
        and (filters.orientations is None or one.orientation in filters.orientations)
        and (filters.kinds is None or one.kind in filters.kinds)
        and filters.is_pinned in (None, one.is_pinned)
        and filters.is_archived in (None, one.is_archived)
        and filters.owner in (None, one.owner)
        and filters.streamer in (None, one.streamer and one.streamer.id)
        and filters.location in (None, one.location and one.location.id)
        and filters.link in (None, one.link)
        and (filters.search is None or any(filters.search.lower() in (part or "").lower() for part in searched))
    )


KEYS: dict[Sort, Any] = {
    Sort.DEFAULT: lambda one: (one.is_pinned, one.created_us, one.id),
    Sort.NAME: lambda one: (one.source.casefold(), one.id),
    Sort.CREATED: lambda one: (one.created_us, one.id),
    Sort.UPDATED: lambda one: (one.updated_us, one.id),
    Sort.CHECKED: lambda one: (-1 if one.last_checked_us is None else one.last_checked_us, one.id),
}


def some_filters(chance: random.Random, owners: list[int]) -> Filters:
    def maybe(*values: Any) -> Any:
        return chance.choice(values) if chance.random() < 0.25 else None

    return Filters(
        statuses=maybe(frozenset({Status.LIVE}), frozenset({Status.OFFLINE, Status.UNKNOWN}), frozenset()),
        platforms=maybe(*(frozenset({platform}) for platform in Platform)),
        orientations=maybe(Orientation.PORTRAIT.same, Orientation.SQUARE.same),
        kinds=maybe(*(frozenset({kind}) for kind in Kind)),
        is_pinned=maybe(True, False),
        is_archived=maybe(True, False),
        owner=maybe(*owners),
        streamer=maybe(StreamerId(1), StreamerId(9)),
        location=maybe(LocationId(2), LocationId(9)),
        link=maybe("https://example.org/5", "https://example.org/none"),
        search=maybe("march", "BRIDGE", "ny", "Ärger", "0%", '"hi"', "'s", "_", "org/1", "nothing of the kind"),
    )


@pytest.mark.parametrize("few", [lists.NARROW_SEARCH_ROWS_MAX, 0])  # 0: as if every search found many
@pytest.mark.parametrize("seed", range(3))
async def test_a_page_is_what_a_plain_loop_would_find(
    records: Records,
    listings: Listings,
    administrator: Principal,
    ada: Principal,
    bob: Principal,
    seed: int,
    few: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lists, "NARROW_SEARCH_ROWS_MAX", few)
    owners = [ada.account, bob.account]
    await fill(records, owners, seed)
    whole = (await listings.page(administrator, PageRequest(per_page=100))).listings
    whole += (await listings.page(administrator, PageRequest(per_page=100, page=2))).listings
    assert len(whole) == COUNT
    chance = random.Random(seed)

    for _ in range(150):
        caller = chance.choice([administrator, ada])
        request = PageRequest(
            page=chance.choice([1, 1, 2, 3]),
            per_page=chance.choice([1, 7, 25]),
            filters=some_filters(chance, list(owners)),
            sort=chance.choice(list(Sort)),
            descending=chance.random() < 0.5,
        )
        page = await listings.page(caller, request)

        seen = [one for one in whole if caller.is_admin or not one.is_archived]
        fitting = [one for one in seen if fits(one, request.filters)]
        turned = request.descending or request.sort is Sort.DEFAULT
        ordered = sorted(fitting, key=KEYS[request.sort], reverse=turned)
        start = (request.page - 1) * request.per_page
        assert page.total == len(ordered), request
        assert [one.id for one in page.listings] == [one.id for one in ordered][start : start + request.per_page], (
            request
        )


CHANGES: dict[str, dict[str, Any]] = {
    "text": {"title": "march"},
    "name": {"source_folded": "zz"},
    "archive": {"is_archived": True},
    "pin": {"is_pinned": True},
    "status": {"status": "live"},
    "platform": {"platform": "tiktok"},
    "streamer": {"streamer": 1},
    "check": {"last_checked_us": 1},
    "update": {"updated_us": 1},
}


@pytest.mark.parametrize("few", [lists.NARROW_SEARCH_ROWS_MAX, 0])  # 0: as if every search found many
@pytest.mark.parametrize("change", CHANGES)
async def test_what_a_search_found_is_found_anew_after_a_change(
    records: Records,
    listings: Listings,
    newcomer: Listings,
    administrator: Principal,
    ada: Principal,
    change: str,
    few: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever it is: a page of each order is then what somebody finds who never asked before."""
    monkeypatch.setattr(lists, "NARROW_SEARCH_ROWS_MAX", few)
    await fill(records, [ada.account], 1)
    requests = [
        PageRequest(filters=filters, sort=sort)
        for sort in Sort
        for filters in (
            Filters(search="march"),
            Filters(search="march", statuses=frozenset({Status.LIVE})),
            Filters(search="march", platforms=frozenset({Platform.TIKTOK})),
            Filters(search="march", streamer=StreamerId(1)),
        )
    ]
    for request in requests:
        await listings.page(administrator, request)

    async with records.begin() as tx:
        await tx.execute(update(rows).where(rows.c.id % 3 == 0).values(CHANGES[change]))

    for request in requests:
        assert await listings.page(administrator, request) == await newcomer.page(administrator, request), request


async def test_what_a_search_found_is_forgotten_with_a_listing(
    records: Records, listings: Listings, administrator: Principal, ada: Principal
) -> None:
    await fill(records, [ada.account], 1)
    marching = PageRequest(filters=Filters(search="march"))
    before = await listings.page(administrator, marching)

    await listings.delete(administrator, before.listings[0].id)
    after = await listings.page(administrator, marching)

    assert (after.total, after.listings[0]) == (before.total - 1, before.listings[1])


async def test_searches_that_take_long_leave_others_their_turn(
    records: Records, listings: Listings, ada: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many search, a list without a search is read; and who asks for the same gets what one of them found."""
    await fill(records, [ada.account], 1)
    go_on, searching = asyncio.Event(), list[str]()
    find = Findings._find

    async def slowly(self: Findings, rows: AsyncConnection, asked: Any, version: int) -> Any:
        searching.append(asked[0].filters.search)
        await go_on.wait()
        return await find(self, rows, asked, version)

    monkeypatch.setattr(Findings, "_find", slowly)
    wanted = [PageRequest(filters=Filters(search=text)) for text in ["march", "bridge"] * 6]
    async with asyncio.TaskGroup() as readers:
        pages = [readers.create_task(listings.page(ada, request)) for request in wanted]
        await until(lambda: len(searching) == 2)
        assert (await listings.page(ada, PageRequest())).total
        go_on.set()

    assert len(searching) <= 4, "those of both turns found the same, at worst"
    assert len({page.result().total for page in pages}) == 2


async def test_an_owner_that_does_not_exist_is_told(listings: Listings, ada: Principal) -> None:
    with pytest.raises(AccountNotFound):
        await listings.page(ada, PageRequest(filters=Filters(owner=AccountId(999))))


async def test_counts_follow_whatever_is_done_to_rows(
    records: Records, listings: Listings, administrator: Principal, ada: Principal
) -> None:
    await fill(records, [ada.account], 1)
    async with records.begin() as tx:
        await tx.execute(update(rows).where(rows.c.id % 3 == 0).values(status="live", platform=None))
        await tx.execute(update(rows).where(rows.c.id % 5 == 0).values(is_archived=True, title="x"))
        await tx.execute(rows.delete().where(rows.c.id % 7 == 0))
        counted = {tuple(row)[:-1]: row[-1] for row in await tx.execute(select(listing_counts)) if row[-1]}
        columns = [rows.c[column.name] for column in list(listing_counts.columns)[:-1]]
        found: dict[tuple[Any, ...], int] = {}
        for row in await tx.execute(select(*columns)):
            cell = tuple("" if value is None else value for value in row)
            found[cell] = found.get(cell, 0) + 1
    assert counted == found


# What a list costs


async def plan(tx: AsyncConnection, query: Any) -> list[str]:
    written = query.compile(dialect=tx.dialect, compile_kwargs={"literal_binds": True})
    steps = await tx.execute(text("EXPLAIN QUERY PLAN " + str(written).replace(":", "\\:")))
    return [row.detail for row in steps]


CHOICES: list[Filters] = [
    Filters(),
    Filters(statuses=frozenset({Status.LIVE})),
    Filters(statuses=frozenset({Status.OFFLINE, Status.UNKNOWN})),
    Filters(platforms=frozenset({Platform.TIKTOK})),
    Filters(orientations=Orientation.PORTRAIT.same),
    Filters(kinds=frozenset({Kind.WEB})),
    Filters(is_pinned=True),
    Filters(statuses=frozenset({Status.LIVE}), platforms=frozenset({Platform.TWITCH}), is_pinned=False),
]
RELATED = [
    Filters(owner=AccountId(8)),
    Filters(streamer=StreamerId(1)),
    Filters(location=LocationId(1), statuses=frozenset({Status.LIVE})),
]
BOTH: list[tuple[bool, ...]] = [(False,), (True,), (False, True)]


def _name(filters: Filters) -> str:
    """The same in every process, as sets print differently in each."""
    chosen = {name: getattr(filters, name) for name in filters.__struct_fields__ if getattr(filters, name) is not None}
    return ",".join(
        f"{name}={'+'.join(sorted(value)) if isinstance(value, frozenset) else value}" for name, value in chosen.items()
    )


@pytest.mark.parametrize("filters", [*CHOICES, *RELATED], ids=_name)
async def test_every_list_is_read_along_an_index_that_holds_all_it_needs(records: Records, filters: Filters) -> None:
    """In order, so that nothing is sorted, and without looking at rows that are not on the page."""
    async with records.read() as tx:
        for sort, within, descending in product(Sort, BOTH, (False, True)):
            query = lists.ids(filters, sort, within, descending=descending, offset=25_000, limit=25)
            steps = await plan(tx, query)
            reads = [step for step in steps if "listings" in step]
            assert len(reads) == len(within)
            assert all("USING COVERING INDEX" in step and "is_archived=?" in step for step in reads), steps
            assert not [step for step in steps if "TEMP B-TREE" in step], steps


@pytest.mark.parametrize("filters", CHOICES, ids=_name)
async def test_a_total_by_choices_is_summed_from_a_few_cells(records: Records, filters: Filters) -> None:
    async with records.read() as tx:
        for within in BOTH:
            steps = await plan(tx, lists.count(filters, within))
            assert all("listing_counts" in step for step in steps), steps


@pytest.mark.parametrize("filters", RELATED, ids=_name)
async def test_a_total_of_one_owner_streamer_or_place_is_counted_along_his_index(
    records: Records, filters: Filters
) -> None:
    async with records.read() as tx:
        for within in BOTH:
            (step,) = await plan(tx, lists.count(filters, within))
            assert "SEARCH listings USING COVERING INDEX listings_by_" in step


async def test_a_link_is_looked_up(records: Records) -> None:
    filters = Filters(link="https://example.org/")
    async with records.read() as tx:
        for query in (lists.count(filters, (False,)), lists.ids(filters, Sort.NAME, (False,), descending=False)):
            assert "SEARCH listings USING INDEX listings_by_link (link=?)" in await plan(tx, query)


async def test_a_search_asks_the_index_of_texts(records: Records) -> None:
    filters = Filters(search="march")
    async with records.read() as tx:
        for query in (
            lists.matches("march"),
            lists.ids(filters, Sort.NAME, (False,), descending=False),
        ):
            steps = await plan(tx, query)
            assert any("listings_text VIRTUAL TABLE INDEX" in step for step in steps), steps
            assert not any("SCAN listings" in step and "VIRTUAL" not in step for step in steps), steps


async def test_the_few_that_a_search_finds_are_looked_up(records: Records) -> None:
    filters = Filters(search="march", statuses=frozenset({Status.LIVE}))
    async with records.read() as tx:
        steps = await plan(tx, lists.ids(filters, Sort.NAME, (False,), descending=False, among=[1, 2]))
    assert steps[0] == "SEARCH listings USING INTEGER PRIMARY KEY (rowid=?)"
