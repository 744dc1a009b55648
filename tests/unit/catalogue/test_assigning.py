"""Who is behind new listings, and where they are: found the same way however many come at once."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import select

from mainstem.catalogue import Flags, Imports, ListingChanges, Listings, PlaceDraft, Places
from mainstem.catalogue.tables import listings, locations, streamer_accounts, streamers
from mainstem.clock import FixedClock
from mainstem.errors import InvalidFields
from mainstem.identity import Directory, Principal, Scope, Tier
from mainstem.storage import SqliteRecords
from mainstem.work import Queue

SOURCES = ["Ada", "ada ", "Bob", "BOB", "Street Reporter", "x" * 300]
LINKS = [
    "https://www.twitch.tv/ada",
    "https://www.twitch.tv/bob",
    "https://www.tiktok.com/@ada/live",
    "https://www.youtube.com/watch?v=aBcDeFgHiJk",
    "https://kick.com/bob",
    "https://example.org/camera",
    "rtsp://camera.example/ada",
    "no link",
]
PLACES: list[dict[str, Any]] = [
    {},
    {"city": "Austin", "state": "TX"},
    {"city": " AUSTIN", "state": "tx"},
    {"state": "TX"},
    {"location": 1},
    {"location": 999},
    {"place": None},
    {"place": PlaceDraft(city="Lyon", country="France", latitude=45.76)},
    {"place": PlaceDraft(city="Lyon", latitude=91)},
]
STREAMERS: list[dict[str, Any]] = [{}, {}, {}, {"streamer": 1}, {"streamer": 999}, {"streamer": None}]


class Catalogue(NamedTuple):
    records: SqliteRecords
    listings: Listings
    ada: Principal

    async def rows(self) -> list[list[tuple[Any, ...]]]:
        """All that tells who is behind what and where."""
        tables: list[Sequence[Any]] = [
            [listings.c.source, listings.c.link, listings.c.platform, listings.c.streamer, listings.c.location],
            [streamers.c.id, streamers.c.name, streamers.c.notes, streamers.c.owner],
            [streamer_accounts.c.streamer, streamer_accounts.c.platform, streamer_accounts.c.username],
            [locations.c.id, locations.c.city, locations.c.normalized_name],
        ]
        async with self.records.read() as tx:
            return [[tuple(row) for row in await tx.execute(select(*columns))] for columns in tables]


@asynccontextmanager
async def catalogue(path: Path, clock: FixedClock) -> AsyncIterator[Catalogue]:
    """An empty one but for one listing, of Ada in Austin."""
    records = SqliteRecords(path)
    await records.migrate()
    async with records:
        directory = Directory(records, clock, b"s" * 32, 3_600)
        account = await directory.create_account("ada", email="ada@example.com", is_admin=True)
        ada = Principal(
            account=account.id,
            name="ada",
            credential="jwt",
            scopes=frozenset(Scope),
            tier=Tier.UNLIMITED,
            is_admin=True,
        )
        places = Places(records, clock, Flags(records, clock))
        made = Listings(records, Queue(records, clock), directory, places, clock)
        await made.create(ada, ListingChanges(source="Ada", link=LINKS[0], city="Austin", state="TX"))
        yield Catalogue(records, made, ada)


def some_rows(seed: int) -> list[ListingChanges]:
    chance = random.Random(seed)
    return [
        ListingChanges(
            source=chance.choice(SOURCES),
            link=chance.choice(LINKS),
            notes=f"row {number}",
            **chance.choice(PLACES),
            **chance.choice(STREAMERS),
        )
        for number in range(150)
    ]


@pytest.mark.parametrize("seed", range(4))
async def test_many_rows_become_what_they_become_one_by_one(tmp_path: Path, clock: FixedClock, seed: int) -> None:
    """The same listings, streamers, accounts and places, and the same refusals."""
    rows = some_rows(seed)
    refused: list[tuple[int, list[str]]] = []
    async with catalogue(tmp_path / "one", clock) as one:
        for index, row in enumerate(rows):
            try:
                await one.listings.create(one.ada, row)
            except InvalidFields as error:
                refused.append((index, error.sentences))
        singly = await one.rows()
    async with catalogue(tmp_path / "all", clock) as everything:
        imported = await Imports(everything.records, everything.listings).create_many(everything.ada, rows)

        assert await everything.rows() == singly
    assert [(each.index, each.errors) for each in imported.refused] == refused
    assert len(imported.created) + len(refused) == len(rows)
