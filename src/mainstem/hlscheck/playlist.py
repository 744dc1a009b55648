"""Reads one playlist and holds its text to the rules; knows nothing of what its URIs lead to."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal

import msgspec

from mainstem.hlscheck.rules import Finding, finding


class Segment(msgspec.Struct, frozen=True):
    uri: str
    line: int
    duration_s: Decimal
    map_uri: str | None
    is_discontinuous: bool
    byte_range: str | None = None


class Variant(msgspec.Struct, frozen=True):
    """One STREAM-INF with its URI, or one MEDIA tag that has a URI of its own."""

    uri: str
    line: int
    attributes: Mapping[str, str]


class Playlist(msgspec.Struct):
    """A playlist as it was read; what could not be read is missing, and in the findings."""

    name: str
    is_master: bool = False
    version: int = 1
    target_s: int | None = None
    sequence: int = 0
    type: str | None = None
    has_ended: bool = False
    is_of_iframes: bool = False
    segments: list[Segment] = msgspec.field(default_factory=list)
    variants: list[Variant] = msgspec.field(default_factory=list)
    renditions: list[Variant] = msgspec.field(default_factory=list)
    groups: set[tuple[str, str]] = msgspec.field(default_factory=set)
    """(TYPE, GROUP-ID) of every MEDIA tag."""

    @property
    def duration_s(self) -> Decimal:
        return sum((segment.duration_s for segment in self.segments), Decimal())


def read_playlist(content: bytes, name: str) -> tuple[Playlist, list[Finding]]:
    """The playlist, as far as it can be understood, and what its text alone breaks."""
    reader = _Reader(name)
    reader.read(content)
    return reader.playlist, reader.findings


_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"\r\n]*"|[^",\s][^,]*)(?:,|$)')
_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20}")
_BITS = re.compile(r"[0-9]{1,20}")
_CONTROL = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]")

_OF_MASTER = {"EXT-X-MEDIA", "EXT-X-STREAM-INF", "EXT-X-I-FRAME-STREAM-INF", "EXT-X-SESSION-DATA", "EXT-X-SESSION-KEY"}
_OF_SEGMENT = {
    "EXTINF", "EXT-X-BYTERANGE", "EXT-X-DISCONTINUITY", "EXT-X-KEY", "EXT-X-MAP", "EXT-X-PROGRAM-DATE-TIME",
    "EXT-X-DATERANGE",
}  # fmt: skip
_OF_MEDIA = _OF_SEGMENT | {
    "EXT-X-TARGETDURATION", "EXT-X-MEDIA-SEQUENCE", "EXT-X-DISCONTINUITY-SEQUENCE", "EXT-X-ENDLIST",
    "EXT-X-PLAYLIST-TYPE", "EXT-X-I-FRAMES-ONLY",
}  # fmt: skip
_ONCE = (_OF_MEDIA - _OF_SEGMENT) | {"EXT-X-VERSION", "EXT-X-INDEPENDENT-SEGMENTS", "EXT-X-START"}
_VERSION_OF_FRACTIONS, _VERSION_OF_RANGES, _VERSION_OF_MAPS, _VERSION_OF_IFRAME_MAPS = 3, 4, 6, 5


class _Reader:
    """Goes through the lines once; what a tag says of the next segment waits for its URI."""

    def __init__(self, name: str) -> None:
        self.playlist = Playlist(name)
        self.findings: list[Finding] = []
        self._seen: dict[str, int] = {}
        self._needs: list[tuple[int, int, str]] = []  # version, line, for what
        self._duration: tuple[Decimal, int] | None = None
        self._variant: tuple[dict[str, str], int] | None = None
        self._map_uri: str | None = None
        self._byte_range: str | None = None
        self._is_discontinuous = False
        self._tags: Mapping[str, Callable[[str, int], None]] = {
            "EXT-X-VERSION": self._version,
            "EXT-X-TARGETDURATION": self._target,
            "EXT-X-MEDIA-SEQUENCE": self._sequence,
            "EXT-X-DISCONTINUITY-SEQUENCE": self._discontinuity_sequence,
            "EXT-X-PLAYLIST-TYPE": self._type,
            "EXT-X-ENDLIST": self._end,
            "EXT-X-I-FRAMES-ONLY": self._iframes,
            "EXTINF": self._extinf,
            "EXT-X-BYTERANGE": self._range,
            "EXT-X-DISCONTINUITY": self._discontinuity,
            "EXT-X-KEY": self._key,
            "EXT-X-MAP": self._map,
            "EXT-X-STREAM-INF": self._stream_inf,
            "EXT-X-MEDIA": self._media,
        }

    def read(self, content: bytes) -> None:
        for number, line in enumerate(self._lines(content), 1):
            if line.startswith("#EXT"):
                self._tag(line, number)
            elif line and not line.startswith("#"):
                self._uri(line, number)
        self._finish()

    def _find(self, rule: str, line: int, message: str) -> None:
        self.findings.append(finding(rule, f"{self.playlist.name}:{line}", message))

    def _lines(self, content: bytes) -> list[str]:
        if content.startswith(b"\xef\xbb\xbf"):
            self._find("playlist.encoding", 1, "begins with a byte order mark")
            content = content[3:]
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            self._find("playlist.encoding", 1 + content[: error.start].count(b"\n"), "is not UTF-8")
            text = content.decode(errors="replace")
        lines = [line.removesuffix("\r") for line in text.split("\n")]
        for number, line in enumerate(lines, 1):
            if _CONTROL.search(line):
                self._find("playlist.encoding", number, "has a control character")
        if lines[0] != "#EXTM3U":
            self._find("playlist.first-line", 1, f"is {lines[0][:40]!r}")
        return lines

    def _tag(self, line: str, number: int) -> None:
        name, _, value = line[1:].partition(":")
        if name in _ONCE and name in self._seen:
            self._find("playlist.once", number, f"{name} stands in line {self._seen[name]} already")
        self._seen.setdefault(name, number)
        if meaning := self._tags.get(name):
            meaning(value, number)

    def _uri(self, uri: str, number: int) -> None:
        if self._variant is not None:
            self.playlist.variants.append(Variant(uri, number, self._variant[0]))
            self._variant = None
            return
        if self._duration is None:
            self._find("playlist.extinf", number, f"{uri} has no EXTINF")
        segment = Segment(
            uri,
            number,
            self._duration[0] if self._duration else Decimal(),
            self._map_uri,
            self._is_discontinuous,
            self._byte_range,
        )
        self.playlist.segments.append(segment)
        self._duration, self._byte_range, self._is_discontinuous = None, None, False

    # Tags

    def _whole(self, tag: str, value: str, number: int) -> int | None:
        if not re.fullmatch(r"[0-9]{1,20}", value):
            self._find("playlist.value", number, f"{tag} is {value!r}, not a whole number")
            return None
        return int(value)

    def _version(self, value: str, number: int) -> None:
        self.playlist.version = self._whole("EXT-X-VERSION", value, number) or self.playlist.version

    def _target(self, value: str, number: int) -> None:
        self.playlist.target_s = self._whole("EXT-X-TARGETDURATION", value, number)

    def _sequence(self, value: str, number: int) -> None:
        if self.playlist.segments:
            self._find("playlist.sequence", number, "EXT-X-MEDIA-SEQUENCE comes after a segment")
        self.playlist.sequence = self._whole("EXT-X-MEDIA-SEQUENCE", value, number) or 0

    def _discontinuity_sequence(self, value: str, number: int) -> None:
        if self.playlist.segments or self._is_discontinuous:
            self._find("playlist.sequence", number, "EXT-X-DISCONTINUITY-SEQUENCE comes after a segment")
        self._whole("EXT-X-DISCONTINUITY-SEQUENCE", value, number)

    def _type(self, value: str, number: int) -> None:
        if value not in ("EVENT", "VOD"):
            self._find("playlist.type", number, f"is {value!r}")
            return
        self.playlist.type = value

    def _end(self, value: str, number: int) -> None:
        self.playlist.has_ended = True

    def _iframes(self, value: str, number: int) -> None:
        self.playlist.is_of_iframes = True
        self._needs.append((_VERSION_OF_RANGES, number, "EXT-X-I-FRAMES-ONLY"))

    def _extinf(self, value: str, number: int) -> None:
        if self._duration is not None:
            self._find("playlist.extinf", self._duration[1], "EXTINF has no URI")
        text, comma, _ = value.partition(",")
        if not _DECIMAL.fullmatch(text):
            self._find("playlist.value", number, f"EXTINF is {text!r}, not a duration")
            text = "0"
        elif not comma:
            self._find("playlist.value", number, "EXTINF has no comma after its duration")
        if not text.isdecimal():
            self._needs.append((_VERSION_OF_FRACTIONS, number, f"EXTINF {text}"))
        self._duration = (Decimal(text), number)

    def _range(self, value: str, number: int) -> None:
        if not re.fullmatch(r"[0-9]{1,20}(@[0-9]{1,20})?", value):
            self._find("playlist.value", number, f"EXT-X-BYTERANGE is {value!r}")
        self._needs.append((_VERSION_OF_RANGES, number, "EXT-X-BYTERANGE"))
        self._byte_range = value

    def _discontinuity(self, value: str, number: int) -> None:
        self._is_discontinuous = True

    def _key(self, value: str, number: int) -> None:
        attributes = self._attributes(value, number)
        if "IV" in attributes:
            self._needs.append((2, number, "IV"))
        if "KEYFORMAT" in attributes or "KEYFORMATVERSIONS" in attributes:
            self._needs.append((5, number, "KEYFORMAT"))

    def _map(self, value: str, number: int) -> None:
        attributes = self._attributes(value, number)
        self._needs.append((_VERSION_OF_MAPS, number, "EXT-X-MAP"))
        if "URI" not in attributes:
            self._find("playlist.map", number, "EXT-X-MAP has no URI")
        self._map_uri = attributes.get("URI", self._map_uri)

    def _stream_inf(self, value: str, number: int) -> None:
        self._check_variant()
        self._variant = (self._attributes(value, number), number)

    def _media(self, value: str, number: int) -> None:
        attributes = self._attributes(value, number)
        for name in {"TYPE", "GROUP-ID", "NAME"} - attributes.keys():
            self._find("playlist.attributes", number, f"EXT-X-MEDIA has no {name}")
        self.playlist.groups.add((attributes.get("TYPE", ""), attributes.get("GROUP-ID", "")))
        if "URI" in attributes:
            self.playlist.renditions.append(Variant(attributes["URI"], number, attributes))

    def _attributes(self, text: str, number: int) -> dict[str, str]:
        """Names and values without their quotes."""
        attributes: dict[str, str] = {}
        at = 0
        while at < len(text):
            match = _ATTRIBUTE.match(text, at)
            if match is None:
                self._find("playlist.attributes", number, f"cannot be read from {text[at:][:40]!r}")
                break
            if match[1] in attributes:
                self._find("playlist.attributes", number, f"{match[1]} stands twice")
            attributes[match[1]] = match[2].strip('"')
            at = match.end()
        return attributes

    # The whole

    def _finish(self) -> None:
        playlist = self.playlist
        self._check_variant()
        if self._duration is not None:
            self._find("playlist.extinf", self._duration[1], "EXTINF has no URI")
        tags = self._seen.keys()
        playlist.is_master = bool(tags & _OF_MASTER)
        if playlist.is_master and tags & _OF_MEDIA:
            both = f"{min(tags & _OF_MASTER)} and {min(tags & _OF_MEDIA)}"
            self._find("playlist.kind", 1, f"{both} stand in one playlist")
        self._check_versions()
        self.findings += _master_rules(playlist) if playlist.is_master else _media_rules(playlist)

    def _check_variant(self) -> None:
        if self._variant is not None:
            self._find("master.uri", self._variant[1], "EXT-X-STREAM-INF has no URI")

    def _check_versions(self) -> None:
        for version, line, feature in self._needs:
            if feature == "EXT-X-MAP" and self.playlist.is_of_iframes:
                version = _VERSION_OF_IFRAME_MAPS
            if self.playlist.version < version:
                message = f"{feature} needs version {version}, the playlist says {self.playlist.version}"
                self._find("playlist.version", line, message)
                return  # one is enough: the next thousand lines say the same


def _media_rules(playlist: Playlist) -> Iterator[Finding]:
    name = playlist.name
    if playlist.target_s is None:
        yield finding("playlist.target", name, "has no EXT-X-TARGETDURATION")
    for segment in playlist.segments:
        yield from _segment_rules(playlist, segment)
    if playlist.type == "VOD" and not playlist.has_ended:
        yield finding("playlist.type", name, "is VOD and has no EXT-X-ENDLIST")
    if playlist.has_ended and not playlist.segments:
        yield finding("playlist.empty", name, "has ended without a segment")


def _segment_rules(playlist: Playlist, segment: Segment) -> Iterator[Finding]:
    place = f"{playlist.name}:{segment.line}"
    target_s, duration_s = playlist.target_s, segment.duration_s
    if target_s is not None and rounded(duration_s) > target_s:
        yield finding("playlist.target-exceeded", place, f"{duration_s} s is more than {target_s} s")
    if segment.map_uri is None and re.search(r"\.(m4s|mp4|m4a|cmfa)(\?|$)", segment.uri):
        yield finding("playlist.map", place, f"{segment.uri} has no EXT-X-MAP before it")


def rounded(duration_s: Decimal) -> int:
    """To the nearest whole second, a half upwards."""
    return math.floor(duration_s + Decimal("0.5"))


def bits_of(variant: Variant, attribute: str) -> int | None:
    """What an attribute says in bits a second; None when it is no decimal integer (RFC 8216, 4.2)."""
    text = variant.attributes.get(attribute, "")
    return int(text) if _BITS.fullmatch(text) else None


def _master_rules(playlist: Playlist) -> Iterator[Finding]:
    for variant in playlist.variants:
        place, attributes = f"{playlist.name}:{variant.line}", variant.attributes
        if bits_of(variant, "BANDWIDTH") is None:
            yield finding("master.bandwidth", place, f"BANDWIDTH is {attributes.get('BANDWIDTH')}")
        if "CODECS" not in attributes:
            yield finding("master.codecs", place, f"{variant.uri} has no CODECS")
        if bits_of(variant, "AVERAGE-BANDWIDTH") is None:
            yield finding("master.average", place, f"AVERAGE-BANDWIDTH is {attributes.get('AVERAGE-BANDWIDTH')}")
        for kind in ("AUDIO", "VIDEO", "SUBTITLES"):
            if kind in attributes and (kind, attributes[kind]) not in playlist.groups:
                yield finding("master.group", place, f"there is no EXT-X-MEDIA with {kind} {attributes[kind]!r}")
