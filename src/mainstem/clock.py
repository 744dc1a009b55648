"""Time, injected so that tests own it."""

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


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)


class FixedClock:
    """A clock for tests: it stands still until it is moved."""

    def __init__(self, now_us: int = 1_710_498_600 * SECOND_US) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us

    def advance(self, seconds: float) -> None:
        self.now_us += int(seconds * SECOND_US)
