"""The short way for the two requests that come by the hundred thousand: events in, nothing special about them.

An ASGI request costs some 40 µs before it says anything; these cost a quarter of that. A client on a kept-alive
connection sends the same header block again and again, so a block that was read once is known by its bytes. Whatever is
in any way special (another route, an option, a credential not seen yet, something wrong) goes the long way, byte for
byte as it came, and one test holds both ways to the same answers.
"""

import asyncio
import re
import secrets
from http import HTTPStatus
from itertools import count
from time import perf_counter
from typing import Any, ClassVar

import msgspec

from mainstem.errors import MainstemError
from mainstem.events import Accepted, Batch, Ingest
from mainstem.faces.datastream import wire
from mainstem.http import JSON, REQUEST_ID, Guard
from mainstem.identity import KEY_PREFIX, Directory, Principal, Tier
from mainstem.telemetry import Metrics, RequestMeter

_EVENTS, _BATCH = b"/v2/ingest/events", b"/v2/ingest/batch"
_REQUEST_LINE = re.compile(rb"POST (/v2/ingest/(?:events|batch)) HTTP/1\.1")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([!-~](?:[ -~\t]*[!-~])?)[ \t]*")
_IGNORED = frozenset((b"host", b"user-agent", b"accept", b"accept-encoding", b"connection"))
_LENGTH = re.compile(rb"[0-9]{1,9}")
_JSON = re.compile(JSON.encode() + rb"(?:;\s*charset=\"?utf-8\"?)?", re.IGNORECASE)
_END = b"\r\n\r\n"

_KNOWN_MAX = 4_096
_CHECK_EVERY_S = 1.0
_WAITING_BYTES_MAX = 256 * 1024


class _Known:
    """What a header block says: a request of the plain kind."""

    __slots__ = ("body_size", "checked_at", "epoch", "is_batch", "key", "principal", "request_id", "size")

    def __init__(self, size: int, body_size: int, is_batch: bool, key: bytes, request_id: bytes) -> None:
        self.size = size
        self.body_size = body_size
        self.is_batch = is_batch
        self.key = key
        self.request_id = request_id  # empty: make one
        self.principal: Principal | None = None
        self.epoch = -1
        self.checked_at = 0.0


def read_block(block: bytes) -> _Known | None:
    """What this header block (with its empty line) says, or None where the request is in any way special.

    Strict on purpose: no header that has a meaning for us may pass unread.
    """
    lines = block[: -len(_END)].split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(lines[0])
    if request is None:
        return None
    headers: dict[bytes, bytes] = {}
    for line in lines[1:]:
        header = _HEADER.fullmatch(line)
        if header is None or (name := header[1].lower()) in headers:
            return None
        headers[name] = header[2]
    if (
        headers.pop(b"connection", b"keep-alive").lower() != b"keep-alive"
        or b"problem" in headers.get(b"accept", b"").lower()
    ):
        return None
    length, media_type = headers.pop(b"content-length", b""), headers.pop(b"content-type", b"")
    request_id = headers.pop(b"x-request-id", b"")
    key = headers.pop(b"x-api-key", b"") or headers.pop(b"authorization", b"").removeprefix(b"Bearer ")
    plain = (
        _LENGTH.fullmatch(length)
        and _JSON.fullmatch(media_type)
        and key.startswith(KEY_PREFIX.encode())
        and (not request_id or REQUEST_ID.fullmatch(request_id.decode("latin-1")))
        and headers.keys() <= _IGNORED
    )
    if not plain:
        return None
    return _Known(len(block), int(length), request[1] == _BATCH, key, request_id)


def hot_protocol(ingest: Ingest, directory: Directory, metrics: Metrics, *, body_bytes_max: int) -> type["Hot"]:
    """The protocol class for uvicorn, bound to these parts."""

    class Bound(Hot):
        parts = _Parts(ingest, directory, metrics, body_bytes_max)

    return Bound


class _Parts:
    """What all connections of a server share."""

    def __init__(self, ingest: Ingest, directory: Directory, metrics: Metrics, body_bytes_max: int) -> None:
        self.ingest = ingest
        self.directory = directory
        self.metrics = metrics
        self.body_bytes_max = body_bytes_max
        self.events_meter = metrics.meter("ingest_events", "POST")
        self.batch_meter = metrics.meter("ingest_batch", "POST")
        self.known: dict[bytes, _Known] = {}
        self._request_ids = count()
        self._request_id_head = f"req_{secrets.token_urlsafe(9)}_"

    def look_up(self, block: bytes) -> _Known | None:
        known = self.known.get(block)
        if known is not None:
            return known
        known = read_block(block)
        if known is None or known.body_size > self.body_bytes_max:
            return None
        if not known.request_id:
            if len(self.known) >= _KNOWN_MAX:
                self.known.clear()
            self.known[block] = known
        return known

    def caller(self, known: _Known, now: float) -> Principal | None:
        """Whose request it is, when that takes no look-up and no counting."""
        if (
            known.principal is not None
            and known.epoch == self.directory.epoch
            and now - known.checked_at < _CHECK_EVERY_S
        ):
            return known.principal
        principal = self.directory.known_key(known.key)
        if principal is None or principal.tier is not Tier.UNLIMITED:
            return None
        known.principal, known.epoch, known.checked_at = principal, self.directory.epoch, now
        return principal

    def request_id(self) -> bytes:
        return f"{self._request_id_head}{next(self._request_ids):x}".encode()


