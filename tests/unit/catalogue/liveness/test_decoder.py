"""Whether a sample is sound or picture, asked of FFmpeg's libraries in a child."""

import os
import signal
import subprocess

import pytest

from mainstem.catalogue.liveness.decoder import Decoder
from waiting import PATIENCE_S

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")

SOUND = ["-f", "lavfi", "-i", "sine=duration=8"]
PICTURE = ["-f", "lavfi", "-i", "testsrc=duration=2:size=160x120", "-c:v", "libx264", "-g", "10"]


def made(*arguments: str) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *arguments, "pipe:1"]
    return subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL).stdout


@pytest.mark.parametrize(
    ("arguments", "skipped_bytes"),
    [
        ([*SOUND, "-f", "mp3"], 1_000),
        ([*SOUND, "-f", "adts"], 1_000),
        ([*SOUND, "-c:a", "libopus", "-f", "ogg"], 0),
        ([*SOUND, "-c:a", "flac", "-f", "ogg"], 0),
        ([*SOUND, "-c:a", "aac", "-f", "flv"], 0),
        ([*SOUND, "-c:a", "libopus", "-f", "webm"], 0),
        ([*PICTURE, "-f", "mpegts"], 1_000),
        ([*PICTURE, "-f", "flv"], 0),
    ],
    ids=["mp3", "aac", "opus", "flac", "flv", "webm", "ts", "picture-flv"],
)
async def test_what_stations_send_is_recognised(decoder: Decoder, arguments: list[str], skipped_bytes: int) -> None:
    """Whoever tunes in comes in the middle, and leaves in the middle, too."""
    whole = made(*arguments)

    assert await decoder.decode(whole[skipped_bytes : len(whole) * 3 // 4])


@pytest.mark.parametrize(
    "sample",
    [
        b"",
        bytes(10_000),
        b"<html><body>We are offline</body></html>" * 200,
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff",
    ],
)
async def test_what_is_none_is_not(decoder: Decoder, sample: bytes) -> None:
    """Above all nothing that names other files."""
    assert not await decoder.decode(sample)


async def test_a_child_that_dies_is_replaced(decoder: Decoder) -> None:
    sample = made(*SOUND, "-f", "mp3")
    assert await decoder.decode(sample)
    assert decoder._child is not None
    os.kill(decoder._child.pid, signal.SIGKILL)
    await decoder._child.wait()

    assert not await decoder.decode(sample)
    assert await decoder.decode(sample)


async def test_a_child_that_hangs_is_killed() -> None:
    decoder = Decoder(timeout_s=PATIENCE_S)
    sample = made(*SOUND, "-f", "mp3")
    assert await decoder.decode(sample)
    assert decoder._child is not None
    hanging = decoder._child
    os.kill(hanging.pid, signal.SIGSTOP)
    decoder._timeout_s = 0.2

    assert not await decoder.decode(sample)
    assert hanging.returncode == -signal.SIGKILL
    await decoder.close()
