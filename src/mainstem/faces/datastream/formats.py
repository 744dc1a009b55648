"""The formats of an export: tables in, bytes out, piece by piece.

Writers wait for nothing; they are called in a thread.
"""

import asyncio
import io
import secrets
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mainstem.events import Column, ColumnKind, export_schema

_RISKY = r"^[=+\-@\t\r]"
"""How cells begin that a spreadsheet would take for a formula."""


_PIECE_BYTES = 1 << 20


class Writer(Protocol):
    """Writes one export."""

    def begin(self) -> bytes: ...

    def add(self, table: pa.Table) -> bytes:
        """The bytes for some more rows; at least one."""

    def end(self) -> bytes: ...


class Format(NamedTuple):
    media_type: str
    make: Callable[[Sequence[Column], bool], Writer]
    """From the columns, and whether cells stay as they are even when a spreadsheet would run them."""
    compress: bool
    """Whether HTTP's own compression gains anything."""
    takes_columns: bool


async def written(writer: Writer, tables: AsyncGenerator[pa.Table]) -> AsyncGenerator[bytes]:
    """All of an export, in pieces of a size that a socket takes well."""
    yield writer.begin()
    async with aclosing(tables):
        async for table in tables:
            text = await asyncio.to_thread(writer.add, table)
            for start in range(0, len(text), _PIECE_BYTES):
                yield text[start : start + _PIECE_BYTES]
    yield writer.end()


