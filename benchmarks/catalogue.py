"""C1: lists of a catalogue of 100,000 streams, page by page, beside the same lists from FastAPI and SQLAlchemy.

Both keep the same rows in SQLite, know who asks by a signed token, and answer one another's JSON but for the fields
that only mainstem has. Before anything is measured both must answer every list with the same streams and total.
"""

import http.client
import random
import secrets
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from urllib.parse import urlencode

import jwt
import msgspec
from sqlalchemy import create_engine

from benchmarks.figures import Figure, at_least, at_most, interleave
from benchmarks.ingest import MAINSTEM
from benchmarks.load import HttpAnswers, Load, closed_loop
from benchmarks.plain_catalogue import Base
from benchmarks.processes import HOST, Process, free_port
from benchmarks.server import Server
from benchmarks.stage import Stage
from benchmarks.table import Row, milliseconds, peer_row, per_second, row

STREAMS = 100_000
CONNECTIONS = 16
ROUNDS = 3
PLAIN_CATALOGUE = Path(__file__).with_name("plain_catalogue.py")
PLAIN = "FastAPI + SQLAlchemy (SQLite)"

_SECOND_US = 1_000_000
_PLACES = [f"City {number}" for number in range(300)]
_WORDS = "march downtown hall river bridge night walk police news helicopter camera street storm rally music".split()  # noqa: SIM905

_COMMON = sorted({word[begin:end] for word in _WORDS for begin in range(7) for end in range(begin + 4, len(word) + 1)})
"""Words, and parts of them of four letters and more. Each is found in half of all streams, or somewhat less."""

NEVER_ASKED_FOR = "page 1 of a common word never asked for"
LISTS: dict[str, list[dict[str, object]]] = {
    "page 1": [{}],
    "page 1,000": [{"page": 1_000}],
    "page 1 of those that are live": [{"status": "live"}],
    "page 400 of a status and platform": [{"status": "offline", "platform": "TikTok", "page": 400}],
    "page 1 of what a link is found in": [{"search": "https://www.tiktok.com/@user99"}],
    "page 1 of what a common word is found in": [{"search": "helicopter"}],
    "page 1,000 of what a common word is found in": [{"search": "helicopter", "page": 1_000}],
    NEVER_ASKED_FOR: [{"search": word} for word in _COMMON],
}
"""What is asked for by its name in the table, over and over; but what was never asked for is asked for once."""


class Plain:
    """The peer, running."""

    def __init__(self, folder: Path, file: Path) -> None:
        self.port = free_port()
        secret = secrets.token_urlsafe(32)
        self.token = jwt.encode({"sub": "8", "exp": int(time.time()) + 86_400}, secret)
        argv = [sys.executable, str(PLAIN_CATALOGUE), str(file), str(self.port), secret]
        self.process = Process(argv, folder)
        self.process.wait(lambda: b"openapi" in _get(self.port, "/openapi.json", ""), 60)


def lists(stage: Stage) -> Iterator[Row]:
    """C1: how long a list takes by itself, and how many a second both serve to sixteen clients."""
    with _both(stage) as (server, token, plain):
        for name, parameters in LISTS.items():
            paths = [f"/api/v1/streams?{urlencode(each)}" for each in parameters]
            ours, theirs = _get(server.port, paths[0], token), _get(plain.port, paths[0], plain.token)
            assert _told(ours) == _told(theirs), f"different answers to {paths[0]}"
            yield from _measured(stage, name, paths, (server.port, token), (plain.port, plain.token))


def _measured(
    stage: Stage, name: str, paths: list[str], ours: tuple[int, str], theirs: tuple[int, str]
) -> Iterator[Row]:
    once = {ours: _parts(paths), theirs: _parts(paths)}

    def load(contender: tuple[int, str], connections: int) -> Load:
        port, token = contender
        if name == NEVER_ASKED_FOR:
            requests = [iter([_request(port, path, token) for path in next(once[contender])])]
            return closed_loop(port, HttpAnswers, requests)
        repeated = [cycle([_request(port, path, token) for path in paths]) for _ in range(connections)]
        return closed_loop(port, HttpAnswers, repeated, seconds=min(stage.scale.round_s, 1))

    def measured(connections: int) -> tuple[list[Load], list[Load]]:
        loads = interleave(
            ROUNDS, {"ours": lambda: load(ours, connections), "theirs": lambda: load(theirs, connections)}
        )
        return loads["ours"], loads["theirs"]

    p95_ours, p95_theirs = (Figure(tuple(one.p95_ms for one in loads)) for loads in measured(1))
    yield row("C1", f"{name}: p95", MAINSTEM, p95_ours, milliseconds, at_most(20))
    yield peer_row("C1", f"{name}: p95", PLAIN, p95_theirs, milliseconds, p95_theirs.over(p95_ours))
    if name == NEVER_ASKED_FOR:  # many clients would ask one another's questions, and none of them be the first
        return
    what = f"{name}: {CONNECTIONS} clients"
    rate_ours, rate_theirs = (Figure(tuple(one.rate for one in loads)) for loads in measured(CONNECTIONS))
    yield row("C1", what, MAINSTEM, rate_ours, per_second("req/s"))
    yield peer_row("C1", what, PLAIN, rate_theirs, per_second("req/s"), rate_ours.over(rate_theirs), at_least(1))


