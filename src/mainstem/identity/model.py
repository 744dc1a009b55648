"""Nouns of identity: who is asking, and what a credential lets him do."""

from enum import IntFlag, StrEnum

import msgspec

from mainstem.errors import Conflict, Denied, NotFound, Unauthenticated
from mainstem.ids import AccountId, SourceId


class Scope(StrEnum):
    """What an API key or token may be used for."""

    EVENTS_WRITE = "events:write"
    EVENTS_READ = "events:read"
    STREAMS_MANAGE = "streams:manage"
    WEBHOOKS_MANAGE = "webhooks:manage"
    ALERTS_MANAGE = "alerts:manage"
    PIPELINES_MANAGE = "pipelines:manage"
    CONNECTORS_MANAGE = "connectors:manage"
    ADMIN = "admin"


class Tier(StrEnum):
    """How many requests an hour a credential has."""

    STANDARD = "standard"
    PROFESSIONAL = "professional"
    ENTERPRISE = "enterprise"
    UNLIMITED = "unlimited"

    @property
    def per_hour(self) -> int | None:
        return {"standard": 1_000, "professional": 10_000, "enterprise": 100_000}.get(self.value)


class Role(StrEnum):
    """What kind of account it is."""

    DEFAULT = "default"
    """Reads, and makes nothing behind any door: somebody who signed up by himself."""
    EDITOR = "editor"
    """Makes things, and changes what is his own."""
    ADMIN = "admin"
    """Has every right on everything."""


class Right(IntFlag):
    """What an account may do with a topic: a set of actions, so a lattice and not a chain."""

    NONE = 0
    READ = 1
    WRITE = 2
    MANAGE = 4
    ADMIN = READ | WRITE | MANAGE


class Grant(msgspec.Struct, frozen=True):
    """What an account was given on a topic."""

    account: AccountId
    name: str
    right: Right


class Action(StrEnum):
    """What somebody wants to do. Those on a topic need the scope and the right; `CREATE` needs the scope alone."""

    READ = "read"
    WRITE = "write"
    MANAGE = "manage"
    CREATE = "create"


class Principal(msgspec.Struct, frozen=True):
    """Somebody whose credential has been checked. Every verb takes one first."""

    account: AccountId
    name: str
    credential: str
    """`key_…` or `jwt_…`: what the request is counted and logged under; not a secret."""
    scopes: frozenset[Scope]
    tier: Tier
    topics: frozenset[str] | None = None
    """The only topics (by name) that the credential may touch; None: all that the account may."""
    expires_us: int | None = None
    is_admin: bool = False
    """The account is the operator's: it has every right on every topic (its scopes still count)."""
    source: SourceId | None = None
    """The credential is that of a source: on a topic it has what its account and the source itself both have."""
    is_editor: bool = True
    """The account may make things. An administrator may, whatever this says."""

    @property
    def role(self) -> Role:
        """What the account's role leaves of it with this credential: an administrator's takes the scope `admin`, an
        editor's `streams:manage`, and one that is limited to some topics touches nothing else."""
        if self.topics is not None:
            return Role.DEFAULT
        return _role(
            self.is_admin and Scope.ADMIN in self.scopes,
            (self.is_admin or self.is_editor) and Scope.STREAMS_MANAGE in self.scopes,
        )

    @property
    def is_key(self) -> bool:
        """The credential is an API key, not a token from signing in."""
        return self.credential.startswith("key_")


class Account(msgspec.Struct, frozen=True):
    """Somebody who can sign in, or a program that has keys."""

    id: AccountId
    name: str
    email: str | None
    is_admin: bool
    created_us: int
    updated_us: int
    is_editor: bool = True
    is_service: bool = False
    """A program's, for which tokens are good longer."""

    @property
    def role(self) -> Role:
        return _role(self.is_admin, self.is_editor)


def _role(is_admin: bool, is_editor: bool) -> Role:
    if is_admin:
        return Role.ADMIN
    return Role.EDITOR if is_editor else Role.DEFAULT


class Key(msgspec.Struct, frozen=True):
    """An API key as it may be shown: all but the key itself, which is kept nowhere."""

    id: str
    account: AccountId
    name: str
    scopes: frozenset[Scope]
    tier: Tier
    topics: frozenset[str] | None
    expires_us: int | None
    created_us: int
    last_used_us: int | None
    """True to half a minute."""


class KeyDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A key to be made. What is None follows from whoever makes it."""

    name: str
    scopes: frozenset[Scope] | None = None
    """None: to send and read events and to make streams, as far as the maker may himself."""
    tier: Tier | None = None
    """None: standard, or less where the maker has less."""
    topics: frozenset[str] | None = None
    """None: every topic that the maker's credential may touch."""
    expires_us: int | None = None
    """None: never, or with the key that makes it."""
    account: AccountId | None = None
    """None: the maker's own. Only an administrator may name another."""


class KeyPage(msgspec.Struct, frozen=True):
    """Some of the keys, oldest first, and where to go on."""

    keys: list[Key]
    next_cursor: str | None


class Token(msgspec.Struct, frozen=True):
    """What signing in gives."""

    access_token: str
    expires_in: int
    """Seconds."""


class AccountPage(msgspec.Struct, frozen=True):
    """Some of the accounts, and how many there are."""

    accounts: list[Account]
    total: int


class FirstStart(msgspec.Struct, frozen=True):
    """What the first start made, to be shown once."""

    email: str
    password: str | None
    """None when the operator gave it."""
    api_key: str


class Source(msgspec.Struct, frozen=True):
    """A program of an account's, with a key and rights of its own. Its key may be shown again."""

    account: AccountId
    id: SourceId
    name: str
    created_us: int


class AccountNotFound(NotFound):
    """No such account."""


class SourceNotFound(NotFound):
    """The account has no such source."""


class SignInRefused(Unauthenticated):
    """The email or the password is wrong."""


class SignUpClosed(Denied):
    """The operator makes the accounts here."""


class AccountStays(Conflict):
    """The account cannot be deleted, or lose its role."""


class NameTaken(Conflict):
    """The account has something of this name already."""
