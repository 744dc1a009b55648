"""Moments worth finding again, and where in which streams they are to be seen."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.catalogue.model import ListingId
from mainstem.catalogue.rights import require_change, require_maker, require_reader
from mainstem.catalogue.tables import listings, timestamp_listings, timestamps
from mainstem.clock import Clock
from mainstem.errors import InvalidFields, NotFound
from mainstem.identity import Principal
from mainstem.ids import AccountId
from mainstem.storage import Records

TITLE_CHARACTERS_MIN = 3
TITLE_CHARACTERS_MAX = 200
DESCRIPTION_CHARACTERS_MAX = 2_000
LINKS_MAX = 1_000
"""Streams that show one moment."""

_SECONDS_MAX = (1 << 63) - 1


class TimestampLink(msgspec.Struct, frozen=True):
    """A stream that shows a moment."""

    listing: ListingId
    seconds: int | None
    """How far into the stream; None: nobody knows."""
    added_by: AccountId
    source: str
    title: str | None

    @property
    def display(self) -> str:
        """`1:02:03`, `2:03`, or `Unknown`."""
        if self.seconds is None:
            return "Unknown"
        hours, rest = divmod(self.seconds, 3_600)
        minutes, seconds = divmod(rest, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Timestamp(msgspec.Struct, frozen=True):
    """A moment."""

    id: int
    title: str
    description: str | None
    event_us: int
    owner: AccountId
    created_us: int
    updated_us: int
    links: tuple[TimestampLink, ...] = ()


class LinkDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that is to be linked, as a client wrote it."""

    listing: int | None
    """None: it was no number."""
    seconds: int | None = None
    is_readable: bool = True
    """False: the seconds were no whole number."""


class TimestampChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says of a moment, as he wrote it. What is not set stays as it is, or is none."""

    title: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    event_us: int | UnsetType | None = UNSET
    links: Sequence[LinkDraft] | UnsetType = UNSET
    """All of them: those that are not in it go."""
    unreadable: tuple[str, ...] = ()
    """Fields whose value is no time, where it must be one."""


class TimestampFilters(msgspec.Struct, frozen=True, kw_only=True):
    search: str | None = None
    """Found in any case within title or description."""
    start_us: int | None = None
    end_us: int | None = None
    """The first moment that is too late."""
    listing: int | None = None


class TimestampPage(msgspec.Struct, frozen=True):
    timestamps: list[Timestamp]
    total: int


class Timestamps:
    """The verbs of moments. Everybody reads, editors write what is their own, administrators everything."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    async def page(
        self, principal: Principal, *, page: int = 1, per_page: int = 25, filters: TimestampFilters | None = None
    ) -> TimestampPage:
        """The latest moments first. Raises Denied."""
        require_reader(principal)
        wanted = _wanted(filters or TimestampFilters())
        query = select(timestamps).where(wanted).order_by(timestamps.c.event_us.desc(), timestamps.c.id.desc())
        async with self._records.read() as rows:
            total = await rows.scalar(select(func.count()).select_from(timestamps).where(wanted))
            found = (await rows.execute(query.limit(per_page).offset((page - 1) * per_page))).all()
            return TimestampPage(await _with_links(rows, found), total or 0)

    async def get(self, principal: Principal, timestamp: int) -> Timestamp:
        """Raises Denied, NotFound."""
        require_reader(principal)
        async with self._records.read() as rows:
            return await _one(rows, timestamp)

    async def create(self, principal: Principal, changes: TimestampChanges) -> Timestamp:
        """Raises Denied, InvalidFields, NotFound for a stream that there is not."""
        require_maker(principal)
        _check(_values(changes, {}), changes)
        now_us = self._clock()
        values = _values(changes, {}) | {"owner": principal.account, "created_us": now_us, "updated_us": now_us}
        async with self._records.begin() as tx:
            row = await tx.execute(insert(timestamps).values(**values).returning(timestamps.c.id))
            timestamp: int = row.scalar_one()
            if changes.links is not UNSET:
                await self._link(tx, principal, timestamp, changes.links)
            return await _one(tx, timestamp)

    async def update(self, principal: Principal, timestamp: int, changes: TimestampChanges) -> Timestamp:
        """Raises NotFound, Denied, InvalidFields."""
        async with self._records.begin() as tx:
            before = await _own(tx, principal, timestamp)
            values = _values(changes, msgspec.structs.asdict(before))
            _check(values, changes)
            values["updated_us"] = self._clock()
            await tx.execute(update(timestamps).where(timestamps.c.id == timestamp).values(**values))
            if changes.links is not UNSET:
                await tx.execute(delete(timestamp_listings).where(timestamp_listings.c.timestamp == timestamp))
                await self._link(tx, principal, timestamp, changes.links)
            return await _one(tx, timestamp)

    async def delete(self, principal: Principal, timestamp: int) -> None:
        """Raises NotFound, Denied."""
        async with self._records.begin() as tx:
            await _own(tx, principal, timestamp)
            await tx.execute(delete(timestamp_listings).where(timestamp_listings.c.timestamp == timestamp))
            await tx.execute(delete(timestamps).where(timestamps.c.id == timestamp))

    async def link(self, principal: Principal, timestamp: int, draft: LinkDraft) -> Timestamp:
        """Say that a stream shows a moment. Raises NotFound, Denied, InvalidFields."""
        async with self._records.begin() as tx:
            await _own(tx, principal, timestamp)
            await self._link(tx, principal, timestamp, [draft])
            await self._touch(tx, timestamp)
            return await _one(tx, timestamp)

    async def unlink(self, principal: Principal, timestamp: int, listing: int) -> Timestamp:
        """Raises NotFound, Denied."""
        async with self._records.begin() as tx:
            await _own(tx, principal, timestamp)
            link = (timestamp_listings.c.timestamp == timestamp) & (timestamp_listings.c.listing == listing)
            if (await tx.execute(delete(timestamp_listings).where(link))).rowcount == 0:
                raise NotFound(f"Stream {listing} is not linked to timestamp {timestamp}")
            await self._touch(tx, timestamp)
            return await _one(tx, timestamp)

    async def _touch(self, tx: AsyncConnection, timestamp: int) -> None:
        await tx.execute(update(timestamps).where(timestamps.c.id == timestamp).values(updated_us=self._clock()))

    async def _link(
        self, tx: AsyncConnection, principal: Principal, timestamp: int, drafts: Sequence[LinkDraft]
    ) -> None:
        known = select(timestamp_listings.c.listing).where(timestamp_listings.c.timestamp == timestamp)
        linked = set(await tx.scalars(known))
        for draft in drafts:
            await _check_link(tx, draft, linked)
            row = {
                "timestamp": timestamp,
                "listing": draft.listing,
                "seconds": draft.seconds,
                "added_by": principal.account,
                "created_us": self._clock(),
            }
            await tx.execute(insert(timestamp_listings).values(row))


