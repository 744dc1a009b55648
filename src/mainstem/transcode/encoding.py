"""Encoding a rung: frames of samples in, segments out. Runs in the child process only."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.packet import Packet

from mainstem.transcode.audio import Codec, Container, Rung
from mainstem.transcode.cutting import Cut, Cutter, Frame
from mainstem.transcode.decoding import LAYOUTS
from mainstem.transcode.fmp4 import fragment, initialisation
from mainstem.transcode.mpegts import TsWriter

_ENCODERS = {Codec.AAC: "aac", Codec.MP3: "libmp3lame", Codec.OPUS: "libopus", Codec.FLAC: "flac"}
_FLAC_BLOCKS_S = 10
"""FLAC blocks of a tenth of a second, so that six seconds are a whole number of them."""
_FLAC_BLOCK_MAX = 16_384
_RESAMPLED_MIN = 64
"""A resampler keeps a few samples to itself: of a source that is shorter, nothing would come out."""


class Piece(NamedTuple):
    """A file of a rung. Number 0 is the initialisation section."""

    number: int
    ticks: int
    data: bytes


class Encoder:
    """Encodes one rung and packs it into segments."""

    def __init__(self, rung: Rung, layout: str) -> None:
        """`layout` is that of the frames to come; it is kept where the rung has as many channels."""
        self._rung = rung
        self._context = _open(rung, layout)
        self._begun = False
        self._cutter = Cutter(rung.sample_rate)
        self._writer: TsWriter | None = None
        if rung.container is Container.TS:
            self._writer = TsWriter(
                rung.codec,
                rung.sample_rate,
                rung.channels,
                origin_s=rung.origin_s,
                priming=self._context.initial_padding,
            )

    def begin(self) -> list[Piece]:
        """What comes before the first segment."""
        if self._writer is not None:
            return []
        context, rung = self._context, self._rung
        data = initialisation(
            rung.codec,
            rung.sample_rate,
            rung.channels,
            bits=rung.bits,
            extradata=context.extradata or b"",
            priming=context.initial_padding,
        )
        return [Piece(0, 0, data)]

    def add(self, frame: AudioFrame) -> list[Piece]:
        """Encode samples of any rate, format and layout, the same each time; the segments that are complete."""
        if not self._begun and frame.samples < _RESAMPLED_MIN and frame.sample_rate != self._rung.sample_rate:
            frame = _padded(frame)
        self._begun = True
        return list(self._pieces(self._context.encode(frame)))

    def finish(self) -> list[Piece]:
        """The segments that are left."""
        pieces = list(self._pieces(self._context.encode(None)))
        if (rest := self._cutter.rest()) is not None:
            pieces.append(self._piece(rest))
        return pieces

    def _pieces(self, packets: "Sequence[Packet[Any]]") -> Iterator[Piece]:
        for packet in packets:
            if not packet.size:
                continue  # FLAC ends with one that only brings the final STREAMINFO
            # Only FLAC has a last frame that is shorter than the others.
            whole = self._rung.codec is not Codec.FLAC
            ticks = self._context.frame_size if whole else packet.duration or self._context.frame_size
            cut = self._cutter.add(Frame(bytes(packet), ticks))
            if cut is not None:
                yield self._piece(cut)

    def _piece(self, cut: Cut) -> Piece:
        if self._writer is not None:
            return Piece(cut.number, cut.ticks, self._writer.segment(cut.start, cut.frames))
        start = cut.start + round(self._rung.origin_s * self._rung.sample_rate)
        return Piece(cut.number, cut.ticks, fragment(self._rung.codec, cut.number, start, cut.frames))


def _open(rung: Rung, layout: str) -> AudioCodecContext:
    context = av.CodecContext.create(_ENCODERS[rung.codec], "w")
    assert isinstance(context, AudioCodecContext)
    context.rate = rung.sample_rate
    context.layout = layout if av.AudioLayout(layout).nb_channels == rung.channels else LAYOUTS[rung.channels]
    context.time_base = Fraction(1, rung.sample_rate)
    context.thread_count = 1
    options = {}
    match rung.codec:
        case Codec.AAC:
            context.format = "fltp"
        case Codec.MP3:
            context.format = "fltp"
            options["reservoir"] = "0"  # each segment can be decoded without the one before
        case Codec.OPUS:
            context.format = "flt"
        case Codec.FLAC:
            context.format = "s16" if rung.bits <= 16 else "s32"
            options["bits_per_raw_sample"] = str(rung.bits)
            options["frame_size"] = str(_flac_block(rung.sample_rate))
    if rung.bitrate is not None:
        context.bit_rate = rung.bitrate
    context.options = options
    context.open()
    return context


def _padded(frame: AudioFrame) -> AudioFrame:
    """The same samples, and silence after them."""
    longer = AudioFrame(frame.format, frame.layout, _RESAMPLED_MIN)
    longer.sample_rate = frame.sample_rate
    silence = b"\x80" if frame.format.name.startswith("u8") else b"\0"
    for there, here in zip(longer.planes, frame.planes, strict=True):
        sound = bytes(here)[: there.buffer_size * frame.samples // _RESAMPLED_MIN]
        there.update(sound.ljust(there.buffer_size, silence))
    return longer


def _flac_block(rate: int) -> int:
    """Samples in a block: a tenth of a second, or what is nearest and legal."""
    for parts in (_FLAC_BLOCKS_S, 5, 20, 40, 50):
        if rate % parts == 0 and 16 <= rate // parts <= _FLAC_BLOCK_MAX:
            return rate // parts
    return min(4_096, _FLAC_BLOCK_MAX)
