"""P13: memory, under full load and with many streams."""

from collections.abc import Iterator

from benchmarks import events
from benchmarks.figures import Figure, at_most
from benchmarks.ingest import MAINSTEM
from benchmarks.load import HttpAnswers, closed_loop
from benchmarks.server import EVENTS_PATH
from benchmarks.stage import Stage
from benchmarks.table import Row, megabytes, row

STREAMS = 10_000


def resident(stage: Stage) -> Iterator[Row]:
    """P13: the most that was resident while P1's long run went on, and what each further stream adds."""
    outcome = stage.sustained()
    what, before = (
        f"peak RSS in {stage.scale.sustained_s:g} s of P1",
        f"{outcome.rss_before_bytes / 1e6:,.0f} MB before",
    )
    yield row("P13", what, MAINSTEM, Figure((outcome.rss_peak_bytes / 1e6,)), megabytes, at_most(400), before)
    resting = stage.server().process.rss_bytes() / 1e6
    yield row("P13", "RSS after all loads and queries of the run", MAINSTEM, Figure((resting,)), megabytes)
    yield _streams(stage)


def _streams(stage: Stage) -> Row:
    event = stage.many_streams()[0][1][0]
    with stage.fresh_server() as server:

        def touch(first: int, count: int) -> None:
            """One event for each of the streams."""
            names = [f"stream-{number:06d}" for number in range(first, first + count)]
            requests = [server.request(EVENTS_PATH, events.http_single(name, event)) for name in names]
            closed_loop(server.port, HttpAnswers, [iter(requests[place::16]) for place in range(16)])
            server.process.settle()

        touch(0, 500)  # so that what every server allocates once is not counted
        before = server.process.rss_bytes()
        touch(500, STREAMS)
        figure = Figure(((server.process.rss_bytes() - before) / STREAMS,))
    return row(
        "P13", f"{STREAMS:,} further streams, each", MAINSTEM, figure, lambda size: f"{size:,.0f} B", at_most(2_048)
    )
