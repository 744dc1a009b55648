"""What programs that collect streams are told to pass over: people, addresses, whole sites. For administrators."""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import batched
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, and_, delete, func, insert, select, true, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.catalogue.model import LINK_CHARACTERS_MAX, NOTES_CHARACTERS_MAX
from mainstem.catalogue.rights import require_administrator
from mainstem.catalogue.tables import ignore_lists
from mainstem.clock import Clock
from mainstem.errors import Invalid, InvalidFields, NotFound
from mainstem.identity import Principal
from mainstem.storage import Records

BULK_MAX = 10_000
"""How many entries may be made or deleted at once."""

ALL_MAX = 100_000

_ENTRIES_AT_ONCE = 500
"""In one transaction, so that others need not wait for long. A crash leaves what was committed."""

_SCHEME = re.compile(r"https?://", re.IGNORECASE)


class IgnoreType(StrEnum):
    """What kind of thing is passed over."""

    TWITCH_USER = "twitch_user"
    DISCORD_USER = "discord_user"
    URL = "url"
    DOMAIN = "domain"


class IgnoreEntry(msgspec.Struct, frozen=True):
    id: int
    list_type: IgnoreType
    value: str
    """As its type writes it, so that each thing is listed once."""
    notes: str | None
    created_us: int
    updated_us: int


class IgnoreChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says of an entry, as he wrote it. What is not set stays as it is, or is none."""

    list_type: str | UnsetType | None = UNSET
    value: str | UnsetType | None = UNSET
    notes: str | UnsetType | None = UNSET


class IgnorePage(msgspec.Struct, frozen=True):
    entries: list[IgnoreEntry]
    total: int


class BulkCreated(msgspec.Struct, frozen=True):
    """Each entry of a bulk succeeds or fails by itself."""

    created: list[IgnoreEntry]
    failed: list[tuple[str | None, Sequence[str]]]
    """The value as it was given, and all that was wrong."""


class InvalidEntry(InvalidFields):
    """An entry that cannot be."""


def normal_value(list_type: IgnoreType, value: str) -> str:
    """A thing as its type writes it: names and domains in lower case, addresses with a scheme and no slash behind."""
    value = value.strip()
    match list_type:
        case IgnoreType.TWITCH_USER | IgnoreType.DISCORD_USER:
            return value.lower()
        case IgnoreType.DOMAIN:
            return value.lower().removeprefix("www.")
        case IgnoreType.URL:
            if value and not _SCHEME.match(value):
                value = f"https://{value}"
            return value.rstrip("/")


class IgnoreLists:
    """The verbs of ignore lists."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    async def page(
        self,
        principal: Principal,
        *,
        page: int = 1,
        per_page: int = 25,
        list_type: str | None = None,
        search: str | None = None,
    ) -> IgnorePage:
        """Entries by number, the newest first. An unknown type has none. Raises Denied."""
        require_administrator(principal)
        wanted: ColumnElement[bool] = true() if list_type is None else ignore_lists.c.list_type == list_type
        if search:
            wanted = and_(wanted, ignore_lists.c.value.icontains(search, autoescape=True))
        query = select(ignore_lists).where(wanted).order_by(ignore_lists.c.id.desc())
        async with self._records.read() as rows:
            total = await rows.scalar(select(func.count()).select_from(ignore_lists).where(wanted))
            found = await rows.execute(query.limit(per_page).offset((page - 1) * per_page))
            return IgnorePage([_entry_of(row) for row in found], total or 0)

    async def by_type(self, principal: Principal) -> Mapping[IgnoreType, list[str]]:
        """The plain values of each type, sorted, 100,000 in all. Raises Denied."""
        require_administrator(principal)
        query = select(ignore_lists.c.list_type, ignore_lists.c.value).order_by(ignore_lists.c.value)
        query = query.limit(ALL_MAX)
        values: dict[IgnoreType, list[str]] = {kind: [] for kind in IgnoreType}
        async with self._records.read() as rows:
            for list_type, value in await rows.execute(query):
                values[IgnoreType(list_type)].append(value)
        return values

    async def get(self, principal: Principal, entry: int) -> IgnoreEntry:
        """Raises Denied, NotFound."""
        require_administrator(principal)
        async with self._records.read() as rows:
            return await _one(rows, entry)

    async def create(self, principal: Principal, changes: IgnoreChanges) -> IgnoreEntry:
        """Raises Denied, InvalidEntry."""
        require_administrator(principal)
        async with self._records.begin() as tx:
            return await self._create(tx, changes)

    async def update(self, principal: Principal, entry: int, changes: IgnoreChanges) -> IgnoreEntry:
        """Raises Denied, NotFound, InvalidEntry."""
        require_administrator(principal)
        async with self._records.begin() as tx:
            before = await _one(tx, entry)
            values = await _checked(tx, changes, msgspec.structs.asdict(before))
            values["updated_us"] = self._clock()
            await tx.execute(update(ignore_lists).where(ignore_lists.c.id == entry).values(**values))
            return await _one(tx, entry)

    async def delete(self, principal: Principal, entry: int) -> None:
        """Raises Denied, NotFound."""
        require_administrator(principal)
        async with self._records.begin() as tx:
            await _one(tx, entry)
            await tx.execute(delete(ignore_lists).where(ignore_lists.c.id == entry))

    async def create_many(self, principal: Principal, entries: Sequence[IgnoreChanges]) -> BulkCreated:
        """Make what can be made, and tell of the rest. Raises Denied, and Invalid for too many."""
        require_administrator(principal)
        _check_size(len(entries))
        all_made = BulkCreated([], [])
        for some in batched(entries, _ENTRIES_AT_ONCE):
            async with self._records.begin() as tx:
                made = await self._create_some(tx, some)
            all_made.created.extend(made.created)
            all_made.failed.extend(made.failed)
        return all_made

    async def delete_many(self, principal: Principal, entries: Sequence[int]) -> int:
        """How many of these there were. Raises Denied, and Invalid for too many."""
        require_administrator(principal)
        _check_size(len(entries))
        async with self._records.begin() as tx:
            return (await tx.execute(delete(ignore_lists).where(ignore_lists.c.id.in_(entries)))).rowcount

    async def _create(self, tx: AsyncConnection, changes: IgnoreChanges) -> IgnoreEntry:
        values = await _checked(tx, changes, {})
        now_us = self._clock()
        row = insert(ignore_lists).values(**values, created_us=now_us, updated_us=now_us)
        return await _one(tx, (await tx.execute(row.returning(ignore_lists.c.id))).scalar_one())

    async def _create_some(self, tx: AsyncConnection, entries: Sequence[IgnoreChanges]) -> BulkCreated:
        now_us = self._clock()
        drafts = [_values(entry, {}) for entry in entries]
        taken = await _taken(tx, drafts)
        rows: list[dict[str, Any]] = []
        failed: list[tuple[str | None, Sequence[str]]] = []
        for entry, values in zip(entries, drafts, strict=True):
            thing = (values["list_type"], values["value"])
            problems = _problems(values, is_taken=thing in taken)
            if problems:
                failed.append((entry.value or None, InvalidEntry(problems).sentences))
            else:
                taken.add(thing)
                rows.append({**values, "created_us": now_us, "updated_us": now_us})
        if not rows:
            return BulkCreated([], failed)
        made = insert(ignore_lists).returning(ignore_lists, sort_by_parameter_order=True)
        return BulkCreated([_entry_of(row) for row in await tx.execute(made, rows)], failed)


