"""What the catalogue tells of itself in /metrics: how many are live, and whether the checker keeps up."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress

from sqlalchemy import func, select

from mainstem.catalogue.liveness.checks import due_listings
from mainstem.catalogue.tables import listing_counts
from mainstem.clock import Clock
from mainstem.errors import Unavailable
from mainstem.storage import Records
from mainstem.telemetry import Family

LOOK_EVERY_S = 10.0


class ListingsWatch:
    """Knows how listings stood a few seconds ago."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock
        self._statuses: Mapping[str, int] = {}
        self._due = 0

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            # Health tells of the database; here the figures of before must do.
            with suppress(Unavailable):
                await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Read from counts that are kept, and from the index of what is due."""
        counted = (
            select(listing_counts.c.status, func.sum(listing_counts.c.count).label("listings"))
            .where(listing_counts.c.is_archived.is_(False))
            .group_by(listing_counts.c.status)
        )
        waiting = select(func.count()).select_from(due_listings(self._clock()).order_by(None).subquery())
        async with self._records.read() as rows:
            self._statuses = {row.status: int(row.listings) for row in await rows.execute(counted)}
            self._due = await rows.scalar(waiting) or 0

    def families(self) -> Iterator[Family]:
        yield Family(
            "listings",
            "gauge",
            "Listings that are not archived, by what is believed of them, a few seconds ago.",
            [({"status": status}, self._statuses.get(status, 0)) for status in ("live", "offline", "unknown")],
        )
        yield Family(
            "listings_due",
            "gauge",
            "Listings whose check was due and in nobody's hand; what stays high is more than the checkers can do.",
            [({}, self._due)],
        )
