"""A directory over real records, with a clock that stands still and hashing that is quick."""

import pytest
from argon2 import PasswordHasher

from mainstem.clock import FixedClock
from mainstem.identity import Directory
from mainstem.identity.passwords import Passwords
from mainstem.storage import Records

SIGNING_KEY = b"s" * 32


def new_directory(records: Records, clock: FixedClock) -> Directory:
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    return Directory(records, clock, SIGNING_KEY, 3_600, passwords)


@pytest.fixture
def directory(records: Records, clock: FixedClock) -> Directory:
    return new_directory(records, clock)


@pytest.fixture
def elsewhere(records: Records, clock: FixedClock) -> Directory:
    """The directory of another process: it shares the records and nothing else."""
    return new_directory(records, clock)
