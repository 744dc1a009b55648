"""`kill -9` under load, fifty times and more: every acknowledged event is there once, in order, byte for byte."""

from pathlib import Path

import pytest

from crash.killing import kill_log_writers, kill_servers

SEED = 20_240_315


@pytest.mark.slow
def test_a_log_survives_kills(tmp_path: Path) -> None:
    """Twelve writers of singles and batches, with event ids and with notes, while it seals and compacts."""
    ledger = kill_log_writers(tmp_path, kills=50, seed=SEED)

    assert ledger.kills == 50
    assert ledger.events > 10_000


@pytest.mark.slow
def test_a_server_survives_kills(tmp_path: Path) -> None:
    """Twelve clients over HTTP who send again what was not answered."""
    ledger = kill_servers(tmp_path, kills=5, seed=SEED)

    assert ledger.events > 1_000
