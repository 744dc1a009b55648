"""What the log knows of its sealed segments: a small SQLite file beside them.

It is derived: `recovery.py` makes it anew from the segments themselves where it is lost or damaged. SQLite has no
checksums, so each row has one of its own. One connection under a lock serves all threads; nothing here is called on
the event loop but the cheap look-ups that say so.
"""

import json
import sqlite3
import threading
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from pathlib import Path as FilePath
from typing import Any

from mainstem.storage.embedded.log.frame import Noted
from mainstem.storage.ports import Note, Path, Receipt

_COLUMNS = {
    "segments": "file, first_seq, next_seq, rows, size, raw_bytes, crc, leaves, state, reason",
    "extents": "topic, file, row_start, rows, first_idx, min_ts, max_ts, min_arrived, max_arrived, types",
    "topics": "topic, next_idx, first_idx, last_ts, last_arrived, dropped",
    "notes": "key, value, first_seq, first_idx, count, repeats, expires",
    "runs": "file, first_seq, next_seq, last_arrived",
    "leaf_uses": "topic, path, uses",
    "facts": "name, value",
}
_CHECKED = {
    table: f"sum_of_row integer generated always as (checksum({columns})) stored" for table, columns in _COLUMNS.items()
}
_SCHEMA = f"""
create table if not exists segments (
    file text primary key, first_seq integer not null, next_seq integer not null, rows integer not null,
    size integer not null, raw_bytes integer not null, crc integer not null, leaves text not null,
    state text not null, reason text not null, {_CHECKED["segments"]}
) strict;
create table if not exists extents (
    topic integer not null, file text not null references segments on delete cascade, row_start integer not null,
    rows integer not null, first_idx integer not null, min_ts integer not null, max_ts integer not null,
    min_arrived integer not null, max_arrived integer not null, types text, {_CHECKED["extents"]},
    primary key (topic, file)
) strict, without rowid;
create index if not exists extents_by_file on extents (file);
create table if not exists topics (
    topic integer primary key, next_idx integer not null, first_idx integer not null,
    last_ts integer, last_arrived integer, dropped integer not null default 0, {_CHECKED["topics"]}
) strict;
create table if not exists notes (
    key blob primary key, value blob not null, first_seq integer not null, first_idx integer not null,
    count integer not null, repeats text not null, expires integer not null, {_CHECKED["notes"]}
) strict, without rowid;
create index if not exists notes_by_expiry on notes (expires);
create table if not exists runs (
    file text primary key, first_seq integer not null, next_seq integer not null, last_arrived integer not null,
    {_CHECKED["runs"]}
) strict;
create table if not exists leaf_uses (
    topic integer not null, path text not null, uses integer not null, {_CHECKED["leaf_uses"]},
    primary key (topic, path)
) strict, without rowid;
create table if not exists facts (name text primary key, value integer not null, {_CHECKED["facts"]}) strict;
"""

_MEANWHILE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
}
"""Errors that say nothing about the file's content."""


class Damaged(Exception):
    """The file is no sound catalogue."""


NOTE_LIFE_S = 24 * 3_600
"""How long notes are kept."""


class Fact(StrEnum):
    WHOLE = "whole"
    """1: it was not cut short while it was made."""
    NEXT_SEQ = "next_seq"
    FORGOTTEN_UNTIL = "forgotten_until"


class State(StrEnum):
    SOUND = "sound"
    QUARANTINED = "quarantined"
    """Its checksum failed; the file is aside, its events are missing."""
    LOST = "lost"
    """Quarantined, and the operator has accepted that."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A sealed file. `leaves` are the dotted paths that have columns of their own; `raw_bytes` is the text sealed."""

    file: str
    first_seq: int
    next_seq: int
    rows: int
    size: int
    raw_bytes: int
    crc: int
    leaves: frozenset[str]
    state: State = State.SOUND
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Extent:
    """A topic's rows in a segment: `rows` of them from `row_start` on, with indexes contiguous from `first_idx`."""

    topic: int
    row_start: int
    rows: int
    first_idx: int
    min_ts: int
    max_ts: int
    min_arrived: int
    max_arrived: int
    types: Mapping[str, int] | None
    """Rows of each event type; None when there are too many types or topics to count."""

    @property
    def next_idx(self) -> int:
        return self.first_idx + self.rows


