"""StreamSource as clients speak it: its errors, times, envelopes and pages, and how they become ours."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainstem.catalogue import (
    BULK_IMPORT,
    EXPORT,
    FeatureOff,
    InvalidEntry,
    InvalidPlace,
    PlaceInUse,
    PlaceNotFound,
)
from mainstem.clock import SECOND_US
from mainstem.errors import (
    Conflict,
    Denied,
    Exhausted,
    Invalid,
    InvalidFields,
    MainstemError,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from mainstem.faces.streamsource.parameters import PER_PAGE, PER_PAGE_MAX, TooManyParameters, query_of
from mainstem.http import (
    JSON,
    Answer,
    BodyTooLarge,
    BodyTooSlow,
    Call,
    MalformedBody,
    MethodNotAllowed,
    NoSuchRoute,
    Route,
    UnsupportedMediaType,
    UpgradeRequired,
    json_answer,
)
from mainstem.identity import Account, Allowance, Role, SignInRefused, SignUpClosed

BODY_BYTES_MAX = 1 << 20
"""Of every route but the import."""

_LINKED_QUERY_BYTES_MAX = 1_000

# Errors


class Throttled(Exhausted):
    """Too many requests in a window."""


class Maintenance(Unavailable):
    """The operator has switched the API off for a while."""


class Refusal(NamedTuple):
    """How a kind of error is told."""

    status: int
    code: str
    """Its name in the documentation; clients never see it."""
    text: str | None = None
    """The words clients know it by; None: the error's own."""


ERRORS: Mapping[type[MainstemError], Refusal] = {
    MalformedBody: Refusal(400, "INVALID_JSON", "Malformed JSON"),
    TooManyParameters: Refusal(400, "INVALID_JSON"),
    Unauthenticated: Refusal(401, "UNAUTHENTICATED", "Unauthorized"),
    SignInRefused: Refusal(401, "UNAUTHENTICATED", "Invalid email or password"),
    SignUpClosed: Refusal(403, "PERMISSION_DENIED"),
    FeatureOff: Refusal(403, "PERMISSION_DENIED", "This feature is not currently available"),
    Denied: Refusal(403, "PERMISSION_DENIED", "You are not authorized to perform this action"),
    NoSuchRoute: Refusal(404, "NO_ROUTE", "Not Found"),
    PlaceNotFound: Refusal(404, "NOT_FOUND", "Location not found"),
    NotFound: Refusal(404, "NOT_FOUND", "Record not found"),
    MethodNotAllowed: Refusal(405, "METHOD_NOT_ALLOWED", "Method Not Allowed"),
    BodyTooSlow: Refusal(408, "REQUEST_TIMEOUT"),
    Conflict: Refusal(409, "CONFLICT"),
    BodyTooLarge: Refusal(413, "PAYLOAD_TOO_LARGE"),
    UnsupportedMediaType: Refusal(415, "UNSUPPORTED_MEDIA_TYPE"),
    InvalidPlace: Refusal(422, "INVALID_REQUEST", "Validation failed"),
    PlaceInUse: Refusal(422, "INVALID_REQUEST", "Cannot delete location"),
    InvalidFields: Refusal(422, "INVALID_REQUEST"),
    Invalid: Refusal(422, "INVALID_REQUEST"),
    UpgradeRequired: Refusal(426, "UPGRADE_REQUIRED"),
    Exhausted: Refusal(429, "RATE_LIMITED", "Too many requests. Please try again later."),
    Maintenance: Refusal(503, "UNAVAILABLE", "The API is currently under maintenance. Please try again later."),
    Unavailable: Refusal(503, "UNAVAILABLE"),
}
"""An error is told as the nearest of its kinds that is listed here."""

INTERNAL = Refusal(500, "INTERNAL", "Internal Server Error")

CODES: Mapping[str, int] = {refusal.code: refusal.status for refusal in (*ERRORS.values(), INTERNAL)}


_FEATURES_OFF = {
    BULK_IMPORT: "Bulk import is not currently available",
    EXPORT: "Export feature is not currently available",
}


class Failure(msgspec.Struct, kw_only=True):
    """What went wrong, in words that programs may compare."""

    error: str
    maintenance: bool | UnsetType = UNSET
    """True while the operator has switched the API off."""
    details: dict[str, list[str]] | UnsetType = UNSET
    """What is wrong with each field of a location."""
    errors: list[str] | UnsetType = UNSET
    """What is wrong with an entry of an ignore list, a sentence each."""


def error_answer(error: MainstemError | None) -> Answer:
    """The answer to an error, None being one that nobody foresaw."""
    refusal = refusal_of(error)
    said = refusal.text or (error.message if error is not None else "")
    if isinstance(error, FeatureOff):
        said = _FEATURES_OFF.get(error.name, said)
    failure = Failure(
        error=said,
        maintenance=True if isinstance(error, Maintenance) else UNSET,
        details=error.by_field if isinstance(error, InvalidPlace | PlaceInUse) else UNSET,
        errors=error.sentences if isinstance(error, InvalidEntry) else UNSET,
    )
    return json_answer(failure, refusal.status, _error_headers(refusal.status, error))


