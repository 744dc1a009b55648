"""Two hundred single bits turned over, anywhere in a log's files: never wrong data, never silence about a loss."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from crash.folders import ORDERS, TOPICS, WINDOW_S, Filled, fill, opened
from logs import drafts, kept
from mainstem.ids import TopicId
from mainstem.storage import Row
from mainstem.storage.embedded.log import EmbeddedLog
from mainstem.storage.ports import Condition

SEED = 20_240_315
GROUPS = {"write-ahead": "wal/*", "segments": "segments/*", "event ids": "dedupe/*", "catalogue": "catalog.sqlite"}
FLIPS_EACH = 50


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    return asyncio.run(fill(tmp_path_factory.mktemp("filled") / "log", sealed=4, live=3))


def flips(folder: Path, pattern: str, seed: int) -> Iterator[tuple[str, int]]:
    """Files and bits in them, the same ones for the same seed."""
    files = sorted(folder.glob(pattern))
    chance = random.Random(seed)
    weights = [file.stat().st_size for file in files]
    for _ in range(FLIPS_EACH):
        file = chance.choices(files, weights)[0]
        yield str(file.relative_to(folder)), chance.randrange(8 * file.stat().st_size)


def flip(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
async def test_a_bit_turned_over_is_harmless_or_reported(filled: Filled, tmp_path: Path, group: str) -> None:
    """Either all is as it was, or health tells of what is missing; the rest is readable, writable, and stays so."""
    for place, (name, bit) in enumerate(flips(filled.folder, GROUPS[group], SEED)):
        print(f"seed {SEED}, {group}: bit {bit} of {name}")  # noqa: T201  # which one it was, when it fails
        folder = filled.copy(tmp_path / f"{place}")
        flip(folder / name, bit)
        async with opened(folder) as log:
            before = await look(log, filled)
            await write_on(log, filled, before)
            await log.maintain()
        async with opened(folder) as log:
            after = await look(log, filled)
            assert {topic: rows[: len(before[topic])] for topic, rows in after.items()} == before


async def look(log: EmbeddedLog, filled: Filled) -> dict[TopicId, list[Row]]:
    """Read everything: nothing is wrong, and what is missing is reported."""
    found = {topic: await kept(log, topic) for topic in TOPICS}
    complete = True
    for topic, rows in filled.rows.items():
        assert set(found[topic]) & set(rows) == {row for row in found[topic] if row.seq < filled.next_seq}
        assert [row.seq for row in found[topic]] == sorted({row.seq for row in found[topic]})
        complete &= set(rows) <= set(found[topic])
    for key, noted in filled.notes.items():
        known = await log.note(key)
        assert known in (noted, None)
        complete &= known is not None
    assert complete or log.health().condition is not Condition.HEALTHY or log.figures().tail_cut_bytes
    return found


async def write_on(log: EmbeddedLog, filled: Filled, before: dict[TopicId, list[Row]]) -> None:
    """New events get new numbers, and a repeat of an event that is there is known as one."""
    receipt = await log.append(ORDERS, drafts([7]), dedupe_window_s=WINDOW_S)
    assert receipt.first_seq >= filled.next_seq
    for topic, rows in before.items():
        ids = {row.event_id: row.seq for row in rows}
        numbers = [row.ts_us // 1_000_000 for row in rows]
        again = await log.append(topic, drafts(numbers, prefix=f"{topic}-"), dedupe_window_s=WINDOW_S)
        assert again.count == 0
        assert again.seqs(len(rows)) == list(ids.values())
