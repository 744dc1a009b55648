"""P1 to P4: how many events a second are taken, beside the peers."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from benchmarks import events
from benchmarks.figures import Figure, at_least, at_most, interleave
from benchmarks.load import Load
from benchmarks.server import ARROW, BATCH_PATH, EVENTS_PATH, Server
from benchmarks.software import Missing
from benchmarks.stage import Stage
from benchmarks.table import Row, absent, milliseconds, peer_row, per_second, row

MAINSTEM = f"mainstem ({Server.durability})"
EVENTS = per_second("ev/s")
REQUESTS = per_second("req/s")

type Rate = Callable[[], float]


def many_streams(stage: Stage) -> Iterator[Row]:
    """P1: bodies of 1,000 events for 32 streams; the peers in pipelines, windows and transactions of 1,000."""
    what = "32 streams, 1,000 events a request"
    peers = dict[str, tuple[float | None, Rate]]()
    for name, goal, prepare in _peers(stage):
        try:
            durability, rate = prepare()
            peers[f"{name} ({durability})"] = goal, rate
        except Missing as reason:
            yield absent("P1", what, name, reason)

    contenders: dict[str, Rate] = {MAINSTEM: lambda: stage.post_thousands().rate * 1_000}
    contenders |= {name: rate for name, (_, rate) in peers.items()}
    rounds = interleave(stage.scale.rounds, {name: partial(_settled, stage, rate) for name, rate in contenders.items()})
    ours = Figure(tuple(rounds[MAINSTEM]))
    yield row("P1", what, MAINSTEM, ours, EVENTS, at_least(500_000))
    for name, (goal, _) in peers.items():
        its = Figure(tuple(rounds[name]))
        yield peer_row("P1", what, name, its, EVENTS, ours.over(its), at_least(goal) if goal else None)
    yield from _without_a_pause(stage)


def _peers(stage: Stage) -> Iterator[tuple[str, float | None, Callable[[], tuple[str, Rate]]]]:
    """Each peer: its name, the ratio that mainstem should have, and what starts it and gives durability and rate.

    Each gets the number of connections that served it best when the benchmark was made.
    """
    streams, seconds = stage.many_streams(), stage.scale.round_s

    def redis() -> tuple[str, Rate]:
        peer = stage.redis()
        return f"{peer.durability}; pipelines", partial(peer.pipelined, streams, connections=4, seconds=seconds)

    def nats(sync_interval: str) -> tuple[str, Rate]:
        peer = stage.nats(sync_interval)
        return peer.durability, partial(peer.published, streams, connections=8, seconds=seconds)

    def postgres() -> tuple[str, Rate]:
        peer = stage.postgres()
        return f"{peer.durability}; COPY", partial(peer.copied, streams, connections=4, seconds=seconds)

    yield "Redis Streams", 3, redis
    yield "NATS JetStream", 1.7, partial(nats, "2m")
    yield "NATS JetStream", None, partial(nats, "always")
    yield "PostgreSQL", 2, postgres


def _settled[Outcome](stage: Stage, measure: Callable[[], Outcome]) -> Outcome:
    """Measure when mainstem has sealed what it was sent before: neither it nor a peer pays for an earlier round."""
    stage.server().process.settle()
    return measure()


def _without_a_pause(stage: Stage) -> Iterator[Row]:
    outcome = stage.sustained()
    what = f"the same for {stage.scale.sustained_s:g} s without a pause"
    backlog = f"unsealed events {outcome.unsealed_before:,.0f} before, {outcome.unsealed_after:,.0f} after"
    yield row("P1", what, MAINSTEM, Figure((outcome.load.rate * 1_000,)), EVENTS, at_least(500_000), backlog)
    yield row("P1", f"{what}: p95 of a request", MAINSTEM, Figure((outcome.load.p95_ms,)), milliseconds)


def one_stream(stage: Stage) -> Iterator[Row]:
    """P2: bodies of 100 events, all for one stream."""

    def bodies() -> list[bytes]:
        return [events.http_batch("one", rows) for rows in events.batches(stage.many_streams()[0][1], 100)]

    measure = partial(stage.post, BATCH_PATH, "hundreds", bodies, connections=32)
    loads: list[Load] = interleave(stage.scale.rounds, {MAINSTEM: partial(_settled, stage, measure)})[MAINSTEM]
    what = "one stream, 100 events a request"
    yield row("P2", what, MAINSTEM, Figure(tuple(load.rate * 100 for load in loads)), EVENTS, at_least(250_000))
    yield row("P2", f"{what}: p95", MAINSTEM, Figure(tuple(load.p95_ms for load in loads)), milliseconds)


def single_events(stage: Stage) -> Iterator[Row]:
    """P3: one event a request, closed loop over 64 and 256 connections, beside Redis' own load generator."""
    for connections in (64, 256):
        yield from _single_events(stage, connections)


def _single_events(stage: Stage, connections: int) -> Iterator[Row]:
    what = f"one event a request, {connections} connections"
    sample = stage.many_streams()[0][1][:2_000]

    def mainstem() -> tuple[float, float]:
        load = stage.post(EVENTS_PATH, "singles", bodies, connections=connections)
        return load.rate, load.p95_ms

    def bodies() -> list[bytes]:
        return [events.http_single("single", event) for event in sample]

    contenders: dict[str, Callable[[], tuple[float, float]]] = {MAINSTEM: mainstem}
    peer = ""
    try:
        redis = stage.redis()
        peer = f"Redis Streams ({redis.durability}; XADD, redis-benchmark)"
        contenders[peer] = partial(redis.singles, sample[0], connections=connections, seconds=stage.scale.round_s)
    except Missing as reason:
        yield absent("P3", what, "Redis Streams", reason)
    rounds = interleave(stage.scale.rounds, {name: partial(_settled, stage, rate) for name, rate in contenders.items()})
    ours = Figure(tuple(rate for rate, _ in rounds[MAINSTEM]))
    ours_p95 = Figure(tuple(p95_ms for _, p95_ms in rounds[MAINSTEM]))
    yield row("P3", what, MAINSTEM, ours, REQUESTS, at_least(50_000))
    if peer:
        its = Figure(tuple(rate for rate, _ in rounds[peer]))
        yield peer_row("P3", what, peer, its, REQUESTS, ours.over(its), at_least(1))
    yield row("P3", f"{what}: p95", MAINSTEM, ours_p95, milliseconds, at_most(15))
    if peer:
        its = Figure(tuple(p95_ms for _, p95_ms in rounds[peer]))
        yield peer_row("P3", f"{what}: p95", peer, its, milliseconds, its.over(ours_p95))


def columns(stage: Stage) -> Iterator[Row]:
    """P4: Arrow bodies of 10,000 events, as many as one may hold."""
    path = f"{BATCH_PATH}?stream_id=columns"

    def bodies() -> list[bytes]:
        rows = np.concatenate([many for _, many in stage.many_streams()])
        return [events.arrow_stream(piece) for piece in events.batches(rows[:120_000], 10_000)]

    def measure() -> Load:
        load = stage.post(path, "arrow", bodies, connections=4, content_type=ARROW)
        stage.server().process.settle()
        return load

    loads = [measure() for _ in range(stage.scale.rounds + 1)][1:]
    what = "Arrow, 10,000 events a request"
    yield row("P4", what, MAINSTEM, Figure(tuple(load.rate * 10_000 for load in loads)), EVENTS, at_least(1_000_000))
    yield row("P4", f"{what}: p95", MAINSTEM, Figure(tuple(load.p95_ms for load in loads)), milliseconds)
