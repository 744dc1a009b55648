"""The feed: everything that is not archived, for programs that poll all of it, again and again and many at once."""

import asyncio
from typing import NamedTuple

from sqlalchemy import func, select

from mainstem.catalogue import lists
from mainstem.catalogue.model import Filters, Listing, Sort
from mainstem.catalogue.rows import read_listings
from mainstem.catalogue.tables import listing_counts, listings, locations
from mainstem.storage import Records

FEED_LISTINGS_MAX = 10_000
_READ_AT_ONCE = 500


class Edition(NamedTuple):
    """The feed as of a moment."""

    number: str
    """Another one where anything in it may be different."""
    listings: list[Listing]
    """Pinned ones first, then the newest, 10,000 at most."""


class Feed:
    """Read when something has changed, and otherwise remembered: who polls in between costs no I/O."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._version: int | None = None
        self._edition = Edition("", [])
        self._reading = asyncio.Lock()

    async def edition(self) -> Edition:
        """The present one. Checks that only say when they looked make no new one."""
        version = await self._records.version()
        if version != self._version:
            async with self._reading:  # a thousand who ask at once have it read once
                if version != self._version:
                    await self._refresh(version)
        return self._edition

    async def _refresh(self, version: int) -> None:
        async with self._records.read() as rows:
            facts = [await rows.scalar(query) or 0 for query in _FACTS]
            number = "-".join(f"{fact:x}" for fact in facts)
            if number != self._edition.number:
                wanted = lists.ids(
                    Filters(is_archived=False), Sort.DEFAULT, (False,), descending=False, limit=FEED_LISTINGS_MAX
                )
                ids = list((await rows.execute(wanted)).scalars())
                found: list[Listing] = []
                for start in range(0, len(ids), _READ_AT_ONCE):
                    found += await read_listings(rows, ids[start : start + _READ_AT_ONCE])
                self._edition = Edition(number, found)
        self._version = version


# A row that changes gets a later time than all others had, and one that goes leaves their number smaller.
_FACTS = (
    select(func.max(listings.c.updated_us)).where(listings.c.is_archived.is_(False)),
    select(func.sum(listing_counts.c.count)).where(listing_counts.c.is_archived.is_(False)),
    select(func.max(locations.c.updated_us)),
)
