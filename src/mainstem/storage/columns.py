"""Events as columns: the one form in which they are written, kept live, sealed and recovered.

An event costs a fifth as much as columns than as an object, and the same buffers serve the write-ahead log, the live
Arrow tables and the Parquet files, so nothing is encoded twice.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

type Ints = NDArray[np.int64]

SCHEMA = pa.schema(
    [
        pa.field("topic", pa.int64(), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("idx", pa.int64(), nullable=False),
        pa.field("ts", pa.int64(), nullable=False),
        pa.field("arrived", pa.int64(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("data", pa.string(), nullable=False),
        pa.field("metadata", pa.string()),
        pa.field("event_id", pa.string()),
        pa.field("author", pa.int64(), nullable=False),
    ]
)
"""The columns of every engine. `ts` and `arrived` are microseconds since 1970 UTC; `idx` counts a topic's events from
0; `data` and `metadata` are the JSON text exactly as it came; `event_id` is the client's own id for deduplication;
`author` is the number of the account that sent it, 0 where nobody did."""


@dataclass(frozen=True, slots=True)
class Text:
    """A column of strings as Arrow lays it out: `offsets` has one more entry than there are rows, and begins at 0."""

    offsets: NDArray[np.int32]
    utf8: bytes

    @classmethod
    def of_bytes(cls, values: Sequence[bytes]) -> Self:
        """Takes anything with a length and a buffer, `msgspec.Raw` too. The caller vouches for valid UTF-8."""
        offsets = np.zeros(len(values) + 1, np.int32)
        np.cumsum(np.fromiter(map(len, values), np.int32, len(values)), out=offsets[1:])
        return cls(offsets, b"".join(values))

    @classmethod
    def of_strings(cls, values: Sequence[str]) -> Self:
        joined = "".join(values)
        if not joined.isascii():
            return cls.of_bytes([value.encode() for value in values])
        offsets = np.zeros(len(values) + 1, np.int32)
        np.cumsum(np.fromiter(map(len, values), np.int32, len(values)), out=offsets[1:])
        return cls(offsets, joined.encode())

    def lengths(self) -> NDArray[np.int32]:
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.intp]) -> "Text":
        offsets, utf8 = self.offsets, self.utf8
        return Text.of_bytes([utf8[offsets[row] : offsets[row + 1]] for row in rows])

    def __getitem__(self, row: int) -> bytes:
        return self.utf8[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[bytes]:
        utf8, offsets = self.utf8, self.offsets.tolist()
        return (utf8[begin:end] for begin, end in pairwise(offsets))

    def arrow(self, *, empty_is_null: bool = False) -> pa.Array:
        count = len(self.offsets) - 1
        if not empty_is_null:
            return pa.StringArray.from_buffers(count, pa.py_buffer(self.offsets), pa.py_buffer(self.utf8))
        if not self.utf8:
            return pa.nulls(count, pa.string())
        present = np.packbits(self.lengths() > 0, bitorder="little")
        return pa.StringArray.from_buffers(
            count, pa.py_buffer(self.offsets), pa.py_buffer(self.utf8), pa.py_buffer(present)
        )


def join_text(columns: Sequence[Text]) -> Text:
    lengths = np.concatenate([column.lengths() for column in columns])
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return Text(offsets, b"".join([column.utf8 for column in columns]))


class Draft(NamedTuple):
    """One event on its way in. `ts_us` and `event_type` are checked, `data` and `metadata` are valid JSON in UTF-8."""

    ts_us: int
    event_type: str
    data: bytes
    metadata: bytes = b""  # empty: none
    event_id: str = ""  # empty: none
    author: int = 0  # 0: nobody's


@dataclass(frozen=True, slots=True)
class Drafts:
    """Many events of one topic on their way in, as columns. Empty metadata and event_id mean none."""

    ts_us: Ints
    event_types: Text
    data: Text
    metadata: Text
    event_ids: Sequence[str] | None
    author: int = 0
    """The account that sends them; 0: nobody's."""

    @classmethod
    def of(cls, drafts: Iterable[Draft], author: int = 0) -> Self:
        rows = list(drafts)
        ids = [row.event_id for row in rows]
        return cls(
            np.array([row.ts_us for row in rows], np.int64),
            Text.of_strings([row.event_type for row in rows]),
            Text.of_bytes([row.data for row in rows]),
            Text.of_bytes([row.metadata for row in rows]),
            ids if any(ids) else None,
            author,
        )

    @property
    def count(self) -> int:
        return len(self.ts_us)

    def by(self, author: int) -> "Drafts":
        """The same, sent by this account."""
        return Drafts(self.ts_us, self.event_types, self.data, self.metadata, self.event_ids, author)

    def take(self, rows: NDArray[np.intp]) -> "Drafts":
        ids = self.event_ids
        return Drafts(
            self.ts_us[rows],
            self.event_types.take(rows),
            self.data.take(rows),
            self.metadata.take(rows),
            None if ids is None else [ids[row] for row in rows],
            self.author,
        )


