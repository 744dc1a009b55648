"""Whether an RTSP address plays: DESCRIBE, SETUP and PLAY over one TCP connection, and then RTP that comes.

After RFC 2326. FFmpeg could do it, but follows a server's redirect to wherever that points.
"""

import asyncio
import re
from typing import NamedTuple

from mainstem.catalogue.liveness.address import Target, Unreachable, joined
from mainstem.catalogue.liveness.connection import Dialer
from mainstem.catalogue.liveness.fetch import USER_AGENT
from mainstem.catalogue.liveness.verdict import Reason, Verdict, live, offline, unknown

_REDIRECTS_MAX = 3
_LINE_BYTES_MAX = 8_192
_HEADERS_MAX = 64
_BODY_BYTES_MAX = 256 << 10
_PACKETS_NEEDED = 4

_CONTROL = re.compile(r"^a=control:(\S+)\s*$", re.MULTILINE)
_RANGE_WITH_END = re.compile(r"^a=range:npt=[0-9.:]*-[0-9.:]+\s*$", re.MULTILINE)


class _Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


async def check(dialer: Dialer, target: Target, timeout_s: float) -> Verdict:
    """Live when RTP comes, Offline when there is no such stream or nothing comes. Raises Unreachable."""
    playing = False
    try:
        async with asyncio.timeout(timeout_s):
            for _ in range(_REDIRECTS_MAX + 1):
                async with dialer.dial(target) as (reader, writer):
                    asking = _Asking(target, reader, writer)
                    described = await asking.ask("DESCRIBE", target.link, Accept="application/sdp")
                    if 300 <= described.status < 400 and "location" in described.headers:
                        target = joined(target, described.headers["location"])
                        if not target.scheme.startswith("rtsp"):
                            return unknown(Reason.BAD_LINK)
                        continue
                    refused = _refusal(described)
                    if refused is not None:
                        return refused
                    if _RANGE_WITH_END.search(described.body):
                        return offline(Reason.FILE)
                    refused = await _start(asking, target, described)
                    if refused is not None:
                        return refused
                    playing = True
                    await asking.packets(_PACKETS_NEEDED)
                    return live(Reason.MEDIA)
            return unknown(Reason.REDIRECTS)
    except TimeoutError as error:
        if playing:
            return offline(Reason.NO_MEDIA)
        raise Unreachable(Reason.TIMED_OUT, target.host) from error
    except asyncio.IncompleteReadError:
        return offline(Reason.NO_MEDIA) if playing else unknown(Reason.BROKEN_ANSWER)
    except OSError as error:
        raise Unreachable(Reason.NOT_REACHED, error.strerror or "") from error
    except ValueError as error:  # a line beyond the reader's limit, a number that is none
        raise Unreachable(Reason.BROKEN_ANSWER, type(error).__name__) from error


async def _start(asking: "_Asking", target: Target, described: _Reply) -> Verdict | None:
    base = described.headers.get("content-base") or described.headers.get("content-location") or target.link
    set_up = await asking.ask("SETUP", _control(base, described.body), Transport="RTP/AVP/TCP;unicast;interleaved=0-1")
    refused = _refusal(set_up)
    if refused is not None:
        return refused
    session = set_up.headers.get("session", "").partition(";")[0]
    return _refusal(await asking.ask("PLAY", base, Session=session, Range="npt=0.000-"))


def _control(base: str, sdp: str) -> str:
    """The address of the first medium. It is only said over the connection we have, so it leads nowhere else."""
    media = sdp.partition("\nm=")[2]
    found = _CONTROL.search(media)
    control = found[1] if found else "*"
    if control == "*":
        return base
    return control if control.lower().startswith("rtsp") else f"{base.removesuffix('/')}/{control.removeprefix('/')}"


def _refusal(reply: _Reply) -> Verdict | None:
    match reply.status:
        case 200:
            return None
        case 404 | 410 | 454:
            return offline(Reason.GONE)
        case 401 | 403 | 407:
            return unknown(Reason.DENIED)
        case status if status >= 500:
            return unknown(Reason.SERVER_ERROR)
    return unknown(Reason.BROKEN_ANSWER)


class _Asking:
    """Requests and their replies over one connection, with media in between once it plays."""

    def __init__(self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._target = target
        self._reader = reader
        self._writer = writer
        self._number = 0
        self._packets = 0

    async def ask(self, method: str, address: str, **headers: str) -> _Reply:
        self._number += 1
        if any(mark in f"{address}{''.join(headers.values())}" for mark in "\r\n"):
            raise Unreachable(Reason.BROKEN_ANSWER, "line breaks in an address")
        lines = [f"{method} {address} RTSP/1.0", f"CSeq: {self._number}", f"User-Agent: {USER_AGENT}"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value]
        self._writer.write("\r\n".join([*lines, "", ""]).encode("utf-8"))
        while True:
            first = await self._reader.readexactly(1)
            if first == b"$":
                await self._packet()
                continue
            reply = await self._reply(first)
            if reply.headers.get("cseq", str(self._number)) == str(self._number):
                return reply

    async def packets(self, count: int) -> None:
        """Return when so many packets of media have come, counted from SETUP on."""
        while self._packets < count:
            first = await self._reader.readexactly(1)
            if first == b"$":
                await self._packet()
            else:
                await self._reply(first)  # a request of the server's, such as a parameter it wants us to know

    async def _packet(self) -> None:
        head = await self._reader.readexactly(3)
        await self._reader.readexactly(int.from_bytes(head[1:], "big"))
        if head[0] % 2 == 0:  # odd channels are RTCP, which comes without media as well
            self._packets += 1

    async def _reply(self, first: bytes) -> _Reply:
        line = first + await self._line()
        words = line.decode("utf-8", "replace").split(" ", 2)
        status = int(words[1]) if words[0].startswith("RTSP/") and len(words) > 1 else 0
        headers: dict[str, str] = {}
        while (line := (await self._line()).strip()) != b"":
            name, _, value = line.decode("utf-8", "replace").partition(":")
            headers.setdefault(name.strip().lower(), value.strip())
            if len(headers) > _HEADERS_MAX:
                raise Unreachable(Reason.BROKEN_ANSWER, "headers without end")
        length = int(headers.get("content-length", "0"))
        if not 0 <= length <= _BODY_BYTES_MAX:
            raise Unreachable(Reason.BROKEN_ANSWER, "a body too large")
        body = await self._reader.readexactly(length)
        return _Reply(status, headers, body.decode("utf-8", "replace").replace("\r\n", "\n"))

    async def _line(self) -> bytes:
        line = await self._reader.readuntil(b"\n")
        if len(line) > _LINE_BYTES_MAX:
            raise Unreachable(Reason.BROKEN_ANSWER, "a line too long")
        return line
