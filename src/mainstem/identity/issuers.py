"""Tokens of another issuer, with whom this server shares a secret: his users come in without an account here."""

from typing import Any

import jwt

from mainstem.clock import SECOND_US, Clock
from mainstem.errors import Unauthenticated
from mainstem.identity.model import Principal, Scope, Tier
from mainstem.ids import AccountId

_ALGORITHM = "HS256"
_SUBJECT_MAX = 1 << 62
_PERMISSIONS = {"UploadAudio": Scope.EVENTS_WRITE, "StreamAudio": Scope.EVENTS_READ}
_ADMINISTRATOR = "Admin"


class ForeignTokens:
    """Checks HS256 tokens with the claims that stream-server's platform puts into them (its sheet, section 7)."""

    def __init__(self, secret: str, issuer: str, audience: str, clock: Clock) -> None:
        self._secret = secret.encode()
        self._issuer = issuer
        self._audience = audience
        self._clock = clock

    def claims(self, token: str) -> bool:
        """Whether the token says that this issuer made it; nothing of it is checked by that."""
        try:
            body = jwt.decode(token, options={"verify_signature": False})
        except jwt.InvalidTokenError:
            return False
        return body.get("iss") == self._issuer

    def check(self, token: str) -> Principal:
        """Whose token this is: a principal of no account of ours. Raises Unauthenticated."""
        try:
            # Times are compared below, by our own clock.
            body: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                options={
                    "require": ["sub", "exp", "iss", "aud"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                    "verify_sub": False,  # there, subjects are integers
                },
            )
            subject, expires_us = int(body["sub"]), int(body["exp"]) * SECOND_US
            if not 0 <= subject < _SUBJECT_MAX:
                raise ValueError("no user has such a number")
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError) as error:
            raise Unauthenticated("The token is not one that this server takes: get another.") from error
        if self._clock() >= expires_us:
            raise Unauthenticated("The token has expired: get another.")
        is_admin = _ADMINISTRATOR in _texts(body.get("roles"))
        return Principal(
            # Below all numbers of accounts here, so that no user of there is taken for one of ours.
            account=AccountId(-1 - subject),
            name=str(body.get("username") or subject)[:100],
            credential=f"foreign_{subject}",
            scopes=_scopes(body.get("permissions"), is_admin=is_admin),
            tier=Tier.STANDARD,
            expires_us=expires_us,
            is_admin=is_admin,
        )


def _scopes(permissions: object, *, is_admin: bool) -> frozenset[Scope]:
    """What the permissions let one do; a token that names none at all leaves it to the role."""
    if is_admin:
        return frozenset({*_PERMISSIONS.values(), Scope.ADMIN})
    if permissions is None:
        return frozenset(_PERMISSIONS.values())
    return frozenset(_PERMISSIONS[name] for name in _texts(permissions) if name in _PERMISSIONS)


def _texts(claim: object) -> list[str]:
    return [text for text in claim if isinstance(text, str)] if isinstance(claim, list) else []
