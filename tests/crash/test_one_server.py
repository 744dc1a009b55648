"""A data folder has one server: a second is refused in plain words and harms nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mainstem.clock import system_clock
from mainstem.errors import Unavailable
from mainstem.settings import Settings
from mainstem.storage import open_storage
from serving import Server, found, send, serving
from waiting import PATIENCE_S

EVENT = {"event_type": "click", "data": {"n": 1}}


def second(server: Server) -> "subprocess.CompletedProcess[str]":
    """Try to serve the same folder."""
    environment = os.environ | {"MAINSTEM_DATA": str(server.data), "MAINSTEM_PORT": "0"}
    command = [sys.executable, "-m", "mainstem", "serve"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)


def test_a_second_server_is_refused(tmp_path: Path) -> None:
    """It says who uses the folder and what to do; the first goes on, and its events are there afterwards."""
    with serving(tmp_path / "data") as server, server.client() as client:
        send(client, "orders", EVENT)
        refused = second(server)

        assert refused.returncode != 0
        assert f"process {server.process.pid}" in refused.stderr
        assert "MAINSTEM_DATA" in refused.stderr
        assert "Traceback" not in refused.stderr
        send(client, "orders", EVENT)
        assert len(found(client, "orders")) == 2
    with serving(tmp_path / "data") as server, server.client() as client:
        assert len(found(client, "orders")) == 2


def test_the_folder_is_free_when_its_server_was_killed(tmp_path: Path) -> None:
    """The next one takes it at once: a lock file that was left behind keeps nobody out."""
    with serving(tmp_path / "data") as server:
        server.process.kill()
        server.process.wait()
        with serving(tmp_path / "data") as next_one, next_one.client() as client:
            assert client.get("/health").status_code == 200


async def test_a_process_cannot_open_it_twice_either(tmp_path: Path) -> None:
    """Whoever opens storage beside a server is told the same."""
    async with open_storage(Settings(data=tmp_path / "data"), system_clock):
        with pytest.raises(Unavailable, match="Another mainstem server"):
            async with open_storage(Settings(data=tmp_path / "data"), system_clock):
                pass
