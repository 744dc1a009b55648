"""Looking a log over from outside, while it is served or not: what `mainstem doctor` calls."""

from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import NamedTuple

from mainstem.errors import NotFound
from mainstem.storage.embedded.log.catalog import Catalog, Damaged, State
from mainstem.storage.embedded.log.frame import Flaw, scan
from mainstem.storage.embedded.log.layout import Layout
from mainstem.storage.embedded.log.segments import checksum


class Finding(NamedTuple):
    """One thing looked at. `sound` is False where an operator has something to do."""

    subject: str
    sound: bool
    message: str


def verify_log(folder: FilePath) -> list[Finding]:
    """Check every segment's checksum and every frame of the write-ahead files. Reads all of them; changes nothing.

    A server may be running: a write-ahead file that grows or goes meanwhile is no finding.
    """
    layout = Layout(folder)
    if not layout.catalog.exists():
        return [Finding("log", True, "There is no log yet.")]
    try:
        catalog = Catalog(layout.catalog)
    except Damaged as error:
        return [Finding("catalog.sqlite", False, f"Damaged: {error}. The next start of the server makes it anew.")]
    try:
        return [*_verify_segments(layout, catalog), *_verify_wal(layout)]
    finally:
        catalog.close()


def _verify_segments(layout: Layout, catalog: Catalog) -> Iterator[Finding]:
    events = 0
    sound = catalog.segments(State.SOUND)
    for segment in sound:
        try:
            if checksum(layout.segments / segment.file) == segment.crc:
                events += segment.rows
                continue
            reason = "its checksum does not match"
        except FileNotFoundError:
            catalog.refresh()
            if catalog.segment(segment.file) is None:
                continue  # compacted meanwhile
            reason = "the file is missing"
        yield Finding(segment.file, False, f"Damaged: {reason}; {segment.rows} events. Restore it from a backup.")
    for segment in catalog.segments(State.QUARANTINED):
        yield Finding(
            segment.file,
            False,
            f"In quarantine: {segment.reason}. Put a sound copy into its folder and restart, or run"
            f" `mainstem doctor --accept-loss {segment.file}`.",
        )
    for segment in catalog.segments(State.LOST):
        yield Finding(segment.file, True, f"Lost, and accepted: {segment.reason}.")
    yield Finding("segments", True, f"{len(sound)} segments looked at, {events} events sound.")


def _verify_wal(layout: Layout) -> Iterator[Finding]:
    for path in layout.wal_files():
        try:
            data = memoryview(path.read_bytes())
        except FileNotFoundError:
            continue  # sealed meanwhile
        events = 0
        for step in scan(data, 0):
            if not isinstance(step.found, Flaw):
                events += step.found.count
            elif step.found is Flaw.DAMAGED:
                yield Finding(path.name, False, f"Damaged: bytes from {step.offset} on fail their checksum.")
        yield Finding(path.name, True, f"{events} events not sealed yet.")


def accept_loss(folder: FilePath, name: str) -> None:
    """Declare a quarantined segment lost: health no longer speaks of it. Its file stays in quarantine.

    A running server sees it within its next round of upkeep. Raises NotFound where nothing of that name is in it.
    """
    layout = Layout(folder)
    catalog = Catalog(layout.catalog)
    try:
        segment = catalog.segment(name)
        if segment is None or segment.state is not State.QUARANTINED:
            names = ", ".join(item.file for item in catalog.segments(State.QUARANTINED)) or "nothing"
            raise NotFound(f"{name} is not in quarantine; in quarantine: {names}.", segment=name)
        catalog.set_state(name, State.LOST, segment.reason)
    finally:
        catalog.close()
