"""Our own streams: a link that leads back to this server is not fetched but asked of the engine behind it."""

from typing import Protocol

from mainstem.catalogue.liveness.address import Target
from mainstem.catalogue.liveness.verdict import Verdict


class OwnStreams(Protocol):
    """Who knows what this server itself plays. The composition root hands one in."""

    async def ask(self, target: Target) -> Verdict | None:
        """What is known of one of our own addresses; None when it is none of ours. Asks no network."""


class NoOwnStreams:
    """A server that plays nothing itself."""

    async def ask(self, target: Target) -> Verdict | None:
        return None
