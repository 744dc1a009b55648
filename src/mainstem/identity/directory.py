"""The directory: who is there, what proves it, and what each may do."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import structlog
from sqlalchemy import Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.clock import Clock
from mainstem.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated, Unavailable
from mainstem.identity.model import (
    Account,
    AccountNotFound,
    FirstStart,
    Grant,
    Key,
    KeyDraft,
    KeyPage,
    Principal,
    Right,
    Role,
    Scope,
    SignInRefused,
    Tier,
    Token,
)
from mainstem.identity.passwords import Passwords
from mainstem.identity.rights import effective, grantable, require_maker, usable
from mainstem.identity.tables import accounts, api_keys, changes, ended_tokens, grants, source_grants
from mainstem.identity.tokens import Signer
from mainstem.ids import AccountId, SourceId, TopicId, random_id
from mainstem.storage import Records

KEY_PREFIX = "ms_"
NAME_CHARACTERS_MAX = 100
KEYS_PER_PAGE_MAX = 1_000

_ASK_EVERY_S = 0.5
_FLUSH_EVERY_S = 30
_GOOD_TOKENS_MAX = 10_000
_TIERS = {Role.ADMIN: Tier.UNLIMITED, Role.EDITOR: Tier.PROFESSIONAL, Role.DEFAULT: Tier.STANDARD}
_DEFAULT_EMAIL = "admin@localhost"

_log = structlog.get_logger(__name__)

OPERATOR = Principal(
    account=AccountId(0),
    name="operator",
    credential="operator",
    scopes=frozenset(Scope),
    tier=Tier.UNLIMITED,
    is_admin=True,
)
"""Whoever runs commands on the server's machine. It has no account, so it can own nothing."""


