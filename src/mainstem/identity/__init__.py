"""Who you are and what you may do: accounts, credentials, grants, and how often you may ask."""

from mainstem.identity.directory import KEY_PREFIX, OPERATOR, Directory
from mainstem.identity.issuers import ForeignTokens
from mainstem.identity.keyfiles import linking_key, sealing_key, signing_key
from mainstem.identity.limits import Allowance, Buckets, RateLimited, RateLimiter
from mainstem.identity.model import (
    Account,
    AccountNotFound,
    Action,
    FirstStart,
    Key,
    KeyDraft,
    KeyPage,
    NameTaken,
    Principal,
    Right,
    Scope,
    Source,
    SourceNotFound,
    Tier,
    Token,
)
from mainstem.identity.rights import Verdict, decide, effective, require
from mainstem.identity.seal import Seal
from mainstem.identity.sources import Sources

__all__ = [
    "KEY_PREFIX",
    "OPERATOR",
    "Account",
    "AccountNotFound",
    "Action",
    "Allowance",
    "Buckets",
    "Directory",
    "FirstStart",
    "ForeignTokens",
    "Key",
    "KeyDraft",
    "KeyPage",
    "NameTaken",
    "Principal",
    "RateLimited",
    "RateLimiter",
    "Right",
    "Scope",
    "Seal",
    "Source",
    "SourceNotFound",
    "Sources",
    "Tier",
    "Token",
    "Verdict",
    "decide",
    "effective",
    "linking_key",
    "require",
    "sealing_key",
    "signing_key",
]
