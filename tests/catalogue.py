"""Listings for tests: one as a value for what is pure, and many straight into rows for what works on very many."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.catalogue import Kind, Listing, ListingId, Status
from mainstem.catalogue.tables import listings
from mainstem.clock import SECOND_US
from mainstem.identity.tables import accounts
from mainstem.ids import AccountId
from mainstem.storage import Records

NOW = 10_000 * SECOND_US


def ago(seconds: float) -> int:
    """So long before NOW."""
    return NOW - int(seconds * SECOND_US)


def listing(number: int = 1, **values: Any) -> Listing:
    """An offline listing that nothing else is known of but these values."""
    nothing: dict[str, Any] = dict.fromkeys(Listing.__struct_fields__)
    known = {
        "id": ListingId(number),
        "source": "Ada",
        "link": "https://example.org/ada",
        "status": Status.OFFLINE,
        "platform_detected": True,
        "kind": Kind.VIDEO,
        "is_pinned": False,
        "is_archived": False,
        "owner": AccountId(8),
        "created_us": 0,
        "updated_us": 0,
    }
    return Listing(**nothing | known | values)


async def add_listings(records: Records, links: Iterable[str], **values: object) -> list[int]:
    """Listings with these links, of an account that is made for them at the first time; their ids, in order."""
    async with records.begin() as tx:
        owner = await _owner(tx)
        plain = {
            "source": "Somebody",
            "source_folded": "somebody",
            "status": "unknown",
            "platform_detected": False,
            "kind": "video",
            "is_pinned": False,
            "is_archived": False,
            "owner": owner,
            "created_us": 0,
            "updated_us": 0,
        }
        rows = [{**plain, **values, "link": link, "link_normal": link} for link in links]
        found = await tx.execute(insert(listings).returning(listings.c.id, sort_by_parameter_order=True), rows)
        return list(found.scalars())


async def _owner(tx: AsyncConnection) -> int:
    known = await tx.scalar(select(accounts.c.id).where(accounts.c.name == "keeper"))
    if known is None:
        row = insert(accounts).values(name="keeper", email="keeper@example.com", is_admin=False, created_us=0)
        known = (await tx.execute(row.returning(accounts.c.id))).scalar_one()
    return int(known)
