"""The synthetic events: 250 bytes of JSON each, all different, and how each system wants them packed.

An event is a row of a byte matrix with every field at a fixed place, so a million of them cost a second, and what is
measured is never the making of the load.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

type Rows = NDArray[np.uint8]
"""One event a row, JSON text, EVENT_BYTES wide."""

TEMPLATE = (
    b'{"timestamp":"2026-11-22T12:34:56.123456Z","event_type":"purchase",'
    b'"data":{"user_id":"u_01234","action":"checkout","amount":123.45,'
    b'"properties":{"page":"/p1234","session":"0123456789abcdef","duration":1234}},'
    b'"metadata":{"source":"w","version":"2.4"}}'
)
EVENT_BYTES = len(TEMPLATE)

# Names of equal length keep every field at its place.
TYPES = (b"pageview", b"pageview", b"pageview", b"purchase", b"register", b"download", b"feedback", b"add_cart")
ACTIONS = (b"checkout", b"navigate", b"scrolled", b"selected")
USERS = 20_000
PAGES = 500
AMOUNT_MIN, AMOUNT_MAX = 100, 999

DAY_US = 86_400_000_000


def _place(sample: bytes) -> slice:
    begin = TEMPLATE.index(sample)
    return slice(begin, begin + len(sample))


TIMESTAMP = _place(b"2026-11-22T12:34:56.123456")
TYPE = _place(b"purchase")
USER = _place(b"01234")
ACTION = _place(b"checkout")
AMOUNT = slice(TEMPLATE.index(b"123.45"), TEMPLATE.index(b"123.45") + 3)
CENTS = slice(AMOUNT.stop + 1, AMOUNT.stop + 3)
PAGE = slice(TEMPLATE.index(b"/p") + 2, TEMPLATE.index(b"/p") + 6)
SESSION = _place(b"0123456789abcdef")
DURATION = slice(TEMPLATE.index(b'duration":') + 10, TEMPLATE.index(b'duration":') + 14)
SOURCE = slice(TEMPLATE.index(b'source":"') + 9, TEMPLATE.index(b'source":"') + 10)
MINOR = slice(TEMPLATE.index(b'"2.4"') + 3, TEMPLATE.index(b'"2.4"') + 4)
DATA = slice(TEMPLATE.index(b'"data":') + 7, TEMPLATE.index(b',"metadata"'))
METADATA = slice(TEMPLATE.index(b'"metadata":') + 11, EVENT_BYTES - 1)


def make(count: int, *, seed: int, first_us: int, step_us: int) -> Rows:
    """Events with ascending timestamps, `step_us` apart; the same seed gives the same events."""
    random = np.random.default_rng(seed)
    rows = np.tile(np.frombuffer(TEMPLATE, np.uint8), (count, 1))
    rows[:, TYPE] = _texts(TYPES)[random.integers(0, len(TYPES), count)]
    rows[:, USER] = _digits(random.integers(0, USERS, count), 5)
    rows[:, ACTION] = _texts(ACTIONS)[random.integers(0, len(ACTIONS), count)]
    rows[:, AMOUNT] = _digits(random.integers(AMOUNT_MIN, AMOUNT_MAX + 1, count), 3)
    rows[:, CENTS] = _digits(random.integers(0, 100, count), 2)
    rows[:, PAGE] = _digits(random.integers(0, PAGES, count), 4)
    rows[:, SESSION] = np.frombuffer(b"0123456789abcdef", np.uint8)[random.integers(0, 16, (count, 16))]
    rows[:, DURATION] = _digits(random.integers(1_000, 10_000, count), 4)
    rows[:, SOURCE] = _texts((b"w", b"a", b"i"))[random.integers(0, 3, count)]
    rows[:, MINOR] = _digits(random.integers(0, 10, count), 1)
    set_times(rows, first_us, step_us)
    return rows


def set_times(rows: Rows, first_us: int, step_us: int) -> None:
    """Give the same events other timestamps."""
    times = first_us + step_us * np.arange(len(rows))
    text = np.datetime_as_string(times.astype("datetime64[us]"), unit="us").astype("S26")
    rows[:, TIMESTAMP] = text.view(np.uint8).reshape(len(rows), 26)


def _texts(texts: Sequence[bytes]) -> Rows:
    return np.frombuffer(b"".join(texts), np.uint8).reshape(len(texts), -1)


def _digits(numbers: NDArray[np.int64], width: int) -> Rows:
    powers = 10 ** np.arange(width - 1, -1, -1)
    return (numbers[:, None] // powers % 10 + ord("0")).astype(np.uint8)


def wrap(rows: Rows, before: bytes = b"", after: bytes = b"") -> bytes:
    """The rows one after the other, each between the same two texts."""
    parts = [np.broadcast_to(np.frombuffer(text, np.uint8), (len(rows), len(text))) for text in (before, after)]
    return np.hstack([parts[0], rows, parts[1]]).tobytes()


def batches(rows: Rows, size: int) -> Iterator[Rows]:
    return (rows[begin : begin + size] for begin in range(0, len(rows), size))


# As each system takes them


def http_single(stream: str, row: Rows) -> bytes:
    return b'{"stream_id":"%s",' % stream.encode() + row[1:].tobytes()


def http_batch(stream: str, rows: Rows) -> bytes:
    return b'{"stream_id":"%s","events":[' % stream.encode() + wrap(rows, after=b",")[:-1] + b"]}"


def arrow_stream(rows: Rows) -> bytes:
    """An Arrow IPC stream as a dataframe writes it, uncompressed: times in microseconds, the rest as text."""

    def text(place: slice) -> pa.Array:
        width = place.stop - place.start
        offsets = width * np.arange(len(rows) + 1, dtype=np.int32)
        utf8 = pa.py_buffer(np.ascontiguousarray(rows[:, place]))
        return pa.StringArray.from_buffers(len(rows), pa.py_buffer(offsets), utf8)

    times = text(TIMESTAMP).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    columns = {"timestamp": times, "event_type": text(TYPE), "data": text(DATA), "metadata": text(METADATA)}
    batch = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def redis_add(stream: str, rows: Rows) -> bytes:
    """One XADD an event, the event as one field: the leanest form that keeps all of it."""
    key = stream.encode()
    return wrap(
        rows, b"*5\r\n$4\r\nXADD\r\n$%d\r\n%s\r\n$1\r\n*\r\n$1\r\ne\r\n$%d\r\n" % (len(key), key, EVENT_BYTES), b"\r\n"
    )


def nats_publish(subject: str, reply: str, rows: Rows) -> bytes:
    return wrap(rows, b"PUB %s %s %d\r\n" % (subject.encode(), reply.encode(), EVENT_BYTES), b"\r\n")


def postgres_copy(stream: str, rows: Rows) -> bytes:
    """Lines of COPY's text format: stream, ts, event_type, data, metadata. The JSON has nothing to escape."""
    tab, end = (np.broadcast_to(np.frombuffer(text, np.uint8), (len(rows), 1)) for text in (b"\t", b"\n"))
    name = np.broadcast_to(np.frombuffer(stream.encode(), np.uint8), (len(rows), len(stream.encode())))
    zone = np.broadcast_to(np.frombuffer(b"Z", np.uint8), (len(rows), 1))
    columns = [name, tab, rows[:, TIMESTAMP], zone, tab, rows[:, TYPE], tab, rows[:, DATA], tab, rows[:, METADATA], end]
    return np.hstack(columns).tobytes()
