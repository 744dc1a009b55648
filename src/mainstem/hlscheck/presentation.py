"""What segments hold beside what their playlist says, and what variants hold beside their master playlist."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import msgspec

from mainstem.hlscheck.content import Audio, Content
from mainstem.hlscheck.frames import MP3_NAMES
from mainstem.hlscheck.playlist import Playlist, Segment, Variant, bits_of
from mainstem.hlscheck.rules import Finding, finding
from mainstem.hlscheck.transport import CLOCK_HZ, WRAP

_EDGE_S, _EDGE_FRAMES = Fraction(1, 10), 3
"""An encoder's padding: what a segment may hold beyond the sound that the playlist speaks of, whichever is more."""
_APART_S, _APART_FRAMES = 0.1, 2
"""How far apart the first timestamps of two variants may lie, whichever is more: an encoder's delay comes first."""


class Measured(NamedTuple):
    segment: Segment
    name: str
    size: int
    content: Content


class Rendition(msgspec.Struct, frozen=True):
    """What a media playlist came to."""

    name: str
    audio: Audio | None
    segments: int
    duration_s: float
    size_bytes: int
    average_bits: int
    peak_bits: int | None
    """None: too short to have a peak by its definition."""
    target_s: int | None
    start_s: float | None
    frame_s: float


def rendition(playlist: Playlist, measured: Sequence[Measured]) -> Rendition:
    size, duration_s = sum(one.size for one in measured), playlist.duration_s
    first = measured[0].content if measured else None
    return Rendition(
        playlist.name,
        first.audio if first else None,
        len(playlist.segments),
        float(duration_s),
        size,
        round(8 * size / duration_s) if duration_s else 0,
        peak_bits(measured, playlist.target_s or 0),
        playlist.target_s,
        float(first.start_s) if first and first.start_s is not None else None,
        float(first.frame_s) if first else 0.0,
    )


def peak_bits(measured: Sequence[Measured], target_s: int) -> int | None:
    """The largest bit rate of any run of segments that lasts 0.5 to 1.5 target durations (RFC 8216 section 4.3.4.2)."""
    peak = None
    for first in range(len(measured)):
        size, duration_s = 0, 0.0
        for one in measured[first:]:
            size, duration_s = size + one.size, duration_s + float(one.segment.duration_s)
            if duration_s > 1.5 * target_s:
                break
            if duration_s >= 0.5 * target_s > 0:
                peak = max(peak or 0, round(8 * size / duration_s))
    return peak


def content_rules(measured: Sequence[Measured]) -> Iterator[Finding]:
    """EXTINF, timestamps and codec along a media playlist."""
    known = [one for one in measured if one.content.duration_s]
    yield from _duration_rules(known)
    for before, after in pairwise(known):
        if after.segment.is_discontinuous:
            continue
        yield from _join_rules(before, after)


def _duration_rules(measured: Sequence[Measured]) -> Iterator[Finding]:
    said_s = held_s = Fraction()
    for place, one in enumerate(measured):
        content, extinf_s = one.content, Fraction(one.segment.duration_s)
        edge_s = max(_EDGE_S, _EDGE_FRAMES * content.frame_s)
        if abs(extinf_s - content.duration_s) > edge_s:
            message = f"EXTINF is {float(extinf_s):.6f} s, the segment holds {float(content.duration_s):.6f} s"
            yield finding("segment.duration", one.name, message)
        said_s, held_s = said_s + extinf_s, held_s + content.duration_s
        is_last = place == len(measured) - 1
        if abs(said_s - held_s) > (edge_s if is_last else content.frame_s + Fraction(1, 1000)):
            message = f"until here EXTINF adds up to {float(said_s):.6f} s, the segments to {float(held_s):.6f} s"
            yield finding("segment.sum", one.name, message)
            return


def _join_rules(before: Measured, after: Measured) -> Iterator[Finding]:
    if before.content.audio != after.content.audio:
        message = f"holds {described(after.content.audio)}, {before.name} holds {described(before.content.audio)}"
        yield finding("segment.codec", after.name, message)
    if before.content.start_s is None or after.content.start_s is None:
        return
    expected_s = before.content.start_s + before.content.duration_s
    gap_s = after.content.start_s - expected_s
    if _is_wrapped(before, after):
        gap_s += Fraction(WRAP, CLOCK_HZ)
    if abs(gap_s) > before.content.frame_s / 2:
        message = f"begins at {float(after.content.start_s):.6f} s, {before.name} ends at {float(expected_s):.6f} s"
        yield finding("segment.timestamps", after.name, message)


def _is_wrapped(before: Measured, after: Measured) -> bool:
    """Whether the 33-bit clock of a transport stream ran over between the two."""
    assert before.content.start_s is not None
    assert after.content.start_s is not None
    return before.content.start_s - after.content.start_s > Fraction(WRAP // 2, CLOCK_HZ)


def described(audio: Audio | None) -> str:
    return "nothing known" if audio is None else f"{audio.codec} {audio.sample_rate} Hz {audio.channels} ch"


def variant_rules(place: str, variant: Variant, held: Rendition) -> Iterator[Finding]:
    """A variant's attributes beside what its segments hold."""
    codecs = variant.attributes.get("CODECS")
    if codecs is not None and held.audio is not None and not _names(codecs, held.audio):
        yield finding("master.content", place, f"CODECS is {codecs!r}, the segments hold {held.audio.codec}")
    bandwidth = bits_of(variant, "BANDWIDTH")
    if held.peak_bits is not None and bandwidth is not None:
        if bandwidth < held.peak_bits:
            yield finding("master.peak", place, f"BANDWIDTH is {bandwidth}, the peak {held.peak_bits}")
        elif bandwidth > 1.1 * held.peak_bits + 1_000:
            yield finding("master.peak-loose", place, f"BANDWIDTH is {bandwidth}, the peak only {held.peak_bits}")


def _names(codecs: str, audio: Audio) -> bool:
    named = {name.strip() for name in codecs.split(",")}
    return bool(named & (set(MP3_NAMES) if audio.codec in MP3_NAMES else {audio.codec}))


def ladder_rules(name: str, held: Sequence[Rendition]) -> Iterator[Finding]:
    """Variants beside each other."""
    targets = {one.name: one.target_s for one in held}
    if len(set(targets.values())) > 1:
        yield finding("master.target", name, f"target durations are {targets}")
    starts = {one.name: one.start_s for one in held if one.start_s is not None}
    apart_s = max([_APART_S, *(_APART_FRAMES * one.frame_s for one in held)])
    if starts and max(starts.values()) - min(starts.values()) > apart_s:
        yield finding("master.timestamps", name, f"variants begin at {starts}")
