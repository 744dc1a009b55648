"""Reads MPEG transport streams (ISO 13818-1) as far as HLS audio needs them, and holds them to the rules."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

from mainstem.hlscheck.content import NOTHING, Content
from mainstem.hlscheck.frames import Frame, NotAFrame, adts_frames, mp3_frames
from mainstem.hlscheck.rules import Finding, finding

PACKET = 188
CLOCK_HZ = 90_000
WRAP = 1 << 33
_SYNC, _PAT_PID, _NULL_PID = 0x47, 0, 0x1FFF
_ADTS, _MPEG1_AUDIO, _MPEG2_AUDIO = 0x0F, 0x03, 0x04
_VIDEO = (0x01, 0x02, 0x1B, 0x24)


class _Packet(NamedTuple):
    pid: int
    begins: bool
    counter: int
    payload: bytes
    """Empty when the packet has only an adaptation field."""
    is_discontinuous: bool


class _Pes(NamedTuple):
    pts: int | None
    offset: int
    """Where its payload begins in the elementary stream."""


def read_transport(data: bytes, name: str) -> tuple[Content, list[Finding]]:
    """What one segment holds, and what it breaks."""
    reader = _Reader(name)
    return reader.read(data), reader.findings


class _Reader:
    def __init__(self, name: str) -> None:
        self.name = name
        self.findings: list[Finding] = []
        self._counters: dict[int, int] = {}
        self._pmt_pid: int | None = None
        self._streams: dict[int, int] | None = None  # pid → stream type
        self._elementary = bytearray()
        self._tables_seen: set[int] = set()
        self._pes: list[_Pes] = []

    def read(self, data: bytes) -> Content:
        packets = self._packets(data)
        for place, packet in enumerate(packets):
            self._packet(packet, place)
        if self._pmt_pid is None or self._streams is None:
            self._find("ts.tables", "has no PAT" if self._pmt_pid is None else "has no PMT")
            return NOTHING
        return self._content()

    def _find(self, rule: str, message: str) -> None:
        if not any(found.rule == rule for found in self.findings):  # the first says it; a shift breaks all that follow
            self.findings.append(finding(rule, self.name, message))

    def _packets(self, data: bytes) -> Iterator[_Packet]:
        if len(data) % PACKET or not data:
            self._find("ts.packets", f"{len(data)} bytes are no whole number of packets")
        for at in range(0, len(data) - PACKET + 1, PACKET):
            if data[at] != _SYNC:
                self._find("ts.packets", f"the packet at byte {at} begins with 0x{data[at]:02x}")
                continue
            yield _unpacked(data[at : at + PACKET])

    def _packet(self, packet: _Packet, place: int) -> None:
        if packet.pid == _NULL_PID:
            return
        self._count(packet)
        if packet.pid == _PAT_PID:
            self._table(packet, place, 0, self._pat)
        elif packet.pid == self._pmt_pid:
            self._table(packet, place, 1, self._pmt)
        elif self._streams is None:
            if packet.payload and packet.begins and packet.payload[:3] == b"\0\0\1":
                self._find("ts.tables", "media comes before PAT and PMT")
        elif self._streams.get(packet.pid) in (_ADTS, _MPEG1_AUDIO, _MPEG2_AUDIO):
            self._audio(packet)

    def _count(self, packet: _Packet) -> None:
        before = self._counters.get(packet.pid)
        if packet.payload:
            expected = packet.counter if before is None else (before + 1) % 16
            if packet.counter != expected and not packet.is_discontinuous:
                self._find("ts.continuity", f"PID {packet.pid} goes from {before} to {packet.counter}")
            self._counters[packet.pid] = packet.counter

    # Tables

    def _table(self, packet: _Packet, place: int, wanted: int, read: Callable[[bytes], None]) -> None:
        if not packet.begins or not packet.payload:
            return
        if place > wanted and not self._elementary and wanted not in self._tables_seen:
            self._find("ts.tables-first", "PAT and PMT are not the first two packets")
        self._tables_seen.add(wanted)
        section = packet.payload[1 + packet.payload[0] :]
        size = 3 + (int.from_bytes(section[1:3]) & 0xFFF)
        if size > len(section) or size < 12 or crc32(section[:size]):
            self._find("ts.checksum", f"the table in packet {place} is cut off or damaged")
            return
        read(section[8 : size - 4])

    def _pat(self, body: bytes) -> None:
        programs = [
            int.from_bytes(body[at + 2 : at + 4]) & 0x1FFF
            for at in range(0, len(body) - 3, 4)
            if body[at : at + 2] != b"\0\0"
        ]
        if len(set(programs)) != 1 or self._pmt_pid not in (None, programs[0]):
            self._find("ts.program", f"has {len(programs)} programs")
        if programs:
            self._pmt_pid = programs[0]

    def _pmt(self, body: bytes) -> None:
        at = 4 + (int.from_bytes(body[2:4]) & 0xFFF)
        streams = {}
        while at + 5 <= len(body):
            streams[int.from_bytes(body[at + 1 : at + 3]) & 0x1FFF] = body[at]
            at += 5 + (int.from_bytes(body[at + 3 : at + 5]) & 0xFFF)
        self._streams = streams

    # Media

    def _audio(self, packet: _Packet) -> None:
        payload = packet.payload
        if packet.begins:
            if payload[:3] != b"\0\0\1" or len(payload) < 9 or payload[6] & 0xC0 != 0x80:
                self._find("ts.pes", "a PES packet has no header where one should begin")
                return
            pts = _timestamp(payload[9:14]) if payload[7] & 0x80 else None
            self._pes.append(_Pes(pts, len(self._elementary)))
            payload = payload[9 + payload[8] :]
        elif not self._pes and payload:
            self._find("ts.pes", "begins in the middle of a PES packet")
        self._elementary += payload

    def _content(self) -> Content:
        kinds = set((self._streams or {}).values())
        audio = kinds & {_ADTS, _MPEG1_AUDIO, _MPEG2_AUDIO}
        if not audio:
            if not kinds & set(_VIDEO):
                self._find("ts.frames", f"the PMT names {sorted(map(hex, kinds))}, none of which players take as audio")
            return NOTHING
        walk = adts_frames if audio == {_ADTS} else mp3_frames
        frames = list[Frame]()
        try:
            frames.extend(walk(bytes(self._elementary)))
        except NotAFrame as reason:
            self._find("ts.frames", str(reason))
        if not frames:
            self._find("ts.frames", "holds no frame")
            return NOTHING
        self._check_stamps(frames)
        first, samples = frames[0], sum(frame.samples for frame in frames)
        rate = first.audio.sample_rate
        if any(frame.audio != first.audio for frame in frames):
            self._find("ts.frames", "changes rate, channels or codec within the segment")
        start = Fraction(self._pes[0].pts, CLOCK_HZ) if self._pes and self._pes[0].pts is not None else None
        return Content(first.audio, start, Fraction(samples, rate), Fraction(first.samples, rate))

    def _check_stamps(self, frames: list[Frame]) -> None:
        """A PES packet's timestamp is that of the first frame that begins in it."""
        if not self._pes or self._pes[0].pts is None:
            self._find("ts.pes", "the first PES packet has no timestamp")
            return
        begin, rate, samples, at = self._pes[0].pts, frames[0].audio.sample_rate, 0, 0
        for pes in self._pes:
            while at < len(frames) and frames[at].offset < pes.offset:
                samples += frames[at].samples
                at += 1
            if pes.pts is None or at == len(frames):
                continue
            expected = begin + samples * CLOCK_HZ // rate
            if abs(clock_difference(pes.pts, expected)) * 2 * rate > frames[0].samples * CLOCK_HZ:
                self._find("ts.pes", f"a timestamp is {pes.pts % WRAP} where the samples make it {expected % WRAP}")
                return


