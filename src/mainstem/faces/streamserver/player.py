"""The page that plays one job: all that it loads comes from this server."""

from collections.abc import Iterator, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

import msgspec

from mainstem.faces.streamserver import wire
from mainstem.transcode import Job, JobState, Rung

HTML = "text/html; charset=utf-8"
POLICY = (
    "content-security-policy",
    (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
)
_CODECS = {"aac": "AAC", "mp3": "MP3", "opus": "Opus", "flac": "FLAC", "vorbis": "Vorbis", "alac": "ALAC"}


class _Data(msgspec.Struct):
    """What the script of the page starts with."""

    status: str
    is_final: bool
    duration_s: float | None
    playlist: str
    live: str
    events: str
    waveform: str


def page(job: Job, query: str) -> bytes:
    """The page, with what is known of the job. `query` opens its media to the page where that is needed."""
    title = job.media.tags.get("title") or job.track_id
    data = _Data(
        status=wire.status_of(job),
        is_final=job.state.final,
        duration_s=job.media.duration_s,
        playlist=_address(f"hls/{job.id}/master.m3u8", query),
        live=_address(f"live/{job.id}/index.m3u8", query),
        events=_address(f"job/{job.id}/events", query),
        waveform=_address(f"job/{job.id}/waveform.json", query),
    )
    text = _template("player.html").substitute(
        title=escape(title),
        by=escape(" · ".join(_credits(job))),
        status=escape(_said(job)),
        length=_clock_time(job.media.duration_s),
        cover=_cover(job, query),
        facts="".join(f"<div><dt>{escape(name)}</dt><dd>{escape(fact)}</dd></div>" for name, fact in _facts(job)),
        playlist=escape(data.playlist),
        # Inside of a script element nothing is escaped, so no tag may begin there.
        data=msgspec.json.encode(data).decode().replace("<", "\\u003c"),
    )
    return text.encode()


def refusal(words: str) -> bytes:
    """What a person sees in place of the page: a link that has ended, or a job that is gone."""
    return _template("refusal.html").substitute(words=escape(words)).encode()


def _address(path: str, query: str) -> str:
    return f"/v1/stream/{path}?{query}" if query else f"/v1/stream/{path}"


def _cover(job: Job, query: str) -> str:
    if job.cover is None or job.state is not JobState.COMPLETED:
        return ""
    return f'<img class="cover" src="{escape(_address(f"job/{job.id}/cover", query))}" alt="" width="160" height="160">'


def _credits(job: Job) -> Iterator[str]:
    """Who made it and what it is part of, as far as the file says."""
    for tag in ("artist", "album", "date"):
        if job.media.tags.get(tag):
            yield job.media.tags[tag]


def _said(job: Job) -> str:
    match job.state:
        case JobState.COMPLETED:
            return ""
        case JobState.FAILED:
            return f"It could not be played: {job.error}"
        case JobState.CANCELLED:
            return "It was cancelled."
        case JobState.PENDING:
            return "Waiting to be made ready…"
        case JobState.PROCESSING:
            return f"Being made ready: {job.progress:.0f} %"


def _facts(job: Job) -> Iterator[tuple[str, str]]:
    media = job.media
    yield "Plays as", _plays_as([rung for rung in job.rungs if rung.in_master])
    codec = "PCM" if media.codec.startswith("pcm_") else _CODECS.get(media.codec, media.codec)
    yield "Sent as", f"{codec}, {media.sample_rate / 1_000:g} kHz, {_channels(media.channels)}"
    if job.loudness is not None and job.loudness.integrated_lufs is not None:
        yield "Loudness", f"{_signed(job.loudness.integrated_lufs)} LUFS"
        if job.loudness.range_lu is not None:
            yield "Range", f"{job.loudness.range_lu:.1f} LU"
        if job.loudness.true_peak_dbtp is not None:
            yield "True peak", f"{_signed(job.loudness.true_peak_dbtp)} dBTP"


def _plays_as(rungs: Sequence[Rung]) -> str:
    """`AAC, 256 kbit/s`, or of a ladder `AAC, 64 to 192 kbit/s; FLAC`."""
    rates: dict[str, list[int]] = {}
    for rung in rungs:
        rates.setdefault(_CODECS[rung.codec], []).extend([rung.bitrate // 1_000] if rung.bitrate else [])
    return "; ".join(f"{codec}{_rates(kbits)}" for codec, kbits in rates.items())


def _rates(kbits: Sequence[int]) -> str:
    if not kbits:
        return ""
    least, most = min(kbits), max(kbits)
    return f", {least} kbit/s" if least == most else f", {least} to {most} kbit/s"


def _signed(number: float) -> str:
    return f"{number:.1f}".replace("-", "\N{MINUS SIGN}")


def _channels(count: int) -> str:
    return {1: "mono", 2: "stereo"}.get(count, f"{count} channels")


def _clock_time(seconds: float | None) -> str:
    if seconds is None:
        return "–:––"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


@cache
def _template(name: str) -> Template:
    return Template(files("mainstem.faces.streamserver").joinpath(name).read_text("utf-8"))
