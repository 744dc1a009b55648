"""Nouns of identity: who is asking, and what a credential lets him do."""

from enum import IntFlag, StrEnum

import msgspec

from mainstem.ids import AccountId


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


class Right(IntFlag):
    """What an account may do with a topic: a set of actions, so a lattice and not a chain."""

    NONE = 0
    READ = 1
    WRITE = 2
    MANAGE = 4
    ADMIN = READ | WRITE | MANAGE


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
