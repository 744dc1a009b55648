"""How playlists and segments come over HTTP: types, validators, caching, ranges, and pages of other origins."""

import re
from collections.abc import Iterator

from mainstem.hlscheck.playlist import Playlist
from mainstem.hlscheck.rules import Finding, finding
from mainstem.hlscheck.sources import Answer, Unreachable, Web

_PLAYLIST_TYPES = ("application/vnd.apple.mpegurl", "audio/mpegurl", "application/x-mpegurl", "audio/x-mpegurl")
_SEGMENT_TYPES = {
    "ts": ("video/mp2t", "audio/mp2t"),
    "mp4": ("video/mp4", "audio/mp4", "video/iso.segment", "audio/iso.segment"),
}
_PROBE_BYTES = 188


def playlist_transfer(
    web: Web, address: str, answer: Answer, playlist: Playlist, origin: str | None
) -> Iterator[Finding]:
    if (kind := _type(answer)) not in _PLAYLIST_TYPES:
        yield finding("http.playlist-type", address, f"is served as {kind!r}")
    kept_s = re.search(r"max-age=([0-9]{1,18})", answer.headers.get("cache-control", ""))
    goes_on = not playlist.is_master and not playlist.has_ended
    if goes_on and kept_s and int(kept_s[1]) > (playlist.target_s or 0) / 2:
        yield finding("http.cache-playlist", address, f"max-age is {kept_s[1]}, the target {playlist.target_s}")
    yield from _common(web, address, answer, origin)
    if playlist.has_ended or playlist.is_master:
        yield from _unchanged(web, address, answer)


def segment_transfer(
    web: Web, address: str, answer: Answer, kind: str, origin: str | None, *, thoroughly: bool
) -> Iterator[Finding]:
    """`thoroughly` asks again: with a range, with HEAD, and whether it has changed."""
    if (served := _type(answer)) not in _SEGMENT_TYPES[kind]:
        yield finding("http.segment-type", address, f"is served as {served!r}")
    if not re.search(r"max-age=[1-9]", answer.headers.get("cache-control", "")):
        message = f"Cache-Control is {answer.headers.get('cache-control')!r}"
        yield finding("http.cache-segment", address, message)
    yield from _common(web, address, answer, origin)
    if thoroughly:
        yield from _unchanged(web, address, answer)
        yield from _head(web, address, answer)
        yield from _range(web, address, answer)


def _type(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def _common(web: Web, address: str, answer: Answer, origin: str | None) -> Iterator[Finding]:
    length = answer.headers.get("content-length")
    if length is not None and length.strip() != str(len(answer.body)):
        yield finding("http.length", address, f"Content-Length is {length}, and {len(answer.body)} bytes came")
    if not answer.headers.keys() & {"etag", "last-modified"}:
        yield finding("http.validator", address, "has neither ETag nor Last-Modified")
    if origin is not None and answer.headers.get("access-control-allow-origin") not in (origin, "*"):
        allowed = answer.headers.get("access-control-allow-origin")
        yield finding("http.origin", address, f"Access-Control-Allow-Origin is {allowed!r} for {origin}")


def _unchanged(web: Web, address: str, answer: Answer) -> Iterator[Finding]:
    if tag := answer.headers.get("etag"):
        again = _ask(web, "GET", address, {"If-None-Match": tag}, len(answer.body))
        if again.status != 304:
            yield finding("http.unchanged", address, f"If-None-Match: {tag} was answered {again.status}")


def _head(web: Web, address: str, answer: Answer) -> Iterator[Finding]:
    head = _ask(web, "HEAD", address, {}, 0)
    for name in ("content-type", "content-length", "etag"):
        if head.status != answer.status or head.headers.get(name) != answer.headers.get(name):
            message = f"HEAD {head.status} {name} {head.headers.get(name)!r}, GET {answer.status}"
            yield finding("http.head", address, f"{message} {answer.headers.get(name)!r}")
            return


def _range(web: Web, address: str, answer: Answer) -> Iterator[Finding]:
    if answer.headers.get("accept-ranges") != "bytes" or len(answer.body) <= 1:
        return
    last = min(_PROBE_BYTES, len(answer.body)) - 1
    part = _ask(web, "GET", address, {"Range": f"bytes=1-{last}"}, len(answer.body))
    wanted = f"bytes 1-{last}/{len(answer.body)}"
    if part.status != 206 or part.headers.get("content-range") != wanted or part.body != answer.body[1 : last + 1]:
        came = f"{part.status}, Content-Range {part.headers.get('content-range')!r}, {len(part.body)} bytes"
        yield finding("http.range", address, f"bytes=1-{last} was answered {came}")
    beyond = _ask(web, "GET", address, {"Range": f"bytes={len(answer.body)}-"}, len(answer.body))
    if beyond.status != 416:
        yield finding("http.range", address, f"a range beyond the end was answered {beyond.status}")


def _ask(web: Web, method: str, address: str, headers: dict[str, str], size_max: int) -> Answer:
    """A request of the check's own; that it fails shows as its status."""
    try:
        return web.ask(method, address, headers, max(size_max, 65_536))
    except Unreachable:
        return Answer(0, {}, b"")
