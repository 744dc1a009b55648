"""P7, P8: pages and aggregates, beside PostgreSQL and the engine of ClickHouse."""

import contextlib
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import events
from benchmarks.events import DAY_US
from benchmarks.figures import Figure, at_least, at_most, interleave, percentile
from benchmarks.history import Day
from benchmarks.ingest import MAINSTEM
from benchmarks.load import arriving
from benchmarks.peers import Postgres, Timer
from benchmarks.server import BATCH_PATH, Server
from benchmarks.software import Missing, python_environment
from benchmarks.stage import Stage
from benchmarks.table import Row, absent, milliseconds, peer_row, row

HOUR_US = DAY_US // 24
ARRIVING_PER_S = 50_000

type Times = list[float]
"""Milliseconds of each of a round's queries."""

type Groups = dict[str, tuple[int, float, int]]
"""An aggregate's answer: event type → count, sum (rounded to cents) and number of distinct values."""


def timed(queries: int, ask: Callable[[], object]) -> Times:
    spent = []
    for _ in range(queries):
        begin = time.perf_counter()
        ask()
        spent.append((time.perf_counter() - begin) * 1e3)
    return spent


def medians(rounds: list[Times]) -> Figure:
    return Figure(tuple(map(statistics.median, rounds)))


def p95s(rounds: list[Times]) -> Figure:
    return Figure(tuple(percentile(times, 95) for times in rounds))


# P7: pages


class PageQuestion(msgspec.Struct, frozen=True):
    """A page of 100 purchases above an amount, with the count of all: in an hour, or in all that is stored."""

    above: float
    offset: int
    start_us: int | None = None
    end_us: int | None = None

    @classmethod
    def fresh(cls, day: Day, chance: random.Random, *, hour: bool) -> "PageQuestion":
        # Another amount each time: mainstem remembers what it has counted, and a question must not find its answer.
        above, offset = chance.randrange(30_000, 70_000) / 100, chance.randrange(0, 5_000, 100)
        if not hour:
            return cls(above, offset)
        start_us = chance.randrange(day.begin_us, day.end_us - HOUR_US)
        return cls(above, offset, start_us, start_us + HOUR_US)

    @classmethod
    def again(cls, chance: random.Random) -> "PageQuestion":
        """Always the same question of all that is stored, for another of its first pages."""
        return cls(500, chance.randrange(0, 5_000, 100))

    def of_mainstem(self, stream: str) -> list[tuple[str, object]]:
        asked: list[tuple[str, object]] = [("stream_id", stream), ("event_type", "purchase"), ("limit", 100)]
        asked += [("filter", f"data.amount>{self.above}"), ("offset", self.offset)]
        if self.start_us is not None and self.end_us is not None:
            asked += [("start_time", _iso(self.start_us)), ("end_time", _iso(self.end_us))]
        return asked

    def of_postgres(self, table: str) -> tuple[str, str]:
        where = f"event_type = 'purchase' and (data->>'amount')::float8 > {self.above}"
        if self.start_us is not None and self.end_us is not None:
            where += f" and ts >= '{_iso(self.start_us)}' and ts < '{_iso(self.end_us)}'"
        page = f"select id, ts, event_type, data, metadata from {table} where {where} order by ts, id"
        return f"select count(*) from {table} where {where}", f"{page} limit 100 offset {self.offset}"


