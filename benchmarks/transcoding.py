"""M1 to M4: audio files into HLS beside bare ffmpeg, and segments served beside nginx.

CPU seconds are counted, not minutes: of the whole server with all its processes, from the upload to the end of the job,
and of ffmpeg with its. They say the same on a busy machine and on a quiet one.
"""

import grp
import http.client
import os
import pwd
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import imageio_ffmpeg
import msgspec

from benchmarks import audio
from benchmarks.figures import Figure, at_least, at_most, interleave
from benchmarks.processes import HOST, Process, free_port
from benchmarks.server import Server
from benchmarks.software import Missing, debian, run
from benchmarks.stage import Stage
from benchmarks.table import Row, peer_row, per_second, row, seconds

AAC_BITS = 256_000
LADDER = (64_000, 128_000, 192_000)
CONNECTIONS = 32

_MAINSTEM = "mainstem (synced to disk before it is told)"
_FFMPEG = "ffmpeg 9 (one run each, files left unsynced)"
_BOUNDARY = "a-boundary-that-no-sound-has"
_POLL_S = 0.01
_PATIENCE_S = 600


class Job(NamedTuple):
    """A job that was done: what it cost, and when the first segment could be fetched, from the first byte sent."""

    id: str
    cpu_s: float
    first_s: float
    whole_s: float


def one_rung(stage: Stage) -> Iterator[Row]:
    """M1: one AAC rung with loudness and waveform, beside ffmpeg's encode alone and its ebur128."""
    source = _source(stage)
    with stage.fresh_server(transcode_jobs=1) as server:
        outcomes = interleave(
            stage.scale.transcodes,
            {
                "mainstem": lambda: _job(server, source, {"codec": "aac", "bitrate": str(AAC_BITS)}).cpu_s,
                "ffmpeg": lambda: _encode(stage, source, "aac", AAC_BITS) + _loudness(source),
            },
        )
    ours, theirs = Figure(tuple(outcomes["mainstem"])), Figure(tuple(outcomes["ffmpeg"]))
    what = f"{stage.scale.music_s} s of WAV into one AAC rung, CPU"
    yield row("M1", what, f"{_MAINSTEM}, with loudness and waveform", ours, seconds)
    # 1.15 times its CPU is 0.87 of its speed.
    yield peer_row("M1", what, f"{_FFMPEG}: encode, then ebur128", theirs, seconds, theirs.over(ours), at_least(0.87))


def four_rungs(stage: Stage) -> Iterator[Row]:
    """M2: a ladder of three AAC rungs and FLAC, decoded once, beside four runs of ffmpeg."""
    source = _flac(stage)
    order = {"codec": "aac", "bitrate": str(LADDER[-1]), "ladder": "true"}
    with stage.fresh_server(transcode_jobs=1) as server:
        outcomes = interleave(
            stage.scale.transcodes,
            {
                "mainstem": lambda: _job(server, source, order).cpu_s,
                "ffmpeg": lambda: (
                    sum(_encode(stage, source, "aac", bits) for bits in LADDER) + _encode(stage, source, "flac", None)
                ),
                "loudness": lambda: _loudness(source),
            },
        )
    ours, theirs = Figure(tuple(outcomes["mainstem"])), Figure(tuple(outcomes["ffmpeg"]))
    both = Figure(tuple(map(sum, zip(outcomes["ffmpeg"], outcomes["loudness"], strict=True))))
    what = f"{stage.scale.music_s} s of FLAC into a ladder of four, CPU"
    yield row("M2", what, f"{_MAINSTEM}, with loudness and waveform", ours, seconds)
    yield peer_row("M2", what, f"{_FFMPEG}: four encodes", theirs, seconds, theirs.over(ours))
    yield peer_row("M2", what, f"{_FFMPEG}: four encodes, then ebur128", both, seconds, both.over(ours), at_least(1.0))


def first_segment(stage: Stage) -> Iterator[Row]:
    """M3: how soon a player that waits at the live address has something to play."""
    source = _source(stage)
    with stage.fresh_server(transcode_jobs=1) as server:
        jobs = [_job(server, source, {"quality_profile": "high"}) for _ in range(stage.scale.transcodes + 1)][1:]
        ladders = [_job(server, source, {"ladder": "true"}) for _ in range(stage.scale.transcodes)]
    what = f"{stage.scale.music_s} s of WAV ({source.stat().st_size / 1e6:.0f} MB): "
    for name, done, goal in (("one rung", jobs, at_most(2)), ("a ladder", ladders, at_most(2))):
        firsts, wholes = (Figure(tuple(getattr(job, field) for job in done)) for field in ("first_s", "whole_s"))
        yield row("M3", f"{what}upload to the first segment fetched, {name}", _MAINSTEM, firsts, seconds, goal)
        yield row("M3", f"{what}upload to the end of the job, {name}", _MAINSTEM, wholes, seconds)


def serving(stage: Stage) -> Iterator[Row]:
    """M4: segments and playlists to players, beside nginx with the same files."""
    source = _source(stage)
    with stage.fresh_server(transcode_jobs=1) as server:
        job = _job(server, source, {"codec": "aac", "bitrate": "192000"})
        files = {name: _get(server, f"/v1/stream/hls/{job.id}/{name}") for name in ("segment_00002.ts", "index.m3u8")}
        nginx = Nginx(stage.fresh_folder("nginx"), files)
        try:
            for name, what in (("segment_00002.ts", "a segment"), ("index.m3u8", "a playlist")):
                urls = {"mainstem": server.url(f"/v1/stream/hls/{job.id}/{name}"), "nginx": nginx.url(name)}
                yield from _beside(stage, f"{what} of {len(files[name]) / 1e3:,.1f} kB", len(files[name]), urls)
        finally:
            nginx.process.stop()