def _parts(paths: list[str]) -> Iterator[list[str]]:
    """A part of the paths for each round, the first round too, which does not count; no part is like another."""
    return (paths[begin :: ROUNDS + 1] for begin in range(ROUNDS + 1))


@contextmanager
def _both(stage: Stage) -> Iterator[tuple[Server, str, Plain]]:
    """mainstem and the peer on the same streams, with a token of an administrator for each."""
    # What is made here at once would all be due for the archive after a minute, beside what is measured.
    still = {"check": "false", "transcode_jobs": 0, "archive_after_minutes": 0}
    with stage.fresh_server(**still, admin_password="benchmark-1") as server:
        _fill(server.data / "mainstem.sqlite")
        body = {"email": "admin@localhost", "password": "benchmark-1"}
        token = str(server.post("/api/v1/users/login", body)["token"])
        folder = stage.fresh_folder("plain")
        _copy(server.data / "mainstem.sqlite", folder / "plain.sqlite")
        plain = Plain(folder, folder / "plain.sqlite")
        try:
            yield server, token, plain
        finally:
            plain.process.stop()


def _fill(path: Path) -> None:
    """The streams, most of them not archived: the harder case for lists."""
    chance = random.Random(100)
    now_us = int(time.time()) * _SECOND_US
    rows = []
    for number in range(STREAMS):
        platform = chance.choice(["tiktok", "twitch", "youtube", "facebook", "instagram", "other", None])
        source = f"{' '.join(chance.choices(_WORDS, k=2))} {number}"
        link = f"https://www.{platform or 'example'}.com/@user{number}/live"
        checked_us = now_us - chance.randrange(3_000) * _SECOND_US
        rows.append(
            (
                source,
                source.casefold(),
                link,
                link,
                chance.choices(["live", "offline", "unknown"], [1, 80, 19])[0],
                platform,
                platform is not None,
                chance.choice([None, "vertical", "horizontal", "portrait"]),
                chance.choice(["video", "web", "stream"]),
                " ".join(chance.choices(_WORDS, k=5)),
                chance.choice([None, " ".join(chance.choices(_WORDS, k=8))]),
                chance.choice(_PLACES),
                "NY",
                "admin@localhost",
                chance.random() < 0.01,
                chance.random() < 0.1,
                checked_us,
                8,
                now_us - number * _SECOND_US,
                now_us - number * _SECOND_US,
            )
        )
    columns = (
        "source, source_folded, link, link_normal, status, platform, platform_detected, orientation, kind, title,"
        " notes, city, state, posted_by, is_pinned, is_archived, last_checked_us, owner, created_us, updated_us"
    )
    with sqlite3.connect(path, timeout=60) as records:
        marks = ", ".join("?" * len(rows[0]))
        records.executemany(f"INSERT INTO listings ({columns}) VALUES ({marks})", rows)
    records.close()


def _copy(ours: Path, plain: Path) -> None:
    """The same streams in the peer's tables."""
    engine = create_engine(f"sqlite:///{plain}")
    Base.metadata.create_all(engine)
    engine.dispose()
    same = (
        "id, source, link, status, platform, orientation, kind, title, notes, city, state, posted_by, is_pinned,"
        " is_archived"
    )
    times = ("started", "ended", "last_checked", "last_live", "created", "updated")
    written = ", ".join(f"strftime('%Y-%m-%d %H:%M:%f', {name}_us / 1e6, 'unixepoch')" for name in times)
    names = ", ".join(f"{name}_at" for name in times)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    with sqlite3.connect(plain) as rows:
        rows.execute("ATTACH ? AS ours", (str(ours),))
        rows.execute("INSERT INTO users VALUES (8, 'admin@localhost', 'admin', ?, ?)", (now, now))
        rows.execute(
            f"INSERT INTO streams ({same}, {names}, user_id) SELECT {same}, {written}, owner FROM ours.listings"
        )
        rows.execute("UPDATE streams SET platform = 'TikTok' WHERE platform = 'tiktok'")
        rows.execute("PRAGMA journal_mode = WAL")
    rows.close()


def _request(port: int, path: str, token: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}:{port}", f"Authorization: Bearer {token}", "", ""]
    return "\r\n".join(lines).encode()


def _get(port: int, path: str, token: str) -> bytes:
    line = http.client.HTTPConnection(HOST, port, timeout=60)
    try:
        line.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        return line.getresponse().read()
    finally:
        line.close()


class _Told(msgspec.Struct):
    streams: list[dict[str, object]]
    meta: dict[str, int]


def _told(body: bytes) -> tuple[list[object], int]:
    """Which streams, and how many on all pages."""
    told = msgspec.json.decode(body, type=_Told)
    return [stream["id"] for stream in told.streams], told.meta["total_count"]