def refusal_of(error: MainstemError | None) -> Refusal:
    for kind in type(error).__mro__:
        if kind in ERRORS:
            return ERRORS[kind]
    return INTERNAL


def _error_headers(status: int, error: MainstemError | None) -> list[tuple[str, str]]:
    if error is None:
        return []
    if status == 405:
        return [("allow", str(error.details.get("allow", "")))]
    if status in (429, 503):
        return [("retry-after", str(max(1, round(float(str(error.details.get("retry_after_s", 1)))))))]
    return []


# Values

type Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


def moment(time_us: int) -> Moment:
    """`2025-07-05T10:00:00.000Z`."""
    second, rest = divmod(time_us, SECOND_US)
    return f"{_second(second)}.{rest // 1_000:03d}Z"


def moment_or_null(time_us: int | None) -> Moment | None:
    return None if time_us is None else moment(time_us)


def whole_second(time_us: int) -> Moment:
    """`2025-07-05T10:00:00Z`, as exports and pushes have it."""
    return f"{_second(time_us // SECOND_US)}Z"


def whole_second_or_null(time_us: int | None) -> Moment | None:
    return None if time_us is None else whole_second(time_us)


@lru_cache(maxsize=4_096)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")


# Accounts


class UserOut(msgspec.Struct, kw_only=True):
    id: int
    email: str | None
    """Null for an account that nobody signs in to."""
    role: Role
    created_at: Moment
    updated_at: Moment


def user_out(account: Account) -> UserOut:
    return UserOut(
        id=account.id,
        email=account.email,
        role=account.role,
        created_at=moment(account.created_us),
        updated_at=moment(account.updated_us),
    )


# Bodies, as they are documented: what really comes is read more kindly


def partial(kind: type[msgspec.Struct]) -> Any:
    """The same body with nothing required, for changes."""
    fields = [
        (field.name, field.type if field.default is UNSET else field.type | UnsetType, UNSET)
        for field in msgspec.structs.fields(kind)
    ]
    return msgspec.defstruct(f"{kind.__name__.removesuffix('In')}Changes", fields, namespace={"__doc__": kind.__doc__})


# Routes


def patch_and_put(route: Route) -> Iterator[Route]:
    """A route that changes something in part, and beside it the same for clients that say PUT."""
    yield route
    yield msgspec.structs.replace(route, method="PUT", name=f"{route.name.removesuffix('_update')}_replace")


# Answers


def enveloped(name: str, view: msgspec.Struct, status: int = 200) -> Answer:
    """An object, and under one key more the same object again: one family of clients reads the object itself, another
    what is under its name."""
    body = msgspec.json.encode(view)
    return Answer(status, b'%b,"%b":%b}' % (body[:-1], name.encode(), body), JSON)


class PageQuery(msgspec.Struct, kw_only=True):
    """What cannot be a number counts as not given."""

    page: Annotated[int, Meta(description="Which page, from 1 on", ge=1)] = 1
    per_page: Annotated[int, Meta(description="How long a page is", ge=1, le=PER_PAGE_MAX)] = PER_PAGE


class PageMeta(msgspec.Struct, frozen=True):
    current_page: int
    total_pages: int
    total_count: int
    per_page: int


def page_meta(page: int, per_page: int, total: int) -> PageMeta:
    """`total_pages` is 0 when there is nothing."""
    return PageMeta(page, -(-total // per_page), total, per_page)


def page_headers(call: Call, meta: PageMeta) -> list[tuple[str, str]]:
    """Where this page is among all, and links to its neighbours (RFC 8288), which repeat the question: one that is
    long makes more of a header than proxies take, and gets none."""
    pages = {"first": 1, "last": meta.total_pages}
    if meta.current_page > 1:
        pages["prev"] = min(meta.current_page - 1, max(meta.total_pages, 1))
    if meta.current_page < meta.total_pages:
        pages["next"] = meta.current_page + 1
    headers = [
        ("x-total-count", str(meta.total_count)),
        ("x-page", str(meta.current_page)),
        ("x-per-page", str(meta.per_page)),
    ]
    if len(call.scope["query_string"]) > _LINKED_QUERY_BYTES_MAX:
        return headers
    links = [f'<{_link(call, page)}>; rel="{relation}"' for relation, page in pages.items() if page >= 1]
    return [*headers, ("link", ", ".join(links))]


def _link(call: Call, page: int) -> str:
    asked = {name: value for name, value in query_of(call).items() if isinstance(value, str)}
    return f"{call.raw_path}?{urlencode({**asked, 'page': page})}"


def allowance_headers(allowance: Allowance, reset_s: int) -> list[tuple[str, str]]:
    """What is left in the window that counts most for the caller; it ends at `reset_s` since 1970."""
    return [
        ("x-ratelimit-limit", str(allowance.limit)),
        ("x-ratelimit-remaining", str(allowance.remaining)),
        ("x-ratelimit-reset", str(reset_s)),
    ]
