"""Evernest as clients speak it: its envelope, parameters, rights, times and errors, and how they become ours."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, UnsetType

from mainstem.clock import SECOND_US
from mainstem.errors import (
    Conflict,
    Denied,
    Exhausted,
    Invalid,
    MainstemError,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from mainstem.events import (
    ManagerStays,
    Message,
    MessageExpired,
    MessageStatus,
    MessageTooLarge,
    NoMessages,
    NoSuchMessage,
    RangeTooLarge,
    SchemaViolation,
    Topic,
    TopicExists,
    TopicNotFound,
    WrongPassword,
)
from mainstem.http import (
    Answer,
    BodyTooLarge,
    BodyTooSlow,
    MalformedBody,
    MethodNotAllowed,
    NoSuchRoute,
    UnsupportedMediaType,
)
from mainstem.identity import AccountNotFound, NameTaken, Right, Source, SourceNotFound
from mainstem.ids import TopicId

MEDIA_TYPE = "application/json; charset=utf-8"
NOT_KEPT = ("cache-control", "no-store")
"""A GET may push, and any answer may show a key: no cache on the way may keep one."""

# Errors


class MissingArgument(Invalid):
    """A parameter that is needed was not given."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is needed: give it in the query string or in a JSON body.")
        self.names = (name,)


class BadArgument(Invalid):
    """A parameter, or an id in the path, has a value that it cannot have."""

    def __init__(self, message: str, name: str, reason: str) -> None:
        super().__init__(message)
        self.names = (name,)
        self.reason = reason


class Refusal(NamedTuple):
    """How an error is told."""

    status: int
    message: str
    arguments: Sequence[str] = ()
    """Those of these that the route has are blamed, or all where it has none of them."""
    reason: str = ""


_UNFORESEEN = "Something went wrong here; it was logged under this request's id."
_METHODS = "Every path takes GET and POST, and no other method."
_BAD = "BadArgument"
_REQUEST = "BadRequest"
_SERVER = "ServerError"

ERRORS: Mapping[type[MainstemError], Refusal] = {
    MissingArgument: Refusal(400, "MissingArgument"),
    BadArgument: Refusal(400, _BAD),
    TopicNotFound: Refusal(400, _BAD, ["StreamId"], "EventStreamIdDoesNotExist"),
    SourceNotFound: Refusal(400, _BAD, ["SourceId"], "SourceIdDoesNotExist"),
    AccountNotFound: Refusal(400, _BAD, ["UserId"], "UserIdDoesNotExist"),
    TopicExists: Refusal(400, _BAD, ["StreamName"], "EventStreamNameTaken"),
    NameTaken: Refusal(400, _BAD, ["SourceName"], "SourceNameTaken"),
    NoSuchMessage: Refusal(400, _BAD, ["EventId", "FromEventId", "ToEventId"], "InvalidEventId"),
    MessageExpired: Refusal(400, _BAD, ["EventId", "FromEventId"], "Expired"),
    RangeTooLarge: Refusal(400, _BAD, ["FromEventId", "ToEventId"], "RangeTooLarge"),
    NoMessages: Refusal(400, _BAD, ["StreamId"], "EmptyStream"),
    MessageTooLarge: Refusal(400, _BAD, ["Message"], "InvalidString"),
    SchemaViolation: Refusal(400, _BAD, ["Message"], "SchemaViolation"),
    WrongPassword: Refusal(400, _BAD, ["Password"], "WrongPassword"),
    ManagerStays: Refusal(403, _BAD, ["UserId"], "CannotDestituteAdmin"),
    Denied: Refusal(403, _BAD, ["Key"], "AdminAccessDenied"),
    MalformedBody: Refusal(400, _REQUEST),
    Invalid: Refusal(400, _REQUEST),
    Unauthenticated: Refusal(401, _REQUEST),
    NoSuchRoute: Refusal(404, _REQUEST),
    NotFound: Refusal(404, _REQUEST),
    MethodNotAllowed: Refusal(405, _REQUEST),
    BodyTooSlow: Refusal(408, _REQUEST),
    Conflict: Refusal(409, _REQUEST),
    BodyTooLarge: Refusal(413, _REQUEST),
    UnsupportedMediaType: Refusal(415, _REQUEST),
    Exhausted: Refusal(429, _REQUEST, reason="TooManyRequests"),
    Unavailable: Refusal(503, _SERVER, reason="BackendError"),
}
"""An error is told as the nearest of its kinds that is listed here."""

