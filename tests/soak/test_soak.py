"""A minute of the soak; `make soak` takes ten."""

from pathlib import Path

import pytest

from soak.soaking import soak


@pytest.mark.slow
def test_a_minute_of_everything_at_once_leaves_all_in_order(tmp_path: Path) -> None:
    """Every acknowledged event is there once behind both doors; files are closed, memory settles."""
    outcome = soak(tmp_path, 60)

    assert outcome.failures == [], str(outcome)
    assert outcome.events > 1_000
