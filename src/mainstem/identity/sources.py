"""Sources and user keys: the credentials that an account's owner may look up again."""

import re
import secrets
import string
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Insert, Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.clock import Clock
from mainstem.errors import Invalid, Unauthenticated
from mainstem.identity.directory import Directory, count_change, digest_of
from mainstem.identity.model import (
    AccountNotFound,
    NameTaken,
    Principal,
    Right,
    Role,
    Scope,
    Source,
    SourceNotFound,
    Tier,
)
from mainstem.identity.rights import require_maker, usable
from mainstem.identity.seal import Seal
from mainstem.identity.tables import accounts, source_grants, sources, user_keys
from mainstem.ids import AccountId, SourceId, TopicId
from mainstem.storage import Records

NAME_CHARACTERS_MAX = 255

_KEY_CHARACTERS = string.ascii_letters + string.digits + "-_"
_KEY_LENGTH = 32
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SOURCE_SCOPES = frozenset({Scope.EVENTS_READ, Scope.EVENTS_WRITE})
_USER_SCOPES = frozenset({Scope.STREAMS_MANAGE})


class Sources:
    """Sources with their keys and rights, and the user keys that make them.

    A key is found by its hash, and kept encrypted beside it. Who has which key is remembered until the directory's
    epoch rises.
    """

    def __init__(self, records: Records, clock: Clock, directory: Directory, seal: Seal) -> None:
        self._records = records
        self._clock = clock
        self._directory = directory
        self._seal = seal
        self._known: dict[bytes, Principal] = {}
        self._known_epoch = -1

    # Proving who you are

    def known(self, key: str) -> Principal | None:
        """The source with this key, when that was established since the last change; else ask `authenticate`.

        Costs no I/O.
        """
        if self._known_epoch != self._directory.epoch:
            self._known.clear()
            self._known_epoch = self._directory.epoch
        return self._known.get(digest_of(key))

    async def authenticate(self, key: str) -> Principal:
        """The source with this key, as somebody who reads and writes. Raises Unauthenticated."""
        await self._directory.refresh()
        principal = self.known(key)
        if principal is None:
            epoch = self._directory.epoch
            row = await self._find(_WITH_OWNER.where(sources.c.digest == digest_of(key)), key)
            principal = Principal(
                account=AccountId(row.account),
                name=row.owner,
                credential=f"source_{row.account}_{row.id}",
                scopes=usable(_SOURCE_SCOPES, _role_of(row)),
                tier=Tier.UNLIMITED,
                source=SourceId(row.id),
                is_editor=row.is_editor or row.is_admin,
            )
            if epoch == self._directory.epoch:
                self._known[row.digest] = principal
        return principal

    async def authenticate_user(self, key: str) -> Principal:
        """The account with this user key, as somebody who manages. Raises Unauthenticated."""
        row = await self._find(_USER_KEY.where(user_keys.c.digest == digest_of(key)), key)
        return Principal(
            account=AccountId(row.account),
            name=row.owner,
            credential=f"user_key_{row.number}",
            scopes=usable(_USER_SCOPES, _role_of(row)),
            tier=Tier.UNLIMITED,
            is_admin=row.is_admin,
            is_editor=row.is_editor,
        )

    async def _find(self, query: Select[Any], key: str) -> Any:
        async with self._records.read() as rows:
            row = (await rows.execute(query)).one_or_none()
        # The look-up compares digests: how long it takes tells nothing about a key. This makes it certain.
        if row is None or not secrets.compare_digest(row.digest, digest_of(key)):
            raise Unauthenticated("The key is not known here: use another.")
        return row

    # User keys

    async def create_user_key(self, account: AccountId, name: str) -> str:
        """Make a user key of this name for an account; its text. Raises NameTaken, AccountNotFound."""
        _check_name(name, "a user key")
        values = self._new_key() | {"account": account, "name": name}
        async with self._records.begin() as tx:
            await _require_account(tx, account)
            await _insert(tx, insert(user_keys).values(**values, created_us=self._clock()), f"a user key {name!r}")
            await count_change(tx, "credentials")
        await self._directory.refresh()
        return self._seal.open(values["sealed"], values["digest"])

    async def revoke_user_key(self, account: AccountId, name: str) -> None:
        """End a user key for good, at once. Nothing happens when there is none of this name."""
        async with self._records.begin() as tx:
            await tx.execute(delete(user_keys).where(user_keys.c.account == account, user_keys.c.name == name))
            await count_change(tx, "credentials")
        await self._directory.refresh()

    # Sources

    async def create(self, principal: Principal, name: str) -> tuple[Source, str]:
        """Make a source of the caller's that may nothing yet; it and its key. Raises NameTaken, Invalid."""
        require_maker(principal)
        _check_name(name, "a source")
        created_us = self._clock()
        values = self._new_key() | {"account": principal.account, "name": name, "created_us": created_us}
        number = (
            update(accounts)
            .where(accounts.c.id == principal.account)
            .values(next_source=accounts.c.next_source + 1)
            .returning(accounts.c.next_source - 1)
        )
        async with self._records.begin() as tx:
            source_id = SourceId((await tx.execute(number)).scalar_one())
            await _insert(tx, insert(sources).values(**values, id=source_id), f"a source {name!r}")
            await count_change(tx, "credentials")
        await self._directory.refresh()
        source = Source(principal.account, source_id, name, created_us)
        return source, self._seal.open(values["sealed"], values["digest"])

    async def of(self, principal: Principal) -> list[Source]:
        """All of the caller's, by id."""
        query = _SOURCE.where(sources.c.account == principal.account).order_by(sources.c.id)
        async with self._records.read() as rows:
            return [_source_of(row) for row in await rows.execute(query)]

    async def get(self, principal: Principal, source_id: SourceId) -> Source:
        """One of the caller's own. Raises SourceNotFound."""
        return _source_of(await self._row(principal, source_id))

    async def key(self, principal: Principal, source_id: SourceId) -> str:
        """The key of one of the caller's own. Raises SourceNotFound."""
        row = await self._row(principal, source_id)
        return self._seal.open(row.sealed, row.digest)

    async def delete(self, principal: Principal, source_id: SourceId) -> None:
        """End a source of the caller's, its key and its rights, for good. Its id is not used again."""
        async with self._records.begin() as tx:
            of_source = (source_grants.c.account == principal.account) & (source_grants.c.source == source_id)
            await tx.execute(delete(source_grants).where(of_source))
            await tx.execute(delete(sources).where(_own(principal, source_id)))
            await count_change(tx, "credentials")
        await self._directory.refresh()

    async def _row(self, principal: Principal, source_id: SourceId) -> Any:
        async with self._records.read() as rows:
            return await _row_in(rows, principal, source_id)

    # What they may do

    async def rights(self, principal: Principal, source_id: SourceId) -> Mapping[TopicId, Right]:
        """What was given to one of the caller's own, by topic. Raises SourceNotFound."""
        await self._row(principal, source_id)
        return await self._directory.source_rights(principal.account, source_id)

    async def give(self, principal: Principal, source_id: SourceId, topic: TopicId, right: Right) -> None:
        """Give one of the caller's own exactly this right on a topic; NONE takes it away. Raises SourceNotFound.

        It may be more than the caller has: what counts is what both have.
        """
        values = {"account": principal.account, "source": source_id, "topic": topic}
        same = [source_grants.c[name] == value for name, value in values.items()]
        async with self._records.begin() as tx:
            await _row_in(tx, principal, source_id)
            await tx.execute(delete(source_grants).where(*same))
            if right != Right.NONE:
                await tx.execute(insert(source_grants).values(**values, right=int(right)))
            await count_change(tx, "grants")
        await self._directory.refresh()

    def _new_key(self) -> dict[str, Any]:
        """A fresh key as it is kept."""
        text = "".join(secrets.choice(_KEY_CHARACTERS) for _ in range(_KEY_LENGTH))
        digest = digest_of(text)
        return {"digest": digest, "sealed": self._seal.close(text, digest)}


