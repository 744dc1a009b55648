"""Fragmented MP4, box by box."""

import struct
from collections.abc import Iterator, Sequence

import pytest

from mainstem.transcode import Codec
from mainstem.transcode.cutting import Frame
from mainstem.transcode.fmp4 import fragment, initialisation

NESTED = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"mvex", b"moof", b"traf", b"edts", b"dinf"}
OPUS_HEAD = b"OpusHead" + struct.pack("<BBHIhB", 1, 2, 312, 44_100, 0, 0)


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All boxes, outer ones before what is in them."""
    while data:
        size, kind = struct.unpack_from(">I4s", data)
        assert 8 <= size <= len(data), kind
        yield kind, data[8:size]
        if kind in NESTED:
            yield from boxes(data[8:size])
        data = data[size:]


def box(data: bytes, kind: bytes) -> bytes:
    (found,) = [content for name, content in boxes(data) if name == kind]
    return found


def opus(frames: Sequence[Frame], start: int = 0) -> bytes:
    return fragment(Codec.OPUS, 1, start, frames)


def test_an_initialisation_section_has_one_track_and_no_samples() -> None:
    section = initialisation(Codec.FLAC, 44_100, 2, bits=24, extradata=bytes(34), priming=0)

    assert [kind for kind, _ in boxes(section)][:2] == [b"ftyp", b"moov"]
    assert [len(box(section, table)) for table in (b"stts", b"stsc", b"stco", b"stsz")] == [8, 8, 8, 12]
    assert box(section, b"mdhd")[12:16] == struct.pack(">I", 44_100)


def test_flac_brings_its_streaminfo() -> None:
    section = initialisation(Codec.FLAC, 96_000, 2, bits=24, extradata=bytes(range(34)), priming=0)
    entry = box(section, b"stsd")[8:]

    assert entry[4:8] == b"fLaC"
    assert entry[32:34] == struct.pack(">H", 48_000)  # half of it, for it has room for 16 bits
    assert dict(boxes(entry[36:]))[b"dfLa"] == b"\0\0\0\0\x80\0\0\x22" + bytes(range(34))


def test_what_players_leave_out_of_opus_is_in_the_edit_list_and_the_codec_s_box() -> None:
    section = initialisation(Codec.OPUS, 48_000, 2, bits=16, extradata=OPUS_HEAD, priming=312)

    assert struct.unpack(">IIIiHH", box(section, b"elst")) == (0, 1, 0, 312, 1, 0)
    assert dict(boxes(box(section, b"stsd")[8 + 36 :]))[b"dOps"] == struct.pack(">BBHIhB", 0, 2, 312, 44_100, 0, 0)


def test_aac_brings_its_configuration() -> None:
    section = initialisation(Codec.AAC, 44_100, 2, bits=16, extradata=b"\x12\x10", priming=1_024)
    descriptors = dict(boxes(box(section, b"stsd")[8 + 36 :]))[b"esds"]

    assert descriptors[4] == 3
    assert b"\x05\x02\x12\x10" in descriptors


@pytest.mark.parametrize("last", [960, 100])
def test_a_fragment_says_where_when_and_how_large_its_samples_are(last: int) -> None:
    frames = [Frame(b"a" * 10, 960), Frame(b"b" * 20, 960), Frame(b"c" * 5, last)]
    data = opus(frames, start=2**33)

    flags, count, offset = struct.unpack_from(">IIi", box(data, b"trun"))
    told = struct.unpack(f">{len(box(data, b'trun')) // 4 - 3}I", box(data, b"trun")[12:])
    assert count == 3
    assert data[data.index(b"moof") - 4 + offset :] == b"a" * 10 + b"b" * 20 + b"c" * 5
    assert box(data, b"tfdt") == struct.pack(">IQ", 1 << 24, 2**33)
    # Durations are there only where they differ.
    assert told == ((960, 10, 960, 20, 100, 5) if flags & 0x100 else (10, 20, 5))
    assert bool(flags & 0x100) == (last != 960)
