"""Tokens that signing in gives: JWTs, signed by this server and checked without asking records."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jwt

from mainstem.clock import SECOND_US, Clock
from mainstem.errors import Unauthenticated
from mainstem.identity.keyfiles import KEY_BYTES
from mainstem.identity.model import Token
from mainstem.ids import AccountId

_ALGORITHM = "HS256"


class Checked(NamedTuple):
    """What a token that is good says."""

    account: AccountId
    expires_us: int
    id: str | None
    """Its `jti`, by which it can be ended before its time."""


class Signer:
    """Issues and checks tokens. It signs with its key, and takes what any of `others` signed as well."""

    def __init__(self, key: bytes, lifetime_s: int, clock: Clock, others: Sequence[bytes] = ()) -> None:
        assert len(key) >= KEY_BYTES, "HS256 wants a key as long as its digest"
        self._key = key
        self._others = [other for other in others if other != key]
        self._lifetime_s = lifetime_s
        self._clock = clock

    def issue(
        self, account: AccountId, *, lifetime_s: int | None = None, claims: Mapping[str, object] | None = None
    ) -> Token:
        """A token for an account, with claims besides that say who it is for whoever reads them."""
        lifetime_s = lifetime_s or self._lifetime_s
        now_s = self._clock() // SECOND_US
        ours = {"sub": str(account), "iat": now_s, "exp": now_s + lifetime_s}
        return Token(jwt.encode({**(claims or {}), **ours}, self._key, _ALGORITHM), lifetime_s)

    def check(self, token: str) -> Checked:
        """What a token says. Raises Unauthenticated."""
        for other in self._others:
            try:
                return self._check(token, other)
            except Unauthenticated:
                continue
        return self._check(token, self._key)

    def _check(self, token: str, key: bytes) -> Checked:
        try:
            # Times are compared below, by our own clock.
            claims = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                options={"require": ["exp"], "verify_exp": False, "verify_iat": False},
            )
            account = AccountId(int(claims.get("sub") or claims["user_id"]))
            expires_us = int(claims["exp"]) * SECOND_US
            if not 0 <= account < 1 << 63:
                raise ValueError("no account has such a number")
        except (jwt.InvalidTokenError, LookupError, ValueError, TypeError, OverflowError) as error:
            raise Unauthenticated("The token is not one of this server's: sign in again.") from error
        if self._clock() >= expires_us:
            raise Unauthenticated("The token has expired: sign in again.")
        return Checked(account, expires_us, claims.get("jti"))
