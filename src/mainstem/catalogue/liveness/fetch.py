"""A small HTTP client for links that strangers gave us.

It asks once, reads no more than it may, and takes no longer than it may; it follows redirects only where the guard
allows. What has no end (a radio station) is sampled. Nothing here says whether something is live.
"""

import asyncio
import email.utils
import math
import time
import zlib
from collections.abc import Callable, Mapping

import httptools
import msgspec

from mainstem import __version__
from mainstem.catalogue.liveness.address import Target, Unreachable, joined
from mainstem.catalogue.liveness.connection import Dialer
from mainstem.catalogue.liveness.hosts import Hosts
from mainstem.catalogue.liveness.verdict import Reason

BODY_BYTES_MAX = 2 << 20
HEADER_BYTES_MAX = 64 << 10
_READ_BYTES = 64 << 10
REDIRECTS_MAX = 5
SOUND_SAMPLE_BYTES = 192 << 10
PICTURE_SAMPLE_BYTES = 1_536 << 10
"""More than for sound: there must be a whole picture in it that needs none before it."""
SAMPLE_S = 6.0

USER_AGENT = f"mainstem/{__version__} (checks whether listed streams are live)"

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PLAYLISTS = ("mpegurl", "dash+xml", "x-scpls")


class Answer(msgspec.Struct, frozen=True):
    """What an HTTP server said in the end, redirects followed."""

    target: Target
    """Who said it."""
    status: int
    headers: Mapping[str, str]
    """By lower-case name; of a header that comes twice, the first."""
    body: bytes = b""
    """Decoded; at most what the fetcher takes, 2 MiB as a rule."""
    complete: bool = True
    """The body is all there was: not cut at a limit, by time or by the connection."""

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_medium(self) -> bool:
        """Sound or picture itself, not a page or a playlist about it."""
        kind = self.media_type
        if any(playlist in kind for playlist in _PLAYLISTS):
            return False
        return kind.startswith(("audio/", "video/")) or kind == "application/ogg" or self.is_radio

    @property
    def is_file(self) -> bool:
        """A medium with an end: its length is known beforehand."""
        return self.is_medium and self.content_length is not None and not self.is_radio

    @property
    def is_radio(self) -> bool:
        """It has the headers of Icecast and SHOUTcast servers."""
        return any(name.startswith("icy-") for name in self.headers)

    @property
    def content_length(self) -> int | None:
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


class Fetcher:
    """Asks HTTP servers."""

    def __init__(
        self,
        dialer: Dialer,
        hosts: Hosts,
        *,
        timeout_s: float = 10.0,
        body_bytes_max: int = BODY_BYTES_MAX,
        is_refusal: Callable[[Answer], bool] = lambda answer: False,
    ) -> None:
        """`is_refusal` knows answers in good order by which a host means to be left alone."""
        self._dialer = dialer
        self._hosts = hosts
        self._timeout_s = timeout_s
        self._body_bytes_max = body_bytes_max
        self._is_refusal = is_refusal

    async def get(self, target: Target, accept: str = "*/*") -> Answer:
        """The answer to a GET, after at most 5 redirects and 10 s, not counting the wait for the host's turn.

        Raises Unreachable: BAD_LINK, FORBIDDEN_ADDRESS, NAME_NOT_FOUND, NOT_REACHED, TLS_FAILED, TIMED_OUT, REDIRECTS,
        BROKEN_ANSWER, HOST_BUSY, HOST_RESTS. A host that fails so, or answers 429, 5xx or with a refusal, is reported
        as unwell.
        """
        remaining_s = self._timeout_s
        for _ in range(REDIRECTS_MAX + 1):
            if target.scheme not in {"http", "https"}:
                raise Unreachable(Reason.BAD_LINK, f"{target.scheme} is not asked by HTTP")
            async with self._hosts.turn(target.authority):
                began = time.monotonic()
                answer = await self._ask(target, accept, remaining_s)
                remaining_s -= time.monotonic() - began
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or location is None:
                return answer
            target = joined(target, location)
            if remaining_s <= 0:
                raise Unreachable(Reason.TIMED_OUT, target.host)
        raise Unreachable(Reason.REDIRECTS, target.host)

    async def _ask(self, target: Target, accept: str, timeout_s: float) -> Answer:
        try:
            answer = await self._exchange(target, accept, timeout_s)
        except Unreachable as error:
            if error.reason is not Reason.FORBIDDEN_ADDRESS:
                self._hosts.failed(target.authority)
            raise
        if answer.status == 429 or answer.status >= 500 or self._is_refusal(answer):
            self._hosts.failed(target.authority, retry_after_s(answer))
        else:
            self._hosts.worked(target.authority)
        return answer

    async def _exchange(self, target: Target, accept: str, timeout_s: float) -> Answer:
        answering = _Answering(target, self._body_bytes_max)
        try:
            async with asyncio.timeout(timeout_s) as limit, self._dialer.dial(target) as (reader, writer):
                writer.write(_request(target, accept))
                while not answering.satisfied:
                    chunk = await reader.read(_READ_BYTES)
                    answering.feed(chunk)
                    if answering.samples_since is not None:
                        limit.reschedule(min(limit.when() or math.inf, answering.samples_since + SAMPLE_S))
        except TimeoutError as error:
            if answering.samples_since is None:
                raise Unreachable(Reason.TIMED_OUT, target.host) from error
            answering.cut()
        except OSError as error:
            raise Unreachable(Reason.NOT_REACHED, error.strerror or "") from error
        return answering.answer()


