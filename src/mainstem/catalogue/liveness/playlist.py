"""HLS playlists, as far as liveness goes (RFC 8216 and its second edition), and M3U and PLS files of radio stations.

Pure. Only what says where a stream stands is read; everything else in a playlist is passed over.
"""

import re
import zlib
from datetime import UTC, datetime
from typing import NamedTuple

from mainstem.catalogue.liveness.address import Unreachable
from mainstem.catalogue.liveness.verdict import Reason
from mainstem.clock import SECOND_US

TARGET_S_DEFAULT = 10.0
_SKEW_S = 60.0

_BANDWIDTH = re.compile(r"(?:^|[:,])BANDWIDTH=(\d{1,15})")
_DURATION = re.compile(r"(?:^|[:,])DURATION=([0-9.]{1,20})")
_SKIPPED = re.compile(r"(?:^|[:,])SKIPPED-SEGMENTS=(\d{1,15})")
_PLS_FILE = re.compile(r"^File\d+=(\S+)\s*$", re.MULTILINE | re.IGNORECASE)


class Pointer(NamedTuple):
    """A file that only says where the real thing is: a multivariant playlist, or a radio station's M3U or PLS."""

    reference: str


class Position(NamedTuple):
    """How far a media playlist has come."""

    number: int
    """The media sequence number of its last segment; one less than the first when it has none yet."""
    parts: int
    """Parts of the segment that is being made."""
    mark: int
    """Tells segments of one number apart, for servers that forget to count."""

    def is_past(self, other: "Position") -> bool:
        """Whether this is further on. A smaller number is a new beginning or an older copy, and says nothing yet."""
        if self.number != other.number:
            return self.number > other.number
        return self.parts > other.parts or self.mark != other.mark


class MediaPlaylist(NamedTuple):
    """A playlist of segments."""

    target_s: float
    """The target duration: the longest time a live playlist may stay as it is is about this."""
    position: Position
    newest_us: int | None
    """When the newest segment or part ended, by EXT-X-PROGRAM-DATE-TIME."""
    ended: bool

    def is_fresh(self, now_us: int) -> bool:
        """The newest segment is younger than three target durations, by a clock that does not run far ahead of ours."""
        if self.newest_us is None:
            return False
        age_s = (now_us - self.newest_us) / SECOND_US
        return -_SKEW_S < age_s < 3 * self.target_s


def parse_playlist(text: str) -> MediaPlaylist | Pointer:
    """Raises Unreachable (BROKEN_ANSWER) when the text is no playlist, or one without anything in it."""
    text = text.removeprefix("\ufeff")
    if text.lstrip()[:10].lower() == "[playlist]":
        found = _PLS_FILE.search(text)
        if found is None:
            raise Unreachable(Reason.BROKEN_ANSWER, "an empty playlist")
        return Pointer(found[1])
    if not text.startswith("#EXTM3U"):
        raise Unreachable(Reason.BROKEN_ANSWER, "no playlist")
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    if any(line.startswith("#EXT-X-STREAM-INF") for line in lines):
        return _lightest_variant(lines)
    if any(line.startswith(("#EXT-X-TARGETDURATION", "#EXT-X-MEDIA-SEQUENCE")) for line in lines):
        return _media_playlist(lines)
    reference = next((line for line in lines if not line.startswith("#")), None)
    if reference is None:
        raise Unreachable(Reason.BROKEN_ANSWER, "an empty playlist")
    return Pointer(reference)


def _lightest_variant(lines: list[str]) -> Pointer:
    """All variants say the same of liveness, and this one costs its server least."""
    variants: list[tuple[int, str]] = []
    bandwidth: int | None = None
    for line in lines:
        if line.startswith("#EXT-X-STREAM-INF"):
            found = _BANDWIDTH.search(line)
            bandwidth = int(found[1]) if found else 0
        elif bandwidth is not None and not line.startswith("#"):
            variants.append((bandwidth, line))
            bandwidth = None
    if not variants:
        raise Unreachable(Reason.BROKEN_ANSWER, "variants without addresses")
    return Pointer(min(variants)[1])


def _media_playlist(lines: list[str]) -> MediaPlaylist:
    target_s: float | None = None
    longest_s, segment_s = 0.0, 0.0
    sequence, segments, parts = 0, 0, 0
    newest_us: float | None = None
    ended = False
    last = ""
    for line in lines:
        tag, _, value = line.partition(":")
        match tag:
            case "#EXT-X-TARGETDURATION":
                target_s = _number(value)
            case "#EXT-X-MEDIA-SEQUENCE":
                sequence = _whole(value)
            case "#EXT-X-SKIP":
                skipped = _SKIPPED.search(line)
                segments += int(skipped[1]) if skipped else 0
            case "#EXTINF":
                segment_s = _number(value.partition(",")[0])
                longest_s = max(longest_s, segment_s)
            case "#EXT-X-PROGRAM-DATE-TIME":
                newest_us = _time_us(value)
            case "#EXT-X-PART":
                parts += 1
                duration = _DURATION.search(line)
                if newest_us is not None and duration:
                    newest_us += _number(duration[1]) * SECOND_US
            case "#EXT-X-ENDLIST":
                ended = True
            case "#EXT-X-PLAYLIST-TYPE":
                ended = ended or value.strip().upper() == "VOD"
            case _ if not line.startswith("#"):
                if newest_us is not None and not parts:  # with parts, their durations were added already
                    newest_us += segment_s * SECOND_US
                segments += 1
                segment_s, parts, last = 0.0, 0, line
    return MediaPlaylist(
        target_s=max(target_s or longest_s or TARGET_S_DEFAULT, 0.1),
        position=Position(sequence + segments - 1, parts, zlib.crc32(last.partition("?")[0].encode())),
        newest_us=None if newest_us is None else int(newest_us),
        ended=ended,
    )


def _number(text: str) -> float:
    """A number of seconds."""
    try:
        number = float(text.strip())
    except ValueError as error:
        raise Unreachable(Reason.BROKEN_ANSWER, "a playlist with a broken number") from error
    if not 0 <= number < 1 << 63:
        raise Unreachable(Reason.BROKEN_ANSWER, "a playlist with an impossible number")
    return number


def _whole(text: str) -> int:
    """A sequence number, to the last digit: some are times in nanoseconds, beyond what a float tells apart."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise Unreachable(Reason.BROKEN_ANSWER, "a playlist with an impossible number")
    return int(digits)


def _time_us(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * SECOND_US
    except (ValueError, OverflowError):
        return None
