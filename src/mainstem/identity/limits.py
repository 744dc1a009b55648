"""How many requests a credential or an address has: in windows that begin on the hour or the minute, or evenly."""

import math
from typing import NamedTuple

from mainstem.clock import SECOND_US, Clock
from mainstem.errors import Exhausted
from mainstem.identity.model import Principal, Tier
from mainstem.storage import Signals

HOUR_S = 3_600
MINUTE_S = 60
ADDRESS_PER_MINUTE = 60

_KEYS_MAX = 65_536

_PER_HOUR = {tier: tier.per_hour for tier in Tier}


class Allowance(NamedTuple):
    """What is left of a window after this request."""

    limit: int
    remaining: int
    reset_s: float
    window_s: int


class RateLimited(Exhausted):
    """Too many requests in this window; the details say in `retry_after_s`, a whole number, when the next begins."""

    def __init__(self, allowance: Allowance) -> None:
        retry_after_s = math.ceil(allowance.reset_s)
        super().__init__(
            f"The limit of {allowance.limit:,} requests in {allowance.window_s:,} s is reached:"
            f" try again in {retry_after_s:,} s.",
            limit=allowance.limit,
            window_s=allowance.window_s,
            retry_after_s=retry_after_s,
        )
        self.allowance = allowance


class RateLimiter:
    """Takes one token a request, whatever its size."""

    def __init__(self, signals: Signals) -> None:
        self._hit = signals.hit

    def take(self, principal: Principal) -> Allowance | None:
        """Count a request of a credential; None when its tier has no limit. Raises RateLimited.

        A token counts for its account, so that signing in again gives no new window.
        """
        limit = _PER_HOUR[principal.tier]
        return None if limit is None else self.take_from(principal.credential, limit, HOUR_S)

    def take_address(self, address: str) -> Allowance:
        """Count an attempt to sign in, or a request without a valid credential. Raises RateLimited."""
        return self.take_from(address, ADDRESS_PER_MINUTE, MINUTE_S)

    def take_from(self, key: str, limit: int, window_s: int) -> Allowance:
        """Count under a key of the caller's choice, in windows that are aligned to the clock. Raises RateLimited."""
        hit = self._hit(key, window_s)
        remaining = limit - hit.count
        if remaining < 0:
            raise RateLimited(Allowance(limit, 0, hit.reset_s, window_s))
        return Allowance(limit, remaining, hit.reset_s, window_s)


class Buckets:
    """So many requests a minute from each key, of which `burst` may come at once. Kept in memory only."""

    def __init__(self, per_minute: int, burst: int, clock: Clock) -> None:
        self._interval_us = MINUTE_S * SECOND_US // per_minute or 1
        self._burst = burst
        self._clock = clock
        self._full_us: dict[str, int] = {}  # when a key's bucket is full again, as if it had taken no more

    def take(self, key: str) -> None:
        """Count one. Raises RateLimited, which says when there is room for the next."""
        now_us = self._clock()
        full_us = max(self._full_us.get(key, now_us), now_us)
        early_us = full_us - now_us - (self._burst - 1) * self._interval_us
        if early_us > 0:
            raise RateLimited(Allowance(self._burst, 0, early_us / SECOND_US, MINUTE_S))
        if len(self._full_us) >= _KEYS_MAX:
            self._forget(now_us)
        self._full_us[key] = full_us + self._interval_us

    def _forget(self, now_us: int) -> None:
        """Drop the keys that wait for nothing, or all where there are too many of the others."""
        self._full_us = {key: full_us for key, full_us in self._full_us.items() if full_us > now_us}
        if len(self._full_us) >= _KEYS_MAX:
            self._full_us.clear()
