"""Mistakes of our own: nobody is left without an answer."""

import asyncio
from pathlib import Path

import pytest

from mainstem.errors import Unavailable
from mainstem.ids import TopicId
from mainstem.storage import Condition, Draft, Drafts
from mainstem.storage.embedded.log import EmbeddedLog, LogOptions

TOPIC = TopicId(9)
GOOD = Drafts.of([Draft(1, "x", b"{}")])


async def test_a_mistake_in_ordering_answers_all_who_wait(tmp_path: Path) -> None:
    """The log stops, says so, and what was acknowledged is there after a restart."""
    wrong = Drafts(GOOD.ts_us, GOOD.event_types, GOOD.data, GOOD.metadata, [5])  # type: ignore[list-item]  # the mistake
    options = LogOptions(disk_free_bytes_min=0)
    async with EmbeddedLog.open(tmp_path, options) as log:
        await log.append(TOPIC, GOOD)
        appends = [log.append(TOPIC, GOOD), log.append(TOPIC, wrong, dedupe_window_s=60), log.append(TOPIC, GOOD)]
        results = await asyncio.gather(*appends, return_exceptions=True)

        assert all(isinstance(result, Unavailable) for result in results)
        assert log.health().condition is Condition.UNHEALTHY
        with pytest.raises(Unavailable):
            await log.append(TOPIC, GOOD)
        assert len(await log.read(TOPIC, 0, 10)) == 1

    async with EmbeddedLog.open(tmp_path, options) as log:
        assert (await log.append(TOPIC, GOOD)).first_idx == 1
