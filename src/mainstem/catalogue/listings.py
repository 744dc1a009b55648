"""The verbs of listings: made, found, changed, continued, archived and deleted, each by somebody who may."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import ColumnElement, insert, literal_column, select, union, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.catalogue import lists, rules
from mainstem.catalogue.announcing import announcement, tell, told
from mainstem.catalogue.assigning import assign
from mainstem.catalogue.continuation import WINDOW_US, candidate, is_over
from mainstem.catalogue.findings import Findings
from mainstem.catalogue.model import (
    Listing,
    ListingChanges,
    ListingId,
    ListingNotFound,
    Page,
    PageRequest,
    PlaceDraft,
    Status,
    StreamerId,
)
from mainstem.catalogue.places import Places
from mainstem.catalogue.rights import require_change, require_maker, require_reader, sees_archive
from mainstem.catalogue.rows import LISTING, forget, listing_of, read_listing, read_listings
from mainstem.catalogue.streamers import owner_of
from mainstem.catalogue.tables import listings, locations, streamers
from mainstem.clock import Clock
from mainstem.errors import InvalidFields
from mainstem.events import Announcement
from mainstem.identity import Directory, Principal
from mainstem.ids import AccountId
from mainstem.storage import Records
from mainstem.work import Queue

EXPORT_WINDOW_ROWS = 500
_SWEEP_ROWS = 200
_CANDIDATES_MAX = 1_000
_ANNOUNCED_STATUSES = (Status.LIVE, Status.OFFLINE)


class Listings:
    """All listings, kept in Records. What happens to one is announced in the transaction in which it happens."""

    def __init__(self, records: Records, queue: Queue, directory: Directory, places: Places, clock: Clock) -> None:
        self._records = records
        self._queue = queue
        self._directory = directory
        self._places = places
        self._clock = clock
        self._findings = Findings(records)

    # To see

    async def page(self, principal: Principal, request: PageRequest) -> Page:
        """A page of those that fit. Others than administrators see what is not archived.

        Raises AccountNotFound when the owner that is asked for does not exist.
        """
        require_reader(principal)
        filters = request.filters
        if filters.owner is not None:
            await self._directory.account(filters.owner)
        within = lists.halves(filters, sees_archive=sees_archive(principal))
        if not within or lists.fits_nothing(filters):
            return Page([], 0)
        offset = (request.page - 1) * request.per_page
        if filters.search is not None:
            found = await self._findings.of(request, within)
            async with self._records.read() as rows:
                return Page(await read_listings(rows, found[offset : offset + request.per_page].tolist()), len(found))
        async with self._records.read() as rows:
            total = int(await rows.scalar(lists.count(filters, within)) or 0)
            if offset >= total:
                return Page([], total)
            query = lists.ids(
                filters,
                request.sort,
                within,
                descending=request.descending,
                offset=offset,
                limit=min(request.per_page, total - offset),  # behind the last that fits there is nothing to look for
            )
            page = list((await rows.execute(query)).scalars())
            return Page(await read_listings(rows, page), total)

    async def all(self, principal: Principal, request: PageRequest) -> AsyncIterator[list[Listing]]:
        """All that fit, in windows: which they are is settled at the beginning, and each is as it is when its turn
        comes. Those deleted in between are left out. Nothing is held open between two windows."""
        require_reader(principal)
        filters = request.filters
        if filters.owner is not None:
            await self._directory.account(filters.owner)
        within = lists.halves(filters, sees_archive=sees_archive(principal))
        return self._windows(request, within if not lists.fits_nothing(filters) else ())

    async def _windows(self, request: PageRequest, within: lists.Halves) -> AsyncIterator[list[Listing]]:
        if not within:
            return
        found = await self._findings.of(request, within)
        for begin in range(0, len(found), EXPORT_WINDOW_ROWS):
            async with self._records.read() as rows:
                window = await read_listings(rows, found[begin : begin + EXPORT_WINDOW_ROWS].tolist())
            yield window

    async def get(self, principal: Principal, listing: int) -> Listing:
        """Raises ListingNotFound. An archived listing is found by its number by everybody."""
        require_reader(principal)
        async with self._records.read() as rows:
            return _known(await read_listing(rows, listing), listing)

    async def changeable(self, principal: Principal, listing: int) -> Listing:
        """The listing, for somebody who may change it. Raises ListingNotFound, then NotAllowed."""
        return _changeable(principal, await self.find(listing), listing)

    async def find(self, listing: int) -> Listing | None:
        """A listing, for the server itself."""
        async with self._records.read() as rows:
            return await read_listing(rows, listing)

    async def find_many(self, numbers: Collection[int]) -> Mapping[int, Listing]:
        """Those of these listings that there are, by number, for the server itself; a few hundred at once."""
        async with self._records.read() as rows:
            return {listing.id: listing for listing in await read_listings(rows, list(set(numbers)))}

    # To make and to change

    async def create(self, principal: Principal, changes: ListingChanges, *, continues: bool = False) -> Listing:
        """Make a listing. With `continues`, one that is to be live and names a streamer goes on with his broadcast.

        Raises NotAllowed, then InvalidFields.
        """
        require_maker(principal)
        is_live = isinstance(changes.status, str) and Status.read(changes.status) is Status.LIVE
        if continues and is_live and isinstance(changes.streamer, int):
            return (await self.continue_broadcast(principal, changes.streamer, changes))[0]
        async with self._records.begin() as tx:
            return await self.add(tx, principal, changes)

    async def continue_broadcast(
        self, principal: Principal, streamer: int, changes: ListingChanges
    ) -> tuple[Listing, bool]:
        """A streamer is live: go on with the listing he was live in less than half an hour ago, or make a new one, and
        say whether it is new.

        A new one belongs to the streamer's owner, or to whoever makes it where he may not act for that owner.
        Raises NotAllowed, StreamerNotFound, then InvalidFields.
        """
        require_maker(principal)
        changes = msgspec.structs.replace(changes, status=Status.LIVE, streamer=streamer)
        async with self._records.begin() as tx:
            streamers_owner = await owner_of(tx, streamer)
            now_us = self._clock()
            going_on = candidate(await self._continuable(tx, principal, StreamerId(streamer), now_us), now_us)
            if going_on is not None:
                return await self._continue(tx, principal.account, going_on, changes, now_us), False
            may_act = principal.account == streamers_owner or sees_archive(principal)
            owner = streamers_owner if may_act else principal.account
            return await self._insert(tx, principal.account, owner, changes), True

    async def update(self, principal: Principal, listing: int, changes: ListingChanges) -> Listing:
        """Change what is set; the listing as it is then.

        Raises ListingNotFound, then NotAllowed, then InvalidFields.
        """
        async with self._records.begin() as tx:
            return await self.change(tx, principal, await read_listing(tx, listing), listing, changes)

    async def pin(self, principal: Principal, listing: int, *, pinned: bool) -> Listing:
        """Put a listing on top of lists, or no longer. Raises ListingNotFound, then NotAllowed."""
        return await self.update(principal, listing, ListingChanges(is_pinned=pinned))

    async def archive(self, principal: Principal, listing: int, *, archived: bool) -> Listing:
        """Put a listing into the archive, or take it out. Raises ListingNotFound, then NotAllowed."""
        return await self.update(principal, listing, ListingChanges(is_archived=archived))

    async def delete(self, principal: Principal, listing: int) -> None:
        """Raises ListingNotFound, then NotAllowed."""
        async with self._records.begin() as tx:
            before = _changeable(principal, await read_listing(tx, listing), listing)
            await forget(tx, self._queue, [before], principal.account, self._clock())

    async def click(self, principal: Principal, listing: int) -> Listing:
        """Tell that somebody opened the link. Raises ListingNotFound."""
        require_reader(principal)
        async with self._records.begin() as tx:
            found = _known(await read_listing(tx, listing), listing)
            await tell(tx, self._queue, [announcement("clicked", found.id, principal.account, self._clock())])
        return found

    # By itself

    async def sweep(self, window_us: int = WINDOW_US) -> int:
        """Archive what is over (see `continuation.is_over`), for the server itself; how many that were."""
        count = 0
        while True:
            async with self._records.begin() as tx:
                now_us = self._clock()
                rows = (await tx.execute(LISTING.where(_may_be_over(now_us, window_us)).limit(_SWEEP_ROWS))).all()
                over = [one for one in map(listing_of, rows) if is_over(one, now_us, window_us)]
                for one in over:
                    await self._update(tx, None, one, rules.archived_values(one, {}, now_us), now_us)
            count += len(over)
            if len(over) < _SWEEP_ROWS:
                return count

    # In the transaction of another verb

    async def add(self, tx: AsyncConnection, principal: Principal, changes: ListingChanges) -> Listing:
        """`create`, as part of the caller's transaction; when it raises, nothing was written."""
        require_maker(principal)
        return await self._insert(tx, principal.account, principal.account, changes)

    async def add_many(
        self, tx: AsyncConnection, principal: Principal, rows: Sequence[tuple[int, ListingChanges | None]]
    ) -> tuple[list[Listing], list[tuple[int, InvalidFields]]]:
        """`add` for numbered rows, each by itself, up to a few hundred; those made, and what is wrong with the others.
        None is no row."""
        require_maker(principal)
        made, refused = await self._put(tx, principal.account, principal.account, rows)
        return await read_listings(tx, made), refused

    async def change(
        self, tx: AsyncConnection, principal: Principal, before: Listing | None, listing: int, changes: ListingChanges
    ) -> Listing:
        """`update` of what the transaction has read, as part of it; when it raises, nothing was written."""
        known = _changeable(principal, before, listing)
        _check(changes, is_new=False)
        email = await self._email(known.owner) if changes.posted_by is not UNSET else None
        now_us = self._clock()
        values = rules.changed_values(known, changes, email, now_us)
        values |= await self._related_values(tx, changes, known)
        return await self._update(tx, principal.account, known, values, now_us)

    # Within

    async def _email(self, account: AccountId) -> str | None:
        return (await self._directory.account(account)).email

    async def _insert(self, tx: AsyncConnection, by: AccountId, owner: AccountId, changes: ListingChanges) -> Listing:
        made, refused = await self._put(tx, by, owner, [(0, changes)])
        for _, error in refused:
            raise error
        return _known(await read_listing(tx, made[0]), made[0])

    async def _put(
        self, tx: AsyncConnection, by: AccountId, owner: AccountId, rows: Sequence[tuple[int, ListingChanges | None]]
    ) -> tuple[list[ListingId], list[tuple[int, InvalidFields]]]:
        """Make listings of those rows that may be some, and tell it; what is wrong with the others.

        Everything is asked and written for all of them at once: the way to the database costs more than the answer.
        """
        refused: list[tuple[int, InvalidFields]] = []
        fit: list[tuple[int, ListingChanges]] = []
        for number, changes in rows:
            wrong = [("stream", "must be an object")] if changes is None else rules.problems(changes, is_new=True)
            if changes is None or wrong:
                refused.append((number, InvalidFields(wrong)))
            else:
                fit.append((number, changes))
        now_us, email = self._clock(), await self._email(owner)
        made: list[rules.Values] = []
        related = await self._related(tx, [(changes, None) for _, changes in fit])
        for (number, changes), found in zip(fit, related, strict=True):
            if isinstance(found, InvalidFields):
                refused.append((number, found))
            else:
                nobody = {"owner": owner, "streamer": None, "location": None}
                made.append(rules.new_values(changes, email, now_us) | nobody | found)
        ids = await _insert_all(tx, made, now_us)
        events: list[Announcement] = []
        for listing, values in zip(ids, made, strict=True):
            facts = {name: value for name, value in told(values).items() if value is not None}
            events.append(announcement("created", listing, by, now_us, {"changes": facts}))
            events += _meanings(listing, by, None, values, now_us)
        await tell(tx, self._queue, events)
        return ids, sorted(refused, key=itemgetter(0))

    async def _update(
        self, tx: AsyncConnection, by: AccountId | None, before: Listing, values: rules.Values, now_us: int
    ) -> Listing:
        if not values:
            return before
        values = values | {"updated_us": now_us}
        await tx.execute(update(listings).where(listings.c.id == before.id).values(values))
        events = [announcement("updated", before.id, by, now_us, {"changes": told(values)})]
        await tell(tx, self._queue, [*events, *_meanings(before.id, by, before, values, now_us)])
        return _known(await read_listing(tx, before.id), before.id)

    async def _continue(
        self, tx: AsyncConnection, by: AccountId, before: Listing, changes: ListingChanges, now_us: int
    ) -> Listing:
        _check(changes, is_new=False)
        email = await self._email(before.owner) if changes.posted_by is not UNSET else None
        # Seen live again, whatever it was: dates that the client sends are those of this broadcast.
        dated = {"last_checked_us": now_us, "last_live_us": now_us}
        values = dated | rules.changed_values(before, changes, email, now_us)
        values |= await self._related_values(tx, changes, before)
        if before.started_us is None:
            values.setdefault("started_us", now_us)
        return await self._update(tx, by, before, values, now_us)

    async def _continuable(
        self, tx: AsyncConnection, principal: Principal, streamer: StreamerId, now_us: int
    ) -> Iterable[Listing]:
        query = (
            LISTING.where(
                listings.c.streamer == streamer,
                listings.c.is_archived.is_(False),
                listings.c.last_checked_us > now_us - WINDOW_US,
            )
            .order_by(listings.c.started_us.desc().nulls_first(), listings.c.id.desc())
            .limit(_CANDIDATES_MAX)
        )
        if not sees_archive(principal):
            query = query.where(listings.c.owner == principal.account)
        return [listing_of(row) for row in await tx.execute(query)]

    async def _related_values(self, tx: AsyncConnection, changes: ListingChanges, before: Listing) -> rules.Values:
        """What a listing refers to from now on, where it is something else. Raises InvalidFields."""
        (found,) = await self._related(tx, [(changes, before)])
        if isinstance(found, InvalidFields):
            raise found
        known = {
            "streamer": before.streamer.id if before.streamer else None,
            "location": before.location.id if before.location else None,
        }
        return {name: value for name, value in found.items() if value != known[name]}

    async def _related(
        self, tx: AsyncConnection, asked: Sequence[tuple[ListingChanges, Listing | None]]
    ) -> list[rules.Values | InvalidFields]:
        """What listings refer to, where changes say anything of it, or what is wrong with that."""
        there = {
            "streamer": await _there(tx, streamers, [changes.streamer for changes, _ in asked]),
            "location": await _there(tx, locations, [changes.location for changes, _ in asked]),
        }
        found = [_references(changes, there) for changes, _ in asked]
        drafts = {
            index: draft
            for index, (changes, before) in enumerate(asked)
            if not isinstance(found[index], InvalidFields) and (draft := _place_draft(changes, before)) is not None
        }
        places = await self._places.resolve_many(tx, list(drafts.values()))
        for index, place in zip(drafts, places, strict=True):
            values = found[index]
            assert not isinstance(values, InvalidFields), "it has a draft"
            found[index] = place if isinstance(place, InvalidFields) else values | {"location": place}
        return found


