"""P15: a million events as a file, in each format; and that memory does not grow with them."""

import http.client
import io
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import Figure, at_most
from benchmarks.history import Day
from benchmarks.ingest import MAINSTEM
from benchmarks.processes import HOST
from benchmarks.server import Server
from benchmarks.software import Missing
from benchmarks.stage import Stage
from benchmarks.table import Row, megabytes, row, seconds

EVENTS = 1_000_000
GOALS_S = {"parquet": 2.0, "ndjson": 3.0, "csv": 5.0, "avro": 10.0, "arrow": None, "json": None}

_PIECE = 1 << 20


def downloads(stage: Stage) -> Iterator[Row]:
    """P15: an hour of sealed and live events, read as fast as they come."""
    with stage.fresh_server() as server:
        Day("exported", EVENTS).load(server)
        server.rest()
        for form, bound in GOALS_S.items():
            _check(form, b"".join(_pieces(server, form)))
            spent, sizes = [], []
            server.process.settle()
            before = server.process.rss_bytes()
            server.process.forget_peak()
            for _ in range(stage.scale.rounds):
                begin = time.perf_counter()
                sizes.append(sum(map(len, _pieces(server, form))))
                spent.append(time.perf_counter() - begin)
            grown = (server.process.rss_peak_bytes() - before) / 1e6
            note = f"{sizes[0] / 1e6:,.0f} MB; RSS at most {grown:,.0f} MB above rest"
            goal = None if bound is None else at_most(bound)
            yield row("P15", f"{EVENTS:,} events as {form}", MAINSTEM, Figure(tuple(spent)), seconds, goal, note)
        yield from _memory(server)


def _memory(server: Server) -> Iterator[Row]:
    """The same export of a tenth and of all: what the larger takes more is what grows."""
    peaks = []
    for share in (0.1, 1.0):
        server.process.settle()
        server.process.forget_peak()
        day = Day("exported", EVENTS)
        end = day.begin_us + int((day.end_us - day.begin_us) * share)
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end / 1e6))
        for _ in _pieces(server, "ndjson", end_time=moment):
            pass
        peaks.append(server.process.rss_peak_bytes() / 1e6)
    what = "peak RSS, all of it beside a tenth of it, as NDJSON"
    yield row("P15", what, MAINSTEM, Figure((peaks[1] - peaks[0],)), megabytes, at_most(50))


def _pieces(server: Server, form: str, **narrowed: str) -> Iterator[bytes]:
    parameters = urlencode({"stream_id": "exported", "format": form, **narrowed})
    line = http.client.HTTPConnection(HOST, server.port, timeout=120)
    line.request("GET", f"/v2/export/events?{parameters}", headers={"X-API-Key": server.key})
    answer = line.getresponse()
    if answer.status != 200:
        raise Missing(f"mainstem answered {answer.status}: {answer.read(200)!r}")
    while piece := answer.read(_PIECE):
        yield piece
    line.close()


def _check(form: str, content: bytes) -> None:
    """All events are there, as a library that is not ours counts them. Raises Missing."""
    match form:
        case "parquet":
            count = pq.read_metadata(io.BytesIO(content)).num_rows
        case "arrow":
            count = pa.ipc.open_stream(content).read_all().num_rows
        case "avro":
            count = sum(block.num_records for block in fastavro.block_reader(io.BytesIO(content)))
        case _:
            count = content.count(b"evt_")
    if count != EVENTS:
        raise Missing(f"the {form} file has {count:,} of {EVENTS:,} events")