def _request(target: Target, accept: str) -> bytes:
    return (
        f"GET {target.request} HTTP/1.1\r\nHost: {target.authority}\r\nUser-Agent: {USER_AGENT}\r\n"
        f"Accept: {accept}\r\nAccept-Encoding: gzip\r\nAccept-Language: en\r\nConnection: close\r\n\r\n"
    ).encode("ascii")


def retry_after_s(answer: Answer, now: float | None = None) -> float | None:
    """How long the server asks to be left alone: Retry-After in seconds or as a date (RFC 9110, 10.2.3)."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text)
        return max(0.0, when.timestamp() - (time.time() if now is None else now))
    except (ValueError, TypeError, OverflowError):
        return None


class _Answering:
    """Puts an answer together as its bytes come."""

    def __init__(self, target: Target, body_bytes_max: int) -> None:
        self.satisfied = False
        self.samples_since: float | None = None
        """When an endless medium began to come, on the loop's clock."""
        self._target = target
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._idle_bytes = 0
        """What came since the body last grew: headers, and the trailers and signs between the chunks of a body."""
        self._body = bytearray()
        self._body_bytes_max = body_bytes_max
        self._inflate: zlib._Decompress | None = None
        self._head: Answer | None = None
        self._complete = False
        self._began = False

    def feed(self, chunk: bytes) -> None:
        """Take what came; nothing means that the connection ended."""
        if not chunk:
            self._ended()
            return
        self._idle_bytes += len(chunk)
        if self._idle_bytes > HEADER_BYTES_MAX + _READ_BYTES:
            raise Unreachable(Reason.BROKEN_ANSWER, "headers without end")
        if not self._began:
            self._began = True
            # SHOUTcast servers of the first kind say ICY where others say HTTP/1.0.
            chunk = b"HTTP/1.0" + chunk.removeprefix(b"ICY") if chunk.startswith(b"ICY ") else chunk
        try:
            self._parser.feed_data(chunk)
        except (httptools.HttpParserError, zlib.error) as error:
            if not self.satisfied:
                raise Unreachable(Reason.BROKEN_ANSWER, type(error).__name__) from error

    def cut(self) -> None:
        self.satisfied, self._complete = True, False

    def answer(self) -> Answer:
        if self._head is None:
            raise Unreachable(Reason.BROKEN_ANSWER, "no answer")
        return msgspec.structs.replace(self._head, body=bytes(self._body), complete=self._complete)

    def _ended(self) -> None:
        self.satisfied = True
        if self._head is not None and not self._complete:
            # Where neither length nor chunks tell the end, the end of the connection is the end of the body.
            framed = self._head.content_length is not None or "transfer-encoding" in self._headers
            self._complete = not framed

    # What httptools calls

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is not None:
            return  # a trailer
        self._headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1").strip())

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self._headers.clear()
            return
        head = Answer(self._target, status, self._headers)
        self._head = head
        match head.headers.get("content-encoding", "identity").lower():
            case "identity" | "":
                pass
            case "gzip" | "x-gzip":
                self._inflate = zlib.decompressobj(31)
            case other:
                raise Unreachable(Reason.BROKEN_ANSWER, f"encoded as {other[:40]}, unasked")
        if status == 200 and head.is_medium:
            is_picture = head.media_type.startswith("video/")
            self._body_bytes_max = PICTURE_SAMPLE_BYTES if is_picture else SOUND_SAMPLE_BYTES
            self.samples_since = asyncio.get_running_loop().time()
            if head.is_file:
                self.cut()

    def on_body(self, data: bytes) -> None:
        self._idle_bytes = 0
        if self.satisfied:
            return
        room = self._body_bytes_max - len(self._body)
        if self._inflate is not None:
            data = self._inflate.decompress(data, room + 1)
        self._body += data[:room]
        if len(data) > room:
            self.cut()

    def on_message_complete(self) -> None:
        if self._head is not None and not self.satisfied:
            self.satisfied = self._complete = True
