"""stream-server as clients speak it: its jobs, times, answers and errors, and how they become ours."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from mainstem.clock import SECOND_US, rfc3339
from mainstem.errors import (
    Conflict,
    Denied,
    Exhausted,
    Invalid,
    MainstemError,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from mainstem.http import (
    Answer,
    BodyTooLarge,
    BodyTooSlow,
    MalformedBody,
    MethodNotAllowed,
    NoSuchRoute,
    NotAcceptable,
    RangeNotSatisfiable,
    UnsupportedMediaType,
    json_answer,
)
from mainstem.identity import RateLimited
from mainstem.transcode import (
    ChecksumMismatch,
    Job,
    JobNotFound,
    JobState,
    NotAudio,
    NotFinished,
    OutputNotFound,
    QueueFull,
    TooLarge,
    UploadBusy,
    WrongOffset,
)

PLAYLIST = "application/vnd.apple.mpegurl"
FAILURE_CHARACTERS_MAX = 200

type Dates = Literal["rfc3339", "rust"]

# Errors


class WrongVersion(Conflict):
    """The client speaks another version of tus."""


class WrongPatch(UnsupportedMediaType):
    """The bytes of an upload come as application/offset+octet-stream."""


class Refusal(NamedTuple):
    """How a kind of error is told."""

    status: int
    code: str
    """Its name in the documentation; clients see the status."""
    text: str | None = None
    """The words clients know it by; None: the error's own."""


ERRORS: Mapping[type[MainstemError], Refusal] = {
    NotFinished: Refusal(400, "NOT_FINISHED"),
    NotAudio: Refusal(400, "NOT_AUDIO"),
    MalformedBody: Refusal(400, "INVALID_REQUEST"),
    UnsupportedMediaType: Refusal(400, "INVALID_REQUEST"),
    Invalid: Refusal(400, "INVALID_REQUEST"),
    Unauthenticated: Refusal(401, "UNAUTHENTICATED", "Unauthorized access"),
    Denied: Refusal(403, "PERMISSION_DENIED", "Forbidden access"),
    JobNotFound: Refusal(404, "NO_JOB"),
    OutputNotFound: Refusal(404, "NO_OUTPUT"),
    NoSuchRoute: Refusal(404, "NOT_FOUND", "Not found"),
    NotFound: Refusal(404, "NOT_FOUND"),
    MethodNotAllowed: Refusal(405, "METHOD_NOT_ALLOWED"),
    NotAcceptable: Refusal(406, "NOT_ACCEPTABLE"),
    BodyTooSlow: Refusal(408, "REQUEST_TIMEOUT"),
    WrongOffset: Refusal(409, "WRONG_OFFSET"),
    Conflict: Refusal(409, "CONFLICT"),
    WrongVersion: Refusal(412, "WRONG_VERSION"),
    TooLarge: Refusal(413, "PAYLOAD_TOO_LARGE"),
    BodyTooLarge: Refusal(413, "PAYLOAD_TOO_LARGE"),
    WrongPatch: Refusal(415, "NOT_BYTES"),
    RangeNotSatisfiable: Refusal(416, "INVALID_RANGE", "Invalid range request"),
    UploadBusy: Refusal(423, "UPLOAD_BUSY"),
    RateLimited: Refusal(429, "RATE_LIMITED", "Rate limit exceeded"),
    ChecksumMismatch: Refusal(460, "CHECKSUM_MISMATCH"),
    QueueFull: Refusal(503, "QUEUE_FULL"),
    Exhausted: Refusal(503, "EXHAUSTED"),
    Unavailable: Refusal(503, "UNAVAILABLE"),
}
"""An error is told as the nearest of its kinds that is listed here."""

INTERNAL = Refusal(500, "INTERNAL", "Internal server error")

CODES: Mapping[str, int] = {refusal.code: refusal.status for refusal in (*ERRORS.values(), INTERNAL)}

_RETRY_AFTER_S = 5
"""When to come again where nobody knows better."""


class Failure(msgspec.Struct):
    """What went wrong, in words, and the status that the answer has anyway."""

    error: str
    status: int


def error_answer(error: MainstemError | None) -> Answer:
    """The answer to an error, None being one that nobody foresaw."""
    refusal = _refusal_of(error)
    said = refusal.text or (error.message if error is not None else "")
    headers = [] if error is None else _error_headers(refusal.status, error)
    return json_answer(Failure(said, refusal.status), refusal.status, headers)


def _refusal_of(error: MainstemError | None) -> Refusal:
    return next((ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS), INTERNAL)


