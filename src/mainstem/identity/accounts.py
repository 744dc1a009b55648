"""People and programs that sign in by email: signing up and out, roles, and accounts that go."""

import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from uuid import uuid4

import msgspec
from sqlalchemy import and_, delete, func, insert, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.clock import Clock
from mainstem.errors import Conflict, Denied, InvalidFields
from mainstem.identity.directory import ACCOUNT, NAME_CHARACTERS_MAX, OPERATOR, Directory, count_change
from mainstem.identity.model import (
    Account,
    AccountNotFound,
    AccountPage,
    AccountStays,
    Principal,
    Role,
    SignUpClosed,
    Token,
)
from mainstem.identity.tables import accounts, api_keys, ended_tokens, grants, source_grants, sources, user_keys
from mainstem.identity.tokens import Signer
from mainstem.ids import AccountId, random_id
from mainstem.storage import Records

DAY_S = 86_400
TOKEN_S = DAY_S
SERVICE_TOKEN_S = 30 * DAY_S

PASSWORD_CHARACTERS_MIN = 8
PASSWORD_CHARACTERS_MAX = 128
EMAIL_CHARACTERS_MAX = 254

SERVICES = ("livestream-monitor@streamsource.local", "livesheet-updater@streamsource.local")
"""The programs that usually work with the catalogue."""

# What HTML calls a valid email address, without dots in a row.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_EMAIL = re.compile(rf"(?!.*\.\.)[a-z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})*", re.ASCII)

type Heir = Callable[[AsyncConnection, AccountId, AccountId], Awaitable[None]]
"""Hands everything of an account to another, as part of the caller's transaction. Each capability has one."""


class SignUp(msgspec.Struct, frozen=True):
    """What somebody gives who wants an account. None: it was not given."""

    email: str | None
    password: str | None
    password_confirmation: str | None = None
    role: str | None = None


class Terms(msgspec.Struct, frozen=True):
    """On what terms strangers get accounts."""

    is_open: bool = True
    roles: bool = False
    """They choose their role themselves: for tests."""


