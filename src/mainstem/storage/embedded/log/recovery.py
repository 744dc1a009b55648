"""Bringing a log back as it was: the catalogue, then the write-ahead files over it."""

import mmap
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

import numpy as np
import structlog

from mainstem.clock import SECOND_US
from mainstem.errors import Unavailable
from mainstem.storage.columns import Chunk
from mainstem.storage.embedded.log import segments
from mainstem.storage.embedded.log.catalog import (
    NOTE_LIFE_S,
    Catalog,
    Damaged,
    Extent,
    Fact,
    Run,
    Segment,
    Standing,
    State,
)
from mainstem.storage.embedded.log.dedupe import RunFile, Seen, collect, digest, write_run
from mainstem.storage.embedded.log.frame import MAGIC, MAGIC_FAMILY, Flaw, Frame, find_next, scan
from mainstem.storage.embedded.log.layout import Layout, aside_name, first_seq_aside, first_seq_of, is_aside, is_of
from mainstem.storage.embedded.log.tail import Generation
from mainstem.storage.embedded.log.topics import TopicLine

_log = structlog.get_logger("mainstem.log")

_SEQ_LEAP = 1 << 20
"""Left free behind damage of unknown size, so that no public id that was ever given is given again."""


@dataclass
class Recovered:
    topics: dict[int, TopicLine]
    next_seq: int
    generations: list[Generation] = field(default_factory=list)
    """At least one; the last is to be written on."""
    runs: list[RunFile] = field(default_factory=list)
    tail_cut_bytes: int = 0
    tail_size: int = 0
    """Bytes in the last generation's file."""
    forgotten_until: int = 0
    """Until when (µs) notes may be missing, for only a catalogue that is lost knew them; 0: none is."""


def recover(layout: Layout, now_us: int) -> tuple[Catalog, Recovered]:
    """Read what is there, cut a torn tail, set damage aside. Raises OSError or sqlite3.Error."""
    layout.make()
    _refuse_other_versions(layout)
    layout.remove_temporary()
    catalog, reason = _open_catalog(layout)
    try:
        return catalog, _recover(layout, catalog, now_us, is_anew=bool(reason))
    except BaseException:
        catalog.close()
        raise


def _refuse_other_versions(layout: Layout) -> None:
    """Raises Unavailable where another version has written events that this one cannot read: to take them for damage
    would move them aside."""
    for path in layout.wal_files():
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
        if magic != MAGIC and len(magic) == len(MAGIC) and magic.startswith(MAGIC_FAMILY):
            raise Unavailable(
                f"{path.name} was written by another version of mainstem. Start that version; nothing was changed."
            )


def _recover(layout: Layout, catalog: Catalog, now_us: int, *, is_anew: bool) -> Recovered:
    if is_anew:
        catalog.set_fact(Fact.FORGOTTEN_UNTIL, now_us + NOTE_LIFE_S * SECOND_US)
        _adopt_quarantine(layout, catalog)
        _adopt_runs(layout, catalog)
    _adopt_segments(layout, catalog)
    _restore(layout, catalog)
    _fill_gaps(layout, catalog)
    # Of what is missing the numbers were given as well.
    next_seq = max([catalog.next_seq(), *(segment.next_seq for segment in catalog.segments())])
    recovered = Recovered({item.topic: TopicLine.of(item) for item in catalog.standings()}, next_seq)
    recovered.forgotten_until = catalog.fact(Fact.FORGOTTEN_UNTIL, 0)
    for topic, size in catalog.sizes().items():
        recovered.topics.setdefault(topic, TopicLine()).bytes = size
    recovered.runs = _open_runs(layout, catalog)
    _replay_files(layout, catalog, recovered)
    if not catalog.fact(Fact.WHOLE, 0):  # a start on a full disk must not need room
        catalog.set_fact(Fact.WHOLE, 1)
    return recovered


# The catalogue and the segments


