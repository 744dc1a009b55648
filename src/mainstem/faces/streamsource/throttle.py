"""How often one may ask: fixed windows, aligned to the clock, counted before anything else is looked at."""

import hashlib
import math
from typing import NamedTuple

from mainstem.clock import SECOND_US, Clock
from mainstem.http import Call
from mainstem.identity import Allowance, RateLimited, RateLimiter

LOOPBACK = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})


class Rule(NamedTuple):
    name: str
    limit: int
    window_s: int


REQUESTS = Rule("req/ip", 1_000, 60)
SIGN_INS = Rule("logins/ip", 500, 1_200)
SIGN_INS_OF_EMAIL = Rule("logins/email", 500, 1_200)
SIGN_UPS = Rule("signups/ip", 300, 3_600)


class Throttle:
    """The limits of section 7. Who asks from the server's own machine is never limited, unless that is asked for."""

    def __init__(self, limiter: RateLimiter, clock: Clock, *, limits_loopback: bool) -> None:
        self._limiter = limiter
        self._clock = clock
        self._limits_loopback = limits_loopback

    def request(self, call: Call) -> None:
        """Count any request of an address. Raises RateLimited."""
        self._take(call, REQUESTS, call.address)

    def sign_in(self, call: Call) -> None:
        """Count a try to sign in of an address. Raises RateLimited."""
        self._take(call, SIGN_INS, call.address)

    def sign_in_of(self, call: Call, email: str) -> None:
        """Count a try to sign in to an account: many addresses help nobody to guess a password. Raises RateLimited."""
        if email:
            # A hash, because whoever asks chooses how long the email is.
            self._take(call, SIGN_INS_OF_EMAIL, hashlib.sha256(email.strip().lower().encode()).hexdigest())

    def sign_up(self, call: Call) -> None:
        """Count a sign-up. Raises RateLimited."""
        self._take(call, SIGN_UPS, call.address)

    def _take(self, call: Call, rule: Rule, key: str) -> None:
        """What is told of the limits is the narrowest: the first, or the one that was reached."""
        if call.address in LOOPBACK and not self._limits_loopback:
            left_s = rule.window_s - self._clock() / SECOND_US % rule.window_s
            call.allowance = call.allowance or Allowance(rule.limit, rule.limit, left_s, rule.window_s)
            return
        try:
            allowance = self._limiter.take_from(f"{rule.name} {key}", rule.limit, rule.window_s)
        except RateLimited as error:
            call.allowance = error.allowance
            raise
        call.allowance = call.allowance or allowance

    def reset_s(self, allowance: Allowance) -> int:
        """The second since 1970 at which the window of an allowance ends."""
        windows = math.floor(self._clock() / SECOND_US / allowance.window_s)
        return (windows + 1) * allowance.window_s
