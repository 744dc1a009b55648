"""Processes that the benchmark starts, awaits, measures and ends, each by its own id."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from benchmarks.software import Missing

HOST = "127.0.0.1"
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A free port below the range that the kernel gives to outgoing connections.

    Within that range a client that retries a dead port can be connected to itself, and the port is taken for good.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


class Process:
    """A server that runs until `stop` or the end of the `with` block."""

    def __init__(
        self, argv: Sequence[object], folder: Path, *, environment: Mapping[str, str] | None = None, stop: int = 15
    ) -> None:
        self.log = folder / "server.log"
        self._stop = stop
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [str(part) for part in argv],
                env={**os.environ, **(environment or {})},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self._child.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def wait(self, ready: Callable[[], bool], timeout_s: float = 60) -> float:
        """Wait until `ready`, for which an error of the network means not yet, and give the seconds it took."""
        begin = time.perf_counter()
        while time.perf_counter() < begin + timeout_s and self._child.poll() is None:
            try:
                if ready():
                    return time.perf_counter() - begin
            except OSError:
                pass
            time.sleep(0.005)
        last = " ".join(self.log.read_text(errors="replace").split())[-300:]
        raise Missing(f"{Path(str(self._child.args[0])).name} did not start: {last}")  # type: ignore[index]  # a list

    def stop(self, patience_s: float = 30) -> float:
        """End it in good order, or by force past the patience, and give the seconds it took."""
        begin = time.perf_counter()
        if self._child.poll() is None:
            self._child.send_signal(self._stop)
            try:
                self._child.wait(patience_s)
            except subprocess.TimeoutExpired:
                self.kill()
        return time.perf_counter() - begin

    def kill(self) -> None:
        self._child.send_signal(signal.SIGKILL)
        self._child.wait()

    def rss_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE

    def rss_peak_bytes(self) -> int:
        """The most it ever had since it started or since `forget_peak`."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def tree_cpu_s(self) -> float:
        """Of it, of all its descendants that run, and of those that have ended."""
        parents: dict[int, tuple[int, float]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            parents[int(path.parent.name)] = (int(fields[1]), sum(map(int, fields[11:15])) / TICKS_PER_S)
        total, waiting = 0.0, [self.pid]
        while waiting:
            pid = waiting.pop()
            total += parents[pid][1] if pid in parents else 0
            waiting += [child for child, (parent, _) in parents.items() if parent == pid]
        return total

    def settle(self, timeout_s: float = 15) -> None:
        """Wait until it has finished what it does after a load: less than a tenth of a core for half a second."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            before = self.cpu_s()
            time.sleep(0.5)
            if self.cpu_s() - before < 0.05:
                return
