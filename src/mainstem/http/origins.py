"""Pages of other origins: which of them a face lets in, told to browsers in headers (Fetch, section 3.2)."""

from typing import Protocol, runtime_checkable

import msgspec

from mainstem.http.routes import Answer, Call


class Cors(msgspec.Struct, frozen=True, kw_only=True):
    """What pages of other origins may do with a face. Credentials in cookies are never asked for."""

    origins: frozenset[str]
    """As browsers send them, such as `http://localhost:3000`; `*` is every one."""
    methods: tuple[str, ...]
    request_headers: tuple[str, ...]
    exposed_headers: tuple[str, ...]
    max_age_s: int

    def headers(self, call: Call) -> list[tuple[str, str]]:
        """What an answer to this call carries. A page that is not let in gets the answer, too, but may not read it."""
        return self.headers_for(call.headers.get("origin"))

    def headers_for(self, origin: str | None) -> list[tuple[str, str]]:
        """What an answer carries to a page of this origin, or to who is no page."""
        allowed = self._allowed(origin)
        varies = [] if "*" in self.origins else [("vary", "origin")]
        if allowed is None:
            return varies
        exposed = ("access-control-expose-headers", ", ".join(self.exposed_headers))
        return [("access-control-allow-origin", allowed), exposed, *varies]

    def preflight(self, call: Call) -> Answer | None:
        """The answer to a browser that asks before it sends; None: the call is no such question."""
        if call.method != "OPTIONS" or "access-control-request-method" not in call.headers:
            return None
        if self._allowed(call.headers.get("origin")) is None:
            return Answer(204)
        return Answer(
            204,
            headers=[
                ("access-control-allow-methods", ", ".join(self.methods)),
                ("access-control-allow-headers", ", ".join(self.request_headers)),
                ("access-control-max-age", str(self.max_age_s)),
            ],
        )

    def _allowed(self, origin: str | None) -> str | None:
        """The origin to name; a comparison ignores case, because people write host names as they like."""
        if origin is None:
            return None
        if "*" in self.origins:
            return "*"
        return origin if origin.lower() in self._folded else None

    @property
    def _folded(self) -> frozenset[str]:
        return frozenset(origin.lower() for origin in self.origins)


@runtime_checkable
class CrossOrigin(Protocol):
    """A face that pages of other origins may use."""

    @property
    def cors(self) -> Cors: ...