async def _checked(tx: AsyncConnection, changes: IgnoreChanges, before: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of an entry that somebody describes. Raises InvalidEntry with all that is wrong."""
    values = _values(changes, before)
    is_itself = (values["list_type"], values["value"]) == (before.get("list_type"), before.get("value"))
    problems = _problems(values, is_taken=not is_itself and bool(await _taken(tx, [values])))
    if problems:
        raise InvalidEntry(problems)
    return values


async def _taken(tx: AsyncConnection, drafts: Sequence[Mapping[str, Any]]) -> set[tuple[str | None, str | None]]:
    """Which of these things are listed already."""
    thing = tuple_(ignore_lists.c.list_type, ignore_lists.c.value)
    wanted = [(draft["list_type"], draft["value"]) for draft in drafts if draft["value"]]
    query = select(ignore_lists.c.list_type, ignore_lists.c.value).where(thing.in_(wanted))
    return {(row.list_type, row.value) for row in await tx.execute(query)}


def _values(changes: IgnoreChanges, before: Mapping[str, Any]) -> dict[str, str | None]:
    def after(name: str) -> str | None:
        given: str | UnsetType | None = getattr(changes, name)
        value = before.get(name) if given is UNSET else given
        return (value or "").strip() or None

    list_type, value = after("list_type"), after("value")
    if value is not None and list_type in list(IgnoreType):
        value = normal_value(IgnoreType(list_type), value)
    return {"list_type": list_type, "value": value, "notes": after("notes")}


def _problems(values: Mapping[str, str | None], *, is_taken: bool) -> list[tuple[str, str]]:
    problems = []
    value, notes = values["value"], values["notes"]
    if values["list_type"] not in list(IgnoreType):
        problems.append(("list_type", "is not included in the list"))
    if is_taken:
        problems.append(("value", "has already been taken"))
    if not value:
        problems.append(("value", "can't be blank"))
    for name, text, limit in (("value", value, LINK_CHARACTERS_MAX), ("notes", notes, NOTES_CHARACTERS_MAX)):
        if len(text or "") > limit:
            problems.append((name, f"is too long (maximum is {limit} characters)"))
        if "\0" in (text or ""):
            problems.append((name, "is invalid"))
    return problems


async def _one(tx: AsyncConnection, entry: int) -> IgnoreEntry:
    row = (await tx.execute(select(ignore_lists).where(ignore_lists.c.id == entry))).one_or_none()
    if row is None:
        raise NotFound(f"There is no entry {entry}")
    return _entry_of(row)


def _entry_of(row: Any) -> IgnoreEntry:
    return IgnoreEntry(row.id, IgnoreType(row.list_type), row.value, row.notes, row.created_us, row.updated_us)


def _check_size(count: int) -> None:
    if count > BULK_MAX:
        raise Invalid(f"At most {BULK_MAX} entries at once", count_max=BULK_MAX)
