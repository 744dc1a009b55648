"""DataStream's queries: the page, the filters and the aggregates as clients see them."""

from typing import Any

import httpx
import pytest

from serving import found, refused, send

SALES = [
    ("2024-03-15T10:00:00Z", "view", {"user_id": "1", "page": "/a"}),
    ("2024-03-15T10:10:00Z", "purchase", {"user_id": "1", "amount": 10.5, "country": "DE"}),
    ("2024-03-15T10:20:00Z", "purchase", {"user_id": "2", "amount": 20, "country": "FR"}),
    ("2024-03-15T10:30:00Z", "view", {"user_id": "3", "page": "/b"}),
    ("2024-03-15T11:00:00Z", "purchase", {"user_id": "2", "amount": 5, "country": "DE"}),
    ("2024-03-15T11:40:00Z", "purchase", {"user_id": "4", "amount": "free", "country": "DE"}),
]


@pytest.fixture
def sales(client: httpx.Client, stream: str) -> str:
    """A stream with six events, sent in another order than they happened."""
    events = [{"timestamp": time, "event_type": kind, "data": data} for time, kind, data in SALES]
    send(client, stream, *events[3:], *events[:3])
    return stream


def aggregate(client: httpx.Client, stream: str, **wanted: Any) -> list[dict[str, Any]]:
    response = client.post("/v2/query/aggregate", json={"stream_id": stream, **wanted})
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    return results


def times(events: list[dict[str, Any]]) -> list[str]:
    return [event["timestamp"][11:16] for event in events]


def test_events_come_oldest_first(client: httpx.Client, sales: str) -> None:
    """By their own time, with exactly the members that the API documents (and `next_cursor`)."""
    answer = client.get(f"/v2/query/events?stream_id={sales}").json()

    assert answer.keys() == {"events", "total_count", "has_more", "next_cursor"}
    assert (answer["total_count"], answer["has_more"], answer["next_cursor"]) == (6, False, None)
    assert times(answer["events"]) == ["10:00", "10:10", "10:20", "10:30", "11:00", "11:40"]
    assert answer["events"][0].keys() == {"event_id", "timestamp", "event_type", "data"}
    assert answer["events"][0]["data"] == {"user_id": "1", "page": "/a"}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"start_time": "2024-03-15T10:30:00Z"}, ["10:30", "11:00", "11:40"]),
        ({"end_time": "2024-03-15T10:30:00Z"}, ["10:00", "10:10", "10:20"]),
        ({"start_time": "2024-03-15T11:20:00+01:00", "end_time": "2024-03-15T10:30:00.000001Z"}, ["10:20", "10:30"]),
        ({"event_type": "view"}, ["10:00", "10:30"]),
        ({"event_type": "null"}, []),
        ({"filter": "data.amount>10"}, ["10:10", "10:20"]),
        ({"filter": "data.country=DE", "event_type": "purchase"}, ["10:10", "11:00", "11:40"]),
        ({"filter": "data.page~b"}, ["10:30"]),
        ({"order": "desc", "limit": "2"}, ["11:40", "11:00"]),
        ({"limit": "2", "offset": "3"}, ["10:30", "11:00"]),
    ],
)
def test_a_query_narrows(client: httpx.Client, sales: str, parameters: dict[str, str], expected: list[str]) -> None:
    """Start inclusive, end exclusive; the count is of everything that matches."""
    assert times(found(client, sales, **parameters)) == expected


def test_filters_may_be_repeated(client: httpx.Client, sales: str) -> None:
    """All of them must hold."""
    url = f"/v2/query/events?stream_id={sales}&filter=data.amount>=5&filter=data.amount<20"

    assert times(client.get(url).json()["events"]) == ["10:10", "11:00"]


def test_a_cursor_is_stable_under_writes(client: httpx.Client, sales: str) -> None:
    """Going on after newer events have come neither repeats nor skips what was there."""
    url = f"/v2/query/events?stream_id={sales}&limit=4"
    first = client.get(url).json()
    send(client, sales, {"event_type": "late", "timestamp": "2024-03-15T10:15:00Z"})
    second = client.get(url, params={"stream_id": sales, "limit": "4", "cursor": first["next_cursor"]}).json()

    assert (first["has_more"], second["has_more"], second["next_cursor"]) == (True, False, None)
    assert times(first["events"] + second["events"]) == ["10:00", "10:10", "10:20", "10:30", "11:00", "11:40"]


def test_fields_choose_what_comes(client: httpx.Client, sales: str) -> None:
    """Plain members, whole objects and leaves at their places; what is not there is left out."""
    [event] = found(client, sales, limit="1", fields="event_type, data.user_id,data.nothing,metadata.source")
    assert event == {"event_type": "view", "data": {"user_id": "1"}}
    [event] = found(client, sales, limit="1", fields="timestamp,data")
    assert event == {"timestamp": "2024-03-15T10:00:00Z", "data": {"user_id": "1", "page": "/a"}}


