"""Deciding who may do what to a topic. Everything here is pure."""

from collections.abc import Iterable
from enum import Enum
from typing import assert_never

from mainstem.errors import Denied, NotFound
from mainstem.identity.model import Action, KeyDraft, Principal, Right, Role, Scope, Tier

DEFAULT_SCOPES = frozenset({Scope.EVENTS_WRITE, Scope.EVENTS_READ, Scope.STREAMS_MANAGE})
"""What a new key is for when nothing is said."""

READER_SCOPES = frozenset({Scope.EVENTS_READ})
"""What an account that makes nothing may use a credential for, at most."""

_TIERS = tuple(Tier)


class Verdict(Enum):
    ALLOW = "allow"
    DENY = "deny"
    """May know of the topic, may not do this to it."""
    HIDE = "hide"
    """May not even know whether there is such a topic."""


def decide(principal: Principal, action: Action, topic_name: str, right: Right) -> Verdict:
    """Whether a principal may act on a topic on which his account has this right.

    For CREATE there is no topic yet, so the right does not matter.
    """
    may_know = principal.topics is None or topic_name in principal.topics
    if action is not Action.CREATE:
        may_know = may_know and _effective(principal, right) != Right.NONE
    if not may_know:
        return Verdict.HIDE
    allowed = scope_for(action) in principal.scopes and _needed(action) in _effective(principal, right)
    return Verdict.ALLOW if allowed else Verdict.DENY


def require(principal: Principal, action: Action, topic_name: str, right: Right) -> None:
    """Raise Denied, or NotFound where he may not know, unless `decide` allows it."""
    match decide(principal, action, topic_name, right):
        case Verdict.ALLOW:
            return
        case Verdict.HIDE:
            raise NotFound(f"There is no stream {topic_name!r}.", topic=topic_name)
        case Verdict.DENY if scope_for(action) not in principal.scopes:
            raise Denied(
                f"This credential lacks the scope `{scope_for(action)}`: use one that has it.",
                scope=str(scope_for(action)),
            )
        case Verdict.DENY:
            raise Denied(
                f"You may not {action} {topic_name!r}: ask somebody who manages it for the right.",
                topic=topic_name,
                right=str(action),
            )
        case unexpected:
            assert_never(unexpected)


def usable(scopes: frozenset[Scope], role: Role) -> frozenset[Scope]:
    """Which of a credential's scopes count, the role of its account being what it is now."""
    return scopes & READER_SCOPES if role is Role.DEFAULT else scopes


def require_maker(principal: Principal) -> None:
    """Raise Denied when the account is one that makes nothing."""
    if not (principal.is_admin or principal.is_editor):
        raise Denied("This account may read and nothing else: ask an administrator to make it an editor.")


def effective(owner: Right, source: Right) -> Right:
    """What a source may do: what its owner may, and it was given as well."""
    return owner & source


def scope_for(action: Action) -> Scope:
    """The scope that a credential needs for an action."""
    match action:
        case Action.READ:
            return Scope.EVENTS_READ
        case Action.WRITE:
            return Scope.EVENTS_WRITE
        case Action.MANAGE | Action.CREATE:
            return Scope.STREAMS_MANAGE
        case unexpected:
            assert_never(unexpected)


def grantable(principal: Principal, draft: KeyDraft) -> KeyDraft:
    """The key that a principal may make of a draft, with defaults filled in by what he has himself.

    An admin scope gives any scope and tier; otherwise nobody gives what he does not have. A limit to some topics, and
    the expiry of a key that makes a key, are handed on to whatever it makes. Raises Denied.
    """
    is_admin = Scope.ADMIN in principal.scopes
    scopes = draft.scopes if draft.scopes is not None else DEFAULT_SCOPES & principal.scopes
    tier = draft.tier if draft.tier is not None else min(Tier.STANDARD, principal.tier, key=_TIERS.index)
    topics = draft.topics if draft.topics is not None else principal.topics
    if not is_admin and not scopes <= principal.scopes:
        raise _not_yours("scopes", sorted(scopes - principal.scopes))
    if not is_admin and _TIERS.index(tier) > _TIERS.index(principal.tier):
        raise _not_yours("tier", [tier])
    if principal.topics is not None and topics is not None and not topics <= principal.topics:
        raise _not_yours("streams", sorted(topics - principal.topics))
    return KeyDraft(
        name=draft.name,
        scopes=scopes,
        tier=tier,
        topics=topics,
        expires_us=_expiry(principal, draft),
        account=draft.account or principal.account,
    )


def _expiry(principal: Principal, draft: KeyDraft) -> int | None:
    """A token expires within the hour and stands for its account, but a key must not outlive itself through another."""
    if principal.expires_us is None or not principal.is_key:
        return draft.expires_us
    if draft.expires_us is not None and draft.expires_us > principal.expires_us:
        raise _not_yours("expires_at", ["later than your own key"])
    return draft.expires_us or principal.expires_us


def _not_yours(field: str, excess: Iterable[str]) -> Denied:
    listed = ", ".join(excess)
    return Denied(f"Nobody can give what he does not have: {field} ({listed}).", field=field, excess=listed)


def _effective(principal: Principal, right: Right) -> Right:
    return Right.ADMIN if principal.is_admin else right


def _needed(action: Action) -> Right:
    match action:
        case Action.READ:
            return Right.READ
        case Action.WRITE:
            return Right.WRITE
        case Action.MANAGE:
            return Right.MANAGE
        case Action.CREATE:
            return Right.NONE
        case unexpected:
            assert_never(unexpected)
