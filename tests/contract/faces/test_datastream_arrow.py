"""Arrow IPC streams as bodies: what a dataframe sends, and what somebody sends who means no good."""

import json
import random
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from serving import found, refused

ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}
MOMENTS = [datetime(2024, 3, 15, 10, 30, second, 123456, tzinfo=UTC) for second in range(3)]
TIMES = [f"2024-03-15T10:30:0{second}.123456Z" for second in range(3)]
LONG = '{"a":"%s"}' % ("x" * 900_000)
NOTHING = {"event_type": pa.array([], pa.string()), "data": pa.array([], pa.string())}
DATA = ['{"n": 1.10}', '{"text": "ü,{}"}', "{}"]


def arrow(columns: dict[str, Any], compression: str | None = None, repeat: int = 1) -> bytes:
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        for _ in range(repeat):
            writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def post(client: httpx.Client, stream: str, body: bytes, **parameters: str) -> httpx.Response:
    return client.post("/v2/ingest/batch", content=body, headers=ARROW, params={"stream_id": stream, **parameters})


def good(**columns: Any) -> dict[str, Any]:
    return {
        "timestamp": pa.array(MOMENTS, pa.timestamp("us", "UTC")),
        "event_type": list("abc"),
        "data": DATA,
    } | columns


@pytest.mark.parametrize("route", ["/v2/ingest/events", "/v2/ingest/batch"])
def test_a_stream_of_record_batches_is_a_batch(client: httpx.Client, stream: str, route: str) -> None:
    """Every row is an event; the answer is that of a batch."""
    body = arrow(good(metadata=['{"m":1}', None, ""], event_id=["x", None, "y"]))
    answer = client.post(f"{route}?stream_id={stream}", content=body, headers=ARROW).json()
    events = found(client, stream)

    assert (answer["accepted"], answer["rejected"]) == (3, 0)
    assert [event["event_type"] for event in events] == ["a", "b", "c"]
    assert [event["timestamp"] for event in events] == TIMES
    assert [event["data"] for event in events] == [json.loads(text) for text in DATA]
    assert [event.get("metadata") for event in events] == [{"m": 1}, None, None]
    assert post(client, stream, body).json()["duplicates"] == 2


@pytest.mark.parametrize(
    "timestamps",
    [
        pa.array(TIMES),
        pa.array([time.replace("Z", "+00:00") for time in TIMES], pa.large_string()),
        pa.array(MOMENTS, pa.timestamp("ns", "UTC")),
        pa.array(MOMENTS, pa.timestamp("us", "America/New_York")),
    ],
    ids=["text", "offsets", "nanoseconds", "another zone"],
)
def test_times_come_as_text_or_as_timestamps(client: httpx.Client, stream: str, timestamps: pa.Array) -> None:
    """Of any unit and zone."""
    post(client, stream, arrow(good(timestamp=timestamps)))

    assert [event["timestamp"] for event in found(client, stream)] == TIMES


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("batches", [1, 4])
def test_bodies_may_be_compressed_and_in_pieces(
    client: httpx.Client, stream: str, compression: str | None, batches: int
) -> None:
    """As Arrow itself compresses, beside Content-Encoding."""
    answer = post(client, stream, arrow(good(data=['{"a":"%s"}' % ("x" * 999)] * 3), compression, batches)).json()

    assert answer["accepted"] == 3 * batches


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_text_comes_in_every_layout(client: httpx.Client, stream: str, kind: pa.DataType) -> None:
    """As Polars, DuckDB and pandas write it."""
    columns = good(event_type=pa.array(list("aba")).cast(kind), data=pa.array([*DATA[:2], None]).cast(kind))
    post(client, stream, arrow(columns))
    events = found(client, stream)

    assert [event["event_type"] for event in events] == ["a", "b", "a"]
    assert [event["data"] for event in events] == [{"n": 1.1}, {"text": "ü,{}"}, {}]


def test_only_type_and_data_are_needed(client: httpx.Client, stream: str) -> None:
    """The time is then that of arrival, for a single missing one, too."""
    post(client, stream, arrow({"event_type": ["a"], "data": ["{}"]}))
    post(client, stream, arrow(good(timestamp=pa.array([None, *MOMENTS[1:]], pa.timestamp("us", "UTC")))))

    years = [event["timestamp"][:4] for event in found(client, stream)]
    assert sorted(years) == ["2024", "2024", *[str(datetime.now(UTC).year)] * 2]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"event_type": ["a", "", "c"]}, "INVALID_EVENT"),
        ({"event_type": ["a", None, "c"]}, "INVALID_EVENT"),
        ({"event_type": ["a", "\n", "c"]}, "INVALID_EVENT"),
        ({"data": ["{}", "[]", "{}"]}, "INVALID_EVENT"),
        ({"data": ["{}", "{", "{}"]}, "INVALID_JSON"),
        ({"data": ["{}", "{} {}", "{}"]}, "INVALID_JSON"),
        ({"data": ["{}", "", "{}"]}, "INVALID_JSON"),
        ({"data": ["{}", '{"a":' * 5_000, "{}"]}, "INVALID_JSON"),
        ({"metadata": [None, "5", None]}, "INVALID_EVENT"),
        ({"metadata": [None, "nonsense", None]}, "INVALID_JSON"),
        ({"event_id": ["a", "x" * 129, None]}, "INVALID_EVENT"),
        ({"timestamp": [TIMES[0], "2024-03-15T10:30:00", TIMES[2]]}, "INVALID_TIMESTAMP"),
        ({"timestamp": pa.array([0, 2**62, 0], pa.timestamp("us", "UTC"))}, "INVALID_TIMESTAMP"),
        ({"data": ["{}", '{"a":"%s"}' % ("x" * (1 << 20)), "{}"]}, "PAYLOAD_TOO_LARGE"),
    ],
)
def test_a_wrong_row_is_told(client: httpx.Client, stream: str, wrong: dict[str, Any], code: str) -> None:
    """By its index, and nothing is stored; `partial` stores the others."""
    body = arrow(good(**wrong))
    response = post(client, stream, body)
    errors = response.json()["error"]["details"]["errors"]

    assert response.status_code == (413 if code == "PAYLOAD_TOO_LARGE" else 400)
    assert [(error["index"], error["code"]) for error in errors] == [(1, code)]
    refused(client.get(f"/v2/streams/{stream}"), 404, "INVALID_STREAM_ID")
    assert post(client, stream, body, partial="true").json()["accepted"] == 2


