"""DataStream's exports, read back by programs that are not ours."""

import csv
import gzip
import io
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from serving import API_KEY, Server, found, refused, send, serving
from waiting import PATIENCE_S, wait_until

FORMATS = ("json", "ndjson", "csv", "parquet", "avro", "arrow")
EVENTS: list[dict[str, Any]] = [
    {
        "event_type": "purchase",
        "timestamp": "2024-03-15T10:30:00.123456Z",
        "data": {"amount": 12.5, "n": 1, "ok": True, "mixed": "a", "name": 'quo"te, comma\nline'},
        "metadata": {"source": "web"},
    },
    {"event_type": 'odd "type", ü', "timestamp": "1969-12-31T23:59:59.999999Z", "data": {"amount": -3, "n": -7}},
    {
        "event_type": "=1+1",
        "timestamp": "2024-03-15T10:30:00Z",
        "data": {"ok": False, "mixed": 5, "n": 9007199254740993, "name": "@cmd", "list": [1, {"a": 2}]},
    },
    {"event_type": "view", "data": {}, "timestamp": "2262-01-01T00:00:00.000001Z"},
]


def export(client: httpx.Client, stream: str, **parameters: str) -> bytes:
    response = client.get("/v2/export/events", params={"stream_id": stream, **parameters})
    assert response.status_code == 200, response.text
    return response.content


@pytest.fixture
def sample(client: httpx.Client, stream: str) -> str:
    send(client, stream, *EVENTS)
    return stream


def time_of(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["timestamp"])


def as_shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row of columns as a query shows the event."""
    moment = row["timestamp"].astimezone(UTC)
    metadata = row["metadata"]
    return {
        "event_id": row["event_id"],
        "timestamp": moment.isoformat().replace("+00:00", "Z"),
        "event_type": row["event_type"],
        "data": json.loads(row["data"]),
        **({} if metadata is None else {"metadata": json.loads(metadata)}),
    }


def read(form: str, content: bytes, folder: Path) -> list[dict[str, Any]]:
    """The events of an export, read by somebody else's library."""
    match form:
        case "json":
            return list(json.loads(content))
        case "ndjson":
            return [json.loads(line) for line in content.splitlines()]
        case "csv":
            rows = csv.DictReader(io.StringIO(content.decode(), newline=""))
            return [
                as_shown(
                    row | {"timestamp": datetime.fromisoformat(row["timestamp"]), "metadata": row["metadata"] or None}
                )
                for row in rows
            ]
        case "parquet":
            return [as_shown(row) for row in pq.read_table(io.BytesIO(content)).to_pylist()]
        case "avro":
            return [as_shown(row) for row in fastavro.reader(io.BytesIO(content))]  # type: ignore[arg-type]
        case _:
            return [as_shown(row) for row in pa.ipc.open_stream(content).read_all().to_pylist()]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_holds_every_event(client: httpx.Client, sample: str, tmp_path: Path, form: str) -> None:
    """As a query shows them, in the order in which they came, whatever is in them."""
    shown = sorted(found(client, sample), key=lambda event: str(event["event_id"]))

    assert read(form, export(client, sample, format=form, raw="true"), tmp_path) == shown


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_of_nothing_is_a_whole_file(client: httpx.Client, sample: str, tmp_path: Path, form: str) -> None:
    """Every reader takes it, and finds no event."""
    content = export(client, sample, format=form, event_type="nothing")

    assert read(form, content, tmp_path) == []


