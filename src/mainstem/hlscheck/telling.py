"""A report as people and programs read it."""

from collections.abc import Iterator

from mainstem.hlscheck.checking import Report
from mainstem.hlscheck.presentation import Rendition, described
from mainstem.hlscheck.rules import RULES, Finding


def lines(report: Report) -> Iterator[str]:
    """What was looked at, what is wrong with it, and the verdict."""
    for one in report.renditions:
        yield f"{one.name}: {_facts(one)}"
    for found in report.findings:
        yield f"{found.severity:7}  {found.rule}  {found.place}: {found.message}"
        yield f"         {RULES[found.rule].says} ({found.source})"
    yield _verdict(report.findings)


def view(report: Report) -> dict[str, object]:
    return {"ok": report.ok, "place": report.place, "renditions": report.renditions, "findings": report.findings}


def _facts(one: Rendition) -> str:
    facts = [described(one.audio), f"{one.segments} segments", f"{one.duration_s:.3f} s", f"{one.average_bits} bit/s"]
    return ", ".join(facts if one.peak_bits is None else [*facts, f"peak {one.peak_bits}"])


def _verdict(findings: list[Finding]) -> str:
    counts = [sum(found.severity == severity for found in findings) for severity in ("error", "warning")]
    return "No rule is broken." if not any(counts) else f"{_count(counts[0], 'error')}, {_count(counts[1], 'warning')}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