def test_rows_do_not_lend_each_other_brackets(client: httpx.Client, stream: str) -> None:
    """All rows are read as one list, which must not let two wrong texts make two right ones."""
    body = arrow(good(data=['{},{"x":"}', '{"}', "{}"]))

    errors = post(client, stream, body).json()["error"]["details"]["errors"]
    assert [error["index"] for error in errors] == [0, 1]


@pytest.mark.parametrize(
    "columns",
    [
        {"event_type": ["a"]},
        {"data": ["{}"]},
        {"event_type": ["a"], "data": ["{}"], "amount": [1]},
        {"event_type": ["a"], "data": [{"amount": 1}]},
        {"event_type": [1], "data": ["{}"]},
        {"event_type": ["a"], "data": [b"{}"]},
        {"event_type": ["a"], "data": ["{}"], "timestamp": [1]},
        {"event_type": ["a"], "data": ["{}"], "timestamp": [datetime(2024, 3, 15)]},  # noqa: DTZ001  # that is the point
    ],
)
def test_other_columns_are_refused(client: httpx.Client, stream: str, columns: dict[str, Any]) -> None:
    """What is not kept is not silently dropped; a time has a zone."""
    refused(post(client, stream, arrow(columns)), 400, "INVALID_REQUEST")


def test_a_body_without_a_stream_or_rows_is_refused(client: httpx.Client, stream: str) -> None:
    """Arrow has no place for the stream but the parameter."""
    response = client.post("/v2/ingest/batch", content=arrow(good()), headers=ARROW)

    assert refused(response, 400, "INVALID_EVENT")["name"] == "stream_id"
    refused(post(client, stream, arrow(NOTHING)), 400, "INVALID_EVENT")


def repeated(count: int) -> pa.Array:
    """Many views of one long text."""
    _, views, text = pa.array([LONG]).cast(pa.string_view()).buffers()
    return pa.Array.from_buffers(pa.string_view(), count, [None, pa.py_buffer(views.to_pybytes() * count), text])


def of_a_dictionary(count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), [LONG])


BOMBS = {
    "compressed": lambda: arrow({"event_type": ["a"] * 40, "data": [LONG] * 40}, "zstd"),
    "dictionary": lambda: arrow({"event_type": ["a"] * 40, "data": of_a_dictionary(40)}),
    "views": lambda: arrow({"event_type": ["a"] * 40, "data": repeated(40)}),
    "rows": lambda: arrow({"event_type": ["a"] * 10_001, "data": ["{}"] * 10_001}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_unpacks_to_too_much_is_refused(client: httpx.Client, stream: str, name: str) -> None:
    """Before it is unpacked: the limit is that of any other body, 16 MiB."""
    body = BOMBS[name]()

    assert len(body) < 2 << 20
    refused(post(client, stream, body), 413, "PAYLOAD_TOO_LARGE")


def test_endless_batches_are_refused(client: httpx.Client, stream: str) -> None:
    """Each costs time, even with nothing in it."""
    sink = pa.BufferOutputStream()
    batch = pa.record_batch(NOTHING)
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(2_000):
            writer.write_batch(batch)

    refused(post(client, stream, sink.getvalue().to_pybytes()), 400, "INVALID_REQUEST")


def test_damaged_bodies_do_no_harm(client: httpx.Client, stream: str) -> None:
    """Bytes are changed and cut at random: the answer is 200 or 400, and the server lives."""
    dice = random.Random(7)
    kinds = (pa.string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()))
    statuses = set()
    for turn in range(400):
        columns = good(event_type=pa.array(list("aba")).cast(kinds[turn % 3]))
        body = bytearray(arrow(columns, dice.choice([None, "lz4", "zstd"])))
        for _ in range(dice.randint(1, 4)):
            body[dice.randrange(len(body))] = dice.choice([0, 255, dice.randrange(256)])
        statuses.add(post(client, stream, bytes(body[: dice.choice([None, dice.randrange(len(body))])])).status_code)

    assert statuses <= {200, 400, 413}
    assert client.get("/health/ready").status_code == 200


def test_ten_thousand_rows_are_as_sent(client: httpx.Client, stream: str) -> None:
    """A body as big as one may be, in slices as dataframes cut them."""
    numbers = np.arange(10_100)
    table = pa.table({"event_type": ["n"] * len(numbers), "data": [f'{{"n":{number}}}' for number in numbers]}).slice(
        100
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3_333)
    post(client, stream, sink.getvalue().to_pybytes())
    wanted = {"stream_id": stream, "aggregations": [{"operation": "sum", "field": "data.n"}]}

    [result] = client.post("/v2/query/aggregate", json=wanted).json()["results"]
    assert result["count"] == 10_000
    assert result["values"] == {"sum(data.n)": int(numbers[100:].sum())}
