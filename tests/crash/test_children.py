"""What becomes of the processes beside a server: they live as long as it does, and no longer."""

import os
import signal
from pathlib import Path

import pytest

from serving import Server, serving
from waiting import wait_until


def test_a_killed_server_takes_its_children_along(tmp_path: Path) -> None:
    with serving(tmp_path / "data", check="yes") as server:
        (child,) = working(server, 1)

        server.process.kill()

        wait_until(lambda: not is_alive(child))


def test_a_stopped_server_leaves_nothing_behind(tmp_path: Path) -> None:
    with serving(tmp_path / "data", check="yes") as server:
        (child,) = working(server, 1)

        assert server.stop() == 0

        assert not is_alive(child)
        assert list((tmp_path / "data" / "scratch").iterdir()) == []
        lines = [line for line in server.log_lines() if line.get("process") == "check"]
        assert lines[-1]["event"] == "stopped"


@pytest.mark.slow
def test_a_killed_child_is_started_again(tmp_path: Path) -> None:
    with serving(tmp_path / "data", check="yes") as server, server.client() as client:
        (first,) = working(server, 1)
        os.kill(first, signal.SIGKILL)

        _, second = working(server, 2)
        wait_until(lambda: client.get("/health").json()["components"]["processing"] == "healthy")
        metrics = client.get("/metrics", headers={"Accept": "text/plain"}).text
        assert 'mainstem_worker_starts_total{kind="check"} 2.0' in metrics
        assert is_alive(second)
        left = list((tmp_path / "data" / "scratch").iterdir())
        assert len(left) == 2, "the scratch folder of a dead process is removed by the next"


def working(server: Server, count: int) -> list[int]:
    """The process ids of the children, once so many have begun to work."""
    wait_until(lambda: len([line for line in server.log_lines() if line["event"] == "checking"]) == count)
    return [int(str(line["pid"])) for line in server.log_lines() if line["event"] == "child started"]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
