"""What the server serves, held to the rules over HTTP: after a job, and while it runs."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

import sounds
from foreign import ffprobe, strict_hls
from jobs import finished, submitted
from mainstem.hlscheck import Watch, check
from serving import Server, serving
from waiting import PATIENCE_S

pytestmark = pytest.mark.slow

ORIGIN = "http://localhost:5176"
"""One of the two that may read it when nothing else is said."""
FOREIGN = "http://elsewhere.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served") / "data", transcode_jobs=2) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client(None) as speaking:
        yield speaking


@pytest.mark.parametrize("codec", ["aac", "mp3", "opus", "flac"])
def test_a_job_is_served_by_all_the_rules(server: Server, client: httpx.Client, tmp_path: Path, codec: str) -> None:
    """Types, lengths, ETags and 304, ranges, HEAD, caching, pages of other origins; at every address of it."""
    job = finished(client, submitted(client, sounds.wav(tmp_path / "a.wav", seconds=13), codec=codec))["id"]
    addresses = [f"{server.url}/v1/stream/{path}" for path in (f"hls/{job}/index.m3u8", f"live/{job}/index.m3u8")]
    for address in (*addresses, f"{server.url}/v1/stream/hls/{job}/master.m3u8"):
        assert check(address, origin=ORIGIN).findings == [], address
    assert strict_hls({address: httpx.get(address, timeout=PATIENCE_S).text for address in addresses}) == {}
    (stream,) = ffprobe(addresses[0], "-show_entries", "stream=codec_name", answer=_Probed).streams
    assert stream["codec_name"] == codec


def test_a_ladder_is_served_by_all_the_rules(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    """Every rung, and the master beside what they hold."""
    job = finished(client, submitted(client, sounds.wav(tmp_path / "a.wav", seconds=13), ladder="true"))["id"]
    report = check(f"{server.url}/v1/stream/hls/{job}/master.m3u8", origin=ORIGIN)
    assert report.findings == []
    assert {one.audio.codec for one in report.renditions if one.audio} == {"mp4a.40.2", "fLaC"}
    assert len(report.renditions) >= 4


def test_a_job_that_runs_is_followed_to_its_end(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    """From its first segment on, the live playlist only grows, and then it ends."""
    job = submitted(client, sounds.wav(tmp_path / "a.wav", seconds=120), ladder="true")
    live = f"/v1/stream/live/{job}/index.m3u8"
    states = list[str]()
    while not states or "#EXT-X-ENDLIST" not in states[-1]:
        answer = client.get(live)
        if answer.status_code == 200 and (not states or answer.text != states[-1]):
            states.append(answer.text)
            if len(states) == 1:
                report = check(server.url + live, watch=Watch(90), origin=ORIGIN)
        elif answer.status_code != 200:
            assert answer.status_code == 400, answer.text
    assert report.findings == []
    assert report.renditions[0].duration_s == pytest.approx(120, abs=0.1)
    assert states[0].splitlines()[1:5] == states[-1].splitlines()[1:5]
    assert strict_hls(dict(enumerate(states))) == {}  # type: ignore[arg-type]  # numbers name them as well


def test_a_page_from_elsewhere_is_told_nothing(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    """It is served, and the browser keeps it from the page."""
    job = finished(client, submitted(client, sounds.wav(tmp_path / "a.wav")))["id"]
    report = check(f"{server.url}/v1/stream/hls/{job}/index.m3u8", origin=FOREIGN)
    assert {found.rule for found in report.findings} == {"http.origin"}


class _Probed(msgspec.Struct):
    streams: list[dict[str, str]]
