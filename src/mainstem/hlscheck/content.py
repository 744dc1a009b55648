"""What a segment holds, whatever its container."""

from fractions import Fraction

import msgspec


class Audio(msgspec.Struct, frozen=True):
    """An audio track as its own bytes describe it."""

    codec: str
    """As CODECS of a master playlist names it (RFC 6381)."""
    sample_rate: int
    channels: int


class Content(msgspec.Struct, frozen=True):
    audio: Audio | None
    """None: nothing that we can read; the findings say so, or it is video."""
    start_s: Fraction | None
    """The first timestamp, on the stream's own clock."""
    duration_s: Fraction
    frame_s: Fraction
    """The length of one frame of the codec: nobody can cut finer."""


NOTHING = Content(None, None, Fraction(), Fraction())
