"""DataStream live: the tail of a stream as server-sent events, and the WebSocket for publishing and subscribing."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainstem.errors import Conflict, Denied, Exhausted, Invalid, MainstemError, NotFound, Unavailable
from mainstem.events import Batch, Following, Ingest, Reader, Row, Skipped, Start, TailBatch
from mainstem.faces.datastream import wire
from mainstem.http import (
    GOING_AWAY,
    POLICY,
    Answer,
    Call,
    ClientGone,
    NotAcceptable,
    Session,
    Sessions,
    Socket,
    accepts,
    decode_json,
)
from mainstem.identity import Principal, RateLimiter
from mainstem.ids import event_id, parse_event_id
from mainstem.telemetry import get_logger

EVENT_STREAM = "text/event-stream"
HEARTBEAT_S = 15
PUBLISH_WINDOW = 64
"""Publishes of one socket that may wait for the disk; then we read no more of it."""
SUBSCRIPTIONS_MAX = 100

logger = get_logger(__name__)

From = Annotated[
    str, Meta(description="`latest`: from now on; `earliest`: all that is kept; an event id: what comes after it")
]
ApiKey = Annotated[str, Meta(description="An API key or token, from clients that cannot set headers")]


class TailQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    from_: From = msgspec.field(default="latest", name="from")
    api_key: ApiKey | UnsetType = UNSET


class SocketQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    api_key: ApiKey | UnsetType = UNSET


def parse_start(text: str, field: str) -> Start:
    """Where to begin. Raises Invalid."""
    if text in ("latest", "earliest"):
        return "latest" if text == "latest" else "earliest"
    seq = parse_event_id(text)
    if seq is None:
        raise Invalid(f"{field} is `latest`, `earliest` or the id of an event such as evt_0000000012", field=field)
    return seq


def event_text(row: Row) -> bytes:
    """An event as JSON on one line."""
    text = msgspec.json.encode(wire.event_out(row))
    if b"\n" in text or b"\r" in text:  # between tokens: inside of text JSON does not allow them
        text = text.replace(b"\r", b" ").replace(b"\n", b" ")
    return text


# Server-sent events


class Tails:
    """Answers `GET /v2/streams/{stream_id}/events`."""

    def __init__(
        self, following: Following, sessions: Sessions, authenticate: Callable[[Call], Awaitable[Principal]]
    ) -> None:
        self._following = following
        self._sessions = sessions
        self._authenticate = authenticate

    async def tail(self, call: Call) -> Answer:
        query = call.query(TailQuery)
        if not accepts(call.headers.get("accept", ""), EVENT_STREAM):
            raise NotAcceptable(f"This is a live tail: ask for it with Accept: {EVENT_STREAM}", accepted=[EVENT_STREAM])
        last = call.headers.get("last-event-id", "")
        start = parse_start(last, "Last-Event-ID") if last else parse_start(query.from_, "from")
        name = call.path("stream_id")
        reader = await self._following.follow(call.caller, name, start, event_text)

        async def finish() -> None:
            reader.close()

        # Without buffering by a proxy in between, which nginx asks for in a header of its own.
        headers = [("cache-control", "no-cache"), ("x-accel-buffering", "no")]
        chunks = self._events(call, name, reader)
        return Answer(media_type=EVENT_STREAM, headers=headers, chunks=chunks, compress=False, finish=finish)

    async def _events(self, call: Call, name: str, reader: Reader) -> AsyncGenerator[bytes]:
        with (
            self._sessions.stay(call.caller, lambda: self._authenticate(call), reader.end) as session,
            _beating(reader),
        ):
            session.add_check(lambda principal: self._following.check(principal, reader))
            yield b": the tail begins\n"
            while True:
                try:
                    piece = await reader.next()
                except Unavailable:  # the server stops; a client comes back by itself, with its Last-Event-ID
                    return
                except MainstemError as error:
                    yield b"event: error\ndata: %b\n\n" % msgspec.json.encode({"error": _facts(error)})
                    return
                if piece is None:
                    yield b": still here\n"
                elif isinstance(piece, Skipped):
                    yield b"event: lagging\ndata: %b\n\n" % msgspec.json.encode(_lagging(name, piece))
                else:
                    yield piece.once("sse", _frames)


@contextmanager
def _beating(reader: Reader) -> Iterator[None]:
    """Nudge the reader now and then: a timer for each event that it waits for would cost as much as the event."""
    loop = asyncio.get_running_loop()
    timer = loop.call_later(HEARTBEAT_S, lambda: beat())

    def beat() -> None:
        nonlocal timer
        reader.nudge()
        timer = loop.call_later(HEARTBEAT_S, beat)

    try:
        yield
    finally:
        timer.cancel()


def _frames(batch: TailBatch) -> bytes:
    return b"".join(
        b"id: evt_%010d\ndata: %b\n\n" % (seq, text) for seq, text in zip(batch.seqs, batch.texts, strict=True)
    )


def _lagging(name: str, skipped: Skipped) -> dict[str, Any]:
    return {"stream_id": name, "skipped": skipped.lost, "skipped_to": event_id(skipped.next_seq)}


def _facts(error: MainstemError | None) -> dict[str, Any]:
    body = msgspec.json.decode(wire.error_answer(error).body)
    facts: dict[str, Any] = body["error"]
    return facts


# The WebSocket


class _Frame(msgspec.Struct):
    """What every frame may have; the rest is its operation's."""

    op: str
    ref: msgspec.Raw = msgspec.Raw(b"null")
    partial: bool = False
    ids: bool = False


