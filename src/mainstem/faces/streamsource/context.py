"""What the modules of this face work with: the capabilities, and who is calling."""

from dataclasses import dataclass

from mainstem.catalogue import (
    MAINTENANCE,
    Flags,
    IgnoreLists,
    Imports,
    ListingFigures,
    Listings,
    Places,
    Streamers,
    Timestamps,
    require_reader,
)
from mainstem.clock import Clock
from mainstem.errors import Unauthenticated
from mainstem.faces.streamsource import wire
from mainstem.faces.streamsource.throttle import Throttle
from mainstem.http import Call
from mainstem.identity import KEY_PREFIX, Accounts, Directory, Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One for the whole face. Each resource's module makes its routes from it."""

    clock: Clock
    throttle: Throttle
    directory: Directory
    accounts: Accounts
    flags: Flags
    listings: Listings
    imports: Imports
    figures: ListingFigures
    streamers: Streamers
    places: Places
    ignore_lists: IgnoreLists
    timestamps: Timestamps

    def token_of(self, call: Call) -> str:
        """What the client shows as Authorization: Bearer. Raises Unauthenticated."""
        words = call.headers.get("authorization", "").split()
        if len(words) < 2 or words[0].lower() != "bearer":
            raise Unauthenticated("Send a token as Authorization: Bearer")
        return words[-1]

    async def authenticate(self, call: Call) -> Principal:
        """Who shows a token, or an API key of ours, as Authorization: Bearer.

        Raises Unauthenticated, and NotAllowed for a key that is not for reading or is limited to some topics.
        """
        principal = await self.authenticate_token(self.token_of(call))
        require_reader(principal)
        return principal

    async def authenticate_token(self, token: str) -> Principal:
        """Whose token or API key this is, however it came. Raises Unauthenticated."""
        if token.startswith(KEY_PREFIX):
            return self.directory.known_key(token) or await self.directory.authenticate_key(token)
        return await self.accounts.authenticate(token)

    async def require_open(self) -> None:
        """Raise Maintenance while the operator has switched the API off."""
        if await self.flags.is_on(MAINTENANCE):
            raise wire.Maintenance("The API is under maintenance")
