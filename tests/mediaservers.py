"""Servers of RTMP and RTSP: FFmpeg's own, one that says what a test wants, and a camera with FFmpeg's picture."""

import asyncio
import random
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import imageio_ffmpeg

from farside import Handler, listening
from mainstem.catalogue.liveness import rtmp

PICTURE = ["-re", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=25", "-t", "60", "-c:v", "libx264", "-g", "25"]
SOUND = ["-re", "-f", "lavfi", "-i", "sine", "-t", "60", "-c:a", "aac"]


@asynccontextmanager
async def ffmpeg(arguments: Sequence[str]) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *arguments, stdin=DEVNULL, stderr=DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def ffmpegs_rtmp(port: int, medium: Sequence[str] = PICTURE) -> AsyncIterator[None]:
    """`rtmp://127.0.0.1:{port}/live/key`, soon. FFmpeg serves one player and then ends, so the next is begun."""

    async def serve() -> None:
        while True:
            async with ffmpeg([*medium, "-f", "flv", "-listen", "1", f"rtmp://127.0.0.1:{port}/live/key"]) as process:
                await process.wait()
            await asyncio.sleep(0.05)

    serving = asyncio.create_task(serve())
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.wait([serving])


def free_port() -> int:
    """One that the system gives nobody by itself, so that it is still free when FFmpeg comes to take it."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


# RTMP


def rtmp_server(*after_play: bytes) -> Handler:
    """Shakes hands, agrees to everything, and then says this."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = await reader.readexactly(1_537)
        writer.write(b"\x03" + bytes(1_536) + greeting[1:])
        await reader.readexactly(1_536)
        await reader.readuntil(b"videoFunction")
        writer.write(command("_result", 1.0, {"fmsVer": "T/1"}, {"code": "NetConnection.Connect.Success"}))
        await reader.readuntil(b"createStream")
        writer.write(command("_result", 2.0, None, 1.0))
        await reader.readuntil(b"play")
        for piece in after_play:
            writer.write(piece)
        await asyncio.Event().wait()

    return serve


def command(*values: object) -> bytes:
    return rtmp._chunks(3, 20, 0, rtmp._amf(*values))


def status(code: str, level: str) -> bytes:
    return command("onStatus", 0.0, None, {"level": level, "code": code})


# RTSP


class Camera(asyncio.DatagramProtocol):
    """An RTSP server at `/cam`. The packets that FFmpeg sends it go on to everybody who plays, over his connection."""

    SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"

    def __init__(self) -> None:
        self.port = 0
        self.is_on = True
        self._players: set[asyncio.StreamWriter] = set()

    @property
    def link(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/cam"

    def datagram_received(self, data: bytes, _: object) -> None:
        channel = b"\x01" if 192 <= data[1] < 224 else b"\x00"  # RTCP or RTP, after RFC 5761
        for player in self._players:
            player.write(b"$" + channel + len(data).to_bytes(2, "big") + data)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode()
                writer.write(self._answer(request))
                if request.startswith("PLAY "):
                    self._players.add(writer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            self._players.discard(writer)

    def _answer(self, request: str) -> bytes:
        number = request.partition("CSeq: ")[2].partition("\r\n")[0]
        said = "200 OK" if self.is_on else "404 Not Found"
        body = self.SDP if self.is_on and request.startswith("DESCRIBE ") else ""
        lines = [f"RTSP/1.0 {said}", f"CSeq: {number}", "Session: 12345678;timeout=60"]
        lines += ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", body]).encode()


@asynccontextmanager
async def camera() -> AsyncIterator[Camera]:
    made = Camera()
    packets, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: made, ("127.0.0.1", 0))
    into = packets.get_extra_info("sockname")[1]
    try:
        async with (
            listening(made) as made.port,
            ffmpeg([*PICTURE, "-f", "rtp", f"rtp://127.0.0.1:{into}?rtcpport={into}", "-y", "-sdp_file", "/dev/null"]),
        ):
            yield made
    finally:
        packets.close()
