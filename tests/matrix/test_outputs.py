"""More than two hundred outputs, of every codec, rate, number of channels and length, held to four judges: our own
hlscheck, npm's hls-parser in strict mode, ffprobe, and PyPI's m3u8; and to what was asked for.
"""

import itertools
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import av
import m3u8
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

import sounds
from foreign import ffmpeg, ffprobe, strict_hls
from mainstem.hlscheck import Report, check
from mainstem.transcode import Codec, Order, Profile, Rendering, Rung, render

pytestmark = pytest.mark.slow

RATES = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000)
LENGTHS_S = (0.001, 0.02, 0.3, 5.9, 6.1, 13.0)
FORMATS = (
    "flac",
    "mp3",
    "ogg",
    "opus",
    "m4a",
    "alac.m4a",
    "aiff",
    "caf",
    "float.wav",
    "u8.wav",
    "w64",
    "mka",
    "webm",
    "ts",
)

_UNSURE = 8
_FRAME_SAMPLES = {Codec.AAC: 1024, Codec.MP3: 1152, Codec.OPUS: 960, Codec.FLAC: 4608}


class Case(NamedTuple):
    """A file and what is asked of it."""

    rate: int
    channels: int
    seconds: float
    order: Order
    bits: int = 16
    kind: str = "wav"

    @property
    def source(self) -> str:
        return f"{self.rate}-{self.channels}-{self.seconds:g}-{self.bits}"

    @property
    def name(self) -> str:
        order = self.order
        asked = f"{order.codec or order.profile}-{order.bitrate or 'any'}-{order.loudness or 'as-is'}"
        return f"{self.source}-{self.kind}-{asked}{'-ladder' if order.ladder else ''}"


def cases() -> Iterator[Case]:
    """Every rate with every codec, every number of channels, every length, every format, and what is asked."""
    for place, (rate, codec) in enumerate(itertools.product(RATES, Codec)):
        yield Case(rate, 1 + place % 2, 6.1, Order(codec=codec), 24 if rate > 48_000 else 16)
    for channels, codec in itertools.product(range(1, 9), Codec):
        yield Case(48_000, channels, 0.7, Order(codec=codec))
    for seconds, rate, codec in itertools.product(LENGTHS_S, (8_000, 44_100), Codec):
        yield Case(rate, 2, seconds, Order(codec=codec))
    for kind, codec in itertools.product(FORMATS, Codec):
        yield Case(44_100, 2, 2.0, Order(codec=codec), kind=kind)
    for profile in Profile:
        yield Case(96_000, 2, 2.5, Order(profile=profile), 24)
    for codec, bitrates in BITRATES.items():
        for bitrate in bitrates:
            yield Case(48_000, 2, 4.0, Order(codec=codec, bitrate=bitrate))
    for loudness in (-14.0, -23.0):
        yield Case(44_100, 2, 6.5, Order(codec=Codec.AAC, loudness=loudness))
    for rate, seconds in ((44_100, 13.0), (8_000, 0.3), (48_000, 0.001)):
        yield Case(rate, 2, seconds, Order(ladder=True))
    yield Case(8_000, 1, 600.0, Order(codec=Codec.FLAC))
    yield Case(16_000, 1, 600.0, Order(codec=Codec.AAC, bitrate=32_000))


BITRATES: Mapping[Codec, Sequence[int]] = {
    Codec.AAC: (64_000, 128_000, 192_000, 320_000),
    Codec.MP3: (64_000, 128_000, 192_000, 320_000),
    Codec.OPUS: (32_000, 96_000, 256_000),
}


class Stream(msgspec.Struct):
    """As ffprobe tells it."""

    codec_name: str
    sample_rate: str
    channels: int


class Packet(msgspec.Struct):
    pts_time: str


class Probed(msgspec.Struct):
    streams: list[Stream]
    packets: list[Packet]


