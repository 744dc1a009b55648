"""stream-server: the programs that people write against it, with libraries that are not ours."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests

from foreign import node
from streamserver import TUNE, ended
from waiting import PATIENCE_S


@pytest.fixture(scope="module")
def tune_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("music") / "audio.wav"
    path.write_bytes(TUNE)
    return path


def curl(*arguments: str) -> bytes:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    return subprocess.run(
        ["curl", "-sS", "--fail", *arguments], capture_output=True, timeout=PATIENCE_S, check=True
    ).stdout


def test_requests_sends_a_file_and_finds_the_playlist(transcoder: httpx.Client, tune_file: Path) -> None:
    base = str(transcoder.base_url).rstrip("/")
    with tune_file.open("rb") as file:
        sent = requests.post(
            f"{base}/v1/stream/transcode", files={"file": file}, data={"quality_profile": "high"}, timeout=PATIENCE_S
        )
    job = sent.json()["job_id"]

    assert ended(transcoder, job)["status"] == "Completed"
    status: dict[str, Any] = requests.get(f"{base}/v1/stream/job/{job}", timeout=PATIENCE_S).json()
    assert (status["status"], status["progress"]) == ("Completed", 100.0)
    assert requests.get(f"{base}/v1/stream/hls/{job}/index.m3u8", timeout=PATIENCE_S).text.startswith("#EXTM3U\n")


def test_node_sends_a_file_and_finds_the_playlist(transcoder: httpx.Client, tune_file: Path) -> None:
    address = node("submit.cjs", str(transcoder.base_url).rstrip("/"), tune_file).decode().strip()

    assert httpx.get(address, timeout=PATIENCE_S).text.startswith("#EXTM3U\n")


def test_curl_sends_a_file_and_saves_a_segment(transcoder: httpx.Client, tune_file: Path, tmp_path: Path) -> None:
    base = f"{str(transcoder.base_url).rstrip('/')}/v1/stream"
    form = ["-F", f"file=@{tune_file}", "-F", "quality_profile=high", "-F", "priority=normal"]
    job = json.loads(curl("-X", "POST", f"{base}/transcode", *form))["job_id"]

    assert ended(transcoder, job)["status"] == "Completed"
    assert json.loads(curl(f"{base}/job/{job}"))["status"] == "Completed"
    curl(f"{base}/hls/{job}/segment_00001.ts", "--output", str(tmp_path / "segment.ts"))
    assert (tmp_path / "segment.ts").read_bytes()[0] == 0x47
