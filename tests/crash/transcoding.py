"""Kill the server, its worker or a job's child without warning while jobs run and players play.

Whatever is killed and when: every job ends, finished or honestly failed; a player never finds half an output, and what
it was given once it is given again, byte for byte; nothing is left behind.
"""

import asyncio
import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import httpx
import msgspec

import sounds
from jobs import FINAL, submitted
from mainstem.clock import SECOND_US, FixedClock, system_clock
from mainstem.hlscheck import check
from mainstem.hlscheck.playlist import read_playlist
from mainstem.settings import Settings
from mainstem.storage import open_storage
from mainstem.transcode import Limits, Transcodes
from mainstem.work import Queue
from serving import Server, serving
from waiting import PATIENCE_S

ORDERS = (
    {"codec": "aac"},
    {"codec": "flac"},
    {"codec": "opus", "priority": "urgent"},
    {"codec": "mp3", "priority": "background"},
    {"ladder": "true"},
)
VICTIMS = ("server", "worker", "child")
SETTINGS = {"transcode_jobs": 2, "check": "no"}

_END_S = 300
_KILLS_A_FOLDER = 10


class Tally(msgspec.Struct):
    """What came of a run."""

    kills: dict[str, int]
    completed: int = 0
    failed: int = 0
    looks: int = 0
    """How often a player has fetched a playlist and all that it names."""