class _Drain(io.RawIOBase):
    """A file that is emptied while it is written."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


# JSON


class Lines:
    """One event a line, as a query shows it."""

    def __init__(self, columns: Sequence[Column], raw: bool) -> None:
        pass

    def begin(self) -> bytes:
        return b""

    def add(self, table: pa.Table) -> bytes:
        return b"".join(_text_of(batch) for batch in _event_lines(table, "\n"))

    def end(self) -> bytes:
        return b""


class Document:
    """One array of events."""

    def __init__(self, columns: Sequence[Column], raw: bool) -> None:
        self._before = b"[\n"

    def begin(self) -> bytes:
        return b""

    def add(self, table: pa.Table) -> bytes:
        text = b"".join(_text_of(batch) for batch in _event_lines(table, ",\n"))
        before, self._before = self._before, b",\n"
        return before + text[:-2]  # without the comma, which is right only if more comes

    def end(self) -> bytes:
        return b"[]\n" if self._before == b"[\n" else b"\n]\n"


def _event_lines(table: pa.Table, after: str) -> Iterator[Any]:
    for batch in table.combine_chunks().to_batches():
        event_id, time, event_type, data, metadata = batch.columns
        types = event_type.dictionary_encode()
        quoted = pa.array([msgspec.json.encode(name).decode() for name in types.dictionary.to_pylist()], pa.string())
        more = pc.binary_join_element_wise(',"metadata":', _on_one_line(metadata), "")
        yield pc.binary_join_element_wise(
            '{"event_id":"',
            event_id,
            '","timestamp":"',
            time_text(time),
            '","event_type":',
            quoted.take(types.indices),
            ',"data":',
            _on_one_line(data),
            more.fill_null(""),
            "}" + after,
            "",
        )


def _on_one_line(json: Any) -> Any:
    """JSON text whose line ends, which can only stand between its tokens, are spaces."""
    text = _text_of(json)
    if b"\n" in text or b"\r" in text:
        return pc.replace_substring_regex(json, r"[\r\n]", " ")
    return json


def _text_of(array: Any) -> bytes:
    """All strings of an array, one after the other."""
    offsets, text = array.buffers()[1:]
    if text is None or not len(array):
        return b""
    ends = memoryview(offsets).cast("i")
    return bytes(memoryview(text)[ends[array.offset] : ends[array.offset + len(array)]])


def time_text(times: Any) -> Any:
    """RFC 3339 in UTC, with microseconds where there are any."""
    micros = times.cast(pa.int64())
    seconds = pc.divide(pc.subtract(micros, _remainder(micros)), 1_000_000)
    text = seconds.cast(pa.timestamp("s")).cast(pa.string())
    text = pc.replace_substring(text, " ", "T")
    left = _remainder(micros)
    if not pc.any(pc.not_equal(left, 0)).as_py():
        return pc.binary_join_element_wise(text, "Z", "")
    digits = pc.utf8_lpad(left.cast(pa.string()), 6, "0")
    fraction = pc.if_else(pc.equal(left, 0), "", pc.binary_join_element_wise(".", digits, ""))
    return pc.binary_join_element_wise(text, fraction, "Z", "")


def _remainder(micros: Any) -> Any:
    """Microseconds since the last whole second, before 1970 as well."""
    left = pc.subtract(micros, pc.multiply(pc.divide(micros, 1_000_000), 1_000_000))
    return pc.if_else(pc.less(left, 0), pc.add(left, 1_000_000), left)


# CSV


class Csv:
    """A header, then a line each; times as in JSON, nothing where there is nothing."""

    _options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed")

    def __init__(self, columns: Sequence[Column], raw: bool) -> None:
        self._columns = columns
        self._raw = raw

    def begin(self) -> bytes:
        names = [column.name if self._raw else _harmless_name(column.name) for column in self._columns]
        return (",".join(f'"{name.replace('"', '""')}"' if '"' in name else name for name in names) + "\n").encode()

    def add(self, table: pa.Table) -> bytes:
        drain = _Drain()
        pyarrow.csv.write_csv(self._plain(table), drain, self._options)
        return drain.take()

    def end(self) -> bytes:
        return b""

    def _plain(self, table: pa.Table) -> pa.Table:
        arrays = []
        for column, values in zip(self._columns, table.columns, strict=True):
            if column.kind is ColumnKind.TIME:
                values = time_text(values)
            elif not self._raw and column.kind is not ColumnKind.BOOLEAN:
                values = _harmless(values)
            arrays.append(values)
        return pa.Table.from_arrays(arrays, names=table.column_names)


def _harmless(values: Any) -> Any:
    """The cells as text that no spreadsheet runs. A number below zero begins like a formula, and is treated as one."""
    if not pa.types.is_string(values.type):
        # -0.0 equals 0. Most columns have neither, and numbers are written faster than text.
        if not pc.any(pc.less_equal(values, 0)).as_py():
            return values
        values = values.cast(pa.string())
    return _with_apostrophes(values)


def _with_apostrophes(text: Any) -> Any:
    risky = pc.match_substring_regex(text, _RISKY).fill_null(False)
    if not pc.any(risky).as_py():
        return text
    return pc.if_else(risky, pc.binary_join_element_wise("'", text, ""), text)


def _harmless_name(name: str) -> str:
    return f"'{name}" if name[0] in "=+-@\t\r" else name


# Files of columns


class Parquet:
    def __init__(self, columns: Sequence[Column], raw: bool) -> None:
        schema = export_schema(columns)
        self._drain = _Drain()
        kinds = {column.name: column.kind for column in columns}
        repeating = [name for name in kinds if name in ("event_type", "metadata")]
        repeating += [name for name in kinds if "." in name and kinds[name] is ColumnKind.TEXT]
        delta = [name for name in kinds if kinds[name] in (ColumnKind.TIME, ColumnKind.INTEGER)]
        self._writer = pq.ParquetWriter(
            self._drain,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=repeating,
            column_encoding=dict.fromkeys(delta, "DELTA_BINARY_PACKED"),
        )

    def begin(self) -> bytes:
        return self._drain.take()

    def add(self, table: pa.Table) -> bytes:
        self._writer.write_table(table)
        return self._drain.take()

    def end(self) -> bytes:
        self._writer.close()
        return self._drain.take()


class ArrowStream:
    def __init__(self, columns: Sequence[Column], raw: bool) -> None:
        self._drain = _Drain()
        self._writer = pa.ipc.new_stream(self._drain, export_schema(columns))

    def begin(self) -> bytes:
        return self._drain.take()

    def add(self, table: pa.Table) -> bytes:
        self._writer.write_table(table)
        return self._drain.take()

    def end(self) -> bytes:
        self._writer.close()
        return self._drain.take()


_AVRO_BLOCK_ROWS = 4_096
_VARINT_BYTES_MAX = 10
_AVRO: Mapping[ColumnKind, Any] = {
    ColumnKind.TEXT: "string",
    ColumnKind.JSON: "string",
    ColumnKind.TIME: {"type": "long", "logicalType": "timestamp-micros"},
    ColumnKind.INTEGER: "long",
    ColumnKind.NUMBER: "double",
    ColumnKind.BOOLEAN: "boolean",
}


class Avro:
    """An object container file of records, laid out column by column and then joined: several times as fast as record
    by record. A name that Avro does not allow has underscores in it, and the right one as its `doc`."""

    _magic = b"Obj\x01"

    def __init__(self, columns: Sequence[Column], raw: bool) -> None:
        self._columns = columns
        self._sync = secrets.token_bytes(16)
        fields = [
            {
                "name": name,
                "type": _AVRO[column.kind] if column.always else ["null", _AVRO[column.kind]],
                **({} if name == column.name else {"doc": column.name}),
            }
            for name, column in zip(_avro_names(columns), columns, strict=True)
        ]
        self._schema = msgspec.json.encode({"type": "record", "name": "event", "fields": fields})

    def begin(self) -> bytes:
        facts = {b"avro.schema": self._schema, b"avro.codec": b"deflate"}
        pairs = b"".join(_varint(len(text)) + text for pair in facts.items() for text in pair)
        return self._magic + _varint(len(facts)) + pairs + _varint(0) + self._sync

    def add(self, table: pa.Table) -> bytes:
        return b"".join(
            self._block(batch) for batch in table.combine_chunks().to_batches(max_chunksize=_AVRO_BLOCK_ROWS)
        )

    def end(self) -> bytes:
        return b""

    def _block(self, batch: Any) -> bytes:
        values = [
            part for column, array in zip(self._columns, batch.columns, strict=True) for part in _avro(column, array)
        ]
        rows = pc.binary_join_element_wise(*values, pa.scalar(b"", pa.binary()))
        packer = zlib.compressobj(level=1, wbits=-15)
        packed = packer.compress(_text_of(rows)) + packer.flush()
        return _varint(batch.num_rows) + _varint(len(packed)) + packed + self._sync


def _avro(column: Column, values: Any) -> list[Any]:
    """One column in Avro's binary encoding: arrays of bytes that stand one after the other in each record."""
    present = values.is_valid()
    match column.kind:
        case ColumnKind.TEXT | ColumnKind.JSON:
            text = values.cast(pa.binary()).fill_null(b"")
            parts = [_varints(pc.binary_length(text).cast(pa.int64()).to_numpy()), text]
        case ColumnKind.NUMBER:
            parts = [_cut(values.fill_null(0).to_numpy().astype("<f8").tobytes(), 8, len(values))]
        case ColumnKind.BOOLEAN:
            parts = [_cut(values.fill_null(False).cast(pa.uint8()).to_numpy().tobytes(), 1, len(values))]
        case _:
            parts = [_varints(values.cast(pa.int64()).fill_null(0).to_numpy())]
    if column.always:
        return parts
    # A union begins with the place of its branch: null is 0, which nothing follows, the value is 1.
    nothing = pa.scalar(b"", pa.binary())
    branch = pc.if_else(present, pa.scalar(_varint(1), pa.binary()), pa.scalar(_varint(0), pa.binary()))
    return [branch, *(pc.if_else(present, part, nothing) for part in parts)]


