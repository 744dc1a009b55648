"""`/cable`: the shared sheet over ActionCable (section 12), and a channel that tells what becomes of listings."""

import asyncio
import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, assert_never
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainstem.catalogue import (
    Came,
    Cell,
    CellLocked,
    Changed,
    Left,
    Listing,
    ListingChanges,
    Locked,
    Missed,
    News,
    NotLocked,
    PeopleNow,
    Person,
    Sheet,
    Unlocked,
    require_reader,
)
from mainstem.clock import SECOND_US
from mainstem.errors import Denied, Invalid, MainstemError, NotFound, Unauthenticated, Unavailable
from mainstem.faces.streamsource import actioncable, listings, wire
from mainstem.faces.streamsource.actioncable import BadData, NotACommand, Perform, Subscribe, Unsubscribe
from mainstem.faces.streamsource.context import Context
from mainstem.faces.streamsource.parameters import integer_of, query_of
from mainstem.http import (
    GOING_AWAY,
    NORMAL,
    Answer,
    Call,
    ClientGone,
    Reply,
    Route,
    Session,
    Sessions,
    Socket,
    UpgradeRequired,
)
from mainstem.identity import Principal
from mainstem.ids import AccountId, random_id
from mainstem.telemetry import get_logger

logger = get_logger(__name__)

SHEET, EVENTS = "CollaborativeStreamsChannel", "StreamsChannel"

MESSAGES_PER_S = 30
SUBSCRIPTIONS_MAX = 20
CONNECTIONS_MAX = 100
"""Of one account."""
OUTBOX_BYTES_MAX = 1 << 20
"""What may wait for one client. One that is slower is let go, and comes back to what is true then."""

_BEHIND_BYTES = OUTBOX_BYTES_MAX // 4
_CATCH_UP_S = 1.0
_NEWS_MAX = 10_000
_SENT_WITHIN_S = 30.0
_GOODBYE_S = 2.0

EDITABLE = frozenset(
    {
        "title",
        "source",
        "link",
        "city",
        "state",
        "platform",
        "status",
        "orientation",
        "kind",
        "started_at",
        "ended_at",
        "notes",
    }
)
_CELL = re.compile(r"stream_([0-9]{1,18})_([a-z_]+)", re.ASCII)
_COLOURS = ("#FF6B6B", "#4ECDC4", "#45B7D1", "#FFA07A", "#98D8C8", "#F7DC6F", "#BB8FCE", "#85C1E2")
_COOKIE = "jwt_token"


class CableQuery(msgspec.Struct, kw_only=True):
    token: (
        Annotated[str, Meta(description="A token, from clients that can set neither header nor cookie")] | UnsetType
    ) = UNSET


class InvalidField(Invalid):
    """No cell of the sheet."""