def _open_catalog(layout: Layout) -> tuple[Catalog, str]:
    """The catalogue, and why it is an empty one although there is a log, if so."""
    try:
        catalog = Catalog(layout.catalog)
    except Damaged as error:
        reason = str(error)
        for file in layout.folder.glob("catalog.sqlite*"):
            file.replace(layout.quarantine / file.name)
    else:
        if catalog.fact(Fact.WHOLE, 0):
            return catalog, ""
        # It is new, or making it was cut short: half of it must not be taken for all.
        catalog.close()
        for file in layout.folder.glob("catalog.sqlite*"):
            file.unlink()
        used = layout.wal_files() or any(layout.segments.iterdir()) or any(layout.quarantine.iterdir())
        reason = "it was lost" if used else ""
    if reason:
        _log.error("the log's catalogue is made anew", reason=reason)
    return Catalog(layout.catalog), reason


def _adopt_quarantine(layout: Layout, catalog: Catalog) -> None:
    """A new catalogue must not keep quiet about what an old one knew to be missing."""
    for path in sorted(layout.quarantine.iterdir()):
        if segments.is_segment(path.name):
            _remember(catalog, path, segments.range_of(path.name), segments.checksum_in(path.name))
        elif is_aside(path.name):
            first_seq = first_seq_aside(path.name)
            _remember(catalog, path, (first_seq, first_seq), 0)


def _remember(catalog: Catalog, path: FilePath, within: tuple[int, int], crc: int) -> None:
    first_seq, next_seq = within
    reason = "it was in quarantine when the catalogue was made anew"
    size = path.stat().st_size
    catalog.add_quarantined(
        Segment(path.name, first_seq, next_seq, 0, size, 0, crc, frozenset(), State.QUARANTINED, reason)
    )


def _adopt_segments(layout: Layout, catalog: Catalog) -> None:
    """Take up segments that the catalogue does not know (it was lost, or is from a backup); delete left-overs."""
    sealed_below = catalog.next_seq()
    replayed_from = min((seq for seq in map(first_seq_of, layout.wal_files()) if seq >= sealed_below), default=None)
    known = [(segment.first_seq, segment.next_seq) for segment in catalog.segments(State.SOUND)]
    unknown = [
        path
        for path in layout.segments.iterdir()
        if segments.is_segment(path.name) and catalog.segment(path.name) is None
    ]
    adopted: list[tuple[Segment, list[Extent]]] = []
    # The widest first: where a compaction was cut short, its result holds what the others hold.
    for path in sorted(unknown, key=lambda path: _width(path.name), reverse=True):
        first_seq, next_seq = segments.range_of(path.name)
        gone = _gone_within(layout, catalog, first_seq, next_seq)
        covered = any(first <= first_seq and next_seq <= next_ for first, next_ in known)
        replayed = replayed_from is not None and first_seq >= replayed_from
        if not gone and (covered or replayed or first_seq < sealed_below):
            path.unlink()
            continue
        try:
            adopted.append(_described(path))
        except Exception as error:  # whatever a damaged file makes the reader raise
            _quarantine_unknown(layout, catalog, path, str(error))
            continue
        known.append((first_seq, next_seq))
    # In sequence order, so that what a kill leaves unknown still lies above what the catalogue says is sealed.
    for segment, extents in sorted(adopted, key=lambda item: item[0].first_seq):
        _log.warning("a segment is taken up that the catalogue did not know", segment=segment.file)
        made = [(segment, extents)]
        gone = _gone_within(layout, catalog, segment.first_seq, segment.next_seq)
        next_seq = max(segment.next_seq, catalog.next_seq())
        catalog.add_sealed(made, _standings_of(made), (), 0, None, next_seq, instead_of=gone)


def _gone_within(layout: Layout, catalog: Catalog, first_seq: int, next_seq: int) -> list[Segment]:
    """Segments in this range that the catalogue believes in, but whose files are not there: it is older than they."""
    return [
        segment
        for segment in catalog.segments(State.SOUND)
        if first_seq <= segment.first_seq
        and segment.next_seq <= next_seq
        and not (layout.segments / segment.file).exists()
    ]