INTERNAL = Refusal(500, _SERVER, reason="UnknownFrontError")

CODES: Mapping[str, int] = {
    f"{refusal.message} {refusal.reason}".rstrip(): refusal.status for refusal in (*ERRORS.values(), INTERNAL)
}
"""Each message with its reason."""

_DENIED = {"read": "ReadAccessDenied", "write": "WriteAccessDenied", "manage": "AdminAccessDenied"}


class ErrorFacts(msgspec.Struct, rename="pascal", kw_only=True):
    message: str
    help_message: str
    arguments: list[str] | UnsetType = UNSET
    argument: str | UnsetType = UNSET
    """The first of them, as servers before us sent it."""
    reason: str | UnsetType = UNSET


class Success(msgspec.Struct, rename="pascal", kw_only=True):
    """What `success` writes, for the documentation."""

    success: bool = True
    utc_time: str
    response: dict[str, Any]


class Failure(msgspec.Struct, rename="pascal", kw_only=True):
    success: bool = False
    utc_time: str
    error: ErrorFacts


def error_answer(error: MainstemError | None, now_us: int, path_names: Sequence[str] = ()) -> Answer:
    """The answer to an error, None being one that nobody foresaw. `path_names` are the ids in the route's path."""
    refusal = _refusal(error)
    names: Sequence[str] = refusal.arguments
    reason = refusal.reason
    if isinstance(error, MissingArgument | BadArgument):
        names = error.names
        reason = getattr(error, "reason", "")
    elif isinstance(error, Denied) and not isinstance(error, ManagerStays):
        reason = _DENIED.get(str(error.details.get("right")), reason)
    names = [name for name in names if name in path_names] or list(names)
    facts = ErrorFacts(
        message=refusal.message,
        help_message=_help(error),
        arguments=names or UNSET,
        argument=names[0] if isinstance(error, MissingArgument) else UNSET,
        reason=reason or UNSET,
    )
    failure = Failure(utc_time=format_time(now_us), error=facts)
    return Answer(refusal.status, msgspec.json.encode(failure), MEDIA_TYPE, _error_headers(refusal.status, error))


def _help(error: MainstemError | None) -> str:
    if isinstance(error, MethodNotAllowed):
        return _METHODS
    return _UNFORESEEN if error is None else error.message


def _refusal(error: MainstemError | None) -> Refusal:
    for kind in type(error).__mro__:
        if kind in ERRORS:
            return ERRORS[kind]
    return INTERNAL


def _error_headers(status: int, error: MainstemError | None) -> list[tuple[str, str]]:
    if status == 405:
        return [("allow", "GET, POST")]
    if status in (429, 503) and error is not None:
        return [("retry-after", str(max(1, round(float(str(error.details.get("retry_after_s", 1)))))))]
    return []


# Answers


def success(response: object, now_us: int) -> Answer:
    envelope = {"Success": True, "UtcTime": format_time(now_us), "Response": response}
    return Answer(200, msgspec.json.encode(envelope), MEDIA_TYPE)


def format_time(moment_us: int) -> str:
    """ISO 8601 in UTC with seven digits of a second."""
    if moment_us >= SECOND_US:  # then the digits say it all, which is quicker than to reckon
        digits = str(moment_us)
        return f"{_format_second(digits[:-6])}.{digits[-6:]}0Z"
    second, rest = divmod(moment_us, SECOND_US)
    return f"{_format_second(str(second))}.{rest:06d}0Z"


@lru_cache(maxsize=1_024)
def _format_second(digits: str) -> str:
    second = int(digits)
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")


class EventOut(msgspec.Struct, rename="pascal", gc=False):
    id: int
    message: str
    date: str
    author_id: int
    author_name: str
    parent_stream_id: int
    parent_stream_name: str


class Pushed(msgspec.Struct, rename="pascal"):
    event_id: int
    event: EventOut


class StreamOut(msgspec.Struct, rename="pascal"):
    id: int
    name: str
    count: int
    last_event_id: int