async def _insert_all(tx: AsyncConnection, made: Sequence[rules.Values], now_us: int) -> list[ListingId]:
    """Insert new listings, each with a streamer; their numbers, in order."""
    if not made:
        return []
    unassigned = [values for values in made if values["streamer"] is None]
    for values, streamer in zip(unassigned, await assign(tx, unassigned, now_us), strict=True):
        values["streamer"] = streamer
    row = insert(listings).returning(listings.c.id, sort_by_parameter_order=True)
    return list((await tx.execute(row, made)).scalars())


async def _there(tx: AsyncConnection, kind: Any, numbers: Sequence[object]) -> set[int]:
    """Those of these numbers that records have."""
    wanted = {number for number in numbers if isinstance(number, int)}
    return set(await tx.scalars(select(kind.c.id).where(kind.c.id.in_(wanted)))) if wanted else set()


def _references(changes: ListingChanges, there: Mapping[str, set[int]]) -> rules.Values | InvalidFields:
    """The records that changes name by number; `there`: those that exist."""
    values: rules.Values = {}
    given = {"streamer": changes.streamer, "location": changes.location}
    if changes.place is not UNSET:
        del given["location"]
        if changes.place is None:
            values["location"] = None
    for field, number in given.items():
        if isinstance(number, int) and number not in there[field]:
            return InvalidFields([(field, "must exist")])
        if number is not UNSET:
            values[field] = number
    return values


