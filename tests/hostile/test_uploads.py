"""Uploads that are meant to hurt: each is refused, or fails honestly, and nothing else happens.

No file is opened and no address called because an upload names it; a bomb costs bounded memory and time; whatever bytes
come, the answer is 200 or 400, the job ends, and the server goes on as before.
"""

import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sounds
from foreign import ffmpeg
from jobs import ended, finished, submitted
from serving import Server, serving
from waiting import wait_until
from watching import Canary, canary

pytestmark = pytest.mark.slow

MEMORY_BYTES = 1 << 30
"""What a child may take here."""
SERVER_BYTES_MAX = 400 << 20
"""What the server and its worker may take at most, whatever is sent."""
MUTANTS = 12
"""Of each format."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("uploads") / "data",
        transcode_jobs=2,
        transcode_memory_bytes=MEMORY_BYTES,
        transcode_duration_max_s=7_200,
        transcode_timeout_s=60,
        max_file_size=8 << 20,
    ) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client(None) as speaking:
        yield speaking


@pytest.fixture(autouse=True)
def nothing_happened(server: Server, client: httpx.Client) -> Iterator[None]:
    """After each test the same process serves, without an error of its own, and takes good files as before."""
    yield
    assert server.process.poll() is None
    assert [line for line in server.log_lines() if line.get("level") in ("error", "critical")] == []
    assert client.get("/health").status_code == 200


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    if sys.platform != "linux":
        pytest.skip("needs inotify")
    with canary(tmp_path_factory.mktemp("canary")) as watching:
        yield watching


def sent(client: httpx.Client, content: bytes, name: str = "upload.wav", **fields: str) -> httpx.Response:
    return client.post("/v1/stream/transcode", files={"file": (name, content)}, data=fields)


def harmless(client: httpx.Client, content: bytes, name: str = "upload.wav") -> str:
    """Refused with 400, or the job comes to an honest end; which."""
    response = sent(client, content, name, codec="flac")
    if response.status_code == 400:
        assert response.json()["error"]
        assert response.json()["status"] == 400
        return "refused"
    assert response.status_code == 200, response.text
    job = ended(client, response.json()["job_id"])
    if job["status"] != "Completed":
        assert job["status"].startswith("Failed(")
        assert job["error"]
        assert client.get(f"/v1/stream/hls/{job['id']}/index.m3u8").status_code == 404
    return str(job["status"]).partition("(")[0]


# What names other files and addresses

NAMING: dict[str, str] = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nFILE\n#EXTINF:6,\nURL\n#EXT-X-ENDLIST\n",
    "m3u8 with a key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="URL"\n#EXTINF:6,\nFILE\n',
    "m3u8 with a map": '#EXTM3U\n#EXT-X-MAP:URI="FILE"\n#EXTINF:6,\nURL\n#EXT-X-ENDLIST\n',
    "m3u": "#EXTM3U\nFILE\nURL\n",
    "pls": "[playlist]\nNumberOfEntries=2\nFile1=FILE\nFile2=URL\n",
    "concat": "ffconcat version 1.0\nfile 'FILE'\nfile 'URL'\n",
    "concat of protocols": "ffconcat version 1.0\nfile 'concat:FILE|URL'\nfile subfile,,start,0,end,9,,:FILE\n",
    "dash": """<?xml version="1.0"?>
        <MPD xmlns="urn:mpeg:dash:schema:mpd:2011" mediaPresentationDuration="PT6S"><Period>
        <AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="1"><BaseURL>URL</BaseURL><SegmentList>
        <Initialization sourceURL="FILE"/><SegmentURL media="URL"/></SegmentList></Representation></AdaptationSet>
        </Period></MPD>""",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio PORT RTP/AVP 0\n",
    "asx": '<asx version="3.0"><entry><ref href="URL"/><ref href="FILE"/></entry></asx>',
    "smil": '<smil><body><audio src="FILE"/><audio src="URL"/></body></smil>',
    "cue": 'FILE "FILE" WAVE\n TRACK 01 AUDIO\n  INDEX 01 00:00:00\n',
    "avisynth": 'WavSource("FILE")\n',
    "redirection": "[Reference]\nRef1=URL\nRef2=FILE\n",
    "filter graph": "amovie=FILE[out0]\n",
    "path": "FILE",
    "address": "URL",
}


def test_the_canary_sings(watched: Canary) -> None:
    """Else the tests below would prove nothing."""
    watched.path.read_bytes()
    assert watched.was_opened()
    socket.create_connection(("127.0.0.1", watched.port)).close()
    assert watched.was_called()
    assert not watched.was_opened()
    assert not watched.was_called()


@pytest.mark.parametrize("naming", NAMING)
@pytest.mark.parametrize("name", ["upload.wav", "upload.m3u8"])
def test_what_an_upload_names_is_never_opened(
    server: Server, client: httpx.Client, watched: Canary, naming: str, name: str
) -> None:
    """Whatever the upload is called, and however it names the file."""
    for file in (str(watched.path), f"file://{watched.path}", f"../../../../../../../..{watched.path}"):
        response = sent(client, _naming(naming, file, watched.port), name)
        assert response.status_code == 400, response.text
        assert "secret" not in response.text
    assert not watched.was_opened()
    assert not watched.was_called()


def _naming(how: str, file: str, port: int) -> bytes:
    url = f"http://127.0.0.1:{port}/a.wav"
    return NAMING[how].replace("FILE", file).replace("URL", url).replace("PORT", str(port)).encode()


def test_an_mp4_that_refers_to_another_file_does_not_open_it(
    server: Server, client: httpx.Client, watched: Canary, tmp_path: Path
) -> None:
    """Its samples are said to lie elsewhere: `dref` names the canary instead of the file itself."""
    source = sounds.encoded(sounds.wav(tmp_path / "a.wav", seconds=1), "m4a").read_bytes()
    at = source.index(b"dref")
    path = str(watched.path).encode()
    for kind, body in ((b"url ", b"file://" + path + b"\0"), (b"alis", bytes(150) + path + b"\0")):
        entry = struct.pack(">I4sI", 12 + len(body), kind, 0) + body
        grown = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
        size = int.from_bytes(source[at - 4 : at])
        changed = _enlarged(source, at - 4, len(grown) - size, grown, size)
        assert harmless(client, changed, "a.m4a") in ("refused", "Failed", "Completed")
    assert not watched.was_opened()
    assert not watched.was_called()


def _enlarged(source: bytes, at: int, more: int, replacement: bytes, size: int) -> bytes:
    """Replace a box, and enlarge those around it."""
    changed = bytearray(source)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        place = source.rindex(name, 0, at) - 4
        changed[place : place + 4] = (int.from_bytes(changed[place : place + 4]) + more).to_bytes(4)
    return bytes(changed[:at] + replacement + changed[at + size :])


# Bombs


def riff(
    *, channels: int = 2, rate: int = 44_100, bits: int = 16, claimed: int = 1 << 20, data: bytes = bytes(4_096)
) -> bytes:
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block & 0xFFFFFFFF, block & 0xFFFF, bits)
    return b"RIFF" + struct.pack("<I", claimed & 0xFFFFFFFF) + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + (
        struct.pack("<I", claimed & 0xFFFFFFFF) + data
    )  # fmt: skip


def flac(*, rate: int = 44_100, channels: int = 2, samples: int = 1 << 35) -> bytes:
    info = struct.pack(">HH", 4_096, 4_096) + bytes(6)
    info += ((rate & 0xFFFFF) << 44 | (channels - 1) << 41 | 15 << 36 | samples).to_bytes(8) + bytes(16)
    return b"fLaC" + b"\x80" + len(info).to_bytes(3) + info + bytes(2_000)


def nested(depth: int) -> bytes:
    """A box in a box in a box."""
    return b"".join(struct.pack(">I4s", 8 * (depth - place), b"moov") for place in range(depth))


BOMBS = {
    "65535 channels": riff(channels=65_535),
    "no channels": riff(channels=0),
    "4 GHz": riff(rate=0xFFFFFFFF),
    "0 Hz": riff(rate=0),
    "1 Hz": riff(rate=1),
    "4 GiB claimed": riff(claimed=0xFFFFFFFF),
    "65535 bits": riff(bits=65_535),
    "no bits": riff(bits=0),
    "FLAC of nine days": flac(samples=(1 << 36) - 1),
    "FLAC at a million Hz": flac(rate=0xFFFFF),
    "FLAC at 0 Hz": flac(rate=0),
    "Ogg of nothing": b"OggS" + bytes(10_000),
    "MP4 with a box of 2^63 bytes": b"\0\0\0\x01ftyp" + (2**63 - 1).to_bytes(8) + b"isom" + bytes(5_000),
    "MP4 in MP4 in MP4": b"\0\0\0\x18ftypisom\0\0\0\0isomiso2" + nested(10_000),
    "Matroska of depth": b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xff" * 5_000,
    "ID3 of 256 MiB": b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(5_000),
    "zlib of zeros": zlib.compress(bytes(200 << 20)),
    "zeros": bytes(1 << 20),
    "MP3 syncs": b"\xff\xfb\x90\x00" * 200_000,
    "ADTS syncs": b"\xff\xf1\x50\x80\x00\xff\xfc" * 100_000,
    "TS of nothing": (b"G\x1f\xff\x10" + bytes(184)) * 5_000,
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_does_no_harm(server: Server, client: httpx.Client, bomb: str) -> None:
    with bounded(server):
        assert harmless(client, BOMBS[bomb]) in ("refused", "Failed", "Completed")


def test_long_silence_in_a_small_file_is_stopped_at_the_limit(
    server: Server, client: httpx.Client, tmp_path: Path
) -> None:
    """Ten hours in some hundred kilobytes, where two are allowed: it fails, and says why."""
    path = tmp_path / "silence.flac"
    silence = "anullsrc=r=8000:cl=mono:d=36000"
    ffmpeg("-v", "error", "-f", "lavfi", "-i", silence, "-c:a", "flac", "-frame_size", "65535", path)
    assert path.stat().st_size < 4 << 20
    with bounded(server):
        response = sent(client, path.read_bytes(), codec="opus", bitrate="6000")
        if response.status_code == 400:
            assert "7200" in response.json()["error"]
            return
        job = ended(client, response.json()["job_id"], timeout_s=100)
    assert job["status"].startswith("Failed(")
    assert "7200" in job["error"]


def test_a_hundred_uploads_at_once_are_all_answered(server: Server, tmp_path: Path) -> None:
    """While others are served as fast as before, and no more children run than may."""
    good = sounds.wav(tmp_path / "a.wav", seconds=0.5).read_bytes()
    with server.client(None) as one, bounded(server), ThreadPoolExecutor(20) as pool:
        contents = [good if place % 3 == 0 else BOMBS["4 GiB claimed"][:place] + bytes(place) for place in range(60)]
        answers = list(pool.map(lambda content: sent(one, content).status_code, contents))
    assert set(answers) <= {200, 400, 503}
    assert answers.count(200) >= 15


@contextmanager
def bounded(server: Server) -> Iterator[None]:
    """In the block the server's memory stays within its bounds, and it goes on answering others."""
    stop, peaks, waits = threading.Event(), list[int](), list[float]()

    def look() -> None:
        with server.client(None) as client:
            while not stop.wait(0.05):
                begin = time.monotonic()
                assert client.get("/health/live").status_code == 200
                waits.append(time.monotonic() - begin)
                peaks.append(_resident(server.process.pid))

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield
    finally:
        stop.set()
        watching.join()
    assert max(peaks, default=0) < SERVER_BYTES_MAX
    assert not waits or median(waits) < 2  # beside all that these tests themselves compute


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) if sys.platform == "linux" else 0
    return pages * 4_096


