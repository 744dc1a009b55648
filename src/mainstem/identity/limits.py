"""How many requests a credential or an address has, counted in fixed windows that begin on the hour or the minute."""

import math
from typing import NamedTuple

from mainstem.errors import Exhausted
from mainstem.identity.model import Principal, Tier
from mainstem.storage import Signals

HOUR_S = 3_600
MINUTE_S = 60
ADDRESS_PER_MINUTE = 60

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