def _error_headers(status: int, error: MainstemError) -> list[tuple[str, str]]:
    match status:
        case 401:
            return [("www-authenticate", "Bearer")]
        case 405:
            return [("allow", str(error.details.get("allow", "")))]
        case 412:
            return [("tus-version", "1.0.0")]
        case 416:
            return [("content-range", f"bytes */{error.details['size']}")]
        case 429 | 503:
            wait_s = float(str(error.details.get("retry_after_s", _RETRY_AFTER_S)))
            return [("retry-after", str(max(1, math.ceil(wait_s))))]
        case _:
            return []


# Times


def moment(time_us: int, dates: Dates) -> str:
    """`2025-01-27T12:00:00Z`, or what a Rust program prints of a SystemTime."""
    if dates == "rfc3339":
        return rfc3339(time_us)
    second, rest_us = divmod(time_us, SECOND_US)
    return f"SystemTime {{ tv_sec: {second}, tv_nsec: {rest_us * 1_000} }}"


def moment_or_null(time_us: int | None, dates: Dates) -> str | None:
    """As `moment`; of what may be absent, Rust prints `Some(…)`."""
    if time_us is None:
        return None
    return moment(time_us, dates) if dates == "rfc3339" else f"Some({moment(time_us, dates)})"


# Jobs


class SubmittedOut(msgspec.Struct):
    """A file was taken."""

    job_id: str
    status: Literal["queued"] = "queued"
    message: str = "Job submitted successfully"


class LoudnessOut(msgspec.Struct):
    """Loudness of the source after EBU R 128; what cannot be measured, such as silence, is null."""

    integrated_lufs: float | None
    range_lu: float | None
    true_peak_dbtp: float | None
    target_lufs: float | None


class MediaOut(msgspec.Struct):
    """What the file holds."""

    duration_s: float | None
    codec: str
    bitrate: int | None
    sample_rate: int
    channels: int
    tags: Mapping[str, str]


class JobOut(msgspec.Struct):
    """An upload and what becomes of it."""

    id: str
    track_id: str
    status: Annotated[
        str, Meta(description='`Pending`, `Processing`, `Completed`, `Failed("…")` with the reason, or `Cancelled`')
    ]
    progress: Annotated[float, Meta(description="Percent, 0 to 100; it never falls")]
    created_at: str
    started_at: str | None
    completed_at: str | None
    error: str | None
    attempt: Annotated[int, Meta(description="How many times it was begun; at most 3")]
    loudness: LoudnessOut | None
    media: MediaOut


class JobsOut(msgspec.Struct):
    """Some of the jobs, newest first, and where to go on."""

    jobs: list[JobOut]
    next_cursor: str | None


class LinkOut(msgspec.Struct):
    """Addresses that open one job's media for whoever has them, until they expire."""

    playlist: str
    master: str
    player: str
    expires_at: str


def job_out(job: Job, dates: Dates) -> JobOut:
    return JobOut(
        id=job.id,
        track_id=job.track_id,
        status=status_of(job),
        progress=job.progress,
        created_at=moment(job.created_us, dates),
        started_at=moment_or_null(job.started_us, dates),
        completed_at=moment_or_null(job.completed_us, dates),
        error=job.error,
        attempt=job.attempt,
        loudness=_loudness_out(job),
        media=MediaOut(
            duration_s=job.media.duration_s,
            codec=job.media.codec,
            bitrate=job.media.bitrate,
            sample_rate=job.media.sample_rate,
            channels=job.media.channels,
            tags=job.media.tags,
        ),
    )


def _loudness_out(job: Job) -> LoudnessOut | None:
    loudness = job.loudness
    if loudness is None:
        return None
    return LoudnessOut(loudness.integrated_lufs, loudness.range_lu, loudness.true_peak_dbtp, loudness.target_lufs)


def status_of(job: Job) -> str:
    """The state as Rust prints it: a failure has its reason with it, on one line."""
    if job.state is not JobState.FAILED:
        return job.state.value
    reason = " ".join((job.error or "").split())[:FAILURE_CHARACTERS_MAX]
    return f"Failed({rust_text(reason)})"


def rust_text(text: str) -> str:
    """A string in quotes, escaped as Rust's Debug does it."""
    escaped = "".join(_RUST_ESCAPES.get(character) or _rust_character(character) for character in text)
    return f'"{escaped}"'


_RUST_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}


def _rust_character(character: str) -> str:
    return character if character.isprintable() else f"\\u{{{ord(character):x}}}"
