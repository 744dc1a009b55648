"""Which client event ids were seen, and for which event: in memory while not sealed, in sorted files afterwards.

An id is known by 128 bits of BLAKE2 over its topic and text: 2^64 ids before a collision is to be expected. A run is a
file of 32 bytes an id, sorted, mapped into memory and searched for many ids at once.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path as FilePath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mainstem.storage.embedded.files import write_whole
from mainstem.storage.embedded.log.catalog import Run

WINDOW_S_MAX = 7 * 86_400
"""Runs are kept so long; no topic's window may be longer."""

_MAGIC = b"MSIDS001"


class Seen(NamedTuple):
    seq: int
    arrived_us: int


type Digest = bytes


def digest(topic: int, event_id: str) -> Digest:
    return blake2b(topic.to_bytes(8, "little") + event_id.encode(), digest_size=16).digest()


class Entries(NamedTuple):
    """Ids by rising `high`; of equal ones the latest first. Four columns, so that a search touches only the first."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    seq: NDArray[np.int64]
    arrived_us: NDArray[np.int64]

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "Entries":
        return Entries(self.high[rows], self.low[rows], self.seq[rows], self.arrived_us[rows])


class RunFile:
    """A run, mapped. Raises OSError or ValueError when it is not there or not sound."""

    def __init__(self, folder: FilePath, run: Run) -> None:
        self.run = run
        content = np.memmap(folder / run.file, np.uint8, "r")
        if bytes(content[:8]) != _MAGIC or zlib.crc32(content[16:]) != int(content[8:16].view("<u8")[0]):
            raise ValueError(f"{run.file} fails its checksum")
        high, low, seq, arrived_us = content[16:].view("<u8").reshape(4, -1)
        self.entries = Entries(high, low, seq.view("<i8"), arrived_us.view("<i8"))

    def find(self, digests: NDArray[np.uint64]) -> list[Seen | None]:
        """`digests` has two numbers a row, high and low."""
        places = np.searchsorted(self.entries.high, digests[:, 0])
        return [
            self._at(place, high, low) for place, (high, low) in zip(places.tolist(), digests.tolist(), strict=True)
        ]

    def _at(self, place: int, high: int, low: int) -> Seen | None:
        entries = self.entries
        while place < len(entries.high) and entries.high[place] == high:
            if entries.low[place] == low:
                return Seen(int(entries.seq[place]), int(entries.arrived_us[place]))
            place += 1
        return None


def write_run(folder: FilePath, seen: Mapping[Digest, Seen], first_seq: int, next_seq: int) -> Run:
    """Durable on return. `seen` is not empty."""
    digests = np.frombuffer(b"".join(seen), ">u8").reshape(-1, 2).astype(np.uint64)
    seqs = np.array([item.seq for item in seen.values()], np.int64)
    arrived = np.array([item.arrived_us for item in seen.values()], np.int64)
    return _write(folder, Entries(digests[:, 0], digests[:, 1], seqs, arrived), first_seq, next_seq)


def merge_runs(folder: FilePath, runs: Sequence[RunFile], not_before_us: int) -> Run | None:
    """One run of several neighbours, without what is older. None when nothing is left."""
    entries = Entries(*(np.concatenate(columns) for columns in zip(*(run.entries for run in runs), strict=True)))
    entries = entries.take(entries.arrived_us >= not_before_us)
    if not len(entries.high):
        return None
    return _write(folder, entries, runs[0].run.first_seq, runs[-1].run.next_seq)


def _write(folder: FilePath, entries: Entries, first_seq: int, next_seq: int) -> Run:
    entries = entries.take(np.lexsort((-entries.arrived_us, entries.high)))
    rest = b"".join(column.tobytes() for column in entries)
    name = f"{first_seq:020d}-{next_seq:020d}.ids"
    write_whole(folder / name, _MAGIC + zlib.crc32(rest).to_bytes(8, "little") + rest)
    return Run(name, first_seq, next_seq, int(entries.arrived_us.max()))


class EventIds:
    """The ids seen so far. Belongs to the event loop.

    `newest` are the maps of what is not sealed, one a write-ahead file: the log adds to them and takes them away.
    """

    def __init__(self, folder: FilePath) -> None:
        self.folder = folder
        self.newest: list[dict[Digest, Seen]] = []
        self.runs: list[RunFile] = []

    def find(self, digests: Sequence[Digest]) -> list[Seen | None]:
        """When each was last seen, if ever, window or not."""
        found = [self._find_newest(item) for item in digests]
        missing = [row for row, seen in enumerate(found) if seen is None]
        if missing and self.runs:
            numbers = np.frombuffer(b"".join(digests[row] for row in missing), ">u8").reshape(-1, 2).astype(np.uint64)
            for run in reversed(self.runs):
                for row, seen in zip(missing, run.find(numbers), strict=True):
                    if seen is not None and found[row] is None:
                        found[row] = seen
        return found

    def _find_newest(self, item: Digest) -> Seen | None:
        for ids in reversed(self.newest):
            if (seen := ids.get(item)) is not None:
                return seen
        return None


def collect(
    topics: Iterable[int], ids: Iterable[str | None], seqs: Iterable[int], arrived: Iterable[int]
) -> dict[Digest, Seen]:
    """What rows that were read back have to say of ids."""
    return {
        digest(topic, event_id): Seen(seq, arrived_us)
        for topic, event_id, seq, arrived_us in zip(topics, ids, seqs, arrived, strict=True)
        if event_id
    }
