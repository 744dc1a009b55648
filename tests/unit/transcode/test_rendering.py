"""What comes out of whole jobs on local files: the same sound, its loudness, its waveform, its picture."""

import struct
import wave
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
from av.filter import Graph
from numpy.typing import NDArray

from foreign import ffmpeg
from mainstem.errors import Invalid
from mainstem.transcode import AttemptFailed, Codec, Limits, NotAudio, Order, render
from mainstem.transcode.waveform import Drawing, Waveform
from sounds import encoded, wav

pytestmark = pytest.mark.slow


def joined(folder: Path) -> Path:
    """A rung's segments as one file that anybody can open."""
    parts = [*folder.glob("init.mp4"), *sorted(folder.glob("segment_*"))]
    whole = folder / f"whole{parts[-1].suffix}"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    return whole


def decoded(path: Path) -> NDArray[np.int64]:
    """All samples, of shape (count, channels), in units of 32 bits."""
    frames = []
    with av.open(path) as container:
        for frame in container.decode(audio=0):
            samples = frame.to_ndarray()
            samples = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
            match samples.dtype.itemsize:
                case 1:
                    samples = (samples.astype(np.int64) - 128) << 24
                case 2:
                    samples = samples.astype(np.int64) << 16
            frames.append(samples.astype(np.int64))
    return np.concatenate(frames)


def sound(path: Path, rate: int, channels: int, width: int, seconds: float = 1.3) -> Path:
    """Noise that uses all bits of its samples."""
    noise = np.random.default_rng(rate + channels + width).integers(0, 256, round(rate * seconds) * channels * width)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(noise.astype(np.uint8).tobytes())
    return path


# The same sound


@pytest.mark.parametrize(
    ("rate", "channels", "width"),
    [(44_100, 2, 1), (44_100, 2, 2), (44_100, 2, 3), (8_000, 1, 2), (96_000, 6, 3), (192_000, 2, 3), (37_800, 3, 2)],
)
def test_flac_is_bit_exact(tmp_path: Path, rate: int, channels: int, width: int) -> None:
    source = sound(tmp_path / "x.wav", rate, channels, width)
    made = render(source, Order(codec=Codec.FLAC), tmp_path / "out")

    assert np.array_equal(decoded(joined(tmp_path / "out" / "flac")), decoded(source))
    assert sum(segment.ticks for segment in made.segments[0]) == round(rate * 1.3)


@pytest.mark.parametrize("kind", ["flac", "alac.m4a", "aiff", "u8.wav"])
def test_flac_of_other_lossless_files_is_bit_exact(tmp_path: Path, kind: str) -> None:
    source = encoded(wav(tmp_path / "x.wav", seconds=1), kind)
    render(source, Order(codec=Codec.FLAC), tmp_path / "out")

    assert np.array_equal(decoded(joined(tmp_path / "out" / "flac")), decoded(source))


@pytest.mark.parametrize("codec", Codec)
def test_the_sum_of_the_segments_is_the_length_of_the_source(tmp_path: Path, codec: Codec) -> None:
    made = render(wav(tmp_path / "x.wav", seconds=20), Order(codec=codec), tmp_path / "out")
    seconds = [segment.ticks / made.rungs[0].sample_rate for segment in made.segments[0] if segment.number]

    assert [round(one) for one in seconds] == [6, 6, 6, 2]
    assert sum(seconds) == pytest.approx(20, abs=0.1)


def test_the_same_file_makes_the_same_bytes(tmp_path: Path) -> None:
    """Which is what lets a second attempt go on under the playlist of the first."""
    source = wav(tmp_path / "x.wav", seconds=7)
    for name in ("one", "other"):
        render(source, Order(ladder=True), tmp_path / name)

    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "other" / path.relative_to(tmp_path / "one")).read_bytes()


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("seconds", [1 / 44_100, 0.001])
def test_the_shortest_sounds_are_one_segment(tmp_path: Path, codec: Codec, seconds: float) -> None:
    made = render(wav(tmp_path / "x.wav", seconds=seconds), Order(codec=codec), tmp_path / "out")

    assert [segment.number for segment in made.segments[0] if segment.number] == [1]
    assert made.loudness.integrated_lufs is None
    assert len(Waveform.parse((tmp_path / "out" / "waveform.dat").read_bytes()).pairs) == 1


