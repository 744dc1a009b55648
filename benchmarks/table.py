"""The table: rows of figures, as a terminal and RESULTS.md show them."""

from collections.abc import Callable, Sequence

import msgspec

from benchmarks.figures import Figure, Goal

type Format = Callable[[float], str]


class Row(msgspec.Struct, frozen=True):
    """One line. What mainstem is held to stands beside its figure; a peer's row holds the ratio to mainstem."""

    promise: str
    what: str
    system: str
    """Who was measured and, in brackets, what its acknowledgement means."""
    median: str
    rounds: str = ""
    ratio: str = ""
    goal: str = ""
    verdict: str = ""


HEADINGS = Row("#", "what", "system (durability)", "median", "rounds", "mainstem is", "goal", "verdict")


def per_second(unit: str) -> Format:
    return lambda value: f"{value:,.0f} {unit}"


def milliseconds(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.2g} ms" if value < 1 else f"{value:.1f} ms"


def times(value: float) -> str:
    return f"{value:.1f}:1"


def megabytes(value: float) -> str:
    return f"{value:,.0f} MB"


def seconds(value: float) -> str:
    return f"{value:.2f} s"


def row(
    promise: str, what: str, system: str, figure: Figure, shown: Format, goal: Goal | None = None, note: str = ""
) -> Row:
    """A figure on its own, held to its goal when it has one."""
    spread = f"{_bare(shown(figure.low))} to {_bare(shown(figure.high))}" if len(figure.samples) > 1 else ""
    rounds = "; ".join(filter(None, [spread, note]))
    if goal is None:
        return Row(promise, what, system, shown(figure.median), rounds)
    bound = f"{'≥' if goal.at_least else '≤'} {shown(goal.bound)}"
    return Row(promise, what, system, shown(figure.median), rounds, "", bound, goal.verdict(figure.median))


def peer_row(
    promise: str,
    what: str,
    system: str,
    figure: Figure,
    shown: Format,
    ratio: Figure,
    goal: Goal | None = None,
    note: str = "",
) -> Row:
    """A peer's figure, and how many times better mainstem was in the same rounds."""
    plain = row(promise, what, system, figure, shown, note=note)
    told = f"{ratio.median:.2f}x" + (f" ({ratio.low:.2f} to {ratio.high:.2f})" if len(ratio.samples) > 1 else "")
    if goal is None:
        return msgspec.structs.replace(plain, ratio=told)
    return msgspec.structs.replace(plain, ratio=told, goal=f"≥ {goal.bound:g}x", verdict=goal.verdict(ratio.median))


def absent(promise: str, what: str, system: str, reason: object) -> Row:
    """A row for what could not be measured, with the reason: better said than left out."""
    return Row(promise, what, system, "not measured", " ".join(str(reason).split())[:160].replace("|", "/"))


def _bare(text: str) -> str:
    """A figure without its unit."""
    return text.partition(" ")[0]


def markdown(rows: Sequence[Row]) -> str:
    lines = [_cells(HEADINGS), ["---"] * len(HEADINGS.__struct_fields__)]
    lines += [_cells(line, before) for line, before in zip(rows, [None, *rows], strict=False)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def terminal(rows: Sequence[Row]) -> str:
    lines = [_cells(HEADINGS), *(_cells(line, before) for line, before in zip(rows, [None, *rows], strict=False))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cells(line: Row, before: Row | None = None) -> list[str]:
    """The row as text; what repeats the row before it stays empty."""
    cells = [str(cell) for cell in msgspec.structs.astuple(line)]
    if before is not None and before.promise == line.promise:
        cells[0] = ""
        if before.what == line.what:
            cells[1] = ""
    return cells
