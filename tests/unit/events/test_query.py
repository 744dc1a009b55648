"""Pages and aggregates: what they answer, over sealed and live events alike."""

import math
import random
import statistics
from collections.abc import AsyncIterator, Sequence
from pathlib import Path as FilePath
from typing import NamedTuple

import pytest

from mainstem.clock import FixedClock
from mainstem.errors import Unavailable
from mainstem.events import aggregates, paging, query
from mainstem.events.aggregates import AggregateAnswer, AggregateRequest, Aggregation, Order
from mainstem.events.filters import InvalidQuery, decode, matches, parse_filters
from mainstem.events.query import Page, PageRequest, Queries
from mainstem.identity import Principal, Scope, Tier
from mainstem.ids import AccountId, TopicId
from mainstem.storage import Draft, Drafts, Path, Row
from mainstem.storage.embedded.analytics import DuckAnalytics
from mainstem.storage.embedded.log import EmbeddedLog, LogOptions
from snapshots import TOPIC, FileSnapshot, event

READER = Principal(AccountId(8), "reader", "key_1", frozenset({Scope.EVENTS_READ}), Tier.UNLIMITED)


class OneTopic(NamedTuple):
    id: TopicId = TOPIC

    async def for_reading(self, principal: Principal, name: str) -> "OneTopic":
        assert (principal, name) == (READER, "s")
        return self


class FileLog:
    """The part of a log that queries need, over rows that the test gives. Each snapshot has the layout of `sealed`."""

    def __init__(self, folder: FilePath) -> None:
        self.folder = folder
        self.rows: list[Row] = []
        self.sealed: Sequence[int] = ()
        self.shredded: Sequence[Sequence[Path]] = ()
        self.first_idx = 0
        self.types = True
        self.used_paths: list[Path] = []
        self.snapshots: list[FileSnapshot] = []

    async def snapshot(
        self, topic: TopicId, *, start_us: int | None = None, end_us: int | None = None, tail_only: bool = False
    ) -> FileSnapshot:
        folder = self.folder / str(len(self.snapshots))
        folder.mkdir()
        snapshot = FileSnapshot(
            folder, self.rows, sealed=self.sealed, shredded=self.shredded, first_idx=self.first_idx, types=self.types
        )
        self.snapshots.append(snapshot)
        return snapshot

    def used(self, topic: TopicId, paths: Sequence[Path]) -> None:
        self.used_paths.extend(paths)


class CountingAnalytics(DuckAnalytics):
    """The engine, and how many rows it was handed by each query."""

    rows_handed: list[int]

    async def run(self, snapshot, sql, *, timeout_s):  # type: ignore[no-untyped-def]
        self.rows_handed.append(sum(part.rows for part in snapshot.parts) + snapshot.live.num_rows)
        return await super().run(snapshot, sql, timeout_s=timeout_s)


@pytest.fixture
def log(tmp_path: FilePath) -> FileLog:
    return FileLog(tmp_path)


@pytest.fixture
async def analytics(tmp_path: FilePath) -> AsyncIterator[CountingAnalytics]:
    engine = CountingAnalytics(threads=2, memory_bytes=512 << 20, queries_max=8, temp_dir=tmp_path / "spill")
    engine.rows_handed = []
    yield engine
    await engine.close()


@pytest.fixture
def queries(log: FileLog, analytics: CountingAnalytics) -> Queries:
    return Queries(log, analytics, OneTopic(), FixedClock(), timeout_s=30)  # type: ignore[arg-type]


def indexes(page: Page) -> list[int]:
    return [row.idx for row in page.events]


# Pages


async def test_a_page_is_oldest_first_by_timestamp_then_sequence(log: FileLog, queries: Queries) -> None:
    """The log's order only decides among events of one moment."""
    log.rows = [event(place, ts_us=ts_us) for place, ts_us in enumerate([30, 10, 20, 10, -5])]
    log.sealed = [3]

    page = await queries.page(READER, PageRequest(stream="s"))

    assert indexes(page) == [4, 1, 3, 2, 0]
    assert (page.total_count, page.has_more, page.next_cursor) == (5, False, None)
    assert indexes(await queries.page(READER, PageRequest(stream="s", order="desc"))) == [0, 2, 3, 1, 4]


