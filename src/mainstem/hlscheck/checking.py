"""Walks a stream: its playlist, the variants that a master playlist names, and every segment."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from mainstem.errors import Invalid
from mainstem.hlscheck.content import NOTHING, Content
from mainstem.hlscheck.fragments import Track, read_fragment, read_init
from mainstem.hlscheck.playlist import Playlist, Segment, read_playlist
from mainstem.hlscheck.presentation import Measured, Rendition, content_rules, ladder_rules, rendition, variant_rules
from mainstem.hlscheck.rules import Finding, Severity, finding
from mainstem.hlscheck.sources import PLAYLIST_BYTES_MAX, SEGMENT_BYTES_MAX, Folder, Source, Unreachable, Web
from mainstem.hlscheck.succession import succession_rules
from mainstem.hlscheck.transfer import playlist_transfer, segment_transfer
from mainstem.hlscheck.transport import PACKET, read_transport

_SYNC = 0x47
_POLL_S_MIN = 0.2


class Report(msgspec.Struct, frozen=True):
    place: str
    renditions: list[Rendition]
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """No rule that must be kept is broken."""
        return not any(one.severity is Severity.ERROR for one in self.findings)


class Watch(NamedTuple):
    """How long to follow a playlist that goes on, and with whose time."""

    seconds: float = 0
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


ONCE = Watch()


def check(
    place: str, *, watch: Watch = ONCE, origin: str | None = None, headers: Mapping[str, str] | None = None
) -> Report:
    """Hold a stream to the rules: `place` is the http address of a playlist, or its path.

    A playlist that has not ended is followed for `watch.seconds` or until its end. With `origin`, pages of that origin
    must be able to read everything. `headers`, such as Authorization, go with every request to the server of `place`.

    Raises Invalid when the place cannot be read at all.
    """
    if "://" in place:
        web = Web(place, headers or {}, origin)
        try:
            return _Walk(web, watch, origin).report(place)
        finally:
            web.close()
    path = Path(place)
    if path.is_dir():
        path /= "master.m3u8" if (path / "master.m3u8").exists() else "index.m3u8"
    return _Walk(Folder(path.parent), watch, None).report(str(path.resolve()))


class _Walk:
    def __init__(self, source: Source, watch: Watch, origin: str | None) -> None:
        self._source = source
        self._watch = watch
        self._origin = origin
        self._findings: list[Finding] = []
        self._renditions: list[Rendition] = []
        self._tracks: dict[str, Track | None] = {}

    def report(self, place: str) -> Report:
        try:
            playlist = self._playlist(place)
        except Unreachable as reason:
            raise Invalid(f"{place} {reason}.") from reason
        if playlist is None:
            raise Invalid(f"{place}: {self._findings[-1].message}.")
        if playlist.is_master:
            self._master(playlist, place)
        else:
            self._media(playlist, place)
        return Report(place, self._renditions, self._findings)

    def _add(self, findings: Iterable[Finding]) -> None:
        self._findings += findings

    def _playlist(self, address: str) -> Playlist | None:
        """Raises Unreachable; None, with a finding, when the server has no such thing."""
        answer = self._source.read(address, PLAYLIST_BYTES_MAX)
        if answer.status != 200:
            self._add([finding("http.status", address, f"was answered {answer.status}")])
            return None
        playlist, found = read_playlist(answer.body, _short(address))
        self._add(found)
        if isinstance(self._source, Web):
            self._add(playlist_transfer(self._source, address, answer, playlist, self._origin))
        return playlist

    def _master(self, master: Playlist, place: str) -> None:
        held: list[Rendition] = []
        known: dict[str, Rendition | None] = {}
        for variant in [*master.variants, *master.renditions]:
            if variant.uri not in known:
                known[variant.uri] = self._variant(self._source.resolve(place, variant.uri))
            one = known[variant.uri]
            if one is None:
                continue
            if variant in master.variants:
                self._add(variant_rules(f"{master.name}:{variant.line}", variant, one))
                held.append(one)
        self._add(ladder_rules(master.name, held))

    def _variant(self, address: str) -> Rendition | None:
        try:
            playlist = self._playlist(address)
        except Unreachable as reason:
            self._add([finding("http.status", address, str(reason))])
            return None
        if playlist is None:
            return None
        if playlist.is_master:
            self._add(
                [finding("playlist.kind", address, "a master playlist is named where a media playlist should be")]
            )
            return None
        return self._media(playlist, address)

    # Media playlists

    def _media(self, playlist: Playlist, address: str) -> Rendition:
        measured = [self._segment(segment, address, place) for place, segment in enumerate(playlist.segments)]
        if not playlist.has_ended and self._watch.seconds:
            playlist = self._follow(playlist, address, measured)
        known = [one for one in measured if one is not None]
        self._add(content_rules(known))
        one = rendition(playlist, known)
        self._renditions.append(one)
        return one

    def _follow(self, playlist: Playlist, address: str, measured: list[Measured | None]) -> Playlist:
        """Fetch it again and again, with its new segments, until it ends or the time is up; the last state of it."""
        watch = self._watch
        until = grown_at = watch.now()
        until += watch.seconds
        is_late = False
        while not playlist.has_ended and watch.now() < until:
            patience_s = playlist.target_s or 1
            watch.sleep(max(_POLL_S_MIN, min(patience_s / 2, until - watch.now())))
            try:
                latest = self._playlist(address)
            except Unreachable as reason:
                self._add([finding("http.status", address, str(reason))])
                return playlist
            if latest is None:
                return playlist
            self._add(succession_rules(playlist, latest))
            new = latest.segments[max(0, len(playlist.segments) - (latest.sequence - playlist.sequence)) :]
            measured += [self._segment(segment, address, len(measured) + place) for place, segment in enumerate(new)]
            if new or latest.has_ended:
                grown_at, is_late = watch.now(), False
            elif watch.now() - grown_at > 1.5 * patience_s and not is_late:
                is_late = True
                self._add([finding("live.late", latest.name, f"has not grown for {watch.now() - grown_at:.1f} s")])
            playlist = latest
        return playlist

    # Segments

    def _segment(self, segment: Segment, base: str, place: int) -> Measured | None:
        address = self._source.resolve(base, segment.uri)
        data = self._fetch(address, thoroughly=place == 0)
        if data is None:
            return None
        if segment.byte_range is not None:
            return None  # a part of a file: its container cannot be judged by itself
        content, found = self._read(segment, base, data, _short(address))
        self._add(found)
        return Measured(segment, _short(address), len(data), content)

    def _fetch(self, address: str, *, thoroughly: bool) -> bytes | None:
        try:
            answer = self._source.read(address, SEGMENT_BYTES_MAX)
        except Unreachable as reason:
            self._add([finding("segment.missing", address, str(reason))])
            return None
        if answer.status != 200:
            self._add([finding("segment.missing", address, f"was answered {answer.status}")])
            return None
        if isinstance(self._source, Web):
            kind = "ts" if answer.body[:1] == bytes([_SYNC]) else "mp4"
            self._add(
                segment_transfer(self._source, address, answer, kind, self._origin, thoroughly=thoroughly),
            )
        return answer.body

    def _read(self, segment: Segment, base: str, data: bytes, name: str) -> tuple[Content, Sequence[Finding]]:
        if segment.map_uri is not None:
            track = self._track(self._source.resolve(base, segment.map_uri))
            if track is None:
                return NOTHING, []
            content, found, _ = read_fragment(data, track, name)
            return content, found
        if data[4:8] in (b"styp", b"moof", b"sidx", b"ftyp"):
            return NOTHING, [finding("playlist.map", name, "is fragmented MP4, and no EXT-X-MAP is before it")]
        if data[:1] == bytes([_SYNC]) or len(data) % PACKET == 0:
            return read_transport(data, name)
        return NOTHING, [finding("segment.kind", name, f"begins with {data[:8].hex()}")]

    def _track(self, address: str) -> Track | None:
        if address not in self._tracks:
            data = self._fetch(address, thoroughly=True)
            self._tracks[address], found = read_init(data, _short(address)) if data is not None else (None, [])
            self._add(found)
        return self._tracks[address]


def _short(address: str) -> str:
    """What a person calls it: the last two parts, without a query, which may hold a secret."""
    return "/".join(address.partition("?")[0].rsplit("/", 2)[-2:])