def test_fields_reach_into_lists_and_round_nothing(client: httpx.Client, stream: str) -> None:
    """Quoted names may hold dots and commas."""
    body = f'{{"stream_id":"{stream}","event_type":"x","data":{{"a":[{{"b":1.10}}],"c,d.e":123456789012345678901}}}}'
    client.post("/v2/ingest/events", content=body, headers={"Content-Type": "application/json"})
    parameters = {"stream_id": stream, "fields": 'data.a.0.b,data."c,d.e"'}

    assert (
        '"data":{"a":{"0":{"b":1.10}},"c,d.e":123456789012345678901}'
        in client.get("/v2/query/events", params=parameters).text
    )


@pytest.mark.parametrize(
    ("parameters", "code", "field"),
    [
        ({"stream_id": ""}, "INVALID_QUERY", "stream_id"),
        ({"limit": "0"}, "INVALID_QUERY", "limit"),
        ({"limit": "1001"}, "INVALID_QUERY", "limit"),
        ({"limit": "many"}, "INVALID_QUERY", "limit"),
        ({"offset": "-1"}, "INVALID_QUERY", "offset"),
        ({"order": "up"}, "INVALID_QUERY", "order"),
        ({"start": "2024-03-15T10:00:00Z"}, "INVALID_QUERY", "start"),
        ({"start_time": "2024-03-15T10:00:00"}, "INVALID_TIMESTAMP", "start_time"),
        ({"end_time": "1710498600"}, "INVALID_TIMESTAMP", "end_time"),
        ({"start_time": "2024-03-15T11:00:00Z", "end_time": "2024-03-15T10:00:00Z"}, "INVALID_QUERY", None),
        ({"filter": "data.amount"}, "INVALID_QUERY", None),
        ({"filter": "user=1"}, "INVALID_QUERY", None),
        ({"cursor": "nonsense"}, "INVALID_QUERY", None),
        ({"fields": "user"}, "INVALID_QUERY", None),
        ({"fields": ""}, "INVALID_QUERY", None),
    ],
)
def test_a_wrong_query_is_refused(
    client: httpx.Client, sales: str, parameters: dict[str, str], code: str, field: str | None
) -> None:
    """Each by its parameter."""
    details = refused(client.get("/v2/query/events", params={"stream_id": sales, **parameters}), 400, code)

    assert field is None or details["field"] == field


def test_a_query_needs_a_stream_that_exists(client: httpx.Client) -> None:
    """No stream named is a wrong query, an unknown one is not found."""
    assert refused(client.get("/v2/query/events"), 400, "INVALID_QUERY")["field"] == "stream_id"
    refused(client.get("/v2/query/events?stream_id=nowhere"), 404, "INVALID_STREAM_ID")
    wanted = {"stream_id": "nowhere", "aggregations": [{"operation": "count"}]}
    refused(client.post("/v2/query/aggregate", json=wanted), 404, "INVALID_STREAM_ID")


def test_the_seeds_aggregate_works(client: httpx.Client, sales: str) -> None:
    """The request to the letter; one result for each group."""
    request = {
        "stream_id": sales,
        "time_window": {"start": "2024-03-15T10:00:00Z", "end": "2024-03-15T11:00:00Z"},
        "aggregations": [
            {"field": "data.amount", "operation": "sum"},
            {"field": "data.user_id", "operation": "count_distinct"},
        ],
        "group_by": ["event_type"],
    }
    answer = client.post("/v2/query/aggregate", json=request).json()

    assert answer.pop("query_time_ms") >= 0
    assert answer.pop("events_scanned") >= 4
    assert answer == {
        "stream_id": sales,
        "time_window": {"start": "2024-03-15T10:00:00Z", "end": "2024-03-15T11:00:00Z"},
        "results": [
            {
                "group": {"event_type": "purchase"},
                "values": {"sum(data.amount)": 30.5, "count_distinct(data.user_id)": 2},
                "count": 2,
            },
            {
                "group": {"event_type": "view"},
                "values": {"sum(data.amount)": None, "count_distinct(data.user_id)": 2},
                "count": 2,
            },
        ],
    }


