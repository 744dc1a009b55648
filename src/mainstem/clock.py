"""Time, injected so that tests own it."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

type Clock = Callable[[], int]
"""Answers the present as microseconds since 1970-01-01 UTC."""

SECOND_US = 1_000_000

EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999: what `rfc3339` can write."""


def system_clock() -> int:
    return time.time_ns() // 1_000


def rfc3339(time_us: int) -> str:
    """A time as people and JSON write it: `2024-03-15T10:30:00Z`, with microseconds only where there are any."""
    return (_EPOCH + timedelta(microseconds=time_us)).isoformat() + "Z"


def moment_of(value: object) -> int | None:
    """A time in microseconds, from ISO 8601 as text (UTC where it names no zone, or `UTC` or `GMT`), or from seconds or
    milliseconds since 1970 as a number; None where it is none of these, or not between `EARLIEST_US` and `LATEST_US`.

    Texts and whole numbers are exact to the microsecond, and so are fractions as far as a float is.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Seconds in the year 5138 are milliseconds of 1973: nobody means either.
        moment_us = value * SECOND_US if abs(value) < 1e11 else value * 1_000
        return round(moment_us) if EARLIEST_US <= moment_us <= LATEST_US else None
    text = value.strip() if isinstance(value, str) else ""
    if not 0 < len(text) <= _MOMENT_CHARACTERS_MAX:
        return None
    try:
        moment = datetime.fromisoformat(_ZONE_NAME.sub("Z", text))
    except ValueError:
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    moment_us = (aware - _EPOCH_UTC) // _MICROSECOND
    return moment_us if EARLIEST_US <= moment_us <= LATEST_US else None


_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH = _EPOCH_UTC.replace(tzinfo=None)
_MICROSECOND = datetime.resolution
_MOMENT_CHARACTERS_MAX = 64
"""Far more than any has. To look for the zone takes the square of the length, where that is mostly space."""
_ZONE_NAME = re.compile(r"\s*(?:UTC|GMT)$", re.IGNORECASE)


class FixedClock:
    """A clock for tests: it stands still until it is moved."""

    def __init__(self, now_us: int = 1_710_498_600 * SECOND_US) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us

    def advance(self, seconds: float) -> None:
        self.now_us += int(seconds * SECOND_US)