def _width(name: str) -> int:
    first_seq, next_seq = segments.range_of(name)
    return next_seq - first_seq


def _described(path: FilePath) -> tuple[Segment, list[Extent]]:
    """What the catalogue should say of a segment file. Raises OSError when it is not sound."""
    crc = segments.checksum_in(path.name)
    rows = segments.read_checked(path, crc)
    first_seq, next_seq = segments.range_of(path.name)
    leaves = {_leaf_of(name) for name in rows.column_names if name.startswith("n:")}
    segment = Segment(
        file=path.name,
        first_seq=first_seq,
        next_seq=next_seq,
        rows=rows.num_rows,
        size=path.stat().st_size,
        raw_bytes=segments.raw_bytes_of(rows),
        crc=crc,
        leaves=frozenset(leaves),
    )
    return segment, segments.extents_of(rows)


def _leaf_of(column: str) -> str:
    """The dotted path of a leaf's column; the other way round is `storage.leaves.stored`."""
    return re.sub(r"\^(.)", lambda match: match[1].upper(), column.removeprefix("n:"))


def _standings_of(adopted: Iterable[tuple[Segment, list[Extent]]]) -> list[Standing]:
    """Where topics stand after these. What retention had dropped is not known, and what is missing may come back, so
    indexes count from 0."""
    last = {extent.topic: extent for _, extents in adopted for extent in extents}
    return [Standing(topic, extent.next_idx, 0, extent.max_ts, extent.max_arrived) for topic, extent in last.items()]


def _quarantine_unknown(layout: Layout, catalog: Catalog, path: FilePath, reason: str) -> None:
    first_seq, next_seq = segments.range_of(path.name)
    size, crc = path.stat().st_size, segments.checksum_in(path.name)
    path.replace(layout.quarantine / path.name)
    _log.error("a damaged segment was moved aside", segment=path.name, reason=reason)
    catalog.add_quarantined(
        Segment(path.name, first_seq, next_seq, 0, size, 0, crc, frozenset(), State.QUARANTINED, reason)
    )


def _restore(layout: Layout, catalog: Catalog) -> None:
    """Take back what the operator has put in its place again."""
    for segment in catalog.segments(State.QUARANTINED, State.LOST):
        path = layout.segments / segment.file
        if not (segment.crc and path.exists() and segments.checksum(path) == segment.crc):
            continue
        if segment.rows:
            catalog.set_state(segment.file, State.SOUND, "")
        else:  # the catalogue never saw inside
            adopted = _described(path)
            catalog.fill_gap(segment, [adopted], _standings_of([adopted]), None)
        _log.info("a segment was restored", segment=segment.file)


# Event ids


def _adopt_runs(layout: Layout, catalog: Catalog) -> None:
    """Files of ids tell all that is to be known of them; one that does not is made anew when it is opened."""
    for path in layout.run_files():
        first_seq, next_seq = segments.range_of(path.name)
        run = Run(path.name, first_seq, next_seq, last_arrived=0)
        with suppress(OSError, ValueError):
            run = replace(run, last_arrived=int(RunFile(layout.dedupe, run).entries.arrived_us.max()))
        catalog.replace_runs((), run)


def _open_runs(layout: Layout, catalog: Catalog) -> list[RunFile]:
    """Runs are derived: one that is damaged or missing is made anew from the segments."""
    runs: list[RunFile] = []
    known = catalog.runs()
    for run in known:
        try:
            runs.append(RunFile(layout.dedupe, run))
        except (OSError, ValueError) as error:
            _log.warning("a file of event ids is made anew", file=run.file, reason=str(error))
            seen = _ids_in_segments(layout, catalog, run.first_seq, run.next_seq)
            made = write_run(layout.dedupe, seen, run.first_seq, run.next_seq) if seen else None
            catalog.replace_runs([run], made)
            if made is not None:
                runs.append(RunFile(layout.dedupe, made))
    files = {run.run.file for run in runs}
    for path in layout.run_files():
        if path.name not in files:
            path.unlink()
    return runs