def _place_draft(changes: ListingChanges, before: Listing | None) -> PlaceDraft | None:
    """The place that changes describe. City and state do so where nothing else is said."""
    if changes.place is not UNSET:
        return changes.place
    if changes.location is not UNSET or (changes.city is UNSET and changes.state is UNSET):
        return None
    city = changes.city if changes.city is not UNSET else before.city if before else None
    state = changes.state if changes.state is not UNSET else before.state if before else None
    return PlaceDraft(city=city, state_province=state)


def _known(found: Listing | None, listing: int) -> Listing:
    if found is None:
        raise ListingNotFound(listing)
    return found


def _changeable(principal: Principal, found: Listing | None, listing: int) -> Listing:
    require_reader(principal)
    known = _known(found, listing)
    require_change(principal, known.owner)
    return known


def _check(changes: ListingChanges, *, is_new: bool) -> None:
    found = rules.problems(changes, is_new=is_new)
    if found:
        raise InvalidFields(found)


def _meanings(
    listing: ListingId, by: AccountId | None, before: Listing | None, values: rules.Values, now_us: int
) -> list[Announcement]:
    """What a change means beside the new values."""
    events = []
    status = values.get("status")
    if status in _ANNOUNCED_STATUSES:
        was = before.status if before is not None else None
        events.append(announcement(status, listing, by, now_us, {"status": status, "was": was}))
    if values.get("is_archived"):
        facts = told({"ended_us": values.get("ended_us", before.ended_us if before is not None else None)})
        events.append(announcement("archived", listing, by, now_us, facts))
    return events


def _may_be_over(now_us: int, window_us: int) -> ColumnElement[bool]:
    """What `is_over` says, as far as two small indexes know it."""
    before_us = now_us - window_us
    in_use = listings.c.is_archived.is_(False) & listings.c.is_pinned.is_(False)
    # Literals, for SQLite compares the conditions of an index with what is written, not with what is bound.
    unchecked = in_use & (listings.c.status != literal_column("'live'")) & (listings.c.last_checked_us < before_us)
    gone = in_use & (listings.c.status == literal_column("'offline'")) & (listings.c.last_live_us < before_us)
    rows = select(listings.c.id)
    candidates = union(
        rows.with_hint(listings, "INDEXED BY listings_to_archive", "sqlite").where(unchecked),
        rows.with_hint(listings, "INDEXED BY listings_gone", "sqlite").where(gone),
    )
    was_kept = listings.c.unarchived_us.is_not(None) & (listings.c.unarchived_us >= before_us)
    return listings.c.id.in_(candidates) & ~was_kept