def test_duckdb_reads_what_is_exported(client: httpx.Client, sample: str, tmp_path: Path) -> None:
    """Parquet, CSV and NDJSON, with the right types."""
    for form in ("parquet", "csv", "ndjson"):
        (tmp_path / f"x.{form}").write_bytes(export(client, sample, format=form))
    asked = "SELECT count(*), min(event_id), max(timestamp::TIMESTAMPTZ)::VARCHAR FROM "
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        sources = (f"'{tmp_path}/x.parquet'", f"read_csv('{tmp_path}/x.csv')", f"read_ndjson('{tmp_path}/x.ndjson')")
        answers = {database.execute(asked + source).fetchall()[0] for source in sources}
        kinds = dict(database.execute(f"SELECT column_name, column_type FROM (DESCRIBE FROM {sources[0]})").fetchall())

    assert answers == {
        (4, found(client, sample, filter="event_type=purchase")[0]["event_id"], "2262-01-01 00:00:00.000001+00")
    }
    assert kinds["timestamp"] == "TIMESTAMP WITH TIME ZONE"


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"start_time": "2024-01-01T00:00:00Z"}, [0, 2, 3]),
        ({"end_time": "2024-03-15T10:30:00Z"}, [1]),
        ({"event_type": "view"}, [3]),
        ({"filter": "data.amount>0"}, [0]),
        ({"filter": "data.n!=null", "end_time": "2024-03-15T10:30:00.1Z"}, [1, 2]),
    ],
)
def test_an_export_narrows_as_a_query_does(
    client: httpx.Client, sample: str, parameters: dict[str, str], expected: list[int]
) -> None:
    """By time, type and filters."""
    events = json.loads(export(client, sample, **parameters))

    assert [event["event_type"] for event in events] == [EVENTS[place]["event_type"] for place in expected]


def test_csv_is_safe_for_spreadsheets(client: httpx.Client, stream: str) -> None:
    """A cell that a spreadsheet would run gets an apostrophe, a negative number as well, unless `raw` asks for it as
    it is."""
    risky = ["=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "a=1"]
    numbers = [-5, 5, -1e300, 0, -(2**53), 7, -1]
    data = [{"t": text, "n": number} for text, number in zip(risky, numbers, strict=True)]
    send(client, stream, *({"event_type": "x", "data": one} for one in data))

    def cells(**parameters: str) -> list[list[str]]:
        text = export(client, stream, format="csv", columns="data.t,data.n", **parameters).decode()
        return list(csv.reader(io.StringIO(text, newline="")))

    raw = cells(raw="true")[1:]
    assert [(text, float(number)) for text, number in raw] == list(zip(risky, numbers, strict=True))
    assert cells()[0] == ["data.t", "data.n"]
    assert cells()[1:] == [[f"'{cell}" if cell[0] in "=+-@\t\r" else cell for cell in row] for row in raw]


def test_columns_have_the_kind_that_all_their_values_have(client: httpx.Client, sample: str) -> None:
    """Whole numbers, numbers, booleans, else text; a long whole number is not rounded."""
    columns = "event_id,data.amount,data.n,data.ok,data.mixed,data.name,data.list,data.none"
    table = pq.read_table(io.BytesIO(export(client, sample, format="parquet", columns=columns)))
    kinds = [str(field.type) for field in table.schema]

    assert table.column_names == columns.split(",")
    assert kinds == ["string", "double", "int64", "bool", "string", "string", "string", "string"]
    assert table["data.amount"].to_pylist() == [12.5, -3, None, None]
    assert table["data.n"].to_pylist() == [1, -7, 9007199254740993, None]
    assert table["data.ok"].to_pylist() == [True, None, False, None]
    assert table["data.mixed"].to_pylist() == ["a", None, "5", None]
    assert table["data.name"].to_pylist() == ['quo"te, comma\nline', None, "@cmd", None]
    assert [text and json.loads(text) for text in table["data.list"].to_pylist()] == [None, None, [1, {"a": 2}], None]


@pytest.mark.parametrize("form", ["csv", "avro", "arrow"])
def test_columns_are_the_same_in_every_format(client: httpx.Client, sample: str, form: str) -> None:
    """By their names, for Avro with underscores where it allows nothing else."""
    content = export(client, sample, format=form, columns='data.n,data."a b",timestamp')
    rows: list[dict[str, Any]]
    match form:
        case "csv":
            rows = list(csv.DictReader(io.StringIO(content.decode())))
            assert rows[0] == {"data.n": "1", 'data."a b"': "", "timestamp": "2024-03-15T10:30:00.123456Z"}
        case "avro":
            rows = list(fastavro.reader(io.BytesIO(content)))  # type: ignore[arg-type]
            assert rows[0] == {"data_n": 1, "data__a_b_": None, "timestamp": time_of(EVENTS[0])}
        case _:
            rows = pa.ipc.open_stream(content).read_all().to_pylist()
            assert rows[0] == {"data.n": 1, 'data."a b"': None, "timestamp": time_of(EVENTS[0])}
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"format": "xml"}, "INVALID_QUERY"),
        ({"filter": "nonsense"}, "INVALID_QUERY"),
        ({"columns": "data.n"}, "INVALID_QUERY"),
        ({"format": "csv", "columns": ""}, "INVALID_QUERY"),
        ({"format": "csv", "columns": "amount"}, "INVALID_QUERY"),
        ({"format": "csv", "columns": "data.n,data.n"}, "INVALID_QUERY"),
        ({"start_time": "yesterday"}, "INVALID_TIMESTAMP"),
        ({"start_time": "2024-03-15T11:00:00Z", "end_time": "2024-03-15T10:00:00Z"}, "INVALID_QUERY"),
    ],
)
def test_a_wrong_export_is_refused(client: httpx.Client, sample: str, parameters: dict[str, str], code: str) -> None:
    """Before anything is sent; so is one of a stream that is not there."""
    refused(client.get("/v2/export/events", params={"stream_id": sample, **parameters}), 400, code)
    refused(client.get("/v2/export/events?stream_id=nowhere"), 404, "INVALID_STREAM_ID")


