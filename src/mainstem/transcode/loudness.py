"""Loudness after EBU R 128: measured on what was decoded, and the gain that brings it to a target."""

from math import log10

import av
from av.audio.frame import AudioFrame
from av.filter import Graph

from mainstem.transcode.audio import Loudness

TRUE_PEAK_MAX_DBTP = -1.0
TARGETS_LUFS = (-70.0, -5.0)
"""What may be asked for."""

_METER = ("ebur128", {"peak": "true", "metadata": "1", "framelog": "quiet"})
_SILENCE_LUFS = -70.0
"""The absolute gate: nothing quieter is measured."""


class Meter:
    """libav's ebur128 with true peaks, fed with frames that are all of one kind."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._kind: tuple[str, str, int] | None = None
        self._last: AudioFrame | None = None

    def add(self, frame: AudioFrame) -> None:
        if self._graph is None:
            self._graph = _graph(frame, _METER)
            self._kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        self._graph.push(frame)
        self._drain()

    def result(self) -> Loudness:
        """Of everything that was added. Of less than 0.4 s, or of silence, there is no loudness."""
        if self._graph is None:
            return Loudness(integrated_lufs=None, range_lu=None, true_peak_dbtp=None)
        told = self._last.metadata if self._last is not None else {}
        peak = _decibels(self._with_the_end())
        integrated = float(told.get("lavfi.r128.I", "-inf"))
        if not integrated > _SILENCE_LUFS:
            return Loudness(integrated_lufs=None, range_lu=None, true_peak_dbtp=peak)
        return Loudness(integrated_lufs=integrated, range_lu=float(told["lavfi.r128.LRA"]), true_peak_dbtp=peak)

    def _with_the_end(self) -> dict[str, str]:
        """What it tells when the last samples count that fill no tenth of a second: they have peaks, but are no part
        of the loudness. It says so with the next tenth, which is silence."""
        assert self._graph is not None
        assert self._kind is not None
        sample_format, layout, rate = self._kind
        silence = AudioFrame(sample_format, layout, rate // 5 + 1)
        silence.sample_rate = rate
        for plane in silence.planes:
            # Unsigned samples have their middle at 128.
            plane.update((b"\x80" if sample_format.startswith("u8") else b"\0") * plane.buffer_size)
        self._graph.push(silence)
        self._graph.push(None)
        self._drain()
        return self._last.metadata if self._last is not None else {}

    def _drain(self) -> None:
        assert self._graph is not None
        while True:
            try:
                frame = self._graph.pull()
                # What is left at the end is less than the filter measures, and tells nothing.
                if frame.metadata:
                    self._last = frame  # type: ignore[assignment]  # an audio graph gives audio
            except (av.BlockingIOError, av.EOFError):
                return


def _graph(frame: AudioFrame, through: tuple[str, dict[str, str]]) -> Graph:
    graph = Graph()
    graph.threads = 1
    source = graph.add(
        "abuffer",
        sample_rate=str(frame.sample_rate),
        sample_fmt=frame.format.name,
        channel_layout=frame.layout.name,
        time_base=f"1/{frame.sample_rate}",
    )
    name, options = through
    middle = graph.add(name, **options)
    sink = graph.add("abuffersink")
    source.link_to(middle)
    middle.link_to(sink)
    graph.configure()
    return graph


def _decibels(told: dict[str, str]) -> float | None:
    peak = float(told.get("lavfi.r128.true_peak", "0"))
    return round(20 * log10(peak), 2) if peak > 0 else None


def gain_db(measured: Loudness, target_lufs: float) -> float:
    """The gain that brings it to the target, or less where its true peaks would pass -1 dBTP.

    It is the same from beginning to end: dynamics stay as they were made. No limiter is put in, so what is quiet with
    high peaks stays below the target.
    """
    if measured.integrated_lufs is None:
        return 0.0
    wanted = target_lufs - measured.integrated_lufs
    if measured.true_peak_dbtp is None:
        return wanted
    return min(wanted, TRUE_PEAK_MAX_DBTP - measured.true_peak_dbtp)


class Gain:
    """Makes frames louder or quieter by the same throughout. They come out as floats, whole and in order."""

    def __init__(self, gain_db: float) -> None:
        self._gain_db = gain_db
        self._graph: Graph | None = None

    def apply(self, frame: AudioFrame) -> AudioFrame:
        if self._graph is None:
            volume = ("volume", {"volume": f"{self._gain_db:.6f}dB", "precision": "double"})
            self._graph = _graph(frame, volume)
        self._graph.push(frame)
        louder = self._graph.pull()
        assert isinstance(louder, AudioFrame)
        louder.pts = None
        return louder