def test_a_file_may_change_its_rate_and_channels_on_the_way(tmp_path: Path) -> None:
    """As MP3 files that were put together do. It stays what it was at the beginning."""
    parts = [wav(tmp_path / f"{rate}.wav", rate, channels, seconds=2) for rate, channels in [(44_100, 2), (22_050, 1)]]
    (tmp_path / "x.mp3").write_bytes(b"".join(encoded(part, "mp3").read_bytes() for part in parts))
    made = render(tmp_path / "x.mp3", Order(), tmp_path / "out")

    assert (made.rungs[0].sample_rate, made.rungs[0].channels) == (44_100, 2)
    assert sum(segment.ticks for segment in made.segments[0]) / 44_100 == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_floats_that_are_no_sound_harm_no_encoder(tmp_path: Path, codec: Codec, value: float) -> None:
    source = encoded(wav(tmp_path / "x.wav", seconds=1), "float.wav")
    content = bytearray(source.read_bytes())
    for at in range(len(content) - 200_000, len(content), 4_000):
        content[at : at + 4] = struct.pack("<f", value)
    source.write_bytes(content)

    assert render(source, Order(codec=codec), tmp_path / "out").segments[0]


# Loudness


def measured(path: Path) -> tuple[float, float, float]:
    """Integrated loudness, range and true peak, by libav's own filter."""
    graph = Graph()
    with av.open(path) as container:
        stream = container.streams.audio[0]
        source = graph.add_abuffer(template=stream)
        meter = graph.add("ebur128", "peak=true:metadata=1:framelog=quiet")
        sink = graph.add("abuffersink")
        graph.link_nodes(source, meter, sink).configure()
        told: dict[str, str] = {}
        for frame in [*container.decode(stream), None]:
            graph.push(frame)
            try:
                while True:
                    told = graph.pull().metadata or told
            except (av.BlockingIOError, av.EOFError):
                pass
    peak = 20 * np.log10(float(told["lavfi.r128.true_peak"]))
    return float(told["lavfi.r128.I"]), float(told["lavfi.r128.LRA"]), float(peak)


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (48_000, 1), (8_000, 1), (96_000, 6)])
def test_loudness_is_that_of_ebur128(tmp_path: Path, rate: int, channels: int) -> None:
    source = wav(tmp_path / "x.wav", rate, channels, seconds=5.05)
    made = render(source, Order(), tmp_path / "out")

    loudness = made.loudness
    found = (loudness.integrated_lufs, loudness.range_lu, loudness.true_peak_dbtp)
    assert found == pytest.approx(measured(source), abs=0.1)


def test_what_is_asked_to_be_at_a_loudness_is_at_it(tmp_path: Path) -> None:
    source = wav(tmp_path / "x.wav", seconds=5)
    made = render(source, Order(codec=Codec.FLAC, loudness=-20.0), tmp_path / "out")

    assert measured(joined(tmp_path / "out" / "flac"))[0] == pytest.approx(-20, abs=0.1)
    assert made.loudness.integrated_lufs == pytest.approx(measured(source)[0], abs=0.1)
    assert made.loudness.target_lufs == -20.0


def test_true_peaks_keep_a_decibel_away_from_full_scale(tmp_path: Path) -> None:
    """It then stays below the loudness that was asked for: no limiter squeezes it."""
    made = render(wav(tmp_path / "x.wav", seconds=5), Order(codec=Codec.FLAC, loudness=-5.0), tmp_path / "out")
    integrated, _, peak = measured(joined(tmp_path / "out" / "flac"))

    assert peak == pytest.approx(-1.0, abs=0.1)
    assert made.loudness.integrated_lufs is not None
    assert integrated == pytest.approx(made.loudness.integrated_lufs + made.loudness.gain_db, abs=0.1)
    assert integrated < -5


def test_silence_has_no_loudness_and_is_not_made_louder(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "x.wav"), "wb") as file:
        file.setparams((2, 2, 44_100, 0, "NONE", ""))
        file.writeframes(bytes(44_100 * 4 * 2))
    made = render(tmp_path / "x.wav", Order(codec=Codec.FLAC, loudness=-14.0), tmp_path / "out")

    assert (made.loudness.integrated_lufs, made.loudness.true_peak_dbtp, made.loudness.gain_db) == (None, None, 0.0)
    assert not decoded(joined(tmp_path / "out" / "flac")).any()


# Waveforms


def test_a_waveform_is_audiowaveform_s_arithmetic(tmp_path: Path) -> None:
    """The mean of the channels, rounded to zero; of 256 samples the lowest and the highest."""
    source = sound(tmp_path / "x.wav", 44_100, 2, 2, seconds=1)
    render(source, Order(), tmp_path / "out")
    drawn = Waveform.parse((tmp_path / "out" / "waveform.dat").read_bytes())

    mixed = np.trunc((decoded(source) >> 16).sum(axis=1) / 2).astype(np.int64)
    rows = [mixed[at : at + 256] for at in range(0, len(mixed), 256)]
    assert drawn.pairs.tolist() == [[row.min(), row.max()] for row in rows]
    assert (drawn.sample_rate, drawn.samples_per_pixel) == (44_100, 256)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([[-32_768, 32_767]], np.int16), [-32_768, 32_767]),
        (np.array([[-(2**31), 2**31 - 1]], np.int32), [-32_768, 32_767]),
        (np.array([[0, 255]], np.uint8), [-32_768, 32_512]),
        (np.array([[-1.5, 0.5]], np.float32), [-32_768, 16_383]),
        (np.array([[-1.0, 0.5], [-1.0, -0.5]], np.float64), [-32_767, 0]),
        (np.array([[-3, 0], [0, 3]], np.int16), [-1, 1]),
    ],
)
def test_samples_of_every_type_become_sixteen_bits(samples: NDArray[np.int16], expected: list[int]) -> None:
    drawing = Drawing(8_000)
    drawing.add(samples)

    assert drawing.finish().pairs.tolist() == [expected]