async def test_time_range_type_and_filters_narrow_a_page_and_its_count(log: FileLog, queries: Queries) -> None:
    """The start is inclusive, the end exclusive; the count is of all that matches, beyond the page."""
    log.rows = [event(place, {"n": place}, event_type="ab"[place % 2]) for place in range(40)]
    log.sealed = [10, 10]
    request = PageRequest(
        stream="s", start_us=4_000_000, end_us=30_000_000, event_type="a", filters=["data.n!=8"], limit=3, offset=1
    )

    page = await queries.page(READER, request)

    assert (indexes(page), page.total_count, page.has_more) == ([6, 10, 12], 12, True)
    assert log.used_paths == [("data", "n")]
    assert log.snapshots[0].closed


async def test_an_empty_stream_has_an_empty_page(queries: Queries) -> None:
    """Nothing there is an answer."""
    page = await queries.page(READER, PageRequest(stream="s"))

    assert (page.events, page.total_count, page.has_more) == ([], 0, False)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("filters", [(), ("data.n>=0",), ("event_type=a",)])
async def test_pages_by_cursor_are_what_was_there_at_first(
    log: FileLog, queries: Queries, monkeypatch: pytest.MonkeyPatch, order: str, filters: tuple[str, ...]
) -> None:
    """Neither repeats nor gaps, whatever arrives and is sealed meanwhile, with equal timestamps at the seams."""
    monkeypatch.setattr(paging, "WINDOW_ROWS", 3)
    dice = random.Random(7)
    log.rows = [event(place, {"n": place}, ts_us=dice.randrange(12), event_type="a") for place in range(50)]
    there = sorted(log.rows, key=lambda row: (row.ts_us, row.seq), reverse=order == "desc")
    seen: list[Row] = []
    cursor = None
    while True:
        request = PageRequest(stream="s", order=order, filters=filters, limit=7, cursor=cursor)  # type: ignore[arg-type]
        page = await queries.page(READER, request)
        assert page.total_count == 50
        seen += page.events
        if (cursor := page.next_cursor) is None:
            break
        late = len(log.rows)
        log.rows += [event(late + more, {"n": 1}, ts_us=dice.randrange(12), event_type="a") for more in range(9)]
        log.sealed = [*log.sealed, 6]

    assert seen == there
    assert not page.has_more


async def test_a_cursor_belongs_to_its_query(log: FileLog, queries: Queries) -> None:
    """To go on with another query would skip and repeat; the limit may change."""
    log.rows = [event(place) for place in range(9)]
    cursor = (await queries.page(READER, PageRequest(stream="s", limit=2))).next_cursor

    assert indexes(await queries.page(READER, PageRequest(stream="s", limit=3, cursor=cursor))) == [2, 3, 4]
    for request in (
        PageRequest(stream="s", cursor=cursor, order="desc"),
        PageRequest(stream="s", cursor=cursor, filters=["data.a=1"]),
        PageRequest(stream="s", cursor=cursor, end_us=5),
        PageRequest(stream="s", cursor="nonsense"),
        PageRequest(stream="s", cursor="ü"),
    ):
        with pytest.raises(InvalidQuery, match="cursor"):
            await queries.page(READER, request)


