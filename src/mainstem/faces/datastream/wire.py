"""DataStream as clients speak it: its structs, its times, its errors, and how they become ours."""

import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Meta, UnsetType

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
    AggregateAnswer,
    AggregateRequest,
    Aggregation,
    Batch,
    ExportRequest,
    InvalidEvent,
    InvalidEvents,
    InvalidJson,
    InvalidQuery,
    InvalidTimestamp,
    KeyInUse,
    KeyReused,
    Operation,
    Order,
    Page,
    PageRequest,
    Row,
    SchemaCheck,
    SchemaViolation,
    TooLarge,
    Topic,
    TopicChanges,
    TopicDraft,
    TopicNotFound,
    TopicStatus,
    Vitals,
    parse_field,
    parse_timestamp,
)
from mainstem.http import (
    Answer,
    BodyTooLarge,
    BodyTooSlow,
    MalformedBody,
    MethodNotAllowed,
    NotAcceptable,
    UnsupportedMediaType,
    UpgradeRequired,
    json_answer,
)
from mainstem.identity import Allowance, Key, KeyDraft, Right, Scope, Tier
from mainstem.ids import event_id

# Errors

ERRORS: Mapping[type[MainstemError], tuple[int, str]] = {
    MalformedBody: (400, "INVALID_JSON"),
    InvalidJson: (400, "INVALID_JSON"),
    InvalidTimestamp: (400, "INVALID_TIMESTAMP"),
    InvalidEvent: (400, "INVALID_EVENT"),
    InvalidEvents: (400, "INVALID_EVENT"),
    InvalidQuery: (400, "INVALID_QUERY"),
    SchemaViolation: (400, "SCHEMA_VIOLATION"),
    Invalid: (400, "INVALID_REQUEST"),
    Unauthenticated: (401, "UNAUTHENTICATED"),
    Denied: (403, "PERMISSION_DENIED"),
    TopicNotFound: (404, "INVALID_STREAM_ID"),
    NotFound: (404, "NOT_FOUND"),
    MethodNotAllowed: (405, "METHOD_NOT_ALLOWED"),
    NotAcceptable: (406, "NOT_ACCEPTABLE"),
    BodyTooSlow: (408, "REQUEST_TIMEOUT"),
    KeyInUse: (409, "IDEMPOTENCY_IN_PROGRESS"),
    Conflict: (409, "CONFLICT"),
    BodyTooLarge: (413, "PAYLOAD_TOO_LARGE"),
    TooLarge: (413, "PAYLOAD_TOO_LARGE"),
    UnsupportedMediaType: (415, "UNSUPPORTED_MEDIA_TYPE"),
    KeyReused: (422, "IDEMPOTENCY_MISMATCH"),
    UpgradeRequired: (426, "UPGRADE_REQUIRED"),
    Exhausted: (429, "RATE_LIMITED"),
    Unavailable: (503, "UNAVAILABLE"),
}
"""An error has the status and code of the nearest of its kinds that is listed here."""

INTERNAL = (500, "INTERNAL")

CODES: Mapping[str, int] = {code: status for status, code in (*ERRORS.values(), INTERNAL)}


class ErrorFacts(msgspec.Struct):
    code: str
    message: str
    details: dict[str, Any]


class ErrorBody(msgspec.Struct):
    error: ErrorFacts


def status_and_code(error: MainstemError | None) -> tuple[int, str]:
    for kind in type(error).__mro__:
        if kind in ERRORS:
            return ERRORS[kind]
    return INTERNAL


def error_answer(error: MainstemError | None, *, path: str = "", as_problem: bool = False) -> Answer:
    """The answer to an error, None being one that nobody foresaw: it tells no more than that."""
    status, code = status_and_code(error)
    message = "Something went wrong here; it was logged under this request's id" if error is None else error.message
    details = {} if error is None else {name: value for name, value in error.details.items() if value is not None}
    headers = _error_headers(status, details)
    if not as_problem:
        facts = {"error": {"code": code, "message": message, "details": details}}
        return Answer(status, msgspec.json.encode(facts, enc_hook=str), headers=headers)
    problem = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": message,
        "instance": path,
        "code": code,
        "details": details,
    }
    return Answer(status, msgspec.json.encode(problem, enc_hook=str), "application/problem+json", headers)


