"""Programs that the benchmark needs, and how it gets those that the machine lacks.

Debian packages are unpacked, not installed: that needs no root, starts no service and takes no well-known port. Python
distributions go into environments of their own, so that what they pull in never meets ours.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mainstem-benchmarks"


class Missing(Exception):
    """Something cannot be had on this machine; the message is the reason that the table shows."""


@dataclass(frozen=True)
class Program:
    """A program, and what its environment must say for it to find its libraries."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)


def run(*argv: object, must_succeed: bool = True) -> str:
    """Run to the end and give what it printed; Missing, with the last lines, when it fails."""
    done = subprocess.run(
        [str(part) for part in argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if must_succeed and done.returncode:
        raise Missing(f"{argv[0]} failed: {' '.join(done.stdout.split())[-200:]}")
    return done.stdout


def cached(name: str, fill: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache, filled the first time; whoever comes meanwhile waits."""
    folder = CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            fill(folder)
            (folder / ".complete").touch()
    return folder


def debian(program: str, packages: Sequence[str], places: Sequence[str] = ("usr/bin",)) -> Program:
    """A program of the machine, or else of Debian packages unpacked into the cache. Raises Missing."""
    installed = [path for place in places for path in sorted(Path("/").glob(f"{place}/{program}"))]
    if found := (installed[-1] if installed else shutil.which(program)):
        return Program(Path(found))
    if not shutil.which("apt-get"):
        raise Missing(f"{program} is not installed and there is no apt-get to fetch it")
    root = cached(packages[0], lambda folder: _unpack(folder, packages))
    unpacked = [path for place in places for path in sorted(root.glob(f"{place}/{program}"))]
    libraries = ":".join(map(str, root.glob("usr/lib/*-linux-gnu")))
    return Program(unpacked[-1], {"LD_LIBRARY_PATH": libraries})


def _unpack(folder: Path, packages: Sequence[str]) -> None:
    lists, archives = CACHE / "apt" / "lists", folder / "archives"
    for place in (lists, archives):
        (place / "partial").mkdir(parents=True, exist_ok=True)
    options = [f"Dir::Cache={CACHE}/apt", f"Dir::Cache::archives={archives}", f"Dir::State::lists={lists}"]
    options += ["Acquire::Languages=none", "Debug::NoLocking=1", "APT::Sandbox::User=root"]
    apt = ["apt-get", "-qq", *(f"--option={option}" for option in options)]
    # Container images add a hook that only root can run: `update` then fails after it has succeeded.
    run(*apt, "update", must_succeed=False)
    run(*apt, "install", "--yes", "--no-install-recommends", "--reinstall", "--download-only", *packages)
    for archive in archives.glob("*.deb"):
        run("dpkg-deb", "--extract", archive, folder)
    shutil.rmtree(archives)


def python_environment(name: str, requirement: str, *, dependencies: bool = True) -> Path:
    """The folder of a virtual environment of its own with one distribution in it. Raises Missing."""

    def fill(folder: Path) -> None:
        run(sys.executable, "-m", "venv", folder)
        options = [] if dependencies else ["--no-deps"]
        run(folder / "bin/python", "-m", "pip", "install", "--quiet", *options, requirement)

    return cached(name, fill)
