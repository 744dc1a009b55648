"""The verbs of streamers: who is behind listings, and by which accounts he is known on platforms."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Row, Select, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.catalogue.links import parse_link
from mainstem.catalogue.model import (
    LINK_CHARACTERS_MAX,
    NOTES_CHARACTERS_MAX,
    SOURCE_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
    Platform,
    StreamerId,
    StreamerNotFound,
)
from mainstem.catalogue.platforms import is_channel_name
from mainstem.catalogue.rights import require_administrator, require_maker, require_reader
from mainstem.catalogue.rows import LISTING, forget, listing_of
from mainstem.catalogue.rules import folded
from mainstem.catalogue.tables import listings, streamer_accounts, streamers
from mainstem.clock import Clock
from mainstem.errors import InvalidFields
from mainstem.identity import Directory, Principal
from mainstem.ids import AccountId
from mainstem.storage import Records
from mainstem.work import Queue

ACCOUNTS_MAX = 50
"""Of one streamer."""

ACCOUNT_CHANGES_MAX = 2 * ACCOUNTS_MAX
"""At once: all may go, and as many come."""

_DELETED_AT_ONCE = 200

_PROFILES = {
    Platform.TIKTOK: "https://www.tiktok.com/@{}",
    Platform.TWITCH: "https://www.twitch.tv/{}",
    Platform.INSTAGRAM: "https://www.instagram.com/{}/",
    Platform.KICK: "https://kick.com/{}",
}


class StreamerAccount(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """By what name a streamer is known on a platform."""

    id: int
    platform: Platform
    username: str
    profile_url: str | None
    is_active: bool


class Streamer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Somebody who streams."""

    id: StreamerId
    name: str
    notes: str | None
    posted_by: str | None
    owner: AccountId
    created_us: int
    updated_us: int
    accounts: list[StreamerAccount]
    listings: int
    active_listings: int
    """Those that are not archived."""


class StreamerPage(msgspec.Struct, frozen=True):
    streamers: list[Streamer]
    total: int


class AccountChanges(msgspec.Struct, frozen=True, kw_only=True):
    """An account to add, or with its number to change or take away."""

    id: int | None = None
    platform: str | UnsetType | None = UNSET
    username: str | UnsetType | None = UNSET
    profile_url: str | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET
    remove: bool = False


class StreamerChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says of a streamer."""

    name: str | UnsetType | None = UNSET
    notes: str | UnsetType | None = UNSET
    posted_by: str | UnsetType | None = UNSET
    accounts: tuple[AccountChanges, ...] = ()


class Streamers:
    """All streamers, kept in Records."""

    def __init__(self, records: Records, queue: Queue, directory: Directory, clock: Clock) -> None:
        self._records = records
        self._queue = queue
        self._directory = directory
        self._clock = clock

    async def page(
        self,
        principal: Principal,
        *,
        search: str | None = None,
        platform: Platform | None = None,
        page: int = 1,
        per_page: int = 25,
    ) -> StreamerPage:
        """Those whose name has `search` in it and who have an account there, by name."""
        require_reader(principal)
        query = select(streamers.c.id)
        if search is not None:
            query = query.where(streamers.c.name_folded.contains(folded(search), autoescape=True))
        if platform is not None:
            there = select(streamer_accounts.c.streamer).where(streamer_accounts.c.platform == platform)
            query = query.where(streamers.c.id.in_(there))
        async with self._records.read() as rows:
            total = int(await rows.scalar(select(func.count()).select_from(query.subquery())) or 0)
            window = query.order_by(streamers.c.name_folded).limit(per_page).offset((page - 1) * per_page)
            found = list((await rows.execute(window)).scalars())
            return StreamerPage(await _read(rows, found), total)

    async def get(self, principal: Principal, streamer: int) -> Streamer:
        """Raises StreamerNotFound."""
        require_reader(principal)
        async with self._records.read() as rows:
            return await _known(rows, streamer)

    async def create(self, principal: Principal, changes: StreamerChanges) -> Streamer:
        """Raises NotAllowed, InvalidFields."""
        require_maker(principal)
        async with self._records.begin() as tx:
            email = (await self._directory.account(principal.account)).email
            values = await self._values(tx, changes, email, None)
            owned = {"owner": principal.account, "created_us": self._clock(), "updated_us": self._clock()}
            values = {"notes": None, "posted_by": email} | values | owned
            row = await tx.execute(insert(streamers).values(values).returning(streamers.c.id))
            number = StreamerId(row.scalar_one())
            await self._change_accounts(tx, number, changes.accounts)
            return await _known(tx, number)

    async def update(self, principal: Principal, streamer: int, changes: StreamerChanges) -> Streamer:
        """Any editor may: streamers are everybody's. Raises StreamerNotFound, NotAllowed, InvalidFields."""
        async with self._records.begin() as tx:
            before = await _known(tx, streamer)
            require_maker(principal)
            email = (await self._directory.anybody(before.owner)).email
            values = await self._values(tx, changes, email, before.id)
            await self._change_accounts(tx, before.id, changes.accounts)
            if values or changes.accounts:
                values |= {"updated_us": self._clock()}
                await tx.execute(update(streamers).where(streamers.c.id == streamer).values(values))
            return await _known(tx, streamer)

    async def delete(self, principal: Principal, streamer: int) -> None:
        """Delete a streamer with his accounts and his listings, the latter some at a time.

        For administrators. Raises StreamerNotFound, NotAllowed.
        """
        while True:
            async with self._records.begin() as tx:
                await _known(tx, streamer)
                require_administrator(principal)
                if not await self._forget_some(tx, principal, streamer):
                    await tx.execute(delete(streamer_accounts).where(streamer_accounts.c.streamer == streamer))
                    await tx.execute(delete(streamers).where(streamers.c.id == streamer))
                    return

    async def _forget_some(self, tx: AsyncConnection, principal: Principal, streamer: int) -> bool:
        rows = await tx.execute(LISTING.where(listings.c.streamer == streamer).limit(_DELETED_AT_ONCE))
        gone = [listing_of(row) for row in rows]
        await forget(tx, self._queue, gone, principal.account, self._clock())
        return bool(gone)

    async def _values(
        self, tx: AsyncConnection, changes: StreamerChanges, email: str | None, streamer: StreamerId | None
    ) -> dict[str, Any]:
        found = list(_problems(changes, is_new=streamer is None))
        values: dict[str, Any] = {}
        if isinstance(changes.name, str) and not found:
            name = changes.name.strip()
            values = {"name": name, "name_folded": folded(name)}
            other = await tx.scalar(select(streamers.c.id).where(streamers.c.name_folded == folded(name)))
            if other is not None and other != streamer:
                found.append(("name", "has already been taken"))
        if found:
            raise InvalidFields(found)
        if changes.notes is not UNSET:
            values["notes"] = changes.notes
        if changes.posted_by is not UNSET:
            values["posted_by"] = (changes.posted_by or "").strip() or email
        return values

    async def _change_accounts(
        self, tx: AsyncConnection, streamer: StreamerId, changes: Sequence[AccountChanges]
    ) -> None:
        if len(changes) > ACCOUNT_CHANGES_MAX:
            raise InvalidFields([("base", f"At most {ACCOUNT_CHANGES_MAX} accounts are changed at once")])
        for change in changes:
            await self._change_account(tx, streamer, change)
        if changes:
            of_streamer = select(func.count()).where(streamer_accounts.c.streamer == streamer)
            if int(await tx.scalar(of_streamer) or 0) > ACCOUNTS_MAX:
                raise InvalidFields([("base", f"A streamer has at most {ACCOUNTS_MAX} accounts")])

    async def _change_account(self, tx: AsyncConnection, streamer: StreamerId, change: AccountChanges) -> None:
        before = None if change.id is None else await _account(tx, streamer, change.id)
        if change.remove:
            if before is not None:
                await tx.execute(delete(streamer_accounts).where(streamer_accounts.c.id == before.id))
            return
        values = _account_values(change, before)
        same = select(streamer_accounts.c.id).where(
            streamer_accounts.c.streamer == streamer,
            streamer_accounts.c.platform == values["platform"],
            streamer_accounts.c.username == values["username"],
        )
        taken = await tx.scalar(same)
        if taken is not None and (before is None or taken != before.id):
            raise InvalidFields([("username", "already exists for this platform")])
        values["updated_us"] = self._clock()
        if before is None:
            made = {"streamer": streamer, "created_us": self._clock()}
            await tx.execute(insert(streamer_accounts).values(values | made))
        else:
            await tx.execute(update(streamer_accounts).where(streamer_accounts.c.id == before.id).values(values))


async def owner_of(tx: AsyncConnection, streamer: int) -> AccountId:
    """Raises StreamerNotFound."""
    owner = await tx.scalar(select(streamers.c.owner).where(streamers.c.id == streamer))
    if owner is None:
        raise StreamerNotFound(streamer)
    return AccountId(owner)


