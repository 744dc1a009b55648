"""Reads fragmented MP4 (ISO 14496-12) as far as HLS audio needs it, and holds it to the rules."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import msgspec

from mainstem.hlscheck.content import NOTHING, Audio, Content
from mainstem.hlscheck.rules import Finding, finding

_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"mvex", b"moof", b"traf", b"edts"}
_DEPTH_MAX = 8
"""The boxes that are opened lie at most five deep in a file that is well made."""
_BRANDS = {b"iso6", b"iso7", b"iso8", b"iso9", b"isoa", b"isob", b"isoc", b"cmfc", b"cmf2", b"cmfs"}
_BASE_IS_MOOF, _HAS_BASE, _HAS_SAMPLE_DURATION, _HAS_SAMPLE_SIZE = 0x020000, 0x1, 0x8, 0x10
_HAS_DESCRIPTION = 0x2
_RUN_OFFSET, _RUN_FLAGS, _RUN_DURATION, _RUN_SIZE, _RUN_SAMPLE_FLAGS, _RUN_COMPOSITION = (
    1,
    4,
    0x100,
    0x200,
    0x400,
    0x800,
)


class _Box(NamedTuple):
    kind: bytes
    begin: int
    """Where the box begins in the file; its body follows its head."""
    body: bytes
    children: "list[_Box]"

    def find(self, *path: bytes) -> "_Box | None":
        box: _Box | None = self
        for kind in path:
            box = next((child for child in box.children if child.kind == kind), None) if box else None
        return box


class Track(msgspec.Struct, frozen=True):
    """What an initialization section says of the one track that it has."""

    timescale: int
    audio: Audio | None
    frame_ticks: int
    """The default duration of a sample; 0 when every fragment has its own."""
    sample_bytes: int


class _Broken(Exception):
    """The boxes do not fit into each other."""


def _boxes(data: bytes, begin: int = 0, end: int | None = None, depth: int = 0) -> Iterator[_Box]:
    """Raises _Broken."""
    if depth > _DEPTH_MAX:
        raise _Broken(f"at byte {begin} there are more than {_DEPTH_MAX} boxes around each other")
    end = len(data) if end is None else end
    while begin < end:
        head = 8
        if end - begin < head:
            raise _Broken(f"{end - begin} bytes are left over at byte {begin}")
        size, kind = int.from_bytes(data[begin : begin + 4]), data[begin + 4 : begin + 8]
        if size == 1:
            head, size = 16, int.from_bytes(data[begin + 8 : begin + 16])
        if size < head or begin + size > end:
            raise _Broken(f"{kind!r} at byte {begin} has {size} bytes, where {end - begin} are left")
        children = list(_boxes(data, begin + head, begin + size, depth + 1)) if kind in _PARENTS else []
        yield _Box(kind, begin, data[begin + head : begin + size], children)
        begin += size


def read_init(data: bytes, name: str) -> tuple[Track | None, list[Finding]]:
    """The track of an initialization section, None when it has none that can be read, and what the section breaks."""
    found: list[Finding] = []
    try:
        boxes = {box.kind: box for box in _boxes(data)}
    except _Broken as reason:
        return None, [finding("mp4.boxes", name, str(reason))]
    moov = boxes.get(b"moov")
    if b"ftyp" not in boxes or moov is None or moov.find(b"mvex", b"trex") is None:
        missing = "ftyp" if b"ftyp" not in boxes else "moov" if moov is None else "mvex with trex"
        found.append(finding("mp4.init", name, f"has no {missing}"))
    if ftyp := boxes.get(b"ftyp"):
        brands = {ftyp.body[:4], *(ftyp.body[at : at + 4] for at in range(8, len(ftyp.body), 4))}
        if not brands & _BRANDS:
            found.append(finding("mp4.brand", name, f"has only {', '.join(sorted(map(repr, brands)))}"))
    if moov is None:
        return None, found
    try:
        track = _track(moov)
    except (_Broken, struct.error, IndexError) as reason:
        return None, [*found, finding("mp4.boxes", name, f"a box of the moov is damaged: {reason}")]
    if track is None:
        return None, [*found, finding("mp4.init", name, "has no track with a description of its samples")]
    if _has_samples(moov):
        found.append(finding("mp4.init", name, "holds samples of its own"))
    return track, found


def _track(moov: _Box) -> Track | None:
    media = moov.find(b"trak", b"mdia")
    header = media and media.find(b"mdhd")
    description = media and media.find(b"minf", b"stbl", b"stsd")
    if not header or not description or len(description.body) < 16:
        return None
    timescale = int.from_bytes(header.body[20:24] if header.body[0] == 1 else header.body[12:16])
    defaults = moov.find(b"mvex", b"trex")
    _, _, ticks, size = struct.unpack_from(">4I", defaults.body, 4) if defaults else (0, 0, 0, 0)
    return Track(timescale, _audio(description.body[8:]), ticks, size)


def _audio(entry: bytes) -> Audio | None:
    """From a sample entry of version 0 (ISO 14496-12 section 12.2.3); None for video."""
    kind, channels, rate = entry[4:8], int.from_bytes(entry[24:26]), int.from_bytes(entry[32:34])
    extra = list(_boxes(entry, 36, int.from_bytes(entry[:4]))) if kind in (b"fLaC", b"Opus", b"mp4a") else []
    inner = {box.kind: box.body for box in extra}
    if kind == b"fLaC" and b"dfLa" in inner:
        # STREAMINFO: 20 bits of rate, 3 of channels - 1, after the block sizes and frame sizes (RFC 9639 section 8.2).
        word = int.from_bytes(inner[b"dfLa"][18:22])
        return Audio("fLaC", word >> 12, (word >> 9 & 7) + 1)
    if kind == b"Opus" and b"dOps" in inner:
        return Audio("Opus", rate, inner[b"dOps"][1])
    if kind == b"mp4a" and b"esds" in inner:
        return Audio(_mp4a_name(inner[b"esds"]), rate, channels)
    return None


def _mp4a_name(esds: bytes) -> str:
    """From the descriptors (ISO 14496-1 section 7.2.6): the object type, and for AAC the kind of AAC."""
    body = esds[4:]
    at = body.find(b"\x04")
    while at >= 0 and at + 2 < len(body):
        size_at = at + 1
        while body[size_at] & 0x80:
            size_at += 1
        object_type = body[size_at + 1]
        if object_type == 0x40:
            specific = body.find(b"\x05", size_at)
            value_at = specific + 1
            while body[value_at] & 0x80:
                value_at += 1
            return f"mp4a.40.{body[value_at + 1] >> 3}"
        return f"mp4a.{object_type:X}"
    return "mp4a"


def _has_samples(moov: _Box) -> bool:
    """Whether any of the tables that place samples has an entry."""
    table = moov.find(b"trak", b"mdia", b"minf", b"stbl")
    counted = [(b"stts", 4), (b"stsc", 4), (b"stco", 4), (b"stsz", 8)]
    boxes = [(table.find(kind), at) for kind, at in counted] if table else []
    return any(box is not None and any(box.body[at : at + 4]) for box, at in boxes)


def read_fragment(data: bytes, track: Track, name: str) -> tuple[Content, list[Finding], int]:
    """What a segment holds, what it breaks, and the number of its last fragment."""
    try:
        boxes = list(_boxes(data))
        fragment = _Fragment(track, name)
        for place, box in enumerate(boxes):
            if box.kind == b"moof":
                fragment.read(box, boxes[place + 1] if place + 1 < len(boxes) else None)
    except _Broken as reason:
        return NOTHING, [finding("mp4.boxes", name, str(reason))], 0
    except (struct.error, IndexError) as reason:
        return NOTHING, [finding("mp4.boxes", name, f"a box is too short: {reason}")], 0
    if not any(box.kind == b"moof" for box in boxes):
        fragment.find("mp4.fragment", "has no moof")
    return fragment.content(), fragment.findings, fragment.number


class _Fragment:
    """Adds up the fragments of one segment."""

    def __init__(self, track: Track, name: str) -> None:
        self.findings: list[Finding] = []
        self.number = 0
        self._track = track
        self._name = name
        self._begin: int | None = None
        self._ticks = 0
        self._samples = 0
        self._first_ticks = 0

    def find(self, rule: str, message: str) -> None:
        self.findings.append(finding(rule, self._name, message))

    def read(self, moof: _Box, mdat: _Box | None) -> None:
        if mdat is None or mdat.kind != b"mdat":
            self.find("mp4.fragment", "a moof is not followed by its mdat")
            return
        if header := moof.find(b"mfhd"):
            number = int.from_bytes(header.body[4:8])
            if number <= self.number:
                self.find("mp4.number", f"fragment {number} follows {self.number}")
            self.number = number
        traf = moof.find(b"traf")
        if traf is None or traf.find(b"tfhd") is None:
            self.find("mp4.fragment", "a moof has no traf with tfhd")
            return
        self._decode_time(traf)
        self._runs(traf, moof.begin, mdat)

    def _decode_time(self, traf: _Box) -> None:
        time = traf.find(b"tfdt")
        if time is None:
            self.find("mp4.fragment", "a traf has no tfdt")
            return
        ticks = int.from_bytes(time.body[4:12] if time.body[0] == 1 else time.body[4:8])
        if self._begin is None:
            self._begin = ticks
        elif ticks != self._begin + self._ticks:
            self.find(
                "segment.timestamps",
                f"a fragment begins at {ticks}, the one before ends at {self._begin + self._ticks}",
            )

    def _runs(self, traf: _Box, moof_at: int, mdat: _Box) -> None:
        header = traf.find(b"tfhd")
        assert header is not None
        flags = int.from_bytes(header.body[1:4])
        if not flags & _BASE_IS_MOOF or flags & _HAS_BASE:
            self.find("mp4.base", "tfhd does not say default-base-is-moof")
        ticks, size = self._defaults(header.body, flags)
        data_at = None
        for run in (child for child in traf.children if child.kind == b"trun"):
            begin, length = self._run(run.body, ticks, size)
            data_at = begin if data_at is None else data_at
            if begin is not None:
                first, last = moof_at + begin, moof_at + begin + length
                mdat_begin = mdat.begin + 8
                if first < mdat_begin or last > mdat_begin + len(mdat.body):
                    self.find("mp4.data", f"samples lie at bytes {first} to {last}, the mdat at {mdat_begin}")
                elif first == mdat_begin and last != mdat_begin + len(mdat.body):
                    self.find("mp4.data", f"{mdat_begin + len(mdat.body) - last} bytes of the mdat are no sample's")

    def _defaults(self, body: bytes, flags: int) -> tuple[int, int]:
        at, ticks, size = 8, self._track.frame_ticks, self._track.sample_bytes
        at += 8 * bool(flags & _HAS_BASE) + 4 * bool(flags & _HAS_DESCRIPTION)
        if flags & _HAS_SAMPLE_DURATION:
            ticks, at = int.from_bytes(body[at : at + 4]), at + 4
        if flags & _HAS_SAMPLE_SIZE:
            size = int.from_bytes(body[at : at + 4])
        return ticks, size

    def _run(self, body: bytes, ticks: int, size: int) -> tuple[int | None, int]:
        """Where the run's data begins, after its moof, and how many bytes it has; counts its samples."""
        flags, count = int.from_bytes(body[1:4]), int.from_bytes(body[4:8])
        begin, at = None, 8
        if flags & _RUN_OFFSET:
            begin, at = struct.unpack_from(">i", body, at)[0], at + 4
        at += 4 * bool(flags & _RUN_FLAGS)
        fields = [flag for flag in (_RUN_DURATION, _RUN_SIZE, _RUN_SAMPLE_FLAGS, _RUN_COMPOSITION) if flags & flag]
        words = struct.unpack_from(f">{count * len(fields)}I", body, at)
        durations = words[fields.index(_RUN_DURATION) :: len(fields)] if _RUN_DURATION in fields else (ticks,) * count
        sizes = words[fields.index(_RUN_SIZE) :: len(fields)] if _RUN_SIZE in fields else (size,) * count
        self._ticks += sum(durations)
        self._samples += count
        self._first_ticks = self._first_ticks or (durations[0] if durations else 0)
        return begin, sum(sizes)

    def content(self) -> Content:
        if self._begin is None or not self._samples or not self._track.timescale:
            return NOTHING
        scale = self._track.timescale
        return Content(
            self._track.audio,
            Fraction(self._begin, scale),
            Fraction(self._ticks, scale),
            Fraction(self._first_ticks, scale),
        )
