"""A damaged segment that the operator restores."""

from pathlib import Path

import pytest

from mainstem.clock import FixedClock
from mainstem.ids import TopicId
from mainstem.storage import Condition, Draft, Drafts, accept_loss
from mainstem.storage.embedded.log import EmbeddedLog, LogOptions

TOPIC = TopicId(1)
DAY_S = 86_400.0


async def grown(folder: Path, batches: int) -> None:
    """A log with one segment for each batch of three events."""
    async with EmbeddedLog.open(folder, LogOptions(maintain_every_s=3_600), FixedClock()) as log:
        for batch in range(batches):
            await log.append(TOPIC, Drafts.of(Draft(batch, "kind", b"{}") for _ in range(3)))
            await log.seal()


@pytest.mark.parametrize("accepted", [False, True])
async def test_a_damaged_segment_comes_back_whole_when_it_is_restored(tmp_path: Path, accepted: bool) -> None:
    """Also when it is the oldest, retention was applied meanwhile, and its loss had been accepted."""
    await grown(tmp_path, batches=2)
    oldest = min((tmp_path / "segments").iterdir())
    sound = oldest.read_bytes()
    oldest.write_bytes(sound[:100] + b"damage" + sound[106:])

    async with EmbeddedLog.open(tmp_path, LogOptions(), FixedClock()) as log:
        log.retain(TOPIC, 90 * DAY_S, None)
        await log.maintain()
        assert log.health().condition is Condition.UNHEALTHY
        assert len(await log.read(TOPIC, 0, 10)) == 3
    if accepted:
        accept_loss(tmp_path, oldest.name)
    oldest.write_bytes(sound)

    async with EmbeddedLog.open(tmp_path, LogOptions(), FixedClock()) as log:
        log.retain(TOPIC, 90 * DAY_S, None)
        await log.maintain()
        assert log.health().condition is Condition.HEALTHY
        assert [row.idx for row in await log.read(TOPIC, 0, 10)] == [0, 1, 2, 3, 4, 5]
