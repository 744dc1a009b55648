"""The shared sheet: everybody who has it open sees who else has, who types where, and what changes, whoever changes it.

Who is there and who types where is told to all servers through Signals, which may lose it. What changes in listings is
told from the log alone: it makes no difference which door or which process changed them.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import batched
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mainstem.catalogue.announcing import TOPIC
from mainstem.catalogue.listings import Listings
from mainstem.catalogue.locks import Cell, CellLocks
from mainstem.catalogue.model import Listing, ListingChanges, Platform
from mainstem.catalogue.presence import Person, Presence, Present
from mainstem.catalogue.streamers import Streamers
from mainstem.errors import Conflict, MainstemError, NotFound
from mainstem.events import Following, Reader, Row, Skipped, Start
from mainstem.identity import OPERATOR, Directory, Principal
from mainstem.ids import AccountId
from mainstem.storage import Signals
from mainstem.telemetry import get_logger

logger = get_logger(__name__)

CHANNEL = "catalogue.sheet"

_SWEEP_EVERY_S = 1.0
_PEOPLE_EVERY_S = 0.1
_LOOK_EVERY_S = 0.5
_CHECK_EVERY_S = 2.0
_CHANGES_AT_ONCE = 100
_PAUSE_S = 1.0


# What there is to tell


class PeopleNow(msgspec.Struct, frozen=True, tag=True):
    """Everybody who is there. Told whenever anybody does anything, ten times a second at most."""

    people: list[Present]


class Came(msgspec.Struct, frozen=True, tag=True):
    person: Person


class Left(msgspec.Struct, frozen=True, tag=True):
    person: Person


class Locked(msgspec.Struct, frozen=True, tag=True):
    cell: Cell
    person: Person


class Unlocked(msgspec.Struct, frozen=True, tag=True):
    cell: Cell
    account: AccountId


class Changed(msgspec.Struct, frozen=True):
    """Something happened to a listing."""

    event_type: str
    listing_id: int
    listing: Listing | None
    """As it is now; None where it is gone, or was archived and deleted since."""
    fields: frozenset[str]
    """What has another value than before, by the names that cells have."""
    account: AccountId | None
    """Who did it; None: the server itself."""
    platforms: Sequence[Platform] = ()
    """Where its streamer is, when `streamer` is among the fields."""


class Missed(msgspec.Struct, frozen=True):
    """There were changes that nobody will be told: who has the sheet open must look at it anew."""


type Signal = PeopleNow | Came | Left | Locked | Unlocked
type News = Signal | Changed

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(PeopleNow | Came | Left | Locked | Unlocked).decode


class NotLocked(Conflict):
    """Only who has a cell may write into it."""

    def __init__(self) -> None:
        super().__init__("lock the cell before you change it")


class Sheet:
    """What people do with the sheet, each in a window of his own: a connection that ends when he closes it."""

    def __init__(
        self,
        listings: Listings,
        streamers: Streamers,
        directory: Directory,
        following: Following,
        signals: Signals,
        *,
        locks: CellLocks,
        presence: Presence,
    ) -> None:
        self._listings = listings
        self._streamers = streamers
        self._directory = directory
        self._following = following
        self._signals = signals
        self._locks = locks
        self._presence = presence
        self._readers: dict[Callable[[News | Missed], None], None] = {}
        self._releases: dict[Cell, AccountId] = {}
        self._told: list[Present] = []
        self._stirred = asyncio.Event()

    # What people do

    async def enter(self, window: str, principal: Principal) -> list[Locked]:
        """Be there, and learn who types where."""
        person = await self._person(principal)
        if await self._presence.join(window, person):
            self._tell(Came(person))
        self._stirred.set()
        return [Locked(lock.cell, lock.person) for lock in await self._locks.held()]

    async def ping(self, window: str) -> None:
        """Say that somebody is still there, although he does nothing."""
        await self._hear(window, acted=False)

    async def lock(self, window: str, principal: Principal, cell: Cell) -> None:
        """Take a cell for 30 s, or renew that. Raises NotFound, Denied, CellLocked, TooManyLocks."""
        await self._hear(window, acted=True)
        await self._listings.changeable(principal, cell.listing)
        person = await self._person(principal)
        await self._locks.take(cell, person, window)
        self._releases.pop(cell, None)
        self._tell(Locked(cell, person))

    async def unlock(self, window: str, principal: Principal, cell: Cell) -> None:
        """Let a cell go. Nothing happens where he does not have it."""
        await self._hear(window, acted=True)
        await self._release(cell, await self._person(principal))

    async def change(self, window: str, principal: Principal, cell: Cell, changes: ListingChanges) -> None:
        """Write into a cell that one has, and let it go as soon as everybody has been told what stands there.

        Raises NotLocked, and whatever an update raises.
        """
        await self._hear(window, acted=True)
        before = await self._listings.changeable(principal, cell.listing)
        person = await self._person(principal)
        if not await self._locks.holds(cell, person):
            raise NotLocked
        self._releases[cell] = person.account
        try:
            after = await self._listings.update(principal, cell.listing, changes)
        except BaseException:
            self._releases.pop(cell, None)
            raise
        if _value(before, cell) == _value(after, cell):
            self._releases.pop(cell, None)
            # Nothing has changed, so the log will tell of nothing; the others see it come free all the same.
            self._hand_out(Changed("listing.touched", cell.listing, after, frozenset({cell.field}), person.account))
            await self._release(cell, person)

    async def leave(self, window: str) -> None:
        """The window is closed: what it held is free."""
        for lock in await self._locks.release_all(window):
            self._releases.pop(lock.cell, None)
            self._tell(Unlocked(lock.cell, lock.person.account))
        person = await self._presence.leave(window)
        if person is not None:
            self._tell(Left(person))
        self._stirred.set()

    async def _hear(self, window: str, *, acted: bool) -> None:
        person = await self._presence.hear(window, acted=acted)
        if person is not None:
            self._tell(Came(person))
        self._stirred.set()

    async def _release(self, cell: Cell, person: Person) -> None:
        if await self._locks.release(cell, person) is not None:
            self._tell(Unlocked(cell, person.account))

    async def _person(self, principal: Principal) -> Person:
        account = await self._directory.account(principal.account)
        return Person(account.id, (account.email or account.name).partition("@")[0])

    # What people are told

    @contextmanager
    def following(self, tell: Callable[[News | Missed], None]) -> Iterator[None]:
        """Have `tell` called with whatever happens, for the block. It must not raise, nor wait."""
        self._readers[tell] = None
        try:
            yield
        finally:
            del self._readers[tell]

    async def run(self) -> None:
        """Tell, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hand_out_signals())
            tasks.create_task(self._tell_people())
            tasks.create_task(self._follow())
            tasks.create_task(self._keep_sweeping())

    async def sweep(self) -> None:
        """End the locks that ran out, and no longer count who is silent."""
        for lock in await self._locks.sweep():
            self._releases.pop(lock.cell, None)
            self._tell(Unlocked(lock.cell, lock.person.account))
        for person in await self._presence.sweep():
            self._tell(Left(person))
        if await self._presence.people() != self._told:
            self._stirred.set()

    def _tell(self, signal: Signal) -> None:
        self._signals.publish(CHANNEL, _encode(signal))

    def _hand_out(self, news: News | Missed) -> None:
        for tell in list(self._readers):
            tell(news)

    async def _hand_out_signals(self) -> None:
        async with self._signals.subscribe(CHANNEL) as messages:
            async for message in messages:
                self._hand_out(_decode(message))

    async def _tell_people(self) -> None:
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            self._told = await self._presence.people()
            self._tell(PeopleNow(self._told))
            await asyncio.sleep(_PEOPLE_EVERY_S)  # however many do something, the list need not be told more often

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_EVERY_S)
            await self.sweep()

    # What the log tells

    async def _follow(self) -> None:
        start: Start = "latest"
        while True:
            try:
                reader = await self._following.follow(OPERATOR, TOPIC, start, _line)
            except NotFound:  # the first change makes the topic, and that one shall be told, too
                start = "earliest"
                await asyncio.sleep(_LOOK_EVERY_S)
                continue
            try:
                start = "latest"
                await self._read(reader)
            except NotFound:
                start = "earliest"
            except MainstemError as error:
                logger.warning("the sheet is not told what changes", reason=error.message)
                self._hand_out(Missed())
                await asyncio.sleep(_PAUSE_S)
            finally:
                reader.close()

    async def _read(self, reader: Reader) -> None:
        """Raises TopicNotFound when the topic was deleted; there will be another with the next change."""
        while True:
            try:
                async with asyncio.timeout(_CHECK_EVERY_S):
                    piece = await reader.next()
            except TimeoutError:
                await self._following.check(OPERATOR, reader)
                continue
            if piece is None:
                continue
            if isinstance(piece, Skipped):
                self._hand_out(Missed())
                continue
            for texts in batched(piece.texts, _CHANGES_AT_ONCE):
                await self._tell_changes([change for change in map(_change, texts) if change is not None])

    async def _tell_changes(self, changes: Sequence[tuple[str, "_Told"]]) -> None:
        listings = await self._listings.find_many([told.id for _, told in changes]) if self._readers else {}
        for event_type, told in changes:
            try:
                await self._tell_change(event_type, told, listings.get(told.id))
            except Exception:  # one change that cannot be told must not keep back the others
                logger.exception("a change was not told")

    async def _tell_change(self, event_type: str, told: "_Told", listing: Listing | None) -> None:
        fields = _fields(event_type, told)
        if self._readers:
            self._hand_out(await self._changed(event_type, told, fields, listing))
        for field in fields:
            cell = Cell(told.id, field)
            if told.by is not None and self._releases.get(cell) == told.by:
                del self._releases[cell]
                await self._release(cell, Person(told.by, ""))

    async def _changed(
        self, event_type: str, told: "_Told", fields: frozenset[str], listing: Listing | None
    ) -> Changed:
        if listing is None:
            return Changed(event_type, told.id, None, frozenset(), told.by)
        platforms = await self._platforms(listing) if "streamer" in fields else ()
        return Changed(event_type, told.id, listing, fields, told.by, platforms)

    async def _platforms(self, listing: Listing) -> Sequence[Platform]:
        if listing.streamer is None:
            return ()
        try:
            streamer = await self._streamers.get(OPERATOR, listing.streamer.id)
        except NotFound:  # deleted since
            return ()
        return list(dict.fromkeys(account.platform for account in streamer.accounts))


class _Told(msgspec.Struct):
    id: Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
    by: AccountId | None = None
    changes: dict[str, Any] = {}
    result: str | None = None


_decode_change = msgspec.json.Decoder(_Told).decode


def _change(text: bytes) -> tuple[str, _Told] | None:
    """What a line of the topic tells; None where that is nothing: an administrator may write anything into it."""
    event_type, _, data = text.partition(b"\n")
    try:
        return event_type.decode(), _decode_change(data)
    except msgspec.DecodeError:
        return None


def _fields(event_type: str, told: _Told) -> frozenset[str]:
    """What an event says has another value."""
    if event_type == "listing.checked" and told.result != "unknown":
        return frozenset({"last_checked_at", "last_live_at"} if told.result == "live" else {"last_checked_at"})
    return frozenset(told.changes) if event_type == "listing.updated" else frozenset()


def _value(listing: Listing, cell: Cell) -> object:
    return getattr(listing, _TIMES.get(cell.field, cell.field))


_TIMES = {"started_at": "started_us", "ended_at": "ended_us"}


def _line(row: Row) -> bytes:
    return b"%b\n%b" % (row.event_type.encode(), row.data)
