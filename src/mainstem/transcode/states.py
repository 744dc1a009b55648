"""How jobs stand, for parts of the server that only want to know whether something plays."""

from sqlalchemy import select

from mainstem.storage import Records
from mainstem.transcode.model import JobState
from mainstem.transcode.tables import jobs


async def state_of(records: Records, job_id: str) -> JobState | None:
    """The state of a job, whoever's it is; None when there is no such job. Tell it to nobody who does not know the id
    already."""
    async with records.read() as rows:
        state = await rows.scalar(select(jobs.c.state).where(jobs.c.id == job_id, jobs.c.removed_us.is_(None)))
    return None if state is None else JobState(state)
