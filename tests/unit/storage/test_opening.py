"""Opening a data folder: one server at a time, with everything in its place."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from mainstem.clock import system_clock
from mainstem.errors import Unavailable
from mainstem.settings import Settings
from mainstem.storage import Layout, open_storage, open_workplace, scratch
from mainstem.storage.embedded.log import LogOptions
from mainstem.storage.opening import exclusive

HOLD = """
import sys, pathlib
from mainstem.storage.embedded.log import LogOptions
from mainstem.storage.opening import exclusive
with exclusive(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


async def test_the_first_start_makes_the_folder_for_its_owner_only(tmp_path: Path) -> None:
    data = tmp_path / "deep" / "data"

    async with open_storage(Settings(data=data), system_clock) as storage:
        await storage.blobs.write("a", b"hello")
        assert await storage.records.version() is not None

    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert (data / "blobs" / "a").read_bytes() == b"hello"


async def test_a_second_server_is_refused_until_the_first_has_closed(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    async with open_storage(settings, system_clock):
        with pytest.raises(Unavailable, match=r"Another mainstem server \(process \d+\) uses the data folder"):
            async with open_storage(settings, system_clock):
                pass

    async with open_storage(settings, system_clock):
        pass


async def test_what_a_crash_left_is_cleared_away(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    (layout.temporary / "blob-half").write_bytes(b"half")
    (layout.temporary / "queries").mkdir()
    (layout.temporary / "queries" / "spilled").write_bytes(b"rows")

    async with open_storage(Settings(data=tmp_path), system_clock):
        assert not (layout.temporary / "blob-half").exists()
        assert not (layout.temporary / "queries" / "spilled").exists()


@pytest.mark.parametrize(
    ("taken", "said"), [("lock", "lock: Is a directory"), ("log/catalog.sqlite", "unable to open database file")]
)
async def test_what_the_file_system_refuses_at_a_start_is_said_in_a_sentence(
    tmp_path: Path, taken: str, said: str
) -> None:
    """As a full disk or a folder of another user's does; here something else is where a file should be."""
    (tmp_path / taken).mkdir(parents=True)

    with pytest.raises(Unavailable, match=rf"^The data folder {re.escape(str(tmp_path))} cannot be used: .*{said}\.$"):
        async with open_storage(Settings(data=tmp_path), system_clock):
            pass


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Unavailable, match="file/data cannot be made or written: Not a directory"):
        async with open_storage(Settings(data=tmp_path / "file" / "data"), system_clock):
            pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Unavailable, match=f"process {holder.pid}"), exclusive(path):
            pass
        holder.kill()

    with exclusive(path):
        pass


def test_the_log_has_the_same_defaults_as_the_settings() -> None:
    """Who opens a log without settings, a test or a benchmark, gets what the server runs with."""
    options = msgspec.structs.asdict(LogOptions())

    assert options == {name: getattr(Settings(), name) for name in options}


# Processes beside the server


async def test_a_process_works_beside_the_server(tmp_path: Path) -> None:
    """On the same records and blobs, each with a scratch folder of its own that is gone afterwards."""
    settings = Settings(data=tmp_path / "data")
    async with open_storage(settings, system_clock) as server:
        async with open_workplace(settings) as one, open_workplace(settings) as other:
            await one.blobs.write("made/here", b"by one")

            assert await server.blobs.read("made/here") == await other.blobs.read("made/here") == b"by one"
            assert len({server.scratch, one.scratch, other.scratch}) == 3
        assert list(server.scratch.parent.iterdir()) == [server.scratch]
    assert list((tmp_path / "data" / "scratch").iterdir()) == []


async def test_nobody_works_where_no_server_has_been(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="There is no database"):
        async with open_workplace(Settings(data=tmp_path / "data")):
            pass
    assert os.listdir(tmp_path) == []


async def test_what_the_dead_left_is_removed_and_what_the_living_use_is_not(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    left = layout.scratch / "left"
    left.mkdir()
    (left / "half.m4s").write_bytes(b"x")

    with scratch(layout) as mine:
        (mine / "half.m4s").write_bytes(b"y")
        with scratch(layout):
            assert not left.exists()
            assert (mine / "half.m4s").exists()