class Related(msgspec.Struct, rename="pascal"):
    id: int
    right: str


class Numbered(msgspec.Struct, rename="pascal"):
    id: int


class SourceOut(msgspec.Struct, rename="pascal"):
    key: str
    name: str
    id: int
    user: Numbered
    streams: list[Related]


class UserOut(msgspec.Struct, rename="pascal"):
    id: int
    name: str
    sources: list[Numbered] | UnsetType = UNSET
    streams: list[Numbered] | UnsetType = UNSET


def event_out(topic: Topic, message: Message) -> EventOut:
    return EventOut(
        message.index,
        message.text,
        format_time(message.ts_us),
        message.author,
        message.author_name,
        topic.id,
        topic.name,
    )


def pushed(topic: Topic, message: Message) -> Pushed:
    return Pushed(message.index, event_out(topic, message))


def stream_out(status: MessageStatus) -> StreamOut:
    return StreamOut(status.topic.id, status.topic.name, status.count, status.count - 1)


def source_out(source: Source, key: str, rights: Mapping[TopicId, Right], owners: Mapping[TopicId, Right]) -> SourceOut:
    """Streams are those of the source and those of its owner; the rights are the source's own."""
    streams = [Related(topic, right_word(rights.get(topic, Right.NONE))) for topic in sorted({*rights, *owners})]
    return SourceOut(key, source.name, source.id, Numbered(source.account), streams)


# Rights

_WORDS = {
    Right.NONE: "NoRight",
    Right.READ: "ReadOnly",
    Right.WRITE: "WriteOnly",
    Right.READ | Right.WRITE: "ReadWrite",
    Right.ADMIN: "Admin",
}
_RIGHTS = {word.lower(): right for right, word in _WORDS.items()} | {"none": Right.NONE}


def right_word(right: Right) -> str:
    """The word for a right. To manage without reading and writing has none, so it is told as what it adds to."""
    return _WORDS.get(right) or _WORDS[right & (Right.READ | Right.WRITE)]


def parse_right(word: str) -> Right:
    right = _RIGHTS.get(word.lower())
    if right is None:
        raise BadArgument(
            "A right is None, ReadOnly, WriteOnly, ReadWrite or Admin; Root cannot be given.", "Right", "InvalidString"
        )
    return right


# Parameters


class Parameters:
    """What a request gives by name, in any case: its query string, and over it its JSON body.

    Null is as good as not given, but for `new_name`.
    """

    def __init__(self, query: bytes, body: bytes) -> None:
        given = _of_body(body)
        self._values: dict[str, Any] = {
            **_of_query(query),
            **{name: value for name, value in given.items() if value is not None},
        }
        self._nulls = {name for name, value in given.items() if value is None}

    def text(self, name: str) -> str | None:
        """Raises BadArgument when it is no text."""
        value = self._values.get(name.lower())
        if value is not None and not isinstance(value, str):
            raise BadArgument(f"{name} is a string.", name, "InvalidString")
        return value

    def needed(self, name: str) -> str:
        """Raises MissingArgument, BadArgument."""
        value = self.text(name)
        if value is None:
            raise MissingArgument(name)
        return value

    def new_name(self, name: str) -> str:
        """The name of something to be made: null is a wrong one. Raises MissingArgument, BadArgument."""
        if self.text(name) is None and name.lower() in self._nulls:
            raise BadArgument(f"{name} is a string.", name, "InvalidString")
        return self.needed(name)


def _of_query(query: bytes) -> dict[str, str]:
    """A name that comes twice has its values joined by a comma."""
    values: dict[str, str] = {}
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except ValueError as error:  # of which UnicodeDecodeError is a kind
        raise MalformedBody("The query string is not valid UTF-8.") from error
    for given, value in pairs:
        if not given:
            raise MalformedBody("The query string has a value without a name.")
        name = given.lower()
        values[name] = f"{values[name]},{value}" if name in values else value
    return values


def _of_body(body: bytes) -> dict[str, Any]:
    """Of two names that differ in case only the last counts."""
    if not body or body.isspace():
        return {}
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"The body is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise MalformedBody("The body is nested too deeply.") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise MalformedBody("The body is JSON, but no object.")
    return {str(name).lower(): value for name, value in found.items()}
