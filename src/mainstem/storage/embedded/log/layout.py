"""Where the log keeps what, below its folder."""

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

    def wal_files(self) -> list[FilePath]:
        """In sequence order."""
        return sorted(self.wal.glob("*.wal"))

    def remove_temporary(self) -> None:
        for place in (self.segments, self.dedupe):
            for file in place.glob("*.tmp"):
                file.unlink()


def first_seq_of(wal_file: FilePath) -> int:
    return int(wal_file.stem)