class Output(NamedTuple):
    """One rung that came of a case."""

    case: Case
    source: Path
    rendering: Rendering
    rung: Rung
    folder: Path

    @property
    def playlist(self) -> str:
        return (self.folder / "index.m3u8").read_text()

    @property
    def name(self) -> str:
        return f"{self.case.name}/{self.rung.name}"

    @property
    def frame_s(self) -> float:
        is_half = self.rung.codec is Codec.MP3 and self.rung.sample_rate < 32_000
        return _FRAME_SAMPLES[self.rung.codec] / self.rung.sample_rate / (2 if is_half else 1)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Output]]:
    """All of them, two at a time; none may fail."""
    root = tmp_path_factory.mktemp("matrix")
    made: dict[str, Path] = {}
    chosen = list(dict.fromkeys(cases()))
    for case in chosen:
        if case.source not in made:
            wav = root / f"{case.source}.wav"
            made[case.source] = sounds.wav(wav, case.rate, case.channels, case.seconds, case.bits)
        key = f"{case.source}.{case.kind}"
        if key not in made:
            made[key] = made[case.source] if case.kind == "wav" else sounds.encoded(made[case.source], case.kind)

    def outputs_of(case: Case) -> list[Output]:
        source, folder = made[f"{case.source}.{case.kind}"], root / case.name
        rendering = render(source, case.order, folder)
        return [Output(case, source, rendering, rung, folder / rung.name) for rung in rendering.rungs]

    with ThreadPoolExecutor(2) as pool:
        rendered = list(itertools.chain.from_iterable(pool.map(outputs_of, chosen)))
    assert len(rendered) >= 200
    yield rendered
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def reports(outputs: list[Output]) -> dict[str, Report]:
    return {output.name: check(str(output.folder)) for output in outputs}


def test_hlscheck_finds_nothing(reports: dict[str, Report]) -> None:
    """Neither an error nor a warning."""
    assert {name: report.findings for name, report in reports.items() if report.findings} == {}


def test_master_playlists_break_no_rule(outputs: list[Output]) -> None:
    """BANDWIDTH and CODECS are what the segments have, and rungs begin together."""
    masters = {output.folder.parent for output in outputs}
    found = {folder.name: check(str(folder / "master.m3u8")).findings for folder in masters}
    assert {name: findings for name, findings in found.items() if findings} == {}


def test_a_strict_parser_takes_every_playlist(outputs: list[Output]) -> None:
    playlists = {output.name: output.playlist for output in outputs}
    playlists |= {f"{output.case.name}/": (output.folder.parent / "master.m3u8").read_text() for output in outputs}
    assert strict_hls(playlists) == {}


def test_another_parser_reads_the_same(outputs: list[Output], reports: dict[str, Report]) -> None:
    for output in outputs:
        read = m3u8.loads(output.playlist)
        names = [path.name for path in output.folder.iterdir() if path.name.startswith("segment_")]
        assert [segment.uri for segment in read.segments] == sorted(names), output.name
        assert read.is_endlist
        assert read.target_duration == 6
        assert read.media_sequence == 0
        duration_s = reports[output.name].renditions[0].duration_s
        assert sum(segment.duration for segment in read.segments) == pytest.approx(duration_s, abs=1e-4), output.name


def test_ffprobe_finds_the_codec_and_packets_without_a_gap(outputs: list[Output]) -> None:
    names = {Codec.AAC: "aac", Codec.MP3: "mp3", Codec.OPUS: "opus", Codec.FLAC: "flac"}
    wanted = ("-show_entries", "stream=codec_name,sample_rate,channels:packet=pts_time,duration_time")
    playlists = [output.folder / "index.m3u8" for output in outputs]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda playlist: ffprobe(playlist, *wanted, answer=Probed), playlists))
    for output, told in zip(outputs, answers, strict=True):
        (stream,) = told.streams
        facts = (stream.codec_name, int(stream.sample_rate), stream.channels)
        assert facts == (names[output.rung.codec], output.rung.sample_rate, output.rung.channels), output.name
        # Of its first packets ffprobe may not know yet how long they are. FLAC's last is shorter.
        steps = np.diff([float(packet.pts_time) for packet in told.packets])[_UNSURE:]
        assert (steps > 0).all(), output.name
        assert output.rung.codec is Codec.FLAC or (abs(steps - output.frame_s) < output.frame_s / 4).all(), output.name