class Hot(Guard):
    """uvicorn's protocol with the short way before it. At most one request a connection is on the short way."""

    parts: ClassVar[_Parts]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._parsing = False  # the parser is inside a message
        self._serving = False  # a request on the short way waits for its answer
        self._closing = False
        self._last_active = 0.0
        self._waiting: list[bytes] = []  # bytes behind that request
        self._waiting_size = 0
        self._body: list[bytes] = []  # a request on the short way that is still arriving
        self._missing = 0
        self._known: _Known | None = None
        self._body_timer: asyncio.TimerHandle | None = None

    # uvicorn's side

    def on_message_begin(self) -> None:
        self._parsing = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._parsing = False
        super().on_message_complete()

    def shutdown(self) -> None:
        if self._serving or self._missing:
            self._closing = True
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_body_timer()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """The timer is not set anew for each request: it looks when it rings."""
        idle = self.loop.time() - self._last_active
        if self._serving or self._missing or idle < self.timeout_keep_alive:
            self._wake_after(max(self.timeout_keep_alive - idle, 0.1))
        else:
            super().timeout_keep_alive_handler()

    def _wake_after(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    # Bytes in

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._more_body(data)
        elif self._serving:
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
        known = self.parts.look_up(data[:end]) if end >= len(_END) else None
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
            self._known, self._body, self._missing = known, [data], total - len(data)
            self._stop_timer()  # the headers are here
            self._body_timer = self.loop.call_later(self.header_timeout_s, self._too_slow_body)

    def _more_body(self, data: bytes) -> None:
        if len(data) > self._missing:
            self._wait(data[self._missing :])
            data = data[: self._missing]
        self._body.append(data)
        self._missing -= len(data)
        if not self._missing:
            known, request = self._take_body()
            self._serve(known, request)

    def _take_body(self) -> tuple[_Known, bytes]:
        self._stop_body_timer()
        known, request = self._known, b"".join(self._body)
        assert known is not None
        self._known, self._body, self._missing = None, [], 0
        return known, request

    def _too_slow_body(self) -> None:
        """A body that takes long is the long way's to wait for, or to give up."""
        _, request = self._take_body()
        super().data_received(request)

    def _stop_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    # The short way

    def _serve(self, known: _Known, request: bytes) -> None:
        started = perf_counter()
        self._last_active = now = self.loop.time()
        parts = self.parts
        principal = parts.caller(known, now)
        limit = self.limit_concurrency
        if principal is None or (limit is not None and len(self.connections) >= limit):
            self._go_the_long_way(request)
            return
        self._serving = True
        body = request[known.size :]
        if known.is_batch:
            taken = parts.ingest.submit_many(
                principal, body, lambda result: self._answer(known, started, parts.batch_meter, result)
            )
        else:
            taken = parts.ingest.submit_one(
                principal, body, lambda result: self._answer(known, started, parts.events_meter, result)
            )
        if taken is None:
            self._serving = False
            self._go_the_long_way(request)
        elif self._header_timer is not None:
            self._stop_timer()

    def _go_the_long_way(self, request: bytes) -> None:
        waiting, self._waiting, self._waiting_size = self._waiting, [], 0
        super().data_received(b"".join([request, *waiting]))

    def _answer(self, known: _Known, started: float, meter: RequestMeter, result: Accepted | Batch | Exception) -> None:
        elapsed_s = perf_counter() - started
        status = b"200 OK"
        if isinstance(result, Accepted):
            meter.count(200, elapsed_s)
            body = b'{"status":"accepted","event_id":"evt_%010d","processing_time_ms":%.3f%b}' % (
                result.seq,
                elapsed_s * 1_000,
                b',"duplicate":true' if result.duplicate else b"",
            )
            extra = b""
        elif isinstance(result, Batch):
            meter.count(200, elapsed_s)
            body = msgspec.json.encode(wire.batch_out(result, round(elapsed_s * 1_000, 3), with_ids=False))
            extra = b""
        else:
            status, extra, body = self._refusal(result, meter, elapsed_s)
        transport = self.transport
        if transport.is_closing():
            self._serving = False
            return
        transport.write(
            b"HTTP/1.1 %b\r\n%bx-request-id: %b\r\n%bcontent-type: application/json\r\n"
            b"vary: accept, accept-encoding\r\n%bcontent-length: %d\r\n\r\n%b"
            % (
                status,
                self._default_headers(),
                known.request_id or self.parts.request_id(),
                extra,
                b"connection: close\r\n" if self._closing else b"",
                len(body),
                body,
            )
        )
        if self._waiting and not self._closing:
            # Still serving until then, so that what arrives meanwhile comes after it.
            self.loop.call_soon(self._next)
            return
        self._serving = False
        if self._closing:
            transport.close()
        elif self.timeout_keep_alive_task is None:
            self._wake_after(self.timeout_keep_alive)

    def _refusal(self, error: Exception, meter: RequestMeter, elapsed_s: float) -> tuple[bytes, bytes, bytes]:
        answer = wire.error_answer(error if isinstance(error, MainstemError) else None)
        meter.count(answer.status, elapsed_s)
        extra = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
        phrase = HTTPStatus(answer.status).phrase
        return f"{answer.status} {phrase}".encode(), extra.encode("latin-1"), answer.body

    def _default_headers(self) -> bytes:
        """The date and the like, which uvicorn renews every second."""
        return b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)

    def _next(self) -> None:
        """Serve what the client sent ahead."""
        ahead, self._waiting, self._waiting_size = b"".join(self._waiting), [], 0
        self._serving = False
        if not self.transport.is_closing():
            self.transport.resume_reading()
            self._begin(ahead)
