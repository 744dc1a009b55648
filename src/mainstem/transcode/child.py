"""The child process of a probe or a job: `python -m mainstem.transcode.child`.

It reads one Spec (JSON) from its standard input, confines itself, writes the segments as files and tells what it does
in lines of JSON on its standard output. The last line is a Found, a Done or a Broken; without one it died. It knows
neither records nor blobs, and trusts nothing but libav with what somebody sent.

To try it without a server, see `mainstem.transcode.render`.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from mainstem.transcode.audio import Loudness, Media, Rung
from mainstem.transcode.sandbox import Allowance, confine

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from numpy.typing import NDArray

    from mainstem.transcode.decoding import Picture, Source
    from mainstem.transcode.encoding import Encoder, Piece

    type Each = Callable[[Callable[[Encoder], list[Piece]], list[Encoder]], Iterable[list[Piece]]]
    """A `map` over encoders."""

WAVEFORM_FILE = "waveform.dat"
COVER_FILE = "cover"

_TELL_EVERY_S = 0.25
_CHUNKS_A_SECOND = 1
"""Samples are handed on a second at a time: in quarters it takes 6 % more CPU, for no sooner a segment."""
_MEASURED_SHARE = 0.2
"""How much of the progress measuring is, where it has to come first."""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is to do: without rungs, only to look what the file is."""

    source: str
    """A path, as are all."""
    folder: str | None = None
    """Where the segments go: `<rung>/<file name>`. It is there and empty."""
    rungs: list[Rung] = []
    target_lufs: float | None = None
    duration_max_s: float
    disk_free_bytes_min: int = 0
    allowance: Allowance


class Found(msgspec.Struct, frozen=True, tag="found"):
    """The probe's answer."""

    media: Media


class Written(msgspec.Struct, frozen=True, tag="written"):
    """A file of a rung is complete."""

    rung: int
    """Its place in the spec."""
    number: int
    ticks: int
    size: int
    progress: float
    """Percent of the job, as far as can be told; below 100."""


class Told(msgspec.Struct, frozen=True, tag="told"):
    """How far it is."""

    progress: float


class Done(msgspec.Struct, frozen=True, tag="done"):
    """All is written."""

    duration_s: float
    """Of what could be decoded."""
    loudness: Loudness
    cover: str | None
    """Media type of the picture in the folder."""


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    """It cannot be done. `final`: nor at another try."""

    message: str
    final: bool


type Message = Found | Written | Told | Done | Broken


def file_name(rung: Rung, number: int) -> str:
    """What players ask for: `segment_00001.ts`, or `init.mp4` for number 0."""
    return f"segment_{number:05}.{rung.container}" if number else "init.mp4"


def main() -> None:
    spec = msgspec.json.decode(sys.stdin.buffer.read(), type=Spec)
    # What it tells goes to a descriptor of its own: nothing that a library prints can get between the lines.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    confine(spec.allowance)

    def tell(message: Message) -> None:
        out.write(msgspec.json.encode(message) + b"\n")

    try:
        tell(_work(spec, tell))
    except MemoryError:
        tell(Broken("It takes more memory than a job may have.", final=True))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        tell(Broken("The disk is full." if full else f"It cannot be written: {error.strerror}.", final=False))


def _work(spec: Spec, tell: Callable[[Message], None]) -> Message:
    # libav is loaded only now, when nothing can be had any more that is not needed.
    from av import FFmpegError

    from mainstem.transcode.decoding import Unreadable, probe

    try:
        if not spec.rungs:
            return Found(probe(Path(spec.source)))
        return _Transcoding(spec, tell).run()
    except Unreadable as error:
        return Broken(str(error), final=True)
    except MemoryError:
        raise  # of which libav has one of its own
    except FFmpegError as error:
        return Broken(f"It cannot be decoded or encoded: {error.strerror}.", final=True)


