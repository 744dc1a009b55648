"""Waiting for what must come, however busy the machine is: until it is there, and never for a time that should do."""

import asyncio
import time
from collections.abc import Callable

PATIENCE_S = 60.0
"""How long a test waits for what usually comes at once. Only what is broken takes so long."""


def wait_until(is_so: Callable[[], bool], complaint: Callable[[], object] = lambda: "It never came to be") -> None:
    """Look again and again; when patience is over, fail with what the complaint then tells."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, complaint()
        time.sleep(0.02)


async def until(is_so: Callable[[], bool]) -> None:
    """The same beside other work of this loop."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110  # for conditions that have no event
            await asyncio.sleep(0.01)


def in_one_window[Outcome](window_s: int, act: Callable[[], Outcome]) -> Outcome:
    """What comes of it within one window of a limit, which begins on the minute or the hour; else it is done again."""
    while True:
        window = time.time() // window_s
        outcome = act()
        if time.time() // window_s == window:
            return outcome
