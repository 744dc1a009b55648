"""Where the log keeps what, below its folder."""

import re
from pathlib import Path as FilePath


class Layout:
    def __init__(self, folder: FilePath) -> None:
        self.folder = folder
        self.wal = folder / "wal"
        self.segments = folder / "segments"
        self.dedupe = folder / "dedupe"
        self.quarantine = folder / "quarantine"
        self.catalog = folder / "catalog.sqlite"

    def make(self) -> None:
        for place in (self.folder, self.wal, self.segments, self.dedupe, self.quarantine):
            place.mkdir(mode=0o750, parents=True, exist_ok=True)

    def wal_file(self, first_seq: int) -> FilePath:
        return self.wal / f"{first_seq:020d}.wal"

    def run_files(self) -> list[FilePath]:
        return sorted(path for path in self.dedupe.iterdir() if re.fullmatch(r"[0-9]{20}-[0-9]{20}\.ids", path.name))

    def wal_files(self) -> list[FilePath]:
        """In sequence order."""
        return sorted(path for path in self.wal.iterdir() if re.fullmatch(r"[0-9]{20}\.wal", path.name))

    def remove_temporary(self) -> None:
        for place in (self.segments, self.dedupe):
            for file in place.glob("*.tmp"):
                file.unlink()


def first_seq_of(wal_file: FilePath) -> int:
    return int(wal_file.stem)


def aside_name(wal_file: FilePath, offset: int) -> str:
    """What a write-ahead file that is damaged from a byte on is called in quarantine."""
    return f"{wal_file.stem}+{offset}.wal"


def is_aside(name: str) -> bool:
    return re.fullmatch(r"[0-9]{20}\+[0-9]+\.wal", name) is not None


def first_seq_aside(name: str) -> int:
    return int(name.split("+")[0])


def is_of(wal_file: FilePath, aside: str) -> bool:
    """Whether this is the name in quarantine of damage to that file."""
    return aside.startswith(f"{wal_file.stem}+")
