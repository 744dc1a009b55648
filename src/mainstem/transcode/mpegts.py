"""MPEG transport streams with one audio track (ISO 13818-1), a segment at a time. Pure.

Each segment begins with the tables, so it can be played by itself; put together, segments are one continuous stream.
"""

import struct
from collections.abc import Iterator, Sequence

from mainstem.transcode.audio import Codec
from mainstem.transcode.cutting import Frame

PACKET_BYTES = 188
CLOCK_HZ = 90_000

_PAYLOAD_BYTES = PACKET_BYTES - 4
_PAT_PID, _PMT_PID, _AUDIO_PID = 0x0000, 0x1000, 0x0100
_AUDIO_STREAM_ID = 0xC0
_CLOCK_LEAD = 63_000
"""How far the clock runs behind what is presented: 0.7 s, time for a player to buffer it."""
_PES_TICKS_S = 0.09
"""How much audio goes into a packet of the elementary stream. The clock is told in each, at least every 0.1 s."""
_WRAP = 1 << 33
_ADTS_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)


class TsWriter:
    """Writes the segments of a rung, AAC or MP3, in order: continuity counters run on from one to the next."""

    def __init__(self, codec: Codec, sample_rate: int, channels: int, *, origin_s: float, priming: int) -> None:
        """`priming` is how many samples the encoder put before the first one of the source: they are timed so that the
        source's first sample is at `origin_s`."""
        self._codec = codec
        self._rate = sample_rate
        self._first_pts = round(origin_s * CLOCK_HZ) - round(priming * CLOCK_HZ / sample_rate)
        self._counters = dict.fromkeys((_PAT_PID, _PMT_PID, _AUDIO_PID), 0)
        self._tables = (_pat(), _pmt(_stream_type(codec, sample_rate)))
        self._adts = _adts_header(sample_rate, channels) if codec is Codec.AAC else 0

    def segment(self, start: int, frames: Sequence[Frame]) -> bytes:
        """The frames that begin `start` samples after the rung's first."""
        packets = [self._table(_PAT_PID, self._tables[0]), self._table(_PMT_PID, self._tables[1])]
        for first_tick, group in self._groups(start, frames):
            pts = self._first_pts + first_tick * CLOCK_HZ // self._rate
            packets += self._audio(pts, b"".join(self._framed(frame) for frame in group))
        return b"".join(packets)

    def _groups(self, start: int, frames: Sequence[Frame]) -> Iterator[tuple[int, list[Frame]]]:
        limit = int(_PES_TICKS_S * self._rate)
        group: list[Frame] = []
        begin = now = start
        for frame in frames:
            if group and now + frame.ticks - begin > limit:
                yield begin, group
                group, begin = [], now
            group.append(frame)
            now += frame.ticks
        if group:
            yield begin, group

    def _framed(self, frame: Frame) -> bytes:
        """A frame as it is put into the stream: AAC gets its header (ISO 13818-7, 6.2), MP3 has one."""
        if self._codec is Codec.MP3:
            return frame.data
        size = len(frame.data) + 7
        return (self._adts | size << 13 | 0x7FF << 2).to_bytes(7) + frame.data

    def _audio(self, pts: int, data: bytes) -> list[bytes]:
        pes = _pes(pts, data)
        packets = []
        position = 0
        clock: bytes | None = _clock(pts - _CLOCK_LEAD)
        while position < len(pes):
            room = _PAYLOAD_BYTES - (len(clock) + 1 if clock else 0)
            chunk = pes[position : position + room]
            packets.append(self._packet(_AUDIO_PID, chunk, begins=position == 0, adaptation=clock or b""))
            position += len(chunk)
            clock = None
        return packets

    def _table(self, pid: int, section: bytes) -> bytes:
        return self._packet(pid, b"\0" + section + b"\xff" * (_PAYLOAD_BYTES - 1 - len(section)), begins=True)

    def _packet(self, pid: int, payload: bytes, *, begins: bool, adaptation: bytes = b"") -> bytes:
        counter = self._counters[pid]
        self._counters[pid] = (counter + 1) & 0xF
        field = _adaptation(adaptation, _PAYLOAD_BYTES - len(payload))
        flags = pid | (0x4000 if begins else 0)
        return struct.pack(">BHB", 0x47, flags, (0x30 if field else 0x10) | counter) + field + payload


def _stream_type(codec: Codec, sample_rate: int) -> int:
    if codec is Codec.AAC:
        return 0x0F
    return 0x03 if sample_rate >= 32_000 else 0x04  # MPEG-1 audio, or MPEG-2's lower rates


def _adaptation(content: bytes, size: int) -> bytes:
    """An adaptation field of `size` bytes in all: its length, its content, and stuffing."""
    if size == 0:
        return b""
    if size == 1:
        return b"\0"
    content = content or b"\0"
    return bytes([size - 1]) + content + b"\xff" * (size - 1 - len(content))


def _clock(time: int) -> bytes:
    """The flags of an adaptation field that carries the programme clock, and the clock."""
    return b"\x50" + ((time % _WRAP) << 15 | 0x3F << 9).to_bytes(6)


def _pes(pts: int, data: bytes) -> bytes:
    size = len(data) + 8
    header = struct.pack(">I", 0x100 | _AUDIO_STREAM_ID) + struct.pack(">H", size if size < 65_536 else 0)
    return header + b"\x84\x80\x05" + _timestamp(pts % _WRAP) + data


def _timestamp(pts: int) -> bytes:
    high, middle, low = pts >> 30, pts >> 15 & 0x7FFF, pts & 0x7FFF
    return struct.pack(">BHH", 0x21 | high << 1, middle << 1 | 1, low << 1 | 1)


def _adts_header(sample_rate: int, channels: int) -> int:
    """The 56 bits before an AAC-LC frame, without its length and fullness."""
    # sync 12, ID 1 (0: MPEG-4), layer 2, no CRC 1, profile 2 (1: LC), rate 4, private 1, channels 3, four flags,
    # length 13, fullness 11, frames 2
    rate = _ADTS_RATES.index(sample_rate)
    return 0xFFF1 << 40 | 1 << 38 | rate << 34 | channels << 30


def _pat() -> bytes:
    return _section(0x00, struct.pack(">HH", 1, 0xE000 | _PMT_PID))


def _pmt(stream_type: int) -> bytes:
    return _section(
        0x02,
        struct.pack(">HH", 0xE000 | _AUDIO_PID, 0xF000) + struct.pack(">BHH", stream_type, 0xE000 | _AUDIO_PID, 0xF000),
    )


def _section(table: int, content: bytes) -> bytes:
    size = 5 + len(content) + 4
    head = struct.pack(">BHHBBB", table, 0xB000 | size, 1, 0xC1, 0, 0)
    return head + content + struct.pack(">I", _crc(head + content))


def _crc(data: bytes) -> int:
    """CRC-32/MPEG-2 (ISO 13818-1, annex A)."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C1_1DB7 if crc & 0x8000_0000 else crc << 1) & 0xFFFF_FFFF
    return crc