def _error_headers(status: int, details: dict[str, Any]) -> list[tuple[str, str]]:
    headers = []
    if status == 401:
        headers.append(("www-authenticate", 'Bearer realm="mainstem"'))
    if status == 405:
        headers.append(("allow", str(details.get("allow", ""))))
    if status == 426:
        headers += [("upgrade", "websocket"), ("connection", "upgrade")]
    if status in (429, 503):
        headers.append(("retry-after", str(max(1, round(float(details.get("retry_after_s", 1)))))))
    return headers


def allowance_headers(allowance: Allowance) -> list[tuple[str, str]]:
    """What is left, as draft-ietf-httpapi-ratelimit-headers says it, and as everybody said it before."""
    limit, remaining, reset_s, window_s = allowance
    name = "hourly" if window_s == 3_600 else "perminute"
    reset = max(0, int(reset_s))
    return [
        ("ratelimit-policy", f'"{name}";q={limit};w={window_s}'),
        ("ratelimit", f'"{name}";r={remaining};t={reset}'),
        ("x-ratelimit-limit", str(limit)),
        ("x-ratelimit-remaining", str(remaining)),
        ("x-ratelimit-reset", str(reset)),
    ]


# Times

Time = Annotated[str, Meta(description="RFC 3339 with a zone", extra_json_schema={"format": "date-time"})]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def format_time(moment_us: int) -> str:
    """RFC 3339 in UTC, with microseconds when there are any."""
    moment = _EPOCH + timedelta(microseconds=moment_us)
    return moment.isoformat().removesuffix("+00:00") + "Z"


def format_time_or_none(moment_us: int | None) -> str | None:
    return None if moment_us is None else format_time(moment_us)


def parse_time(text: str, field: str) -> int:
    """Microseconds since 1970 UTC. Raises InvalidTimestamp for what is no RFC 3339 time or names no zone."""
    moment_us = parse_timestamp(text)
    if moment_us is None:
        raise InvalidTimestamp(
            f"{field} is no RFC 3339 time with a zone, such as 2024-03-15T10:30:00Z", field=field, value=text
        )
    return moment_us


# Ingestion

ARROW = "application/vnd.apache.arrow.stream"

StreamId = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\u0000-\u001f\u007f-\u009f]*$")]
EventType = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\u0000-\u001f\u007f-\u009f]*$")]
ClientEventId = Annotated[str, Meta(min_length=1, max_length=128)]


class EventIn(msgspec.Struct, kw_only=True):
    """One event; fields that are not listed are not kept."""

    event_type: EventType
    stream_id: StreamId | UnsetType = UNSET
    timestamp: Time | UnsetType = UNSET
    data: dict[str, Any] | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    event_id: ClientEventId | UnsetType = UNSET


class SingleIn(EventIn, kw_only=True):
    stream_id: StreamId


class BatchIn(msgspec.Struct, kw_only=True):
    stream_id: StreamId
    events: Annotated[list[EventIn], Meta(min_length=1)]


class CloudEventIn(msgspec.Struct, kw_only=True):
    """A CloudEvent 1.0. Other attributes are kept, too, as metadata; `streamid` names the stream."""

    specversion: Literal["1.0"]
    id: Annotated[str, Meta(min_length=1)]
    source: Annotated[str, Meta(min_length=1)]
    type: EventType
    time: Time | UnsetType = UNSET
    data: Any | UnsetType = UNSET
    data_base64: str | UnsetType = UNSET
    streamid: StreamId | UnsetType = UNSET


class IngestQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    stream_id: (
        Annotated[
            str, Meta(description="The stream of NDJSON lines that name none, of CloudEvents, and of Arrow bodies")
        ]
        | UnsetType
    ) = UNSET
    partial: Annotated[bool, Meta(description="Store the good events of a body and report the others")] = False
    ids: Annotated[bool, Meta(description="Tell the id of every event")] = False


