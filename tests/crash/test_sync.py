"""A sync that fails: nobody knows what is on disk, so the writer stops for good and a restart decides."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from crash.folders import CLICKS, OPTIONS, ORDERS, opened
from logs import draft, drafts, kept, numbers_of, single
from mainstem.clock import FixedClock
from mainstem.errors import Unavailable
from mainstem.storage import Receipt
from mainstem.storage.embedded.log import EmbeddedLog
from mainstem.storage.ports import Condition
from waiting import PATIENCE_S


class FailingSync:
    """Syncs `good` times, then says that the disk is broken; later syncs would succeed again, as they do on Linux."""

    def __init__(self, good: int) -> None:
        self.good = good
        self.calls = 0

    def __call__(self, descriptor: int) -> None:
        self.calls += 1
        if self.calls == self.good + 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(descriptor)


@pytest.mark.parametrize("good", [0, 1, 5])
async def test_nothing_acknowledged_is_lost_when_a_sync_fails(tmp_path: Path, good: int) -> None:
    """All who wait are refused, nobody is acknowledged afterwards, what was acknowledged is there, in order, once."""
    acknowledged: list[int] = []
    refused: list[int] = []
    sync = FailingSync(good)
    async with EmbeddedLog.open(tmp_path, OPTIONS, FixedClock(), sync=sync) as log:

        async def write(number: int) -> None:
            await asyncio.sleep(0.001 * (number % 20 // 5))
            try:
                await (
                    single(log, ORDERS, draft(number, f"id{number}"), 60)
                    if number % 2
                    else log.append(ORDERS, drafts([number], prefix="id"), dedupe_window_s=60)
                )
                acknowledged.append(number)
            except Unavailable:
                refused.append(number)

        async with asyncio.timeout(PATIENCE_S):
            for first in range(0, 20 * (good + 1), 20):  # each twenty are one sync at the least
                await asyncio.gather(*map(write, range(first, first + 20)))
        with pytest.raises(Unavailable, match="restart"):
            await log.append(CLICKS, drafts([1]))
        assert sync.calls == good + 1
        assert log.health().condition is Condition.UNHEALTHY
        assert not log.accepts
        assert numbers_of(await kept(log, ORDERS)) == acknowledged

    written = 20 * (good + 1)
    assert len(acknowledged) + len(refused) == written
    assert refused
    async with opened(tmp_path) as log:
        assert log.health().condition is Condition.HEALTHY
        stored = numbers_of(await kept(log, ORDERS))
        assert stored[: len(acknowledged)] == acknowledged
        assert len(set(stored)) == len(stored)
        again = await log.append(ORDERS, drafts(range(written), prefix="id"), dedupe_window_s=60)
        assert again.count == written - len(stored)


async def test_a_write_that_fails_stops_the_log_as_well(tmp_path: Path) -> None:
    """Reading goes on, closing works, and the next start is sound."""
    async with EmbeddedLog.open(tmp_path, OPTIONS, FixedClock(), sync=FailingSync(1)) as log:
        assert isinstance(await log.append(ORDERS, drafts(range(5))), Receipt)
        waiting = [asyncio.ensure_future(log.append(ORDERS, drafts([number]))) for number in range(5, 9)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)

        assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
        assert numbers_of(await log.read(ORDERS, 0, 100)) == list(range(5))
        await asyncio.wait_for(log.maintain(), PATIENCE_S)
        assert numbers_of(await kept(log, ORDERS)) == list(range(5))

    async with opened(tmp_path) as log:
        assert numbers_of(await kept(log, ORDERS))[:5] == list(range(5))
        await log.append(ORDERS, drafts([77]))
