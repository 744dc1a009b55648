"""How long a host rests, by a clock that only the test moves."""

import pytest

from mainstem.catalogue.liveness.address import Unreachable
from mainstem.catalogue.liveness.hosts import FAILURES_UNTIL_REST, REST_S_MAX, RETRY_AFTER_S_MAX, Hosts
from mainstem.catalogue.liveness.verdict import Reason

HOST = "example.com"


class Time:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def hosts(time: Time) -> Hosts:
    return Hosts(at_once=1, wait_s=0.01, now=time)


async def rest_s(hosts: Hosts) -> float:
    """How long the host is not to be asked; 0 when it may be."""
    try:
        async with hosts.turn(HOST):
            return 0.0
    except Unreachable as refused:
        return refused.retry_s or 0.0


async def test_each_rest_is_longer_than_the_one_before(hosts: Hosts, time: Time) -> None:
    """Up to a quarter of an hour; one success, and it begins anew."""
    rests = []
    for _ in range(8):
        for _ in range(FAILURES_UNTIL_REST):
            hosts.failed(HOST)
        rests.append(await rest_s(hosts))
        time.now += rests[-1]

    assert rests == [30, 60, 120, 240, 480, 900, 900, 900]
    assert REST_S_MAX == 900

    hosts.worked(HOST)
    for _ in range(FAILURES_UNTIL_REST):
        hosts.failed(HOST)
    assert await rest_s(hosts) == 30


async def test_four_failures_and_a_success_are_no_reason_to_rest(hosts: Hosts) -> None:
    for _ in range(10):
        for _ in range(FAILURES_UNTIL_REST - 1):
            hosts.failed(HOST)
        hosts.worked(HOST)

    assert await rest_s(hosts) == 0


async def test_nobody_asks_for_more_than_an_hour(hosts: Hosts) -> None:
    hosts.failed(HOST, retry_after_s=1e9)

    assert await rest_s(hosts) == RETRY_AFTER_S_MAX


async def test_who_waits_too_long_for_a_place_goes_away(hosts: Hosts) -> None:
    async with hosts.turn(HOST):
        with pytest.raises(Unreachable) as busy:
            async with hosts.turn(HOST):
                pass

    assert busy.value.reason is Reason.HOST_BUSY


async def test_hosts_are_forgotten_but_not_those_that_rest(hosts: Hosts) -> None:
    hosts.failed(HOST, retry_after_s=100)
    for number in range(12_000):
        hosts.worked(f"{number}.example")

    assert len(hosts._hosts) <= 10_000
    assert await rest_s(hosts) > 0
