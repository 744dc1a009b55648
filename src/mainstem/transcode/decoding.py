"""Opening what somebody sent, and decoding it. Runs in the child process only, for it trusts libav with the bytes."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, NamedTuple

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from mainstem.transcode.audio import Media

SAMPLE_RATES = (1_000, 768_000)
CHANNELS_MAX = 8
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}

_DEMUXERS = (
    "aac,ac3,eac3,aiff,amr,ape,asf,au,caf,dsf,dts,flac,flv,iff,matroska,mov,mp2,mp3,mpc,mpc8,mpegts,ogg,oma,rm,"
    "shn,tak,tta,truehd,voc,w64,wav,wv"
)
"""Formats that hold what they play in themselves. Playlists, scripts, images and whatever opens other files are not
among them."""

_LOSSLESS = frozenset(
    {"alac", "ape", "flac", "mlp", "mp4als", "ralf", "shorten", "tak", "truehd", "tta", "wavpack", "wmalossless"}
)
_LOSSY_PCM = frozenset({"pcm_alaw", "pcm_mulaw", "pcm_vidc"})
_EXACT_DURATION = frozenset({"aiff", "flac", "mov", "w64", "wav"})
"""Formats that say how many samples there are, so that it can be told when some are missing."""

_DECODED_SHARE_MIN = 0.9
_BROKEN_SHARE_MAX = 0.1
_TAGS_MAX = 64
_NO_TAGS = frozenset(
    {
        "major_brand",
        "minor_version",
        "compatible_brands",
        "handler_name",
        "vendor_id",
        "language",
        "duration",
        "encoder",
    }
)
"""What containers write for themselves."""
_TAG_CHARACTERS_MAX = 1_000
_COVER_BYTES_MAX = 10 << 20
_READ_BYTES = 1 << 17
_LOUDEST = 8.0
"""Of a sample, 1.0 being full scale: 18 dB above, where some encoder still takes it."""
_PICTURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}


class Unreadable(Exception):
    """The file cannot be opened or decoded, and will not be at the next try either. The text says why."""


class Picture(NamedTuple):
    data: bytes
    media_type: str


class Source:
    """An open audio file. Close it."""

    def __init__(self, file: IO[bytes]) -> None:
        """Raises Unreadable."""
        try:
            # libav gets bytes, not a name, so there is no protocol by which it could open anything else.
            self._container = av.open(
                file,
                "r",
                options={"format_whitelist": _DEMUXERS, "protocol_whitelist": ""},
                buffer_size=_READ_BYTES,
                io_open=_refuse,
            )
        except (av.FFmpegError, ValueError, OSError) as error:
            raise Unreadable("This is no audio file that can be read.") from error
        try:
            self.stream = self._audio_stream()
        except Unreadable:
            self._container.close()
            raise
        self.decoded_s = 0.0
        """How much sound has come out so far."""

    @classmethod
    def open(cls, path: Path) -> "Source":
        return cls(path.open("rb"))

    def close(self) -> None:
        self._container.close()

    def media(self, first: AudioFrame) -> Media:
        """What the file is, now that its first frame is decoded."""
        context = self.stream.codec_context
        name = context.codec.canonical_name
        return Media(
            duration_s=self.duration_s,
            codec=name,
            bitrate=self.stream.bit_rate or self._container.bit_rate or None,
            sample_rate=first.sample_rate,
            channels=first.layout.nb_channels,
            bits=_bits(name, first.format.name, context.bits_per_raw_sample),
            lossless=name in _LOSSLESS or (name.startswith("pcm_") and name not in _LOSSY_PCM),
            tags=_tags({**self._container.metadata, **self.stream.metadata}),
        )

    @property
    def duration_s(self) -> float | None:
        """As the file declares it, or as libav estimates it."""
        if self.stream.duration and self.stream.duration > 0:
            base = self.stream.time_base
            return float(self.stream.duration * base.num / base.den)
        if self._container.duration and self._container.duration > 0:
            return self._container.duration / av.time_base
        return None

    @property
    def packed_bytes(self) -> int:
        return self._container.size or 0

    def frames(self, picture: Callable[[Picture], None] | None = None) -> Iterator[AudioFrame]:
        """Everything that can be decoded, in order. Broken pieces are passed over, as players do, but not too many:
        then, or when the end is missing, it raises Unreadable."""
        packets = broken = 0
        streams: list[Stream] = [self.stream, *(self._pictures() if picture else [])]
        for packet in self._packets(streams):
            if packet.stream_index != self.stream.index:
                if picture and (found := _picture(bytes(packet))):
                    picture(found)
                    picture = None
                continue
            packets += 1
            try:
                frames = self.stream.codec_context.decode(packet)
            except (av.FFmpegError, ValueError):
                broken += 1
                continue
            for frame in frames:
                if frame.samples:
                    frame.pts = None
                    self.decoded_s += frame.samples / frame.sample_rate
                    yield frame
        self._check(packets, broken)

    def _packets(self, streams: list[Stream]) -> "Iterator[Packet[Any]]":
        packets = self._container.demux(*streams)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                if isinstance(error, av.error.EOFError):
                    return
                raise Unreadable("The file is damaged: it cannot be read to its end.") from error
            yield packet

    def _check(self, packets: int, broken: int) -> None:
        if not self.decoded_s:
            raise Unreadable("There is no sound in the file that can be decoded.")
        if broken > max(2, packets * _BROKEN_SHARE_MAX):
            raise Unreadable(f"The file is damaged: {broken} of {packets} pieces cannot be decoded.")
        if self._container.format.name.split(",")[0] not in _EXACT_DURATION or not self.duration_s:
            return
        if self.decoded_s < self.duration_s * _DECODED_SHARE_MIN - 0.1:
            raise Unreadable(
                f"The file is damaged: of the {self.duration_s:.1f} s that it should last,"
                f" {self.decoded_s:.1f} s can be decoded."
            )

    def _audio_stream(self) -> AudioStream:
        stream = self._container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            raise Unreadable("There is no sound in the file.")
        return stream

    def _pictures(self) -> list[VideoStream]:
        return [stream for stream in self._container.streams.video if Disposition.attached_pic in stream.disposition]


def probe(path: Path) -> Media:
    """What the file is. It is taken for audio when a frame of it can be decoded. Raises Unreadable."""
    source = Source.open(path)
    try:
        first = next(source.frames(), None)
        if first is None:
            raise Unreadable("There is no sound in the file that can be decoded.")
        lowest, highest = SAMPLE_RATES
        if not lowest <= first.sample_rate <= highest:
            raise Unreadable(f"A sample rate of {first.sample_rate} Hz is not taken: {lowest} to {highest} Hz are.")
        if not 1 <= first.layout.nb_channels <= CHANNELS_MAX:
            raise Unreadable(f"{first.layout.nb_channels} channels are not taken: 1 to {CHANNELS_MAX} are.")
        return source.media(first)
    finally:
        source.close()


def evened(frames: Iterator[AudioFrame], a_second: int) -> Iterator[AudioFrame]:
    """The same samples in frames of equal length, so many a second, all of the first one's format, layout and rate."""
    first: AudioFrame | None = None
    fifo = av.AudioFifo()
    resampler: av.AudioResampler | None = None
    odd: tuple[object, ...] = ()
    for frame in frames:
        first = first or frame
        if _kind(frame) != _kind(first):
            if resampler is None or _kind(frame) != odd:
                odd = _kind(frame)
                resampler = av.AudioResampler(first.format, first.layout, first.sample_rate)
            even = resampler.resample(frame)
        else:
            even = [frame]
        for one in even:
            one.pts = None
            one.time_base = Fraction(1, first.sample_rate)  # the queue wants all alike, and a resampler has its own
            fifo.write(one)
        yield from map(_placed, fifo.read_many(first.sample_rate // a_second))
    if (rest := fifo.read(0, partial=True)) is not None:
        yield _placed(rest)


def _placed(frame: AudioFrame) -> AudioFrame:
    """The same samples, with each channel in its usual place where the file does not say which is which."""
    if not frame.layout.name.endswith(" channels"):
        return frame
    placed = AudioFrame(frame.format, LAYOUTS[frame.layout.nb_channels], frame.samples)
    placed.sample_rate = frame.sample_rate
    for there, here in zip(placed.planes, frame.planes, strict=True):
        # What is longer there is padding.
        there.update(memoryview(here)[: there.buffer_size])  # type: ignore[arg-type]  # they have buffers
    return placed


def tamed(frame: AudioFrame) -> AudioFrame:
    """The frame; where floats in it are no sound, not a number or far beyond full scale, one that encoders survive."""
    if not frame.format.name.startswith(("flt", "dbl")):
        return frame
    import numpy as np  # a probe does without

    samples = frame.to_ndarray()
    if np.abs(samples).max() <= _LOUDEST:  # which is false where one is not a number
        return frame
    tame = np.clip(np.nan_to_num(samples, posinf=_LOUDEST, neginf=-_LOUDEST), -_LOUDEST, _LOUDEST)
    made = AudioFrame.from_ndarray(tame, frame.format.name, frame.layout.name)
    made.sample_rate = frame.sample_rate
    return made


def _kind(frame: AudioFrame) -> tuple[object, ...]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _refuse(url: str, flags: int, options: object) -> IO[bytes]:
    raise PermissionError("A file that was sent may not open others.")


def _bits(codec: str, sample_format: str, raw_bits: int) -> int:
    """How many bits FLAC needs to keep all that the samples hold, 24 at most."""
    if sample_format.rstrip("p") in ("u8", "s16"):
        return 16
    if codec in _LOSSLESS or codec.startswith("pcm_"):
        return 16 if 0 < raw_bits <= 16 else 24
    return 16  # a lossy codec decodes to floats, of which no more is worth keeping


def _tags(metadata: dict[str, str]) -> dict[str, str]:
    """Tags as text that can be shown, bounded."""
    kept = {}
    wanted = [(name.lower(), value) for name, value in metadata.items() if name.lower() not in _NO_TAGS]
    for name, value in wanted[:_TAGS_MAX]:
        clean = "".join(character for character in value if character.isprintable() or character == "\n")
        kept[name[:_TAG_CHARACTERS_MAX]] = clean[:_TAG_CHARACTERS_MAX]
    return kept


def _picture(data: bytes) -> Picture | None:
    if len(data) > _COVER_BYTES_MAX:
        return None
    return next((Picture(data, kind) for magic, kind in _PICTURES.items() if data.startswith(magic)), None)
