"""The short way for segments out: a plain GET of a finished job's segment that is in memory."""

import re
from functools import lru_cache, partial
from time import perf_counter
from typing import NamedTuple

from mainstem.faces.streamserver.routes import SAFE, kept
from mainstem.http import Answering, Cors, HotHead
from mainstem.telemetry import Metrics
from mainstem.transcode import BlobRef, Transcodes

_TARGET = re.compile(
    rb"/v1/stream/(hls|live)/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/"
    rb"(?:([a-z0-9-]{1,40})/)?(segment_[0-9]{5,9}\.(?:ts|m4s)|init\.mp4)"
)
_MEANINGLESS = (
    b"accept-language",
    b"authorization",
    b"cache-control",
    b"cookie",
    b"dnt",
    b"forwarded",
    b"icy-metadata",
    b"pragma",
    b"priority",
    b"referer",
    b"sec-ch-ua",
    b"sec-ch-ua-mobile",
    b"sec-ch-ua-platform",
    b"sec-fetch-dest",
    b"sec-fetch-mode",
    b"sec-fetch-site",
    b"sec-fetch-storage-access",
    b"sec-gpc",
    b"via",
    b"x-api-key",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
)
"""What browsers and players send along, and says nothing here. Nobody has to sign in, so nobody is asked who he is."""

_HEADS_MAX = 4_096


class _Wanted(NamedTuple):
    """What a header block asks for."""

    job: str
    rung: str | None
    name: str
    route: str
    origin: str | None


class HotSegment:
    """`mainstem.http.HotRoute` of segments, where nobody has to sign in."""

    def __init__(self, transcodes: Transcodes, cors: Cors, metrics: Metrics) -> None:
        self._transcodes = transcodes
        self._meters = {
            name: metrics.meter(name, "GET")
            for name in ("hls_segment", "hls_rung_segment", "live_segment", "live_rung_segment")
        }
        self._head = lru_cache(maxsize=_HEADS_MAX)(partial(_head, cors))

    def read(self, method: bytes, target: bytes, headers: dict[bytes, bytes]) -> _Wanted | None:
        found = _TARGET.fullmatch(target)
        if found is None or method != b"GET":
            return None
        for meaningless in _MEANINGLESS:
            headers.pop(meaningless, None)
        origin = headers.pop(b"origin", None)
        folder, job, rung, name = (None if group is None else group.decode() for group in found.groups())
        assert job is not None
        assert name is not None
        route = f"{folder}_segment" if rung is None else f"{folder}_rung_segment"
        return _Wanted(job, rung, name, route, None if origin is None else origin.decode("latin-1"))

    def serve(self, facts: _Wanted, body: bytes, now: float, answer: Answering) -> bool:
        started = perf_counter()
        found = None if body else self._transcodes.at_hand(facts.job, facts.name, facts.rung)
        if found is None:
            return False
        ref, content = found
        self._meters[facts.route].count(200, perf_counter() - started)
        answer(self._head(ref, facts.origin), content)
        return True


def _head(cors: Cors, ref: BlobRef, origin: str | None) -> HotHead:
    """As the long way has them, in its order."""
    own = [("etag", f'"{ref.etag}"'), ("accept-ranges", "bytes"), *kept(private=False)]
    lines = [f"{name}: {value}\r\n" for name, value in (*SAFE, *cors.headers_for(origin), *own)]
    return HotHead(200, "".join(lines).encode("latin-1"), ref.media_type.encode(), varies=False)
