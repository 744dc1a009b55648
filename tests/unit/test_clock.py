"""Times as clients write them are read, to the microsecond, or told apart from what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mainstem.clock import EARLIEST_US, LATEST_US, moment_of, rfc3339

TEN_US = 1_736_071_200_000_000
"""Ten o'clock on the fifth of January 2025."""


@given(some.integers(EARLIEST_US, LATEST_US))
def test_what_is_written_is_read_again_exactly(time_us: int) -> None:
    assert moment_of(rfc3339(time_us)) == time_us


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (1_736_071_200, TEN_US),
        (1_736_071_200_000, TEN_US),
        (1_736_071_200.000001, TEN_US + 1),
        (-1, -1_000_000),
        ("2025-01-05T10:00:00Z", TEN_US),
        (" 2025-01-05 10:00 UTC", TEN_US),
        ("2025-01-05T11:00:00.000001+01:00", TEN_US + 1),
        ("9999-12-31T23:59:59.999999Z", LATEST_US),
        ("0001-01-01T00:00Z", EARLIEST_US),
    ],
)
def test_a_time_is_text_or_seconds_or_milliseconds(written: object, read: int) -> None:
    assert moment_of(written) == read


@pytest.mark.parametrize(
    "written",
    [
        "0001-01-01T00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "tomorrow",
        "1736071200",
        "",
        True,
        None,
        [],
        float("nan"),
        float("inf"),
        1e300,
        10**400,
        -(10**400),
    ],
)
def test_what_is_none_is_none(written: object) -> None:
    assert moment_of(written) is None
