"""Whether an RTMP address plays: a client that knows just enough of the protocol to ask and to see media come.

After Adobe's specification of RTMP 1.0. FFmpeg could do it, but cannot say "there is no such stream", and opens
connections of its own.
"""

import asyncio
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from mainstem.catalogue.liveness.address import Target, Unreachable
from mainstem.catalogue.liveness.connection import Dialer
from mainstem.catalogue.liveness.verdict import Reason, Verdict, live, offline, unknown

_HANDSHAKE = 1_536
_CHUNK_DEFAULT = 128
_CHUNK_MAX = 1 << 24
_MESSAGE_BYTES_MAX = 8 << 20
_CHANNELS_MAX = 64
_BYTES_MAX = 32 << 20
_MEDIA_NEEDED = 4
"""So many messages of sound or picture, at two times at least: more than the headers that every player gets."""

_SET_CHUNK, _ABORT, _CONTROL = 1, 2, 4
_AUDIO, _VIDEO, _COMMAND_3, _COMMAND, _AGGREGATE = 8, 9, 17, 20, 22
_PING, _PONG, _END_OF_STREAM = 6, 7, 1
_CONNECT, _CREATE, _PLAY = 1.0, 2.0, 3.0

_NOT_THERE = ("NetStream.Play.StreamNotFound", "NetStream.Play.UnpublishNotify", "NetStream.Play.Stop")


async def check(dialer: Dialer, target: Target, timeout_s: float) -> Verdict:
    """Live when media comes, Offline when the server plays nothing; takes at most `timeout_s`. Raises Unreachable."""
    player = _Player(target)
    try:
        async with asyncio.timeout(timeout_s), dialer.dial(target) as (reader, writer):
            try:
                return await player.play(reader, writer)
            except asyncio.IncompleteReadError:
                return offline(Reason.NO_MEDIA) if player.asked else unknown(Reason.BROKEN_ANSWER)
    except TimeoutError as error:
        if player.asked:
            return offline(Reason.NO_MEDIA)
        raise Unreachable(Reason.TIMED_OUT, target.host) from error
    except OSError as error:
        raise Unreachable(Reason.NOT_REACHED, error.strerror or "") from error
    except (struct.error, IndexError, UnicodeDecodeError, KeyError) as error:
        raise Unreachable(Reason.BROKEN_ANSWER, type(error).__name__) from error


class _Message(NamedTuple):
    kind: int
    time: int
    body: bytes


class _Channel:
    """What a chunk may leave out because the chunk before it on this channel said it."""

    def __init__(self) -> None:
        self.time = 0
        self.delta = 0
        self.length = 0
        self.kind = 0
        self.extended = False
        self.body = bytearray()


class _Player:
    def __init__(self, target: Target) -> None:
        self.asked = False
        """The server has taken our request to play, so that silence from here on is its answer."""
        self._target = target
        self._chunk_bytes = _CHUNK_DEFAULT
        self._channels: dict[int, _Channel] = {}
        self._times: set[int] = set()
        self._media = 0
        self._bytes = 0

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Verdict:
        await _shake_hands(reader, writer)
        application, name = _names(self._target)
        at = f"{self._target.scheme}://{self._target.authority}/{application}"
        facts = {"app": application, "flashVer": "LNX 9,0,124,2", "tcUrl": at, "fpad": False, "capabilities": 15.0}
        facts |= {"audioCodecs": 4_071.0, "videoCodecs": 252.0, "videoFunction": 1.0}
        writer.write(_chunks(3, _COMMAND, 0, _amf("connect", _CONNECT, facts)))
        while True:
            message = await self._message(reader)
            verdict = self._heard(message, writer, name)
            if verdict is not None:
                return verdict

    def _heard(self, message: _Message, writer: asyncio.StreamWriter, name: str) -> Verdict | None:
        match message.kind:
            case 1:
                (self._chunk_bytes,) = struct.unpack("!I", message.body[:4])
                if not 1 <= self._chunk_bytes <= _CHUNK_MAX:
                    raise Unreachable(Reason.BROKEN_ANSWER, "a chunk size of nothing")
            case 4:
                (event,) = struct.unpack("!H", message.body[:2])
                if event == _PING:
                    writer.write(_chunks(2, _CONTROL, 0, struct.pack("!H", _PONG) + message.body[2:6]))
                if event == _END_OF_STREAM and self.asked:
                    return offline(Reason.ENDED)
            case 8 | 9 | 22:
                return self._media_came(message)
            case 17:
                return self._commanded(message.body[1:], writer, name)
            case 20:
                return self._commanded(message.body, writer, name)
        return None

    def _media_came(self, message: _Message) -> Verdict | None:
        if len(message.body) > 1:
            self._media += 1
            self._times.add(message.time)
        return live(Reason.MEDIA) if self._media >= _MEDIA_NEEDED and len(self._times) > 1 else None

    def _commanded(self, body: bytes, writer: asyncio.StreamWriter, name: str) -> Verdict | None:
        values = list(_amf_values(body))
        command, transaction = values[0], values[1] if len(values) > 1 else 0.0
        if command == "_error":
            return unknown(Reason.DENIED)
        if command == "_result" and transaction == _CONNECT:
            writer.write(_chunks(3, _COMMAND, 0, _amf("createStream", _CREATE, None)))
        elif command == "_result" and transaction == _CREATE:
            stream = values[3] if len(values) > 3 and isinstance(values[3], float) else 1.0
            writer.write(_chunks(8, _COMMAND, int(stream), _amf("play", _PLAY, None, name, -2_000.0)))
            self.asked = True
        elif command == "onStatus":
            facts = next((value for value in values if isinstance(value, dict)), {})
            code = str(facts.get("code", ""))
            if code in _NOT_THERE:
                return offline(Reason.GONE)
            if facts.get("level") == "error":
                return unknown(Reason.DENIED)
        return None

    async def _message(self, reader: asyncio.StreamReader) -> _Message:
        """The next whole message, put together from the chunks of all channels."""
        while True:
            (first,) = await reader.readexactly(1)
            form, number = first >> 6, first & 0x3F
            if number < 2:
                extra = await reader.readexactly(number + 1)
                number = int.from_bytes(extra, "little") + 64
            channel = self._channels.setdefault(number, _Channel())
            if len(self._channels) > _CHANNELS_MAX:
                raise Unreachable(Reason.BROKEN_ANSWER, "too many chunk streams")
            await self._head(reader, form, channel)
            wanted = min(self._chunk_bytes, channel.length - len(channel.body))
            self._bytes += wanted
            if self._bytes > _BYTES_MAX:
                raise Unreachable(Reason.BROKEN_ANSWER, "much, but no media")
            channel.body += await reader.readexactly(wanted)
            if len(channel.body) >= channel.length:
                body, channel.body = bytes(channel.body), bytearray()
                return _Message(channel.kind, channel.time, body)

    async def _head(self, reader: asyncio.StreamReader, form: int, channel: _Channel) -> None:
        begins = not channel.body
        if form < 3:
            head = await reader.readexactly((11, 7, 3)[form])
            time = int.from_bytes(head[:3], "big")
            channel.extended = time == 0xFFFFFF
            if form < 2:
                channel.length, channel.kind = int.from_bytes(head[3:6], "big"), head[6]
        else:
            time = channel.delta
        if channel.extended:
            time = int.from_bytes(await reader.readexactly(4), "big")
        if channel.length > _MESSAGE_BYTES_MAX:
            raise Unreachable(Reason.BROKEN_ANSWER, "a message too large")
        if begins:
            channel.time = time if form == 0 else channel.time + time
            channel.delta = time