class _Named(msgspec.Struct):
    stream_id: str


def stream_of(body: bytes) -> str:
    """The stream that a body (or its first line) names; "" when it cannot be told."""
    for text in (body, body.partition(b"\n")[0]):
        try:
            return msgspec.json.decode(text, type=_Named).stream_id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return ""


class AcceptedOut(msgspec.Struct, kw_only=True, omit_defaults=True):
    status: Literal["accepted"]
    event_id: str
    processing_time_ms: float
    duplicate: bool = False


class EventErrorOut(msgspec.Struct):
    index: int
    code: str
    message: str
    path: str | UnsetType = UNSET


class BatchOut(msgspec.Struct, kw_only=True):
    status: Literal["accepted"]
    stream_id: str
    accepted: int
    duplicates: int
    rejected: int
    first_event_id: str | None
    last_event_id: str | None
    errors: list[EventErrorOut]
    processing_time_ms: float
    event_ids: list[str] | UnsetType = UNSET


def batch_out(batch: Batch, elapsed_ms: float, *, with_ids: bool) -> BatchOut:
    return BatchOut(
        status="accepted",
        stream_id=batch.topic,
        accepted=batch.accepted,
        duplicates=batch.duplicates,
        rejected=batch.rejected,
        first_event_id=None if batch.first_seq is None else event_id(batch.first_seq),
        last_event_id=None if batch.last_seq is None else event_id(batch.last_seq),
        errors=[EventErrorOut(error.index, error.code, error.message, error.path or UNSET) for error in batch.errors],
        processing_time_ms=elapsed_ms,
        event_ids=[event_id(seq) for seq in batch.seqs] if with_ids else UNSET,
    )


# Streams

RetentionDays = Annotated[int, Meta(ge=1, le=36_500)]
RetentionBytes = Annotated[int, Meta(ge=1 << 20, le=1 << 60, description="Of its sealed events on disk; the oldest go")]
DedupeWindow = Annotated[int, Meta(ge=0, le=604_800)]
Description = Annotated[str, Meta(max_length=2_000)]
type JsonSchema = dict[str, Any] | bool


class StreamIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    stream_id: StreamId
    description: Description = ""
    schema: dict[str, Any] | bool | None = None
    retention_days: RetentionDays | UnsetType | None = UNSET
    retention_bytes: RetentionBytes | None = None
    dedupe_window_s: DedupeWindow | UnsetType = UNSET
    paused: bool = False

    def draft(self) -> TopicDraft:
        return TopicDraft(
            name=self.stream_id,
            description=self.description,
            schema=_schema_text(self.schema),
            retention_days=self.retention_days,
            retention_bytes=self.retention_bytes,
            dedupe_window_s=self.dedupe_window_s,
            paused=self.paused,
        )


