"""Tokens that signing in gives: JWTs, signed by this server and checked without asking records."""

import os
import secrets
from pathlib import Path

import jwt

from mainstem.clock import SECOND_US, Clock
from mainstem.errors import Unauthenticated, Unavailable
from mainstem.identity.model import Token
from mainstem.ids import AccountId

_ALGORITHM = "HS256"
_KEY_BYTES = 32


class Signer:
    """Issues and checks tokens. One signer serves every door that takes one."""

    def __init__(self, key: bytes, lifetime_s: int, clock: Clock) -> None:
        assert len(key) >= _KEY_BYTES, "HS256 wants a key as long as its digest"
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


def signing_key(folder: Path) -> bytes:
    """The secret that signs this server's tokens, made the first time. Only the owner may read the file."""
    path = folder / "signing"
    try:
        if not path.exists():
            _make_secret(path)
        key = path.read_bytes()
    except OSError as error:
        raise Unavailable(f"The signing key {path} cannot be read or made: {error.strerror}.") from error
    if len(key) < _KEY_BYTES:
        raise Unavailable(f"The signing key {path} is damaged: delete it, and everybody has to sign in again.")
    return key


def _make_secret(path: Path) -> None:
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a move, never replaces the key that another process made in the meantime.
        path.hardlink_to(unfinished)
    except FileExistsError:
        pass
    finally:
        unfinished.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
