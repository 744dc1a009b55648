"""A prober that may speak to loopback, on a clock that only its own waiting moves."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from farside import FarSide, far_side
from mainstem.catalogue.liveness.address import AddressGuard, SystemResolver
from mainstem.catalogue.liveness.connection import Dialer
from mainstem.catalogue.liveness.decoder import Decoder
from mainstem.catalogue.liveness.direct import DirectMedia
from mainstem.catalogue.liveness.fetch import Fetcher
from mainstem.catalogue.liveness.hosts import Hosts
from mainstem.catalogue.liveness.own import NoOwnStreams
from mainstem.catalogue.liveness.probing import Prober
from mainstem.clock import FixedClock
from waiting import PATIENCE_S

PLAYER_S = 2.0
"""How long an RTMP or RTSP server is given: silence, too, is among what is tested."""


@pytest.fixture
def data() -> Path:
    return Path(__file__).parents[3] / "data" / "liveness"


@pytest.fixture
async def far() -> AsyncIterator[FarSide]:
    async with far_side() as far:
        yield far


@pytest.fixture
def guard() -> Iterator[AddressGuard]:
    resolver = SystemResolver()
    yield AddressGuard(resolver, allow_private=True)
    resolver.close()


@pytest.fixture
def dialer(guard: AddressGuard) -> Dialer:
    return Dialer(guard)


@pytest.fixture
def hosts(clock: FixedClock) -> Hosts:
    return Hosts(now=lambda: clock() / 1e6, wait_s=PATIENCE_S)


@pytest.fixture
def fetch_s() -> float:
    """How long a fetch may take; tests of what takes too long choose another."""
    return PATIENCE_S


@pytest.fixture
def fetcher(dialer: Dialer, hosts: Hosts, fetch_s: float) -> Fetcher:
    return Fetcher(dialer, hosts, timeout_s=fetch_s)


@pytest.fixture
async def decoder() -> AsyncIterator[Decoder]:
    decoder = Decoder(timeout_s=PATIENCE_S)
    yield decoder
    await decoder.close()


@pytest.fixture
def waits() -> list[float]:
    """How long the prober waited, each time."""
    return []


@pytest.fixture
def prober(
    dialer: Dialer, hosts: Hosts, fetcher: Fetcher, decoder: Decoder, clock: FixedClock, waits: list[float]
) -> Prober:
    async def wait(seconds: float) -> None:
        waits.append(seconds)
        clock.advance(seconds)

    direct = DirectMedia(fetcher, decoder, clock, wait)
    return Prober(own=NoOwnStreams(), dialer=dialer, hosts=hosts, fetcher=fetcher, direct=direct, timeout_s=PLAYER_S)
