"""Tokens that signing in gives: JWTs, signed by this server and checked without asking records."""

import jwt

from mainstem.clock import SECOND_US, Clock
from mainstem.errors import Unauthenticated
from mainstem.identity.keyfiles import KEY_BYTES
from mainstem.identity.model import Token
from mainstem.ids import AccountId

_ALGORITHM = "HS256"


class Signer:
    """Issues and checks tokens. One signer serves every door that takes one."""

    def __init__(self, key: bytes, lifetime_s: int, clock: Clock) -> None:
        assert len(key) >= KEY_BYTES, "HS256 wants a key as long as its digest"
        self._key = key
        self._lifetime_s = lifetime_s
        self._clock = clock

    def issue(self, account: AccountId) -> Token:
        now_s = self._clock() // SECOND_US
        claims = {"sub": str(account), "iat": now_s, "exp": now_s + self._lifetime_s}
        return Token(jwt.encode(claims, self._key, _ALGORITHM), self._lifetime_s)

    def check(self, token: str) -> tuple[AccountId, int]:
        """Whose token this is and when it expires, in microseconds. Raises Unauthenticated."""
        try:
            # Times are compared below, by our own clock.
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                options={"require": ["sub", "exp"], "verify_exp": False, "verify_iat": False},
            )
            account, expires_us = AccountId(int(claims["sub"])), int(claims["exp"]) * SECOND_US
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError) as error:
            raise Unauthenticated("The token is not one of this server's: sign in again.") from error
        if self._clock() >= expires_us:
            raise Unauthenticated("The token has expired: sign in again.")
        return account, expires_us
