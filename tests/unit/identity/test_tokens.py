"""The secret that signs tokens."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mainstem.errors import Unavailable
from mainstem.identity import signing_key


def test_the_signing_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    key = signing_key(tmp_path)

    assert len(key) == 32
    assert signing_key(tmp_path) == key
    assert [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()] == [0o600]


def test_processes_that_start_at_once_agree_on_the_signing_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(signing_key, [tmp_path] * 8))

    assert len(keys) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["signing"]


def test_a_damaged_signing_key_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "signing").write_bytes(b"short")

    with pytest.raises(Unavailable, match="damaged"):
        signing_key(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="missing/signing cannot be read or made: No such file"):
        signing_key(tmp_path / "missing")