def profile_url(platform: Platform, username: str) -> str | None:
    """Where a platform shows a user; None where the name alone does not tell that."""
    form = _PROFILES.get(platform)
    return None if form is None or not is_channel_name(username) else form.format(username)


# What is wrong


def _problems(changes: StreamerChanges, *, is_new: bool) -> Iterator[tuple[str, str]]:
    limits = {"name": SOURCE_CHARACTERS_MAX, "posted_by": TEXT_CHARACTERS_MAX, "notes": NOTES_CHARACTERS_MAX}
    if (is_new or changes.name is not UNSET) and not (changes.name or "").strip():
        yield "name", "can't be blank"
    for field, characters_max in limits.items():
        given = getattr(changes, field)
        if given is not UNSET and len(given or "") > characters_max:
            yield field, f"is too long (maximum is {characters_max} characters)"
        if given is not UNSET and "\0" in (given or ""):
            yield field, "is invalid"


def _account_values(change: AccountChanges, before: StreamerAccount | None) -> dict[str, Any]:
    """Raises InvalidFields."""
    word = change.platform if change.platform is not UNSET else before.platform if before else None
    platform = Platform.read(word or "")
    username = change.username if change.username is not UNSET else before.username if before else None
    username = (username or "").strip().lower()
    url = (change.profile_url if change.profile_url is not UNSET else _own_url(before)) or ""
    url = url.strip()
    found = list(_account_problems(word or "", username, url))
    if found:
        raise InvalidFields(found)
    assert platform is not None
    return {
        "platform": platform,
        "username": username,
        "profile_url": url or profile_url(platform, username),
        "is_active": change.is_active if change.is_active is not UNSET else before.is_active if before else True,
    }


def _own_url(account: StreamerAccount | None) -> str | None:
    """The address that somebody gave an account. One that was made of its name follows the name."""
    if account is None or account.profile_url == profile_url(account.platform, account.username):
        return None
    return account.profile_url


def _account_problems(platform: str, username: str, url: str) -> Iterator[tuple[str, str]]:
    if not platform.strip():
        yield "platform", "can't be blank"
    elif Platform.read(platform) is None:
        yield "platform", "is not included in the list"
    if not username:
        yield "username", "can't be blank"
    if len(username) > SOURCE_CHARACTERS_MAX:
        yield "username", f"is too long (maximum is {SOURCE_CHARACTERS_MAX} characters)"
    if "\0" in username:
        yield "username", "is invalid"
    if url and (len(url) > LINK_CHARACTERS_MAX or parse_link(url) is None):
        yield "profile_url", "must be a valid URL starting with http:// or https://"


# Rows


async def _known(rows: AsyncConnection, streamer: int) -> Streamer:
    found = await _read(rows, [streamer])
    if not found:
        raise StreamerNotFound(streamer)
    return found[0]


async def _account(tx: AsyncConnection, streamer: StreamerId, account: int) -> StreamerAccount:
    query = select(streamer_accounts).where(streamer_accounts.c.id == account, streamer_accounts.c.streamer == streamer)
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise StreamerNotFound(streamer)
    return _account_of(row)


async def _read(rows: AsyncConnection, ids: list[int]) -> list[Streamer]:
    """These streamers in this order; those that are gone are left out."""
    if not ids:
        return []
    accounts: dict[int, list[StreamerAccount]] = {}
    of_these = select(streamer_accounts).where(streamer_accounts.c.streamer.in_(ids)).order_by(streamer_accounts.c.id)
    for row in await rows.execute(of_these):
        accounts.setdefault(row.streamer, []).append(_account_of(row))
    counts = {row.streamer: row for row in await rows.execute(_counts(ids))}
    found = {}
    for row in await rows.execute(select(streamers).where(streamers.c.id.in_(ids))):
        values = {name: value for name, value in row._mapping.items() if name != "name_folded"}
        counted = counts.get(row.id)
        found[row.id] = Streamer(
            **values,
            accounts=accounts.get(row.id, []),
            listings=counted.total if counted else 0,
            active_listings=counted.total - counted.archived if counted else 0,
        )
    return [found[one] for one in ids if one in found]


def _counts(ids: list[int]) -> Select[Any]:
    archived = func.sum(listings.c.is_archived).label("archived")
    counted = select(listings.c.streamer, func.count().label("total"), archived)
    return counted.where(listings.c.streamer.in_(ids)).group_by(listings.c.streamer)


def _account_of(row: Row[Any]) -> StreamerAccount:
    return StreamerAccount(
        id=row.id,
        platform=Platform(row.platform),
        username=row.username,
        profile_url=row.profile_url,
        is_active=row.is_active,
    )
