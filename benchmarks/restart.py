"""P12: how soon a server with many events is back, and that a kill under full load loses nothing acknowledged."""

import itertools
import threading
import time
from collections.abc import Iterator

from benchmarks import events
from benchmarks.figures import Figure, at_most
from benchmarks.ingest import MAINSTEM
from benchmarks.load import HttpAnswers, Load, closed_loop
from benchmarks.server import BATCH_PATH, Server
from benchmarks.stage import Stage
from benchmarks.table import Row, row, seconds

CONNECTIONS = 16


def restarts(stage: Stage) -> Iterator[Row]:
    """P12, on the server that holds whatever the run has stored so far."""
    server = stage.server()
    while (stored := server.stored()) < stage.scale.restart_events:
        stage.post_thousands(20)
    server.process.settle()
    size = f"{stored / 1e6:,.1f}M events stored"
    starts = []
    for _ in range(stage.scale.rounds):
        server.process.stop()
        starts.append(server.start())
    yield row("P12", f"restart, {size}: ready", MAINSTEM, Figure(tuple(starts)), seconds, at_most(2))
    yield from _kills(stage, server)


def _kills(stage: Stage, server: Server) -> Iterator[Row]:
    lost, starts, acknowledged, rates = 0, [], 0, []
    for number in range(stage.scale.kills):
        stream = f"killed-{number}"
        load = _load_until_killed(stage, server, stream)
        starts.append(server.start())
        found = server.count(stream)
        acknowledged += load.answers * 1_000
        lost += max(0, load.answers * 1_000 - found)
        rates.append(load.rate * 1_000)
    figure = Figure((float(lost),))
    note = f"{stage.scale.kills} kills at {min(rates):,.0f} ev/s or more, {acknowledged:,} acknowledged"
    what = "kill -9 under full load: lost"
    yield row("P12", what, MAINSTEM, figure, lambda events: f"{events:,.0f} events", at_most(0), note)
    yield row("P12", "ready after kill -9", MAINSTEM, Figure(tuple(starts)), seconds, at_most(2))


def _load_until_killed(stage: Stage, server: Server, stream: str, after_s: float = 4) -> Load:
    """Bodies of 1,000 for one stream until the server is killed; what was answered by then was acknowledged."""
    rows = stage.many_streams()[0][1]
    requests = [server.request(BATCH_PATH, events.http_batch(stream, many)) for many in events.batches(rows, 1_000)]
    killer = threading.Timer(after_s, server.process.kill)
    killer.start()
    load = closed_loop(server.port, HttpAnswers, [itertools.cycle(requests) for _ in range(CONNECTIONS)])
    killer.join()
    time.sleep(0.1)
    return load
