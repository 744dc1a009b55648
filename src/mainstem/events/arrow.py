"""Bodies that are Arrow IPC streams: read with care, for whoever sends them may have made them by hand.

What a body says of itself is checked before anything is unpacked, and what was unpacked is validated before it is read,
because Arrow's own kernels trust their offsets.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Raw

from mainstem.errors import Invalid
from mainstem.storage import Text

COLUMNS = ("timestamp", "event_type", "data", "metadata", "event_id")

_MESSAGES_MAX = 1_000
_raws = msgspec.json.Decoder(list[Raw])


class InvalidArrow(Invalid):
    """The body is no Arrow stream, or not one of events."""


class ArrowTooLarge(Invalid):
    """The stream is small as sent, but not once it is unpacked."""


class Columns(NamedTuple):
    """The columns of a body, each in one piece and without nulls but for `timestamp`; None: not sent."""

    rows: int
    timestamp: pa.StringArray | pa.Int64Array | None
    """Text, or microseconds since 1970 UTC, which may be past what a date can be."""
    event_type: pa.StringArray
    data: pa.StringArray
    metadata: pa.StringArray | None
    event_id: pa.StringArray | None


def read(body: bytes, bytes_max: int) -> Columns:
    """The columns of an Arrow IPC stream. `bytes_max` is for what it unpacks to.

    Raises InvalidArrow, ArrowTooLarge.
    """
    try:
        _check_messages(body, bytes_max)
        with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
            _check_names(stream.schema)
            table = pa.Table.from_batches(list(stream), stream.schema)
        table.validate(full=True)
        columns = {name: table.column(name).combine_chunks() for name in table.column_names}
        return Columns(
            table.num_rows,
            _times(columns["timestamp"]) if "timestamp" in columns else None,
            _text(columns, "event_type", "", bytes_max),
            _text(columns, "data", "{}", bytes_max),
            _text(columns, "metadata", "", bytes_max) if "metadata" in columns else None,
            _text(columns, "event_id", "", bytes_max) if "event_id" in columns else None,
        )
    except (pa.ArrowException, OSError, OverflowError, UnicodeDecodeError, struct.error) as error:
        reason = str(error).partition("\n")[0][:200]
        raise InvalidArrow(f"The body is no sound Arrow stream: {reason}") from error


def are_objects(column: pa.StringArray) -> bool:
    """Whether each text of a column is a JSON object and nothing beside it: all of them are read as one list."""
    count = len(column)
    if not count:
        return True
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), column), ",")[0]
    try:
        members = _raws.decode(b"[%b]" % joined.as_buffer())
    except (msgspec.DecodeError, RecursionError):
        return False
    # Of the same lengths, so that no row's text closes what another's has opened.
    lengths = np.fromiter(map(len, members), np.int32, len(members))
    starts = pc.starts_with(column, "{")
    return bool(
        len(members) == count
        and np.array_equal(lengths, pc.binary_length(column).to_numpy())
        and pc.all(starts).as_py()
    )


def as_text(column: pa.StringArray) -> Text:
    """The column's buffers, copied out of the body."""
    _, offsets, utf8 = column.buffers()
    count = len(column)
    mine = np.frombuffer(offsets, np.int32)[column.offset : column.offset + count + 1]
    first, last = (int(mine[0]), int(mine[-1])) if len(mine) else (0, 0)
    return Text(mine - mine[0], utf8[first:last].to_pybytes() if utf8 is not None else b"")


# Names and types


def _check_names(schema: pa.Schema) -> None:
    names = schema.names
    missing = [name for name in ("event_type", "data") if name not in names]
    unknown = [name for name in names if name not in COLUMNS]
    if missing or unknown or len(set(names)) < len(names):
        wrong = f"it lacks {missing[0]!r}" if missing else f"{unknown[0]!r} is none" if unknown else "one comes twice"
        raise InvalidArrow(
            f"The columns of an Arrow body are {', '.join(COLUMNS)}, the first and the last two if you like: {wrong}",
            columns=list(COLUMNS),
        )


def _times(column: pa.Array) -> pa.Array:
    kind = column.type
    if not pa.types.is_timestamp(kind):
        if _is_text(kind):
            return column.cast(pa.string())
        raise InvalidArrow(f"timestamp must be text or a timestamp with a time zone, not {kind}", field="timestamp")
    if kind.tz is None:
        raise InvalidArrow("timestamp has no time zone: make it timestamp('us', 'UTC')", field="timestamp")
    if kind.unit == "ns":
        return pc.floor_temporal(column, unit="microsecond").cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return column.cast(pa.timestamp("us", "UTC")).cast(pa.int64())


