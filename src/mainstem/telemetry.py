"""What the server tells of itself: structured logs, the id of the request at hand, and metrics.

Metrics are plain numbers that cost nothing to raise; they become Prometheus text or JSON when somebody asks.
"""

import logging
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Literal, TextIO

import msgspec
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

# Logs

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="")


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def configure_logging(
    level: Literal["debug", "info", "warning", "error"] = "info",
    layout: Literal["auto", "json", "console"] = "auto",
    stream: TextIO | None = None,
    *,
    process: str = "",
) -> None:
    """Log to `stream` (stderr by default), our own lines and those of libraries alike.

    `process` is told in every line where several processes write to one place.

    `auto` is for people when a terminal reads, and one JSON object a line when not.
    """
    stream = stream or sys.stderr
    for_people = layout == "console" or (layout == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_request_id,
        *([_adder("process", process)] if process else []),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    # Never with local variables: they hold passwords and keys.
    tracebacks = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
    renderers: list[Processor] = [tracebacks, structlog.processors.JSONRenderer(_to_json)]
    if for_people:
        plain = structlog.dev.plain_traceback
        renderers = [
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), timestamp_key="time", exception_formatter=plain)
        ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("uvicorn.error", "aiosqlite", "alembic", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


def _adder(name: str, value: str) -> Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event[name] = value
        return event

    return add


def _add_request_id(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    request_id = current_request_id.get()
    if request_id:
        event.setdefault("request_id", request_id)
    return event


def _to_json(event: object, **_: object) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


# Metrics

BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets of every duration; one more bucket takes what is slower."""

LABELS_MAX = 100
"""How many streams are counted under their own name; the rest are `other`."""


class Histogram:
    """Durations counted in buckets."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """About the value below which this share lies, straight lines between the bounds; None when empty."""
        wanted = share * self.count
        if not wanted:
            return None
        below = 0
        for index, count in enumerate(self.counts):
            if below + count >= wanted and count:
                lower = BOUNDS_S[index - 1] if index else 0.0
                upper = BOUNDS_S[index] if index < len(BOUNDS_S) else BOUNDS_S[-1]
                return lower + (upper - lower) * (wanted - below) / count
            below += count
        return BOUNDS_S[-1]


type Labels = Mapping[str, str]


class Family(msgspec.Struct, frozen=True):
    """One metric with a value for each set of labels. Names are in base units, without the `mainstem_` before them."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "summary"]
    help: str
    values: Sequence[tuple[Labels, float | Histogram | Sequence[float]]]
    """A histogram has Histograms; a summary has the latest observations, sorted or not."""


def single(name: str, kind: Literal["counter", "gauge"], help: str, value: float) -> Family:  # noqa: A002  # its name
    return Family(name, kind, help, [({}, value)])


type Source = Callable[[], Iterable[Family]]


class RequestMeter:
    """Counts the requests of one route; the hot path holds on to its own."""

    __slots__ = ("_by_status", "histogram")

    def __init__(self) -> None:
        self._by_status: dict[int, int] = {}
        self.histogram = Histogram()

    def count(self, status: int, seconds: float) -> None:
        counts = self._by_status
        counts[status] = counts.get(status, 0) + 1
        self.histogram.observe(seconds)

    def statuses(self) -> Iterable[tuple[int, int]]:
        return sorted(self._by_status.items())


class Metrics:
    """All that is counted, here and in what other parts `add`."""

    def __init__(self) -> None:
        self._meters: dict[tuple[str, str], RequestMeter] = {}
        self._stream_errors: dict[tuple[str, str], int] = {}
        self._streams: set[str] = set()
        self._sources: list[Source] = []
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(self))

    def add(self, source: Source) -> None:
        """Ask `source` for its families whenever metrics are read."""
        self._sources.append(source)

    def meter(self, route: str, method: str) -> RequestMeter:
        meter = self._meters.get((route, method))
        if meter is None:
            meter = self._meters[route, method] = RequestMeter()
        return meter

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        # A made-up method must not make a new row each time.
        self.meter(route, method if method in _METHODS else "OTHER").count(status, seconds)

    def stream_error(self, stream: str, code: str, count: int = 1) -> None:
        """Events, or a request with events, of this stream were refused."""
        if stream not in self._streams and len(self._streams) >= LABELS_MAX:
            stream = "other"
        self._streams.add(stream)
        self._stream_errors[stream, code] = self._stream_errors.get((stream, code), 0) + count

    def families(self) -> Iterator[Family]:
        """In base units, the requests first."""
        meters = sorted(self._meters.items())
        yield Family(
            "http_requests_total",
            "counter",
            "Requests answered.",
            [
                ({"route": route, "method": method, "status": str(status)}, count)
                for (route, method), meter in meters
                for status, count in meter.statuses()
            ],
        )
        yield Family(
            "http_request_duration_seconds",
            "histogram",
            "Time from a request's headers to its answer.",
            [({"route": route, "method": method}, meter.histogram) for (route, method), meter in meters],
        )
        yield Family(
            "ingest_errors_total",
            "counter",
            "Refused ingest requests and events, by stream (a hundred of them, then `other`) and error code.",
            [({"stream": stream, "code": code}, count) for (stream, code), count in self._stream_errors.items()],
        )
        for source in self._sources:
            yield from source()

    def prometheus(self) -> bytes:
        """Text in the Prometheus exposition format."""
        return generate_latest(self._registry)

    def as_json(self) -> dict[str, object]:
        """The same numbers by name: a bare value where there are no labels, else a list of `{labels, …}`."""
        return {family.name: _json_values(family) for family in self.families()}


PROMETHEUS_MEDIA_TYPE = CONTENT_TYPE_PLAIN_1_0_0

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def _json_values(family: Family) -> object:
    if len(family.values) == 1 and not family.values[0][0]:
        return _json_value(family.values[0][1])
    values = []
    for labels, value in family.values:
        shown = _json_value(value)
        values.append({"labels": labels, **(shown if isinstance(shown, dict) else {"value": shown})})
    return values


def _json_value(value: float | Histogram | Sequence[float]) -> object:
    if isinstance(value, Histogram):
        quantiles = {name: value.quantile(share) for name, share in _QUANTILES.items()}
        return {"count": value.count, "sum": value.sum_s, **quantiles}
    if isinstance(value, int | float):
        return value
    ordered = sorted(value)
    return {"count": len(ordered), **{name: _nth(ordered, share) for name, share in _QUANTILES.items()}}


def _nth(ordered: Sequence[float], share: float) -> float | None:
    """The observation at this share of a sorted list."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


class _Collector:
    """Hands our families to prometheus_client."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        for family in self._metrics.families():
            yield _metric(family)


def _metric(family: Family) -> Metric:
    name = "mainstem_" + family.name
    metric = Metric(name.removesuffix("_total") if family.kind == "counter" else name, family.help, family.kind)
    for labels, value in family.values:
        if isinstance(value, Histogram):
            _add_buckets(metric, name, labels, value)
        elif isinstance(value, int | float):
            metric.add_sample(name, dict(labels), value)
        else:
            ordered = sorted(value)
            for share in _QUANTILES.values():
                nth = _nth(ordered, share)
                metric.add_sample(name, {**labels, "quantile": str(share)}, float("nan") if nth is None else nth)
    return metric


def _add_buckets(metric: Metric, name: str, labels: Labels, histogram: Histogram) -> None:
    below = 0
    for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), histogram.counts, strict=True):
        below += count
        metric.add_sample(name + "_bucket", {**labels, "le": bound}, below)
    metric.add_sample(name + "_count", dict(labels), below)
    metric.add_sample(name + "_sum", dict(labels), histogram.sum_s)
