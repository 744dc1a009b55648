"""One frame of the write-ahead log: events that were committed together, as their columns, under two checksums.

    header   magic, CRC-32 of the rest of the header, CRC-32 of the body, and what `_HEADER` names
    body     [topics i64*n, idx i64*n: only when there are many topics] [authors i64*n: only when many] ts i64*n
             offsets i32*(n+1) of event types, data, metadata [, event ids]
             the UTF-8 of event types, data, metadata [, event ids]
             [note: see `_pack_note`]

All numbers are little-endian. The header has a checksum of its own so that a short last frame (a torn write, which
was never acknowledged) can be told from a damaged one (which may have been).
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np

from mainstem.storage.columns import Chunk, Ints, Text
from mainstem.storage.ports import Note, Receipt

MAGIC = b"MSF2"
"""Of this version's frames. Any other that begins with `MAGIC_FAMILY` is another version's, and not damage."""
MAGIC_FAMILY = b"MSF"
_PREFIX = struct.Struct("<4sI")
# body CRC, body size, count, flags, first seq, topic, first idx, arrived, author, note size
_HEADER = struct.Struct("<IIIIQqqqqI4x")
HEADER_SIZE = _PREFIX.size + _HEADER.size
BODY_SIZE_MAX = 1 << 30

_MANY_TOPICS = 1
_HAS_IDS = 2
_MANY_AUTHORS = 4

_NOTE = struct.Struct("<16sqqII")
_REPEAT = struct.Struct("<Iq")

type Buffer = bytes | memoryview | np.ndarray


class Noted(NamedTuple):
    """A note as it is kept: what was to be remembered, and the receipt of the append it came with."""

    note: Note
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Frame:
    """What one frame holds: events, a note, or both. Its events take `count` sequence numbers from `first_seq` on."""

    chunk: Chunk | None
    noted: Noted | None
    first_seq: int
    count: int


def encode(first_seq: int, arrived_us: int, chunk: Chunk | None, noted: Noted | None = None) -> list[Buffer]:
    """The buffers of a frame, ready for `writev`. Rows share `arrived_us`."""
    flags, topic, first_idx, author, count = 0, 0, 0, 0, 0
    body: list[Buffer] = []
    if chunk is not None:
        count = chunk.count
        if chunk.only_topic is None:
            flags |= _MANY_TOPICS
            body += (chunk.topics, chunk.idx)
        else:
            topic, first_idx = chunk.only_topic, int(chunk.idx[0])
        author = int(chunk.authors[0])
        if (chunk.authors != author).any():
            flags |= _MANY_AUTHORS
            body.append(chunk.authors)
        texts = [chunk.event_types, chunk.data, chunk.metadata]
        if chunk.event_ids is not None:
            flags |= _HAS_IDS
            texts.append(chunk.event_ids)
        body.append(chunk.ts_us)
        body += [text.offsets for text in texts]
        body += [text.utf8 for text in texts]
    note = _pack_note(noted) if noted else b""
    if note:
        body.append(note)
    crc, size = 0, 0
    for buffer in body:
        crc = zlib.crc32(buffer, crc)
        size += buffer.nbytes if isinstance(buffer, np.ndarray) else len(buffer)
    rest = _HEADER.pack(crc, size, count, flags, first_seq, topic, first_idx, arrived_us, author, len(note))
    return [_PREFIX.pack(MAGIC, zlib.crc32(rest)) + rest, *body]


def _pack_note(noted: Noted) -> bytes:
    receipt, note = noted.receipt, noted.note
    head = _NOTE.pack(note.key, receipt.first_seq, receipt.first_idx, receipt.count, len(receipt.repeats))
    return head + b"".join(_REPEAT.pack(row, seq) for row, seq in receipt.repeats.items()) + note.value


def _unpack_note(packed: bytes) -> Noted:
    key, first_seq, first_idx, count, repeats = _NOTE.unpack_from(packed)
    end = _NOTE.size + repeats * _REPEAT.size
    pairs = dict(_REPEAT.iter_unpack(packed[_NOTE.size : end]))
    return Noted(Note(key, packed[end:]), Receipt(first_seq, first_idx, count, pairs))


class Flaw(Enum):
    """Why a scan stopped before the end of the file."""

    TORN = "a write that was cut short"
    DAMAGED = "bytes that fail their checksum"


class Scan(NamedTuple):
    """What a scan found at `offset`: a frame that ends at `end`, or a flaw."""

    offset: int
    end: int
    found: Frame | Flaw


def scan(data: memoryview, offset: int) -> Iterator[Scan]:
    """Read frames from `offset` to the end, or to the first flaw, which is the last thing yielded.

    A short frame at the very end, or nothing but zeros, is torn: the file system had not finished it. Anything else
    that fails its checksum is damaged, for it may have been acknowledged.
    """
    while offset < len(data):
        header = _read_header(data, offset)
        if isinstance(header, Flaw):
            yield Scan(offset, len(data), header)
            return
        crc, size, count, flags, first_seq, topic, first_idx, arrived_us, author, note_size = header
        start, end = offset + HEADER_SIZE, offset + HEADER_SIZE + size
        if end > len(data):
            yield Scan(offset, len(data), Flaw.TORN)
            return
        body = bytes(data[start:end])
        if zlib.crc32(body) != crc:
            yield Scan(offset, end, Flaw.DAMAGED if any(body) else Flaw.TORN)
            return
        chunk = _decode(body, count, flags, first_seq, topic, first_idx, arrived_us, author) if count else None
        noted = _unpack_note(body[size - note_size :]) if note_size else None
        yield Scan(offset, end, Frame(chunk, noted, first_seq, count))
        offset = end


def _read_header(data: memoryview, offset: int) -> tuple[int, ...] | Flaw:
    rest = bytes(data[offset : offset + HEADER_SIZE])
    if len(rest) < HEADER_SIZE:
        # Torn even where its first bytes are wrong? Then it is damage that happens to be at the end.
        return Flaw.TORN if MAGIC.startswith(rest[:4]) or not any(data[offset:]) else Flaw.DAMAGED
    magic, crc = _PREFIX.unpack_from(rest)
    if magic != MAGIC or zlib.crc32(rest[_PREFIX.size :]) != crc:
        return Flaw.DAMAGED if any(data[offset:]) else Flaw.TORN
    fields: tuple[int, ...] = _HEADER.unpack_from(rest, _PREFIX.size)
    return fields


def find_next(data: memoryview, offset: int) -> int | None:
    """Where the next sound header after `offset` begins, to read on behind damage."""
    whole = bytes(data)
    while (offset := whole.find(MAGIC, offset)) >= 0:
        if not isinstance(_read_header(data, offset), Flaw):
            return offset
        offset += 1
    return None


def _decode(
    body: bytes, count: int, flags: int, first_seq: int, topic: int, first_idx: int, arrived_us: int, author: int
) -> Chunk:
    reader = _Reader(body)
    if flags & _MANY_TOPICS:
        topics, idx, only_topic = reader.ints(count), reader.ints(count), None
    else:
        topics, idx = np.full(count, topic, np.int64), np.arange(first_idx, first_idx + count, dtype=np.int64)
        only_topic = topic
    authors = reader.ints(count) if flags & _MANY_AUTHORS else np.full(count, author, np.int64)
    ts_us = reader.ints(count)
    texts = reader.texts(count, 4 if flags & _HAS_IDS else 3)
    return Chunk(
        first_seq=first_seq,
        only_topic=only_topic,
        topics=topics,
        idx=idx,
        ts_us=ts_us,
        arrived_us=np.full(count, arrived_us, np.int64),
        event_types=texts[0],
        data=texts[1],
        metadata=texts[2],
        event_ids=texts[3] if flags & _HAS_IDS else None,
        authors=authors,
    )


class _Reader:
    """Takes columns from the front of a body. Numbers come first in it, so that they are aligned."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def ints(self, count: int) -> Ints:
        values = np.frombuffer(self._body, np.int64, count, self._at)
        self._at += values.nbytes
        return values

    def texts(self, count: int, columns: int) -> list[Text]:
        offsets = []
        for _ in range(columns):
            offsets.append(np.frombuffer(self._body, np.int32, count + 1, self._at))
            self._at += offsets[-1].nbytes
        texts = []
        for column in offsets:
            size = int(column[-1])
            texts.append(Text(column, self._body[self._at : self._at + size]))
            self._at += size
        return texts