async def _shake_hands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x03" + bytes(8) + os.urandom(_HANDSHAKE - 8))
    answer = await reader.readexactly(1 + _HANDSHAKE)
    if answer[0] not in {3, 6}:
        raise Unreachable(Reason.BROKEN_ANSWER, "no RTMP")
    writer.write(answer[1:])
    await reader.readexactly(_HANDSHAKE)


def _names(target: Target) -> tuple[str, str]:
    """The application and the stream that an address means: of three parts and more the first two are the former."""
    path = target.path.removeprefix("/")
    parts = path.split("/")
    split = 2 if len(parts) > 2 else 1
    name = "/".join(parts[split:])
    return "/".join(parts[:split]), f"{name}?{target.query}" if target.query else name


def _chunks(channel: int, kind: int, stream: int, body: bytes) -> bytes:
    head = bytes([channel]) + bytes(3) + len(body).to_bytes(3, "big") + bytes([kind]) + stream.to_bytes(4, "little")
    pieces = [body[start : start + _CHUNK_DEFAULT] for start in range(0, len(body), _CHUNK_DEFAULT)]
    return head + bytes([0xC0 | channel]).join(pieces)


# AMF 0, the encoding of commands


type _Value = str | float | bool | dict[str, "_Value"] | list["_Value"] | None


def _amf(*values: object) -> bytes:
    return b"".join(map(_amf_one, values))


def _amf_one(value: object) -> bytes:
    match value:
        case None:
            return b"\x05"
        case bool():
            return b"\x01" + bytes([value])
        case float():
            return b"\x00" + struct.pack("!d", value)
        case str():
            return b"\x02" + _amf_text(value)
        case dict():
            return b"\x03" + b"".join(_amf_text(key) + _amf_one(each) for key, each in value.items()) + b"\x00\x00\x09"
    raise AssertionError(f"no AMF for {type(value)}")


def _amf_text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("!H", len(encoded)) + encoded


def _amf_values(body: bytes) -> Iterator[_Value]:
    at = 0
    while at < len(body):
        value, at = _amf_read(body, at, 0)
        yield value


def _amf_read(body: bytes, at: int, depth: int) -> tuple[_Value, int]:
    if depth > 8:
        raise Unreachable(Reason.BROKEN_ANSWER, "values too deep")
    kind, at = body[at], at + 1
    match kind:
        case 0x00:
            return struct.unpack_from("!d", body, at)[0], at + 8
        case 0x01:
            return body[at] != 0, at + 1
        case 0x02:
            return _amf_read_text(body, at)
        case 0x03 | 0x08:
            return _amf_read_pairs(body, at + (4 if kind == 0x08 else 0), depth)
        case 0x05 | 0x06:
            return None, at
        case 0x0A:
            (count,) = struct.unpack_from("!I", body, at)
            items: list[_Value] = []
            at += 4
            for _ in range(count):
                item, at = _amf_read(body, at, depth + 1)
                items.append(item)
            return items, at
        case 0x0B:
            return struct.unpack_from("!d", body, at)[0], at + 10
        case 0x0C:
            (size,) = struct.unpack_from("!I", body, at)
            return body[at + 4 : at + 4 + size].decode("utf-8", "replace"), at + 4 + size
    raise Unreachable(Reason.BROKEN_ANSWER, f"a value of kind {kind}")


def _amf_read_text(body: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from("!H", body, at)
    return body[at + 2 : at + 2 + size].decode("utf-8", "replace"), at + 2 + size


def _amf_read_pairs(body: bytes, at: int, depth: int) -> tuple[dict[str, _Value], int]:
    pairs: dict[str, _Value] = {}
    while True:
        key, at = _amf_read_text(body, at)
        if not key and body[at] == 0x09:
            return pairs, at + 1
        pairs[key], at = _amf_read(body, at, depth + 1)
