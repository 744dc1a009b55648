"""The nouns of transcoding: what is asked for, and a job with its states. Those of audio itself are in `audio.py`."""

from enum import StrEnum

import msgspec

from mainstem.errors import Conflict, Exhausted, Invalid, NotFound
from mainstem.ids import AccountId
from mainstem.transcode.audio import Codec, Loudness, Media, Rung
from mainstem.work import Priority


class Profile(StrEnum):
    HI_RES = "hi_res"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class JobState(StrEnum):
    """Pending → Processing → Completed or Failed; the first two may become Cancelled. The last three are final."""

    PENDING = "Pending"
    PROCESSING = "Processing"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def final(self) -> bool:
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


OPEN_STATES = tuple(state for state in JobState if not state.final)
FINAL_STATES = tuple(state for state in JobState if state.final)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants made of a file. What is None follows from the profile or the file."""

    codec: Codec | None = None
    bitrate: int | None = None
    """Bits a second."""
    profile: Profile = Profile.HIGH
    priority: Priority = Priority.NORMAL
    track_id: str | None = None
    ladder: bool = False
    """Several rungs to choose from while playing, beside the one of the profile."""
    loudness: float | None = None
    """The integrated loudness to bring it to, in LUFS."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """An upload and what becomes of it."""

    id: str
    """A UUID, version 4."""
    track_id: str
    owner: AccountId | None
    """None: somebody, while nobody had to sign in."""
    state: JobState
    progress: float
    """Percent, 0 to 100; never falls."""
    created_us: int
    started_us: int | None
    """When the first attempt began."""
    completed_us: int | None
    """When it came to one of the final states."""
    error: str | None
    attempt: int
    """0: none has begun; at most 3."""
    order: Order
    media: Media
    loudness: Loudness | None
    rungs: list[Rung]
    """What is made of it; the first is that of the profile."""
    source_bytes: int
    cover: str | None
    """The media type of the picture that came with it."""
    has_waveform: bool


class JobPage(msgspec.Struct, frozen=True):
    """Some of the jobs, newest first, and where to go on."""

    jobs: list[Job]
    next_cursor: str | None


class MediaGrant(msgspec.Struct, frozen=True):
    """Stands for whoever was given a link to one job's media: it opens that, and nothing else."""

    job: str


class Playlist(msgspec.Struct, frozen=True):
    text: str
    etag: str


class BlobRef(msgspec.Struct, frozen=True):
    """Something that can be read in pieces; `Transcodes.read` does."""

    name: str
    size: int
    etag: str
    media_type: str


class Progress(msgspec.Struct, frozen=True):
    """How a job stands, and how many segments of its first rung can be played."""

    job: Job
    segments: int


class NotAudio(Invalid):
    """The file holds no audio that can be decoded, or more than the server takes."""


class TooLarge(Invalid):
    """The upload is larger than the server takes."""


class QueueFull(Exhausted):
    """So many jobs wait already that no more are taken now."""


class JobNotFound(NotFound):
    """No such job, or none that the caller may see."""


class NotFinished(Conflict):
    """The job is not finished yet: what was asked for comes later."""


class OutputNotFound(NotFound):
    """The job has no such output: it failed, was cancelled, or never makes this."""