_SOURCE = select(sources)
_OWNER = (accounts.c.name.label("owner"), accounts.c.is_admin, accounts.c.is_editor)
_WITH_OWNER = select(sources, *_OWNER).join(accounts)
_USER_KEY = select(user_keys, *_OWNER).join(accounts)


def _role_of(row: Any) -> Role:
    return Role.EDITOR if row.is_admin or row.is_editor else Role.DEFAULT


async def _row_in(tx: AsyncConnection, principal: Principal, source_id: SourceId) -> Any:
    row = (await tx.execute(_SOURCE.where(_own(principal, source_id)))).one_or_none()
    if row is None:
        raise SourceNotFound(f"You have no source {source_id}.", source=source_id)
    return row


def _own(principal: Principal, source_id: SourceId) -> ColumnElement[bool]:
    return (sources.c.account == principal.account) & (sources.c.id == source_id)


def _source_of(row: Any) -> Source:
    return Source(AccountId(row.account), SourceId(row.id), row.name, row.created_us)


async def _require_account(tx: AsyncConnection, account: AccountId) -> None:
    if await tx.scalar(select(accounts.c.id).where(accounts.c.id == account)) is None:
        raise AccountNotFound(f"There is no user {account}.", account=account)


async def _insert(tx: AsyncConnection, row: Insert, what: str) -> None:
    try:
        await tx.execute(row)
    except IntegrityError as error:
        raise NameTaken(f"There is already {what}: choose another name.") from error


def _check_name(name: str, thing: str) -> None:
    if not 1 <= len(name) <= NAME_CHARACTERS_MAX or _CONTROL.search(name):
        raise Invalid(
            f"The name of {thing} has 1 to {NAME_CHARACTERS_MAX} characters, none of them a control character.",
            field="name",
        )
