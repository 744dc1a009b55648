"""Pages of a topic's events: which parts of a snapshot must be looked at, and where the next page begins. All pure."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mainstem.events.filters import Condition, Filter, InvalidQuery
from mainstem.ids import TopicId
from mainstem.storage import Part, Row, Snapshot

_INT64_MAX = 2**63 - 1


class Range(NamedTuple):
    """A stretch of time in microseconds, the end left out; None: no limit."""

    start_us: int | None = None
    end_us: int | None = None

    def holds(self, extent: "Extent") -> bool:
        """Whether all of the extent lies inside."""
        after = self.start_us is None or self.start_us <= extent.min_ts_us
        return after and (self.end_us is None or extent.max_ts_us < self.end_us)

    def meets(self, extent: "Extent") -> bool:
        after = self.start_us is None or self.start_us <= extent.max_ts_us
        return after and (self.end_us is None or extent.min_ts_us < self.end_us)

    def clip(self, extent: "Extent") -> tuple[int, int]:
        """The part of the extent's time that lies inside, the end left out; they must meet."""
        start_us, end_us = extent.min_ts_us, extent.max_ts_us + 1
        return (
            start_us if self.start_us is None else max(start_us, self.start_us),
            end_us if self.end_us is None else min(end_us, self.end_us),
        )

    def condition(self) -> list[Condition]:
        ends = [("ts >= ?", self.start_us), ("ts < ?", self.end_us)]
        return [Condition(sql, [value]) for sql, value in ends if value is not None]


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended, in what had been there when the first page was read."""

    query: bytes
    ts_us: int
    seq: int
    next_seq: int
    """Events from here on came later than the first page and stay out."""
    total_count: int


def query_digest(topic: TopicId, time: Range, filters: Sequence[Filter], *, descending: bool = False) -> bytes:
    """The same for two queries that mean the same, and else not."""
    return hashlib.blake2b(msgspec.msgpack.encode((topic, time, filters, descending)), digest_size=16).digest()


def encode_cursor(cursor: Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).rstrip(b"=").decode()


def decode_cursor(text: str, query: bytes) -> Cursor:
    """Raises InvalidQuery when it is none, or belongs to another query."""
    try:
        packed = base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
        cursor = msgspec.msgpack.decode(packed, type=Cursor)
    except (ValueError, msgspec.DecodeError) as error:
        raise InvalidQuery("This is no cursor: pass next_cursor as it came.") from error
    if any(
        not -_INT64_MAX <= value <= _INT64_MAX
        for value in (cursor.ts_us, cursor.seq, cursor.next_seq, cursor.total_count)
    ):
        raise InvalidQuery("This is no cursor: pass next_cursor as it came.")
    if cursor.query != query:
        raise InvalidQuery("The cursor belongs to another query: change nothing but limit from page to page.")
    return cursor


class Extent(NamedTuple):
    """How far a part of a snapshot reaches; the live events are one, with `part` None."""

    part: Part | None
    rows: int
    first_idx: int
    min_ts_us: int
    max_ts_us: int
    types: Mapping[str, int] | None

    @property
    def end_idx(self) -> int:
        return self.first_idx + self.rows


def extents(snapshot: Snapshot) -> list[Extent]:
    """Everything in a snapshot, in index order. The first look at live events may take some ms: call it in a thread."""
    found = [
        Extent(part, part.rows, part.first_idx, part.min_ts_us, part.max_ts_us, part.types) for part in snapshot.parts
    ]
    live = snapshot.live
    if live.num_rows:
        ends = pc.min_max(live["ts"]).as_py()
        found.append(Extent(None, live.num_rows, live["idx"][0].as_py(), ends["min"], ends["max"], None))
    return found


class Excerpt:
    """A snapshot reduced to some of its extents, and to events from an index on."""

    def __init__(self, whole: Snapshot, chosen: Sequence[Extent], from_idx: int = 0) -> None:
        self._whole = whole
        self.topic = whole.topic
        self.parts: Sequence[Part] = [extent.part for extent in chosen if extent.part is not None]
        self.live: pa.Table = whole.live.slice(0, 0)
        if any(extent.part is None for extent in chosen):
            self.live = whole.live.slice(max(0, from_idx - whole.live["idx"][0].as_py()))
        self.first_idx = max(whole.first_idx, from_idx)
        self.next_seq = whole.next_seq

    def fetch(self, indexes: Sequence[int]) -> list[Row]:
        return self._whole.fetch(indexes)

    def close(self) -> None:
        """It is the whole snapshot that is closed."""


class Counted(NamedTuple):
    """What is known of a count without looking into parts: `known` events, and those in `open` still to be counted."""

    known: int
    open: list[Extent]


def count_by_figures(found: Sequence[Extent], time: Range, first_idx: int, event_type: str | None) -> Counted:
    """Count the events of a time (and a type, if given) from the figures that come with each part."""
    known, to_count = 0, []
    for extent in found:
        if not time.meets(extent):
            continue
        count = _figure(extent, event_type)
        if count is None or not time.holds(extent) or extent.first_idx < first_idx:
            to_count.append(extent)
        else:
            known += count
    return Counted(known, to_count)


def _figure(extent: Extent, event_type: str | None) -> int | None:
    if event_type is None:
        return extent.rows
    return None if extent.types is None else extent.types.get(event_type, 0)


class Timeline:
    """About how many events lie before a moment, as if each extent had its events at an even pace."""

    def __init__(self, found: Sequence[Extent], time: Range, event_type: str | None) -> None:
        edges: list[tuple[int, float]] = []
        self.time = time
        self.extents = [extent for extent in found if time.meets(extent) and _figure(extent, event_type) != 0]
        for extent in self.extents:
            figure = _figure(extent, event_type)
            rows = extent.rows if figure is None else figure
            pace = rows / (extent.max_ts_us + 1 - extent.min_ts_us)
            start_us, end_us = time.clip(extent)
            edges += [(start_us, pace), (end_us, -pace)]
        edges.sort()
        self._times = np.array([moment for moment, _ in edges], np.int64)
        paces = np.cumsum([change for _, change in edges])
        self._rows = np.concatenate([[0.0], np.cumsum(np.diff(self._times) * paces[:-1])]) if edges else np.zeros(0)

    @property
    def rows(self) -> float:
        return float(self._rows[-1]) if len(self._rows) else 0.0

    def time_at(self, rows: float) -> int:
        """The moment before which there are about so many events."""
        first, last = int(self._times[0]), int(self._times[-1])
        passed = np.interp(rows, self._rows, (self._times - first).astype(np.float64))
        return min(first + int(passed), last)

    def windows(self, wanted: int, share: float, *, descending: bool) -> Iterator[Range]:
        """Adjacent stretches of time, beginning where the page begins, that together are all of it.

        About a `share` of the events match. The first window has probably enough of them, each later one eight times
        as many: little is read when what is looked for is near, and not much more than everything when it is far.
        """
        start_us, end_us = self.time
        size = max(WINDOW_ROWS, 1.5 * wanted / max(share, 1e-9))
        passed = 0.0
        while passed + 2 * size < self.rows:  # a last window smaller than the one before is not worth a query
            passed += size
            size *= 8
            edge = self.time_at(self.rows - passed if descending else passed)
            if descending:
                yield Range(edge, end_us)
                end_us = edge
            else:
                yield Range(start_us, edge)
                start_us = edge
        yield Range(start_us, end_us)


WINDOW_ROWS = 50_000


class Mark(NamedTuple):
    """A count that was made once: of the events from `first_idx` to before `end_idx`, in extents that had so many
    `rows` of them. A log only grows at its end, so the count stays true while these figures do."""

    first_idx: int
    end_idx: int
    rows: int
    found: int


def mark_of(found: Sequence[Extent], first_idx: int, count: int) -> Mark:
    end_idx = max((extent.end_idx for extent in found), default=first_idx)
    return Mark(first_idx, end_idx, rows_before(found, first_idx, end_idx), count)


def still_true(mark: Mark, found: Sequence[Extent], first_idx: int) -> bool:
    """False after retention took events, or a damaged segment was moved aside."""
    return mark.first_idx == first_idx and mark.rows == rows_before(found, first_idx, mark.end_idx)


def rows_before(found: Sequence[Extent], first_idx: int, end_idx: int) -> int:
    return sum(max(0, min(extent.end_idx, end_idx) - max(extent.first_idx, first_idx)) for extent in found)
