"""Who you are and what you may do: accounts, credentials, grants, and how often you may ask."""

from mainstem.identity.accounts import SERVICES, Accounts, Heir, SignUp, Terms, password_problems
from mainstem.identity.directory import KEY_PREFIX, OPERATOR, Directory
from mainstem.identity.issuers import ForeignTokens
from mainstem.identity.keyfiles import linking_key, sealing_key, signing_key
from mainstem.identity.limits import Allowance, Buckets, RateLimited, RateLimiter
from mainstem.identity.model import (
    Account,
    AccountNotFound,
    AccountPage,
    AccountStays,
    Action,
    FirstStart,
    Grant,
    Key,
    KeyDraft,
    KeyPage,
    NameTaken,
    Principal,
    Right,
    Role,
    Scope,
    SignInRefused,
    SignUpClosed,
    Source,
    SourceNotFound,
    Tier,
    Token,
)
from mainstem.identity.rights import Verdict, decide, effective, require
from mainstem.identity.seal import Seal
from mainstem.identity.sources import Sources
from mainstem.identity.tokens import Signer

__all__ = [
    "KEY_PREFIX",
    "OPERATOR",
    "SERVICES",
    "Account",
    "AccountNotFound",
    "AccountPage",
    "AccountStays",
    "Accounts",
    "Action",
    "Allowance",
    "Buckets",
    "Directory",
    "FirstStart",
    "ForeignTokens",
    "Grant",
    "Heir",
    "Key",
    "KeyDraft",
    "KeyPage",
    "NameTaken",
    "Principal",
    "RateLimited",
    "RateLimiter",
    "Right",
    "Role",
    "Scope",
    "Seal",
    "SignInRefused",
    "SignUp",
    "SignUpClosed",
    "Signer",
    "Source",
    "SourceNotFound",
    "Sources",
    "Terms",
    "Tier",
    "Token",
    "Verdict",
    "decide",
    "effective",
    "linking_key",
    "password_problems",
    "require",
    "sealing_key",
    "signing_key",
]
