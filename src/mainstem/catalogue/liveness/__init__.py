"""Who is live: checks of listings by asking the far side, three-valued and with a reason."""

from mainstem.catalogue.liveness.address import AddressGuard, Resolver, Target, Unreachable, is_public, target_of
from mainstem.catalogue.liveness.checker import Checker
from mainstem.catalogue.liveness.checks import Checks, DueCheck, Found, Pace
from mainstem.catalogue.liveness.own import NoOwnStreams, OwnStreams
from mainstem.catalogue.liveness.probing import Prober
from mainstem.catalogue.liveness.running import CheckerOptions, keep_checking, open_prober
from mainstem.catalogue.liveness.verdict import Reason, Result, Verdict, live, offline, unknown
from mainstem.catalogue.liveness.watch import ListingsWatch

__all__ = [
    "AddressGuard",
    "Checker",
    "CheckerOptions",
    "Checks",
    "DueCheck",
    "Found",
    "ListingsWatch",
    "NoOwnStreams",
    "OwnStreams",
    "Pace",
    "Prober",
    "Reason",
    "Resolver",
    "Result",
    "Target",
    "Unreachable",
    "Verdict",
    "is_public",
    "keep_checking",
    "live",
    "offline",
    "open_prober",
    "target_of",
    "unknown",
]
