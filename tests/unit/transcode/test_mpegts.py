"""Transport streams, packet by packet."""

import struct
from collections import defaultdict
from itertools import batched, pairwise

from mainstem.transcode import Codec
from mainstem.transcode.cutting import Frame
from mainstem.transcode.mpegts import PACKET_BYTES, TsWriter

AUDIO = 0x100


def stream(*counts: int, size: int = 300) -> list[bytes]:
    """AAC segments of so many frames each, at 48 kHz."""
    writer = TsWriter(Codec.AAC, 48_000, 2, origin_s=1.4, priming=1_024)
    made, start = [], 0
    for count in counts:
        made.append(writer.segment(start, [Frame(bytes([number % 256]) * size, 1_024) for number in range(count)]))
        start += count * 1_024
    return made


def packets(segment: bytes) -> list[bytes]:
    assert len(segment) % PACKET_BYTES == 0
    return [bytes(packet) for packet in batched(segment, PACKET_BYTES)]  # Python 3.12 knows no strict


def pid(packet: bytes) -> int:
    return int.from_bytes(packet[1:3]) & 0x1FFF


def payload(packet: bytes) -> bytes:
    has_field = packet[3] & 0x20
    return packet[5 + packet[4] :] if has_field else packet[4:]


def elementary(segment: bytes) -> tuple[list[int], bytes]:
    """The presentation times of a segment's PES packets, and what they hold."""
    times, data = [], b""
    for packet in packets(segment):
        if pid(packet) == AUDIO:
            content = payload(packet)
            if packet[1] & 0x40:
                high, middle, low = struct.unpack(">BHH", content[9:14])
                times.append((high >> 1 & 7) << 30 | middle >> 1 << 15 | low >> 1)
                content = content[14:]
            data += content
    return times, data


def test_every_segment_begins_with_the_tables() -> None:
    for segment in stream(10, 10):
        assert [pid(packet) for packet in packets(segment)[:3]] == [0, 0x1000, AUDIO]
        assert all(packet[0] == 0x47 for packet in packets(segment))


def test_counters_run_on_from_segment_to_segment() -> None:
    counters = defaultdict(list)
    for packet in packets(b"".join(stream(40, 1, 17))):
        counters[pid(packet)].append(packet[3] & 0xF)

    assert all((one + 1) % 16 == other for seen in counters.values() for one, other in pairwise(seen))


def test_frames_come_out_as_they_went_in_each_after_its_header() -> None:
    for size in (1, 100, 175, 176, 177, 183, 184, 185, 400):
        (segment,) = stream(20, size=size)
        _, data = elementary(segment)
        frames = [data[at : at + size + 7] for at in range(0, len(data), size + 7)]

        assert [frame[7:] for frame in frames] == [bytes([number]) * size for number in range(20)]
        assert {int.from_bytes(frame[3:6]) >> 5 & 0x1FFF for frame in frames} == {size + 7}


def test_the_first_sample_of_the_source_is_at_the_origin() -> None:
    """What the encoder put before it comes earlier."""
    first, second = stream(282, 282)

    assert elementary(first)[0][0] == round(1.4 * 90_000) - 1_024 * 90_000 // 48_000
    assert elementary(second)[0][0] == elementary(first)[0][0] + 282 * 1_024 * 90_000 // 48_000


def test_the_clock_is_told_ten_times_a_second_and_runs_ahead() -> None:
    (segment,) = stream(282)
    clocks = [
        int.from_bytes(packet[6:12]) >> 15
        for packet in packets(segment)
        if packet[3] & 0x20 and packet[4] and packet[5] & 0x10
    ]
    times, _ = elementary(segment)

    assert all(other - one <= 9_000 for one, other in pairwise(clocks))
    assert [time - clock for time, clock in zip(times, clocks, strict=True)] == [63_000] * len(times)
