"""Listings of what this server plays itself are asked of the engine, not of the network."""

import pytest
from sqlalchemy import insert

from mainstem.catalogue import Reason, Result, Target
from mainstem.catalogue.liveness import target_of
from mainstem.storage import Records
from mainstem.transcode import JobState
from mainstem.transcode.tables import jobs
from mainstem.worker import OwnJobs

JOB = "3f0c9a52-7a1e-4f0e-9b11-0b8f8a5d2c10"
OTHER = "00000000-0000-4000-8000-000000000000"


async def add_job(records: Records, state: JobState) -> None:
    values = {column.name: 0 for column in jobs.columns if not column.nullable and column.name != "number"}
    texts = {"id": JOB, "track_id": "", "state": state, "request": b"{}", "media": b"{}", "rungs": b"[]"}
    async with records.begin() as tx:
        await tx.execute(insert(jobs).values(values | texts | {"source_sha256": b""}))


def link(job: str, folder: str = "live") -> Target:
    return target_of(f"https://media.example.com/v1/stream/{folder}/{job}/index.m3u8?token=x")


@pytest.mark.parametrize(
    ("state", "found"),
    [
        (JobState.PENDING, (Result.OFFLINE, Reason.OWN_OFFLINE, False)),
        (JobState.PROCESSING, (Result.LIVE, Reason.OWN_LIVE, True)),
        (JobState.COMPLETED, (Result.OFFLINE, Reason.OWN_OFFLINE, True)),
        (JobState.FAILED, (Result.OFFLINE, Reason.OWN_OFFLINE, True)),
        (JobState.CANCELLED, (Result.OFFLINE, Reason.OWN_OFFLINE, True)),
    ],
)
async def test_a_job_is_live_while_its_playlist_grows(
    records: Records, state: JobState, found: tuple[Result, Reason, bool]
) -> None:
    """By whatever name of the server it is listed."""
    await add_job(records, state)

    verdict = await OwnJobs(records).ask(link(JOB))

    assert verdict is not None
    assert (verdict.result, verdict.reason, verdict.explicit) == found


@pytest.mark.parametrize("target", [link(OTHER), link(JOB, "job"), target_of("https://media.example.com/live.m3u8")])
async def test_what_is_none_of_ours_is_looked_at_elsewhere(records: Records, target: Target) -> None:
    await add_job(records, JobState.PROCESSING)

    assert await OwnJobs(records).ask(target) is None
