"""Events in: from the bytes of a body to what the log keeps.

A body is decoded once, into structs whose `data` and `metadata` stay the bytes that came. Where all is well the checks
run over whole columns; only a body with something wrong in it is looked at event by event, to say what and where.
Whatever the door and the form, nothing gets into a topic that its schema does not allow.
"""

import asyncio
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import Any, NamedTuple, NoReturn

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Raw
from numpy.typing import NDArray

from mainstem.clock import EARLIEST_US, LATEST_US, Clock
from mainstem.errors import Conflict, Invalid
from mainstem.events import arrow
from mainstem.events.cloudevents import NoCloudEvent, translate
from mainstem.events.filters import parse_timestamp
from mainstem.events.model import ERRORS_TOLD, EventError, Topic, told
from mainstem.events.schemas import SchemaViolation, compiled
from mainstem.events.topics import Topics
from mainstem.identity import Principal
from mainstem.storage import Draft, Drafts, Log, Note, Receipt, Text

_EVENT_TYPE_CHARACTERS_MAX = 255
_EVENT_ID_CHARACTERS_MAX = 128
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_OPEN_BRACE = ord("{")
_Z = ord("Z")
_AS_TIMES = pc.CastOptions(target_type=pa.timestamp("us", "UTC"))
_SHORTEST_TIMESTAMP = len("2024-03-15T10:30:00Z")

# Errors


class InvalidJson(Invalid):
    """The body is no JSON, or no UTF-8."""


class InvalidEvent(Invalid):
    """An event breaks a rule; `index` says which, `reason` why."""


class InvalidTimestamp(Invalid):
    """A time that is no RFC 3339, or has no zone."""


class InvalidEvents(Invalid):
    """Events of a batch break rules, so none of them was stored. `errors` in the details has the first hundred."""

    def __init__(self, errors: Sequence[EventError], total: int) -> None:
        first = errors[0]
        super().__init__(
            f"{len(errors)} of {total} events are wrong and none was stored; the first, at index {first.index}:"
            f" {first.message}",
            errors=told(errors),
            rejected=len(errors),
        )
        self.errors = errors


class TooLarge(Invalid):
    """A body, an event or a batch over its limit."""


class KeyInUse(Conflict):
    """A request with this Idempotency-Key is under way."""


class KeyReused(Invalid):
    """This Idempotency-Key came before, with another body."""


# What comes back


