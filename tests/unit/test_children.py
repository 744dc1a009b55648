"""Processes beside the server: they are started again when they end, and end when they are told to."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mainstem import children
from mainstem.children import Child, Children
from mainstem.settings import Settings
from mainstem.storage import Condition
from waiting import until

WAITING = "import sys; open({note!r}, 'a').write(sys.stdin.readline()); sys.stdin.read()"
STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " open({note!r}, 'a').write(sys.stdin.readline()); time.sleep(60)"
)
FAILING = "import sys; open({note!r}, 'a').write(sys.stdin.readline()); sys.exit(3)"


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "note"


@asynccontextmanager
async def running(script: str, note: Path, stop_timeout_s: float = 10) -> AsyncIterator[Child]:
    child = Child("baker", [sys.executable, "-c", script.format(note=str(note))], b"settings", stop_timeout_s)
    keeping = asyncio.create_task(child.run())
    try:
        yield child
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])


def has_begun(note: Path, times: int = 1) -> bool:
    return note.exists() and note.read_text() == "settings\n" * times


async def test_a_child_is_told_its_settings_and_ends_when_asked(note: Path) -> None:
    async with running(WAITING, note) as child:
        await until(lambda: has_begun(note))
        assert (child.running, child.starts) == (True, 1)

    assert not child.running


async def test_a_child_that_ends_is_started_again_ever_later(note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "BACK_OFF_S", (0.01, 0.02, 60))

    async with running(FAILING, note) as child:
        await until(lambda: has_begun(note, times=3) and not child.running)

    assert child.starts == 3


async def test_a_child_that_does_not_end_is_killed(note: Path) -> None:
    async with running(STUBBORN, note, stop_timeout_s=0.1) as child:
        await until(lambda: has_begun(note))

    assert not child.running


async def test_a_server_whose_child_does_not_run_is_degraded() -> None:
    both = Children(Settings(check=True))
    assert both.health().condition is Condition.DEGRADED
    assert "check" in both.health().reason

    assert Children(Settings(check=False, transcode_jobs=0)).health().condition is Condition.HEALTHY


async def test_a_child_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "BACK_OFF_S", (0.01,))
    child = Child("baker", ["/nowhere/at/all"], b"", 1)
    keeping = asyncio.create_task(child.run())
    await asyncio.sleep(0.1)

    assert not keeping.done()
    keeping.cancel()
    await asyncio.wait([keeping])
    assert child.starts == 0


async def test_a_child_that_is_told_to_stop_is_not_started_again(note: Path) -> None:
    async with running(WAITING, note) as child:
        await until(lambda: has_begun(note))

        child.stop()

        await until(lambda: not child.running)
        assert child.starts == 1
