"""A catalogue over real records, with a clock that stands still, and people of every role."""

import msgspec
import pytest

from mainstem.catalogue import Flags, Imports, Listings, Places, Streamers
from mainstem.clock import FixedClock
from mainstem.identity import Directory, Principal, Scope, Tier
from mainstem.storage import Records
from mainstem.work import Queue


@pytest.fixture
def directory(records: Records, clock: FixedClock) -> Directory:
    return Directory(records, clock, b"s" * 32, 3_600)


@pytest.fixture
def flags(records: Records, clock: FixedClock) -> Flags:
    return Flags(records, clock)


@pytest.fixture
def listings(records: Records, queue: Queue, directory: Directory, flags: Flags, clock: FixedClock) -> Listings:
    return Listings(records, queue, directory, Places(records, clock, flags), clock)


@pytest.fixture
def newcomer(records: Records, queue: Queue, directory: Directory, flags: Flags, clock: FixedClock) -> Listings:
    """The same listings, by way of one that remembers nothing of them."""
    return Listings(records, queue, directory, Places(records, clock, flags), clock)


@pytest.fixture
def streamers(records: Records, queue: Queue, directory: Directory, clock: FixedClock) -> Streamers:
    return Streamers(records, queue, directory, clock)


@pytest.fixture
def imports(records: Records, listings: Listings) -> Imports:
    return Imports(records, listings)


async def _somebody(directory: Directory, name: str, *, is_admin: bool = False) -> Principal:
    account = await directory.create_account(name, email=f"{name}@example.com", is_admin=is_admin)
    return Principal(
        account=account.id,
        name=name,
        credential=f"jwt_{account.id}",
        scopes=frozenset(Scope) if is_admin else frozenset(Scope) - {Scope.ADMIN},
        tier=Tier.UNLIMITED,
        is_admin=is_admin,
    )


@pytest.fixture
async def administrator(directory: Directory) -> Principal:
    return await _somebody(directory, "root", is_admin=True)


@pytest.fixture
async def ada(directory: Directory) -> Principal:
    """An editor."""
    return await _somebody(directory, "ada")


@pytest.fixture
async def bob(directory: Directory) -> Principal:
    """Another editor."""
    return await _somebody(directory, "bob")


@pytest.fixture
async def reader(directory: Directory) -> Principal:
    """Somebody who may read and nothing else."""
    somebody = await _somebody(directory, "rita")
    return msgspec.structs.replace(somebody, is_editor=False, scopes=frozenset({Scope.EVENTS_READ}))
