"""Upkeep of the embedded log: what it leaves alone."""

from pathlib import Path

from mainstem.ids import TopicId
from mainstem.storage import Draft, Drafts
from mainstem.storage.embedded.log import EmbeddedLog, LogOptions

TOPIC = TopicId(9)
LEAVES = [("data", f"field{number}") for number in range(12)]


async def test_columns_stay_when_others_are_asked_for_as_often(tmp_path: Path) -> None:
    """More hot leaves than a new segment gets do not make upkeep rewrite the same segment round after round."""
    async with EmbeddedLog.open(tmp_path, LogOptions(disk_free_bytes_min=0)) as log:
        await log.append(TOPIC, Drafts.of([Draft(1, "x", b'{"field0":1,"field11":2}')]))
        log.used(TOPIC, LEAVES[:8] * 3)
        await log.maintain()
        log.used(TOPIC, LEAVES[4:] * 9)
        await log.maintain()
        snapshot = await log.snapshot(TOPIC)
        [part] = snapshot.parts
        snapshot.close()
        assert part.leaves == {".".join(path) for path in LEAVES}

        for turn in range(4):
            log.used(TOPIC, (LEAVES[4:] if turn % 2 else LEAVES[:8]) * 20)
            await log.maintain()
        snapshot = await log.snapshot(TOPIC)
        assert [later.path for later in snapshot.parts] == [part.path]
        snapshot.close()
