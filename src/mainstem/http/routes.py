"""Routes as data, and the two nouns that pass through them: a call comes in, an answer goes out.

The ASGI application, the OpenAPI document and the reference documentation all come from the same table of routes.
"""

import asyncio
import re
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
    MutableMapping,
    Sequence,
)
from functools import cache
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.requests import cookie_parser

from mainstem.errors import Invalid, MainstemError, Unauthenticated
from mainstem.http.bodies import Receive, body_chunks, decoded, read_body, too_large
from mainstem.http.errors import ClientGone, MalformedBody, UnsupportedMediaType
from mainstem.http.proxies import TrustedProxies
from mainstem.http.sockets import Socket
from mainstem.identity import Allowance, Principal, Scope
from mainstem.ids import random_id

JSON = "application/json"


class Limits(msgspec.Struct, frozen=True):
    body_bytes_max: int = 16 << 20
    body_pause_s: float = 30.0
    proxies: TrustedProxies = TrustedProxies()


async def _nothing() -> None:
    pass


class Answer(msgspec.Struct):
    """What goes back. The application adds the headers that every answer of the face carries, and compression."""

    status: int = 200
    body: bytes = b""
    media_type: str = JSON
    headers: list[tuple[str, str]] = []
    chunks: AsyncGenerator[bytes] | None = None
    """A body that is made while it is sent, as fast as the client takes it; then there is no other."""
    compress: bool = True
    """Whether the body gains from it."""
    finish: Callable[[], Awaitable[None]] = _nothing
    """Called once when the chunks are sent, or will not be."""


def json_answer(value: object, status: int = 200, headers: list[tuple[str, str]] | None = None) -> Answer:
    return Answer(status, msgspec.json.encode(value), JSON, headers or [])


class Reply(msgspec.Struct, frozen=True):
    """An answer that a route may give, for the documentation."""

    description: str
    kinds: Sequence[Any] = ()
    """The types that its JSON body may have; none when it has no body, or none in JSON."""
    media_type: str = JSON
    also_as: Sequence[str] = ()
    """Further media types that it comes in when it is asked for."""


class Header(msgspec.Struct, frozen=True):
    name: str
    description: str
    characters_max: int


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path: how to answer it, and all that its documentation says."""

    method: str
    path: str
    """Path parameters in braces; each takes one segment, percent-encoded slashes included."""
    pattern: str = ""
    """A regular expression that finds the path in any case; empty: the path itself says it all."""
    name: str
    summary: str
    handler: Callable[["Call"], Awaitable[Answer]]
    replies: Mapping[int, Reply]
    errors: Sequence[str] = ()
    """Codes of the face's own table, beside those that every route may answer with."""
    tag: str = ""
    description: str = ""
    scope: Scope | None = None
    """The scope that a credential needs, as documented; the capability's verb is what checks it."""
    public: bool = False
    """No credential is asked for."""
    query: Any = None
    """The struct of its query parameters."""
    headers: Sequence[Header] = ()
    key_in_query: bool = False
    """The credential may come as `?api_key=`, from clients that cannot set headers."""
    socket: Callable[["Call", Socket], Awaitable[None]] | None = None
    """What serves a client that asks for a WebSocket here; `handler` answers those who do not."""
    subprotocols: Sequence[str] = ()
    """Those that the WebSocket speaks; it goes on without one where the client offers none of them."""
    message_bytes_max: int | None = None
    """The largest message that the WebSocket takes; None: as large as a body."""
    bodies: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """Media type → type of the body; the first is the usual one. Empty: no body."""
    body_bytes_max: int | None = None
    """The largest body that the route takes, where that is less than what the server takes."""


class Face(Protocol):
    """What an API decides for itself: its routes, who may come in, how it says no."""

    @property
    def title(self) -> str: ...

    @property
    def prefixes(self) -> Sequence[str]:
        """Beginnings of paths that are this face's own, for answers to paths that nobody has."""

    @property
    def routes(self) -> Sequence[Route]: ...

    @property
    def codes(self) -> Mapping[str, int]:
        """Error code → HTTP status, for the documentation."""

    @property
    def error_kind(self) -> Any:
        """The type of an error's JSON body."""

    async def admit(self, call: "Call") -> None:
        """Find out who is calling and count it. Raises Unauthenticated or Exhausted."""

    def headers(self, call: "Call") -> list[tuple[str, str]]:
        """What every answer to this call carries."""

    def refuse(self, call: "Call", error: MainstemError | None) -> Answer:
        """The answer to an error; None is one that nobody foresaw."""


