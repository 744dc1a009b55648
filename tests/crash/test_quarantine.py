"""What is damaged or lost is set aside and told of, can be put back, and never takes anything else with it."""

import asyncio
import shutil
from itertools import count
from pathlib import Path

import pytest

from crash.folders import CLICKS, OPTIONS, ORDERS, TOPICS, WINDOW_S, Filled, fill, newest_wal, opened, reading
from logs import drafts, kept, numbers_of
from mainstem.clock import FixedClock
from mainstem.errors import Unavailable
from mainstem.storage import accept_loss, verify_log
from mainstem.storage.embedded.log import EmbeddedLog, recovery
from mainstem.storage.ports import Condition

LAST = TOPICS[-1]


@pytest.fixture
async def filled(tmp_path: Path) -> Filled:
    return await fill(tmp_path / "log", sealed=3, live=3)


def damage(file: Path, at: int) -> bytes:
    """Spoil a byte; the file as it was."""
    sound = file.read_bytes()
    file.write_bytes(sound[:at] + bytes([sound[at] ^ 0xFF]) + sound[at + 1 :])
    return sound


def segment(folder: Path, place: int) -> Path:
    return sorted((folder / "segments").iterdir())[place]


async def test_a_damaged_segment_is_moved_aside_and_may_come_back(filled: Filled) -> None:
    """Its events are missing and nothing else is; with a sound copy in its place all are there again."""
    file = segment(filled.folder, 1)
    sound = damage(file, 300)
    async with opened(filled.folder) as log:
        found = await kept(log, ORDERS)
        health = log.health()
        assert (health.condition, file.name in health.reason) == (Condition.UNHEALTHY, True)
        assert list(log.figures().quarantined) == [file.name]
        assert found == [row for row in filled.rows[ORDERS] if not 19 <= row.idx < 38]
        assert numbers_of(await log.read(ORDERS, 25, 3)) == numbers_of(filled.rows[ORDERS][38:41])
        assert log.accepts
        await log.append(ORDERS, drafts([1_000]))
        await log.maintain()

    assert (filled.folder / "quarantine" / file.name).exists()
    file.write_bytes(sound)
    async with opened(filled.folder) as log:
        assert log.health().condition is Condition.HEALTHY
        assert (await kept(log, ORDERS))[:-1] == filled.rows[ORDERS]
        await log.maintain()
        assert (await kept(log, ORDERS))[:-1] == filled.rows[ORDERS]


async def test_a_loss_may_be_accepted(filled: Filled) -> None:
    """While the server runs: health no longer speaks of it, the damaged file stays where it is."""
    file = segment(filled.folder, 0)
    damage(file, 300)
    async with opened(filled.folder) as log:
        await log.maintain()
        assert log.health().condition is Condition.UNHEALTHY

        accept_loss(filled.folder, file.name)
        await log.maintain()

        assert log.health().condition is Condition.HEALTHY
    assert (filled.folder / "quarantine" / file.name).exists()
    rows = await reading(filled.folder)
    assert rows[ORDERS] == filled.rows[ORDERS][19:]


async def test_a_segment_that_is_missing_is_reported(filled: Filled) -> None:
    """A file that somebody has deleted is damage as well, also to `mainstem doctor`."""
    file = segment(filled.folder, 2)
    file.unlink()
    assert not all(finding.sound for finding in verify_log(filled.folder))

    async with opened(filled.folder) as log:
        await log.maintain()
        assert file.name in log.health().reason
        assert log.accepts


async def test_compaction_copies_no_damage(filled: Filled) -> None:
    """A segment that was sound this morning is looked at again before it is copied under a new checksum."""
    file = segment(filled.folder, 1)
    async with opened(filled.folder) as log:
        await kept(log, ORDERS)
        damage(file, 300)
        await log.maintain()

        assert list(log.figures().quarantined) == [file.name]
        assert await kept(log, ORDERS) == [row for row in filled.rows[ORDERS] if not 19 <= row.idx < 38]