def _iso(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def pages(stage: Stage) -> Iterator[Row]:
    """P7: a page of 100 with a filter and the total count, while 50,000 events a second arrive in the same stream.

    PostgreSQL answers the same questions of as many rows with nothing else to do.
    """
    day, server = Day("history", stage.scale.history_events), stage.server()
    day.load(server)
    server.rest()
    # As anybody's second page is asked for: the field was asked for before, and has become a column since.
    chance = random.Random(6)
    for _ in range(3):
        ask_page(server, day.stream, PageQuestion.fresh(day, chance, hour=True))
    server.rest()
    server.process.settle(120)
    size = f"{day.count / 1e6:g}M events, a field asked for before"
    peer = None
    try:
        peer = stage.postgres()
        peer.load("history", day.copy_lines())
    except Missing as reason:
        yield absent("P7", f"page of 100 + count over {size}", "PostgreSQL", reason)
    # What arrives comes after the day that is asked for in hours, and within "all".
    rows = events.make(20_000, seed=8, first_us=day.end_us, step_us=20)
    requests = [server.request(BATCH_PATH, events.http_batch(day.stream, many)) for many in events.batches(rows, 100)]
    for hour in (True, False):
        what = f"page of 100 + count, type and filter, {'1 h of 24 h in' if hour else 'all of'} {size}"
        yield from _pages(stage, day, what, peer, requests, hour=hour)
    yield from _pages_again(stage, day, f"the same question of all {size} again, another page", requests)


def _pages(
    stage: Stage, day: Day, what: str, peer: Postgres | None, requests: list[bytes], *, hour: bool
) -> Iterator[Row]:
    chance, queries = random.Random(7), stage.scale.queries
    during = _While(stage.server(), requests)
    with contextlib.ExitStack() as exits:
        contenders: dict[str, Callable[[], Times]] = {
            MAINSTEM: lambda: during.timed(queries, day.stream, lambda: PageQuestion.fresh(day, chance, hour=hour))
        }
        if peer is not None:
            timer = exits.enter_context(peer.timer())
            # Its slow questions are asked less often: a median needs three.
            ask = partial(_ask_postgres, timer, day, chance, hour=hour)
            contenders["PostgreSQL"] = lambda: timed(queries if hour else 3, ask)
        rounds = interleave(stage.scale.rounds, contenders)
    ours = medians(rounds[MAINSTEM])
    yield row("P7", f"{what}: p95", MAINSTEM, p95s(rounds[MAINSTEM]), milliseconds, at_most(50), during.note)
    yield row("P7", f"{what}: p50", MAINSTEM, ours, milliseconds)
    if peer is not None:
        its = medians(rounds["PostgreSQL"])
        system = f"PostgreSQL {peer.version} (jsonb + index, at rest)"
        yield peer_row("P7", f"{what}: p50", system, its, milliseconds, its.over(ours), at_least(10))


def _pages_again(stage: Stage, day: Day, what: str, requests: list[bytes]) -> Iterator[Row]:
    """What a reader who turns pages meets: the count is remembered, and only what came since is counted."""
    chance, queries = random.Random(7), stage.scale.queries
    during = _While(stage.server(), requests)
    measure = partial(during.timed, queries, day.stream, lambda: PageQuestion.again(chance))
    rounds = interleave(stage.scale.rounds, {MAINSTEM: measure})
    yield row("P7", f"{what}: p95", MAINSTEM, p95s(rounds[MAINSTEM]), milliseconds, None, during.note)


class _While:
    """Asks mainstem while events arrive."""

    def __init__(self, server: Server, requests: list[bytes]) -> None:
        self._server = server
        self._requests = requests
        self._rates: list[float] = []

    def timed(self, queries: int, stream: str, question: Callable[[], PageQuestion]) -> Times:
        with arriving(self._server.port, self._requests, rate_per_s=ARRIVING_PER_S / 100, connections=32) as outcome:
            time.sleep(0.3)
            times = timed(queries, lambda: ask_page(self._server, stream, question()))
        self._rates.append(outcome[0].rate * 100)
        return times

    @property
    def note(self) -> str:
        return f"while {statistics.median(self._rates):,.0f} ev/s arrive"


def ask_page(server: Server, stream: str, question: PageQuestion) -> None:
    answer = server.get("/v2/query/events", question.of_mainstem(stream))
    page = answer["events"]
    assert isinstance(page, list)
    assert len(page) <= 100


def _ask_postgres(timer: Timer, day: Day, chance: random.Random, *, hour: bool) -> None:
    timer(*PageQuestion.fresh(day, chance, hour=hour).of_postgres("history"))


# P8: aggregates

AGGREGATE_EVENTS = 1_000_000


class Aggregate(msgspec.Struct, frozen=True):
    """A sum, a count of distinct values, and groups by type, of fields that nobody declared."""

    name: str
    summed: str
    counted: str

    def of_mainstem(self, stream: str) -> dict[str, object]:
        fields = [
            {"field": f"data.{self.summed}", "operation": "sum"},
            {"field": f"data.{self.counted}", "operation": "count_distinct"},
        ]
        return {"stream_id": stream, "aggregations": fields, "group_by": ["event_type"]}

    def of_postgres(self, table: str) -> str:
        summed, counted = (f"data #>> '{{{path.replace('.', ',')}}}'" for path in (self.summed, self.counted))
        return (
            f"select event_type, count(*), sum(({summed})::float8), count(distinct {counted}) from {table} group by 1"
        )

    def of_chdb(self) -> str:
        kind = "Float64" if self.summed == "amount" else "Int64"
        columns = f"event_type, count(), sum(data.{self.summed}.:{kind}), uniqExact(data.{self.counted}.:String)"
        return f"select {columns} from events group by event_type"


HOT = Aggregate("hot fields", "amount", "user_id")
COLD = Aggregate("fields never asked for", "properties.duration", "properties.session")


class ChDB:
    """The engine of ClickHouse in a child process, with the same events in a MergeTree with its JSON type."""

    durability = "no log of single writes; queries only"

    def __init__(self, folder: Path, day: Day) -> None:
        home = python_environment("chdb", "chdb")
        lines = folder / "events.ndjson"
        with lines.open("wb") as file:
            for rows in day.batches():
                file.write(events.wrap(rows, after=b"\n"))
        script = Path(__file__).with_name("chdb_child.py")
        self._child = subprocess.Popen(
            [home / "bin/python", script, folder / "data", lines],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()

    def __call__(self, statement: str) -> tuple[float, list[list[object]]]:
        """The seconds that it took, by the child's own clock, and the rows."""
        assert self._child.stdin is not None
        self._child.stdin.write(statement + "\n")
        self._child.stdin.flush()
        return self._answer()

    def _answer(self) -> tuple[float, list[list[object]]]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise Missing("chDB ended")
        answer = msgspec.json.decode(line)
        return float(answer["seconds"]), answer["rows"]

    def close(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(30)


type Ask = Callable[[Aggregate], tuple[float, Groups]]
"""Asks a system: the milliseconds and the answer."""


def aggregates(stage: Stage) -> Iterator[Row]:
    """P8: over a million events; first fields that no query read before, then those that queries keep reading."""
    day, server = Day("aggregate", AGGREGATE_EVENTS, seed=8), stage.server()
    day.load(server)
    server.rest()
    contenders: dict[str, Ask] = {MAINSTEM: partial(_ask_mainstem, server, day.stream)}
    what = f"aggregate over {AGGREGATE_EVENTS / 1e6:g}M events"
    with contextlib.ExitStack() as exits:
        try:
            peer = stage.postgres()
            peer.load("aggregate", day.copy_lines())
            timer = exits.enter_context(peer.timer())
            contenders[f"PostgreSQL {peer.version} (jsonb + index)"] = partial(_ask_postgres_aggregate, timer)
        except Missing as reason:
            yield absent("P8", what, "PostgreSQL", reason)
        try:
            chdb = ChDB(stage.fresh_folder("chdb"), day)
            exits.callback(chdb.close)
            contenders["chDB (JSON type, MergeTree)"] = partial(_ask_chdb, chdb)
        except Missing as reason:
            yield absent("P8", what, "chDB", reason)
        # In one burst: after a few questions the server makes columns of what was asked for.
        burst = {name: [[ask(COLD)[0]] for _ in range(5)] for name, ask in contenders.items()}
        yield from _aggregate_rows(f"{what}, {COLD.name}", burst, 400)
        for question in (COLD, HOT):
            _must_agree(question, contenders)
        waited_s = _await_columns(lambda: contenders[MAINSTEM](HOT)[0])
        rounds = interleave(
            stage.scale.rounds,
            {name: partial(_times, ask, HOT, min(stage.scale.queries, 10)) for name, ask in contenders.items()},
        )
        yield from _aggregate_rows(f"{what}, {HOT.name}", rounds, 100, f"columns made {waited_s:.0f} s after asking")


def _times(ask: Ask, question: Aggregate, queries: int) -> Times:
    return [ask(question)[0] for _ in range(queries)]


def _must_agree(question: Aggregate, contenders: dict[str, Ask]) -> None:
    """A quick answer is worth nothing when it is another one."""
    answers = {name: ask(question)[1] for name, ask in contenders.items()}
    for name, answer in answers.items():
        if answer != answers[MAINSTEM]:
            raise Missing(f"{name} answered {answer}, mainstem {answers[MAINSTEM]}")


def _ask_mainstem(server: Server, stream: str, question: Aggregate) -> tuple[float, Groups]:
    begin = time.perf_counter()
    answer = server.post("/v2/query/aggregate", question.of_mainstem(stream))
    spent_ms = (time.perf_counter() - begin) * 1e3
    results = msgspec.convert(answer["results"], list[dict[str, Any]])
    summed, counted = f"sum(data.{question.summed})", f"count_distinct(data.{question.counted})"
    return spent_ms, {
        result["group"]["event_type"]: (
            result["count"],
            round(result["values"][summed], 2),
            result["values"][counted],
        )
        for result in results
    }


def _ask_postgres_aggregate(timer: Timer, question: Aggregate) -> tuple[float, Groups]:
    spent_s, answers = timer(question.of_postgres("aggregate"))
    return spent_s * 1e3, _groups(answers[0])


def _ask_chdb(chdb: ChDB, question: Aggregate) -> tuple[float, Groups]:
    spent_s, rows = chdb(question.of_chdb())
    return spent_s * 1e3, _groups(rows)


def _groups(rows: Sequence[Sequence[Any]]) -> Groups:
    return {kind: (count, round(total, 2), distinct) for kind, count, total, distinct in rows}


def _await_columns(ask: Callable[[], float], timeout_s: float = 60) -> float:
    """Ask until answers come in half the time of the first ones, for the server makes its columns in the background."""
    begin = time.monotonic()
    first = statistics.median(ask() for _ in range(3))
    while time.monotonic() < begin + timeout_s:
        if statistics.median(ask() for _ in range(3)) < first / 2:
            break
        time.sleep(1)
    return time.monotonic() - begin


def _aggregate_rows(what: str, rounds: dict[str, list[Times]], goal_ms: float, note: str = "") -> Iterator[Row]:
    ours = medians(rounds[MAINSTEM])
    yield row("P8", f"{what}: p95", MAINSTEM, p95s(rounds[MAINSTEM]), milliseconds, at_most(goal_ms), note)
    yield row("P8", f"{what}: p50", MAINSTEM, ours, milliseconds)
    for name, times in rounds.items():
        if name != MAINSTEM:
            its = medians(times)
            wanted = 5 if name.startswith("PostgreSQL") else 0.5
            yield peer_row("P8", f"{what}: p50", name, its, milliseconds, its.over(ours), at_least(wanted))
