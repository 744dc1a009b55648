"""The checker, wired: what a process at this trade does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from mainstem.catalogue.liveness.address import AddressGuard, Resolver, SystemResolver
from mainstem.catalogue.liveness.checker import Checker
from mainstem.catalogue.liveness.checks import Checks, Pace
from mainstem.catalogue.liveness.connection import Dialer
from mainstem.catalogue.liveness.decoder import Decoder
from mainstem.catalogue.liveness.direct import DirectMedia
from mainstem.catalogue.liveness.fetch import Fetcher
from mainstem.catalogue.liveness.hosts import Hosts
from mainstem.catalogue.liveness.libraries import PlatformLibrary, installed
from mainstem.catalogue.liveness.own import OwnStreams
from mainstem.catalogue.liveness.pages import is_challenge
from mainstem.catalogue.liveness.probing import Prober
from mainstem.clock import Clock
from mainstem.storage import Records
from mainstem.telemetry import get_logger
from mainstem.work import Queue

logger = get_logger("mainstem.liveness")


class CheckerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may choose; see the settings of the same names."""

    check_live_seconds: int = 120
    check_idle_seconds: int = 420
    check_timeout_seconds: float = 10.0
    check_allow_private: bool = False


@asynccontextmanager
async def open_prober(
    options: CheckerOptions, own: OwnStreams, clock: Clock, resolver: Resolver | None = None
) -> AsyncIterator[Prober]:
    """Everything that checks links, ready; closed at the end of the block. `resolver` stands in for the machine's."""
    system = SystemResolver()
    guard = AddressGuard(resolver or system, allow_private=options.check_allow_private)
    dialer, hosts, decoder = Dialer(guard), Hosts(), Decoder()
    # Whoever challenges wants less of us, and would only challenge again.
    fetcher = Fetcher(dialer, hosts, timeout_s=options.check_timeout_seconds, is_refusal=is_challenge)
    libraries = [PlatformLibrary(name) for name in installed()]
    try:
        yield Prober(
            own=own,
            dialer=dialer,
            hosts=hosts,
            fetcher=fetcher,
            direct=DirectMedia(fetcher, decoder, clock),
            libraries=libraries,
            timeout_s=options.check_timeout_seconds,
        )
    finally:
        await decoder.close()
        system.close()


async def keep_checking(records: Records, queue: Queue, clock: Clock, own: OwnStreams, options: CheckerOptions) -> None:
    """Check the catalogue until cancelled; any number of processes may do it at once on the same records."""
    pace = Pace(options.check_live_seconds, options.check_idle_seconds)
    async with open_prober(options, own, clock) as prober:
        logger.info("checking", libraries=list(installed()), live_s=pace.live_s, idle_s=pace.idle_s)
        await Checker(Checks(records, queue, clock, pace), prober, clock).run()
