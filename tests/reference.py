"""The generated parts of docs/reference, rendered from the code; `make reference` writes them, a test compares them.

In a page, `<!-- generated: name -->` and `<!-- end -->` enclose what comes from here; all else is written by hand.
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from mainstem.settings import describe

PAGES = Path(__file__).parents[1] / "docs" / "reference"

_BLOCK = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(page: str, sources: Mapping[str, Callable[[], str]]) -> str:
    """The page with every generated part as the code would have it."""
    return _BLOCK.sub(lambda match: f"{match[1]}\n{sources[match['name']]().strip()}\n\n{match[3]}", page)


def settings() -> str:
    return _table(
        ("variable", "key", "default", "unit", "what it sets"),
        (
            (f"`{one.variable}`", f"`{one.name}`", _default(one.default, one.unit), one.unit, one.sentence)
            for one in describe()
        ),
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _default(value: object, unit: str) -> str:
    if value is None:
        return ""
    if unit == "bytes" and isinstance(value, int):
        for size, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
            if value and value % size == 0:
                return f"`{value // size}{name}`"
    return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


SOURCES: Mapping[str, Callable[[], str]] = {"settings": settings}


def main() -> int:
    for path in sorted(PAGES.glob("*.md")):
        page = path.read_text()
        path.write_text(rendered(page, SOURCES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
