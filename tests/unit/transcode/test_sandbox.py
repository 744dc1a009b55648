"""What a child process can no longer do once it is confined."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstem.transcode import Limits, NotAudio, children
from mainstem.transcode.intake import PROBE_S, probe
from waiting import PATIENCE_S

SETTING = """
import os, resource, socket, sys
from mainstem.transcode.sandbox import Allowance, confine
confine(Allowance(memory_bytes=512 << 20, cpu_s=1, file_bytes=1_000, files=16, niceness=5))
"""


def confined(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A confined process that runs this program."""
    command = [sys.executable, "-c", SETTING + program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@pytest.fixture
def listening() -> Iterator[int]:
    """The port of somebody on this machine who would answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_it_reaches_nobody(listening: int) -> None:
    if confined("print(os.readlink('/proc/self/ns/net'))").stdout.strip() == os.readlink("/proc/self/ns/net"):
        pytest.skip("this system allows no network namespace")

    tried = confined("socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5)", str(listening))

    assert "unreachable" in tried.stderr


def test_it_gets_no_more_memory() -> None:
    assert "MemoryError" in confined("bytearray(1 << 30)").stderr


def test_it_gets_no_more_time() -> None:
    assert confined("while True: pass").returncode < 0


def test_it_writes_no_larger_file(tmp_path: Path) -> None:
    twice = "for _ in range(2): open(sys.argv[1], 'ab', 0).write(bytes(2_000))"
    tried = confined(twice, str(tmp_path / "x"))

    assert "File too large" in tried.stderr
    assert (tmp_path / "x").stat().st_size == 1_000


def test_it_opens_no_more_files() -> None:
    assert "Too many open files" in confined("[open('/dev/null') for _ in range(20)]").stderr


@pytest.mark.parametrize("told", ["b'nonsense' + b'\\n'", "b'{}' + b'\\n'", "bytes(2 << 20)"])
async def test_one_that_was_taken_over_is_heard_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    """What it says is no message: it is killed at once, and the file that did it is no audio."""
    program = f"import sys, time; sys.stdout.buffer.write({told}); sys.stdout.flush(); time.sleep({PATIENCE_S})"
    monkeypatch.setattr(children, "_COMMAND", (sys.executable, "-c", program))
    (tmp_path / "sent").write_bytes(b"x")

    async with asyncio.timeout(PROBE_S):
        with pytest.raises(NotAudio):
            await probe(tmp_path / "sent", 1, Limits())
