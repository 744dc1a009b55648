"""Listings put straight into rows, for tests and measurements of what works on very many."""

from collections.abc import Iterable

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.catalogue.tables import listings
from mainstem.identity.tables import accounts
from mainstem.storage import Records


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
