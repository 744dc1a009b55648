"""A guard at the socket: clients that send too many headers, or too slowly, are cut off before they cost anything."""

import asyncio
from typing import ClassVar

import msgspec
from starlette.types import Receive, Scope, Send
from uvicorn._types import ASGI3Application, ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

HEADER_BYTES_MAX = 64 * 1024
LINGER_S = 30.0
"""A client that gets its answer while it still sends (413 and the like) may go on for so long, and what comes is thrown
away: one that is cut off at once often never sees the answer."""
GONE_S = 15.0
"""A WebSocket that is closed is cut off after so long, whatever still waits for the client."""
PIECES_MAX = 10_000
"""So many frames may make a WebSocket message."""
GOODBYE_S = 4.0
"""A WebSocket's handler has so long at a stop to end its connection by itself: longer than any gives itself for it."""
_HEADERS_TOO_LONG = (431, f"The request's headers are over the limit of {HEADER_BYTES_MAX} bytes")


class Guard(HttpToolsProtocol):
    """Mix it in before any other protocol class: `class Protocol(Guard, Hot)`.

    The time for headers runs from the connection, or from the first byte of a later request on it; an idle connection
    between requests is the keep-alive timeout's business.
    """

    header_timeout_s: ClassVar[float] = 10.0

    _within_headers = False
    _header_bytes = 0
    _completed_one = False
    _answering: RequestResponseCycle | None = None
    _header_timer: asyncio.TimerHandle | None = None
    _linger_timer: asyncio.TimerHandle | None = None
    _refused_with = (400, "")  # status, and the reason where uvicorn gives none

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._header_timer = self.loop.call_later(self.header_timeout_s, self._too_slow)
        # Only connections too many are refused: those that are there go on.
        if self.limit_concurrency is None or len(self.connections) <= self.limit_concurrency:
            self.limit_concurrency = None
        else:
            self.app = _overloaded

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_lingering()
        if self._answering is not None:  # uvicorn tells only the request that came last
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _should_upgrade_to_ws(self) -> bool:
        """A connection too many gets its 503, whatever it asks for."""
        return self.app is not _overloaded and super()._should_upgrade_to_ws()

    def on_message_begin(self) -> None:
        self._within_headers = True
        self._header_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._within_headers = False
        self._stop_timer()
        # Counted once more, for all of it may have come with the bytes that also ended it.
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > HEADER_BYTES_MAX:
            self._refused_with = _HEADERS_TOO_LONG
            raise OverflowError  # which the parser hands on as an error of its own, and that is then refused
        self.limit_concurrency = None  # uvicorn would say no in plain text
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._completed_one = True
        self._stop_lingering()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        unread = self._answering is not None and self._answering.more_body
        super().on_response_complete()
        if unread and not self.transport.is_closing():
            self._linger_timer = self.loop.call_later(LINGER_S, self.transport.close)

    def _stop_lingering(self) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None

    def data_received(self, data: bytes) -> None:
        self._completed_one = False
        super().data_received(data)
        if not self._within_headers or self.transport.is_closing():
            return
        if not self._completed_one:  # else most of it was of requests before, sent ahead
            self._header_bytes += len(data)
        if self._header_bytes > HEADER_BYTES_MAX:
            self._refused_with = _HEADERS_TOO_LONG
            self.send_400_response("")
        elif self._header_timer is None:
            self._header_timer = self.loop.call_later(self.header_timeout_s, self._too_slow)

    def send_400_response(self, msg: str) -> None:
        """What cannot be read as a request has no path, so no face: it gets the common shape of an error.

        Behind a request that is still being answered it gets nothing: that answer goes out, and ends the connection.
        """
        self._stop_timer()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False
                self.transport.pause_reading()
                return
            cycle.disconnected = True  # its own body is what cannot be read
            cycle.message_event.set()
        status, reason = self._refused_with
        facts = {"code": "INVALID_REQUEST", "message": reason or msg, "details": {}}
        body = msgspec.json.encode({"error": facts})
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )
        self.transport.close()

    def _too_slow(self) -> None:
        self._header_timer = None
        if self.transport.is_closing():
            return
        if not self._within_headers:  # nothing was asked, so there is nothing to answer
            self.transport.close()
            return
        self._refused_with = (408, f"The request's headers took more than {self.header_timeout_s:g} s")
        self.send_400_response("")

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSockets, which would log an error for every client that is refused by an HTTP answer, and end every
    connection at a stop before its handler could say goodbye (1012 where the handler has a code and words of its own).

    It would also keep whatever a hostile client makes it keep: pieces of a message without end, answers to pings that
    nobody reads, and connections that are closed while the client takes nothing.
    """

    _abort_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        super().connection_lost(exc)

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self._abort_later()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._abort_later()

    def _abort_later(self) -> None:
        """A transport that is closed waits for its last bytes to be taken, for ever if need be."""
        if not self.disconnected and self._abort_timer is None:
            self._abort_timer = self.loop.call_later(GONE_S, self.transport.abort)

    def handle_parser_exception(self) -> None:
        """Say what is wrong and read on for a while, to no use: who is cut off while he sends often never hears it."""
        if self.close_sent:
            return
        close = self.conn.close_sent
        assert close is not None
        self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.close_sent = True
        self.stop_keepalive()
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.write_eof()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(GONE_S, self.transport.abort)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < PIECES_MAX:  # empty ones count for no size
            super().handle_cont(event)
        elif not self.close_sent:
            self.conn.fail(1009, f"A message has at most {PIECES_MAX} pieces")
            self.handle_parser_exception()

    def pause_writing(self) -> None:
        """Who takes nothing is not listened to either: each ping would be answered into memory."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    async def receive(self) -> ASGIReceiveEvent:
        message = await super().receive()
        if not self.writable.is_set() and not self.transport.is_closing():
            self.transport.pause_reading()
        return message

    def shutdown(self) -> None:
        if self.handshake_complete and not self.close_sent:
            self.loop.call_later(GOODBYE_S, self._cut_off)
        else:
            super().shutdown()

    def _cut_off(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "websocket.accept":
            limit = message.get("message_bytes_max")
            if isinstance(limit, int):  # the route's own: a longer message ends the connection before it is read
                self.conn.max_message_size = limit
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """The answer on a connection too many, which ends with it."""
    facts = {"code": "UNAVAILABLE", "message": "The server has too many connections; try again shortly", "details": {}}
    body = msgspec.json.encode({"error": facts})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", b"1"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