class Accounts:
    """The verbs of accounts. Tokens from here name the account and its role, and can be ended before their time."""

    def __init__(
        self,
        records: Records,
        clock: Clock,
        directory: Directory,
        signer: Signer,
        terms: Terms | None = None,
        *,
        heirs: Sequence[Heir],
    ) -> None:
        self._records = records
        self._clock = clock
        self._directory = directory
        self._signer = signer
        self._terms = terms or Terms()
        self._heirs = heirs

    # Signing up, in and out

    async def sign_up(self, wanted: SignUp) -> Account:
        """Make an account for a stranger. Raises InvalidFields, SignUpClosed."""
        if not self._terms.is_open:
            raise SignUpClosed("Signing up is closed here: ask the operator for an account")
        role = wanted.role if self._terms.roles else None
        email = (wanted.email or "").strip().lower()
        problems = _problems(email, wanted, role)
        if await self._is_taken(email):
            problems.insert(0, _TAKEN)
        if problems:
            raise InvalidFields(problems)
        try:
            return await self._directory.create_account(
                _name_of(email),
                email=email,
                password=wanted.password,
                is_admin=role == Role.ADMIN,
                is_editor=role in (Role.EDITOR, Role.ADMIN),
            )
        except Conflict as error:
            raise InvalidFields([_TAKEN]) from error

    async def sign_in(self, email: str, password: str) -> Account:
        """The account with this email, in any case, and password. Raises SignInRefused."""
        return await self._directory.account_of(email, password)

    def issue(self, account: Account) -> Token:
        """A token that says whose it is to whoever reads it. The role in it is for show: the one that counts is the
        account's at each request."""
        lifetime_s = SERVICE_TOKEN_S if account.is_service else TOKEN_S
        claims = {
            "user_id": account.id,
            "email": account.email,
            "role": str(account.role),
            "scp": "user",
            "jti": str(uuid4()),
            "service_account": account.is_service,
        }
        return self._signer.issue(account.id, lifetime_s=lifetime_s, claims=claims)

    async def authenticate(self, token: str) -> Principal:
        """Whose token this is, from here or from another door. Raises Unauthenticated."""
        return await self._directory.authenticate_token(token, self._signer)

    async def sign_out(self, token: str) -> None:
        """End a token before its time. Nothing happens to one that carries no id of its own, and so cannot be told from
        others of its account. Raises Unauthenticated for what is no token."""
        checked = self._signer.check(token)
        if checked.id is None:
            return
        row = {"id": checked.id, "expires_us": checked.expires_us}
        async with self._records.begin() as tx:
            await tx.execute(delete(ended_tokens).where(ended_tokens.c.expires_us <= self._clock()))
            if await tx.scalar(select(ended_tokens.c.id).where(ended_tokens.c.id == checked.id)) is None:
                await tx.execute(insert(ended_tokens).values(row))
            await count_change(tx, "tokens")
        await self._directory.refresh()

    # Looking after them

    async def page(self, principal: Principal, *, page: int = 1, per_page: int = 25, search: str = "") -> AccountPage:
        """Accounts by number, with `search` only those that have it in name or email. Raises Denied."""
        _require_administrator(principal)
        in_texts = [column.icontains(search, autoescape=True) for column in (accounts.c.name, accounts.c.email)]
        wanted = and_(accounts.c.deleted_us.is_(None), or_(*in_texts) if search else true())
        query = ACCOUNT.where(wanted).order_by(accounts.c.id).limit(per_page).offset((page - 1) * per_page)
        async with self._records.read() as rows:
            total = await rows.scalar(select(func.count()).select_from(accounts).where(wanted))
            found = [Account(**row._mapping) for row in await rows.execute(query)]
        return AccountPage(found, total or 0)

    async def get(self, principal: Principal, account: AccountId) -> Account:
        """Oneself, or anybody for an administrator. Raises Denied, whether there is such an account or not, then
        AccountNotFound."""
        if account != principal.account:
            _require_administrator(principal)
        return await self._directory.account(account)

    async def set_role(self, principal: Principal, account_id: AccountId, role: str) -> Account:
        """Raises Denied, AccountNotFound, InvalidFields, and AccountStays when nobody would be administrator."""
        _require_administrator(principal)
        values = {"is_admin": role == Role.ADMIN, "is_editor": role != Role.DEFAULT, "updated_us": self._clock()}
        async with self._records.begin() as tx:
            account = await _one(tx, account_id)
            if role not in list(Role):
                raise InvalidFields([_NO_ROLE])
            if account.is_admin and role != Role.ADMIN:
                await _require_another_administrator(tx, account_id)
            await tx.execute(update(accounts).where(accounts.c.id == account_id).values(**values))
            await count_change(tx, "credentials")
        await self._directory.refresh()
        return await self._directory.account(account_id)

    async def delete(self, principal: Principal, account_id: AccountId) -> AccountId:
        """End an account and its credentials for good; what it owns goes to the administrator who does it, or where the
        operator does, to the oldest of the others. Who that is.

        Raises Denied, AccountNotFound, and AccountStays for oneself and for the last administrator.
        """
        _require_administrator(principal)
        if account_id == principal.account:
            raise AccountStays("You cannot delete your own account.")
        async with self._records.begin() as tx:
            await _one(tx, account_id)
            heir = await _require_another_administrator(tx, account_id)
            if principal.account != OPERATOR.account:
                heir = await _still_administrator(tx, principal)
            for hand_over in self._heirs:
                await hand_over(tx, account_id, heir)
            await self._end(tx, account_id)
        await self._directory.refresh()
        return heir

    async def _end(self, tx: AsyncConnection, account: AccountId) -> None:
        """The row stays without name and credentials, because numbers are never used again and things point to it."""
        for table in (source_grants, sources, user_keys, api_keys, grants):
            await tx.execute(delete(table).where(table.c.account == account))
        nobody = {"email": None, "password_hash": None, "is_admin": False, "is_editor": False}
        values = {"name": random_id("deleted"), "deleted_us": self._clock(), **nobody}
        await tx.execute(update(accounts).where(accounts.c.id == account).values(**values))
        await count_change(tx, "credentials")
        await count_change(tx, "grants")

    # Service accounts

    async def create_service(self, principal: Principal, email: str) -> tuple[Account, str]:
        """An editor's account for a program, and its password, shown this once. Raises Denied, InvalidFields."""
        _require_administrator(principal)
        email = email.strip().lower()
        if not _is_email(email):
            raise InvalidFields([("email", "is invalid")])
        password = f"{secrets.token_urlsafe(24)}aA1"  # the rules for people hold for it, too
        try:
            account = await self._directory.create_account(
                _name_of(email), email=email, password=password, is_service=True
            )
        except Conflict as error:
            raise InvalidFields([_TAKEN]) from error
        return account, password

    async def _is_taken(self, email: str) -> bool:
        async with self._records.read() as rows:
            query = select(accounts.c.id).where(or_(accounts.c.email == email, accounts.c.name == _name_of(email)))
            return bool(email) and await rows.scalar(query) is not None


