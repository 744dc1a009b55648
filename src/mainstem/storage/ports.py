"""The five ports: what the rest of mainstem asks of storage, whatever engine stands behind it.

Each has a contract suite in `tests/contract/storage` that every engine must pass unchanged.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from pathlib import Path as LocalPath
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.ids import TopicId

if TYPE_CHECKING:  # for those who open records and blobs alone
    import pyarrow as pa

    from mainstem.storage.columns import Draft, Drafts, Row

type Path = tuple[str, ...]
"""A leaf inside an event: ("data", "user", "id") or ("metadata", "source"). Never empty, at least two names."""

# Records: rows, transactions, sequences


class Records(Protocol):
    """Rows in tables, spoken to in SQLAlchemy Core. Committed means synced to disk."""

    def begin(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that may write: committed at the end of the block, rolled back when it raises.

        Writers wait for each other, across processes as well, for at most 10 s; then Unavailable.
        """

    def read(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that only reads, from one snapshot, and never waits for writers."""

    async def version(self) -> int:
        """A number that differs from an earlier answer when any process has committed in between. Costs µs."""

    def watch(self, committed: Callable[[], None]) -> Callable[[], None]:
        """Call `committed` after each commit made through this object, on the loop, before its `begin` block is left.
        What comes back ends it. It must not raise."""


# Log: ordered, durable events


class Note(NamedTuple):
    """A small thing to remember together with an append: both are kept, or neither."""

    key: bytes  # 16 bytes
    value: bytes  # at most 64 KiB


class Receipt(msgspec.Struct, frozen=True):
    """What became of an append. The new events have the sequence numbers `first_seq` to `first_seq + count - 1`
    and the indexes `first_idx` to `first_idx + count - 1`, in the order given, repeats left out."""

    first_seq: int
    first_idx: int
    count: int
    repeats: Mapping[int, int]
    """Position in the append → sequence number of the event that had the same event_id before."""

    def seqs(self, total: int) -> list[int]:
        """The sequence number of each of the `total` events given, new or repeated."""
        fresh = iter(range(self.first_seq, self.first_seq + self.count))
        return [self.repeats[row] if row in self.repeats else next(fresh) for row in range(total)]


type Done = Callable[[Receipt | Exception], None]
"""Called once on the event loop: with the receipt when the events are synced and readable, else with why not."""


class TopicState(NamedTuple):
    """Where a topic stands. Costs no I/O to ask."""

    next_idx: int
    """How many events it ever got, and the index of the next."""
    first_idx: int
    """The oldest index that is still kept; equal to `next_idx` when none is."""
    last_ts_us: int | None
    """The timestamp of the event that came last."""
    last_arrived_us: int | None
    rate_per_s: float
    """Events that arrived in the last 60 s, a second."""
    bytes: int
    """About what its sealed events take on disk."""


class Condition(StrEnum):
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class Health(NamedTuple):
    condition: Condition
    reason: str = ""
    """A sentence for the operator; empty when healthy."""


class Part(NamedTuple):
    """A sealed Parquet file with (among others) a topic's events. Columns: SCHEMA, and for each of `leaves`, named by
    its dotted path, `n:<path>` and `t:<path>` (see `storage.leaves.stored`)."""

    path: str
    leaves: frozenset[str]
    rows: int  # of the topic
    first_idx: int
    min_ts_us: int
    max_ts_us: int
    types: Mapping[str, int] | None
    """How many of the topic's rows have each event type; None when there are too many types to count."""
    alone: bool = False
    """The file surely holds no other topic's events, so no row's topic has to be looked at."""


class Snapshot(Protocol):
    """All events of a topic up to one moment, sealed and live together. Close it, for it keeps files from deletion."""

    @property
    def topic(self) -> TopicId: ...

    @property
    def parts(self) -> Sequence[Part]:
        """Those whose times overlap what was asked for, in sequence order."""

    @property
    def live(self) -> "pa.Table":
        """The topic's events that are not sealed yet, in sequence order; columns as in SCHEMA."""

    @property
    def first_idx(self) -> int:
        """Rows in `parts` with a smaller index are past retention: leave them out."""

    @property
    def next_seq(self) -> int:
        """Every event in it has a smaller sequence number, and no event that is missing from it has."""

    def fetch(self, indexes: Sequence[int]) -> "list[Row]":
        """The events with these indexes, in the order asked, missing ones left out. Blocks: call it in a thread."""

    def close(self) -> None: ...


class LogFigures(msgspec.Struct, frozen=True):
    """What /metrics tells about a log; counters count since start."""

    events: int
    commits: int
    repeats: int
    unsealed_events: int
    unsealed_bytes: int
    sealed_segments: int
    sealed_bytes: int
    sealed_events: int
    raw_bytes: int
    """Bytes of event text in sealed segments, for the compression ratio: data, metadata, type and timestamp as sent."""
    tail_cut_bytes: int
    """Bytes of a torn tail that were cut at start: written, but never acknowledged."""
    quarantined: Sequence[str]
    """Segments that failed their checksum and were moved aside."""
    commit_seconds: Sequence[float]
    """How long the last 1,024 commits took, write and sync."""


class Log(Protocol):
    """Append-only topics of events. Acknowledged = synced = readable.

    One event loop owns a log: all methods but `Snapshot.fetch` are called on it.
    """

    def submit(self, topic: TopicId, draft: "Draft", dedupe_window_s: float, done: Done) -> None:
        """Append one event. Everything submitted in one turn of the loop shares one sync."""

    def submit_many(
        self, topic: TopicId, drafts: "Drafts", dedupe_window_s: float, done: Done, note: Note | None = None
    ) -> None:
        """Append many events of a topic: all or none. `done` gets Unavailable when the log refuses writes."""

    async def append(
        self, topic: TopicId, drafts: "Drafts", *, dedupe_window_s: float = 0, note: Note | None = None
    ) -> Receipt:
        """Like `submit_many`, awaited. Raises Unavailable when nothing was written."""

    async def note(self, key: bytes) -> tuple[bytes, Receipt] | None:
        """The value kept under this key and the receipt of the append that brought it, for 24 h at least."""

    def state(self, topic: TopicId) -> TopicState: ...

    def watch(self, topic: TopicId, seen: Callable[[int], None]) -> Callable[[], None]:
        """Call `seen` with the topic's `next_idx` whenever new events of it have become readable, once a commit, on the
        loop. What comes back ends it. It must not raise, and costs nothing where nobody watches."""

    async def snapshot(
        self, topic: TopicId, *, start_us: int | None = None, end_us: int | None = None, tail_only: bool = False
    ) -> Snapshot:
        """The events acknowledged so far. `start_us` (inclusive) and `end_us` (exclusive) only leave out parts that
        cannot hold such events."""

    async def read(self, topic: TopicId, first_idx: int, count: int) -> "list[Row]":
        """Up to `count` events in index order from `first_idx` on (at most 10,000); retained ones only."""

    def used(self, topic: TopicId, paths: Sequence[Path]) -> None:
        """Tell that a query read these leaves; those that are read most become columns of later segments."""

    def retain(self, topic: TopicId, age_s: float | None, bytes_max: int | None) -> None:
        """Set how long (since arrival) and how much of a topic is kept; None: for ever. Repeat it after a start."""

    async def drop(self, topic: TopicId) -> None:
        """Forget a topic's events for good. Its id must not be used again."""

    async def maintain(self) -> None:
        """Do now what the log does in the background: retention, compaction, leaves."""

    def health(self) -> Health: ...

    @property
    def accepts(self) -> bool:
        """Whether an append would be taken now. Damage that was moved aside does not keep others from writing."""

    def figures(self) -> LogFigures: ...


# Analytics: SQL over a snapshot


class Sql(msgspec.Struct, frozen=True):
    """A statement over the relation `events`, with `?` for each of `parameters`. It names the columns that it reads.

    `events` has the columns seq, idx, ts, arrived, event_type, data, metadata, event_id, and for the i-th of `leaves`
    `n{i}` (DOUBLE: the number there, else NULL) and `t{i}` (VARCHAR: its JSON text when it is not a number, or a number
    that a double would round; else NULL). JSON null is NULL in both, as if it were not there.
    """

    text: str
    parameters: Sequence[object] = ()
    leaves: Sequence[Path] = ()


class Analytics(Protocol):
    async def run(self, snapshot: Snapshot, sql: Sql, *, timeout_s: float) -> list[tuple[object, ...]]:
        """All rows of the answer.

        Raises Unavailable past `timeout_s` (waiting included), Exhausted when too many queries wait or one needs more
        memory than there is.
        """

    async def table(self, snapshot: Snapshot, sql: Sql, *, timeout_s: float) -> "pa.Table":
        """The answer as Arrow columns, for many rows; raises as `run` does."""


# Blobs: bytes by name


class BlobInfo(NamedTuple):
    size: int
    etag: str
    modified_us: int


class Blobs(Protocol):
    """Bytes under names such as `renditions/ab12/segment_00001.ts`; no part between slashes is empty, `.` or `..`."""

    async def write(self, name: str, chunks: bytes | AsyncIterator[bytes]) -> BlobInfo:
        """Write whole, or not at all; replaces what was there. Durable on return."""

    async def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes from `start` to before `end`. Raises NotFound."""

    async def adopt(self, files: Mapping[str, LocalPath]) -> None:
        """Take local files over as blobs of these names, all at the cost of little more than one; they are gone from
        where they were. Each is whole or absent, replaces what was there, and all are durable on return."""

    async def copy(self, name: str, path: LocalPath) -> None:
        """Make a local file, only to be read, of a blob; cheaply where the engine can. Raises NotFound."""

    async def info(self, name: str) -> BlobInfo | None: ...

    def list(self, prefix: str) -> AsyncIterator[str]:
        """All names that begin so, sorted."""

    async def delete(self, name: str) -> None:
        """Nothing happens when there is no such blob."""


# Signals: what may be lost


class Hit(msgspec.Struct, frozen=True):
    """A count in a fixed window."""

    count: int
    reset_s: float
    """Seconds until the window ends."""


class Signals(Protocol):
    """Fan-out and counters that a restart may forget."""

    def publish(self, channel: str, message: bytes) -> None: ...

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Messages published from now on. A reader that falls more than 1,000 behind loses the oldest."""

    def hit(self, key: str, window_s: int, by: int = 1) -> Hit:
        """Count in the current window of `window_s` seconds, aligned to the clock. Costs no I/O: an engine that
        shares counts may let them lag by a second."""
