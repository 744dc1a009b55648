"""The nouns that the child process needs as well: what a file holds, and what is made of it.

It imports next to nothing, for a child starts with it.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class Codec(StrEnum):
    AAC = "aac"
    MP3 = "mp3"
    OPUS = "opus"
    FLAC = "flac"


class Container(StrEnum):
    """What segments are files of: MPEG transport stream, or fragmented MP4 with an initialisation section."""

    TS = "ts"
    FMP4 = "m4s"


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe found in an uploaded file."""

    duration_s: float | None
    """As the file declares it, or estimated; None when it says nothing."""
    codec: str
    """As libav names it: `pcm_s16le`, `mp3`, `flac`."""
    bitrate: int | None
    sample_rate: int
    channels: int
    bits: int
    """Of a sample, as far as FLAC can keep them: 16 or 24."""
    lossless: bool
    tags: Mapping[str, str] = {}


class Loudness(msgspec.Struct, frozen=True, kw_only=True):
    """Loudness of the source after EBU R 128. What cannot be measured, such as silence, is None."""

    integrated_lufs: float | None
    range_lu: float | None
    true_peak_dbtp: float | None
    target_lufs: float | None = None
    """What was asked for."""
    gain_db: float = 0.0
    """What was applied: to the target, or less where true peaks would have passed -1 dBTP."""


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One encoding of a file, cut into segments."""

    name: str
    codec: Codec
    bitrate: int | None
    """Bits a second; None for FLAC."""
    sample_rate: int
    channels: int
    bits: int = 16
    """Of a sample; counts for FLAC only."""
    in_master: bool = True
    """Players may choose it from the master playlist."""
    origin_s: float = 0.0
    """Where the timestamps of the segments begin. The same for all rungs that players switch between."""

    @property
    def container(self) -> Container:
        return Container.TS if self.codec in (Codec.AAC, Codec.MP3) else Container.FMP4


class Segment(msgspec.Struct, frozen=True):
    """A piece of a rung, in order."""

    number: int
    """1 and up; 0 is the initialisation section of fragmented MP4."""
    ticks: int
    """How long it lasts, in samples at the rung's rate."""
    size: int
