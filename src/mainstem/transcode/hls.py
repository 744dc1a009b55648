"""Playlists, RFC 8216: the media playlist in the form that clients of stream-server know, and the master. Pure."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice

from mainstem.transcode.audio import Codec, Container, Rung, Segment
from mainstem.transcode.child import file_name
from mainstem.transcode.cutting import SEGMENT_S

MEDIA_TYPES = {".ts": "video/mp2t", ".m4s": "audio/mp4", ".mp4": "audio/mp4"}

CODECS = {Codec.AAC: "mp4a.40.2", Codec.MP3: "mp4a.40.34", Codec.OPUS: "Opus", Codec.FLAC: "fLaC"}
"""How a master playlist names them (RFC 6381, and the registries of their encapsulations)."""

INDEX = "index.m3u8"

_SEGMENT = re.compile(r"segment_([0-9]{5,9})\.(?:ts|m4s)")


def media(rung: Rung, segments: Sequence[Segment], *, ended: bool, event: bool) -> str:
    """The playlist of a rung: all of its segments, in order. `event`: one that grows until it has ended."""
    fragmented = rung.container is Container.FMP4
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{7 if fragmented else 3}",
        f"#EXT-X-TARGETDURATION:{SEGMENT_S}",
        "#EXT-X-MEDIA-SEQUENCE:0",
    ]
    if event:
        lines.append("#EXT-X-PLAYLIST-TYPE:EVENT")
    if fragmented:
        lines.append(f'#EXT-X-MAP:URI="{file_name(rung, 0)}"')
    for segment in segments:
        if segment.number:
            lines += [f"#EXTINF:{_seconds(segment.ticks, rung.sample_rate)},", file_name(rung, segment.number)]
    if ended:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def master(variants: Sequence[tuple[str, Rung, Sequence[Segment]]]) -> str:
    """The playlist that players choose a rung from: the address of each one's playlist, the rung, and its segments."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:6", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for address, rung, segments in variants:
        rates = f"BANDWIDTH={peak_bitrate(rung, segments)},AVERAGE-BANDWIDTH={average_bitrate(rung, segments)}"
        lines += [f'#EXT-X-STREAM-INF:{rates},CODECS="{CODECS[rung.codec]}"', address]
    return "\n".join(lines) + "\n"


def segment_number(rung: Rung, name: str) -> int | None:
    """The number of the rung's file with this name, 0 for the initialisation section; None: no file is called so."""
    if name == file_name(rung, 0) and rung.container is Container.FMP4:
        return 0
    match = _SEGMENT.fullmatch(name)
    number = int(match[1]) if match else 0
    return number if number and file_name(rung, number) == name else None


def peak_bitrate(rung: Rung, segments: Sequence[Segment]) -> int:
    """The highest rate of any run of segments that lasts half to one and a half target durations (RFC 8216, 4.1),
    in bits a second, or of all where there is no such run."""
    return max((_bitrate(rung, size, ticks) for size, ticks in _runs(rung, segments)), default=0) or average_bitrate(
        rung, segments
    )


def average_bitrate(rung: Rung, segments: Sequence[Segment]) -> int:
    played = [segment for segment in segments if segment.number]
    ticks = sum(segment.ticks for segment in played)
    return _bitrate(rung, sum(segment.size for segment in played), ticks) if ticks else 0


def _runs(rung: Rung, segments: Sequence[Segment]) -> Iterator[tuple[int, int]]:
    played = [segment for segment in segments if segment.number]
    shortest, longest = SEGMENT_S * rung.sample_rate // 2, SEGMENT_S * rung.sample_rate * 3 // 2
    for first in range(len(played)):
        size = ticks = 0
        for segment in islice(played, first, None):
            size, ticks = size + segment.size, ticks + segment.ticks
            if ticks > longest:
                break
            if ticks >= shortest:
                yield size, ticks


def _bitrate(rung: Rung, size: int, ticks: int) -> int:
    """Rounded up: what a player is promised is at least enough."""
    return -(-size * 8 * rung.sample_rate // ticks)


def _seconds(ticks: int, rate: int) -> str:
    """With as many decimals as it needs, six at most, and one at least."""
    whole, _, decimals = f"{float(Fraction(ticks, rate)):.6f}".partition(".")
    return f"{whole}.{decimals.rstrip('0') or '0'}"
