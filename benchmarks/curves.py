"""How it grows: the cost of an event and of a question as what is stored, the streams and the connections increase.

`python -m benchmarks --curves` writes CURVES.md. It takes longer than the table, most of it to store 50 million events.
"""

import itertools
import random
import statistics
from collections.abc import Iterator
from pathlib import Path

import msgspec
import uvloop

from benchmarks import events
from benchmarks.figures import percentile
from benchmarks.history import Day
from benchmarks.load import HttpAnswers, closed_loop
from benchmarks.pulls import measure
from benchmarks.queries import HOT, PageQuestion, ask_page, timed
from benchmarks.report import Conditions
from benchmarks.server import BATCH_PATH, EVENTS_PATH, Server
from benchmarks.stage import Stage

CURVES = Path(__file__).with_name("CURVES.md")
STORED = (1_000_000, 10_000_000, 50_000_000)
STREAMS = (1, 100, 10_000)
CONNECTIONS = (16, 256, 2_000)
ROUNDS = 5

HEAD = """# How it grows

Written by `python -m benchmarks --curves`; do not edit. Medians of five rounds on the machine below.

"""


class Point(msgspec.Struct, frozen=True):
    """One line of a curve."""

    what: str
    at: str
    figure: str


def run(stage: Stage, conditions: Conditions) -> int:
    points = list[Point]()
    for point in itertools.chain(streams(stage), connections(stage), stored(stage), pulled(stage)):
        points.append(point)
        print(f"{point.what:60} {point.at:>20} {point.figure:>24}", flush=True)
    lines = [HEAD, "\n".join(conditions.lines()), "\n\n| what | at | figure |\n| --- | --- | --- |\n"]
    lines += [f"| {point.what} | {point.at} | {point.figure} |\n" for point in points]
    CURVES.write_text("".join(lines))
    return 0


def streams(stage: Stage) -> Iterator[Point]:
    """Bodies of 100 events, one stream after the other, once all streams exist."""
    rows = stage.many_streams()[0][1]
    tails = [events.http_batch("", many).removeprefix(b'{"stream_id":"') for many in events.batches(rows, 100)]
    for count in STREAMS:
        with stage.fresh_server() as server:

            def requests(server: Server = server, count: int = count) -> Iterator[bytes]:
                for number, tail in zip(itertools.count(), itertools.cycle(tails)):
                    body = b'{"stream_id":"s%05d' % (number % count) + tail
                    yield server.request(BATCH_PATH, body)

            endless = requests()
            closed_loop(server.port, HttpAnswers, [itertools.islice(endless, count)])
            rates = []
            for _ in range(ROUNDS):
                server.process.settle()
                load = closed_loop(server.port, HttpAnswers, [endless] * 16, seconds=stage.scale.round_s)
                rates.append(load.rate * 100)
            rss = server.process.rss_bytes() / 1e6
        yield Point("bodies of 100 events", f"{count:,} streams", f"{statistics.median(rates):,.0f} ev/s")
        yield Point("RSS after that", f"{count:,} streams", f"{rss:,.0f} MB")


def connections(stage: Stage) -> Iterator[Point]:
    """One event a request."""
    sample = stage.many_streams()[0][1][:2_000]

    def bodies() -> list[bytes]:
        return [events.http_single("single", event) for event in sample]

    for count in CONNECTIONS:
        loads = [stage.post(EVENTS_PATH, "singles", bodies, connections=count) for _ in range(ROUNDS)]
        rate, p95_ms = (
            statistics.median(figures) for figures in zip(*((x.rate, x.p95_ms) for x in loads), strict=True)
        )
        yield Point("one event a request", f"{count:,} connections", f"{rate:,.0f} req/s, p95 {p95_ms:.1f} ms")


def stored(stage: Stage) -> Iterator[Point]:
    """P1's rate, P7's page and P8's aggregate when so many events of one stream are stored."""
    with stage.fresh_server() as server:
        before = 0
        for count in STORED:
            day = Day("history", count - before)
            day.load(server)
            before = count
            server.rest()
            at = f"{count / 1e6:g}M events stored"
            rates = []
            for _ in range(ROUNDS):
                rates.append(stage.post_thousands(server=server).rate * 1_000)
                server.process.settle()
            yield Point("bodies of 1,000 events, 32 other streams", at, f"{statistics.median(rates):,.0f} ev/s")
            for hour in (True, False):
                chance = random.Random(7)
                ask = lambda: ask_page(server, day.stream, PageQuestion.fresh(day, chance, hour=hour))  # noqa: B023, E731
                times = timed(5 * stage.scale.queries, ask)
                what = f"page of 100 + count, {'1 h of 24 h' if hour else 'all events'}"
                yield Point(what, at, f"{statistics.median(times):.1f} ms, p95 {percentile(times, 95):.1f} ms")
            times = timed(10, lambda: server.post("/v2/query/aggregate", HOT.of_mainstem(day.stream)))  # noqa: B023
            yield Point("aggregate over all of them, hot fields", at, f"{statistics.median(times):.0f} ms")


def pulled(stage: Stage) -> Iterator[Point]:
    """P9, straight from the log."""
    for count in STORED:
        figures = uvloop.run(measure(stage.fresh_folder("log"), count, ROUNDS))
        for name, (figure, _) in figures.items():
            yield Point(name, f"{count / 1e6:g}M events stored", f"{figure.median:.3f} ms")