class Directory:
    """Accounts, keys, tokens and grants, kept in records and remembered until any process changes them.

    Changes made here are seen at once, those of other processes within half a second while `watch` runs.
    """

    epoch: int
    """Rises whenever an account, a key or a grant has changed: what was derived from them must be asked anew."""

    def __init__(
        self,
        records: Records,
        clock: Clock,
        signing_key: bytes,
        token_lifetime_s: int,
        passwords: Passwords | None = None,
    ) -> None:
        self.epoch = 0
        self._records = records
        self._clock = clock
        self._signer = Signer(signing_key, token_lifetime_s, clock)
        self._passwords = passwords or Passwords()
        self._version: int | None = None
        self._changes: dict[str, int] = {}
        self._known: dict[bytes, Principal] = {}
        self._accounts: dict[AccountId, Account] = {}
        self._rights: dict[tuple[AccountId, SourceId | None], Mapping[TopicId, Right]] = {}
        self._good_tokens: set[str] = set()  # ids of tokens that are known not to have been ended
        self._used: set[str] = set()

    # Staying true

    async def watch(self) -> None:
        """Notice what other processes change, and note now and then which keys were used. Runs until cancelled."""
        try:
            while True:
                for _ in range(int(_FLUSH_EVERY_S / _ASK_EVERY_S)):
                    await asyncio.sleep(_ASK_EVERY_S)
                    await _unless_unavailable(self.refresh)
                await _unless_unavailable(self.flush)
        finally:
            await _unless_unavailable(self.flush)

    async def flush(self) -> None:
        """Write down which keys have been used since the last time."""
        if not self._used:
            return
        used, self._used = self._used, set()
        rows = update(api_keys).where(api_keys.c.id.in_(used)).values(last_used_us=self._clock())
        try:
            async with self._records.begin() as tx:
                await tx.execute(rows)
        except Unavailable:
            self._used |= used
            raise

    async def refresh(self) -> None:
        """Forget what has changed since the last time. Costs microseconds when nothing was committed."""
        version = await self._records.version()
        if version == self._version:
            return
        async with self._records.read() as rows:
            counts = {row.kind: row.count_ for row in await rows.execute(_CHANGES)}
        self._version = version
        if counts == self._changes:
            return
        if counts["credentials"] != self._changes.get("credentials"):
            self._known.clear()
            self._accounts.clear()
        if counts["tokens"] != self._changes.get("tokens"):
            self._good_tokens.clear()
        self._rights.clear()
        self._changes = counts
        self.epoch += 1

    # Proving who you are

    def known_key(self, key: str | bytes) -> Principal | None:
        """Who this key belongs to, when that was established since the last change and the key has not expired.

        Costs no I/O, about half a microsecond. None means: ask `authenticate_key`.
        """
        principal = self._known.get(digest_of(key))
        if principal is None:
            return None
        if principal.expires_us is not None and self._clock() >= principal.expires_us:
            return None
        self._used.add(principal.credential)
        return principal

    async def authenticate_key(self, key: str) -> Principal:
        """Who this key belongs to. Raises Unauthenticated when it is unknown, revoked or has expired."""
        await self.refresh()
        principal = self.known_key(key)
        if principal is not None:
            return principal
        epoch = self.epoch
        digest = digest_of(key)
        query = (
            select(api_keys, accounts.c.name.label("account_name"), accounts.c.is_admin, accounts.c.is_editor)
            .join(accounts)
            .where(api_keys.c.digest == digest)
        )
        async with self._records.read() as rows:
            row = (await rows.execute(query)).one_or_none()
        # The look-up compares digests: how long it takes tells nothing about a key. This makes it certain.
        if row is None or not secrets.compare_digest(row.digest, digest) or row.revoked_us is not None:
            raise Unauthenticated("The API key is not known here, or was revoked: use another.")
        if row.expires_us is not None and self._clock() >= row.expires_us:
            raise Unauthenticated("The API key has expired: use another.")
        principal = _principal_of(row)
        if epoch == self.epoch:  # else it may have been revoked while it was read
            self._known[digest] = principal
        self._used.add(principal.credential)
        return principal

    async def authenticate_token(self, token: str, signer: Signer | None = None) -> Principal:
        """Whose token this is. It has every scope of the account, as its role is now. Raises Unauthenticated.

        `signer` is another than the directory's own.
        """
        checked = (signer or self._signer).check(token)
        await self.refresh()
        account = await self._account(checked.account)
        if account is None:
            raise Unauthenticated("The token's account is gone: sign in with another.")
        if checked.id is not None and await self._is_ended(checked.id):
            raise Unauthenticated("The token was ended by signing out: sign in again.")
        return Principal(
            account=account.id,
            name=account.name,
            credential=f"jwt_{account.id}",
            scopes=usable(frozenset(Scope) if account.is_admin else frozenset(Scope) - {Scope.ADMIN}, account.role),
            tier=_TIERS[account.role],
            expires_us=checked.expires_us,
            is_admin=account.is_admin,
            is_editor=account.is_editor,
        )

    async def _is_ended(self, token_id: str) -> bool:
        if token_id in self._good_tokens:
            return False
        epoch = self.epoch
        async with self._records.read() as rows:
            found = await rows.scalar(select(ended_tokens.c.id).where(ended_tokens.c.id == token_id))
        if found is None and epoch == self.epoch:
            if len(self._good_tokens) >= _GOOD_TOKENS_MAX:
                self._good_tokens.clear()
            self._good_tokens.add(token_id)
        return found is not None

    async def sign_in(self, email: str, password: str) -> Token:
        """A token for the account. Raises Unauthenticated, after the same time whether account or password is wrong."""
        return self._signer.issue((await self.account_of(email, password)).id)

    async def account_of(self, email: str, password: str) -> Account:
        """The account that this email and password sign in to. Raises SignInRefused as `sign_in` does."""
        query = ACCOUNT.add_columns(accounts.c.password_hash).where(accounts.c.email == email.strip().casefold())
        async with self._records.read() as rows:
            row = (await rows.execute(query)).one_or_none()
        if not await self._passwords.matches(password, row.password_hash if row else None) or row is None:
            raise SignInRefused("The email or the password is wrong.")
        return Account(**{name: value for name, value in row._mapping.items() if name != "password_hash"})

    async def _account(self, account_id: AccountId) -> Account | None:
        account = self._accounts.get(account_id)
        if account is None:
            epoch = self.epoch
            async with self._records.read() as rows:
                row = (await rows.execute(ACCOUNT.where(accounts.c.id == account_id))).one_or_none()
            if row is None:
                return None
            account = Account(**row._mapping)
            if epoch == self.epoch:
                self._accounts[account_id] = account
        return account

    # Accounts

    async def bootstrap(self, email: str | None, password: str | None, api_key: str | None) -> FirstStart | None:
        """Make the administrator and a first key with all scopes and no limit, unless there is an administrator.

        What is not given is made up. The answer is the only chance to read it.
        """
        if await self._has_administrator():
            return None
        first = FirstStart(
            email=_fold(email or _DEFAULT_EMAIL),
            password=None if password else secrets.token_urlsafe(18),
            api_key=api_key or _new_key(),
        )
        password_hash = await self._passwords.hash(password or first.password or "")
        draft = KeyDraft(name="first key", scopes=frozenset(Scope), tier=Tier.UNLIMITED)
        async with self._records.begin() as tx:
            if await self._has_administrator(tx):
                return None
            is_taken = await tx.scalar(select(accounts.c.id).where(accounts.c.name == "admin"))
            name = first.email if is_taken else "admin"
            account = await self._insert_account(tx, name, first.email, password_hash, is_admin=True)
            await self._insert_key(tx, account, draft, first.api_key)
        await self.refresh()
        return first

    async def create_account(
        self,
        name: str,
        *,
        email: str | None = None,
        password: str | None = None,
        is_admin: bool = False,
        is_editor: bool = True,
        is_service: bool = False,
    ) -> Account:
        """Raises Invalid, or Conflict when the name or email is taken. Without a password nobody can sign in to it."""
        _check_name(name, "an account")
        if password is not None and email is None:
            raise Invalid("An account with a password needs an email to sign in with.", field="email")
        folded = None if email is None else _fold(email)
        password_hash = None if password is None else await self._passwords.hash(password)
        async with self._records.begin() as tx:
            account = await self._insert_account(
                tx, name, folded, password_hash, is_admin=is_admin, is_editor=is_editor, is_service=is_service
            )
        await self.refresh()
        return account

    async def accounts(self) -> list[Account]:
        """All of them, oldest first."""
        async with self._records.read() as rows:
            return [Account(**row._mapping) for row in await rows.execute(ACCOUNT.order_by(accounts.c.id))]

    async def account(self, account_id: AccountId) -> Account:
        """The account with this number. Raises AccountNotFound."""
        await self.refresh()
        account = await self._account(account_id)
        if account is None:
            raise AccountNotFound(f"There is no user {account_id}.", account=account_id)
        return account

    async def anybody(self, account_id: AccountId) -> Account:
        """The account with this number, also one that is gone: it has no email then, and may nothing.

        Raises AccountNotFound for a number that never was anybody's.
        """
        await self.refresh()
        account = await self._account(account_id)
        if account is not None:
            return account
        async with self._records.read() as rows:
            row = (await rows.execute(_EVER.where(accounts.c.id == account_id))).one_or_none()
        if row is None:
            raise AccountNotFound(f"There is no user {account_id}.", account=account_id)
        return Account(**row._mapping)

    async def name_of(self, account_id: AccountId) -> str:
        """What to call an account, also one that is gone."""
        await self.refresh()
        account = await self._account(account_id)
        return f"deleted-{account_id}" if account is None else account.name

    async def has_password(self, account: AccountId, password: str) -> bool:
        """Whether this is the account's password; one that has none costs as much time."""
        query = select(accounts.c.password_hash).where(accounts.c.id == account)
        async with self._records.read() as rows:
            password_hash = await rows.scalar(query)
        return await self._passwords.matches(password, password_hash)

    async def find_account(self, text: str, *, by_email: bool = True) -> Account:
        """The account with this name, number or email. Raises NotFound."""
        match = accounts.c.name == text
        if by_email:
            match |= accounts.c.email == text.strip().casefold()
        if text.isascii() and text.isdigit() and len(text) < 19:
            match |= accounts.c.id == int(text)
        async with self._records.read() as rows:
            # A name may look like another's number: the name goes first.
            row = (await rows.execute(ACCOUNT.where(match).order_by(accounts.c.name != text).limit(1))).one_or_none()
        if row is None:
            raise NotFound(f"There is no account {text!r}: `mainstem user list` shows those that exist.")
        return Account(**row._mapping)

    async def first_administrator(self) -> AccountId:
        """The oldest account that is one. Raises Unavailable when none is."""
        async with self._records.read() as rows:
            account = await rows.scalar(select(func.min(accounts.c.id)).where(accounts.c.is_admin))
        if account is None:
            raise Unavailable("There is no administrator: `mainstem user add NAME --admin` makes one.")
        return AccountId(account)

    async def _has_administrator(self, tx: AsyncConnection | None = None) -> bool:
        query = select(func.count()).select_from(accounts).where(accounts.c.is_admin)
        if tx is not None:
            return bool(await tx.scalar(query))
        async with self._records.read() as rows:
            return bool(await rows.scalar(query))

    async def _insert_account(
        self,
        tx: AsyncConnection,
        name: str,
        email: str | None,
        password_hash: str | None,
        *,
        is_admin: bool,
        is_editor: bool = True,
        is_service: bool = False,
    ) -> Account:
        now_us = self._clock()
        kind = {"is_admin": is_admin, "is_editor": is_editor, "is_service": is_service}
        row = insert(accounts).values(name=name, email=email, password_hash=password_hash, created_us=now_us, **kind)
        try:
            account = AccountId((await tx.execute(row.returning(accounts.c.id))).scalar_one())
        except IntegrityError as error:
            raise Conflict(f"There is already an account with the name {name!r} or its email.") from error
        await count_change(tx, "credentials")
        return Account(id=account, name=name, email=email, created_us=now_us, updated_us=now_us, **kind)

    # Keys

    async def create_key(self, principal: Principal, draft: KeyDraft) -> tuple[Key, str]:
        """Make a key; its text is given out here and never again. Raises Denied when it would exceed the maker's."""
        _require_key_manager(principal)
        require_maker(principal)
        self._check_key(draft)
        draft = grantable(principal, draft)
        account = draft.account or principal.account
        if account != principal.account and not _sees_all(principal):
            raise Denied("Only an administrator makes keys for another account.", field="account")
        text = _new_key()
        async with self._records.begin() as tx:
            row = (await tx.execute(ACCOUNT.where(accounts.c.id == account))).one_or_none()
            if row is None:
                raise NotFound(f"There is no account {account}.", account=account)
            key = await self._insert_key(tx, Account(**row._mapping), draft, text)
        await self.refresh()
        return key, text

    async def keys(self, principal: Principal, *, limit: int = 100, cursor: str | None = None) -> KeyPage:
        """Keys that were not revoked: his own, and everybody's for an administrator."""
        _require_key_manager(principal)
        _require_all_streams(principal)
        if not 1 <= limit <= KEYS_PER_PAGE_MAX:
            raise Invalid(f"`limit` is 1 to {KEYS_PER_PAGE_MAX}.", field="limit")
        query = select(api_keys).where(api_keys.c.revoked_us.is_(None), api_keys.c.number > _parse_cursor(cursor))
        if not _sees_all(principal):
            query = query.where(api_keys.c.account == principal.account)
        await self.flush()
        async with self._records.read() as tx:
            rows = (await tx.execute(query.order_by(api_keys.c.number).limit(limit + 1))).all()
        return KeyPage(
            [_key_of(row) for row in rows[:limit]], str(rows[limit - 1].number) if len(rows) > limit else None
        )

    async def revoke_key(self, principal: Principal, key_id: str) -> None:
        """End a key for good, at once. Raises NotFound for one that he does not own, unless he is an administrator."""
        _require_key_manager(principal)
        _require_all_streams(principal)
        change = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_us.is_(None))
        if not _sees_all(principal):
            change = change.where(api_keys.c.account == principal.account)
        async with self._records.begin() as tx:
            if (await tx.execute(change.values(revoked_us=self._clock()))).rowcount == 0:
                raise NotFound(f"There is no key {key_id!r}.", id=key_id)
            await count_change(tx, "credentials")
        await self.refresh()

    def _check_key(self, draft: KeyDraft) -> None:
        _check_name(draft.name, "a key")
        if draft.expires_us is not None and draft.expires_us <= self._clock():
            raise Invalid("The key would have expired already.", field="expires_at")
        if draft.scopes is not None and not draft.scopes:
            raise Invalid("A key needs at least one scope.", field="scopes")
        if draft.topics is not None and not draft.topics:
            raise Invalid("A key for no stream at all is of no use: name one, or leave the list out.", field="streams")

    async def _insert_key(self, tx: AsyncConnection, account: Account, draft: KeyDraft, text: str) -> Key:
        assert draft.scopes is not None
        assert draft.tier is not None
        key = Key(
            id=random_id("key"),
            account=account.id,
            name=draft.name,
            scopes=draft.scopes,
            tier=draft.tier,
            topics=draft.topics,
            expires_us=draft.expires_us,
            created_us=self._clock(),
            last_used_us=None,
        )
        values = msgspec.structs.asdict(key) | {
            "digest": digest_of(text),
            "scopes": " ".join(sorted(key.scopes)),
            "topics": None if key.topics is None else msgspec.json.encode(sorted(key.topics)).decode(),
        }
        try:
            await tx.execute(insert(api_keys).values(**values))
        except IntegrityError as error:
            raise Conflict("There is already such a key: choose another.") from error
        await count_change(tx, "credentials")
        return key

    # Grants

    async def grant(self, tx: AsyncConnection, account: AccountId, topic: TopicId, right: Right) -> None:
        """Give an account exactly this right on a topic, as part of the caller's transaction; NONE takes it away."""
        await tx.execute(delete(grants).where(grants.c.account == account, grants.c.topic == topic))
        if right != Right.NONE:
            await tx.execute(insert(grants).values(account=account, topic=topic, right=int(right)))
        await count_change(tx, "grants")

    async def right_in(self, tx: AsyncConnection, account: AccountId, topic: TopicId) -> Right:
        """What an account was given on a topic, as the caller's transaction sees it."""
        query = select(grants.c.right).where(grants.c.account == account, grants.c.topic == topic)
        return Right(await tx.scalar(query) or 0)

    async def grants_on(self, topic: TopicId) -> list[Grant]:
        """Who was given what on a topic, by account. Administrators have every right without."""
        query = (
            select(grants.c.account, accounts.c.name, grants.c.right)
            .join(accounts)
            .where(grants.c.topic == topic, accounts.c.deleted_us.is_(None))
            .order_by(grants.c.account)
        )
        async with self._records.read() as rows:
            return [Grant(AccountId(row.account), row.name, Right(row.right)) for row in await rows.execute(query)]

    async def rights(self, account: AccountId) -> Mapping[TopicId, Right]:
        """What an account may do, by topic; topics that are not in it are none of its business."""
        query = select(grants.c.topic, grants.c.right).where(grants.c.account == account)
        return await self._rights_of((account, None), query)

    async def source_rights(self, account: AccountId, source: SourceId) -> Mapping[TopicId, Right]:
        """What was given to a source, by topic, whatever its account may do there."""
        query = select(source_grants.c.topic, source_grants.c.right).where(
            source_grants.c.account == account, source_grants.c.source == source
        )
        return await self._rights_of((account, source), query)

    async def right_on(self, principal: Principal, topic: TopicId) -> Right:
        """What a principal may do with a topic: what its account may, and for a source no more than it was given."""
        if principal.is_admin:
            return Right.ADMIN
        if principal.source is None:
            return (await self.rights(principal.account)).get(topic, Right.NONE)
        owner = await self.account_right(principal.account, topic)
        source = (await self.source_rights(principal.account, principal.source)).get(topic, Right.NONE)
        return effective(owner, source)

    async def account_right(self, account_id: AccountId, topic: TopicId) -> Right:
        """What an account may do with a topic. Raises AccountNotFound."""
        account = await self.account(account_id)
        return Right.ADMIN if account.is_admin else (await self.rights(account_id)).get(topic, Right.NONE)

    async def _rights_of(self, whose: tuple[AccountId, SourceId | None], query: Select[Any]) -> Mapping[TopicId, Right]:
        await self.refresh()
        rights = self._rights.get(whose)
        if rights is None:
            epoch = self.epoch
            async with self._records.read() as tx:
                rows = await tx.execute(query)
                rights = MappingProxyType({TopicId(topic): Right(right) for topic, right in rows})
            if epoch == self.epoch:
                self._rights[whose] = rights
        return rights

    async def forget_topic(self, tx: AsyncConnection, topic: TopicId) -> None:
        """Take away everybody's rights on a topic, as part of the caller's transaction."""
        await tx.execute(delete(grants).where(grants.c.topic == topic))
        await tx.execute(delete(source_grants).where(source_grants.c.topic == topic))
        await count_change(tx, "grants")


