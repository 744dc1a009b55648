"""Fragmented MP4 with one audio track (ISO 14496-12, CMAF): the initialisation section, and fragments. Pure.

Opus after "Encapsulation of Opus in ISO Base Media File Format", FLAC after "Encapsulation of FLAC in ISO Base Media
File Format".
"""

import struct
from collections.abc import Sequence

from mainstem.transcode.audio import Codec
from mainstem.transcode.cutting import Frame

_TRACK = 1
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000)
_SYNC_SAMPLE = 0x0200_0000
"""Flags of a sample that depends on no other."""
_OPUS_ROLL = -4
"""How many frames of 20 ms an Opus decoder needs to hear before it is right again: 80 ms."""


def initialisation(
    codec: Codec, sample_rate: int, channels: int, *, bits: int, extradata: bytes, priming: int
) -> bytes:
    """What comes before the fragments. `extradata` is the encoder's, as libav gives it: an AudioSpecificConfig, an
    OpusHead or a STREAMINFO; `priming` is how many samples a player has to leave out at the beginning."""
    entry = _sample_entry(codec, sample_rate, channels, bits, extradata)
    nothing = struct.pack(">II", 0, 0)
    table = _box(
        b"stbl",
        _box(b"stsd", struct.pack(">II", 0, 1), entry),
        _box(b"stts", nothing),
        _box(b"stsc", nothing),
        _box(b"stsz", nothing, struct.pack(">I", 0)),
        _box(b"stco", nothing),
    )
    information = _box(
        b"minf",
        _box(b"smhd", struct.pack(">II", 0, 0)),
        _box(b"dinf", _box(b"dref", struct.pack(">II", 0, 1), _box(b"url ", struct.pack(">I", 1)))),
        table,
    )
    media = _box(
        b"mdia",
        _box(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, sample_rate, 0, 0x55C4, 0)),  # language "und"
        _box(b"hdlr", struct.pack(">II", 0, 0), b"soun", bytes(12), b"audio\0"),
        information,
    )
    track = _box(
        b"trak",
        _box(b"tkhd", struct.pack(">IIIIIIIIHHHH", 7, 0, 0, _TRACK, 0, 0, 0, 0, 0, 1, 0x100, 0), _MATRIX, nothing),
        _edit_list(priming),
        media,
    )
    header = struct.pack(">IIIIIIH", 0, 0, 0, sample_rate, 0, 0x10000, 0x100)
    movie = _box(
        b"moov",
        _box(b"mvhd", header, bytes(10), _MATRIX, bytes(24), struct.pack(">I", _TRACK + 1)),
        track,
        _box(b"mvex", _box(b"trex", struct.pack(">IIIIII", 0, _TRACK, 1, 0, 0, _SYNC_SAMPLE))),
    )
    return _box(b"ftyp", b"iso6", struct.pack(">I", 0), b"iso6cmfcmp41") + movie


def fragment(codec: Codec, sequence: int, start: int, frames: Sequence[Frame]) -> bytes:
    """A segment of one fragment. `sequence` counts from 1; `start` is the decode time of its first sample."""
    usual = frames[0].ticks
    same = all(frame.ticks == usual for frame in frames)
    sizes = [len(frame.data) for frame in frames]
    if same:
        samples = struct.pack(f">{len(sizes)}I", *sizes)
    else:
        pairs = [number for frame, size in zip(frames, sizes, strict=True) for number in (frame.ticks, size)]
        samples = struct.pack(f">{len(pairs)}I", *pairs)
    run_flags = 0x000201 if same else 0x000301  # data offset, sizes, and durations where they differ
    track_header = _box(b"tfhd", struct.pack(">IIII", 0x020028, _TRACK, usual, _SYNC_SAMPLE))
    decode_time = _box(b"tfdt", struct.pack(">IQ", 0x0100_0000, start))
    roll = _roll(len(frames)) if codec is Codec.OPUS else b""
    offset_of_data = 0
    for _ in range(2):  # the fragment says how long it is itself
        run = _box(b"trun", struct.pack(">IIi", run_flags, len(frames), offset_of_data), samples)
        header = _box(
            b"moof", _box(b"mfhd", struct.pack(">II", 0, sequence)), _box(b"traf", track_header, decode_time, roll, run)
        )
        offset_of_data = len(header) + 8
    return b"".join(
        [
            _box(b"styp", b"msdh", struct.pack(">I", 0), b"msdhmsixcmfs"),
            header,
            struct.pack(">I4s", 8 + sum(sizes), b"mdat"),
            *(frame.data for frame in frames),
        ]
    )


def _edit_list(priming: int) -> bytes:
    if not priming:
        return b""
    # A duration of 0 is all that the fragments bring.
    return _box(b"edts", _box(b"elst", struct.pack(">IIIiHH", 0, 1, 0, priming, 1, 0)))


def _roll(count: int) -> bytes:
    """All samples need as many before them to be decoded first (ISO 14496-12, 10.1)."""
    description = _box(b"sgpd", struct.pack(">I4sIIh", 0x0100_0000, b"roll", 2, 1, _OPUS_ROLL))
    # 0x10001: the first description in this fragment
    return description + _box(b"sbgp", struct.pack(">I4sIII", 0, b"roll", 1, count, 0x10001))


def _sample_entry(codec: Codec, sample_rate: int, channels: int, bits: int, extradata: bytes) -> bytes:
    rate = sample_rate
    while rate > 0xFFFF:
        rate //= 2  # what does not fit is told in the codec's own box
    head = bytes(6) + struct.pack(">HQHHII", 1, 0, channels, bits, 0, rate << 16)
    match codec:
        case Codec.FLAC:
            return _box(
                b"fLaC", head, _box(b"dfLa", struct.pack(">I", 0), b"\x80", len(extradata).to_bytes(3), extradata)
            )
        case Codec.OPUS:
            return _box(b"Opus", head, _box(b"dOps", _opus_specific(extradata)))
        case Codec.AAC:
            return _box(b"mp4a", head, _box(b"esds", bytes(4), _descriptors(0x40, extradata)))
        case Codec.MP3:
            return _box(b"mp4a", head, _box(b"esds", bytes(4), _descriptors(0x6B, b"")))


def _opus_specific(head: bytes) -> bytes:
    """What RFC 7845's OpusHead says, in this format's order of bytes."""
    channels, skip, rate, gain, family = struct.unpack_from("<xBHIhB", head, 8)
    return struct.pack(">BBHIhB", 0, channels, skip, rate, gain, family) + head[19:]


def _descriptors(object_type: int, configuration: bytes) -> bytes:
    """An elementary stream descriptor (ISO 14496-1, 7.2.6)."""
    specific = _descriptor(5, configuration) if configuration else b""
    decoder = _descriptor(4, struct.pack(">BB", object_type, 0x15) + bytes(11) + specific)
    return _descriptor(3, struct.pack(">HB", _TRACK, 0) + decoder + _descriptor(6, b"\x02"))


def _descriptor(tag: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([tag, len(content)]) + content


def _box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, content)), kind) + b"".join(content)
