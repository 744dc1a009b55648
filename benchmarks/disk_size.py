"""P11: how small events are on disk once they are sealed, as a ratio to the bytes that were sent."""

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from benchmarks import events
from benchmarks.figures import Figure, at_least
from benchmarks.ingest import MAINSTEM
from benchmarks.load import HttpAnswers, closed_loop
from benchmarks.server import BATCH_PATH, Server
from benchmarks.software import Missing
from benchmarks.stage import Stage
from benchmarks.table import Row, absent, row, times
from mainstem.demo import fetch_flights, read_flights
from mainstem.errors import MainstemError

SYNTHETIC_EVENTS = 1_000_000
BATCH = 1_000


def compression(stage: Stage) -> Iterator[Row]:
    """P11: the flights, and the synthetic events, each on a server of its own that seals what is a second old."""
    what = "bytes sent : sealed segments on disk"
    try:
        yield _measured(stage, f"{what}, 336,776 flights", list(_flights()))
    except (Missing, MainstemError) as reason:
        yield absent("P11", f"{what}, flights", MAINSTEM, reason)
    yield _measured(stage, f"{what}, {SYNTHETIC_EVENTS:,} synthetic events", _synthetic())


def _flights() -> Iterator[bytes]:
    for batch in itertools.batched(read_flights(fetch_flights()), BATCH):
        yield msgspec.json.encode({"stream_id": "flights", "events": batch})


def _synthetic() -> list[bytes]:
    rows = events.make(SYNTHETIC_EVENTS, seed=11, first_us=time.time_ns() // 1_000, step_us=1_000)
    return [events.http_batch("synthetic", many) for many in events.batches(rows, BATCH)]


def _measured(stage: Stage, what: str, bodies: Sequence[bytes]) -> Row:
    with stage.fresh_server(seal_age_s=1) as server:
        # One connection, so that events are stored in the order they have.
        load = closed_loop(server.port, HttpAnswers, [(server.request(BATCH_PATH, body) for body in bodies)])
        if load.refused:
            raise Missing(f"{load.refused} requests were refused")
        on_disk = _sealed(server)
    sent = sum(map(len, bodies))
    note = f"{sent / 1e6:,.0f} MB : {on_disk / 1e6:,.1f} MB"
    return row("P11", what, MAINSTEM, Figure((sent / on_disk,)), times, at_least(6), note)


def _sealed(server: Server, timeout_s: float = 60) -> int:
    """Wait until everything is sealed and give the size of the segments' files."""
    deadline = time.monotonic() + timeout_s
    while server.gauge("storage_events", state="unsealed"):
        if time.monotonic() > deadline:
            raise Missing("not everything was sealed in a minute")
        time.sleep(0.2)
    return segment_bytes(server.data)


def segment_bytes(data: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in (data / "log" / "segments").iterdir() if file.is_file())