class _Transcoding:
    """One pass over a file for everything that is made of it; two where its loudness has to be known first."""

    def __init__(self, spec: Spec, tell: Callable[[Message], None]) -> None:
        self._spec = spec
        self._tell = tell
        assert spec.folder is not None
        self._folder = Path(spec.folder)
        self._cover: str | None = None
        self._progress = 0.0
        self._decoded_s = 0.0
        self._told_at = 0.0

    def run(self) -> Done:
        target = self._spec.target_lufs
        if target is None:
            return self._done(self._encode(share=(0.0, 1.0), gain_db=None, measured=None))

        from msgspec.structs import replace

        from mainstem.transcode.loudness import gain_db

        measured = self._measure(share=(0.0, _MEASURED_SHARE))
        gain = gain_db(measured, target)
        measured = replace(measured, target_lufs=target, gain_db=round(gain, 2))
        return self._done(self._encode(share=(_MEASURED_SHARE, 1.0), gain_db=gain, measured=measured))

    def _done(self, loudness: Loudness) -> Done:
        return Done(duration_s=round(self._decoded_s, 6), loudness=loudness, cover=self._cover)

    def _measure(self, share: tuple[float, float]) -> Loudness:
        from mainstem.transcode.loudness import Meter

        meter = Meter()
        for chunk in self._chunks(share):
            meter.add(chunk)
        return meter.result()

    def _encode(self, share: tuple[float, float], gain_db: float | None, measured: Loudness | None) -> Loudness:
        from mainstem.transcode.encoding import Encoder
        from mainstem.transcode.loudness import Gain, Meter
        from mainstem.transcode.waveform import Drawing

        meter = Meter() if measured is None else None
        drawing: Drawing | None = None
        gain = Gain(gain_db) if gain_db else None
        encoders: list[Encoder] = []
        with _side_by_side(len(self._spec.rungs)) as each:
            for chunk in self._chunks(share, self._keep_cover):
                if drawing is None:
                    drawing = Drawing(chunk.sample_rate)
                    encoders = [Encoder(rung, chunk.layout.name) for rung in self._spec.rungs]
                    self._begin_writing()
                    self._write(encoder.begin() for encoder in encoders)
                if meter is not None:
                    meter.add(chunk)
                louder = gain.apply(chunk) if gain else chunk
                drawing.add(_samples(louder))
                self._write(each(partial(_added, frame=louder), encoders))
            self._write(each(Encoder.finish, encoders))
        assert drawing is not None, "a source without a frame is unreadable"
        (self._folder / WAVEFORM_FILE).write_bytes(drawing.finish().binary())
        return measured if meter is None else meter.result()  # type: ignore[return-value]  # one of the two is there

    def _chunks(
        self, share: tuple[float, float], picture: "Callable[[Picture], None] | None" = None
    ) -> "Iterator[AudioFrame]":
        from mainstem.transcode.decoding import Source, Unreadable, evened, tamed

        begin, end = share
        source = Source.open(Path(self._spec.source))
        try:
            for chunk in evened(source.frames(picture), _CHUNKS_A_SECOND):
                self._decoded_s = decoded_s = source.decoded_s
                if decoded_s > self._spec.duration_max_s:
                    raise Unreadable(f"It lasts longer than the {self._spec.duration_max_s:.0f} s that are taken.")
                self._advance(begin + (end - begin) * _part(source, decoded_s))
                yield tamed(chunk)
        finally:
            source.close()

    def _advance(self, part: float) -> None:
        self._progress = max(self._progress, round(min(part, 0.99) * 100, 1))
        if (now := monotonic()) - self._told_at >= _TELL_EVERY_S:
            self._told_at = now
            self._tell(Told(self._progress))

    def _keep_cover(self, picture: "Picture") -> None:
        (self._folder / COVER_FILE).write_bytes(picture.data)
        self._cover = picture.media_type

    def _begin_writing(self) -> None:
        for rung in self._spec.rungs:
            (self._folder / rung.name).mkdir()

    def _write(self, made: "Iterable[Iterable[Piece]]") -> None:
        """What the encoders made, in their order."""
        for place, pieces in enumerate(made):
            rung = self._spec.rungs[place]
            for piece in pieces:
                status = os.statvfs(self._folder)
                if status.f_bavail * status.f_frsize < self._spec.disk_free_bytes_min + len(piece.data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                (self._folder / rung.name / file_name(rung, piece.number)).write_bytes(piece.data)
                self._tell(Written(place, piece.number, piece.ticks, len(piece.data), self._progress))


@contextmanager
def _side_by_side(count: int) -> "Iterator[Each]":
    """A `map` over so many encoders that uses all processors: libav works without the interpreter's lock."""
    threads = min(count, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if threads < 2:
        yield map
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        yield pool.map


def _added(encoder: "Encoder", frame: "AudioFrame") -> "list[Piece]":
    return encoder.add(frame)


def _part(source: "Source", decoded_s: float) -> float:
    """How much of a source is decoded, between 0 and 1, as far as it says how long it is."""
    return decoded_s / source.duration_s if source.duration_s else 0.5


def _samples(frame: "AudioFrame") -> "NDArray[Any]":
    """The samples of a frame, of shape (channels, count)."""
    samples = frame.to_ndarray()
    return samples if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels).T


if __name__ == "__main__":
    main()
