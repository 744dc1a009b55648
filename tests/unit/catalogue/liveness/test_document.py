"""The page about verdicts names every reason there is, with its result."""

import re
from pathlib import Path

from mainstem.catalogue.liveness import Reason, Result

PAGE = Path(__file__).parents[4] / "docs" / "explanation" / "liveness.md"


def test_every_reason_is_explained() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| \S", PAGE.read_text("utf-8"), re.MULTILINE)

    assert [name for name, _ in rows] == list(Reason)
    assert {result for _, result in rows} == set(Result)