class Row(NamedTuple):
    """One event as it is kept."""

    seq: int
    idx: int
    ts_us: int
    arrived_us: int
    event_type: str
    data: bytes
    metadata: bytes | None
    event_id: str | None
    author: int = 0
    """The account that sent it; 0 where nobody did."""


class Chunk:
    """Events that were committed together, in sequence order, of one topic or of many.

    Their sequence numbers are contiguous from `first_seq`. All arrays have one entry a row.
    """

    def __init__(
        self,
        *,
        first_seq: int,
        only_topic: int | None,
        topics: Ints,
        idx: Ints,
        ts_us: Ints,
        arrived_us: Ints,
        event_types: Text,
        data: Text,
        metadata: Text,
        event_ids: Text | None,
        authors: Ints,
    ) -> None:
        self.first_seq = first_seq
        self.only_topic = only_topic
        """The topic of all rows; None when they are of many."""
        self.topics = topics
        self.idx = idx
        self.ts_us = ts_us
        self.arrived_us = arrived_us
        self.event_types = event_types
        self.data = data
        self.metadata = metadata
        self.event_ids = event_ids
        self.authors = authors
        self.count = len(ts_us)

    @property
    def next_seq(self) -> int:
        return self.first_seq + self.count

    @property
    def bytes(self) -> int:
        """About how much memory the rows take."""
        return len(self.data.utf8) + len(self.metadata.utf8) + len(self.event_types.utf8) + 72 * self.count

    @cached_property
    def batch(self) -> pa.RecordBatch:
        """The rows as Arrow, sharing the buffers."""
        ids = pa.nulls(self.count, pa.string()) if self.event_ids is None else self.event_ids.arrow(empty_is_null=True)
        return pa.RecordBatch.from_arrays(
            [
                pa.array(self.topics),
                pa.array(np.arange(self.first_seq, self.next_seq, dtype=np.int64)),
                pa.array(self.idx),
                pa.array(self.ts_us),
                pa.array(self.arrived_us),
                self.event_types.arrow(),
                self.data.arrow(),
                self.metadata.arrow(empty_is_null=True),
                ids,
                pa.array(self.authors),
            ],
            schema=SCHEMA,
        )


def join_chunks(chunks: Sequence[Chunk]) -> Chunk:
    """Neighbours as one; each must begin where the one before it ends."""
    with_ids = any(chunk.event_ids is not None for chunk in chunks)
    topics = {chunk.only_topic for chunk in chunks}
    return Chunk(
        first_seq=chunks[0].first_seq,
        only_topic=topics.pop() if len(topics) == 1 else None,
        topics=np.concatenate([chunk.topics for chunk in chunks]),
        idx=np.concatenate([chunk.idx for chunk in chunks]),
        ts_us=np.concatenate([chunk.ts_us for chunk in chunks]),
        arrived_us=np.concatenate([chunk.arrived_us for chunk in chunks]),
        event_types=join_text([chunk.event_types for chunk in chunks]),
        data=join_text([chunk.data for chunk in chunks]),
        metadata=join_text([chunk.metadata for chunk in chunks]),
        event_ids=join_text([chunk.event_ids or no_text(chunk.count) for chunk in chunks]) if with_ids else None,
        authors=np.concatenate([chunk.authors for chunk in chunks]),
    )


def no_text(count: int) -> Text:
    """A column of `count` empty strings."""
    return Text(np.zeros(count + 1, np.int32), b"")
