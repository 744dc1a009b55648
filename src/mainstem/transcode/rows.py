"""Between rows and nouns."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Row

from mainstem.ids import AccountId
from mainstem.transcode.audio import Loudness, Media, Rung, Segment
from mainstem.transcode.model import Job, JobState, Order

encoded = msgspec.json.encode

_order = msgspec.json.Decoder(Order).decode
_media = msgspec.json.Decoder(Media).decode
_loudness = msgspec.json.Decoder(Loudness).decode
_rungs = msgspec.json.Decoder(list[Rung]).decode


def job_of(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        track_id=row.track_id,
        owner=None if row.owner is None else AccountId(row.owner),
        state=JobState(row.state),
        progress=row.progress,
        created_us=row.created_us,
        started_us=row.started_us,
        completed_us=row.completed_us,
        error=row.error,
        attempt=row.attempt,
        order=_order(row.request),
        media=_media(row.media),
        loudness=None if row.loudness is None else _loudness(row.loudness),
        rungs=_rungs(row.rungs),
        source_bytes=row.source_bytes,
        cover=row.cover,
        has_waveform=row.has_waveform,
    )


def segment_of(row: Row[Any]) -> Segment:
    return Segment(row.number, row.ticks, row.bytes)


def told_of(job: Job) -> Mapping[str, object]:
    """What an announcement says of a job."""
    return {
        "job_id": job.id,
        "track_id": job.track_id,
        "status": job.state,
        "error": job.error,
        "attempt": job.attempt,
        "duration_s": job.media.duration_s,
        "codec": job.rungs[0].codec,
        "rungs": [rung.name for rung in job.rungs],
        "integrated_lufs": job.loudness.integrated_lufs if job.loudness else None,
        "created_us": job.created_us,
        "completed_us": job.completed_us,
    }
