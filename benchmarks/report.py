"""What a run leaves behind: a file for each suite, with the conditions before and after, and what was missed."""

from collections.abc import Collection, Sequence
from pathlib import Path

from benchmarks.machine import Disk, Noise
from benchmarks.table import Row, markdown

SUITES = {"P": "RESULTS.md", "M": "RESULTS-MEDIA.md", "LC": "RESULTS-CATALOGUE.md"}
"""First letters of promises → the file that keeps their results."""

HEAD = """# Results

Written by `make bench`; do not edit. What the goals mean and what limits mainstem is told in [README.md](README.md).

All of this ran in one go on one machine, load generators included, each system with the durability that its row names.
The systems took turns, round by round. A figure is the median of the rounds, with the lowest and the highest beside
it; a ratio is the median of the ratios of single rounds, above 1 where mainstem is better. mainstem ran as
`python -m mainstem serve` with its default settings, with authentication, rights, rate limits and metrics in the way.

"""


class Conditions:
    """What the machine was like, probed before and after."""

    def __init__(self, machine: Sequence[str], started: str) -> None:
        self.machine = machine
        self.started = started
        self.probes: list[tuple[str, Noise, Disk]] = []

    def lines(self) -> list[str]:
        lines = [f"- {self.started}", *(f"- {fact}" for fact in self.machine)]
        for when, noise, disk in self.probes:
            lines += [f"- {when}: one fixed loop took {noise}; 64 KiB and fdatasync took {disk}"]
        return lines


def keep(
    promises: Collection[str], measured: Collection[str], rows: Sequence[Row], conditions: Conditions, took_s: float
) -> list[Path]:
    """Write the file of each suite whose promises were all measured in this run; which those were."""
    written = []
    for letters, name in SUITES.items():
        suite = {promise for promise in promises if promise[0] in letters}
        if suite <= set(measured):
            path = Path(__file__).with_name(name)
            path.write_text(text([row for row in rows if row.promise in suite], conditions, took_s))
            written.append(path)
    return written


def text(rows: Sequence[Row], conditions: Conditions, took_s: float) -> str:
    parts = [HEAD, "## Conditions\n\n", "\n".join(conditions.lines()), f"\n- The run took {took_s / 60:.1f} minutes.\n"]
    parts += ["\n## Table\n\n", markdown(rows), "\n## Missed\n\n", _missed(rows)]
    return "".join(parts)


def _missed(rows: Sequence[Row]) -> str:
    missed = [
        f"- {row.promise}, {row.what}: {row.ratio or row.median} where {row.goal} was aimed at"
        + (f", against {row.system.partition(' (')[0]}" if row.ratio else "")
        + "."
        for row in rows
        if row.verdict.startswith("missed")
    ]
    return "\n".join(missed or ["Nothing."]) + "\n"