class StreamPatch(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    description: Description | UnsetType = UNSET
    schema: dict[str, Any] | bool | UnsetType | None = UNSET
    retention_days: RetentionDays | UnsetType | None = UNSET
    retention_bytes: RetentionBytes | UnsetType | None = UNSET
    dedupe_window_s: DedupeWindow | UnsetType = UNSET
    paused: bool | UnsetType = UNSET

    def changes(self) -> TopicChanges:
        return TopicChanges(
            description=self.description,
            schema=UNSET if self.schema is UNSET else _schema_text(self.schema),
            retention_days=self.retention_days,
            retention_bytes=self.retention_bytes,
            dedupe_window_s=self.dedupe_window_s,
            paused=self.paused,
        )


def _schema_text(schema: dict[str, Any] | bool | None) -> bytes | None:
    return None if schema is None else msgspec.json.encode(schema)


type Rights = Annotated[
    list[Literal["read", "write", "manage"]],
    Meta(max_length=3, description="What the account may do with the stream; nothing when empty"),
]


class GrantIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    rights: Rights
    password: (
        Annotated[str, Meta(max_length=1_024, description="Your own; needed to give the right to manage")] | UnsetType
    ) = UNSET

    def right(self) -> Right:
        return Right(sum(Right[name.upper()] for name in set(self.rights)))


class GrantOut(msgspec.Struct, kw_only=True):
    account: int
    name: str
    rights: Rights


class GrantList(msgspec.Struct, kw_only=True):
    grants: list[GrantOut]


def grant_out(account: int, name: str, right: Right) -> GrantOut:
    return GrantOut(account=account, name=name, rights=[one for one in _RIGHTS if Right[one.upper()] in right])


_RIGHTS: tuple[Literal["read", "write", "manage"], ...] = ("read", "write", "manage")


class UpdateStreamQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    dry_run: Annotated[bool, Meta(description="Change nothing, only tell what would be")] = False


class BrokenEventOut(msgspec.Struct, kw_only=True):
    event_id: str
    path: str
    message: str


class SchemaCheckOut(msgspec.Struct, kw_only=True):
    """How the stored events stand to a new schema."""

    checked: Annotated[int, Meta(description="Events looked at, the newest first")]
    violations: int
    complete: Annotated[bool, Meta(description="All events were looked at")]
    examples: Annotated[list[BrokenEventOut], Meta(description="The newest that break it, at most ten")]


class StreamOut(msgspec.Struct, kw_only=True):
    stream_id: str
    description: str
    schema: dict[str, Any] | bool | None
    retention_days: int | None
    retention_bytes: int | None
    dedupe_window_s: int
    paused: bool
    created_at: Time
    schema_check: SchemaCheckOut | UnsetType = UNSET


class StreamList(msgspec.Struct):
    streams: list[StreamOut]
    next_cursor: str | None


def encode_cursor(name: str) -> str:
    """Where a list goes on, opaque to clients."""
    return urlsafe_b64encode(name.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    try:
        return b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except ValueError as error:  # of which UnicodeDecodeError and binascii.Error are kinds
        raise Invalid("This cursor is none that this server gave", field="cursor") from error


class ListQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    cursor: Annotated[str, Meta(description="`next_cursor` of the page before")] | UnsetType = UNSET


class DeleteStreamQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    confirm: Annotated[str, Meta(description="The stream's own id, once more")]


class StatusOut(msgspec.Struct, kw_only=True):
    stream_id: str
    status: Literal["active", "idle", "paused", "error"]
    events_processed: int
    processing_rate: float
    last_event_timestamp: Time | None
    lag_seconds: float


def stream_out(topic: Topic, check: SchemaCheck | None = None) -> StreamOut:
    return StreamOut(
        stream_id=topic.name,
        description=topic.description,
        schema=None if topic.schema is None else msgspec.json.decode(topic.schema),
        retention_days=topic.retention_days,
        retention_bytes=topic.retention_bytes,
        dedupe_window_s=topic.dedupe_window_s,
        paused=topic.paused,
        created_at=format_time(topic.created_us),
        schema_check=UNSET if check is None else _schema_check_out(check),
    )


def _schema_check_out(check: SchemaCheck) -> SchemaCheckOut:
    return SchemaCheckOut(
        checked=check.checked,
        violations=check.broken,
        complete=check.complete,
        examples=[
            BrokenEventOut(event_id=event_id(example.index), path=example.path or "data", message=example.message)
            for example in check.examples
        ],
    )


def status_out(status: TopicStatus) -> StatusOut:
    return StatusOut(
        stream_id=status.name,
        status=status.activity.value,
        events_processed=status.events,
        processing_rate=round(status.rate_per_s, 3),
        last_event_timestamp=format_time_or_none(status.last_ts_us),
        lag_seconds=status.lag_s,
    )


# Query


class EventsQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    stream_id: StreamId
    start_time: Annotated[Time, Meta(description="From this time on")] | UnsetType = UNSET
    end_time: Annotated[Time, Meta(description="Before this time")] | UnsetType = UNSET
    event_type: str | UnsetType = UNSET
    filter: Annotated[
        list[str], Meta(description="Conditions that must all hold, such as `data.amount>10`; may be repeated")
    ] = []
    order: Annotated[Literal["asc", "desc"], Meta(description="By timestamp")] = "asc"
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    offset: Annotated[int, Meta(ge=0, le=2**53)] = 0
    cursor: Annotated[str, Meta(description="`next_cursor` of the page before")] | UnsetType = UNSET
    fields: (
        Annotated[
            str, Meta(min_length=1, description="What to answer of each event, with commas: `event_id,data.amount`")
        ]
        | UnsetType
    ) = UNSET


class ExportQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    stream_id: StreamId
    format: Literal["json", "ndjson", "csv", "parquet", "avro", "arrow"] = "json"
    start_time: Annotated[Time, Meta(description="From this time on")] | UnsetType = UNSET
    end_time: Annotated[Time, Meta(description="Before this time")] | UnsetType = UNSET
    event_type: str | UnsetType = UNSET
    filter: Annotated[
        list[str], Meta(description="Conditions that must all hold, such as `data.amount>10`; may be repeated")
    ] = []
    columns: (
        Annotated[
            str,
            Meta(min_length=1, description="Fields with commas, each a column: `timestamp,data.amount`; not for JSON"),
        ]
        | UnsetType
    ) = UNSET
    raw: Annotated[bool, Meta(description="CSV: leave cells as they are that a spreadsheet takes for formulas")] = False


def export_request(query: ExportQuery) -> ExportRequest:
    return ExportRequest(
        stream=query.stream_id,
        start_us=parse_time(query.start_time, "start_time") if query.start_time else None,
        end_us=parse_time(query.end_time, "end_time") if query.end_time else None,
        event_type=query.event_type or None,
        filters=query.filter,
        columns=_BETWEEN_COMMAS.findall(query.columns) if query.columns else None,
    )


def attachment(name: str) -> str:
    """A Content-Disposition that saves under this name, and under a plain one where only ASCII is understood."""
    plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "_" for letter in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


class EventOut(msgspec.Struct, kw_only=True):
    event_id: str
    timestamp: Time
    event_type: str
    data: msgspec.Raw
    metadata: msgspec.Raw | UnsetType = UNSET


class EventShape(msgspec.Struct, kw_only=True):
    """An event as documented; which of its members come is for `fields` to say."""

    event_id: str | UnsetType = UNSET
    timestamp: Time | UnsetType = UNSET
    event_type: str | UnsetType = UNSET
    data: dict[str, Any] | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class EventList(msgspec.Struct, kw_only=True):
    events: list[EventShape]
    total_count: int
    has_more: bool
    next_cursor: str | None


def page_request(query: EventsQuery) -> PageRequest:
    return PageRequest(
        stream=query.stream_id,
        start_us=parse_time(query.start_time, "start_time") if query.start_time else None,
        end_us=parse_time(query.end_time, "end_time") if query.end_time else None,
        event_type=query.event_type or None,
        filters=query.filter,
        order=query.order,
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor or None,
    )


def event_out(row: Row) -> EventOut:
    return EventOut(
        event_id=event_id(row.seq),
        timestamp=format_time(row.ts_us),
        event_type=row.event_type,
        data=msgspec.Raw(row.data),
        metadata=UNSET if row.metadata is None else msgspec.Raw(row.metadata),
    )


_PLAIN_FIELDS: Mapping[str, Callable[[Row], object]] = {
    "event_id": lambda row: event_id(row.seq),
    "timestamp": lambda row: format_time(row.ts_us),
    "event_type": lambda row: row.event_type,
}
_BETWEEN_COMMAS = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')


class Projection:
    """Which members of an event are answered: whole ones, and leaves of `data` and `metadata` at their places."""

    def __init__(self, fields: str) -> None:
        self._plain: list[str] = []
        self._paths: dict[str, list[tuple[str, ...]]] = {"data": [], "metadata": []}
        names = _BETWEEN_COMMAS.findall(fields)
        if not names:
            raise InvalidQuery("fields names nothing; leave it out for everything", field="fields")
        for text in names:
            name = text.strip()
            if name in self._paths:
                self._paths[name].append(())
                continue
            field = parse_field(name)
            if isinstance(field, tuple):
                self._paths[field[0]].append(field[1:])
            else:
                self._plain.append(field.value)

    def apply(self, row: Row) -> dict[str, object]:
        shown: dict[str, object] = {name: _PLAIN_FIELDS[name](row) for name in self._plain}
        for root, text in (("data", row.data), ("metadata", row.metadata)):
            paths = self._paths[root]
            if text is not None and paths:
                shown[root] = msgspec.Raw(text) if () in paths else _leaves(text, paths)
        return shown


def _leaves(text: bytes | msgspec.Raw, paths: Sequence[tuple[str, ...]]) -> dict[str, object]:
    """Only the members that are asked for, each as the bytes that came, so that no number is rounded on the way."""
    try:
        found = msgspec.json.decode(text, type=dict[str, msgspec.Raw] | list[msgspec.Raw])
    except msgspec.DecodeError:  # neither object nor list, or text that is no Unicode: it has no members to show
        return {}
    members = found if isinstance(found, dict) else {str(index): member for index, member in enumerate(found)}
    shown: dict[str, object] = {}
    for name in dict.fromkeys(path[0] for path in paths):
        deeper = [path[1:] for path in paths if path[0] == name]
        if name in members:
            shown[name] = members[name] if () in deeper else _leaves(members[name], deeper)
    return shown


def page_answer(page: Page, projection: Projection | None) -> Answer:
    show: Callable[[Row], object] = event_out if projection is None else projection.apply
    return json_answer(
        {
            "events": [show(row) for row in page.events],
            "total_count": page.total_count,
            "has_more": page.has_more,
            "next_cursor": page.next_cursor,
        }
    )


class AggregateQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    format: Annotated[Literal["json", "grafana"], Meta(description="`grafana`: a flat array with a time column")] = (
        "json"
    )


class TimeWindow(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    start: Time | UnsetType | None = UNSET
    end: Time | UnsetType | None = UNSET


class AggregationIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    operation: Operation
    field: str | UnsetType | None = UNSET


class OrderIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    field: str
    direction: Literal["asc", "desc"] = "asc"


class AggregateIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    stream_id: StreamId
    aggregations: Annotated[list[AggregationIn], Meta(min_length=1, max_length=32)]
    time_window: TimeWindow | None = None
    group_by: Annotated[list[str], Meta(max_length=8)] = []
    filters: Annotated[list[str], Meta(max_length=32)] = []
    interval: Annotated[str, Meta(description="A whole number with s, m, h, d or w: `5m`; adds `bucket`")] | None = None
    having: Annotated[list[str], Meta(max_length=32)] = []
    order_by: Annotated[list[OrderIn | str], Meta(max_length=8)] = []
    limit: Annotated[int, Meta(ge=1, le=10_000)] | None = None


class WindowOut(msgspec.Struct):
    start: Time | None
    end: Time | None


class ResultOut(msgspec.Struct, kw_only=True):
    group: dict[str, Any]
    bucket: Time | UnsetType = UNSET
    values: dict[str, Any]
    count: int
    skipped: dict[str, int] | UnsetType = UNSET


class AggregateOut(msgspec.Struct, kw_only=True):
    stream_id: str
    time_window: WindowOut
    results: list[ResultOut]
    events_scanned: int
    query_time_ms: float


def aggregate_request(wanted: AggregateIn) -> AggregateRequest:
    window = wanted.time_window or TimeWindow()
    return AggregateRequest(
        stream=wanted.stream_id,
        start_us=parse_time(window.start, "time_window.start") if window.start else None,
        end_us=parse_time(window.end, "time_window.end") if window.end else None,
        aggregations=[Aggregation(item.operation, item.field or None) for item in wanted.aggregations],
        group_by=wanted.group_by,
        filters=wanted.filters,
        interval=wanted.interval,
        having=wanted.having,
        order_by=[item if isinstance(item, str) else Order(item.field, item.direction) for item in wanted.order_by],
        limit=wanted.limit,
    )


def aggregate_out(answer: AggregateAnswer) -> AggregateOut:
    return AggregateOut(
        stream_id=answer.stream,
        time_window=WindowOut(format_time_or_none(answer.start_us), format_time_or_none(answer.end_us)),
        results=[
            ResultOut(
                group=result.group,
                bucket=UNSET if result.bucket_us is None else format_time(result.bucket_us),
                values=result.values,
                count=result.count,
                skipped=result.skipped or UNSET,
            )
            for result in answer.results
        ],
        events_scanned=answer.events_scanned,
        query_time_ms=answer.query_time_ms,
    )


def grafana_rows(answer: AggregateAnswer) -> list[dict[str, Any]]:
    """A flat array as Grafana's Infinity data source reads it: `time` where there are buckets, a column for each field
    of the group and each value."""
    return [
        {
            **({} if result.bucket_us is None else {"time": format_time(result.bucket_us)}),
            **result.group,
            **result.values,
            "count": result.count,
        }
        for result in answer.results
    ]


# Keys and tokens


class KeyIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    scopes: Annotated[list[Scope], Meta(min_length=1)] | None = None
    tier: Tier | None = None
    expires_at: Time | None = None
    streams: Annotated[list[StreamId], Meta(min_length=1)] | None = None

    def draft(self) -> KeyDraft:
        return KeyDraft(
            name=self.name,
            scopes=None if self.scopes is None else frozenset(self.scopes),
            tier=self.tier,
            topics=None if self.streams is None else frozenset(self.streams),
            expires_us=None if self.expires_at is None else parse_time(self.expires_at, "expires_at"),
        )


class KeyOut(msgspec.Struct, kw_only=True):
    id: str
    name: str
    scopes: list[str]
    tier: Tier
    streams: list[str] | None
    expires_at: Time | None
    created_at: Time
    last_used_at: Time | None
    key: str | UnsetType = UNSET


class KeyList(msgspec.Struct):
    keys: list[KeyOut]
    next_cursor: str | None


def key_out(key: Key, text: str | UnsetType = UNSET) -> KeyOut:
    return KeyOut(
        id=key.id,
        name=key.name,
        scopes=sorted(key.scopes),
        tier=key.tier,
        streams=None if key.topics is None else sorted(key.topics),
        expires_at=format_time_or_none(key.expires_us),
        created_at=format_time(key.created_us),
        last_used_at=format_time_or_none(key.last_used_us),
        key=text,
    )


class SignInBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    email: Annotated[str, Meta(max_length=320)]
    password: Annotated[str, Meta(max_length=1_024)]


class TokenOut(msgspec.Struct, kw_only=True):
    access_token: str
    expires_in: int
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  # a scheme, no secret


# Health


class AliveOut(msgspec.Struct):
    status: Literal["ok"] = "ok"


class ReadyOut(msgspec.Struct):
    status: Literal["ready"] = "ready"
    database: Literal["connected"] = "connected"


class NotReadyOut(msgspec.Struct):
    error: str
    status: Literal["not ready"] = "not ready"


class HealthOut(msgspec.Struct, kw_only=True):
    status: Literal["healthy", "degraded", "unhealthy"]
    components: dict[str, Literal["healthy", "degraded", "unhealthy"]]
    timestamp: Time
    version: str
    reasons: dict[str, str] | UnsetType = UNSET
    """Why a component is not healthy; absent while all are."""


def health_out(vitals: Vitals, version: str) -> HealthOut:
    reasons = {name: health.reason for name, health in vitals.components.items() if health.reason}
    return HealthOut(
        status=vitals.condition.value,
        components={name: health.condition.value for name, health in vitals.components.items()},
        timestamp=format_time(vitals.checked_us),
        version=version,
        reasons=reasons or UNSET,
    )