async def _check_link(tx: AsyncConnection, draft: LinkDraft, linked: set[int]) -> None:
    """Raise InvalidFields, or NotFound for a stream that there is not; else count it as linked."""
    found = None
    if draft.listing is not None:
        found = await tx.scalar(select(listings.c.id).where(listings.c.id == draft.listing))
    if found is None:
        raise InvalidFields([("stream", "must exist")])
    problems = []
    if found in linked:
        problems.append(("stream", "has already been taken"))
    if not draft.is_readable:
        problems.append(("stream_timestamp_seconds", "is not a number"))
    elif draft.seconds is not None and draft.seconds < 0:
        problems.append(("stream_timestamp_seconds", "must be greater than or equal to 0"))
    if len(linked) >= LINKS_MAX:
        problems.append(("base", f"A timestamp has at most {LINKS_MAX} streams"))
    if problems:
        raise InvalidFields(problems)
    linked.add(found)


def _values(changes: TimestampChanges, before: Mapping[str, Any]) -> dict[str, Any]:
    def after(name: str) -> Any:
        given = getattr(changes, name)
        return before.get(name) if given is UNSET else given

    return {
        "title": (after("title") or "").strip(),
        "description": (after("description") or "").strip() or None,
        "event_us": after("event_us"),
    }


def _check(values: Mapping[str, Any], changes: TimestampChanges) -> None:
    """Raise InvalidFields with all that is wrong."""
    title, description = values["title"], values["description"] or ""
    problems = []
    if not title:
        problems.append(("title", "can't be blank"))
    if len(title) < TITLE_CHARACTERS_MIN:
        problems.append(("title", f"is too short (minimum is {TITLE_CHARACTERS_MIN} characters)"))
    if len(title) > TITLE_CHARACTERS_MAX:
        problems.append(("title", f"is too long (maximum is {TITLE_CHARACTERS_MAX} characters)"))
    if len(description) > DESCRIPTION_CHARACTERS_MAX:
        problems.append(("description", f"is too long (maximum is {DESCRIPTION_CHARACTERS_MAX} characters)"))
    texts = {"title": title, "description": description}
    problems += [(name, "is invalid") for name, text in texts.items() if "\0" in text]
    problems += [(name, "is not a time") for name in changes.unreadable]
    if values["event_us"] is None and "event_timestamp" not in changes.unreadable:
        problems.append(("event_timestamp", "can't be blank"))
    if problems:
        raise InvalidFields(problems)


def _wanted(filters: TimestampFilters) -> ColumnElement[bool]:
    parts: list[ColumnElement[bool]] = []
    if filters.search:
        texts = (timestamps.c.title, timestamps.c.description)
        parts.append(or_(*(column.icontains(filters.search, autoescape=True) for column in texts)))
    if filters.start_us is not None:
        parts.append(timestamps.c.event_us >= filters.start_us)
    if filters.end_us is not None:
        parts.append(timestamps.c.event_us < filters.end_us)
    if filters.listing is not None:
        linked = select(timestamp_listings.c.timestamp).where(timestamp_listings.c.listing == filters.listing)
        parts.append(timestamps.c.id.in_(linked))
    return and_(true(), *parts)


async def _own(tx: AsyncConnection, principal: Principal, timestamp: int) -> Timestamp:
    """One that the caller may change. Raises NotFound, Denied."""
    found = await _one(tx, timestamp)
    require_change(principal, found.owner)
    return found


async def _one(tx: AsyncConnection, timestamp: int) -> Timestamp:
    row = (await tx.execute(select(timestamps).where(timestamps.c.id == timestamp))).one_or_none()
    if row is None:
        raise NotFound(f"There is no timestamp {timestamp}")
    return (await _with_links(tx, [row]))[0]


async def _with_links(tx: AsyncConnection, rows: Iterable[Any]) -> list[Timestamp]:
    rows = list(rows)
    query = (
        select(timestamp_listings, listings.c.source, listings.c.title)
        .join(listings, listings.c.id == timestamp_listings.c.listing)
        .where(timestamp_listings.c.timestamp.in_([row.id for row in rows]))
        .order_by(timestamp_listings.c.created_us, timestamp_listings.c.listing)
    )
    links: dict[int, list[TimestampLink]] = {}
    for link in await tx.execute(query):
        shown = TimestampLink(ListingId(link.listing), link.seconds, AccountId(link.added_by), link.source, link.title)
        links.setdefault(link.timestamp, []).append(shown)
    return [Timestamp(**row._mapping, links=tuple(links.get(row.id, ()))) for row in rows]
