"""What becomes of the things of an account that goes."""

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.catalogue.tables import listings, streamers, timestamp_listings, timestamps
from mainstem.ids import AccountId


async def hand_over_catalogue(tx: AsyncConnection, gone: AccountId, heir: AccountId) -> None:
    """Give everything in the catalogue that one account owns to another, as part of the caller's transaction."""
    for owner in (listings.c.owner, streamers.c.owner, timestamps.c.owner, timestamp_listings.c.added_by):
        await tx.execute(update(owner.table).where(owner == gone).values({owner: heir}))
