"""Where things are inside the data folder."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from mainstem.errors import Unavailable
from mainstem.storage.embedded.files import sync_folder


@dataclass(frozen=True, slots=True)
class Layout:
    """The data folder. Only its owner may enter it, for it holds secrets and everybody's events."""

    data: Path

    @property
    def records(self) -> Path:
        return self.data / "mainstem.sqlite"

    @property
    def log(self) -> Path:
        return self.data / "log"

    @property
    def blobs(self) -> Path:
        return self.data / "blobs"

    @property
    def temporary(self) -> Path:
        """What a crash may leave behind and a start clears away."""
        return self.data / "tmp"

    @property
    def scratch(self) -> Path:
        """A folder for each process that works here, for what it has not finished; see `opening.scratch`."""
        return self.data / "scratch"

    @property
    def uploads(self) -> Path:
        """Files that come in pieces, until all of their bytes are here."""
        return self.data / "uploads"

    @property
    def keys(self) -> Path:
        return self.data / "keys"

    @property
    def lock(self) -> Path:
        return self.data / "lock"

    def make(self) -> None:
        """Make the folders that are missing. Raises Unavailable when the file system refuses."""
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.log, self.blobs, self.temporary, self.scratch, self.uploads, self.keys):
                folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self.data)
            sync_folder(self.data.absolute().parent)
        except OSError as error:
            raise Unavailable(f"The data folder {self.data} cannot be made or written: {error.strerror}.") from error

    def clear_temporary(self) -> None:
        """Remove what an earlier process left. Only the one server of this folder may do so."""
        for leftover in self.temporary.iterdir():
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