class _Ref(msgspec.Struct):
    ref: msgspec.Raw = msgspec.Raw(b"null")


class SubscribeIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    op: Literal["subscribe"]
    stream_id: wire.StreamId
    ref: Any = None
    from_: str = msgspec.field(default="latest", name="from")


class UnsubscribeIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    op: Literal["unsubscribe"]
    stream_id: str
    ref: Any = None


class Sockets:
    """Answers `WS /v2/ws`."""

    def __init__(
        self,
        following: Following,
        sessions: Sessions,
        ingest: Ingest,
        limiter: RateLimiter,
        authenticate: Callable[[Call], Awaitable[Principal]],
    ) -> None:
        self.following = following
        self.ingest = ingest
        self.limiter = limiter
        self._sessions = sessions
        self._authenticate = authenticate

    async def serve(self, call: Call, socket: Socket) -> None:
        call.query(SocketQuery)
        connection = _Connection(self, socket)
        with self._sessions.stay(call.caller, lambda: self._authenticate(call), connection.end) as session:
            await connection.run(session)


class _Connection:
    """One socket: what it published and waits for, and what it subscribed to."""

    def __init__(self, sockets: Sockets, socket: Socket) -> None:
        self._sockets = sockets
        self._socket = socket
        self._session: Session
        self._window = asyncio.Semaphore(PUBLISH_WINDOW)
        self._acks: deque[str] = deque()
        self._acked = asyncio.Event()
        self._subscriptions: dict[str, _Subscription] = {}
        self._ended: asyncio.Future[MainstemError] = asyncio.get_running_loop().create_future()

    def end(self, error: MainstemError) -> None:
        if not self._ended.done():
            self._ended.set_result(error)

    async def run(self, session: Session) -> None:
        """Until the client goes, or must. Raises ClientGone."""
        self._session = session
        receiving, sending = asyncio.create_task(self._receive()), asyncio.create_task(self._send_acks())
        try:
            await asyncio.wait((receiving, sending, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if not self._ended.done():
                await (receiving if receiving.done() else sending)
            receiving.cancel()
            await self._say_goodbye(self._ended.result())
        finally:
            for task in (receiving, sending):
                task.cancel()
            await asyncio.gather(receiving, sending, return_exceptions=True)
            await asyncio.gather(*(subscription.close() for subscription in self._subscriptions.values()))

    async def _say_goodbye(self, error: MainstemError) -> None:
        """What was published is still acknowledged; then the client learns why it must go."""
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                for _ in range(PUBLISH_WINDOW):
                    await self._window.acquire()
                if not isinstance(error, Unavailable):
                    await self._refuse(msgspec.Raw(b"null"), error)
        is_stop = isinstance(error, Unavailable)
        await self._socket.close(GOING_AWAY if is_stop else POLICY, error.message[:120])

    async def _receive(self) -> None:
        while True:
            message = await self._socket.receive()
            ref = msgspec.Raw(b"null")
            try:
                if isinstance(message, bytes):
                    raise Invalid("Frames are text: send JSON")
                body = message.encode()
                ref = _ref_of(body)
                await self._handle(decode_json(body, _Frame), body, ref)
            except MainstemError as error:
                await self._refuse(ref, error)
            except ClientGone:
                raise
            except Exception:
                logger.exception("operation failed")
                await self._refuse(ref, None)

    async def _handle(self, frame: _Frame, body: bytes, ref: msgspec.Raw) -> None:
        match frame.op:
            case "publish":
                self._sockets.limiter.take(self._session.principal)
                await self._publish(frame, body, ref)
            case "subscribe":
                self._sockets.limiter.take(self._session.principal)
                await self._subscribe(decode_json(body, SubscribeIn), ref)
            case "unsubscribe":
                await self._unsubscribe(decode_json(body, UnsubscribeIn), ref)
            case "ping":
                await self._say({"op": "pong", "ref": ref})
            case unknown:
                raise Invalid(
                    f"There is no op {unknown[:40]!r}: publish, subscribe, unsubscribe and ping are known", field="op"
                )

    # Publish

    async def _publish(self, frame: _Frame, body: bytes, ref: msgspec.Raw) -> None:
        """Events are stored in the order in which they are published, and acknowledged in that order."""
        await self._window.acquire()
        principal, ingest = self._session.principal, self._sockets.ingest

        def answered(result: Batch | Exception) -> None:
            self._acks.append(_ack(result, ref, with_ids=frame.ids))
            self._acked.set()

        if not frame.partial and ingest.submit_many(principal, body, answered) is not None:
            return
        try:
            answered(await ingest.many(principal, body, partial=frame.partial))
        except MainstemError as error:
            answered(error)
        except BaseException:
            self._window.release()
            raise

    async def _send_acks(self) -> None:
        while True:
            await self._acked.wait()
            self._acked.clear()
            while self._acks:
                await self._socket.send(self._acks[0])
                self._acks.popleft()
                self._window.release()

    # Subscribe

    async def _subscribe(self, wanted: SubscribeIn, ref: msgspec.Raw) -> None:
        name, start = wanted.stream_id, parse_start(wanted.from_, "from")
        if name in self._subscriptions:
            raise Conflict("This socket is subscribed to the stream already: unsubscribe first", stream_id=name)
        if len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            raise Exhausted(f"A socket has at most {SUBSCRIPTIONS_MAX} subscriptions: open another")
        following = self._sockets.following
        reader = await following.follow(self._session.principal, name, start, event_text)
        subscription = self._subscriptions[name] = _Subscription(name, ref, reader, following, self._session)
        await self._say({"op": "subscribed", "ref": ref, "stream_id": name, "from": wanted.from_})
        subscription.begin(self._forward(subscription))

    async def _unsubscribe(self, wanted: UnsubscribeIn, ref: msgspec.Raw) -> None:
        subscription = self._subscriptions.pop(wanted.stream_id, None)
        if subscription is None:
            raise NotFound("This socket is not subscribed to the stream", stream_id=wanted.stream_id)
        await subscription.close()
        await self._say({"op": "unsubscribed", "ref": ref, "stream_id": wanted.stream_id})

    async def _forward(self, subscription: "_Subscription") -> None:
        name, reader = subscription.name, subscription.reader

        def frame(batch: TailBatch) -> str:
            head = b'{"op":"events","stream_id":%b,"events":[' % msgspec.json.encode(name)
            return (head + b",".join(batch.texts) + b"]}").decode()

        try:
            while True:
                piece = await reader.next()
                if isinstance(piece, Skipped):
                    await self._say({"op": "lagging", **_lagging(name, piece)})
                elif piece is not None:
                    await self._socket.send(piece.once("websocket", frame))
        except ClientGone:
            return  # whoever receives learns it, too
        except MainstemError as error:
            with suppress(ClientGone):
                await self._refuse(subscription.ref, error, stream_id=name)
            if self._subscriptions.get(name) is subscription:
                del self._subscriptions[name]
            subscription.leave()

    # Answers

    async def _say(self, facts: dict[str, Any]) -> None:
        await self._socket.send(msgspec.json.encode(facts).decode())

    async def _refuse(self, ref: msgspec.Raw, error: MainstemError | None, **where: str) -> None:
        await self._say({"op": "error", "ref": ref, **where, "error": _facts(error)})


class _Subscription:
    def __init__(self, name: str, ref: msgspec.Raw, reader: Reader, following: Following, session: Session) -> None:
        self.name = name
        self.ref = ref
        self.reader = reader
        self._following = following
        self._session = session
        self._task: asyncio.Task[None] | None = None
        session.add_check(self._check)

    def begin(self, work: Any) -> None:
        self._task = asyncio.create_task(work)

    async def close(self) -> None:
        """End it; nothing of it is sent after that."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.leave()

    def leave(self) -> None:
        if self._check in self._session.checks:
            self._session.checks.remove(self._check)
        self.reader.close()

    async def _check(self, principal: Principal) -> None:
        """A stream that may not be read any more ends its subscription, not the socket."""
        try:
            await self._following.check(principal, self.reader)
        except (Denied, NotFound) as error:
            self.reader.end(error)


def _ref_of(body: bytes) -> msgspec.Raw:
    """The frame's `ref`, even where the rest is wrong."""
    try:
        return msgspec.json.decode(body, type=_Ref).ref
    except (msgspec.DecodeError, RecursionError):
        return msgspec.Raw(b"null")


def _ack(result: Batch | Exception, ref: msgspec.Raw, *, with_ids: bool) -> str:
    if isinstance(result, Exception):
        error = result if isinstance(result, MainstemError) else None
        return msgspec.json.encode({"op": "error", "ref": ref, "error": _facts(error)}).decode()
    facts = msgspec.structs.asdict(wire.batch_out(result, 0, with_ids=with_ids))
    del facts["status"], facts["processing_time_ms"]
    told = {name: value for name, value in facts.items() if value is not UNSET}
    return msgspec.json.encode({"op": "ack", "ref": ref, **told}).decode()
