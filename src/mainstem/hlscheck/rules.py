"""The rules that a stream is held to, each with its source, and what was found against them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec


class Severity(StrEnum):
    ERROR = "error"
    """Against a MUST, or players stumble over it."""
    WARNING = "warning"
    """Against a SHOULD, or against what Apple asks of its devices."""


class Rule(NamedTuple):
    severity: Severity
    says: str
    source: str


class Finding(msgspec.Struct, frozen=True):
    """A rule that is broken in a place: a playlist with its line, a segment, or a URL."""

    rule: str
    severity: Severity
    place: str
    message: str
    source: str


def finding(rule: str, place: str, message: str) -> Finding:
    """Of a URL its query is left out, for it may hold a secret, and findings end up in logs."""
    severity, _, source = RULES[rule]
    return Finding(rule, severity, place.partition("?")[0] if "://" in place else place, message, source)


def _must(says: str, source: str) -> Rule:
    return Rule(Severity.ERROR, says, source)


def _should(says: str, source: str) -> Rule:
    return Rule(Severity.WARNING, says, source)


_APPLE = "Apple HLS authoring specification"

RULES: Mapping[str, Rule] = {
    # One playlist, as text
    "playlist.encoding": _must("UTF-8 without byte order mark and control characters", "RFC 8216 section 4"),
    "playlist.first-line": _must("The first line is #EXTM3U", "RFC 8216 section 4.3.1.1"),
    "playlist.kind": _must("Tags of media playlists and of master playlists never meet", "RFC 8216 section 4.1"),
    "playlist.once": _must("A tag that holds for the playlist stands once", "RFC 8216 section 4.3"),
    "playlist.value": _must("Values of tags have their type", "RFC 8216 section 4.3"),
    "playlist.attributes": _must("Attribute lists are well formed, each name once", "RFC 8216 section 4.2"),
    "playlist.version": _must("The version allows every feature that is used", "RFC 8216 section 7"),
    "playlist.target": _must("A media playlist has a target duration", "RFC 8216 section 4.3.3.1"),
    "playlist.target-exceeded": _must(
        "No duration, rounded, is more than the target duration", "RFC 8216 section 4.3.3.1"
    ),
    "playlist.sequence": _must("Sequence numbers come before the first segment", "RFC 8216 section 4.3.3.2"),
    "playlist.extinf": _must("Every segment has a duration, every duration a segment", "RFC 8216 section 4.3.2.1"),
    "playlist.type": _must("A playlist type is EVENT or VOD, and VOD has an end", "RFC 8216 section 4.3.3.5"),
    "playlist.map": _must("Fragmented MP4 has a media initialization section", "RFC 8216 section 3.3"),
    "playlist.empty": _should("A playlist that has ended has segments", "RFC 8216 section 4.3.3.4"),
    # Master playlists
    "master.uri": _must("A variant's tag is followed by its URI", "RFC 8216 section 4.3.4.2"),
    "master.bandwidth": _must("Every variant has a BANDWIDTH", "RFC 8216 section 4.3.4.2"),
    "master.codecs": _should("Every variant names its CODECS", "RFC 8216 section 4.3.4.2"),
    "master.average": _should("Every variant has an AVERAGE-BANDWIDTH", f"{_APPLE} 9.12"),
    "master.group": _must("A group that a variant names is there", "RFC 8216 section 4.3.4.2"),
    "master.peak": _must("BANDWIDTH is no less than the peak of the segments", "RFC 8216 section 4.3.4.2"),
    "master.peak-loose": _should("BANDWIDTH is at most a tenth above the measured peak", f"{_APPLE} 9.14"),
    "master.content": _must("CODECS names what the segments hold", "RFC 8216 section 4.3.4.2"),
    "master.target": _should("All variants have the same target duration", "RFC 8216 section 6.2.4"),
    "master.timestamps": _must("Variants have matching content at matching timestamps", "RFC 8216 section 6.2.4"),
    # MPEG transport streams
    "ts.packets": _must("A transport stream is packets of 188 bytes that begin with 0x47", "ISO 13818-1 section 2.4.3"),
    "ts.tables": _must("A segment has a PAT and a PMT, before its media", "RFC 8216 section 3.2"),
    "ts.tables-first": _should("PAT and PMT are the first two packets", "RFC 8216 section 3.2"),
    "ts.program": _must("A segment holds a single program", "RFC 8216 section 3.2"),
    "ts.checksum": _must("Tables have their checksum", "ISO 13818-1 section 2.4.4"),
    "ts.continuity": _must("Continuity counters count", "ISO 13818-1 section 2.4.3.3"),
    "ts.frames": _must("Segments hold whole frames of the codec that the PMT names", "RFC 8216 section 3"),
    "ts.pes": _must("PES packets are well formed and stamped", "ISO 13818-1 section 2.4.3.6"),
    # Fragmented MP4
    "mp4.boxes": _must("Boxes lie within each other and fill the file", "ISO 14496-12 section 4.2"),
    "mp4.init": _must("An initialization section has ftyp, moov, mvex, and no samples", "RFC 8216 section 3.3"),
    "mp4.brand": _must("The brands include iso6 or higher", "RFC 8216 section 3.3"),
    "mp4.fragment": _must("A segment is moof and mdat, its decode time in tfdt", "RFC 8216 section 3.3"),
    "mp4.base": _must("Samples are addressed from their own moof", "RFC 8216 section 3.3"),
    "mp4.data": _must("Samples lie within the mdat and fill it", "ISO 14496-12 section 8.8.8"),
    "mp4.number": _should("Fragments are numbered upwards", "ISO 14496-12 section 8.8.5"),
    # What the segments hold beside what the playlist says
    "segment.kind": _must("Segments are MPEG-TS or fragmented MP4", "RFC 8216 section 3"),
    "segment.missing": _must("Every segment can be had", "RFC 8216 section 6.2.1"),
    "segment.duration": _must("EXTINF is the segment's duration", "RFC 8216 section 4.3.2.1"),
    "segment.sum": _must("Durations add up without a perceptible error", "RFC 8216 section 4.3.2.1"),
    "segment.timestamps": _must("Timestamps run on from segment to segment", "RFC 8216 section 4.3.2.3"),
    "segment.codec": _must("All segments hold the same codec, rate and channels", "RFC 8216 section 4.3.2.3"),
    # Over HTTP
    "http.status": _must("What is named can be had", "RFC 8216 section 6.2.1"),
    "http.playlist-type": _must("Playlists are served as what they are", "RFC 8216 section 4"),
    "http.segment-type": _should("Segments are served as what they are", f"{_APPLE} 8.2"),
    "http.length": _must("As many bytes come as were announced", "RFC 9110 section 8.6"),
    "http.validator": _should("Answers have an ETag or a Last-Modified", "RFC 9110 section 8.8"),
    "http.unchanged": _must("If-None-Match with the ETag answers 304", "RFC 9110 section 13.1.2"),
    "http.cache-playlist": _must("A live playlist is not kept beyond half its target", "RFC 8216 section 6.2.2"),
    "http.cache-segment": _should("Segments may be kept, since they never change", "RFC 9111 section 5.2"),
    "http.range": _must("A range that is offered is the range that comes", "RFC 9110 section 14"),
    "http.head": _must("HEAD answers the headers of GET", "RFC 9110 section 9.3.2"),
    "http.origin": _must("A page of the given origin may read it", "Fetch standard section 3.3"),
    # A playlist that goes on
    "live.sequence": _must("The media sequence number counts what was removed", "RFC 8216 section 6.2.2"),
    "live.removed": _must("Nothing is removed from an EVENT or VOD playlist", "RFC 8216 section 4.3.3.5"),
    "live.changed": _must("Segments that were named stay as they were", "RFC 8216 section 6.2.1"),
    "live.target": _must("The target duration never changes", "RFC 8216 section 4.3.3.1"),
    "live.end": _must("After its end a playlist does not change", "RFC 8216 section 4.3.3.4"),
    "live.late": _should("A playlist grows within 1.5 target durations", "RFC 8216 section 6.2.2"),
}  # fmt: skip