def test_playlists_are_as_long_as_their_source(outputs: list[Output], reports: dict[str, Report]) -> None:
    """Within 0.1 s or three frames of the codec, whichever is more: what is said, and what is decoded."""
    for output in outputs:
        source_s = _decoded(output.source).shape[0] / _rate(output.source)
        allowed_s = max(0.1, 3 * output.frame_s)
        said_s = reports[output.name].renditions[0].duration_s
        decoded_s = _decoded(output.folder / "index.m3u8").shape[0] / output.rung.sample_rate
        assert abs(said_s - source_s) <= allowed_s, f"{output.name}: {said_s} s said, {source_s} s sent"
        assert abs(decoded_s - source_s) <= allowed_s, f"{output.name}: {decoded_s} s decoded, {source_s} s sent"


def test_flac_decodes_to_the_very_samples(outputs: list[Output]) -> None:
    """Of WAV at 16 and 24 bits, at every rate and number of channels."""
    exact = [output for output in outputs if output.rung.codec is Codec.FLAC and output.case.kind == "wav"]
    assert len(exact) >= 30
    for output in exact:
        sent, came = _decoded(output.source), _decoded(output.folder / "index.m3u8")
        assert output.rung.sample_rate == output.case.rate
        assert sent.dtype == came.dtype, output.name
        assert np.array_equal(sent, came), output.name


def test_bitrates_are_near_what_was_asked_for(outputs: list[Output], reports: dict[str, Report]) -> None:
    """Of sound that is noise in part; a transport stream takes some more for its packets."""
    asked = [output for output in outputs if output.case.order.bitrate in BITRATES.get(output.rung.codec, ())]
    assert len(asked) >= 11
    for output in asked:
        bitrate = output.case.order.bitrate
        assert bitrate is not None
        packed = 20_000 if output.rung.codec in (Codec.AAC, Codec.MP3) else 4_000
        average = reports[output.name].renditions[0].average_bits
        assert 0.85 * bitrate <= average <= 1.15 * bitrate + packed, output.name


def test_loudness_is_what_ffmpeg_measures(outputs: list[Output]) -> None:
    """Within 0.1 LU of its ebur128 on the same file."""
    measured = {output.source: output for output in outputs if 1 <= output.case.seconds <= 60}
    assert len(measured) >= 20
    for source, output in measured.items():
        integrated = output.rendering.loudness.integrated_lufs
        assert integrated is not None, output.name
        assert integrated == pytest.approx(_lufs(source), abs=0.1), output.name


def test_what_is_brought_to_a_loudness_has_it(outputs: list[Output]) -> None:
    """Measured by ffmpeg on what players get; encoding moves it a little."""
    for output in outputs:
        target = output.case.order.loudness
        if target is not None:
            loudness = output.rendering.loudness
            assert loudness.integrated_lufs is not None
            expected = loudness.integrated_lufs + loudness.gain_db
            assert _lufs(output.folder / "index.m3u8") == pytest.approx(expected, abs=0.3), output.name
            assert expected <= target + 0.05


def _lufs(source: Path) -> float:
    said = ffmpeg(
        "-v", "info", "-i", source, "-af", "ebur128=framelog=quiet:metadata=1,ametadata=print:file=-", "-f", "null", "-"
    )
    found = re.findall(rb"lavfi\.r128\.I=(-?[\d.]+)", said.stdout)
    return float(found[-1])


def _rate(path: Path) -> int:
    with av.open(str(path)) as container:
        return container.streams.audio[0].sample_rate


def _decoded(path: Path) -> NDArray[np.generic]:
    """All samples, of shape (count, channels), as libav decodes them."""
    with av.open(str(path)) as container:
        frames = [_samples(frame) for frame in container.decode(audio=0)]
    return np.concatenate(frames) if frames else np.empty((0, 1))


def _samples(frame: av.AudioFrame) -> NDArray[np.generic]:
    samples = frame.to_ndarray()
    return samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
