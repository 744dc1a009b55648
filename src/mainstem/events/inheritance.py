"""What becomes of the topics of an account that goes."""

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.events.tables import topics
from mainstem.ids import AccountId


async def hand_over_topics(tx: AsyncConnection, gone: AccountId, heir: AccountId) -> None:
    """Make an administrator, who has every right there already, the owner of another's topics, as part of the caller's
    transaction."""
    await tx.execute(update(topics).where(topics.c.owner == gone).values(owner=heir))