_CHANGES = select(changes.c.kind, changes.c.count.label("count_"))  # a row has a method named count
_EVER = select(
    accounts.c.id,
    accounts.c.name,
    accounts.c.email,
    accounts.c.is_admin,
    accounts.c.is_editor,
    accounts.c.is_service,
    accounts.c.created_us,
    func.coalesce(accounts.c.updated_us, accounts.c.created_us).label("updated_us"),
)
ACCOUNT = _EVER.where(accounts.c.deleted_us.is_(None))


async def count_change(tx: AsyncConnection, kind: str) -> None:
    """Let every process know that its caches of this kind are old once the transaction is committed."""
    await tx.execute(update(changes).where(changes.c.kind == kind).values(count=changes.c.count + 1))


async def _unless_unavailable(work: Callable[[], Any]) -> None:
    try:
        await work()
    except Unavailable as error:
        _log.warning("identity.records_unavailable", reason=error.message)


def digest_of(key: str | bytes) -> bytes:
    """What is kept of a key to find it by."""
    # A key has some 200 random bits, so a plain hash is as good as a slow one, and takes a third of a microsecond.
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()


def _new_key() -> str:
    return KEY_PREFIX + secrets.token_urlsafe(32)


def _fold(email: str) -> str:
    folded = email.strip().casefold()
    name, at, domain = folded.rpartition("@")
    if not (name and at and domain) or " " in folded or len(folded) > 254:
        raise Invalid(f"{email!r} is no email address.", field="email")
    return folded