@pytest.mark.parametrize(
    ("operation", "value"),
    [
        ("count", 4),
        ("sum", 35.5),
        ("avg", pytest.approx(35.5 / 3)),
        ("min", 5),
        ("max", 20),
        ("count_distinct", 4),
        ("stddev", pytest.approx(7.5884, abs=1e-4)),
        ("p50", 10.5),
        ("p90", pytest.approx(18.1)),
        ("p95", pytest.approx(19.05)),
        ("p99", pytest.approx(19.81)),
        ("first", 10.5),
        ("last", "free"),
    ],
)
def test_every_operation_answers(client: httpx.Client, sales: str, operation: str, value: object) -> None:
    """Text under an operation on numbers is left out, and counted as skipped."""
    [result] = aggregate(client, sales, aggregations=[{"field": "data.amount", "operation": operation}])
    name = f"{operation}(data.amount)"

    assert result["values"] == {name: value}
    assert result["count"] == 6
    skips = operation not in ("count", "count_distinct", "first", "last")
    assert result.get("skipped") == ({name: 1} if skips else None)


def test_buckets_having_order_and_limit(client: httpx.Client, sales: str) -> None:
    """Together, as a dashboard asks."""
    results = aggregate(
        client,
        sales,
        aggregations=[{"operation": "count"}, {"field": "data.amount", "operation": "sum"}],
        group_by=["data.country"],
        filters=["event_type=purchase"],
        interval="1h",
        having=["count>=1"],
        order_by=[{"field": "sum(data.amount)", "direction": "desc"}, "bucket"],
        limit=2,
    )

    assert [(result["bucket"], result["group"], result["values"]["sum(data.amount)"]) for result in results] == [
        ("2024-03-15T10:00:00Z", {"data.country": "FR"}, 20),
        ("2024-03-15T10:00:00Z", {"data.country": "DE"}, 10.5),
    ]


def test_events_without_the_field_form_the_group_null(client: httpx.Client, sales: str) -> None:
    """They are not left out."""
    results = aggregate(
        client, sales, aggregations=[{"operation": "count"}], group_by=["data.country"], order_by=["-count"]
    )

    assert [(result["group"]["data.country"], result["count"]) for result in results] == [
        ("DE", 3),
        (None, 2),
        ("FR", 1),
    ]


def test_grafana_gets_a_flat_array(client: httpx.Client, sales: str) -> None:
    """A row each with an ISO time column, as the Infinity data source reads by itself."""
    wanted = {
        "stream_id": sales,
        "aggregations": [{"field": "data.amount", "operation": "max"}],
        "group_by": ["event_type"],
        "interval": "1d",
    }

    assert client.post("/v2/query/aggregate?format=grafana", json=wanted).json() == [
        {"time": "2024-03-15T00:00:00Z", "event_type": "purchase", "max(data.amount)": 20, "count": 4},
        {"time": "2024-03-15T00:00:00Z", "event_type": "view", "max(data.amount)": None, "count": 2},
    ]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"aggregations": []}, "INVALID_QUERY"),
        ({"aggregations": [{"operation": "median", "field": "data.x"}]}, "INVALID_QUERY"),
        ({"aggregations": [{"operation": "sum"}]}, "INVALID_QUERY"),
        ({"aggregations": [{"operation": "sum", "field": "amount"}]}, "INVALID_QUERY"),
        ({"group_by": ["country"]}, "INVALID_QUERY"),
        ({"filters": ["data.x"]}, "INVALID_QUERY"),
        ({"interval": "soon"}, "INVALID_QUERY"),
        ({"having": ["nonsense"]}, "INVALID_QUERY"),
        ({"order_by": ["data.country"]}, "INVALID_QUERY"),
        ({"limit": 0}, "INVALID_QUERY"),
        ({"groupby": ["event_type"]}, "INVALID_QUERY"),
        ({"time_window": {"start": "yesterday"}}, "INVALID_TIMESTAMP"),
        ({"time_window": {"from": "2024-03-15T10:00:00Z"}}, "INVALID_QUERY"),
        ({"stream_id": 5}, "INVALID_QUERY"),
    ],
)
def test_a_wrong_aggregate_is_refused(client: httpx.Client, sales: str, wrong: dict[str, Any], code: str) -> None:
    """A misspelt member, too."""
    wanted = {"stream_id": sales, "aggregations": [{"operation": "count"}], **wrong}

    refused(client.post("/v2/query/aggregate", json=wanted), 400, code)
    refused(client.post("/v2/query/aggregate?format=csv", json=wanted), 400, "INVALID_QUERY")


def test_a_count_of_nothing_is_zero(client: httpx.Client, sales: str) -> None:
    """And everything else of nothing is null; with groups there are none."""
    wanted = [{"operation": "count"}, {"operation": "sum", "field": "data.amount"}]
    none = ["event_type=nothing"]

    [result] = aggregate(client, sales, aggregations=wanted, filters=none)
    assert (result["count"], result["values"]) == (0, {"count": 0, "sum(data.amount)": None})
    assert aggregate(client, sales, aggregations=wanted, filters=none, group_by=["event_type"]) == []
