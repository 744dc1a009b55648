"""The face: who may come in and in which order that is checked, and what every answer carries."""

from collections.abc import Sequence
from functools import cached_property

from mainstem.errors import MainstemError
from mainstem.faces.streamsource import (
    accounts,
    analytics,
    docs,
    flags,
    ignore,
    listings,
    places,
    streamers,
    timestamps,
    transfer,
    wire,
)
from mainstem.faces.streamsource import cable as cables
from mainstem.faces.streamsource import feed as feeds
from mainstem.faces.streamsource.cable import Cable
from mainstem.faces.streamsource.context import Context
from mainstem.faces.streamsource.feed import FeedFace
from mainstem.http import Answer, Call, Cors, MethodNotAllowed, NoSuchRoute, Route
from mainstem.identity import RateLimited, Role

_CORS = Cors(
    origins=frozenset({"*"}),
    methods=("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"),
    # Browsers leave Authorization out of what * means.
    request_headers=("*", "Authorization"),
    exposed_headers=(
        "Authorization",
        "X-RateLimit-Limit",
        "X-RateLimit-Remaining",
        "X-RateLimit-Reset",
        "Retry-After",
        "X-Total-Count",
        "X-Page",
        "X-Per-Page",
        "Link",
        "ETag",
        "X-Request-Id",
    ),
    max_age_s=7_200,
)
"""A page of any origin may ask: a token is what lets one in, and browsers do not add that by themselves."""


class StreamSource:
    """A catalogue of live streams elsewhere."""

    title = "StreamSource"
    prefixes = ("/api/v1", "/cable", "/swagger")
    codes = wire.CODES
    error_kind = wire.Failure
    cors = _CORS

    def __init__(self, context: Context, cable: Cable, feed: FeedFace, version: str) -> None:
        self._context = context
        self._cable = cable
        self._feed = feed
        self._throttle = context.throttle
        self._version = version

    # Before and after

    async def admit(self, call: Call) -> None:
        """Count the request, find out who calls, and look whether the API is open, in this order: a client without a
        token is told so in maintenance, too."""
        assert call.route is not None
        self._throttle.request(call)
        if not call.route.public:
            call.principal = await self._context.authenticate(call)
        if not _works_in_maintenance(call, call.route):
            await self._context.require_open()

    def headers(self, call: Call) -> list[tuple[str, str]]:
        if call.allowance is None:
            return []
        return wire.allowance_headers(call.allowance, self._throttle.reset_s(call.allowance))

    def refuse(self, call: Call, error: MainstemError | None) -> Answer:
        if isinstance(error, NoSuchRoute | MethodNotAllowed):  # nobody was admitted, so nothing was counted
            try:
                self._throttle.request(call)
            except RateLimited as limited:
                error = limited
        return wire.error_answer(error)

    @cached_property
    def routes(self) -> Sequence[Route]:
        return [
            *accounts.routes(self._context),
            *places.routes(self._context),
            *timestamps.routes(self._context),
            *ignore.routes(self._context),
            *listings.routes(self._context),
            *transfer.routes(self._context),
            *streamers.routes(self._context),
            *analytics.routes(self._context),
            *feeds.routes(self._feed),
            *cables.routes(self._cable),
            *flags.routes(self._context),
            *docs.routes(self, self._version),
        ]


def _works_in_maintenance(call: Call, route: Route) -> bool:
    """Signing in looks itself whether it is an administrator who does; he must be able to end it."""
    if route.name in accounts.DURING_MAINTENANCE or route.tag == docs.TAG:
        return True
    return route.tag == flags.TAG and call.principal is not None and call.principal.role is Role.ADMIN