def test_a_waveform_can_be_had_coarser_and_not_finer() -> None:
    pairs = np.array([[-number, number] for number in range(10)], np.int16)
    fine = Waveform(44_100, 256, pairs)

    assert fine.at(512).pairs[:, 1].tolist() == [1, 3, 5, 7, 9]
    assert fine.at(1_024).pairs[:, 0].tolist() == [-3, -7, -9]
    assert fine.at(384).pairs[:, 1].tolist() == [1, 2, 4, 5, 7, 8, 9]
    assert fine.at(None).pairs.tolist() == pairs.tolist()
    with pytest.raises(Invalid):
        fine.at(255)


def test_long_waveforms_are_stored_coarser() -> None:
    drawing = Drawing(8_000)
    for _ in range(600):
        drawing.add(np.ones((1, 1 << 19), np.int16))

    drawn = drawing.finish()
    assert (drawn.samples_per_pixel, len(drawn.pairs)) == (512, 614_400)


def test_waveforms_have_the_form_of_audiowaveform() -> None:
    drawn = Waveform(48_000, 512, np.array([[-5, 7], [-1, 0]], np.int16))

    assert drawn.binary() == struct.pack("<iIiiIi", 2, 0, 48_000, 512, 2, 1) + struct.pack("<4h", -5, 7, -1, 0)
    assert msgspec.json.decode(msgspec.json.encode(drawn.json())) == {
        "version": 2,
        "channels": 1,
        "sample_rate": 48_000,
        "samples_per_pixel": 512,
        "bits": 16,
        "length": 2,
        "data": [-5, 7, -1, 0],
    }


# What comes with the sound


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    ffmpeg("-v", "error", "-f", "lavfi", "-i", "color=c=red:s=64x64", "-frames:v", "1", tmp_path / "cover.png")
    return tmp_path / "cover.png"


@pytest.mark.parametrize("kind", ["mp3", "flac", "m4a"])
def test_the_picture_and_the_tags_of_a_file_are_kept(tmp_path: Path, picture: Path, kind: str) -> None:
    source = encoded(wav(tmp_path / "x.wav"), kind)
    both = tmp_path / f"both.{kind}"
    options = (
        "-map",
        "0",
        "-map",
        "1",
        "-c",
        "copy",
        "-disposition:v:0",
        "attached_pic",
        "-metadata",
        "title=Ein Lied",
    )
    ffmpeg("-v", "error", "-i", source, "-i", picture, *options, both)
    made = render(both, Order(), tmp_path / "out")

    assert made.cover == "image/png"
    assert (tmp_path / "out" / "cover").read_bytes() == picture.read_bytes()
    assert made.media.tags["title"] == "Ein Lied"
    assert "encoder" not in made.media.tags


# What cannot be done


def test_an_upload_opens_no_other_file(tmp_path: Path) -> None:
    """Neither playlists nor scripts nor what an MP4 file refers to."""
    wav(tmp_path / "real.wav")
    for number, text in enumerate(
        [
            f"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nfile://{tmp_path}/real.wav\n#EXT-X-ENDLIST\n",
            f"ffconcat version 1.0\nfile '{tmp_path}/real.wav'\n",
            f"[playlist]\nFile1={tmp_path}/real.wav\n",
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
            "<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'/>",
        ]
    ):
        (tmp_path / str(number)).write_text(text)
        with pytest.raises(NotAudio):
            render(tmp_path / str(number), Order(), tmp_path / f"out-{number}")


def test_what_lasts_longer_than_it_says_is_stopped(tmp_path: Path) -> None:
    """A length that nobody declares is found out while decoding."""
    source = encoded(wav(tmp_path / "x.wav", seconds=10), "ogg")
    with pytest.raises(AttemptFailed, match="longer than"):
        render(source, Order(), tmp_path / "out", Limits(duration_max_s=5))


def test_a_full_disk_is_said_to_be_full(tmp_path: Path) -> None:
    with pytest.raises(AttemptFailed, match="full"):
        render(wav(tmp_path / "x.wav"), Order(), tmp_path / "out", Limits(disk_free_bytes_min=1 << 60))
