"""From samples to figures: medians, spreads, ratios of the same round, goals and verdicts."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """A quantity measured in several rounds."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def low(self) -> float:
        return min(self.samples)

    @property
    def high(self) -> float:
        return max(self.samples)

    def over(self, other: "Figure") -> "Figure":
        """The ratio of each round: what the machine did to one it did, more or less, to the other."""
        return Figure(tuple(mine / its for mine, its in zip(self.samples, other.samples, strict=True)))


class Goal(msgspec.Struct, frozen=True):
    """What a figure should be at least, or at most."""

    bound: float
    at_least: bool = True

    def verdict(self, value: float) -> str:
        if value >= self.bound if self.at_least else value <= self.bound:
            return "met"
        if not self.bound:
            return "missed"
        return f"missed: {abs(value - self.bound) / self.bound:.0%} {'below' if self.at_least else 'above'}"


def at_least(bound: float) -> Goal:
    return Goal(bound)


def at_most(bound: float) -> Goal:
    return Goal(bound, at_least=False)


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that `percent` of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def interleave[Outcome](rounds: int, contenders: Mapping[str, Callable[[], Outcome]]) -> dict[str, list[Outcome]]:
    """Let the contenders take turns: A B A B, so that a slow minute of the machine falls on all of them.

    A first round does not count: in it streams are created, files grow and caches fill.
    """
    outcomes: dict[str, list[Outcome]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, measure in contenders.items():
            outcomes[name].append(measure())
    return {name: measured[1:] for name, measured in outcomes.items()}