def _cut(content: bytes, width: int, count: int) -> Any:
    """Bytes as an array of equal pieces."""
    offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32)
    return pa.BinaryArray.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(content)])


def _varints(numbers: NDArray[np.int64]) -> Any:
    """Avro's longs: zigzag, then seven bits a byte from the lowest on, the high bit set on all but the last."""
    left = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
    digits = np.zeros((len(left), _VARINT_BYTES_MAX), np.uint8)
    lengths = np.ones(len(left), np.int32)
    for place in range(_VARINT_BYTES_MAX):
        digits[:, place] = left & 0x7F
        left = left >> np.uint64(7)
        more = left > 0
        digits[more, place] |= 0x80
        lengths += more
        if not more.any():
            break
    offsets = np.zeros(len(left) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    content = digits[np.arange(_VARINT_BYTES_MAX) < lengths[:, None]].tobytes()
    return pa.BinaryArray.from_buffers(pa.binary(), len(left), [None, pa.py_buffer(offsets), pa.py_buffer(content)])


def _varint(number: int) -> bytes:
    return bytes(_varints(np.array([number], np.int64))[0].as_py())


def _avro_names(columns: Sequence[Column]) -> list[str]:
    names: list[str] = []
    for column in columns:
        name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in column.name)
        while name in names:
            name += "_"
        names.append(name)
    return names


FORMATS: Mapping[str, Format] = {
    "json": Format("application/json", Document, compress=True, takes_columns=False),
    "ndjson": Format("application/x-ndjson", Lines, compress=True, takes_columns=False),
    "csv": Format("text/csv; charset=utf-8; header=present", Csv, compress=True, takes_columns=True),
    "parquet": Format("application/vnd.apache.parquet", Parquet, compress=False, takes_columns=True),
    "avro": Format("application/avro", Avro, compress=False, takes_columns=True),
    "arrow": Format("application/vnd.apache.arrow.stream", ArrowStream, compress=True, takes_columns=True),
}
