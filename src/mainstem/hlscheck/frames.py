"""Walks over the frames of audio that has no container: ADTS (ISO 13818-7) and MPEG audio (ISO 11172-3, 13818-3)."""

from collections.abc import Iterator
from typing import NamedTuple

from mainstem.hlscheck.content import Audio

MP3_NAMES = ("mp4a.40.34", "mp4a.6B", "mp4a.69")
"""What a master playlist may call MP3; the first is what Apple says."""

_ADTS_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
_ADTS_CHANNELS = (0, 1, 2, 3, 4, 5, 6, 8)
_MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


class Frame(NamedTuple):
    offset: int
    size: int
    samples: int
    audio: Audio


class NotAFrame(Exception):
    """Where a frame should begin there is something else; the message says where and what."""


def adts_frames(data: bytes) -> Iterator[Frame]:
    """Every frame until the end. Raises NotAFrame."""
    at = 0
    while at < len(data):
        head = data[at : at + 7]
        if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
            raise NotAFrame(f"at byte {at} there is no ADTS header but {head.hex()}")
        rate, channels = head[2] >> 2 & 15, (head[2] & 1) << 2 | head[3] >> 6
        size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        if rate >= len(_ADTS_RATES) or size < 7 or at + size > len(data):
            raise NotAFrame(f"the ADTS frame at byte {at} of {len(data)} is damaged or cut off: {head.hex()}")
        audio = Audio(f"mp4a.40.{(head[2] >> 6) + 1}", _ADTS_RATES[rate], _ADTS_CHANNELS[channels])
        yield Frame(at, size, 1024 * (1 + (head[6] & 3)), audio)
        at += size


def mp3_frames(data: bytes) -> Iterator[Frame]:
    """Every frame of layer III until the end. Raises NotAFrame."""
    at = 0
    while at < len(data):
        head = data[at : at + 4]
        if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
            raise NotAFrame(f"at byte {at} there is no MP3 header but {head.hex()}")
        version, bitrate, rate, padding = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
        if version == 1 or not 0 < bitrate < 15 or rate == 3:
            raise NotAFrame(f"the MP3 frame at byte {at} is damaged: {head.hex()}")
        kbits, samples = (_KBITS_1[bitrate], 1152) if version == 3 else (_KBITS_2[bitrate], 576)
        sample_rate = _MPEG_RATES[version][rate]
        size = samples // 8 * kbits * 1_000 // sample_rate + padding
        if at + size > len(data):
            raise NotAFrame(f"the MP3 frame at byte {at} of {len(data)} is cut off")
        yield Frame(at, size, samples, Audio(MP3_NAMES[0], sample_rate, 1 if head[3] >> 6 == 3 else 2))
        at += size
