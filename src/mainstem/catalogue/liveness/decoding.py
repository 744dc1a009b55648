"""The child of `decoder`: reads samples from standard input, and answers `1` or `0` for each.

A sample is its length in four bytes, most significant first, and then its bytes.
"""

import ctypes
import io
import resource
import signal
import struct
import sys
from typing import BinaryIO

import av
import av.error

_LENGTH = struct.Struct("!I")
_SAMPLE_BYTES_MAX = 16 << 20
_MEMORY_BYTES_MAX = 2 << 30
_FRAMES = 3
_PACKETS_MAX = 2_000

# No playlists and nothing that names other files: what is decoded is the sample, the whole sample and nothing else.
_FORMATS = "mp3,aac,ogg,flac,mpegts,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,wav,ac3,eac3,mpeg,mpegvideo,mpjpeg"


def serve(samples: BinaryIO, answers: BinaryIO) -> None:
    while len(head := samples.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        if length > _SAMPLE_BYTES_MAX:
            return
        sample = samples.read(length)
        answers.write(b"1" if decodes(sample) else b"0")
        answers.flush()


def decodes(sample: bytes) -> bool:
    """Whether a few frames of sound or picture come out of it."""
    try:
        options = {"format_whitelist": _FORMATS, "protocol_whitelist": "", "probesize": str(max(32, len(sample)))}
        with av.open(io.BytesIO(sample), "r", options=options) as container:
            frames = 0
            for number, packet in enumerate(container.demux()):
                if number > _PACKETS_MAX or packet.stream.type not in {"audio", "video"}:
                    continue
                try:
                    frames += len(packet.decode())
                except av.error.InvalidDataError:
                    continue  # the sample began and ended in the midst of something
                if frames >= _FRAMES:
                    return True
    except (av.error.FFmpegError, ValueError):
        return False
    return False


def main() -> None:
    if sys.platform == "linux":
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES_MAX, _MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