async def test_damage_in_the_write_ahead_file_may_be_mended(filled: Filled) -> None:
    """What comes after it is read; a sound copy brings back exactly what was missing, ids included."""
    wal = newest_wal(filled.folder)
    sound = damage(wal, len(wal.read_bytes()) // 2)
    async with opened(filled.folder) as log:
        found = {topic: await kept(log, topic) for topic in TOPICS}
        assert log.health().condition is Condition.UNHEALTHY
        missing = [topic for topic in TOPICS if found[topic] != filled.rows[topic]]
        assert len(missing) == 1
        assert len(found[missing[0]]) == len(filled.rows[missing[0]]) - 20 + missing[0]
        await log.append(CLICKS, drafts([1_000]))
        await log.maintain()

    wal.write_bytes(sound)
    async with opened(filled.folder) as log:
        assert log.health().condition is Condition.HEALTHY
        rows = {topic: await kept(log, topic) for topic in TOPICS}
        assert {topic: rows[topic][: len(filled.rows[topic])] for topic in TOPICS} == filled.rows
        for topic, expected in filled.rows.items():
            again = drafts(numbers_of(expected), prefix=f"{topic}-")
            assert (await log.append(topic, again, dedupe_window_s=WINDOW_S)).count == 0


async def test_every_damaged_place_of_a_file_is_told(filled: Filled) -> None:
    """Also one that comes after another was accepted."""
    wal = newest_wal(filled.folder)
    damage(wal, 200)
    async with opened(filled.folder) as log:
        (first,) = log.figures().quarantined
    accept_loss(filled.folder, first)
    damage(wal, len(wal.read_bytes()) // 2)

    async with opened(filled.folder) as log:
        assert len(log.figures().quarantined) == 1
        assert log.health().condition is Condition.UNHEALTHY


async def test_the_damaged_end_of_a_write_ahead_file_may_be_mended(filled: Filled) -> None:
    """Topics that got nothing since get back what was missing."""
    wal = newest_wal(filled.folder)
    sound = damage(wal, len(wal.read_bytes()) - 30)
    async with opened(filled.folder) as log:
        assert [len(await kept(log, topic)) for topic in TOPICS] == [114, 108, 85]
        receipt = await log.append(ORDERS, drafts([1_000]))
        assert receipt.first_seq >= filled.next_seq
        await log.maintain()
    wal.write_bytes(sound)

    async with opened(filled.folder) as log:
        assert log.health().condition is Condition.HEALTHY
        assert await kept(log, LAST) == filled.rows[LAST]
        assert (await log.append(LAST, drafts([7]))).first_idx == len(filled.rows[LAST])


async def test_events_whose_places_are_taken_are_not_put_back(filled: Filled) -> None:
    """Later events have their indexes: those stay, and the loss stays told."""
    wal = newest_wal(filled.folder)
    sound = damage(wal, len(wal.read_bytes()) - 30)
    async with opened(filled.folder) as log:
        await log.append(LAST, drafts([1_000]))
        await log.maintain()
        before = await kept(log, LAST)
    wal.write_bytes(sound)

    async with opened(filled.folder) as log:
        assert log.health().condition is Condition.UNHEALTHY
        assert await kept(log, LAST) == before


async def test_a_lost_catalogue_is_made_anew(filled: Filled) -> None:
    """From the segments, all events and their ids; only notes are forgotten, and health says so for a day."""
    for file in filled.folder.glob("catalog.sqlite*"):
        file.unlink()
    clock = FixedClock()
    async with EmbeddedLog.open(filled.folder, OPTIONS, clock) as log:
        assert {topic: await kept(log, topic) for topic in TOPICS} == filled.rows
        for topic, rows in filled.rows.items():
            again = drafts(numbers_of(rows), prefix=f"{topic}-")
            assert (await log.append(topic, again, dedupe_window_s=WINDOW_S)).count == 0
        assert (await log.append(ORDERS, drafts([1]))).first_seq == filled.next_seq
        await log.maintain()
        assert log.health().condition is Condition.DEGRADED
        clock.advance(86_401)
        assert log.health().condition is Condition.HEALTHY


async def test_a_lost_catalogue_does_not_hide_what_is_missing(filled: Filled) -> None:
    """Neither what was in quarantine before nor what is damaged when it is made anew."""
    first, second = segment(filled.folder, 0), segment(filled.folder, 2)
    sound = damage(first, 300)
    async with opened(filled.folder) as log:
        await log.snapshot(ORDERS)
    damage(second, 300)
    (filled.folder / "catalog.sqlite").unlink()

    async with opened(filled.folder) as log:
        assert set(log.figures().quarantined) == {first.name, second.name}
        assert log.health().condition is Condition.UNHEALTHY
        assert (await log.append(ORDERS, drafts([1]))).first_seq == filled.next_seq
    first.write_bytes(sound)
    async with opened(filled.folder) as log:
        assert list(log.figures().quarantined) == [second.name]
        assert (await kept(log, ORDERS))[:38] == filled.rows[ORDERS][:38]


class Killed(BaseException):
    """As if the process ended here."""


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_making_the_catalogue_anew_may_be_cut_short(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The next start begins again: half a catalogue is not taken for all."""
    (filled.folder / "catalog.sqlite").unlink()
    adopted = count()
    described = recovery._described

    def killed_after(path: Path) -> object:
        if next(adopted) == after:
            raise Killed
        return described(path)

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "_described", killed_after)
        with pytest.raises(Killed):
            await reading(filled.folder)

    assert await reading(filled.folder) == filled.rows
    async with opened(filled.folder) as log:
        again = drafts(numbers_of(filled.rows[ORDERS]), prefix=f"{ORDERS}-")
        assert (await log.append(ORDERS, again, dedupe_window_s=WINDOW_S)).count == 0


async def test_events_are_found_beside_a_hole_that_nobody_knows_of(filled: Filled) -> None:
    """A segment and the catalogue are gone: compaction must not move what is left over the hole."""
    segment(filled.folder, 1).unlink()
    (filled.folder / "catalog.sqlite").unlink()
    expected = [row for row in filled.rows[ORDERS] if not 19 <= row.idx < 38]
    async with opened(filled.folder) as log:
        assert await kept(log, ORDERS) == expected
        await log.maintain()
        assert await kept(log, ORDERS) == expected
        await log.maintain()
        assert await kept(log, ORDERS) == expected


async def test_a_write_ahead_file_may_be_mended_though_the_catalogue_is_lost(filled: Filled) -> None:
    """Which events are missing is told from those that are there."""
    wal = newest_wal(filled.folder)
    sound = damage(wal, len(wal.read_bytes()) // 2)
    async with opened(filled.folder) as log:
        await log.seal()
    (filled.folder / "catalog.sqlite").unlink()
    async with opened(filled.folder) as log:
        await log.maintain()
        assert log.health().condition is Condition.UNHEALTHY
    wal.write_bytes(sound)

    async with opened(filled.folder) as log:
        assert log.health().condition is not Condition.UNHEALTHY
        assert {topic: await kept(log, topic) for topic in TOPICS} == filled.rows
        await log.maintain()
        assert {topic: await kept(log, topic) for topic in TOPICS} == filled.rows


async def test_another_versions_events_are_no_damage(filled: Filled) -> None:
    """They are refused in words and left where they are, for the version that can read them."""
    file = newest_wal(filled.folder)
    theirs = b"MSF9" + file.read_bytes()[4:]
    file.write_bytes(theirs)
    with pytest.raises(Unavailable, match="another version"):
        async with opened(filled.folder):
            pass

    assert file.read_bytes() == theirs
    assert not list((filled.folder / "quarantine").iterdir())


async def test_strange_files_are_left_alone(filled: Filled) -> None:
    """An operator may have put something there: it neither stops a start nor goes away."""
    strange = [filled.folder / place / "notes.parquet" for place in ("segments", "quarantine")]
    strange += [filled.folder / "wal" / "copy of.wal", filled.folder / "dedupe" / "old.ids"]
    for file in strange:
        file.write_bytes(b"?")
    (filled.folder / "catalog.sqlite").unlink()

    assert await reading(filled.folder) == filled.rows
    assert all(file.exists() for file in strange)


async def test_numbers_are_not_given_again_when_the_catalogue_is_lost(tmp_path: Path) -> None:
    """Even when nothing is left that had them."""
    clock = FixedClock()
    async with EmbeddedLog.open(tmp_path, OPTIONS, clock) as log:
        log.retain(ORDERS, 10, None)
        last = await log.append(ORDERS, drafts(range(50)))
        clock.advance(100)
        await log.maintain()
        assert await kept(log, ORDERS) == []
        await log.append(CLICKS, drafts([]))
    (tmp_path / "catalog.sqlite").unlink()

    async with opened(tmp_path) as log:
        assert (await log.append(ORDERS, drafts([1]))).first_seq >= last.first_seq + 50


async def test_a_catalogue_older_than_the_files_loses_nothing(filled: Filled) -> None:
    """Segments that it does not know are taken up, though they were compacted from those it knows."""
    shutil.copy(filled.folder / "catalog.sqlite", filled.folder / "old")
    async with opened(filled.folder) as log:
        await log.maintain()
        await log.append(ORDERS, drafts([1_000]))
        await log.maintain()
        rows = {topic: await kept(log, topic) for topic in TOPICS}
    shutil.move(filled.folder / "old", filled.folder / "catalog.sqlite")

    async with opened(filled.folder) as log:
        assert {topic: await kept(log, topic) for topic in TOPICS} == rows
        assert (await log.append(ORDERS, drafts([1]))).first_seq == filled.next_seq + 1


# Moments at which a kill may come


async def sealed_copy(filled: Filled, place: Path) -> Path:
    """The same log a moment later, with everything sealed and compacted."""
    folder = filled.copy(place)
    async with opened(folder) as log:
        await log.maintain()
    return folder


async def test_a_kill_between_segment_and_catalogue_repeats_nothing(filled: Filled, tmp_path: Path) -> None:
    """The segment is there, the catalogue does not know it, the write-ahead file is there: it is sealed again."""
    later = filled.copy(tmp_path / "later")
    async with opened(later) as log:
        await log.seal()
    for file in (later / "segments").iterdir():
        shutil.copy(file, filled.folder / "segments" / file.name)

    assert await reading(filled.folder) == filled.rows
    async with opened(filled.folder) as log:
        assert await log.note(next(reversed(filled.notes))) == next(reversed(filled.notes.values()))


async def test_a_dropped_topic_confuses_no_recovery(filled: Filled, tmp_path: Path) -> None:
    """The same, where the segment begins later than the write-ahead file because a topic was left out."""
    async with opened(filled.folder) as log:
        await log.drop(ORDERS)
    later = filled.copy(tmp_path / "later")
    async with opened(later) as log:
        await log.seal()
    for file in (later / "segments").iterdir():
        shutil.copy(file, filled.folder / "segments" / file.name)

    assert await reading(filled.folder) == {**filled.rows, ORDERS: []}
    async with opened(filled.folder) as log:
        assert await log.note(next(reversed(filled.notes))) == next(reversed(filled.notes.values()))


async def test_a_kill_between_catalogue_and_deletion_repeats_nothing(filled: Filled, tmp_path: Path) -> None:
    """Write-ahead files that are sealed, and segments that are compacted, may still lie there."""
    later = await sealed_copy(filled, tmp_path / "later")
    for place in ("wal", "segments", "dedupe"):
        for file in (filled.folder / place).iterdir():
            if not (later / place / file.name).exists():
                shutil.copy(file, later / place / file.name)

    assert await reading(later) == filled.rows
    assert len(list((later / "segments").iterdir())) < 4


async def test_left_overs_and_a_lost_catalogue_at_once_lose_nothing(filled: Filled, tmp_path: Path) -> None:
    """Even where the compacted segment is the damaged one: what it was made from is still there."""
    later = await sealed_copy(filled, tmp_path / "later")
    (wide,) = (later / "segments").iterdir()
    for file in (filled.folder / "segments").iterdir():
        shutil.copy(file, later / "segments" / file.name)
    damage(wide, 500)
    (later / "catalog.sqlite").unlink()

    rows = await reading(later)
    assert {topic: found[:51] for topic, found in rows.items()} == {t: r[:51] for t, r in filled.rows.items()}


async def test_lost_ids_are_found_in_the_segments(filled: Filled) -> None:
    """The files of event ids are derived."""
    for file in (filled.folder / "dedupe").iterdir():
        file.unlink()

    async with opened(filled.folder) as log:
        again = drafts(numbers_of(filled.rows[ORDERS]), prefix=f"{ORDERS}-")
        assert (await log.append(ORDERS, again, dedupe_window_s=WINDOW_S)).count == 0


async def test_a_gap_between_small_commits_changes_no_number(tmp_path: Path) -> None:
    """Many small frames are joined in memory; damage between them stays a gap."""
    async with opened(tmp_path) as log:
        for number in range(200):
            await log.append(ORDERS, drafts([number]))
        rows = await kept(log, ORDERS)
    wal = newest_wal(tmp_path)
    damage(wal, len(wal.read_bytes()) // 2)

    async with opened(tmp_path) as log:
        await asyncio.sleep(0)
        found = await kept(log, ORDERS)
        assert len(found) == 199
        assert set(found) < set(rows)
        await log.maintain()
        assert await kept(log, ORDERS) == found
