"""Rate limits by tier and by address."""

import time

import pytest

from mainstem.clock import FixedClock
from mainstem.errors import Exhausted
from mainstem.identity import Allowance, Buckets, Principal, RateLimited, RateLimiter, Scope, Tier
from mainstem.ids import AccountId
from mainstem.storage.embedded.signals import LocalSignals

ON_THE_HOUR = 1_710_500_400 * 1_000_000


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(ON_THE_HOUR)


@pytest.fixture
def limiter(clock: FixedClock) -> RateLimiter:
    return RateLimiter(LocalSignals(clock))


def principal(tier: Tier, credential: str = "key_test") -> Principal:
    return Principal(AccountId(8), "somebody", credential, frozenset(Scope), tier)


def test_each_request_takes_one(limiter: RateLimiter, clock: FixedClock) -> None:
    limiter.take(principal(Tier.STANDARD))
    clock.advance(1_000)

    assert limiter.take(principal(Tier.STANDARD)) == Allowance(
        limit=1_000, remaining=998, reset_s=2_600, window_s=3_600
    )


@pytest.mark.parametrize(
    ("tier", "limit"), [(Tier.STANDARD, 1_000), (Tier.PROFESSIONAL, 10_000), (Tier.ENTERPRISE, 100_000)]
)
def test_a_tier_has_exactly_its_requests_an_hour(limiter: RateLimiter, tier: Tier, limit: int) -> None:
    for _ in range(limit):
        limiter.take(principal(tier))

    with pytest.raises(RateLimited):
        limiter.take(principal(tier))


def test_unlimited_is_without_limit(limiter: RateLimiter) -> None:
    assert limiter.take(principal(Tier.UNLIMITED)) is None


def test_the_next_window_begins_afresh(limiter: RateLimiter, clock: FixedClock) -> None:
    for _ in range(1_000):
        limiter.take(principal(Tier.STANDARD))
    clock.advance(3_599.5)
    with pytest.raises(Exhausted) as refusal:
        limiter.take(principal(Tier.STANDARD))
    assert refusal.value.details["retry_after_s"] == 1

    clock.advance(0.5)

    assert limiter.take(principal(Tier.STANDARD)) == Allowance(1_000, 999, 3_600, 3_600)


def test_keys_do_not_share_a_window(limiter: RateLimiter) -> None:
    limiter.take(principal(Tier.STANDARD, "key_a"))

    allowance = limiter.take(principal(Tier.STANDARD, "key_b"))

    assert allowance is not None
    assert allowance.remaining == 999


def test_an_address_has_sixty_attempts_a_minute(limiter: RateLimiter) -> None:
    assert [limiter.take_address("192.0.2.1").remaining for _ in range(60)] == list(range(59, -1, -1))
    with pytest.raises(RateLimited) as refusal:
        limiter.take_address("192.0.2.1")
    assert refusal.value.allowance == Allowance(60, 0, 60, 60)
    assert limiter.take_address("192.0.2.2").remaining == 59


def test_taking_costs_about_a_microsecond(limiter: RateLimiter) -> None:
    """Every request pays it. Time of others on the machine is not counted, and the bound is generous all the same."""
    somebody = principal(Tier.ENTERPRISE)
    started = time.process_time()
    for _ in range(20_000):
        limiter.take(somebody)

    assert (time.process_time() - started) / 20_000 < 20e-6


def test_a_bucket_gives_a_burst_and_then_one_at_a_time(clock: FixedClock) -> None:
    buckets = Buckets(per_minute=60, burst=3, clock=clock)
    for _ in range(3):
        buckets.take("an address")

    with pytest.raises(RateLimited) as raised:
        buckets.take("an address")
    assert raised.value.details["retry_after_s"] == 1

    buckets.take("another address")
    clock.advance(1)
    buckets.take("an address")
    with pytest.raises(RateLimited):
        buckets.take("an address")


def test_a_bucket_is_full_again_after_a_while_and_no_fuller(clock: FixedClock) -> None:
    buckets = Buckets(per_minute=60, burst=3, clock=clock)
    buckets.take("an address")
    clock.advance(3_600)

    for _ in range(3):
        buckets.take("an address")
    with pytest.raises(RateLimited):
        buckets.take("an address")
