"""Many listings at once: those that a client sends, and those of a Streamwall."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import batched
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.catalogue.links import normal_link
from mainstem.catalogue.listings import Listings
from mainstem.catalogue.model import Kind, Listing, ListingChanges, NotAllowed, Orientation, Platform, Status
from mainstem.catalogue.rights import require_maker
from mainstem.catalogue.rows import read_listing
from mainstem.catalogue.tables import listings as rows
from mainstem.clock import moment_of
from mainstem.errors import InvalidFields
from mainstem.identity import Principal
from mainstem.storage import Records

IMPORT_ROWS_MAX = 10_000
"""In one request."""
STREAMWALL_ROWS_MAX = 100_000

_ROWS_AT_ONCE = 50
"""In one transaction, so that others wait some 20 ms and no longer. A crash leaves what was committed."""
_ENTRIES_AT_ONCE = 20
"""The same of a Streamwall, whose entries are taken one by one: each may be about the row of the one before it."""


class Refused(msgspec.Struct, frozen=True):
    """A row that was not taken, counted from 0, and why."""

    index: int
    errors: list[str]


class Imported(msgspec.Struct, frozen=True):
    """What became of the rows of an import."""

    created: list[Listing]
    refused: list[Refused]


class StreamwallOutcome(msgspec.Struct):
    """How many rows of a Streamwall were what."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    """Known already, and told to leave those alone."""
    refused: list[Refused] = []


class _DryRun(Exception):
    """Undoes a transaction that was only tried."""


class Imports:
    """Rows are independent of each other: those that are wrong are told, and the others are taken."""

    def __init__(self, records: Records, listings: Listings) -> None:
        self._records = records
        self._listings = listings

    async def create_many(self, principal: Principal, changes: Sequence[ListingChanges | None]) -> Imported:
        """Make a listing of each row. None: a row that is no object. Raises NotAllowed, InvalidFields for too many."""
        require_maker(principal)
        if len(changes) > IMPORT_ROWS_MAX:
            raise InvalidFields([("base", f"At most {IMPORT_ROWS_MAX} streams can be imported at once")])
        created: list[Listing] = []
        refused: list[Refused] = []
        for batch in batched(enumerate(changes), _ROWS_AT_ONCE):
            async with self._records.begin() as tx:
                made, wrong = await self._listings.add_many(tx, principal, batch)
            created += made
            refused += [Refused(index, error.sentences) for index, error in wrong]
        return Imported(created, refused)

    async def from_streamwall(
        self,
        principal: Principal,
        entries: Sequence[object],
        *,
        skips_known: bool = False,
        dry_run: bool = False,
        offset: int = 0,
        limit: int | None = None,
    ) -> StreamwallOutcome:
        """Make or change a listing for each entry (see `read_streamwall`), by its link.

        Of several listings with the link, one that is not archived is meant, the newest. A dry run tells what would
        become of the entries, and writes nothing. Raises NotAllowed.
        """
        require_maker(principal)
        end = len(entries) if limit is None else min(len(entries), offset + limit)
        outcome = StreamwallOutcome()
        seen: set[str] = set()
        for batch in batched(range(offset, end), _ENTRIES_AT_ONCE):
            tried = msgspec.structs.replace(outcome, refused=list(outcome.refused))
            try:
                async with self._records.begin() as tx:
                    for index in batch:
                        await self._take(tx, principal, index, entries[index], seen, tried, skips_known=skips_known)
                    if dry_run:
                        raise _DryRun
            except _DryRun:
                pass
            outcome = tried
        return outcome

    async def _take(
        self,
        tx: AsyncConnection,
        principal: Principal,
        index: int,
        entry: object,
        seen: set[str],
        outcome: StreamwallOutcome,
        *,
        skips_known: bool,
    ) -> None:
        try:
            changes = streamwall_changes(entry)
            link = normal_link(changes.link) if isinstance(changes.link, str) else ""
            before = await _by_link(tx, link)
            if before is None and link not in seen:
                await self._listings.add(tx, principal, changes)
                outcome.created += 1
            elif skips_known:
                outcome.skipped += 1
            elif before is None:
                outcome.updated += 1  # in a dry run, where the row that this one changes was undone
            elif await self._listings.change(tx, principal, before, before.id, changes) is before:
                outcome.unchanged += 1
            else:
                outcome.updated += 1
            seen.add(link)
        except InvalidFields as error:
            outcome.refused.append(Refused(index, error.sentences))
        except NotAllowed as error:
            outcome.refused.append(Refused(index, [error.message]))


async def _by_link(tx: AsyncConnection, link: str) -> Listing | None:
    query = select(rows.c.id).where(rows.c.link_normal == link).order_by(rows.c.is_archived, rows.c.id.desc()).limit(1)
    found = await tx.scalar(query) if link else None
    return None if found is None else await read_listing(tx, found)


# What a Streamwall says


def read_streamwall(body: bytes) -> list[object]:
    """The entries of a Streamwall's JSON: an array of objects, an object that has one as streams, data, rows or items,
    or an array of arrays whose first is the header. Raises InvalidFields."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidFields([("base", f"This is no JSON: {error}")]) from error
    if isinstance(found, dict):
        found = next((found[name] for name in ("streams", "data", "rows", "items") if name in found), None)
    if not isinstance(found, list):
        raise InvalidFields([("base", "There is no list of streams in it: an array, or one under `streams`")])
    if len(found) > STREAMWALL_ROWS_MAX:
        raise InvalidFields([("base", f"At most {STREAMWALL_ROWS_MAX} streams can be imported at once")])
    if found and all(isinstance(row, list) for row in found):
        header = [str(name) for name in found[0]]
        return [dict(zip(header, row, strict=False)) for row in found[1:]]
    return found