def _ids_in_segments(layout: Layout, catalog: Catalog, first_seq: int, next_seq: int) -> dict[bytes, Seen]:
    found: dict[bytes, Seen] = {}
    for segment in catalog.segments(State.SOUND):
        if segment.next_seq > first_seq and segment.first_seq < next_seq:
            rows = segments.read_table(layout.segments / segment.file, ["topic", "event_id", "seq", "arrived"])
            found |= collect(*(rows.column(name).to_pylist() for name in rows.column_names))
    return found


# Write-ahead files


def _replay_files(layout: Layout, catalog: Catalog, recovered: Recovered) -> None:
    sealed_below = catalog.next_seq()
    files = layout.wal_files()
    for path in files:
        if first_seq_of(path) < sealed_below:
            path.unlink()
        else:
            _replay(layout, catalog, recovered, path, is_last=path == files[-1])
    last = recovered.generations[-1] if recovered.generations else None
    if last is None or recovered.tail_size < 0:
        path = layout.wal_file(recovered.next_seq)
        recovered.generations.append(Generation(path, recovered.next_seq))
        recovered.tail_size = 0


def _replay(layout: Layout, catalog: Catalog, recovered: Recovered, path: FilePath, *, is_last: bool) -> None:
    # The name counts as well: what came before it may all be past retention.
    recovered.next_seq = max(recovered.next_seq, first_seq_of(path))
    generation = Generation(path, first_seq_of(path))
    data = _content(path)
    offset, size = 0, 0
    damaged_from: int | None = None
    while offset < len(data):
        for step in scan(data, offset):
            offset = step.end
            if isinstance(step.found, Frame):
                if damaged_from is not None:
                    _set_aside(layout, catalog, path, damaged_from, recovered.next_seq, step.found.first_seq)
                    damaged_from = None
                size = step.end
                _apply(generation, recovered, step.found)
            elif step.found is Flaw.TORN and is_last:
                recovered.tail_cut_bytes += len(data) - step.offset
            else:
                following = find_next(data, step.offset + 1)
                damaged_from = step.offset if damaged_from is None else damaged_from
                offset = len(data) if following is None else following
    if damaged_from is not None:
        first_lost, recovered.next_seq = recovered.next_seq, recovered.next_seq + _SEQ_LEAP
        _set_aside(layout, catalog, path, damaged_from, first_lost, recovered.next_seq)
        size = -1  # never written on
    elif recovered.tail_cut_bytes and is_last:
        _log.warning("a torn tail was cut", file=path.name, bytes=recovered.tail_cut_bytes)
        _truncate(path, size)
    generation.next_seq = max(generation.next_seq, recovered.next_seq)
    recovered.generations.append(generation)
    recovered.tail_size = size


def _content(path: FilePath) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b"")


def _truncate(path: FilePath, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())


def _apply(generation: Generation, recovered: Recovered, frame: Frame) -> None:
    recovered.next_seq = max(recovered.next_seq, frame.first_seq + frame.count)
    if frame.noted is not None:
        generation.notes[frame.noted.note.key] = frame.noted
    chunk = frame.chunk
    if chunk is None:
        return
    generation.add(chunk)
    arrived_us = int(chunk.arrived_us[0])
    topics = chunk.topics.tolist()
    last_rows = dict(zip(topics, range(chunk.count), strict=True))
    counts = dict(zip(*(part.tolist() for part in np.unique(chunk.topics, return_counts=True)), strict=True))
    for topic, row in last_rows.items():
        line = recovered.topics.setdefault(topic, TopicLine())
        next_idx = int(chunk.idx[row]) + 1
        line.next_idx = max(line.next_idx, next_idx)
        line.committed(next_idx, counts[topic], int(chunk.ts_us[row]), arrived_us)
    if chunk.event_ids is not None:
        for row, topic in enumerate(topics):
            if event_id := chunk.event_ids[row]:
                generation.ids[digest(topic, event_id.decode())] = Seen(chunk.first_seq + row, arrived_us)