@pytest.mark.parametrize("span_s", [0, 1, 30, 600])  # all at one moment, in order, overlapping, in no order
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("filters", [(), ("event_type=a",), ("event_type=b", "data.n>20")])
async def test_every_offset_finds_its_events(
    log: FileLog,
    queries: Queries,
    monkeypatch: pytest.MonkeyPatch,
    span_s: int,
    order: str,
    filters: tuple[str, ...],
) -> None:
    """Time that is skipped or read in small windows changes the speed and not the page."""
    dice = random.Random(3)
    log.rows = [
        event(
            place,
            {"n": place},
            ts_us=(place // 2 + dice.randrange(span_s)) * 1_000 if span_s else 5_000,
            event_type=dice.choice("ab"),
        )
        for place in range(60)
    ]
    log.sealed, log.first_idx = [10, 20, 15], 4
    wanted = [row for row in log.rows[4:] if matches(parse_filters(filters), decode(row))]
    wanted.sort(key=lambda row: (row.ts_us, row.seq), reverse=order == "desc")
    monkeypatch.setattr(paging, "WINDOW_ROWS", 6)
    monkeypatch.setattr(query, "_OFFSET_READ_MAX", 4)
    for offset in (0, 3, 17, 52):
        request = PageRequest(stream="s", order=order, filters=filters, limit=5, offset=offset)  # type: ignore[arg-type]
        page = await queries.page(READER, request)
        assert (page.events, page.total_count) == (wanted[offset : offset + 5], len(wanted))


async def test_a_count_that_figures_tell_reads_no_part(
    log: FileLog, queries: Queries, analytics: CountingAnalytics
) -> None:
    """Parts wholly inside the range say how many events they have, and of which type."""
    log.rows = [event(place, event_type="ab"[place % 2]) for place in range(40)]
    log.sealed = [10, 10, 10, 10]

    page = await queries.page(READER, PageRequest(stream="s", event_type="b", end_us=38_000_000, limit=1))

    assert page.total_count == 19
    assert analytics.rows_handed == [10, 40]  # the part that the end cuts is counted; the page may be anywhere


async def test_a_count_is_made_once_and_then_only_goes_on(
    log: FileLog, queries: Queries, analytics: CountingAnalytics
) -> None:
    """Asking again reads what came since; when retention took events, everything is counted anew."""
    request = PageRequest(stream="s", filters=["data.n>=10"], limit=1)
    log.rows, log.sealed = [event(place, {"n": place}) for place in range(40)], [30]
    counts = [(await queries.page(READER, request)).total_count]
    log.rows, log.sealed = [event(place, {"n": place}) for place in range(45)], [42]
    counts.append((await queries.page(READER, request)).total_count)
    log.first_idx = 15
    counts.append((await queries.page(READER, request)).total_count)

    assert counts == [30, 35, 30]
    assert analytics.rows_handed == [40, 40, 45, 45, 45, 45]


@pytest.mark.parametrize(
    "request_",
    [
        PageRequest(stream="s", limit=0),
        PageRequest(stream="s", limit=1_001),
        PageRequest(stream="s", offset=-1),
        PageRequest(stream="s", start_us=5, end_us=5),
        PageRequest(stream="s", filters=["amount>1"]),
        PageRequest(stream="s", filters=["data.a=1"] * 33),
        PageRequest(stream="s", event_type="\ud800"),
    ],
)
async def test_a_wrong_page_request_is_refused(queries: Queries, request_: PageRequest) -> None:
    """Limits and ranges have clear ends."""
    with pytest.raises(InvalidQuery):
        await queries.page(READER, request_)


# Aggregates


async def aggregate(queries: Queries, *aggregations: str, **request: object) -> AggregateAnswer:
    """Aggregations are written `sum data.amount` here."""
    wanted = [Aggregation(*text.split(" ", 1)) for text in aggregations]
    return await queries.aggregate(READER, AggregateRequest(stream="s", aggregations=wanted, **request))  # type: ignore[arg-type]


VALUES: list[object] = [10, 20.5, "30", None, True, 20.5, 9007199254740993, 1.0, 1, "1"]


@pytest.mark.parametrize("sealed", [[], [4, 3]])
@pytest.mark.parametrize("shredded", [[], [[("data", "v")]]])
async def test_every_operation_over_mixed_values(
    log: FileLog, queries: Queries, sealed: list[int], shredded: list[list[Path]]
) -> None:
    """Numbers are calculated with, other values are counted as skipped, null and absence are neither."""
    log.rows = [event(place, {"v": value}) for place, value in enumerate(VALUES)] + [event(10)]
    log.sealed, log.shredded = sealed, shredded
    numbers = [10.0, 20.5, 20.5, 9007199254740993.0, 1.0, 1.0]
    operations = [
        "count",
        *(f"{name} data.v" for name in ["count", "sum", "avg", "min", "max", "count_distinct", "first", "last", "p50"]),
    ]

    [result] = (await aggregate(queries, *operations, "stddev data.v")).results

    assert result.count == 11
    assert result.values == {
        "count": 11,
        "count(data.v)": 9,
        "sum(data.v)": pytest.approx(math.fsum(numbers)),
        "avg(data.v)": pytest.approx(statistics.fmean(numbers)),
        "min(data.v)": 1,
        "max(data.v)": 2**53,
        "count_distinct(data.v)": 7,
        "first(data.v)": 10,
        "last(data.v)": "1",
        "p50(data.v)": 15.25,
        "stddev(data.v)": pytest.approx(statistics.stdev(numbers)),
    }
    assert result.skipped == {f"{name}(data.v)": 3 for name in ["sum", "avg", "min", "max", "p50", "stddev"]}


async def test_nothing_to_aggregate_is_null(queries: Queries) -> None:
    """Without groups there is always one result; its counts are 0 and all else is null."""
    answer = await aggregate(
        queries, "count", "sum data.v", "p99 data.v", "first data.v", "stddev data.v", "count_distinct data.v"
    )
    [result] = answer.results

    assert list(result.values.values()) == [0, None, None, None, None, 0]
    assert (result.count, result.skipped, answer.events_scanned) == (0, {}, 0)
    assert (await aggregate(queries, "count", group_by=["event_type"])).results == []


async def test_a_result_that_no_double_holds_is_null(log: FileLog, queries: Queries) -> None:
    """JSON has no infinity, and an overflow is no reason to fail the other values."""
    log.rows = [event(place, {"v": 1.7e308 * (-1) ** (place // 3)}) for place in range(6)] + [event(6, b'{"v":1e400}')]

    [result] = (await aggregate(queries, *(f"{name} data.v" for name in aggregates.Operation))).results

    assert (result.values["max(data.v)"], result.values["stddev(data.v)"]) == (1.7e308, None)
    assert result.values["last(data.v)"] == "1e400"
    assert result.skipped["sum(data.v)"] == 1
    assert all(value is None or math.isfinite(value) for value in result.values.values() if not isinstance(value, str))  # type: ignore[arg-type]


async def test_groups_keep_their_json_types(log: FileLog, queries: Queries) -> None:
    """1, "1", true and an object are four groups; null and absence are one."""
    values: list[object] = [1, 1.0, "1", True, None, {"a": [1]}, 2.5, 9007199254740993, 'é"\n']
    log.rows = [*(event(place, {"k": value}) for place, value in enumerate(values)), event(len(values))]

    results = (await aggregate(queries, group_by=["data.k"])).results

    found = [(result.group["data.k"], result.count) for result in results]
    assert repr(found) == repr(
        [(1, 2), (2.5, 1), (2**53 + 1, 1), ("1", 1), (True, 1), ({"a": [1]}, 1), ('é"\n', 1), (None, 2)]
    )  # by repr, for True equals 1


async def test_groups_of_several_fields_and_buckets(log: FileLog, queries: Queries) -> None:
    """Each combination that occurs is a result, by bucket and then by group."""
    log.rows = [
        event(place, {"n": place}, ts_us=minute * 60_000_000, event_type=kind, metadata={"source": source})
        for place, (minute, kind, source) in enumerate([(0, "a", "x"), (4, "a", "x"), (5, "a", "y"), (-1, "b", "x")])
    ]

    results = (
        await aggregate(queries, "sum data.n", group_by=["event_type", "metadata.source"], interval="5m")
    ).results

    assert [(result.bucket_us, *result.group.values(), result.values["sum(data.n)"]) for result in results] == [
        (-300_000_000, "b", "x", 3),
        (0, "a", "x", 1),
        (300_000_000, "a", "y", 2),
    ]


async def test_weeks_begin_on_monday(log: FileLog, queries: Queries) -> None:
    """A calendar's week, in UTC: 2024-03-15 was a Friday."""
    log.rows = [event(0, ts_us=1_710_498_600_000_000)]

    [result] = (await aggregate(queries, interval="1w")).results

    assert result.bucket_us == 1_710_115_200_000_000  # 2024-03-11T00:00:00Z


async def test_first_and_last_go_by_timestamp_then_sequence(log: FileLog, queries: Queries) -> None:
    """Arrival decides only among equal timestamps, and null is no value."""
    values = [(20, "late"), (10, None), (10, "early"), (10, "early too"), (20, "latest")]
    log.rows = [event(place, {"v": value}, ts_us=ts_us) for place, (ts_us, value) in enumerate(values)]

    [result] = (await aggregate(queries, "first data.v", "last data.v", "first event_type")).results

    assert list(result.values.values()) == ["early", "latest", "view"]


async def test_having_order_and_limit(log: FileLog, queries: Queries) -> None:
    """Groups are chosen and ordered by what was calculated, and ties by group."""
    log.rows = [event(place, {"user": f"u{place % 5}", "n": place % 5}) for place in range(23)]
    request: dict[str, object] = {"group_by": ["data.user"], "having": ["sum(data.n)>=4", "count > 3"]}

    def users(answer: AggregateAnswer) -> list[object]:
        return [result.group["data.user"] for result in answer.results]

    assert users(await aggregate(queries, "sum data.n", **request)) == ["u1", "u2", "u3", "u4"]
    assert users(await aggregate(queries, "sum data.n", order_by=["-sum(data.n)"], limit=2, **request)) == ["u4", "u3"]
    assert users(await aggregate(queries, "sum data.n", order_by=[Order("count", "desc")], **request)) == [
        "u1",
        "u2",
        "u3",
        "u4",
    ]
    assert users(await aggregate(queries, "sum data.n", order_by=["-data.user"], **request)) == ["u4", "u3", "u2", "u1"]


async def test_having_on_first_and_last_takes_text(log: FileLog, queries: Queries) -> None:
    """Values that are no numbers compare as filters do."""
    log.rows = [event(place, {"k": place, "v": value}) for place, value in enumerate(["up", "down", None])]

    async def keys(having: str) -> list[object]:
        answer = await aggregate(queries, "last data.v", "last event_type", group_by=["data.k"], having=[having])
        return [result.group["data.k"] for result in answer.results]

    assert await keys("last(data.v)=up") == [0]
    assert await keys("last(data.v)!=up") == [1, 2]
    assert await keys("last(data.v)~o") == [1]
    assert await keys("last(event_type)=view") == [0, 1, 2]


async def test_filters_and_time_choose_what_is_aggregated(log: FileLog, queries: Queries) -> None:
    """`count` is of the events chosen, `events_scanned` of those looked at."""
    log.rows, log.sealed = [event(place, {"n": place}) for place in range(40)], [10, 10]

    answer = await aggregate(queries, "max data.n", start_us=12_000_000, end_us=18_000_000, filters=["data.n!=17"])

    assert (answer.results[0].count, answer.results[0].values, answer.events_scanned) == (5, {"max(data.n)": 16}, 10)
    assert log.used_paths == [("data", "n")]


async def test_too_many_groups_are_refused_unless_limited(log: FileLog, queries: Queries) -> None:
    """An answer has an end; who sets a limit gets that many."""
    log.rows = [event(place, {"n": place}) for place in range(10_001)]
    with pytest.raises(InvalidQuery, match="more than 10000 groups"):
        await aggregate(queries, group_by=["data.n"])

    assert len((await aggregate(queries, group_by=["data.n"], limit=10_000)).results) == 10_000


@pytest.mark.parametrize(
    ("aggregations", "request_", "reason"),
    [
        (["median data.n"], {}, "none of count, sum"),
        (["sum"], {}, "wants a field"),
        (["sum event_type"], {}, "wants numbers"),
        (["max timestamp"], {}, "not of timestamp"),
        (["count"], {"group_by": ["event_id"]}, "not by event_id"),
        (["count"], {"group_by": ["nothing"]}, "begins with data"),
        (["count data.x"] * 33, {}, "at most 32 aggregations"),
        (["count"], {"group_by": ["data.a"] * 9}, "at most 8 group_by"),
        (["count"], {"filters": ["data.a=1"] * 33}, "at most 32 filters"),
        (["count"], {"interval": "5 minutes"}, "5m, 1h"),
        (["count"], {"interval": "0m"}, "5m, 1h"),
        (["count"], {"limit": 0}, "limit is 1"),
        (["count"], {"limit": 10_001}, "limit is 1"),
        (["count"], {"order_by": ["bucket"]}, "give an interval"),
        (["count"], {"order_by": ["data.a"]}, "group by it"),
        (["count"], {"order_by": ["sum(data.a)"]}, "not among the aggregations"),
        (["count"], {"order_by": ["count) --"]}, "Nothing more|begins with"),
        (["sum data.a"], {"having": ["sum(data.a>1"]}, "closing bracket"),
        (["sum data.a"], {"having": ["sum(data.a)>text"]}, "is a number"),
        (["sum data.a"], {"having": ["sum(data.a)~1"]}, "is a number"),
        (["sum data.a"], {"having": ["avg(data.a)>1"]}, "not among the aggregations"),
        (["sum data.a"], {"having": ["data.a>1"]}, "aggregation is missing"),
        (["count"], {"start_us": 2, "end_us": 1}, "after its start"),
    ],
)
async def test_a_wrong_aggregate_is_refused(
    queries: Queries, aggregations: list[str], request_: dict[str, object], reason: str
) -> None:
    """The message says what would be right."""
    with pytest.raises(InvalidQuery, match=reason):
        await aggregate(queries, *aggregations, **request_)


async def test_names_in_paths_are_never_sql(log: FileLog, queries: Queries) -> None:
    """A path may hold anything, and the answer is keyed by it."""
    name = "x') FROM events; DROP TABLE live; --"
    log.rows = [event(place, {name: place}) for place in range(3)]
    spelled = f'data."{name}"'

    [result] = (
        await aggregate(queries, f"sum {spelled}", filters=[f"{spelled}>0"], having=[f"sum({spelled})=3"])
    ).results

    assert result.values == {f"sum({spelled})": 3}


async def test_a_query_past_its_deadline_fails_and_frees_its_snapshot(
    log: FileLog, analytics: CountingAnalytics
) -> None:
    """The whole query has one deadline, and files are let go whatever happens."""
    log.rows = [event(place) for place in range(5)]
    queries = Queries(log, analytics, OneTopic(), FixedClock(), timeout_s=1e-9)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="longer than"):
        await aggregate(queries, "count")

    assert log.snapshots[0].closed


# Over the real log


@pytest.fixture
async def real_log(tmp_path: FilePath) -> AsyncIterator[EmbeddedLog]:
    options = LogOptions(segment_events=100)
    async with EmbeddedLog.open(tmp_path / "log", options, FixedClock()) as log:
        yield log


async def append(log: EmbeddedLog, first: int, count: int) -> None:
    drafts = [
        Draft(place * 1_000_000, "ab"[place % 2], b'{"n":%d,"user":"u%d"}' % (place, place % 7), b'{"source":"web"}')
        for place in range(first, first + count)
    ]
    await log.append(TOPIC, Drafts.of(drafts))
    await log.append(TopicId(TOPIC + 1), Drafts.of(drafts))


async def test_what_was_acknowledged_is_found_while_it_is_sealed(
    real_log: EmbeddedLog, analytics: CountingAnalytics
) -> None:
    """Pages, counts and aggregates over a real log see each event once at any moment."""
    queries = Queries(real_log, analytics, OneTopic(), FixedClock(), timeout_s=30)
    for round_ in range(12):
        await append(real_log, round_ * 37, 37)
        there = (round_ + 1) * 37
        page = await queries.page(READER, PageRequest(stream="s", filters=["data.n>=0"], order="desc", limit=1))
        [result] = (await aggregate(queries, "sum data.n", "count_distinct data.user", filters=["data.user~u"])).results
        assert (page.total_count, page.events[0].ts_us) == (there, (there - 1) * 1_000_000)
        assert result.count == there
        assert result.values == {"sum(data.n)": there * (there - 1) // 2, "count_distinct(data.user)": 7}

    await real_log.maintain()
    assert (await queries.page(READER, PageRequest(stream="s", event_type="a"))).total_count == 222


async def test_pages_by_cursor_walk_the_real_log(real_log: EmbeddedLog, analytics: CountingAnalytics) -> None:
    """While events arrive and segments are sealed, the walk shows what its first page had, in order."""
    queries = Queries(real_log, analytics, OneTopic(), FixedClock(), timeout_s=30)
    await append(real_log, 0, 150)
    seen: list[Row] = []
    cursor = None
    while True:
        page = await queries.page(READER, PageRequest(stream="s", limit=40, cursor=cursor))
        seen += page.events
        if (cursor := page.next_cursor) is None:
            break
        await append(real_log, len(seen) - 20, 60)

    assert [row.idx for row in seen] == list(range(150))