def test_an_export_is_a_file_with_a_name(client: httpx.Client) -> None:
    """The stream's, with an ending; characters that a header cannot have are encoded."""
    send(client, "Umsätze/2024", EVENTS[0])
    response = client.get("/v2/export/events", params={"stream_id": "Umsätze/2024", "format": "csv"})

    assert response.headers["content-disposition"] == (
        "attachment; filename=\"Ums_tze_2024.csv\"; filename*=UTF-8''Ums%C3%A4tze%2F2024.csv"
    )
    assert response.headers["content-type"].startswith("text/csv")


@pytest.mark.parametrize(("encoding", "decompress"), [("gzip", gzip.decompress), ("zstd", None)])
def test_text_is_compressed_for_those_who_like_it(
    server: Server, client: httpx.Client, sample: str, encoding: str, decompress: Any
) -> None:
    """While it is sent."""
    headers = {"Accept-Encoding": encoding, "X-API-Key": API_KEY}
    url = f"{server.url}/v2/export/events?stream_id={sample}&format=ndjson"
    with httpx.stream("GET", url, headers=headers, timeout=PATIENCE_S) as response:
        packed = b"".join(response.iter_raw())
    assert response.headers["content-encoding"] == encoding
    text = decompress(packed) if decompress else zstandard.ZstdDecompressor().decompressobj().decompress(packed)

    assert text == export(client, sample, format="ndjson")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with 60,000 events, most of them sealed, one in two of another stream."""
    with (
        serving(tmp_path_factory.mktemp("filled") / "data", segment_events=10_000) as server,
        server.client() as client,
    ):
        for first in range(0, 30_000, 1_000):
            for name in ("a", "b"):
                rows = [
                    {"event_type": f"t{number % 3}", "data": {"n": number, "text": "x" * (number % 50)}}
                    for number in range(first, first + 1_000)
                ]
                send(client, name, *rows)
        yield server


@pytest.mark.parametrize("form", FORMATS)
def test_large_exports_are_whole(filled: Server, tmp_path: Path, form: str) -> None:
    """Sealed and live events, window after window, each once."""
    with filled.client() as client:
        events = read(form, export(client, "a", format=form), tmp_path)
        some = read(form, export(client, "a", format=form, filter="data.n>=29000", event_type="t0"), tmp_path)

    assert [event["data"]["n"] for event in events] == list(range(30_000))
    assert [event["data"]["n"] for event in some] == [number for number in range(29_000, 30_000) if number % 3 == 0]


def test_a_client_that_leaves_ends_its_export(filled: Server) -> None:
    """Four run at once and no more, and whoever goes away makes room."""
    request = f"GET /v2/export/events?stream_id=a HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\n\r\n".encode()
    lines = []
    with filled.client() as client:
        for _ in range(4):
            line = socket.socket()
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            line.connect(("127.0.0.1", filled.port))
            line.sendall(request)
            line.recv(100)
            lines.append(line)
        refused(client.get("/v2/export/events?stream_id=a"), 429, "RATE_LIMITED")
        lines.pop().close()
        wait_until(lambda: client.get("/v2/export/events?stream_id=a&event_type=none").status_code == 200)
        for line in lines:
            line.close()
