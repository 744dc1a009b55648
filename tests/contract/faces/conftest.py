"""People behind StreamSource's door, one of each kind for a module; its `server` lets them choose their roles."""

from collections.abc import Iterator

import httpx
import pytest

from serving import API_KEY, Server
from streamsource import Person, bearer, person
from waiting import PATIENCE_S


@pytest.fixture(scope="module")
def ada(server: Server) -> Iterator[Person]:
    """An editor."""
    with person(server, "editor") as somebody:
        yield somebody


@pytest.fixture(scope="module")
def bob(server: Server) -> Iterator[Person]:
    """Another editor."""
    with person(server, "editor") as somebody:
        yield somebody


@pytest.fixture(scope="module")
def reader(server: Server) -> Iterator[Person]:
    """One with the role of those who sign up."""
    with person(server) as somebody:
        yield somebody


@pytest.fixture(scope="module")
def admin(server: Server) -> Iterator[Person]:
    with person(server, "admin") as somebody:
        yield somebody


@pytest.fixture(scope="module")
def operator(server: Server) -> Iterator[httpx.Client]:
    """Has the key of the first administrator."""
    with httpx.Client(base_url=f"{server.url}/api/v1", headers=bearer(API_KEY), timeout=PATIENCE_S) as client:
        yield client
