"""Tokens of another issuer: whom they let in, and as whom."""

from typing import Any

import jwt
import pytest

from mainstem.clock import SECOND_US, FixedClock
from mainstem.errors import Unauthenticated
from mainstem.identity import ForeignTokens, Scope

SECRET = "a secret that two servers share, 32 bytes"
CLOCK = FixedClock()
NOW_S = CLOCK() // SECOND_US
GOOD: dict[str, Any] = {
    "sub": 42,
    "username": "ada",
    "roles": ["User"],
    "permissions": ["StreamAudio"],
    "iss": "veza-platform",
    "aud": "veza-services",
    "iat": NOW_S,
    "exp": NOW_S + 60,
}


@pytest.fixture
def tokens() -> ForeignTokens:
    return ForeignTokens(SECRET, "veza-platform", "veza-services", CLOCK)


def signed(secret: str = SECRET, **claims: Any) -> str:
    return jwt.encode({name: value for name, value in (GOOD | claims).items() if value is not None}, secret, "HS256")


def test_its_users_are_nobody_of_ours(tokens: ForeignTokens) -> None:
    """Accounts here have positive numbers."""
    principal = tokens.check(signed())

    assert (principal.account, principal.name, principal.is_admin) == (-43, "ada", False)
    assert principal.scopes == {Scope.EVENTS_READ}
    assert principal.expires_us == (NOW_S + 60) * SECOND_US


def test_its_administrators_may_everything(tokens: ForeignTokens) -> None:
    principal = tokens.check(signed(roles=["User", "Admin"]))

    assert principal.is_admin
    assert principal.scopes == {Scope.EVENTS_READ, Scope.EVENTS_WRITE, Scope.ADMIN}


@pytest.mark.parametrize(
    ("permissions", "count"), [(None, 2), ([], 0), (["UploadAudio", "Fly"], 1), ("UploadAudio", 0)]
)
def test_permissions_count_where_there_are_any(tokens: ForeignTokens, permissions: Any, count: int) -> None:
    assert len(tokens.check(signed(permissions=permissions)).scopes) == count


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "somebody"},
        {"aud": "others"},
        {"iss": None},
        {"aud": None},
        {"exp": None},
        {"sub": None},
        {"exp": NOW_S},
        {"exp": "soon"},
        {"sub": "ada"},
        {"sub": -1},
        {"sub": 1 << 62},
        {"secret": "another secret, as long as it has to be"},
    ],
)
def test_a_token_that_is_not_for_us_lets_nobody_in(tokens: ForeignTokens, claims: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        tokens.check(signed(**claims))


def test_a_token_without_a_signature_lets_nobody_in(tokens: ForeignTokens) -> None:
    token = jwt.encode(GOOD, "", "none")

    assert tokens.claims(token)
    with pytest.raises(Unauthenticated):
        tokens.check(token)