# Damaged files

KINDS = ("wav", "mp3", "flac", "ogg", "m4a", "opus", "aiff", "webm")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A second of sound in each format."""
    wav = sounds.wav(tmp_path_factory.mktemp("originals") / "a.wav", rate=22_050, seconds=1.0)
    return {kind: (wav if kind == "wav" else sounds.encoded(wav, kind)).read_bytes() for kind in KINDS}


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """What is done to a file, one after the other: where, as a share of its length, and with which bytes."""
    kinds = st.sampled_from(["cut", "overwrite", "insert", "remove", "repeat", "head"])
    places = st.floats(0, 1, allow_nan=False)
    return draw(st.lists(st.tuples(kinds, places, st.binary(min_size=1, max_size=64)), min_size=1, max_size=4))


def damaged(content: bytes, damage: list[tuple[str, float, bytes]]) -> bytes:
    for kind, place, data in damage:
        at = int(place * len(content))
        match kind:
            case "cut":
                content = content[: max(1, at)]
            case "overwrite":
                content = content[:at] + data + content[at + len(data) :]
            case "insert":
                content = content[:at] + data + content[at:]
            case "remove":
                content = content[:at] + content[at + 16 * len(data) :]
            case "repeat":
                content = content[:at] + content[at // 2 : at] + content[at:]
            case "head":  # where formats say what they are
                content = content[: at % 128] + data + content[at % 128 + len(data) :]
    return content or b"\0"


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=MUTANTS,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(damage=damages())
def test_a_damaged_file_is_refused_or_ends_honestly(
    client: httpx.Client, originals: dict[str, bytes], kind: str, damage: list[tuple[str, float, bytes]]
) -> None:
    """Never a 500, and never a job without an end."""
    assert harmless(client, damaged(originals[kind], damage), f"upload.{kind}") in ("refused", "Failed", "Completed")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_off_is_refused_or_ends_honestly(
    client: httpx.Client, originals: dict[str, bytes], kind: str
) -> None:
    """At the beginning, in the middle, one byte before the end."""
    whole = originals[kind]
    for size in (1, 4, 12, 44, 100, len(whole) // 2, len(whole) - 1):
        harmless(client, whole[:size], f"upload.{kind}")


def test_the_server_still_does_its_work(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    """After all of the above; and no child is left."""
    finished(client, submitted(client, sounds.wav(tmp_path / "good.wav"), priority="urgent"))
    wait_until(lambda: _children_of_jobs(server) == [])


def _children_of_jobs(server: Server) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    workers = {row[0] for row in rows if row[1] == str(server.process.pid)}
    return [row[2] for row in rows if row[1] in workers | {str(server.process.pid)} and "transcode.child" in row[2]]
