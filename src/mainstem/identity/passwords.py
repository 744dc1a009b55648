"""Passwords, hashed with argon2id, which takes a tenth of a second on purpose and so never runs on the event loop."""

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from mainstem.errors import Invalid

CHARACTERS_MIN = 8
CHARACTERS_MAX = 256
_AT_ONCE = 2


class Passwords:
    """Hashes and checks passwords, two at a time, since each takes 64 MiB while it runs."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """Raises Invalid when the password is too short or too long."""
        if not CHARACTERS_MIN <= len(password) <= CHARACTERS_MAX:
            raise Invalid(f"A password has {CHARACTERS_MIN} to {CHARACTERS_MAX} characters.", field="password")
        async with self._slots:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Whether this is the password. An account without one (None) costs as much time as any other."""
        if self._nobodys is None:
            self._nobodys = await self.hash("nobody's password")
        # Longer ones can never have been set, and hashing megabytes would be a gift to an attacker.
        tried = password if len(password) <= CHARACTERS_MAX else ""
        async with self._slots:
            matched = await asyncio.to_thread(self._verify, tried, password_hash or self._nobodys)
        return matched and password_hash is not None

    def _verify(self, password: str, password_hash: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False
