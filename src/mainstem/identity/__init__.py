"""Who you are and what you may do: accounts, credentials, grants, and how often you may ask."""

from mainstem.identity.directory import KEY_PREFIX, OPERATOR, Directory
from mainstem.identity.limits import Allowance, RateLimited, RateLimiter
from mainstem.identity.model import (
    Account,
    Action,
    FirstStart,
    Key,
    KeyDraft,
    KeyPage,
    Principal,
    Right,
    Scope,
    Tier,
    Token,
)
from mainstem.identity.rights import Verdict, decide, require
from mainstem.identity.tokens import signing_key

__all__ = [
    "KEY_PREFIX",
    "OPERATOR",
    "Account",
    "Action",
    "Allowance",
    "Directory",
    "FirstStart",
    "Key",
    "KeyDraft",
    "KeyPage",
    "Principal",
    "RateLimited",
    "RateLimiter",
    "Right",
    "Scope",
    "Tier",
    "Token",
    "Verdict",
    "decide",
    "require",
    "signing_key",
]