_TAKEN = ("email", "has already been taken")
_NO_ROLE = ("role", "is not included in the list")


def _problems(email: str, wanted: SignUp, role: str | None) -> list[tuple[str, str]]:
    problems = []
    if not email:
        problems.append(("email", "can't be blank"))
    if not _is_email(email):
        problems.append(("email", "is invalid"))
    problems += password_problems(wanted.password)
    if wanted.password_confirmation is not None and wanted.password_confirmation != wanted.password:
        problems.append(("password_confirmation", "doesn't match Password"))
    if role is not None and role not in list(Role):
        problems.append(_NO_ROLE)
    return problems


def _name_of(email: str) -> str:
    """The account's name is its email, or what a name has room for."""
    if len(email) <= NAME_CHARACTERS_MAX:
        return email
    return f"{email[:64]}…{hashlib.sha256(email.encode()).hexdigest()[:16]}"


def _is_email(email: str) -> bool:
    return len(email) <= EMAIL_CHARACTERS_MAX and _EMAIL.fullmatch(email) is not None


def password_problems(password: str | None) -> list[tuple[str, str]]:
    """What is wrong with a password that somebody chose for himself."""
    problems = []
    if not password:
        problems.append("can't be blank")
    password = password or ""
    if len(password) < PASSWORD_CHARACTERS_MIN:
        problems.append(f"is too short (minimum is {PASSWORD_CHARACTERS_MIN} characters)")
    if len(password) > PASSWORD_CHARACTERS_MAX:
        problems.append(f"is too long (maximum is {PASSWORD_CHARACTERS_MAX} characters)")
    if not all(re.search(kind, password, re.ASCII) for kind in ("[a-z]", "[A-Z]", "[0-9]")):
        problems.append("must include lowercase, uppercase, and number")
    return [("password", problem) for problem in problems]


def _require_administrator(principal: Principal) -> None:
    if principal.role is not Role.ADMIN:
        raise Denied("Only an administrator looks after accounts")


async def _one(tx: AsyncConnection, account: AccountId) -> Account:
    row = (await tx.execute(ACCOUNT.where(accounts.c.id == account))).one_or_none()
    if row is None:
        raise AccountNotFound(f"There is no user {account}.", account=account)
    return Account(**row._mapping)


async def _still_administrator(tx: AsyncConnection, principal: Principal) -> AccountId:
    """Raises Denied where another administrator was quicker: what goes to who is gone would be nobody's."""
    is_admin = select(accounts.c.is_admin).where(accounts.c.id == principal.account)
    if not await tx.scalar(is_admin):
        raise Denied("You are an administrator no longer")
    return principal.account


async def _require_another_administrator(tx: AsyncConnection, account: AccountId) -> AccountId:
    query = select(func.min(accounts.c.id)).where(accounts.c.is_admin, accounts.c.id != account)
    other = await tx.scalar(query)
    if other is None:
        raise AccountStays("There must be an administrator: make another one first")
    return AccountId(other)
