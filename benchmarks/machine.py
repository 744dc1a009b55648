"""The conditions of a run: what the machine is, and how quiet it was."""

import os
import platform
import statistics
import time
from pathlib import Path

import msgspec

from benchmarks.figures import percentile


class Noise(msgspec.Struct, frozen=True):
    """One fixed loop of arithmetic, timed many times: on a quiet machine the worst is near the best."""

    best_ms: float
    median_ms: float
    worst_ms: float

    def __str__(self) -> str:
        return f"{self.best_ms:.0f} ms best, {self.median_ms:.0f} median, {self.worst_ms:.0f} worst"


class Disk(msgspec.Struct, frozen=True):
    """How long a write of 64 KiB and its fdatasync take."""

    median_ms: float
    p95_ms: float
    worst_ms: float

    def __str__(self) -> str:
        return f"{self.median_ms:.2f} ms median, {self.p95_ms:.2f} p95, {self.worst_ms:.1f} worst"


def noise(times: int = 30) -> Noise:
    spent = []
    for _ in range(times):
        begin = time.perf_counter()
        total = 0
        for number in range(500_000):
            total += number & 7
        spent.append((time.perf_counter() - begin) * 1e3)
    return Noise(min(spent), statistics.median(spent), max(spent))


def disk(folder: Path, times: int = 300) -> Disk:
    block, spent = os.urandom(65_536), []
    path = folder / "fdatasync.probe"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    for place in range(times):
        begin = time.perf_counter()
        os.pwrite(handle, block, place * len(block))
        os.fdatasync(handle)
        spent.append((time.perf_counter() - begin) * 1e3)
    os.close(handle)
    path.unlink()
    return Disk(statistics.median(spent), percentile(spent, 95), max(spent))


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def file_system(folder: Path) -> str:
    """The kind of the file system that holds the folder: the longest mount point above it."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [mount for mount in mounts if folder.resolve().is_relative_to(mount[0])]
    return max(above, key=lambda mount: len(mount[0]))[1] if above else "unknown"


def describe(folder: Path) -> list[str]:
    """Sentences on what does not change during a run."""
    return [
        f"{cpu_model()}, {os.cpu_count()} cores (load generators included), {memory_gib():.0f} GiB",
        f"{platform.system()} {platform.release()}, {file_system(folder)}, Python {platform.python_version()}",
    ]