class Player(threading.Thread):
    """Plays all jobs at once, at both addresses, and believes nothing."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.jobs: list[str] = []
        self.url = ""
        self.looks = 0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._seen: dict[tuple[str, str], str] = {}

    def run(self) -> None:
        while not self._stop.wait(0.02):
            for job in self.jobs:
                try:
                    # A server that is being killed breaks off, which is nobody's mistake.
                    with suppress(httpx.TransportError), httpx.Client(base_url=self.url, timeout=PATIENCE_S) as client:
                        self._look(client, job)
                except AssertionError as failure:
                    self.failures.append(f"{job}: {failure!r} {traceback.format_exc()[-600:]}")
                    return

    def finish(self) -> None:
        self._stop.set()
        self.join(60)
        assert self.failures == [], self.failures

    def _look(self, client: httpx.Client, job: str) -> None:
        for where in ("live", "hls"):
            answer = client.get(f"/v1/stream/{where}/{job}/index.m3u8")
            assert answer.status_code in (200, 400, 404), f"{where} playlist: {answer.status_code} {answer.text}"
            if answer.status_code != 200:
                continue
            playlist, findings = read_playlist(answer.content, where)
            assert [found for found in findings if found.rule != "playlist.empty"] == [], findings
            assert where == "live" or playlist.has_ended
            maps = {segment.map_uri for segment in playlist.segments if segment.map_uri}
            for name in [*maps, *(segment.uri for segment in playlist.segments)]:
                self._fetch(client, job, where, name)
            self.looks += 1

    def _fetch(self, client: httpx.Client, job: str, where: str, name: str) -> None:
        answer = client.get(f"/v1/stream/{where}/{job}/{name}")
        if answer.status_code == 404 and where == "live":
            # It may have failed since its playlist was fetched.
            assert client.get(f"/v1/stream/live/{job}/index.m3u8").status_code == 404, f"{name} is named and not there"
            return
        assert answer.status_code == 200, f"{where} {name}: {answer.status_code}"
        found = sha256(answer.content).hexdigest()
        assert self._seen.setdefault((job, name), found) == found, f"{where} {name} has changed"


def kill_transcoders(folder: Path, kills: int, seed: int) -> Tally:
    """So many kills, each at a random moment of two new jobs; then all come to their end, and we look what is left."""
    chance, tally, player = random.Random(seed), Tally({}), Player()
    sources = [sounds.wav(folder / f"{seconds}.wav", seconds=seconds) for seconds in (1, 14, 40)]
    children: set[int] = set()
    player.start()
    server_of = serving(folder / "data", **SETTINGS)
    server = server_of.__enter__()
    try:
        for _ in range(kills):
            player.url = server.url
            with server.client(None) as client:
                for _ in range(2):
                    job = submitted(client, chance.choice(sources), **chance.choice(ORDERS))
                    player.jobs = [*player.jobs, job]
            time.sleep(chance.uniform(0, 2.5))
            children.update(_descendants(server.process.pid))
            # Where all is done already there is no child, and between two workers none: then another dies.
            victim = next(one for one in chance.sample(VICTIMS, len(VICTIMS)) if _kill(server, one))
            tally.kills[victim] = tally.kills.get(victim, 0) + 1
            if server.process.poll() is not None or victim == "server":
                server_of.__exit__(None, None, None)
                server_of = serving(folder / "data", **SETTINGS)
                server = server_of.__enter__()
        player.url = server.url
        _await_ends(server, player.jobs)
        player.finish()
        _judge(server, player.jobs, tally)
        children.update(_descendants(server.process.pid))
        assert server.stop() == 0
    finally:
        server_of.__exit__(None, None, None)
    tally.looks = player.looks
    assert [pid for pid in children if _is_transcoder(pid)] == []
    asyncio.run(_look_at_what_is_left(folder / "data"))
    return tally


def _kill(server: Server, victim: str) -> bool:
    """Whether there was one to kill."""
    if victim == "server":
        server.process.kill()
        server.process.wait()
        return True
    wanted = b"transcode.child" if victim == "child" else b"work"
    for pid in _descendants(server.process.pid):
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if wanted in command and (victim == "child") == (b"transcode.child" in command):
                os.kill(pid, signal.SIGKILL)
                return True
    return False


def _descendants(pid: int) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                child = int(path.parent.name)
                yield child
                yield from _descendants(child)


def _is_transcoder(pid: int) -> bool:
    with suppress(OSError):
        return b"mainstem" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _await_ends(server: Server, jobs: list[str]) -> None:
    deadline = time.monotonic() + _END_S
    with server.client(None) as client:
        for job in jobs:
            while not _has_ended(status := client.get(f"/v1/stream/job/{job}").json()["status"]):
                assert time.monotonic() < deadline, f"{job} is still {status}"
                time.sleep(0.1)


def _has_ended(status: str) -> bool:
    return status in FINAL or status.startswith("Failed(")


def _judge(server: Server, jobs: list[str], tally: Tally) -> None:
    """What is finished is whole; what failed says why and shows nothing."""
    with server.client(None) as client:
        for job in jobs:
            told = client.get(f"/v1/stream/job/{job}").json()
            media = f"{server.url}/v1/stream/hls/{job}"
            if told["status"] == "Completed":
                tally.completed += 1
                assert told["progress"] == 100.0
                for address in (
                    f"{media}/master.m3u8",
                    f"{media}/index.m3u8",
                    f"{media}/index.m3u8".replace("hls", "live"),
                ):
                    report = check(address)
                    assert report.findings == [], (told, report.findings)
                    assert abs(report.renditions[0].duration_s - told["media"]["duration_s"]) < 0.1
            else:
                tally.failed += 1
                assert told["error"], told
                assert told["attempt"] == 3, told
                assert client.get(f"{media}/index.m3u8").status_code == 404


async def _look_at_what_is_left(data: Path) -> None:
    """Once the sweeps of the next two hours are over: one run of each job that completed, and no more."""
    clock = FixedClock(system_clock() + 7_200 * SECOND_US)
    async with open_storage(Settings(data=data), clock) as storage:
        queue = Queue(storage.records, clock)
        transcodes = Transcodes(
            storage.records, storage.blobs, queue, clock, scratch=storage.scratch, bytes_max=1, limits=Limits()
        )
        await transcodes.sweep()
        page = await transcodes.jobs(None, limit=1_000)
        completed = {job.id for job in page.jobs if job.state == "Completed"}
        runs = {tuple(name.split("/")[1:3]) async for name in storage.blobs.list("transcodes/")}
        assert {job for job, _ in runs} == completed
        assert len(runs) == len(completed), f"runs beside the one that was published: {runs}"
        assert list(storage.scratch.iterdir()) == []


def main(kills: int, seed: int) -> None:
    import tempfile

    for done in range(0, kills, _KILLS_A_FOLDER):
        with tempfile.TemporaryDirectory() as folder:
            tally = kill_transcoders(Path(folder), min(_KILLS_A_FOLDER, kills - done), seed + done)
        print(f"{done + _KILLS_A_FOLDER} kills of transcoding: {tally}", flush=True)  # noqa: T201
