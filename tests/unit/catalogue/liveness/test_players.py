"""RTMP and RTSP addresses: played for a moment, from FFmpeg's server and from servers that behave badly."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from farside import Handler, listening
from mainstem.catalogue.liveness import Prober, Reason, Result, Verdict, rtmp, rtsp
from mainstem.catalogue.liveness.address import target_of
from mainstem.catalogue.liveness.connection import Dialer
from mediaservers import PICTURE, SOUND, command, ffmpegs_rtmp, free_port, rtmp_server, status
from waiting import PATIENCE_S


async def once_it_listens(check: Callable[[], Awaitable[Verdict]]) -> Verdict:
    """Nothing tells that FFmpeg does, so it is asked."""
    async with asyncio.timeout(PATIENCE_S):
        while (verdict := await check()).reason in {Reason.NOT_REACHED, Reason.HOST_RESTS}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return verdict


async def nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    return


@pytest.mark.parametrize("medium", [PICTURE, SOUND], ids=["picture", "sound"])
async def test_rtmp_that_plays_is_live(dialer: Dialer, medium: list[str]) -> None:
    """From a server that is not ours."""
    port = free_port()
    target = target_of(f"rtmp://127.0.0.1:{port}/live/key?token=abc")

    async def check() -> Verdict:
        try:
            return await rtmp.check(dialer, target, PATIENCE_S)
        except Exception as error:
            return Verdict(Result.UNKNOWN, getattr(error, "reason", Reason.CHECK_FAILED))

    async with ffmpegs_rtmp(port, medium):
        verdict = await once_it_listens(check)

    assert (verdict.result, verdict.reason) == (Result.LIVE, Reason.MEDIA)


PING = rtmp._chunks(2, 4, 0, b"\x00\x06\x00\x00\x00\x01")


@pytest.mark.parametrize(
    ("after_play", "found"),
    [
        ([status("NetStream.Play.StreamNotFound", "error")], (Result.OFFLINE, Reason.GONE)),
        ([PING, status("NetStream.Play.Start", "status")], (Result.OFFLINE, Reason.NO_MEDIA)),
        ([status("NetStream.Play.UnpublishNotify", "status")], (Result.OFFLINE, Reason.GONE)),
        ([status("NetStream.Play.Failed", "error")], (Result.UNKNOWN, Reason.DENIED)),
        ([command("_error", 3.0, None, {"code": "x"})], (Result.UNKNOWN, Reason.DENIED)),
        ([rtmp._chunks(2, 1, 0, bytes(4))], (Result.UNKNOWN, Reason.BROKEN_ANSWER)),
        ([rtmp._chunks(3, 20, 0, b"\x0a\xff\xff\xff\xff\x0a")], (Result.UNKNOWN, Reason.BROKEN_ANSWER)),
    ],
)
async def test_what_an_rtmp_server_says_counts(
    prober: Prober, after_play: list[bytes], found: tuple[Result, Reason]
) -> None:
    async with listening(rtmp_server(*after_play)) as port:
        verdict = await prober.check(f"rtmp://127.0.0.1:{port}/live/key")

    assert (verdict.result, verdict.reason) == found


async def noise(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(range(256)) * 100)


async def silence(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("scheme", ["rtmp", "rtsp"])
@pytest.mark.parametrize("handler", [noise, silence, nothing])
async def test_a_server_of_something_else_says_nothing(prober: Prober, scheme: str, handler: Handler) -> None:
    async with listening(handler) as port:
        verdict = await prober.check(f"{scheme}://127.0.0.1:{port}/live/key")

    assert verdict.result is Result.UNKNOWN
    assert verdict.reason is not Reason.CHECK_FAILED


SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{range}m=video 0 RTP/AVP 96\r\na=control:trackID=0\r\n"


def rtsp_server(
    *, described: int = 200, set_up: int = 200, packets: int = 10, span: str = "", location: str = ""
) -> Handler:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, address = request.split(" ")[:2]
            number = request.partition("CSeq: ")[2].partition("\r\n")[0]
            body = SDP.format(range=span) if method == "DESCRIBE" and described == 200 else ""
            said = {"DESCRIBE": described, "SETUP": set_up}.get(method, 200)
            lines = [f"RTSP/1.0 {said} Said", f"CSeq: {number}", "Session: 12345678;timeout=60"]
            lines += [f"Location: {location}"] if location else [f"Content-Length: {len(body)}"]
            if method == "SETUP":
                assert address.endswith("/cam/trackID=0")
            writer.write("\r\n".join([*lines, "", body]).encode())
            if method == "PLAY":
                assert "Session: 12345678\r\n" in request
                for sequence in range(packets):
                    writer.write(
                        b"$\x01\x00\x08" + bytes(8) + b"$\x00\x00\x0c\x80\x60" + bytes([0, sequence]) + bytes(8)
                    )

    return serve


@pytest.mark.parametrize(
    ("server", "found"),
    [
        (rtsp_server(), (Result.LIVE, Reason.MEDIA)),
        (rtsp_server(span="a=range:npt=now-\r\n"), (Result.LIVE, Reason.MEDIA)),
        (rtsp_server(span="a=range:npt=0-7.74\r\n"), (Result.OFFLINE, Reason.FILE)),
        (rtsp_server(packets=0), (Result.OFFLINE, Reason.NO_MEDIA)),
        (rtsp_server(described=404), (Result.OFFLINE, Reason.GONE)),
        (rtsp_server(described=401), (Result.UNKNOWN, Reason.DENIED)),
        (rtsp_server(described=503), (Result.UNKNOWN, Reason.SERVER_ERROR)),
        (rtsp_server(set_up=461), (Result.UNKNOWN, Reason.BROKEN_ANSWER)),
        (rtsp_server(described=302, location="http://127.0.0.1/"), (Result.UNKNOWN, Reason.BAD_LINK)),
    ],
)
async def test_what_an_rtsp_server_says_counts(prober: Prober, server: Handler, found: tuple[Result, Reason]) -> None:
    async with listening(server) as port:
        verdict = await prober.check(f"rtsp://127.0.0.1:{port}/cam")

    assert (verdict.result, verdict.reason) == found


async def test_an_rtsp_redirect_is_followed_anew(dialer: Dialer) -> None:
    async with listening(rtsp_server()) as port:
        redirecting = rtsp_server(described=302, location=f"rtsp://127.0.0.1:{port}/cam")
        async with listening(redirecting) as first:
            verdict = await rtsp.check(dialer, target_of(f"rtsp://127.0.0.1:{first}/elsewhere"), 2)

    assert verdict.result is Result.LIVE


async def test_an_rtsp_redirect_without_end_ends(prober: Prober) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        here = writer.get_extra_info("sockname")[1]
        await rtsp_server(described=302, location=f"rtsp://127.0.0.1:{here}/cam")(reader, writer)

    async with listening(serve) as port:
        verdict = await prober.check(f"rtsp://127.0.0.1:{port}/cam")

    assert (verdict.result, verdict.reason) == (Result.UNKNOWN, Reason.REDIRECTS)
