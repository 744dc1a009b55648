"""The short way, for plain requests that come by the hundred thousand.

An ASGI request costs some 40 µs before it says anything; these cost a quarter of that. A client on a kept-alive
connection sends the same header block again and again, so a block that was read once is known by its bytes. Whatever is
in any way special (a route without a short way, an option, a credential not seen yet, something wrong) goes the long
way, byte for byte as it came; a test for each hot route holds both ways to the same answers.
"""

import asyncio
import re
import secrets
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, ClassVar, NamedTuple, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from mainstem.http.protocol import Guard
from mainstem.http.routes import JSON, REQUEST_ID, Answer

_REQUEST_LINE = re.compile(rb"([A-Z]{3,8}) (/[!-~]*) HTTP/1\.1")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([!-~](?:[ -~\t]*[!-~])?)[ \t]*")
_IGNORED = frozenset((b"host", b"user-agent", b"accept", b"accept-encoding"))
_LENGTH = re.compile(rb"[0-9]{1,9}")
_JSON = re.compile(JSON.encode() + rb"(?:;\s*charset=\"?utf-8\"?)?", re.IGNORECASE)
_END = b"\r\n\r\n"

_KNOWN_MAX = 4_096
_BLOCK_BYTES_MAX = 4_096
"""Blocks that are kept are small, so that all of them together are, too."""
_KNOWN_BYTES_MAX = 2_048  # of one block: longer ones are hardly the same again
_WAITING_BYTES_MAX = 256 * 1024
_COPIED_BYTES_MAX = 32 * 1024  # putting head and body together costs less than sending two pieces, up to about here


class HotHead:
    """What goes before the body of an answer that is small, or in memory: made once for all answers of a kind.

    `headers` are lines as they go out, each with its CRLF. `varies`: the body depends on what the client accepts.
    """

    __slots__ = ("lines", "status")

    def __init__(
        self, status: int = 200, headers: bytes = b"", media_type: bytes = JSON.encode(), *, varies: bool = True
    ) -> None:
        self.status = status
        vary = b"vary: accept, accept-encoding\r\n" if varies else b""
        self.lines = b"%bcontent-type: %b\r\n%b" % (headers, media_type, vary)


type Answering = Callable[[HotHead, bytes], None]
"""Sends an answer: its head and its body."""


