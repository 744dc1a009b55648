"""P6: from the moment an event was due to its acknowledgement, at a steady rate; and that a reader then finds it."""

from collections.abc import Iterator

import msgspec

from benchmarks import events
from benchmarks.figures import Figure, at_least, at_most
from benchmarks.ingest import MAINSTEM
from benchmarks.load import open_loop
from benchmarks.server import BATCH_PATH, EVENTS_PATH, Server
from benchmarks.stage import Stage
from benchmarks.table import Row, milliseconds, per_second, row

READS = 200


def acknowledgement(stage: Stage) -> Iterator[Row]:
    """P6: open loop, 10,000 single events a second, and 100,000 in bodies of 100."""
    rows, server = stage.many_streams()[0][1], stage.server()
    singles = [server.request(EVENTS_PATH, events.http_single("steady", event)) for event in rows]
    hundreds = [server.request(BATCH_PATH, events.http_batch("steady", many)) for many in events.batches(rows, 100)]
    yield from _offered(stage, "10,000 ev/s offered one by one", singles, 10_000, 256)
    yield from _offered(stage, "100,000 ev/s offered in bodies of 100", hundreds, 1_000, 64)
    yield _readable(server)


def _offered(stage: Stage, what: str, requests: list[bytes], rate_per_s: float, connections: int) -> Iterator[Row]:
    server, loads = stage.server(), []
    for _ in range(stage.scale.rounds):
        server.process.settle()
        loads.append(
            open_loop(
                server.port, requests, rate_per_s=rate_per_s, seconds=stage.scale.round_s, connections=connections
            )
        )
    answered = min(load.answers / load.seconds / rate_per_s for load in loads)
    note = f"at least {answered:.0%} of the rate answered"
    yield row("P6", f"{what}: p50", MAINSTEM, Figure(tuple(load.p50_ms for load in loads)), milliseconds, note=note)
    yield row("P6", f"{what}: p95", MAINSTEM, Figure(tuple(load.p95_ms for load in loads)), milliseconds, at_most(10))
    yield row("P6", f"{what}: p99", MAINSTEM, Figure(tuple(load.p99_ms for load in loads)), milliseconds, at_most(50))


def _readable(server: Server) -> Row:
    """Send an event of a type of its own, look for it as soon as it is acknowledged, many times over."""
    found = 0
    for number in range(READS):
        event = {"stream_id": "readable", "event_type": f"only-{number}", "data": {"number": number}}
        acknowledged = server.post(EVENTS_PATH, event)
        seen = server.get("/v2/query/events", {"stream_id": "readable", "event_type": f"only-{number}"})
        found += msgspec.json.encode(acknowledged["event_id"]) in msgspec.json.encode(seen["events"])
    figure = Figure((float(found),))
    return row(
        "P6", f"of {READS} acknowledged, readable at once", MAINSTEM, figure, per_second("found"), at_least(READS)
    )