def streamwall_changes(entry: object) -> ListingChanges:
    """An entry in our words. What nobody could make sense of is left out. Raises InvalidFields when it is no object."""
    if not isinstance(entry, Mapping):
        raise InvalidFields([("base", "An entry must be an object")])
    values = dict(_values(entry))
    link = values.get("link")
    source = values.get("source") or values.get("title") or (_host_of(link) if link else None)
    if source is not None:
        values["source"] = source[:255]
    return ListingChanges(**values)


def _host_of(link: str) -> str | None:
    try:
        return urlsplit(link.strip()).hostname
    except ValueError:
        return None


_NAMES = {
    "link": ("link", "url", "stream_url", "href"),
    "source": ("source", "name", "streamer", "username"),
    "title": ("title", "label"),
    "status": ("status",),
    "platform": ("platform",),
    "orientation": ("orientation",),
    "kind": ("kind",),
    "city": ("city",),
    "state": ("state", "province"),
    "notes": ("notes", "note", "comment"),
    "posted_by": ("posted_by", "added_by"),
    "is_pinned": ("is_pinned", "pinned"),
    "started_us": ("started_at", "start_time"),
    "ended_us": ("ended_at", "end_time"),
    "last_checked_us": ("last_checked_at", "checked_at", "last_checked"),
    "last_live_us": ("last_live_at", "last_live"),
}
_EMPTY = frozenset({"", "-", "n/a", "null", "undefined"})
_STATUSES = {
    **dict.fromkeys(("live", "online", "active"), Status.LIVE),
    **dict.fromkeys(("offline", "off", "inactive"), Status.OFFLINE),
    **dict.fromkeys(("unknown", "n-a"), Status.UNKNOWN),
}
_PLATFORMS = {"fb": Platform.FACEBOOK, "yt": Platform.YOUTUBE, "ig": Platform.INSTAGRAM}
_ORIENTATIONS = {
    **dict.fromkeys(("vertical", "portrait", "tall"), Orientation.VERTICAL),
    **dict.fromkeys(("horizontal", "landscape", "wide"), Orientation.HORIZONTAL),
    "square": Orientation.SQUARE,
}
_TRUE = frozenset({"true", "t", "yes", "y", "1"})
_WORD = re.compile(r"[^a-z0-9]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _values(entry: Mapping[Any, object]) -> Iterator[tuple[str, Any]]:
    given = {_snake(str(name)): value for name, value in entry.items()}
    for field, names in _NAMES.items():
        value = next((given[name] for name in names if not _is_empty(given.get(name))), None)
        if value is None or isinstance(value, list | dict):
            continue
        understood = _understood(field, value)
        if understood is not UNSET:
            yield field, understood


def _snake(name: str) -> str:
    """`Posted By` and `postedBy` as `posted_by`."""
    return _WORD.sub("_", _HUMP.sub("_", name.strip()).lower()).strip("_")


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in _EMPTY)


def _understood(field: str, value: Any) -> Any:
    text = str(value).strip()
    word = text.lower()
    match field:
        case "status":
            return _STATUSES.get(word, UNSET)
        case "platform":
            named = next((one for one in Platform if one in word), None)
            return named or _PLATFORMS.get(word, UNSET)
        case "orientation":
            return _ORIENTATIONS.get(word, UNSET)
        case "kind":
            return Kind.BACKGROUND if word == "bg" else Kind.read(word) or UNSET
        case "is_pinned":
            return word in _TRUE
        case "started_us" | "ended_us" | "last_checked_us" | "last_live_us":
            moment_us = _moment_of(value)
            return UNSET if moment_us is None else moment_us
        case _:
            return text


def _moment_of(value: object) -> int | None:
    """A time as `clock.moment_of` reads it, and numbers also as text: tables have nothing else."""
    text = str(value).strip()
    for number in (int, float):
        try:
            return moment_of(number(text))
        except ValueError:
            continue
    return moment_of(text)
