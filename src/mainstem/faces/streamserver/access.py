"""Who may come in: keys and tokens in headers, and what opens one job's media to players, which cannot set headers."""

import hashlib
import hmac
import re
from typing import Annotated
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainstem.clock import SECOND_US, Clock
from mainstem.errors import Denied, Unauthenticated
from mainstem.http import Call
from mainstem.identity import KEY_PREFIX, Directory, ForeignTokens, Principal, Scope
from mainstem.ids import AccountId
from mainstem.transcode import MediaGrant

ISSUER, AUDIENCE = "veza-platform", "veza-services"

type Viewer = Principal | MediaGrant | None
"""Who asks for a job or its media; None: anybody, where nobody has to sign in."""


class MediaQuery(msgspec.Struct, kw_only=True):
    """What may stand in the address of a job's media instead of a credential in a header."""

    token: Annotated[str, Meta(description="An API key or a token")] | UnsetType = UNSET
    expires: Annotated[int, Meta(description="When a signed address ends, in seconds since 1970")] | UnsetType = UNSET
    sig: (
        Annotated[str, Meta(description="The signature: HMAC-SHA256 over `job:expires`, in hexadecimal")] | UnsetType
    ) = UNSET


class Access:
    """Looks at what a request shows. Where nothing is required, what it shows only says whose a new job is."""

    def __init__(
        self,
        directory: Directory,
        foreign: ForeignTokens | None,
        linking_key: bytes,
        clock: Clock,
        *,
        required: bool,
        tolerance_s: float,
    ) -> None:
        self.required = required
        self._directory = directory
        self._foreign = foreign
        self._key = linking_key
        self._clock = clock
        self._tolerance_us = int(tolerance_s * SECOND_US)

    async def admit(self, call: Call, *, is_media: bool) -> None:
        """Find out who calls. Raises Unauthenticated where that is required, Denied when his credential is for less.

        Media may be opened by the address as well: `viewer` sees to that.
        """
        assert call.route is not None
        credential = _credential(call)
        if credential is None:
            if self.required and not is_media and not call.route.public:
                raise Unauthenticated("This needs a credential: send an API key or a token")
            return
        try:
            call.principal = await self._authenticate(credential)
        except Unauthenticated:
            if self.required:
                raise
        if self.required and call.principal is not None and call.route.scope is not None:
            _require(call.principal, call.route.scope)

    async def viewer(self, call: Call, job: str) -> Viewer:
        """Who asks for the media of this job. Raises Unauthenticated."""
        if not self.required:
            return None
        if call.principal is not None:
            return call.principal
        query = call.query(MediaQuery)
        if query.token:
            principal = await self._authenticate(query.token)
            _require(principal, Scope.EVENTS_READ)
            return principal
        if query.sig and query.expires is not UNSET and self._is_signed(job, query.expires, query.sig):
            return MediaGrant(job)
        raise Unauthenticated("This needs a credential, or an address that is signed and has not expired")

    def caller(self, call: Call) -> Principal | None:
        """Who asks for anything else; `admit` has seen to it that there is somebody where that is required."""
        return call.principal if self.required else None

    async def again(self, call: Call) -> Principal:
        """Whether the credential of somebody who stays is still good. Raises Unauthenticated, Denied."""
        query = call.query(MediaQuery)
        credential = _credential(call) or query.token
        assert credential
        principal = await self._authenticate(credential)
        _require(principal, Scope.EVENTS_READ)
        return principal

    def link(self, job: str, expires_s: int) -> str:
        """The query that opens a job's media until then."""
        return urlencode({"expires": expires_s, "sig": self._signature(job, expires_s)})

    def carried(self, call: Call) -> str:
        """The query that the addresses in a playlist need, so that they open as the playlist did; mostly none."""
        if not self.required or call.principal is not None or not call.scope["query_string"]:
            return ""
        query = call.query(MediaQuery)
        if query.token:
            return urlencode({"token": query.token})
        return urlencode({"expires": query.expires, "sig": query.sig})

    async def _authenticate(self, credential: str) -> Principal:
        if credential.startswith(KEY_PREFIX):
            return self._directory.known_key(credential) or await self._directory.authenticate_key(credential)
        if self._foreign is not None and self._foreign.claims(credential):
            return self._foreign.check(credential)
        return await self._directory.authenticate_token(credential)

    def _is_signed(self, job: str, expires_s: int, signature: str) -> bool:
        fits = hmac.compare_digest(self._signature(job, expires_s).encode(), signature.lower().encode())
        return fits and self._clock() <= expires_s * SECOND_US + self._tolerance_us

    def _signature(self, job: str, expires_s: int) -> str:
        return hmac.new(self._key, f"{job}:{expires_s}".encode(), hashlib.sha256).hexdigest()


def owner_of(call: Call) -> AccountId | None:
    """Whose it is, what the caller sends; None: nobody's in particular."""
    return None if call.principal is None else call.principal.account


def reader(viewer: Viewer) -> Principal | None:
    """Who reads what is known of a job that he may play; a link stands for nobody, and was checked."""
    return viewer if isinstance(viewer, Principal) else None


_ADDRESS = re.compile(r'URI="([^"]*)"')


def with_query(playlist: str, query: str) -> str:
    """A playlist whose addresses all carry this query."""
    if not query:
        return playlist
    lines = (
        _ADDRESS.sub(rf'URI="\1?{query}"', line) if line.startswith("#") else f"{line}?{query}" if line else line
        for line in playlist.split("\n")
    )
    return "\n".join(lines)


def _credential(call: Call) -> str | None:
    """What stands in the headers."""
    key = call.headers.get("x-api-key")
    if key:
        return key
    scheme, _, credential = call.headers.get("authorization", "").partition(" ")
    return credential.strip() if scheme.lower() == "bearer" and credential.strip() else None


def _require(principal: Principal, scope: Scope) -> None:
    """Raises Denied. Jobs belong to no topic, so a credential that is for some topics is for none of them."""
    if principal.topics is not None:
        raise Denied("This credential is limited to some topics: use one that is not")
    if scope not in principal.scopes:
        raise Denied(f"This credential lacks the scope `{scope.value}`: use one that has it", scope=scope.value)