def _text(columns: dict[str, pa.Array], name: str, missing: str, bytes_max: int) -> pa.StringArray:
    column = columns[name]
    if isinstance(column, pa.ExtensionArray):  # arrow.json, which is text with a promise
        column = column.storage
    kind = column.type
    if pa.types.is_dictionary(kind):
        if not _is_text(kind.value_type):
            raise _no_text(name, kind)
        _check_size(pc.take(pc.binary_length(column.dictionary), column.indices), name, bytes_max)
        column = column.dictionary_decode()
    elif not _is_text(kind):
        raise _no_text(name, kind)
    elif pa.types.is_string_view(kind):
        _check_size(_view_lengths(column), name, bytes_max)
    return column.cast(pa.string()).fill_null(missing)


def _no_text(name: str, kind: pa.DataType) -> InvalidArrow:
    said = "JSON text" if name in ("data", "metadata") else "text"
    return InvalidArrow(f"{name} must be {said} (utf8), not {kind}", field=name)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _view_lengths(column: pa.Array) -> pa.Array:
    """A view is sixteen bytes that begin with the text's length; Arrow has no kernel for it."""
    views = np.frombuffer(column.buffers()[1], np.int32)[4 * column.offset :: 4][: len(column)]
    return pa.array(np.where(column.is_valid().to_numpy(zero_copy_only=False), views, 0))


def _check_size(lengths: pa.Array, name: str, bytes_max: int) -> None:
    """Many rows may share one text, and only then take their own copies of it."""
    if (pc.sum(lengths.cast(pa.int64())).as_py() or 0) > bytes_max:
        raise ArrowTooLarge(f"{name} unpacks to more than {bytes_max:,} bytes", limit_bytes=bytes_max, field=name)


# What a stream says of itself: Message.header, RecordBatch.buffers and .compression, DictionaryBatch.data

_HEADER = 2
_BUFFERS = 2
_COMPRESSION = 3
_DICTIONARY_DATA = 1


def _check_messages(body: bytes, bytes_max: int) -> None:
    """Whether all that is compressed fits the limit once it is not: each buffer begins with its size."""
    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(body))
    total = 0
    for _ in range(_MESSAGES_MAX):
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        if message.type in ("record batch", "dictionary"):
            is_dictionary = message.type == "dictionary"
            total += sum(_declared_sizes(message.metadata.to_pybytes(), message.body, is_dictionary=is_dictionary))
            if total > bytes_max:
                raise ArrowTooLarge(f"The body unpacks to more than {bytes_max:,} bytes", limit_bytes=bytes_max)
    raise InvalidArrow(f"The stream has more than {_MESSAGES_MAX:,} batches; send fewer and bigger ones")


def _declared_sizes(metadata: bytes, body: pa.Buffer, *, is_dictionary: bool) -> Iterator[int]:
    """The size of each compressed buffer of a batch, uncompressed."""
    batch = _Table(metadata, struct.unpack_from("<I", metadata)[0]).table(_HEADER)
    if batch is not None and is_dictionary:
        batch = batch.table(_DICTIONARY_DATA)
    if batch is None or batch.table(_COMPRESSION) is None:
        return
    for offset, length in batch.pairs(_BUFFERS):
        if length >= 8:
            yield max(struct.unpack_from("<q", body, offset)[0], 0)


class _Table:
    """A table of a flatbuffer, as far as we look into one. Arrow's own reader has checked it before."""

    def __init__(self, buffer: bytes, place: int) -> None:
        self._buffer = buffer
        self._place = place

    def field(self, number: int) -> int | None:
        """Where the field lies."""
        vtable = self._place - struct.unpack_from("<i", self._buffer, self._place)[0]
        size = struct.unpack_from("<H", self._buffer, vtable)[0]
        slot = 4 + 2 * number
        offset = struct.unpack_from("<H", self._buffer, vtable + slot)[0] if slot < size else 0
        return self._place + offset if offset else None

    def table(self, number: int) -> "_Table | None":
        place = self.field(number)
        if place is None:
            return None
        return _Table(self._buffer, place + struct.unpack_from("<I", self._buffer, place)[0])

    def pairs(self, number: int) -> Iterator[tuple[int, int]]:
        """A vector of structs of two int64."""
        place = self.field(number)
        if place is None:
            return
        vector = place + struct.unpack_from("<I", self._buffer, place)[0]
        count = struct.unpack_from("<I", self._buffer, vector)[0]
        yield from struct.iter_unpack("<qq", self._buffer[vector + 4 : vector + 4 + 16 * count])