class Cable:
    """All connections to this server, and what they are told."""

    def __init__(self, context: Context, sheet: Sheet, sessions: Sessions) -> None:
        self.sheet = sheet
        self._context = context
        self._sessions = sessions
        self._connections: dict[_Connection, None] = {}
        self._news: asyncio.Queue[News] = asyncio.Queue(_NEWS_MAX)

    async def run(self) -> None:
        """Ping and tell, until cancelled."""
        with self.sheet.following(self._take_note):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_pinging())
                tasks.create_task(self._keep_telling())

    async def _keep_pinging(self) -> None:
        while True:
            await asyncio.sleep(actioncable.PING_EVERY_S)
            self._ping()

    async def _keep_telling(self) -> None:
        while True:
            news = await self._news.get()
            try:
                await self._hand_out(news)
            except Exception:  # one piece of news that cannot be told must not keep back the others
                logger.exception("news could not be told")
            await self._let_catch_up()

    async def _let_catch_up(self) -> None:
        """Wait for those who are behind, but not for long: much news at once shall cut off nobody who goes on reading.

        Whoever is too slow is waited for again only when he has caught up.
        """
        await asyncio.sleep(0)  # everybody's turn to send
        waits = {
            asyncio.create_task(connection.caught_up.wait()): connection
            for connection in self._connections
            if connection.is_waited_for and not connection.caught_up.is_set()
        }
        if not waits:
            return
        _, late = await asyncio.wait(waits, timeout=_CATCH_UP_S)
        for wait in late:
            wait.cancel()
            waits[wait].is_waited_for = False

    async def serve(self, call: Call, socket: Socket) -> None:
        """One connection, from welcome to the end. Raises ClientGone."""
        try:
            principal = await self._authenticate(call)
            require_reader(principal)
        except (Unauthenticated, Denied):
            await socket.send(actioncable.disconnect("unauthorized", reconnect=False).decode())
            return
        except Unavailable:
            await socket.send(actioncable.disconnect("server_restart", reconnect=True).decode())
            return
        if sum(other.account == principal.account for other in self._connections) >= CONNECTIONS_MAX:
            await socket.send(actioncable.disconnect("invalid_request", reconnect=False).decode())
            return
        connection = _Connection(self, socket, principal.account)
        with self._sessions.stay(principal, lambda: self._authenticate(call), connection.end) as session:
            session.add_check(_still_reads)
            self._connections[connection] = None
            try:
                await connection.run(session)
            finally:
                del self._connections[connection]
                await self.sheet.leave(connection.window)

    async def _authenticate(self, call: Call) -> Principal:
        """Whoever shows a token: in the header, the query string or the cookie. Raises Unauthenticated.

        Browsers send cookies along whichever page asks, so a cookie counts only for pages of this server.
        """
        if call.headers.get("authorization"):
            return await self._context.authenticate(call)
        token = query_of(call).text("token")
        if token is None and _is_own_page(call):
            token = call.cookies.get(_COOKIE)
        if not token:
            raise Unauthenticated("Send a token, as ?token= or in the cookie jwt_token")
        return await self._context.authenticate_token(token)

    async def require_open(self) -> None:
        """Raise Maintenance while the operator has switched the API off: who is connected may watch, and no more."""
        await self._context.require_open()

    def _ping(self) -> None:
        frame = actioncable.ping(self._context.clock() // SECOND_US)
        for connection in list(self._connections):
            connection.send(frame)

    def _take_note(self, news: News | Missed) -> None:
        if isinstance(news, Missed) or self._news.full():  # whoever connects again sees what is true then
            for connection in self._connections:
                connection.end(Unavailable("There was more to tell than could be told: connect again"))
        else:
            self._news.put_nowait(news)

    async def _hand_out(self, news: News) -> None:
        """Write out once for all who listen to a channel, under each identifier that they chose for it."""
        view = await self._view(news)
        for channel, messages in ((SHEET, _sheet_messages), (EVENTS, _event_messages)):
            subscribed = [
                (connection, identifier)
                for connection in self._connections
                for identifier, chosen in connection.subscriptions.items()
                if chosen == channel
            ]
            if subscribed:
                _send_all(subscribed, [msgspec.json.encode(message) for message in messages(news, view)])

    async def _view(self, news: News) -> Mapping[str, object] | None:
        """A listing that has changed, as the API shows it to somebody for whom no feature is switched on."""
        if not isinstance(news, Changed) or news.listing is None or not self._connections:
            return None
        view: dict[str, object] = msgspec.to_builtins(await listings.view_of(self._context, news.listing))
        return view


def routes(cable: Cable) -> list[Route]:
    async def not_a_socket(call: Call) -> Answer:
        raise UpgradeRequired("This is a WebSocket in the ActionCable protocol", upgrade="websocket")

    return [
        Route(
            method="GET",
            path="/cable",
            name="streamsource_cable",
            summary="Edit the shared sheet, and follow what changes",
            description="A WebSocket in the ActionCable protocol, described in docs/reference/cable.md.",
            tag="Cable",
            handler=not_a_socket,
            socket=cable.serve,
            subprotocols=(actioncable.SUBPROTOCOL, actioncable.UNSUPPORTED),
            message_bytes_max=actioncable.MESSAGE_BYTES_MAX,
            public=True,
            query=CableQuery,
            replies={101: Reply("The connection, which says welcome when the token is good")},
            errors=["UPGRADE_REQUIRED"],
        )
    ]


def _send_all(subscribed: Iterable[tuple["_Connection", str]], messages: list[bytes]) -> None:
    frames: dict[str, list[bytes]] = {}
    for connection, identifier in subscribed:
        if identifier not in frames:
            frames[identifier] = [actioncable.push(identifier, message) for message in messages]
        for frame in frames[identifier]:
            connection.send(frame)


async def _still_reads(principal: Principal) -> None:
    require_reader(principal)


def _is_own_page(call: Call) -> bool:
    origin = call.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == call.headers.get("host", "")


class _Connection:
    """One client: what it subscribed to, and what waits for it."""

    def __init__(self, cable: Cable, socket: Socket, account: AccountId) -> None:
        self.account = account
        self.window = random_id("window")
        self.subscriptions: dict[str, str] = {}
        """Identifier → channel."""
        self.caught_up = asyncio.Event()
        self.caught_up.set()
        self.is_waited_for = True
        self._cable = cable
        self._sheet = cable.sheet
        self._socket = socket
        self._session: Session
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._filled = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[MainstemError] = loop.create_future()

    def end(self, error: MainstemError) -> None:
        self.is_waited_for = False
        self.caught_up.set()
        if not self._ended.done():
            self._ended.set_result(error)

    def send(self, frame: bytes) -> None:
        """Put a frame into the outbox; over its limit the client is let go."""
        if self._outbox_bytes + len(frame) > OUTBOX_BYTES_MAX:
            self.end(Unavailable("You take less than there is to tell: connect again"))
            return
        self._outbox.append(frame)
        self._outbox_bytes += len(frame)
        self._filled.set()
        if self._outbox_bytes > _BEHIND_BYTES:
            self.caught_up.clear()

    async def run(self, session: Session) -> None:
        """Until the client goes, or must. Raises ClientGone."""
        self._session = session
        self.send(actioncable.welcome())
        receiving, sending = asyncio.create_task(self._receive()), asyncio.create_task(self._send())
        try:
            await asyncio.wait((receiving, sending, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if not self._ended.done():
                await (receiving if receiving.done() else sending)
            sending.cancel()
            await self._say_goodbye(self._ended.result())
        finally:
            self.caught_up.set()
            for task in (receiving, sending):
                task.cancel()
            await asyncio.gather(receiving, sending, return_exceptions=True)

    async def _say_goodbye(self, error: MainstemError) -> None:
        """Tell the client why it must go, and whether to come back by itself."""
        match error:
            case NotACommand():
                frame = actioncable.disconnect("invalid_request", reconnect=False)
            case Unavailable():
                frame = actioncable.disconnect("server_restart", reconnect=True)
            case _:
                frame = actioncable.disconnect("unauthorized", reconnect=False)
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self._socket.send(frame.decode())
                await self._socket.close(GOING_AWAY if isinstance(error, Unavailable) else NORMAL)
        except TimeoutError as late:
            raise ClientGone from late

    async def _send(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._outbox:
                frame = self._outbox[0]
                try:
                    async with asyncio.timeout(_SENT_WITHIN_S):
                        await self._socket.send(frame.decode())
                except TimeoutError as error:
                    raise ClientGone from error
                self._outbox.popleft()
                self._outbox_bytes -= len(frame)
                if self._outbox_bytes <= _BEHIND_BYTES:
                    self.caught_up.set()
                    self.is_waited_for = True

    # What comes in

    async def _receive(self) -> None:
        pace = _Pace()
        while True:
            content = await self._socket.receive()
            await pace.wait()
            try:
                await self._handle(content)
            except NotACommand as error:
                self.end(error)
                return

    async def _handle(self, content: str | bytes) -> None:
        try:
            command = actioncable.read(content)
        except BadData as error:
            self._tell(error.identifier, {"error": error.message})
            return
        match command:
            case Subscribe(identifier, channel):
                await self._subscribe(identifier, channel)
            case Unsubscribe(identifier):
                await self._unsubscribe(identifier)
            case Perform():
                await self._perform(command)
            case unexpected:
                assert_never(unexpected)

    async def _subscribe(self, identifier: str, channel: str) -> None:
        """A second wish for the same subscription changes nothing: clients repeat it until it is confirmed."""
        if identifier in self.subscriptions:
            return
        if channel not in (SHEET, EVENTS) or len(self.subscriptions) >= SUBSCRIPTIONS_MAX:
            self.send(actioncable.reject(identifier))
            return
        self.send(actioncable.confirm(identifier))
        self.subscriptions[identifier] = channel
        if channel == SHEET:
            try:
                held = await self._sheet.enter(self.window, self._session.principal)
            except MainstemError as error:  # the account has just gone, or nothing can be read now
                self.end(error)
                return
            for locked in held:
                self._tell(identifier, *_sheet_messages(locked, None))

    async def _unsubscribe(self, identifier: str) -> None:
        channel = self.subscriptions.pop(identifier, None)
        if channel == SHEET and SHEET not in self.subscriptions.values():
            await self._sheet.leave(self.window)

    async def _perform(self, wanted: Perform) -> None:
        channel = self.subscriptions.get(wanted.identifier)
        try:
            if channel is None:
                raise Invalid("Subscribe to the channel first")
            if channel != SHEET:
                raise Invalid("This channel has no actions")
            await self._act(wanted)
        except Unauthenticated as error:
            self.end(error)
        except MainstemError as error:
            self._tell(wanted.identifier, _error(error))
        except Exception:
            logger.exception("action failed", action=wanted.action[:40])
            self._tell(wanted.identifier, {"error": "Update failed: Internal Server Error"})

    async def _act(self, wanted: Perform) -> None:
        # As good as a request: the token may have ended since the last one, and the role may be another.
        principal = await self._session.authenticate()
        match wanted.action:
            case "presence_ping":
                await self._sheet.ping(self.window)
            case "lock_cell":
                await self._cable.require_open()
                await self._sheet.lock(self.window, principal, _cell(wanted.data))
            case "unlock_cell":
                await self._sheet.unlock(self.window, principal, _cell(wanted.data))
            case "update_cell":
                await self._cable.require_open()
                cell = _cell_to_change(wanted.data)
                await self._sheet.change(self.window, principal, cell, _changes(cell.field, wanted.data["value"]))
            case unknown:
                raise Invalid(f"There is no action {unknown[:40]!r}")

    def _tell(self, identifier: str, *messages: Mapping[str, object]) -> None:
        for message in messages:
            self.send(actioncable.push(identifier, msgspec.json.encode(message)))


class _Pace:
    """Reads no faster than the limit: what a client sends beyond it waits in its own buffers, and nothing is lost."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._count = 0

    async def wait(self) -> None:
        now = self._loop.time()
        if now - self._since >= 1:
            self._since, self._count = now, 0
        self._count += 1
        if self._count > MESSAGES_PER_S:
            await asyncio.sleep(self._since + 1 - now)
            self._since, self._count = self._loop.time(), 1


# Cells


def _cell(data: dict[str, Any]) -> Cell:
    """Raises InvalidField."""
    name = data.get("cell_id")
    match = _CELL.fullmatch(name) if isinstance(name, str) else None
    if match is None or match[2] not in EDITABLE:
        raise InvalidField("Invalid field")
    return Cell(int(match[1]), match[2])


def _cell_to_change(data: dict[str, Any]) -> Cell:
    """The cell, which the other fields must name as well; and there must be a value, for null is what clears a cell.
    Raises InvalidField."""
    cell = _cell(data)
    if integer_of(data.get("stream_id")) != cell.listing or data.get("field") != cell.field or "value" not in data:
        raise InvalidField("Invalid field")
    return cell


def _cell_id(cell: Cell) -> str:
    return f"stream_{cell.listing}_{cell.field}"


def _changes(field: str, value: object) -> ListingChanges:
    """What is written into a cell. Raises Invalid for what cannot stand in one."""
    if isinstance(value, dict | list):
        raise Invalid("Update failed: a cell takes text")
    return listings.cell_changes(field, value)


# What is told


def _sheet_messages(news: News, view: Mapping[str, object] | None) -> list[dict[str, object]]:
    """What somebody who has the sheet open is told. `view` is the listing that has changed, as the API shows it."""
    match news:
        case PeopleNow(people):
            users = [{**_person(present.person), "inactive": present.inactive} for present in people]
            return [{"action": "active_users_list", "users": users}]
        case Came(person):
            return [{"action": "user_joined", **_person(person)}]
        case Left(person):
            return [{"action": "user_left", **_person(person)}]
        case Locked(cell, person):
            return [{"action": "cell_locked", "cell_id": _cell_id(cell), **_person(person)}]
        case Unlocked(cell, account):
            return [{"action": "cell_unlocked", "cell_id": _cell_id(cell), "user_id": account}]
        case Changed():
            return [] if news.listing is None or view is None else _changed_messages(news, news.listing, view)
        case unexpected:
            assert_never(unexpected)


def _changed_messages(news: Changed, listing: Listing, view: Mapping[str, object]) -> list[dict[str, object]]:
    number = news.listing_id
    messages: list[dict[str, object]] = [
        {
            "action": "cell_updated",
            "cell_id": _cell_id(Cell(number, field)),
            "stream_id": number,
            "field": field,
            "value": view[field],
            "user_id": news.account or None,
        }
        for field in sorted(news.fields & EDITABLE)
    ]
    if news.fields & {"last_checked_at", "last_live_at"}:
        times = {
            "last_checked_at": wire.whole_second_or_null(listing.last_checked_us),
            "last_live_at": wire.whole_second_or_null(listing.last_live_us),
        }
        messages.append({"action": "stream_updated", "stream_id": number, **times})
    if "streamer" in news.fields:
        streamer = listing.streamer
        facts = {
            "streamer_id": streamer and streamer.id,
            "streamer_name": streamer and streamer.name,
            "streamer_platform": ", ".join(news.platforms),
        }
        messages.append({"action": "streamer_updated", "stream_id": number, **facts})
    return messages


def _event_messages(news: News, view: Mapping[str, object] | None) -> list[dict[str, object]]:
    """What somebody is told who follows what becomes of listings."""
    if not isinstance(news, Changed):
        return []
    event = _event(news)
    return [] if event is None else [{"event": event, "stream_id": news.listing_id, "stream": view}]


def _event(news: Changed) -> str | None:
    listing = news.listing
    match news.event_type:
        case "listing.created" | "listing.deleted":
            return f"stream.{news.event_type.removeprefix('listing.')}"
        case "listing.updated" if "is_pinned" in news.fields and listing is not None and listing.is_pinned:
            return "stream.pinned"
        case "listing.updated" if "is_archived" in news.fields and listing is not None and listing.is_archived:
            return "stream.archived"
        case "listing.updated":
            return "stream.updated"
        case "listing.checked" if news.fields:
            return "stream.updated"
        case _:  # what it means beside that is told by an event of its own
            return None


def _person(person: Person) -> dict[str, object]:
    return {
        "user_id": person.account,
        "user_name": person.name,
        "user_color": _COLOURS[person.account % len(_COLOURS)],
    }


def _error(error: MainstemError) -> dict[str, object]:
    """What the sender is told, and nobody else."""
    match error:
        case CellLocked():
            lock = error.lock
            return {"error": error.message, "cell_id": _cell_id(lock.cell), **_person(lock.person)}
        case NotFound():
            return {"error": "Invalid field"}
        case Denied():
            return {"error": "You are not authorized to edit streams"}
        case NotLocked() | Unavailable():
            return {"error": f"Update failed: {error.message}"}
        case _:
            return {"error": error.message}
