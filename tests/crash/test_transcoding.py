"""Servers, workers and children that are killed while jobs run and players play."""

from pathlib import Path

import pytest

from crash.transcoding import kill_transcoders

SEED = 20_250_127


@pytest.mark.slow
def test_whatever_is_killed_every_job_ends_whole_or_failed(tmp_path: Path) -> None:
    """`python -m tests.crash --transcodes 100` does it more often."""
    tally = kill_transcoders(tmp_path, kills=6, seed=SEED)
    assert tally.completed + tally.failed == 12
    assert tally.completed >= 8, "a kill costs an attempt, not the job"
    assert tally.looks > 20