def _beside(stage: Stage, what: str, size: int, urls: Mapping[str, str]) -> Iterator[Row]:
    """Requests a second, and the bytes that they are."""

    def load(url: str) -> float:
        return stage.wrk().get(url, connections=CONNECTIONS, seconds=stage.scale.round_s).rate

    outcomes = interleave(stage.scale.rounds, {name: partial(load, url) for name, url in urls.items()})
    ours, theirs = Figure(tuple(outcomes["mainstem"])), Figure(tuple(outcomes["nginx"]))
    shown = per_second("req/s")
    what = f"{what}, {CONNECTIONS} connections"
    yield row("M4", what, "mainstem (one process)", ours, shown, note=f"{ours.median * size / 1e6:,.0f} MB/s")
    yield peer_row(
        "M4",
        what,
        "nginx (sendfile, open_file_cache; a worker a core)",
        theirs,
        shown,
        ours.over(theirs),
        note=f"{theirs.median * size / 1e6:,.0f} MB/s",
    )


# What is transcoded


def _source(stage: Stage) -> Path:
    path = stage.folder / "music.wav"
    return path if path.exists() else audio.make(path, stage.scale.music_s)


def _flac(stage: Stage) -> Path:
    path = stage.folder / "music.flac"
    if not path.exists():
        run(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-i", _source(stage), path)
    return path


# mainstem


def _job(server: Server, source: Path, order: Mapping[str, str]) -> Job:
    """Upload, follow at the live address, and wait for the end. Raises Missing."""
    body = _form(source, order)
    server.process.settle()
    before, begin = server.process.tree_cpu_s(), time.perf_counter()
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}", "X-API-Key": server.key}
    job = str(_json(_ask(connection, "POST", "/v1/stream/transcode", body, headers))["job_id"])
    live, first_s = f"/v1/stream/live/{job}", None
    while time.perf_counter() < begin + _PATIENCE_S:
        state = _json(_ask(connection, "GET", f"/v1/stream/job/{job}"))
        if first_s is None and b"segment_00001" in _ask(connection, "GET", f"{live}/index.m3u8"):
            if not _ask(connection, "GET", f"{live}/segment_00001.ts"):
                raise Missing("the first segment is empty")
            first_s = time.perf_counter() - begin
        if state["status"] == "Completed" and first_s is not None:
            return Job(job, server.process.tree_cpu_s() - before, first_s, time.perf_counter() - begin)
        if state["status"] not in ("Pending", "Processing", "Completed"):
            raise Missing(f"the job ended as {state['status']}")
        # Asking costs the server something, too: often until something can be played, rarely then.
        time.sleep(_POLL_S if first_s is None else 50 * _POLL_S)
    raise Missing("the job did not end")


def _form(source: Path, order: Mapping[str, str]) -> bytes:
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in order.items()
    ]
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{source.name}"\r\n\r\n'
    return b"".join([*parts, head.encode(), source.read_bytes(), f"\r\n--{_BOUNDARY}--\r\n".encode()])


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    connection.request(method, path, body, dict(headers or {}))
    answer = connection.getresponse()
    content = answer.read()
    if answer.status >= 400 and not path.startswith("/v1/stream/live/"):
        raise Missing(f"mainstem answered {answer.status} to {path}: {content[:200]!r}")
    return content if answer.status < 400 else b""


def _json(content: bytes) -> dict[str, object]:
    return msgspec.json.decode(content, type=dict[str, object])


def _get(server: Server, path: str) -> bytes:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
    try:
        return _ask(connection, "GET", path)
    finally:
        connection.close()


# ffmpeg


def _encode(stage: Stage, source: Path, codec: str, bits: int | None) -> float:
    """CPU seconds of an encode into HLS."""
    kind = ("-hls_segment_type", "fmp4") if codec == "flac" else ()
    rate = () if bits is None else ("-b:a", bits)
    hls = ("-f", "hls", "-hls_time", 6, "-hls_list_size", 0, *kind)
    folder = stage.fresh_folder("ffmpeg")
    return _ffmpeg("-i", source, "-c:a", codec, *rate, *hls, folder / "index.m3u8")


def _loudness(source: Path) -> float:
    return _ffmpeg("-i", source, "-af", "ebur128=peak=true:framelog=quiet", "-f", "null", "-")


def _ffmpeg(*arguments: object) -> float:
    """CPU seconds of a run."""
    before = os.times()
    run(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *arguments)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


# nginx and wrk


class Nginx:
    """nginx as it serves files best, with one worker for each core."""

    def __init__(self, folder: Path, files: Mapping[str, bytes]) -> None:
        program = debian("nginx", ["nginx", "nginx-common", "libpcre2-8-0"], ["usr/sbin"])
        self._port = free_port()
        root = folder / "root"
        root.mkdir()
        for name, content in files.items():
            (root / name).write_bytes(content)
        config = folder / "nginx.conf"
        facts = {"user": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name, "host": HOST}
        config.write_text(_NGINX.format(port=self._port, folder=folder, workers=os.cpu_count(), **facts))
        argv = [program.path, "-e", folder / "error.log", "-p", folder, "-c", config]
        self.process = Process(argv, folder, environment=program.environment)
        self.process.wait(self._answers)

    def url(self, name: str) -> str:
        return f"http://{HOST}:{self._port}/{name}"

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=1)
        try:
            connection.request("GET", "/index.m3u8")
            return connection.getresponse().status == 200
        finally:
            connection.close()


_NGINX = """
user {user} {group};
daemon off;
worker_processes {workers};
pid {folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    open_file_cache max=100;
    etag on;
    types {{ application/vnd.apple.mpegurl m3u8; video/mp2t ts; }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen {host}:{port}; root {folder}/root; }}
}}
"""
