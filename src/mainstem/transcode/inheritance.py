"""What becomes of the jobs of an account that goes."""

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.ids import AccountId
from mainstem.transcode.tables import jobs


async def hand_over_jobs(tx: AsyncConnection, gone: AccountId, heir: AccountId) -> None:
    """Give the jobs of one account to another, as part of the caller's transaction."""
    await tx.execute(update(jobs).where(jobs.c.owner == gone).values(owner=heir))