class Accepted(NamedTuple):
    """One event is durable; `duplicate` when its event_id was known and the sequence number is that of the first."""

    seq: int
    duplicate: bool
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a batch. Nothing is stored of the events in `errors`."""

    topic: str
    accepted: int
    duplicates: int
    first_seq: int | None
    """Of the new events; None when there is none."""
    last_seq: int | None
    errors: Sequence[EventError] = ()
    replayed: bool = False
    _receipt: Receipt | None = field(default=None, repr=False)

    @property
    def rejected(self) -> int:
        return len(self.errors)

    @property
    def seqs(self) -> list[int]:
        """The sequence number of each stored event, or of the one it repeats, in the order they came."""
        return [] if self._receipt is None else self._receipt.seqs(self.accepted + self.duplicates)


class Form(StrEnum):
    """How a body is written."""

    JSON = "json"
    """One event, or `{"stream_id": …, "events": […]}`"""
    NDJSON = "ndjson"
    """One event a line."""
    CLOUDEVENT = "cloudevent"
    """One CloudEvent in its JSON format."""
    CLOUDEVENTS = "cloudevents"
    """A JSON array of them."""
    ARROW = "arrow"
    """An Arrow IPC stream with the columns `arrow.COLUMNS`: the quickest."""


class IngestLimits(msgspec.Struct, frozen=True):
    event_bytes_max: int = 1 << 20
    """Of data and metadata together."""
    batch_events_max: int = 10_000
    arrow_bytes_max: int = 16 << 20
    """Of what an Arrow body unpacks to."""


# What comes in


class _Event(msgspec.Struct, gc=False):
    event_type: str
    timestamp: str | None = None
    data: Raw = Raw(b"{}")  # immutable
    metadata: Raw = Raw(b"")  # immutable; empty: none
    event_id: str | None = None


class _Single(msgspec.Struct, gc=False):
    stream_id: str
    event_type: str
    timestamp: str | None = None
    data: Raw = Raw(b"{}")
    metadata: Raw = Raw(b"")
    event_id: str | None = None


class _Line(_Event, gc=False):
    stream_id: str | None = None


class _Body(msgspec.Struct, gc=False):
    stream_id: str
    events: list[_Event]


class _LooseBody(msgspec.Struct, gc=False):
    stream_id: str
    events: list[Raw]


_decode_single = msgspec.json.Decoder(_Single).decode
_decode_body = msgspec.json.Decoder(_Body).decode
_decode_loose_body = msgspec.json.Decoder(_LooseBody).decode
_lines = msgspec.json.Decoder(_Line)
_decode_event = msgspec.json.Decoder(_Line).decode
_decode_member = msgspec.json.Decoder(_Event).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_read_raw = msgspec.json.Decoder(Raw).decode


class _Wrong(Exception):
    """A whole column holds something wrong: look at its events one by one."""


class _Fault(Exception):
    """What is wrong with one event."""

    def __init__(self, code: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


class _Checked(NamedTuple):
    """A decoded body."""

    stream_id: str
    drafts: Drafts
    errors: list[EventError]


type Answered = Callable[[Accepted | Exception], None]


class Ingest:
    """Takes events for those who may write. Returns, or calls back, once they are synced and readable."""

    def __init__(self, log: Log, topics: Topics, clock: Clock, limits: IngestLimits | None = None) -> None:
        self._log = log
        self._topics = topics
        self._clock = clock
        self._limits = limits or IngestLimits()
        self._event_bytes_max = self._limits.event_bytes_max
        self._running: set[bytes] = set()

    # One event

    def submit_one(self, principal: Principal, body: bytes, answered: Answered) -> str | None:
        """The hot path: no I/O before the log, no task, no future. The stream's name, when it was taken on.

        None when it needs the long way (`one`): a topic not known yet, or something wrong to be told well. Nothing is
        done then.
        """
        try:
            event = _decode_single(body)
            topic = self._topics.writable(principal, event.stream_id)
            if topic is None or not (body.isascii() or body.decode()):
                return None
            draft = self._draft(event, principal.account)
            if topic.schema is not None and not compiled(topic.schema).allows(draft.data):
                return None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _Fault):
            return None

        def done(result: Receipt | Exception) -> None:
            if isinstance(result, Receipt):
                answered(Accepted(result.first_seq, False) if result.count else Accepted(result.repeats[0], True))
            else:
                answered(result)

        self._log.submit(topic.id, draft, topic.dedupe_window_s, done)
        return topic.name

    async def one(
        self,
        principal: Principal,
        body: bytes,
        *,
        form: Form = Form.JSON,
        stream_id: str | None = None,
        key: str | None = None,
    ) -> Accepted:
        """Store the one event that the body is, as JSON or as a CloudEvent. `key` is the request's Idempotency-Key,
        `stream_id` its parameter.

        Raises InvalidJson, InvalidEvent, InvalidTimestamp, SchemaViolation, TooLarge, TopicNotFound, Denied, KeyInUse,
        KeyReused, Unavailable; nothing is stored then.
        """
        _check_text(body)
        try:
            if form is Form.CLOUDEVENT:
                event = _with_stream(_cloud_event(body, stream_id), stream_id or "")
            else:
                event = _decode_single(body) if stream_id is None else _with_stream(_decode_event(body), stream_id)
            draft = self._draft(event, principal.account)
        except msgspec.ValidationError as error:
            raise _invalid_event(str(error)) from error
        except (msgspec.DecodeError, RecursionError) as error:
            raise _invalid_json(error) from error
        except _Fault as fault:
            _raise_fault(fault)
        topic = await self._topics.for_writing(principal, event.stream_id)
        checked = _Checked(event.stream_id, Drafts.of([draft]), [])
        request = f"one\0{stream_id}\0".encode() + body
        receipt, replayed, _ = await self._append(principal, topic, checked, key, request)
        if receipt.count:
            return Accepted(receipt.first_seq, False, replayed)
        return Accepted(receipt.repeats[0], True, replayed)

    def _draft(self, event: _Single | _Event, author: int = 0) -> Draft:
        """Raises _Fault."""
        timestamp = event.timestamp
        if timestamp is None:
            ts_us = self._clock()
        elif (parsed := parse_timestamp(timestamp)) is not None:
            ts_us = parsed
        else:
            raise _bad_timestamp(timestamp)
        event_type = event.event_type
        if event_type not in _good_types:
            _check_type(event_type)
        data = bytes(event.data)
        metadata = bytes(event.metadata)
        if metadata == b"null":
            metadata = b""
        if data[0] != _OPEN_BRACE or (metadata and metadata[0] != _OPEN_BRACE):
            raise _Fault("INVALID_EVENT", "data and metadata must be JSON objects", field="data")
        if len(data) + len(metadata) > self._event_bytes_max:
            raise _too_large_event(self._event_bytes_max)
        event_id = event.event_id
        if event_id is None:
            return Draft(ts_us, event_type, data, metadata, author=author)
        _check_event_id(event_id)
        return Draft(ts_us, event_type, data, metadata, event_id, author)

    # Many events

    async def many(
        self,
        principal: Principal,
        body: bytes,
        *,
        form: Form = Form.JSON,
        stream_id: str | None = None,
        partial: bool = False,
        key: str | None = None,
    ) -> Batch:
        """Store the events of a body: all or none, or with `partial` those that are right.

        `stream_id` is for NDJSON whose lines do not name it and for Arrow, which cannot, and goes before what a
        CloudEvent says. Raises as `one` does, and InvalidEvents for events that are wrong.
        """
        if form is not Form.ARROW:
            _check_text(body)
        checked = self._decode(body, form, stream_id)
        if checked.errors and not partial:
            raise _for_all(checked.errors, checked.drafts.count + len(checked.errors))
        topic = await self._topics.for_writing(principal, checked.stream_id)
        request = f"many\0{partial}\0{stream_id}\0".encode() + body
        receipt, replayed, errors = await self._append(principal, topic, checked, key, request, partial=partial)
        return _batch_of(topic, receipt, errors, replayed=replayed)

    def submit_many(
        self, principal: Principal, body: bytes, answered: Callable[[Batch | Exception], None]
    ) -> str | None:
        """The hot path for a JSON batch without options; see `submit_one`."""
        try:
            if not (body.isascii() or body.decode()):
                return None
            decoded = _decode_body(body)
            topic = self._topics.writable(principal, decoded.stream_id)
            if topic is None:
                return None
            drafts = self._drafts(decoded.events)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _Wrong):
            return None
        return self._submit_many(topic, drafts.by(principal.account), answered)

    def submit_arrow(
        self, principal: Principal, stream_id: str, body: bytes, answered: Callable[[Batch | Exception], None]
    ) -> str | None:
        """The hot path for an Arrow body without options; see `submit_one`."""
        topic = self._topics.writable(principal, stream_id)
        if topic is None:
            return None
        try:
            columns = arrow.read(body, self._limits.arrow_bytes_max)
            if not 0 < columns.rows <= self._limits.batch_events_max:
                return None
            drafts = self._arrow_drafts(columns)
        except (arrow.InvalidArrow, arrow.ArrowTooLarge, _Wrong):
            return None
        return self._submit_many(topic, drafts.by(principal.account), answered)

    def _submit_many(self, topic: Topic, drafts: Drafts, answered: Callable[[Batch | Exception], None]) -> str | None:
        if topic.schema is not None and not compiled(topic.schema).allows_all(drafts.data):
            return None

        def done(result: Receipt | Exception) -> None:
            answered(_batch_of(topic, result) if isinstance(result, Receipt) else result)

        self._log.submit_many(topic.id, drafts, topic.dedupe_window_s, done)
        return topic.name

    def _decode(self, body: bytes, form: Form, stream_id: str | None) -> _Checked:
        if form is Form.ARROW:
            return self._decode_arrow(body, stream_id)
        try:
            if form is Form.JSON:
                decoded = _decode_body(body)
                return _Checked(decoded.stream_id, self._drafts(decoded.events), [])
            if form is Form.NDJSON:
                lines = _lines.decode_lines(body)
                name = stream_id or (lines[0].stream_id if lines else None)
                if name is not None and all(line.stream_id is None or line.stream_id == name for line in lines):
                    return _Checked(name, self._drafts(lines), [])
        except (msgspec.ValidationError, _Wrong):
            pass
        except (msgspec.DecodeError, RecursionError) as error:
            if form is Form.JSON:
                raise _invalid_json(error) from error
        return self._decode_slowly(body, form, stream_id)

    def _drafts(self, events: Sequence[_Event]) -> Drafts:
        """All events as columns. Raises _Wrong where one of them is, or when there are too many."""
        count = len(events)
        if not 0 < count <= self._limits.batch_events_max:
            raise _Wrong
        types = [event.event_type for event in events]
        if not _good_types.issuperset(types):
            _check_types(set(types) - _good_types)
        data = Text.of_bytes([event.data for event in events])
        metadata = Text.of_bytes([event.metadata for event in events])
        self._check_sizes(data, metadata)
        if not (_are_objects(data) and _are_objects(metadata)):
            raise _Wrong
        ids = [event.event_id for event in events]
        event_ids: list[str] | None = None
        if ids.count(None) != count:
            event_ids = [event_id or "" for event_id in ids]
            if "" in ids or max(map(len, event_ids)) > _EVENT_ID_CHARACTERS_MAX:
                raise _Wrong
        return Drafts(
            self._times([event.timestamp for event in events]), Text.of_strings(types), data, metadata, event_ids
        )

    def _check_sizes(self, data: Text, metadata: Text) -> None:
        if int(data.lengths().max()) + int(metadata.lengths().max()) > self._event_bytes_max:
            raise _Wrong  # perhaps

    def _times(self, timestamps: list[str | None]) -> NDArray[np.int64]:
        """Microseconds since 1970 UTC. Raises _Wrong."""
        missing = timestamps.count(None)
        if missing == len(timestamps):
            return np.full(missing, self._clock(), np.int64)
        if not missing:
            parsed = _parsed(Text.of_strings(timestamps))  # type: ignore[arg-type]  # none is missing
            if parsed is not None:
                return parsed
        now_us = self._clock()
        times = [now_us if timestamp is None else parse_timestamp(timestamp) for timestamp in timestamps]
        if None in times:
            raise _Wrong
        return np.array(times, np.int64)

    # Arrow

    def _decode_arrow(self, body: bytes, stream_id: str | None) -> _Checked:
        try:
            columns = arrow.read(body, self._limits.arrow_bytes_max)
        except arrow.ArrowTooLarge as error:
            raise TooLarge(error.message, **error.details) from error
        self._check_count(columns.rows)
        if stream_id is None:
            raise _invalid_event("an Arrow body names no stream: give ?stream_id=", name="stream_id")
        try:
            return _Checked(stream_id, self._arrow_drafts(columns), [])
        except _Wrong:
            return self._arrow_slowly(stream_id, columns)

    def _arrow_drafts(self, columns: arrow.Columns) -> Drafts:
        """Column by column, with no object for any event. Raises _Wrong."""
        _check_types(columns.event_type.unique().to_pylist())
        data = arrow.as_text(columns.data)
        metadata = Text(np.zeros(columns.rows + 1, np.int32), b"")
        if columns.metadata is not None:
            metadata = arrow.as_text(columns.metadata)
            present = columns.metadata.filter(pc.not_equal(columns.metadata, ""))
            if not arrow.are_objects(present):
                raise _Wrong
        self._check_sizes(data, metadata)
        if not arrow.are_objects(columns.data):
            raise _Wrong
        event_ids: list[str] | None = None
        if columns.event_id is not None:
            event_ids = columns.event_id.to_pylist()
            if max(map(len, event_ids)) > _EVENT_ID_CHARACTERS_MAX:
                raise _Wrong
        times = self._arrow_times(columns)
        return Drafts(times, arrow.as_text(columns.event_type), data, metadata, event_ids)

    def _arrow_times(self, columns: arrow.Columns) -> NDArray[np.int64]:
        column = columns.timestamp
        if column is None:
            return np.full(columns.rows, self._clock(), np.int64)
        if pa.types.is_string(column.type):
            parsed = None if column.null_count else _parsed(arrow.as_text(column))
            return self._times(column.to_pylist()) if parsed is None else parsed
        times: NDArray[np.int64] = column.fill_null(self._clock()).to_numpy()
        if int(times.min()) < EARLIEST_US or int(times.max()) > LATEST_US:
            raise _Wrong
        return times

    def _arrow_slowly(self, stream_id: str, columns: arrow.Columns) -> _Checked:
        """Row by row, so as to say what is wrong with which."""
        nothing = [None] * columns.rows
        drafts: list[Draft] = []
        errors: list[EventError] = []
        rows = zip(*(nothing if column is None else column.to_pylist() for column in columns[1:]), strict=True)
        for index, (timestamp, event_type, data, metadata, event_id) in enumerate(rows):
            try:
                event = _Single(stream_id, event_type, None, _read_raw(data), event_id=event_id or None)
                if metadata:
                    event.metadata = _read_raw(metadata)
                if isinstance(timestamp, str):
                    event.timestamp = timestamp
                draft = self._draft(event)
                if isinstance(timestamp, int):
                    if not EARLIEST_US <= timestamp <= LATEST_US:
                        raise _bad_timestamp(f"{timestamp} µs")
                    draft = draft._replace(ts_us=timestamp)
                drafts.append(draft)
            except _Fault as fault:
                errors.append(EventError(index, fault.code, fault.message))
            except (msgspec.DecodeError, RecursionError) as error:
                errors.append(EventError(index, "INVALID_JSON", str(error)))
        return _Checked(stream_id, Drafts.of(drafts), errors)

    # Event by event

    def _check_count(self, count: int) -> None:
        if not count:
            raise InvalidEvent("There are no events in the body: send at least one", field="events")
        if count > self._limits.batch_events_max:
            raise TooLarge(
                f"{count:,} events are over the limit of {self._limits.batch_events_max:,} a batch: split it",
                limit=self._limits.batch_events_max,
            )

    def _decode_slowly(self, body: bytes, form: Form, stream_id: str | None) -> _Checked:
        """Event by event, so as to say what is wrong with which."""
        name, events = self._split(body, form, stream_id)
        self._check_count(len(events))
        drafts: list[Draft] = []
        errors: list[EventError] = []
        for index, raw in enumerate(events):
            try:
                if form is Form.JSON:
                    drafts.append(self._draft(_decode_member(raw)))
                    continue
                event = _cloud_event(raw, stream_id) if form is Form.CLOUDEVENTS else _decode_event(raw)
                if event.stream_id is not None and event.stream_id != name:
                    if name is not None:
                        raise _Fault(
                            "INVALID_EVENT", f"it names another stream than {name!r}: send one stream a request"
                        )
                    name = event.stream_id
                drafts.append(self._draft(_with_stream(event, name or "")))
            except _Fault as fault:
                errors.append(EventError(index, fault.code, fault.message))
            except msgspec.ValidationError as error:
                errors.append(EventError(index, "INVALID_EVENT", str(error)))
            except (msgspec.DecodeError, RecursionError) as error:
                errors.append(EventError(index, "INVALID_JSON", str(error)))
        if name is None:
            if errors:
                raise _for_all(errors, len(events))
            raise _invalid_event("No stream_id: give it as a parameter or in the first line", name="stream_id")
        return _Checked(name, Drafts.of(drafts), errors)

    def _split(self, body: bytes, form: Form, stream_id: str | None) -> tuple[str | None, Sequence[bytes | Raw]]:
        if form is Form.NDJSON:
            return stream_id, [line for line in body.split(b"\n") if line.strip()]
        try:
            if form is Form.CLOUDEVENTS:
                return stream_id, _decode_list(body)
            loose = _decode_loose_body(body)
        except msgspec.ValidationError as error:
            raise _invalid_event(str(error)) from error
        except (msgspec.DecodeError, RecursionError) as error:
            raise _invalid_json(error) from error
        return loose.stream_id, loose.events

    # Into the log

    async def _append(
        self,
        principal: Principal,
        topic: Topic,
        checked: _Checked,
        key: str | None,
        request: bytes,
        *,
        partial: bool = False,
    ) -> tuple[Receipt, bool, Sequence[EventError]]:
        """The receipt, whether it is that of an earlier request with the same key, and the errors told then.

        `key` is the Idempotency-Key, told apart by route by the face. The schema is asked after it: a repeat gets its
        answer even when the schema has changed in between.
        """
        if key is None:
            drafts, errors = _fitting(topic, checked, partial=partial)
            receipt = await self._log.append(
                topic.id, drafts.by(principal.account), dedupe_window_s=topic.dedupe_window_s
            )
            return receipt, False, errors
        note_key = _digest(f"{principal.credential}\0{key}".encode())
        fingerprint = _digest(topic.id.to_bytes(8, "little") + request)  # a stream made anew is another
        if note_key in self._running:
            raise KeyInUse("A request with this Idempotency-Key is under way: wait for its answer")
        self._running.add(note_key)
        try:
            known = await self._log.note(note_key)
        except BaseException:
            self._running.discard(note_key)
            raise
        if known is not None:
            self._running.discard(note_key)
            return _replay(known, fingerprint)
        try:
            drafts, errors = _fitting(topic, checked, partial=partial)
        except BaseException:
            self._running.discard(note_key)
            raise
        note = Note(note_key, fingerprint + msgspec.json.encode(errors[:ERRORS_TOLD]))
        append = asyncio.ensure_future(
            self._log.append(topic.id, drafts.by(principal.account), dedupe_window_s=topic.dedupe_window_s, note=note)
        )
        # A client that goes away does not end the append, so the key stays in use until it is known.
        append.add_done_callback(lambda _: self._running.discard(note_key))
        return await asyncio.shield(append), False, errors


def _fitting(topic: Topic, checked: _Checked, *, partial: bool) -> tuple[Drafts, Sequence[EventError]]:
    """The drafts that the topic's schema allows, and the errors of all others, by index.

    Raises SchemaViolation, unless `partial`, when there is any that it does not.
    """
    drafts = checked.drafts
    if topic.schema is None or (schema := compiled(topic.schema)).allows_all(drafts.data):
        return drafts, checked.errors
    wrong_before = {error.index for error in checked.errors}
    indexes = (index for index in itertools.count() if index not in wrong_before)
    fitting, errors = list[int](), list[EventError]()
    for row, index in zip(range(drafts.count), indexes, strict=False):
        error = schema.error(drafts.data[row], index)
        if error is None:
            fitting.append(row)
        else:
            errors.append(error)
    if not partial:
        raise SchemaViolation(errors, drafts.count)
    return drafts.take(np.array(fitting, np.intp)), sorted([*checked.errors, *errors], key=lambda error: error.index)


def _replay(known: tuple[bytes, Receipt], fingerprint: bytes) -> tuple[Receipt, bool, Sequence[EventError]]:
    value, receipt = known
    if value[: len(fingerprint)] != fingerprint:
        raise KeyReused("This Idempotency-Key came with another body before: use a fresh key")
    return receipt, True, msgspec.json.decode(value[len(fingerprint) :], type=list[EventError])


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()


def _batch_of(topic: Topic, receipt: Receipt, errors: Sequence[EventError] = (), *, replayed: bool = False) -> Batch:
    new = receipt.count
    return Batch(
        topic=topic.name,
        accepted=new,
        duplicates=len(receipt.repeats),
        first_seq=receipt.first_seq if new else None,
        last_seq=receipt.first_seq + new - 1 if new else None,
        errors=errors,
        replayed=replayed,
        _receipt=receipt,
    )


# Checks of one event

_GOOD_TYPES_MAX = 10_000
_good_types: set[str] = set()
"""Event types that were checked before: there are few, and they come again and again."""


def _check_type(event_type: str) -> None:
    if not 1 <= len(event_type) <= _EVENT_TYPE_CHARACTERS_MAX or _CONTROL.search(event_type):
        raise _Fault(
            "INVALID_EVENT",
            f"event_type must have 1 to {_EVENT_TYPE_CHARACTERS_MAX} characters, none of them a control character",
            field="event_type",
        )
    if len(_good_types) < _GOOD_TYPES_MAX:
        _good_types.add(event_type)


def _check_types(event_types: Iterable[str]) -> None:
    """Raises _Wrong."""
    for event_type in event_types:
        try:
            _check_type(event_type)
        except _Fault as fault:
            raise _Wrong from fault


def _parsed(text: Text) -> NDArray[np.int64] | None:
    """A column of timestamps as microseconds since 1970 UTC; None where one of them is out of the ordinary."""
    lengths = text.lengths()
    last = np.frombuffer(text.utf8, np.uint8)[text.offsets[1:] - 1] if lengths.all() else np.zeros(1)
    # Arrow reads more than RFC 3339 allows, but of this length and with Z at the end only what it allows.
    if (last != _Z).any() or int(lengths.min()) < _SHORTEST_TIMESTAMP:
        return None
    try:
        # With options made once, and a view for the second step: a batch of 100 is parsed in half the time.
        times = pc.call_function("cast", [text.arrow()], _AS_TIMES)
        parsed: NDArray[np.int64] = times.view(pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        return None  # nanoseconds, or something wrong
    return parsed if int(parsed.min()) >= EARLIEST_US else None  # Arrow knows a year 0


def _cloud_event(raw: bytes | Raw, stream_id: str | None) -> _Line:
    """Raises _Fault. A stream that the request names goes before what the event says."""
    try:
        translation = translate(raw)
    except NoCloudEvent as error:
        raise _Fault("INVALID_EVENT", f"This is no CloudEvent: {error}", reason=str(error)) from error
    return _Line(*translation[:-1], stream_id=stream_id or translation.stream_id)


def _check_event_id(event_id: str) -> None:
    if not 1 <= len(event_id) <= _EVENT_ID_CHARACTERS_MAX:
        raise _Fault(
            "INVALID_EVENT", f"event_id must have 1 to {_EVENT_ID_CHARACTERS_MAX} characters", field="event_id"
        )


def _bad_timestamp(timestamp: str) -> _Fault:
    return _Fault(
        "INVALID_TIMESTAMP",
        f"timestamp {timestamp[:64]!r} is no RFC 3339 time with a zone, such as 2024-03-15T10:30:00Z",
        field="timestamp",
    )


def _too_large_event(limit: int) -> _Fault:
    return _Fault("PAYLOAD_TOO_LARGE", f"data and metadata are over the limit of {limit:,} bytes an event", limit=limit)


def _are_objects(column: Text) -> bool:
    """Whether every text that is there begins as a JSON object does."""
    if not column.utf8:
        return True
    starts = column.offsets[:-1]
    present = column.lengths() > 0
    first = np.frombuffer(column.utf8, np.uint8)[np.minimum(starts, len(column.utf8) - 1)]
    return bool((first[present] == _OPEN_BRACE).all())


def _with_stream(event: _Line, stream_id: str) -> _Single:
    name = event.stream_id or stream_id
    return _Single(name, event.event_type, event.timestamp, event.data, event.metadata, event.event_id)


# Errors for the whole request


def _check_text(body: bytes) -> None:
    """msgspec does not look into the strings it leaves raw, so invalid UTF-8 would pass."""
    try:
        _ = body.isascii() or body.decode()
    except UnicodeDecodeError as error:
        raise InvalidJson(f"The body is not UTF-8: {error.reason} at byte {error.start}", byte=error.start) from error


def _invalid_json(error: Exception) -> InvalidJson:
    if isinstance(error, RecursionError):
        return InvalidJson("The JSON is nested too deeply")
    return InvalidJson(f"The body is not valid JSON: {error}")


def _invalid_event(reason: str, **details: Any) -> InvalidEvent:
    return InvalidEvent(f"The event is wrong: {reason}", reason=reason, **details)


def _raise_fault(fault: _Fault) -> NoReturn:
    """The fault of a single event as the error of its request."""
    match fault.code:
        case "INVALID_TIMESTAMP":
            raise InvalidTimestamp(fault.message, **fault.details) from fault
        case "PAYLOAD_TOO_LARGE":
            raise TooLarge(fault.message, **fault.details) from fault
        case _:
            raise InvalidEvent(fault.message, **fault.details) from fault


def _for_all(errors: Sequence[EventError], total: int) -> Invalid:
    """One error for a batch: too large when that is all that is wrong with it."""
    if all(error.code == "PAYLOAD_TOO_LARGE" for error in errors):
        return TooLarge(f"{len(errors)} of {total} events are too large, and none was stored", errors=told(errors))
    wrong = InvalidEvents(errors, total)
    if all(error.code == "INVALID_TIMESTAMP" for error in errors):
        return InvalidTimestamp(wrong.message, **wrong.details)
    return wrong
