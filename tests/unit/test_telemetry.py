"""Logs and metrics: what a line holds, what it never holds, and what the numbers mean."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from mainstem.telemetry import (
    LABELS_MAX,
    Family,
    Histogram,
    Metrics,
    configure_logging,
    current_request_id,
    get_logger,
    single,
)


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What is logged as JSON; logging is as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_is_json_with_the_request_id(logged: io.StringIO) -> None:
    """Our own lines and those of libraries alike."""
    token = current_request_id.set("req_1")
    get_logger("ours").info("stored", count=3, size=b"x")
    logging.getLogger("theirs").warning("%d left", 2)
    current_request_id.reset(token)
    ours, theirs = map(json.loads, logged.getvalue().splitlines())

    assert (ours["event"], ours["count"], ours["level"], ours["logger"]) == ("stored", 3, "info", "ours")
    assert (theirs["event"], theirs["level"]) == ("2 left", "warning")
    assert ours["request_id"] == theirs["request_id"] == "req_1"


def test_less_severe_lines_are_left_out(logged: io.StringIO) -> None:
    """The level counts for everybody."""
    get_logger("ours").debug("nothing")
    logging.getLogger("theirs").debug("nothing")

    assert logged.getvalue() == ""


@pytest.mark.parametrize("layout", ["json", "console"])
def test_a_traceback_shows_no_variables(logged: io.StringIO, layout: str) -> None:
    """They hold passwords and keys."""
    configure_logging("info", "json" if layout == "json" else "console", logged)
    secret = "".join(("hun", "ter", "2"))
    try:
        int(f"no number, {len(secret)} characters")
    except ValueError:
        get_logger("ours").exception("failed")

    assert "ValueError" in logged.getvalue()
    assert secret not in logged.getvalue()


def test_quantiles_lie_between_the_bounds() -> None:
    """Straight lines within a bucket; none when nothing was seen."""
    histogram = Histogram()
    assert histogram.quantile(0.5) is None
    for seconds in [0.002] * 90 + [0.2] * 10:
        histogram.observe(seconds)

    median, slow = histogram.quantile(0.5), histogram.quantile(0.99)
    assert median is not None
    assert slow is not None
    assert 0.001 < median < 0.0025
    assert 0.1 < slow <= 0.25
    assert (histogram.count, round(histogram.sum_s, 6)) == (100, 2.18)


def test_metrics_read_the_same_in_both_forms() -> None:
    """Prometheus text and JSON come from the same numbers."""
    metrics = Metrics()
    metrics.request("a_route", "GET", 200, 0.003)
    metrics.request("a_route", "GET", 200, 0.003)
    metrics.request("a_route", "BREW", 405, 0.001)
    metrics.add(lambda: [single("events_total", "counter", "Events.", 7), Family("t_seconds", "summary", "T.", [])])
    text = {family.name: family for family in text_string_to_metric_families(metrics.prometheus().decode())}
    shown = metrics.as_json()

    assert shown["events_total"] == text["mainstem_events"].samples[0].value == 7
    assert shown["http_requests_total"] == [
        {"labels": {"route": "a_route", "method": "GET", "status": "200"}, "value": 2},
        {"labels": {"route": "a_route", "method": "OTHER", "status": "405"}, "value": 1},
    ]
    counts = [
        one.value for one in text["mainstem_http_request_duration_seconds"].samples if one.name.endswith("_count")
    ]
    assert counts == [2, 1]


def test_labels_have_a_cap() -> None:
    """The streams after the first hundred are counted together."""
    metrics = Metrics()
    for number in range(LABELS_MAX + 5):
        metrics.stream_error(f"stream-{number}", "INVALID_EVENT")
    metrics.stream_error("stream-0", "INVALID_EVENT", 3)
    [errors] = [family for family in metrics.families() if family.name == "ingest_errors_total"]
    counted = {labels["stream"]: count for labels, count in errors.values}

    assert len(counted) == LABELS_MAX + 1
    assert (counted["stream-0"], counted["other"]) == (4, 5)