def _check_name(name: str, thing: str) -> None:
    if not 1 <= len(name) <= NAME_CHARACTERS_MAX or not name.isprintable() or name != name.strip():
        raise Invalid(
            f"The name of {thing} has 1 to {NAME_CHARACTERS_MAX} characters, none of them a control character,"
            " and no space at its ends.",
            field="name",
        )


def _parse_cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise Invalid("`cursor` is none that this server gave.", field="cursor")
    return int(cursor)


def _sees_all(principal: Principal) -> bool:
    return principal.is_admin and Scope.ADMIN in principal.scopes


def _require_key_manager(principal: Principal) -> None:
    """Keys are managed with the admin scope, or by signing in."""
    if principal.is_key and Scope.ADMIN not in principal.scopes:
        raise Denied("This credential lacks the scope `admin`: use one that has it, or sign in.", scope="admin")


def _require_all_streams(principal: Principal) -> None:
    """A key for some streams may hand on what it has, but not see or end keys for others."""
    if principal.topics is not None:
        raise Denied("This credential is limited to some streams: use one that is not to list or revoke keys.")


def _principal_of(row: Row[Any]) -> Principal:
    is_reader = not (row.is_admin or row.is_editor)
    return Principal(
        account=AccountId(row.account),
        name=row.account_name,
        credential=row.id,
        scopes=usable(_scopes_of(row), Role.DEFAULT if is_reader else Role.EDITOR),
        tier=Tier(row.tier),
        topics=_topics_of(row),
        expires_us=row.expires_us,
        is_admin=row.is_admin,
        is_editor=row.is_editor,
    )


def _key_of(row: Row[Any]) -> Key:
    return Key(
        id=row.id,
        account=AccountId(row.account),
        name=row.name,
        scopes=_scopes_of(row),
        tier=Tier(row.tier),
        topics=_topics_of(row),
        expires_us=row.expires_us,
        created_us=row.created_us,
        last_used_us=row.last_used_us,
    )


def _scopes_of(row: Row[Any]) -> frozenset[Scope]:
    return frozenset(map(Scope, row.scopes.split()))


def _topics_of(row: Row[Any]) -> frozenset[str] | None:
    return None if row.topics is None else frozenset(msgspec.json.decode(row.topics, type=list[str]))