@dataclass(frozen=True, slots=True)
class Placed:
    """An extent and the segment it lies in."""

    extent: Extent
    segment: Segment


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a topic stood when it was last sealed."""

    topic: int
    next_idx: int
    first_idx: int
    last_ts: int | None
    last_arrived: int | None
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """A file of event ids (see `dedupe.py`) of the events `first_seq` to before `next_seq`."""

    file: str
    first_seq: int
    next_seq: int
    last_arrived: int


class Catalog:
    """Raises Damaged on opening a file that is not sound, sqlite3.Error when it cannot be opened now."""

    def __init__(self, path: FilePath) -> None:
        self._lock = threading.RLock()
        self._database = _connected(path)
        self._segments: dict[str, Segment] = {}  # replaced, never changed, so that reading needs no lock
        self._extents: dict[int, tuple[Placed, ...]] = {}
        try:
            run = self._database.execute
            run("pragma journal_mode = wal")
            run("pragma synchronous = full")
            run("pragma foreign_keys = on")
            self._database.executescript(_SCHEMA)
            self._check()
            self._load_segments()
        except Damaged:
            self._database.close()
            raise
        except sqlite3.Error as error:
            self._database.close()
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _MEANWHILE:
                raise
            raise Damaged(str(error)) from error

    def _check(self) -> None:
        """Tables, indexes and rows are as they were written. Some µs a row."""
        if _schema_of(self._database) != _expected_schema():
            raise Damaged("its tables are not as they should be")
        if (answer := self._database.execute("pragma integrity_check(1)").fetchone()) != ("ok",):
            raise Damaged(str(answer[0]))
        for table, columns in _COLUMNS.items():
            wrong = f"select count(*) from {table} where sum_of_row is not checksum({columns})"
            if self._database.execute(wrong).fetchone() != (0,):
                raise Damaged(f"a row of {table} fails its checksum")

    def close(self) -> None:
        with self._lock:
            self._database.close()

    # What is there

    def _load_segments(self) -> None:
        rows = self._database.execute(
            "select file, first_seq, next_seq, rows, size, raw_bytes, crc, leaves, state, reason from segments"
        )
        self._segments = {
            file: Segment(
                file,
                first_seq,
                next_seq,
                count,
                size,
                raw_bytes,
                crc,
                frozenset(json.loads(leaves)),
                State(state),
                reason,
            )
            for file, first_seq, next_seq, count, size, raw_bytes, crc, leaves, state, reason in rows
        }
        self._extents.clear()

    def refresh(self) -> None:
        """See what another process (`mainstem doctor`) has changed."""
        with self._lock:
            self._load_segments()

    def segments(self, *states: State) -> list[Segment]:
        """In sequence order; all, or those in these states. Costs no I/O and never waits."""
        found = [segment for segment in self._segments.values() if not states or segment.state in states]
        return sorted(found, key=lambda segment: segment.first_seq)

    def segment(self, file: str) -> Segment | None:
        return self._segments.get(file)

    def known_extents(self, topic: int) -> tuple[Placed, ...] | None:
        """What `extents` answers, when that takes no I/O and no waiting: for the event loop."""
        return self._extents.get(topic)

    def extents(self, topic: int) -> tuple[Placed, ...]:
        """A topic's sound extents in index order."""
        with self._lock:
            known = self._extents.get(topic)
            if known is None:
                rows = self._database.execute(
                    "select file, topic, row_start, rows, first_idx, min_ts, max_ts, min_arrived, max_arrived, types"
                    " from extents where topic = ? order by first_idx",
                    (topic,),
                ).fetchall()
                placed = (Placed(_extent(row[1:]), self._segments[row[0]]) for row in rows)
                known = tuple(item for item in placed if item.segment.state is State.SOUND)
                if len(self._extents) > 4_096:
                    self._extents.clear()
                self._extents[topic] = known
            return known

    def extents_in(self, file: str) -> list[Extent]:
        """In row order."""
        with self._lock:
            rows = self._database.execute(
                "select topic, row_start, rows, first_idx, min_ts, max_ts, min_arrived, max_arrived, types"
                " from extents where file = ? order by row_start",
                (file,),
            ).fetchall()
        return [_extent(row) for row in rows]

    def standings(self) -> list[Standing]:
        with self._lock:
            rows = self._database.execute(
                "select topic, next_idx, first_idx, last_ts, last_arrived, dropped from topics"
            ).fetchall()
        return [
            Standing(topic, next_idx, first_idx, last_ts, last_arrived, bool(dropped))
            for topic, next_idx, first_idx, last_ts, last_arrived, dropped in rows
        ]

    def fact(self, name: Fact, default: int) -> int:
        with self._lock:
            row = self._database.execute("select value from facts where name = ?", (name.value,)).fetchone()
        return int(row[0]) if row else default

    def next_seq(self) -> int:
        """Everything below is sealed, or past retention; 1 at first."""
        return self.fact(Fact.NEXT_SEQ, 1)

    def runs(self) -> list[Run]:
        with self._lock:
            rows = self._database.execute(
                "select file, first_seq, next_seq, last_arrived from runs order by first_seq"
            ).fetchall()
        return [Run(*row) for row in rows]

    def note(self, key: bytes) -> Noted | None:
        with self._lock:
            row = self._database.execute(
                "select value, first_seq, first_idx, count, repeats from notes where key = ?", (key,)
            ).fetchone()
        if row is None:
            return None
        repeats = {int(position): seq for position, seq in json.loads(row[4]).items()}
        return Noted(Note(key, row[0]), Receipt(row[1], row[2], row[3], repeats))

    # Changes, each one transaction

    def add_sealed(
        self,
        sealed: Sequence[tuple[Segment, Sequence[Extent]]],
        standings: Iterable[Standing],
        notes: Iterable[Noted],
        notes_expire: int,
        run: Run | None,
        next_seq: int,
        instead_of: Sequence[Segment] = (),
    ) -> None:
        """All that was in a write-ahead file: it may be deleted afterwards."""
        with self._lock, self._transaction():
            for segment in instead_of:
                self._delete_segment(segment.file)
            for segment, extents in sealed:
                self._insert(segment, extents)
            self._put_standings(standings)
            self._database.executemany(
                "insert or replace into notes values (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        note.key,
                        note.value,
                        made.first_seq,
                        made.first_idx,
                        made.count,
                        json.dumps(made.repeats),
                        notes_expire,
                    )
                    for note, made in notes
                ],
            )
            self._forget_dropped()
            if run is not None:
                self._insert_run(run)
            self._set_fact(Fact.NEXT_SEQ, next_seq)

    def fill_gap(
        self,
        missing: Segment,
        made: Sequence[tuple[Segment, Sequence[Extent]]],
        standings: Iterable[Standing],
        run: Run | None,
    ) -> None:
        """Put what was restored in the place of what was missing."""
        with self._lock, self._transaction():
            self._delete_segment(missing.file)
            for segment, extents in made:
                self._insert(segment, extents)
            self._put_standings(standings)
            self._forget_dropped()
            if run is not None:
                self._insert_run(run)

    def replace(self, old: Sequence[Segment], sealed: Sequence[tuple[Segment, Sequence[Extent]]]) -> None:
        """Put segments with the same events (those that are still kept) in the place of others."""
        with self._lock, self._transaction():
            for segment in old:
                self._delete_segment(segment.file)
            for segment, extents in sealed:
                self._insert(segment, extents)
            self._forget_dropped()

    def expire(self, topic: int, first_idx: int) -> None:
        """Forget the extents of a topic that lie wholly below `first_idx`, which becomes its first."""
        with self._lock, self._transaction():
            self._database.execute("delete from extents where topic = ? and first_idx + rows <= ?", (topic, first_idx))
            self._database.execute("update topics set first_idx = ? where topic = ?", (first_idx, topic))
            self._extents.pop(topic, None)

    def drop(self, topic: int) -> None:
        """Forget a topic for good."""
        with self._lock, self._transaction():
            self._database.execute("delete from extents where topic = ?", (topic,))
            self._database.execute("delete from leaf_uses where topic = ?", (topic,))
            self._database.execute(
                "insert into topics values (?, 0, 0, null, null, 1) on conflict do update set dropped = 1", (topic,)
            )
            self._extents.pop(topic, None)

    def sizes(self) -> dict[int, int]:
        """About how many bytes of the segments each topic takes."""
        with self._lock:
            rows = self._database.execute(
                "select topic, sum(size * extents.rows / segments.rows) from extents join segments using (file)"
                " where state = 'sound' group by topic"
            ).fetchall()
        return dict(rows)

    def delete_empty(self) -> list[Segment]:
        """Forget the sound segments of which no extent is left, and say which they were."""
        with self._lock, self._transaction():
            files = self._database.execute(
                "select file from segments where state = 'sound'"
                " and not exists (select 1 from extents where extents.file = segments.file)"
            ).fetchall()
            gone = [self._segments[file] for (file,) in files]
            for segment in gone:
                self._delete_segment(segment.file)
            return gone

    def set_state(self, file: str, state: State, reason: str) -> None:
        with self._lock, self._transaction():
            self._database.execute(
                "update segments set state = ?, reason = ? where file = ?", (state.value, reason, file)
            )
            changed = replace(self._segments[file], state=state, reason=reason)
            self._segments = {**self._segments, file: changed}
            self._extents.clear()

    def add_quarantined(self, segment: Segment) -> None:
        """Remember a damaged write-ahead file, of which no segment could be made."""
        with self._lock, self._transaction():
            self._insert(segment, ())

    def replace_runs(self, old: Iterable[Run], new: Run | None) -> None:
        with self._lock, self._transaction():
            self._database.executemany("delete from runs where file = ?", [(run.file,) for run in old])
            if new is not None:
                self._insert_run(new)

    def expire_notes(self, now_us: int) -> None:
        with self._lock, self._transaction():
            self._database.execute("delete from notes where expires < ?", (now_us,))

    def set_fact(self, name: Fact, value: int) -> None:
        with self._lock, self._transaction():
            self._set_fact(name, value)

    # Leaves: which JSON paths queries ask for

    def count_leaf_uses(self, uses: Mapping[tuple[int, Path], int]) -> None:
        with self._lock, self._transaction():
            self._database.executemany(
                "insert into leaf_uses values (?, ?, ?) on conflict do update set uses = uses + excluded.uses",
                [(topic, json.dumps(path), count) for (topic, path), count in uses.items()],
            )

    def leaf_uses(self) -> dict[int, Counter[Path]]:
        """How often each leaf of a topic was read."""
        found: dict[int, Counter[Path]] = {}
        with self._lock:
            rows = self._database.execute("select topic, path, uses from leaf_uses").fetchall()
        for topic, path, uses in rows:
            found.setdefault(topic, Counter())[tuple(json.loads(path))] = uses
        return found

    # How

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("begin immediate")
        try:
            yield
            self._database.execute("commit")
        except BaseException:
            self._database.rollback()
            self._load_segments()  # what is in memory may have run ahead
            raise

    def _insert(self, segment: Segment, extents: Sequence[Extent]) -> None:
        self._database.execute(
            "insert into segments values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                segment.file,
                segment.first_seq,
                segment.next_seq,
                segment.rows,
                segment.size,
                segment.raw_bytes,
                segment.crc,
                json.dumps(sorted(segment.leaves)),
                segment.state.value,
                segment.reason,
            ),
        )
        self._database.executemany(
            "insert into extents values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    extent.topic,
                    segment.file,
                    extent.row_start,
                    extent.rows,
                    extent.first_idx,
                    extent.min_ts,
                    extent.max_ts,
                    extent.min_arrived,
                    extent.max_arrived,
                    None if extent.types is None else json.dumps(extent.types),
                )
                for extent in extents
            ],
        )
        self._segments = {**self._segments, segment.file: segment}
        for extent in extents:
            self._extents.pop(extent.topic, None)

    def _delete_segment(self, file: str) -> None:
        for extent in self.extents_in(file):
            self._extents.pop(extent.topic, None)
        self._database.execute("delete from segments where file = ?", (file,))
        self._segments = {name: segment for name, segment in self._segments.items() if name != file}

    def _forget_dropped(self) -> None:
        """A topic may have been dropped while its events were on their way into these segments."""
        self._database.execute("delete from extents where topic in (select topic from topics where dropped)")

    def _put_standings(self, standings: Iterable[Standing]) -> None:
        self._database.executemany(
            "insert into topics values (?, ?, ?, ?, ?, ?) on conflict do update set next_idx = excluded.next_idx,"
            " last_ts = excluded.last_ts, last_arrived = excluded.last_arrived where excluded.next_idx > next_idx",
            [
                (item.topic, item.next_idx, item.first_idx, item.last_ts, item.last_arrived, int(item.dropped))
                for item in standings
            ],
        )

    def _insert_run(self, run: Run) -> None:
        self._database.execute(
            "insert or replace into runs values (?, ?, ?, ?)", (run.file, run.first_seq, run.next_seq, run.last_arrived)
        )

    def _set_fact(self, name: Fact, value: int) -> None:
        self._database.execute("insert or replace into facts values (?, ?)", (name.value, value))


def _connected(path: FilePath | str) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    database.create_function("checksum", -1, _checksum, deterministic=True)
    return database


def _checksum(*values: object) -> int:
    return zlib.crc32(repr(values).encode())


@cache
def _expected_schema() -> list[tuple[str, ...]]:
    with closing(_connected(":memory:")) as database:
        database.executescript(_SCHEMA)
        return _schema_of(database)


def _schema_of(database: sqlite3.Connection) -> list[tuple[str, ...]]:
    return database.execute("select type, name, tbl_name, sql from sqlite_schema order by name").fetchall()


def _extent(row: Sequence[Any]) -> Extent:
    topic, row_start, rows, first_idx, min_ts, max_ts, min_arrived, max_arrived, types = row
    counts = None if types is None else json.loads(types)
    return Extent(topic, row_start, rows, first_idx, min_ts, max_ts, min_arrived, max_arrived, counts)