def hot_answer(answer: Answer, headers: bytes = b"") -> tuple[HotHead, bytes]:
    """An answer of the long way, for the short one; `headers` go before its own."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in answer.headers).encode("latin-1")
    return HotHead(answer.status, headers + lines, answer.media_type.encode("latin-1")), answer.body


class HotRoute[Facts](Protocol):
    """A route with a short way. One instance serves all connections."""

    def read(self, method: bytes, target: bytes, headers: dict[bytes, bytes]) -> Facts | None:
        """What a request's head says, or None where it is not for this route, or in any way special.

        Take out of `headers` (lower-case names) what is understood: a header that is left, and has a meaning, sends the
        request the long way. The answer is kept and handed to `serve` for every request with the same bytes.
        """

    def serve(self, facts: Facts, body: bytes, now: float, answer: Answering) -> bool:
        """Take the request on, and call `answer` once, now or later; or do nothing and say False: the long way.

        `now` is the loop's clock, in seconds.
        """


def is_json(headers: dict[bytes, bytes]) -> bool:
    """Take the Content-Type out; whether it says JSON."""
    return _JSON.fullmatch(headers.pop(b"content-type", b"")) is not None


class _Known(NamedTuple):
    """What a header block says."""

    route: HotRoute[Any]
    facts: Any
    size: int
    body_size: int
    request_id: bytes  # empty: make one


class _Shared:
    """What all connections of a server share."""

    def __init__(self, routes: Sequence[HotRoute[Any]], body_bytes_max: int) -> None:
        self._routes = routes
        self._body_bytes_max = body_bytes_max
        self._known: dict[bytes, _Known] = {}
        self._request_ids = count()
        self._request_id_head = f"req_{secrets.token_urlsafe(9)}_".encode()
        self._renewed: Sequence[tuple[bytes, bytes]] = ()
        self._starts: dict[int, bytes] = {}

    def look_up(self, block: bytes) -> _Known | None:
        """What a header block (with its empty line) says, or None for the long way."""
        known = self._known.get(block)
        if known is not None:
            return known
        if len(block) > _BLOCK_BYTES_MAX:
            return None
        known = self._read(block)
        if known is not None and not known.request_id and known.size <= _KNOWN_BYTES_MAX:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[block] = known
        return known

    def _read(self, block: bytes) -> _Known | None:
        """Strict on purpose: no header that has a meaning for us may pass unread."""
        lines = block[: -len(_END)].split(b"\r\n")
        request = _REQUEST_LINE.fullmatch(lines[0])
        headers = _headers(lines[1:])
        if request is None or headers is None:
            return None
        length, request_id = headers.pop(b"content-length", b"0"), headers.pop(b"x-request-id", b"")
        plain = (
            _LENGTH.fullmatch(length)
            and int(length) <= self._body_bytes_max
            and headers.pop(b"connection", b"keep-alive").lower() == b"keep-alive"
            and b"problem" not in headers.get(b"accept", b"").lower()
            and (not request_id or REQUEST_ID.fullmatch(request_id.decode("latin-1")))
        )
        if not plain:
            return None
        for route in self._routes:
            left = dict(headers)
            facts = route.read(request[1], request[2], left)
            if facts is not None and left.keys() <= _IGNORED:
                return _Known(route, facts, len(block), int(length), request_id)
        return None

    def request_id(self) -> bytes:
        return b"%b%x" % (self._request_id_head, next(self._request_ids))

    def start(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """How an answer begins: its status, and the date and the like, which uvicorn renews every second."""
        if headers is not self._renewed:
            self._renewed = headers
            self._starts.clear()
        start = self._starts.get(status)
        if start is None:
            lines = b"".join([b"%b: %b\r\n" % header for header in headers])
            start = self._starts[status] = STATUS_LINE[status] + lines + b"x-request-id: "
        return start


def _headers(lines: Sequence[bytes]) -> dict[bytes, bytes] | None:
    """Names in lower case; None where a line is odd or a name comes twice."""
    headers: dict[bytes, bytes] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None or (name := header[1].lower()) in headers:
            return None
        headers[name] = header[2]
    return headers


def hot_protocol(routes: Sequence[HotRoute[Any]], *, body_bytes_max: int, header_timeout_s: float) -> type[Guard]:
    """The protocol class for uvicorn: these routes the short way, everything else as it always goes."""

    class Bound(Hot):
        shared = _Shared(routes, body_bytes_max)

    Bound.header_timeout_s = header_timeout_s
    return Bound


class Hot(Guard):
    """uvicorn's protocol with the short way before it. At most one request a connection is on the short way."""

    shared: ClassVar[_Shared]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._parsing = False  # the parser is inside a message
        self._serving: _Known | None = None  # a request on the short way that waits for its answer
        self._closing = False
        self._last_active = 0.0
        self._waiting: list[bytes] = []  # bytes behind that request
        self._waiting_size = 0
        self._arriving: _Known | None = None  # a request on the short way whose body is not complete
        self._pieces: list[bytes] = []
        self._missing = 0
        self._body_timer: asyncio.TimerHandle | None = None

    # uvicorn's side

    def on_message_begin(self) -> None:
        self._parsing = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._parsing = False
        super().on_message_complete()

    def shutdown(self) -> None:
        if self._serving or self._arriving:
            self._closing = True
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_body_timer()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """The timer is not set anew for each request: it looks when it rings."""
        idle = self.loop.time() - self._last_active
        if self._serving or self._arriving or idle < self.timeout_keep_alive:
            self._wake_after(max(self.timeout_keep_alive - idle, 0.1))
        else:
            super().timeout_keep_alive_handler()

    def _wake_after(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    # Bytes in

    def data_received(self, data: bytes) -> None:
        if self._arriving is not None:
            self._more_body(data)
        elif self._serving is not None:
            self._wait(data)
        elif self._parsing or (self.cycle is not None and not self.cycle.response_complete) or self.pipeline:
            super().data_received(data)
        else:
            self._begin(data)

    def _wait(self, data: bytes) -> None:
        """Keep what a client sends ahead of its answer, within bounds."""
        self._waiting.append(data)
        self._waiting_size += len(data)
        if self._waiting_size > _WAITING_BYTES_MAX:
            self.transport.pause_reading()

    def _begin(self, data: bytes) -> None:
        """The first bytes of a request, perhaps all of it, perhaps the next one, too."""
        end = data.find(_END) + len(_END)
        known = self.shared.look_up(data[:end]) if end >= len(_END) else None
        if known is None:
            super().data_received(data)
            return
        total = end + known.body_size
        if len(data) == total:
            self._serve(known, data)
        elif len(data) > total:
            self._wait(data[total:])
            self._serve(known, data[:total])
        else:
            self._arriving, self._pieces, self._missing = known, [data], total - len(data)
            self._stop_timer()  # the headers are here
            self._body_timer = self.loop.call_later(self.header_timeout_s, self._too_slow_body)

    def _more_body(self, data: bytes) -> None:
        if len(data) > self._missing:
            self._wait(data[self._missing :])
            data = data[: self._missing]
        self._pieces.append(data)
        self._missing -= len(data)
        if not self._missing:
            known, request = self._take_arrived()
            self._serve(known, request)

    def _take_arrived(self) -> tuple[_Known, bytes]:
        self._stop_body_timer()
        known, request = self._arriving, b"".join(self._pieces)
        assert known is not None
        self._arriving, self._pieces, self._missing = None, [], 0
        return known, request

    def _too_slow_body(self) -> None:
        """A body that takes long is the long way's to wait for, or to give up."""
        _, request = self._take_arrived()
        self._go_the_long_way(request)

    def _stop_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    # The short way

    def _serve(self, known: _Known, request: bytes) -> None:
        self._last_active = now = self.loop.time()
        limit = self.limit_concurrency
        self._serving = known
        crowded = limit is not None and len(self.connections) >= limit
        # A client that asks ahead and takes nothing waits on the long way, where an answer is made when there is room.
        if (
            crowded
            or self.flow.write_paused
            or not known.route.serve(known.facts, request[known.size :], now, self._answer)
        ):
            self._serving = None
            self._go_the_long_way(request)
        elif self._header_timer is not None:
            self._stop_timer()

    def _go_the_long_way(self, request: bytes) -> None:
        ahead = self._take_waiting()
        super().data_received(request + ahead)
        if self._closing and not self.transport.is_closing():
            super().shutdown()

    def _take_waiting(self) -> bytes:
        if not self._waiting:
            return b""
        ahead, self._waiting, self._waiting_size = b"".join(self._waiting), [], 0
        self.transport.resume_reading()
        return ahead

    def _answer(self, head: HotHead, body: bytes) -> None:
        transport, known = self.transport, self._serving
        assert known is not None
        if transport.is_closing():
            self._serving = None
            return
        is_small = len(body) <= _COPIED_BYTES_MAX
        first = b"%b%b\r\n%b%bcontent-length: %d\r\n\r\n%b" % (
            self.shared.start(head.status, self.server_state.default_headers),
            known.request_id or self.shared.request_id(),
            head.lines,
            b"connection: close\r\n" if self._closing else b"",
            len(body),
            body if is_small else b"",
        )
        if is_small:
            transport.write(first)
        else:
            transport.writelines((first, body))
        if self._closing:
            self._serving = None
            transport.close()
        elif self._waiting:
            # Still serving until then, so that what arrives meanwhile comes after it.
            self.loop.call_soon(self._next)
        else:
            self._serving = None
            if self.timeout_keep_alive_task is None:
                self._wake_after(self.timeout_keep_alive)

    def _next(self) -> None:
        """Serve what the client sent ahead."""
        self._serving = None
        if not self.transport.is_closing():
            self._begin(self._take_waiting())
