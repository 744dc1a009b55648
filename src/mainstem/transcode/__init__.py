"""Audio files in, HLS out: jobs, the child processes that do them, and what they made.

`render(source, order, folder)` does a whole job on a local file, without a server; see `mainstem.transcode.rendering`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mainstem.transcode.audio import Codec, Container, Loudness, Media, Rung, Segment
    from mainstem.transcode.inheritance import hand_over_jobs
    from mainstem.transcode.intake import Upload
    from mainstem.transcode.model import (
        BlobRef,
        Job,
        JobNotFound,
        JobPage,
        JobState,
        MediaGrant,
        NotAudio,
        NotFinished,
        Order,
        OutputNotFound,
        Playlist,
        Profile,
        Progress,
        QueueFull,
        TooLarge,
    )
    from mainstem.transcode.orders import order_of
    from mainstem.transcode.rendering import Rendering, render
    from mainstem.transcode.resumable import (
        CHECKSUMS,
        Checksum,
        ChecksumMismatch,
        Resumable,
        ResumableLimits,
        ResumableUploads,
        UploadBusy,
        UploadNotFound,
        WrongOffset,
    )
    from mainstem.transcode.run import KIND, AttemptFailed, Limits, TranscodeHandler
    from mainstem.transcode.states import state_of
    from mainstem.transcode.transcodes import Transcodes

__all__ = [
    "CHECKSUMS",
    "KIND",
    "AttemptFailed",
    "BlobRef",
    "Checksum",
    "ChecksumMismatch",
    "Codec",
    "Container",
    "Job",
    "JobNotFound",
    "JobPage",
    "JobState",
    "Limits",
    "Loudness",
    "Media",
    "MediaGrant",
    "NotAudio",
    "NotFinished",
    "Order",
    "OutputNotFound",
    "Playlist",
    "Profile",
    "Progress",
    "QueueFull",
    "Rendering",
    "Resumable",
    "ResumableLimits",
    "ResumableUploads",
    "Rung",
    "Segment",
    "TooLarge",
    "TranscodeHandler",
    "Transcodes",
    "Upload",
    "UploadBusy",
    "UploadNotFound",
    "WrongOffset",
    "hand_over_jobs",
    "order_of",
    "render",
    "state_of",
]

_PLACES = {
    "audio": ("Codec", "Container", "Loudness", "Media", "Rung", "Segment"),
    "inheritance": ("hand_over_jobs",),
    "intake": ("Upload",),
    "model": (
        "BlobRef",
        "Job",
        "JobNotFound",
        "JobPage",
        "JobState",
        "MediaGrant",
        "NotAudio",
        "NotFinished",
        "Order",
        "OutputNotFound",
        "Playlist",
        "Profile",
        "Progress",
        "QueueFull",
        "TooLarge",
    ),
    "orders": ("order_of",),
    "rendering": ("Rendering", "render"),
    "resumable": (
        "CHECKSUMS",
        "Checksum",
        "ChecksumMismatch",
        "Resumable",
        "ResumableLimits",
        "ResumableUploads",
        "UploadBusy",
        "UploadNotFound",
        "WrongOffset",
    ),
    "run": ("KIND", "AttemptFailed", "Limits", "TranscodeHandler"),
    "states": ("state_of",),
    "transcodes": ("Transcodes",),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> object:
    # A child process enters this package on its way to `child`, and must not wait for the database's library.
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACE_OF[name]}"), name)
