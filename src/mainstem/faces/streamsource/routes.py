"""The face: who may come in and in which order that is checked, and what every answer carries."""

from collections.abc import Sequence
from functools import cached_property

from mainstem.errors import MainstemError
from mainstem.faces.streamsource import docs, wire
from mainstem.faces.streamsource.context import Context
from mainstem.faces.streamsource.throttle import Throttle
from mainstem.http import Answer, Call, Cors, MethodNotAllowed, NoSuchRoute, Route
from mainstem.identity import RateLimited

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

    def __init__(self, context: Context, throttle: Throttle, version: str) -> None:
        self._context = context
        self._throttle = throttle
        self._version = version

    # Before and after

    async def admit(self, call: Call) -> None:
        """Count the request, then find out who calls: a client without a token is told so in maintenance, too."""
        assert call.route is not None
        self._throttle.request(call)
        if not call.route.public:
            call.principal = await self._context.authenticate(call)

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
            *docs.routes(self, self._version),
        ]
