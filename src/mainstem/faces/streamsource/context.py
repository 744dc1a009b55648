"""What the modules of this face work with: the capabilities, and who is calling."""

from dataclasses import dataclass

from mainstem.clock import Clock
from mainstem.errors import Unauthenticated
from mainstem.http import Call
from mainstem.identity import KEY_PREFIX, Directory, Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One for the whole face. Each resource's module makes its routes from it."""

    clock: Clock
    directory: Directory

    async def authenticate(self, call: Call) -> Principal:
        """Who shows a token, or an API key of ours, as Authorization: Bearer. Raises Unauthenticated."""
        scheme, *words = call.headers.get("authorization", "").split()
        if scheme.lower() != "bearer" or not words:
            raise Unauthenticated("Send a token as Authorization: Bearer")
        return await self.authenticate_token(words[-1])

    async def authenticate_token(self, token: str) -> Principal:
        """Whose token or API key this is, however it came. Raises Unauthenticated."""
        if token.startswith(KEY_PREFIX):
            return self.directory.known_key(token) or await self.directory.authenticate_key(token)
        return await self.directory.authenticate_token(token)
