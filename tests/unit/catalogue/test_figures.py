"""Figures of a listing: what the changes of its status come to."""

import pytest

from mainstem.catalogue.figures import Change, LiveTime, live_time, status_changes

SECOND_US = 1_000_000


def changes(*steps: tuple[float, str]) -> list[Change]:
    return [Change(int(at_s * SECOND_US), status) for at_s, status in steps]


@pytest.mark.parametrize(
    ("steps", "now_s", "seconds", "broadcasts"),
    [
        ([], 100, 0, 0),
        ([(0, "unknown"), (10, "offline")], 100, 0, 0),
        ([(10, "live")], 100, 90, 1),
        ([(10, "live"), (40, "offline")], 100, 30, 1),
        ([(10, "live"), (40, "offline"), (50, "live"), (60, "unknown")], 100, 40, 2),
        ([(10, "live"), (20, "live"), (40, "archived")], 100, 30, 1),
        ([(10, "live")], 5, 0, 1),
    ],
)
def test_live_time_is_what_lies_between_live_and_its_end(
    steps: list[tuple[float, str]], now_s: float, seconds: int, broadcasts: int
) -> None:
    """One that still goes on counts up to now; one told twice counts once."""
    assert live_time(changes(*steps), int(now_s * SECOND_US)) == LiveTime(seconds, broadcasts)


def test_a_status_that_is_told_again_has_not_changed() -> None:
    """The first is where it began, and the archive is a place, not a status."""
    told = changes((0, "unknown"), (1, "live"), (2, "live"), (3, "offline"), (4, "live"))
    assert status_changes(told) == 3
    assert status_changes(changes((0, "offline"), (1, "archived"), (2, "live"))) == 1
    assert status_changes([]) == 0