class Call:
    """One request on its way through a face."""

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, limits: Limits) -> None:
        self.began_s = time.perf_counter()
        self.scope = scope
        self.method: str = scope["method"]
        self.raw_path: str = scope["raw_path"].decode("latin-1")
        self.headers = Headers(raw=scope["headers"])
        self.address: str = limits.proxies.client(scope["client"][0] if scope["client"] else "", self.headers)
        self.request_id = _request_id(self.headers.get("x-request-id"))
        self.route: Route | None = None
        self.path_parameters: Mapping[str, str] = {}
        self.principal: Principal | None = None
        self.allowance: Allowance | None = None
        self._receive = receive
        self._limits = limits

    @property
    def caller(self) -> Principal:
        """Whoever calls. Raises Unauthenticated on a public route without a credential."""
        if self.principal is None:
            raise Unauthenticated("This needs a credential: send an API key or a token")
        return self.principal

    @property
    def media_type(self) -> str:
        """The Content-Type in lower case, without its parameters; "" when there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def cookies(self) -> dict[str, str]:
        return cookie_parser(self.headers.get("cookie", ""))

    def path(self, name: str) -> str:
        """A path parameter, percent-decoded. Raises Invalid when it is no UTF-8."""
        try:
            return unquote_to_bytes(self.path_parameters[name]).decode()
        except UnicodeDecodeError as error:
            raise Invalid(f"{name} in the path is not valid UTF-8 after percent-decoding", field=name) from error

    def query[T](self, kind: type[T]) -> T:
        """The query string as a struct; list fields may be repeated. Raises Invalid, naming the parameter."""
        return convert_query(self.scope["query_string"], kind)

    async def body(self) -> bytes:
        """The whole body, decompressed, within the limit."""
        limit = self._limits.body_bytes_max
        if self.route is not None and self.route.body_bytes_max is not None:
            limit = min(limit, self.route.body_bytes_max)
        encoding = self.headers.get("content-encoding", "").strip().lower()
        length = self.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            raise too_large(limit)
        return await decoded(await read_body(self._receive, limit, self._limits.body_pause_s), encoding, limit)

    async def chunks(self, limit_bytes: int) -> AsyncIterator[bytes]:
        """The body as it arrives, for routes that take more than what fits in memory; they set the limit themselves.

        Raises BodyTooLarge before the first byte when the client says how much it is, UnsupportedMediaType when it is
        compressed, BodyTooSlow and ClientGone.
        """
        if self.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
            raise UnsupportedMediaType("This route takes no Content-Encoding: send the body as it is", accepted=[])
        length = self.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit_bytes:
            raise too_large(limit_bytes)
        async for chunk in body_chunks(self._receive, limit_bytes, self._limits.body_pause_s):
            yield chunk

    async def unless_gone[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Do long work for the client, and give it up when he closes the connection. Call it after the body is read."""
        working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(self._leave())
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClientGone
            return working.result()
        finally:
            for task in (working, leaving):
                task.cancel()
            await asyncio.gather(working, leaving, return_exceptions=True)

    async def _leave(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def json[T](self, kind: type[T]) -> T:
        """The body as a struct. Raises MalformedBody when it is no JSON, Invalid when it is the wrong JSON."""
        if self.media_type not in (JSON, "") and not self.media_type.endswith("+json"):
            raise UnsupportedMediaType(
                f"This route reads {JSON}, not {self.media_type}", accepted=[JSON], content_type=self.media_type
            )
        return decode_json(await self.body(), kind)


def decode_json[T](body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise invalid_field(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"The body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise MalformedBody("The body is nested too deeply") from error


def convert_query[T](query_string: bytes, kind: type[T]) -> T:
    """Raises Invalid for an unknown or repeated parameter and for a value that does not fit."""
    try:
        given = QueryParams(parse_qsl(query_string.decode(), keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError as error:
        raise Invalid("The query string is not valid UTF-8") from error
    values: dict[str, object] = {}
    struct: Any = kind
    lists = _list_fields(struct)
    for name in given:
        texts = given.getlist(name)
        if name in lists:
            values[name] = texts
        elif len(texts) == 1:
            values[name] = texts[0]
        else:
            raise Invalid(f"{name} is given {len(texts)} times; give it once", field=name)
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_field(error) from error


_PLACE = re.compile(r"^(?P<reason>.*?)(?: - at `(?:key in )?\$\.?(?P<field>[^`]*)`)?$", re.DOTALL)
_UNKNOWN_FIELD = re.compile(r"unknown field `(?P<field>[^`]*)`")
_MISSING_FIELD = re.compile(r"missing required field `(?P<field>[^`]*)`")


def invalid_field(error: msgspec.ValidationError) -> Invalid:
    """What msgspec found, as an error that names the field and the reason."""
    match = _PLACE.match(str(error))
    assert match is not None
    reason, field = match["reason"], match["field"] or ""
    named = _UNKNOWN_FIELD.search(reason) or _MISSING_FIELD.search(reason)
    if named is not None:
        field = f"{field}.{named['field']}" if field else named["field"]
    message = f"{field}: {reason}" if field and named is None else reason
    return Invalid(message, field=field or None, reason=reason)


@cache
def _list_fields(kind: Any) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(kind) if _is_list(field.type))


def _is_list(kind: Any) -> bool:
    info = msgspec.inspect.type_info(kind)
    if isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    return isinstance(info, msgspec.inspect.ListType)


REQUEST_ID = re.compile(r"[!-~]{1,128}")
"""The ids of clients' own making that are taken over."""
"""What a client's own request id must be to be taken."""


def _request_id(given: str | None) -> str:
    """The client's own id when it is printable and short, else a fresh one."""
    if given is not None and REQUEST_ID.fullmatch(given):
        return given
    return random_id("req")
