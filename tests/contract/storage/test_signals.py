"""What every Signals engine promises: fan-out to who listens now, and counts in windows."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from mainstem.clock import Clock, FixedClock
from mainstem.storage import Hit, Signals
from mainstem.storage.embedded.signals import LocalSignals
from waiting import PATIENCE_S

ENGINES: list[Callable[[Clock], Signals]] = [LocalSignals]


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(1_710_500_400_000_000)  # on the hour


@pytest.fixture(params=ENGINES)
def signals(request: pytest.FixtureRequest, clock: FixedClock) -> Signals:
    return request.param(clock)  # type: ignore[no-any-return]


async def take(messages: AsyncIterator[bytes], count: int) -> list[bytes]:
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(messages) for _ in range(count)]


async def test_every_reader_of_a_channel_gets_every_message_in_order(signals: Signals) -> None:
    async with signals.subscribe("a") as one, signals.subscribe("a") as two:
        signals.publish("a", b"1")
        signals.publish("a", b"2")

        assert await take(one, 2) == await take(two, 2) == [b"1", b"2"]


async def test_channels_are_apart(signals: Signals) -> None:
    async with signals.subscribe("a") as messages:
        signals.publish("b", b"other")
        signals.publish("a", b"mine")

        assert await take(messages, 1) == [b"mine"]


async def test_a_reader_that_waits_is_woken(signals: Signals) -> None:
    async with signals.subscribe("a") as messages:
        waiting = asyncio.ensure_future(take(messages, 1))
        await asyncio.sleep(0.01)
        signals.publish("a", b"1")

        assert await waiting == [b"1"]


async def test_what_was_published_before_is_not_heard(signals: Signals) -> None:
    signals.publish("a", b"early")
    async with signals.subscribe("a") as messages:
        signals.publish("a", b"late")

        assert await take(messages, 1) == [b"late"]


async def test_a_slow_reader_loses_the_oldest_and_nobody_else_anything(signals: Signals) -> None:
    async with signals.subscribe("a") as slow:
        for number in range(1_500):
            signals.publish("a", b"%d" % number)

        assert await take(slow, 1_000) == [b"%d" % number for number in range(500, 1_500)]


async def test_a_reader_that_left_costs_nothing(signals: Signals) -> None:
    async with signals.subscribe("a"):
        pass

    signals.publish("a", b"to nobody")


def test_hits_are_counted_by_key_and_window_length(signals: Signals) -> None:
    assert [signals.hit("a", 60).count for _ in range(3)] == [1, 2, 3]
    assert signals.hit("b", 60).count == 1
    assert signals.hit("a", 3_600).count == 1
    assert signals.hit("a", 60, by=5).count == 8


def test_windows_are_aligned_to_the_clock(signals: Signals, clock: FixedClock) -> None:
    clock.advance(59.5)
    assert signals.hit("a", 60) == Hit(1, 0.5)
    clock.advance(0.5)
    assert signals.hit("a", 60) == Hit(1, 60)
