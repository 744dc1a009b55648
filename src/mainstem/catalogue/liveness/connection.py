"""Connections that go only where the guard allows."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mainstem.catalogue.liveness.address import AddressGuard, Target, Unreachable
from mainstem.catalogue.liveness.verdict import Reason

_ADDRESSES_TRIED = 3
_ADDRESS_S = 3.0
_READ_BYTES = 65_536

type Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Dialer:
    """Opens connections to targets, with TLS where the scheme says so."""

    def __init__(self, guard: AddressGuard, tls: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._tls = tls or ssl.create_default_context()

    @asynccontextmanager
    async def dial(self, target: Target) -> AsyncIterator[Streams]:
        """A connection to the first of the target's addresses that answers, closed at the end of the block.

        Raises Unreachable: what the guard says, NOT_REACHED, TLS_FAILED. Time is the caller's to limit.
        """
        reader, writer = await self._connect(target)
        try:
            yield reader, writer
        finally:
            # Nobody needs the far side's farewell, and one who never says it must not hold us.
            writer.transport.abort()

    async def _connect(self, target: Target) -> Streams:
        addresses = await self._guard.addresses(target)
        failure: Unreachable | None = None
        tried = addresses[:_ADDRESSES_TRIED]
        for address in tried:
            try:
                # An address that answers nothing must not take the time of those behind it.
                async with asyncio.timeout(_ADDRESS_S if address != tried[-1] else None):
                    return await asyncio.open_connection(
                        address,  # not the name: this very address was looked at
                        target.port,
                        limit=_READ_BYTES,
                        ssl=self._tls if target.encrypted else None,
                        server_hostname=target.host if target.encrypted else None,
                    )
            except ssl.SSLError as error:
                failure = Unreachable(Reason.TLS_FAILED, error.reason or "")
            except OSError as error:
                failure = Unreachable(Reason.NOT_REACHED, error.strerror or "")
        assert failure is not None, "the guard answers at least one address"
        raise failure