def _set_aside(layout: Layout, catalog: Catalog, path: FilePath, offset: int, first_lost: int, next_sound: int) -> None:
    """Keep a damaged write-ahead file as it is for the operator, and remember what is missing. Done again after a
    crash it changes nothing."""
    name = aside_name(path, offset)
    if catalog.segment(name) is not None:
        return
    shutil.copyfile(path, layout.quarantine / name)
    reason = f"bytes from {offset} on fail their checksum"
    _log.error("a write-ahead file is damaged", file=path.name, reason=reason, first_lost=first_lost)
    size = path.stat().st_size
    catalog.add_quarantined(
        Segment(name, first_lost, next_sound, 0, size, 0, 0, frozenset(), State.QUARANTINED, reason)
    )


def _fill_gaps(layout: Layout, catalog: Catalog) -> None:
    """Where the operator has put a sound copy of a damaged write-ahead file back, take from it what is missing."""
    sealed_below = catalog.next_seq()
    for path in layout.wal_files():
        missing = [segment for segment in catalog.segments(State.QUARANTINED, State.LOST) if is_of(path, segment.file)]
        if not missing or first_seq_of(path) >= sealed_below:
            continue
        steps = list(scan(_content(path), 0))
        if not all(isinstance(step.found, Frame) for step in steps):
            _log.error("a restored write-ahead file is damaged as well", file=path.name)
            path.replace(layout.quarantine / path.name)
            continue
        frames = [step.found for step in steps if isinstance(step.found, Frame)]
        restored = [_fill_gap(layout, catalog, segment, frames) for segment in missing]
        if not all(restored):
            path.replace(layout.quarantine / path.name)  # it may be the only copy of what is missing


def _fill_gap(layout: Layout, catalog: Catalog, missing: Segment, frames: Sequence[Frame]) -> bool:
    # A catalogue that was made anew does not know which are missing.
    is_known = missing.first_seq < missing.next_seq
    chunks = [
        frame.chunk
        for frame in frames
        if frame.chunk is not None
        and (
            missing.first_seq <= frame.first_seq < missing.next_seq if is_known else not _is_there(catalog, frame.chunk)
        )
    ]
    made = [segments.write(layout.segments, segments.table(group), ()) for group in segments.unbroken(chunks)]
    taken = [extent for _, extents in made for extent in extents if _is_taken(catalog, extent)]
    if taken:
        _log.error("events cannot be restored: later ones have their indexes", file=missing.file, topic=taken[0].topic)
        segments.delete(layout.segments, [segment.file for segment, _ in made])
        return False
    ids: dict[bytes, Seen] = {}
    for chunk in chunks:
        rows = segments.table([chunk])
        ids |= collect(*(rows.column(name).to_pylist() for name in ("topic", "event_id", "seq", "arrived")))
    run = write_run(layout.dedupe, ids, missing.first_seq, missing.next_seq) if ids else None
    catalog.fill_gap(missing, made, _standings_of(made), run)
    _log.info("a write-ahead file was restored", file=missing.file, events=sum(segment.rows for segment, _ in made))
    return True


def _is_there(catalog: Catalog, chunk: Chunk) -> bool:
    topic, idx = int(chunk.topics[0]), int(chunk.idx[0])
    return any(
        placed.extent.first_idx <= idx < placed.extent.next_idx
        and placed.segment.first_seq <= chunk.first_seq < placed.segment.next_seq
        for placed in catalog.extents(topic)
    )


def _is_taken(catalog: Catalog, extent: Extent) -> bool:
    """Whether events that came after the damage were given the same indexes."""
    return any(
        placed.extent.first_idx < extent.next_idx and extent.first_idx < placed.extent.next_idx
        for placed in catalog.extents(extent.topic)
    )
