"""Fixtures that several folders of tests share."""

from collections.abc import Iterator
from itertools import count

import httpx
import pytest
from hypothesis import HealthCheck, settings

from serving import Server, serving

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("mainstem", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mainstem")

_numbers = count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that can share it: they keep to streams of their own."""
    with serving(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """Speaks to the shared server as its operator."""
    with server.client() as speaking:
        yield speaking


@pytest.fixture
def stream() -> str:
    """The name of a stream that no other test uses."""
    return f"stream-{next(_numbers)}"


@pytest.fixture(scope="session")
def transcoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Speaks to a server that transcodes, which all tests share that need one; nobody has to sign in there."""
    data = tmp_path_factory.mktemp("transcoder") / "data"
    with serving(data, transcode_jobs=2) as running, running.client(None) as speaking:
        yield speaking