def clock_difference(one: int, other: int) -> int:
    """How far one time of the 33-bit clock lies after another, around its end."""
    return (one - other + WRAP // 2) % WRAP - WRAP // 2


def _unpacked(packet: bytes) -> _Packet:
    field, payload = packet[3] >> 4 & 3, packet[4:]
    is_discontinuous = False
    if field & 2:
        size = payload[0]
        is_discontinuous = bool(size and payload[1] & 0x80)
        payload = payload[1 + size :]
    return _Packet(
        int.from_bytes(packet[1:3]) & 0x1FFF,
        bool(packet[1] & 0x40),
        packet[3] & 15,
        payload if field & 1 else b"",
        is_discontinuous,
    )


def _timestamp(field: bytes) -> int:
    """33 bits in five bytes, with marker bits between."""
    return (field[0] >> 1 & 7) << 30 | field[1] << 22 | field[2] >> 1 << 15 | field[3] << 7 | field[4] >> 1


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(value)
    return table


_CRC = _crc_table()


def crc32(data: bytes) -> int:
    """The CRC of MPEG-2 tables; 0 over a table with its own checksum."""
    value = 0xFFFFFFFF
    for byte in data:
        value = (value << 8 & 0xFFFFFFFF) ^ _CRC[value >> 24 ^ byte]
    return value
