"""Chromium really plays what we make: the time of the audio element goes on, and nothing fatal happens."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import sounds
from browsing import Page, browsing
from jobs import finished, submitted
from serving import Server, serving

pytestmark = pytest.mark.slow

_PLAY = """(async (address) => {
  window.errors = [];
  window.audio = new Audio();
  window.hls = new Hls({enableWorker: false, startPosition: 0});
  hls.on(Hls.Events.ERROR, (_, error) => errors.push((error.fatal ? 'fatal ' : '') + error.type + ' ' + error.details));
  hls.on(Hls.Events.BUFFER_CODECS, (_, tracks) => { window.codec = tracks.audio && tracks.audio.codec; });
  hls.loadSource(address);
  hls.attachMedia(audio);
  await new Promise(done => hls.on(Hls.Events.MANIFEST_PARSED, done));
  await audio.play();
  return true;
})"""
"""hls.js as the server brings it, in a page without our player around it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("browser") / "data", transcode_jobs=2) as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("chromium") / "profile") as opened:
        yield opened


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client(None) as speaking:
        yield speaking


def plays(page: Page, address: str, seconds: float = 1.0) -> None:
    """hls.js plays it, from the beginning, for so long."""
    assert page.value(f"{_PLAY}({address!r})")
    page.wait(f"audio.currentTime > {seconds}")
    assert [error for error in page.value("errors") if error.startswith("fatal")] == []


@pytest.mark.parametrize("codec", ["aac", "mp3", "opus", "flac"])
def test_hls_js_plays(server: Server, client: httpx.Client, page: Page, tmp_path: Path, codec: str) -> None:
    """From the first sample, over the border of a segment, and after a jump."""
    job = finished(client, submitted(client, sounds.wav(tmp_path / "a.wav", seconds=13), codec=codec))
    page.open(f"{server.url}/v1/stream/job/{job['id']}/player")
    plays(page, f"/v1/stream/hls/{job['id']}/index.m3u8")
    page.value("audio.currentTime = 5.5")
    page.wait("audio.currentTime > 6.5")
    assert page.value("audio.duration") == pytest.approx(13, abs=0.15)
    page.value("audio.currentTime = 12.3")
    page.wait("audio.ended")
    assert [error for error in page.value("errors") if error.startswith("fatal")] == []


def test_hls_js_plays_and_changes_rungs(server: Server, client: httpx.Client, page: Page, tmp_path: Path) -> None:
    """From AAC of 64 kbit/s to 192 and on to FLAC, without a gap in time."""
    job = finished(client, submitted(client, sounds.wav(tmp_path / "a.wav", seconds=26), ladder="true"))
    page.open(f"{server.url}/v1/stream/job/{job['id']}/player")
    plays(page, f"/v1/stream/hls/{job['id']}/master.m3u8")
    levels = page.value("hls.levels.length")
    assert levels >= 4
    for place, level in enumerate(range(levels)):
        page.value(f"hls.currentLevel = {level}")
        now = page.value("audio.currentTime")
        page.wait(f"hls.currentLevel === {level} && audio.currentTime > {now + 0.5}")
        assert page.value("audio.currentTime") < now + 10, place
    assert [error for error in page.value("errors") if error.startswith("fatal")] == []


def test_hls_js_plays_while_the_job_still_runs(
    server: Server, client: httpx.Client, page: Page, tmp_path: Path
) -> None:
    """By the live address, and it goes on beyond the end of the job."""
    short = finished(client, submitted(client, sounds.wav(tmp_path / "short.wav")))
    page.open(f"{server.url}/v1/stream/job/{short['id']}/player")  # for its hls.js
    job = submitted(client, sounds.wav(tmp_path / "long.wav", seconds=150), ladder="true")
    live = f"/v1/stream/live/{job}/index.m3u8"
    page.wait(f"fetch({live!r}).then(answer => answer.text()).then(text => text.includes('segment_00001'))")
    plays(page, live, 0.5)
    assert client.get(f"/v1/stream/job/{job}").json()["status"] == "Processing"
    finished(client, job, timeout_s=120)
    page.wait("audio.duration > 149", 30)
    now = page.value("audio.currentTime")
    page.wait(f"audio.currentTime > {now + 0.5}")
    assert [error for error in page.value("errors") if error.startswith("fatal")] == []


def test_the_player_page_plays(server: Server, client: httpx.Client, page: Page, tmp_path: Path) -> None:
    """A press of its button, nothing from another server, and no complaint in the console."""
    job = finished(client, submitted(client, sounds.wav(tmp_path / "a.wav", seconds=8), quality_profile="high"))
    page.complaints.clear()
    page.open(f"{server.url}/v1/stream/job/{job['id']}/player")
    page.wait("!document.getElementById('play').disabled")
    page.value("document.getElementById('play').click()")
    page.wait("document.getElementById('audio').currentTime > 1")
    loaded = page.value("performance.getEntriesByType('resource').map(entry => new URL(entry.name).host)")
    assert set(loaded) <= {server.url.removeprefix("http://"), ""}
    assert page.complaints == []


def test_the_player_page_begins_while_the_job_still_runs(
    server: Server, client: httpx.Client, page: Page, tmp_path: Path
) -> None:
    job = submitted(client, sounds.wav(tmp_path / "long.wav", seconds=150), ladder="true")
    page.open(f"{server.url}/v1/stream/job/{job}/player")
    page.wait("!document.getElementById('play').disabled")
    page.value("document.getElementById('play').click()")
    page.wait("document.getElementById('audio').currentTime > 0.5")
    assert client.get(f"/v1/stream/job/{job}").json()["status"] == "Processing"
    finished(client, job, timeout_s=120)
    assert page.complaints == []


def test_the_player_page_has_the_loudness_as_soon_as_the_job_is_complete(
    server: Server, client: httpx.Client, page: Page, tmp_path: Path
) -> None:
    """Nobody has to open the page again."""
    job = submitted(client, sounds.wav(tmp_path / "long.wav", seconds=150), ladder="true")
    page.open(f"{server.url}/v1/stream/job/{job}/player")
    assert "LUFS" not in page.value("document.querySelector('.facts').textContent")
    finished(client, job, timeout_s=120)
    page.wait("document.querySelector('.facts').textContent.includes('LUFS')")
    assert page.complaints == []
