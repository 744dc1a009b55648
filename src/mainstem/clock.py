"""Time, injected so that tests own it."""

import time
from collections.abc import Callable

type Clock = Callable[[], int]
"""Answers the present as microseconds since 1970-01-01 UTC."""

SECOND_US = 1_000_000


def system_clock() -> int:
    return time.time_ns() // 1_000


class FixedClock:
    """A clock for tests: it stands still until it is moved."""

    def __init__(self, now_us: int = 1_710_498_600 * SECOND_US) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us

    def advance(self, seconds: float) -> None:
        self.now_us += int(seconds * SECOND_US)
