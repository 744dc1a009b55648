"""What the documents tell a reader to type works."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstem import demo
from tunes import tune
from waiting import PATIENCE_S

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "docs/tutorial/first-events.md",
    "docs/how-to/send-events.md",
    "docs/how-to/query-and-aggregate.md",
    "docs/how-to/export-events.md",
    "docs/how-to/manage-keys.md",
    "docs/how-to/push-and-pull-messages.md",
    "docs/how-to/upload-large-files.md",
    "docs/how-to/run-a-catalogue.md",
    "docs/how-to/keep-a-catalogue-of-live-streams.md",
]

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the documents speak of curl, which is not here")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[demo.Server]:
    """The server of somebody who reads one page after the other."""
    with demo.running_server(tmp_path_factory.mktemp("reader") / "data") as running:
        yield running


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_works(page: str, reader: demo.Server, tmp_path: Path) -> None:
    """All of a page's blocks, one after the other; an answer over 399 is a failure."""
    (tmp_path / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")
    for name in ("song.flac", "audio.wav"):
        (tmp_path / name).write_bytes(tune(2.0))  # what a name says of a file does not count
    commands_of_ours = Path(sys.executable).parent
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(commands_of_ours)
    environment = {
        **os.environ,
        "KEY": reader.key,
        "CURL_HOME": str(tmp_path),
        "MAINSTEM_DATA": str(reader.data),
        "PATH": f"{commands_of_ours}:{os.environ['PATH']}",
    }

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands(ROOT / page, reader.url)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=5 * PATIENCE_S,  # each command of ours is a process of its own
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert '"error"' not in done.stdout


def commands(page: Path, url: str) -> str:
    """The `sh` and `python` blocks that speak to a server, with this one in place of the usual."""
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    spoken = [_as_shell(language, block) for language, block in blocks if "localhost:8082" in block]
    assert spoken, f"{page.name} has no command left to try"
    return "\n".join(spoken).replace("http://localhost:8082", url).replace("localhost:8082", url)


def _as_shell(language: str, block: str) -> str:
    if language == "python":
        return f"{shlex.quote(sys.executable)} - <<'END'\n{block}END"
    return re.sub(r"^export KEY=.*$", "", block, flags=re.MULTILINE)
