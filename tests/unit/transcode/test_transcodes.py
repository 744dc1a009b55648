"""Jobs, from the upload to what players get, and every way in which they can end."""

import asyncio
import os
import signal
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from mainstem.clock import FixedClock
from mainstem.errors import Invalid
from mainstem.events import Announcement
from mainstem.identity import Principal, Scope, Tier
from mainstem.ids import AccountId
from mainstem.storage import Storage
from mainstem.transcode import (
    KIND,
    JobNotFound,
    JobState,
    MediaGrant,
    NotAudio,
    NotFinished,
    OutputNotFound,
    QueueFull,
    TooLarge,
    order_of,
)
from mainstem.work import Held, LeaseLost
from sounds import encoded, wav
from waiting import PATIENCE_S

from .conftest import Place, children, children_are, made

pytestmark = pytest.mark.slow

DAY_S = 86_400


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wav(tmp_path_factory.mktemp("sound") / "a song.wav", seconds=7)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So long that a job has no chance to end while a test looks."""
    return wav(tmp_path_factory.mktemp("sound") / "long.wav", rate=8_000, channels=1, seconds=600)


@pytest.fixture
def header(short: Path) -> bytes:
    """What comes before the samples of a WAV file."""
    return short.read_bytes()[:44]


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A file whose end is missing, and that says how long it should be."""
    flac = encoded(wav(tmp_path / "x.wav", seconds=10), "flac")
    content = flac.read_bytes()
    flac.write_bytes(content[: len(content) // 2])
    return flac


def somebody(account: int, *, is_admin: bool = False) -> Principal:
    scopes = frozenset({Scope.EVENTS_READ, Scope.EVENTS_WRITE, *([Scope.ADMIN] if is_admin else [])})
    return Principal(AccountId(account), "x", f"key_{account}", scopes, Tier.UNLIMITED, is_admin=is_admin)


# From an upload to what players get


async def test_a_file_becomes_a_playlist_and_segments(place: Place, short: Path) -> None:
    job = await place.send(short)
    assert (job.state, job.track_id, job.progress, job.attempt) == (JobState.PENDING, "a song", 0.0, 0)
    assert UUID(job.id).version == 4

    async with place.working():
        done = await place.ended(job)

    assert (done.state, done.progress, done.error, done.attempt) == (JobState.COMPLETED, 100.0, None, 1)
    playlist = (await place.transcodes.playlist(None, job.id)).text
    assert [line for line in playlist.splitlines() if line.endswith(".ts")] == ["segment_00001.ts", "segment_00002.ts"]
    first = await place.transcodes.segment(None, job.id, "segment_00001.ts")
    content = await place.transcodes.read(first)
    assert (len(content), content[:1], first.media_type) == (first.size, b"\x47", "video/mp2t")
    assert await place.transcodes.read(first, 100, 200) == content[100:200]


async def test_progress_is_told_and_never_falls(place: Place, short: Path) -> None:
    job = await place.send(short)
    async with place.working(), asyncio.timeout(PATIENCE_S):
        told = [progress async for progress in place.transcodes.follow(None, job.id)]

    shown = [one.job.progress for one in told]
    assert shown == sorted(shown)
    assert (told[0].job.state, told[-1].job.state, told[-1].segments) == (JobState.PENDING, JobState.COMPLETED, 2)


async def test_nothing_can_be_played_before_the_job_is_finished_but_live(place: Place, long: Path) -> None:
    job = await place.send(long)
    with pytest.raises(NotFinished):
        await place.transcodes.playlist(None, job.id, live=True)

    async with place.working():
        await place.playable(job)
        with pytest.raises(NotFinished):
            await place.transcodes.playlist(None, job.id)
        with pytest.raises(OutputNotFound):
            await place.transcodes.segment(None, job.id, "segment_00001.ts")
        playlist = await place.transcodes.playlist(None, job.id, live=True)
        segment = await place.transcodes.segment(None, job.id, "segment_00001.ts", live=True)

    assert "#EXT-X-PLAYLIST-TYPE:EVENT" in playlist.text
    assert "#EXT-X-ENDLIST" not in playlist.text
    assert len(await place.transcodes.read(segment)) == segment.size


async def test_the_live_address_gives_the_same_bytes_when_the_job_is_done(place: Place, short: Path) -> None:
    job = await place.send(short)
    async with place.working():
        await place.ended(job)

    assert (await place.transcodes.playlist(None, job.id, live=True)).text.endswith("#EXT-X-ENDLIST\n")
    assert await place.transcodes.segment(None, job.id, "segment_00001.ts", live=True) == (
        await place.transcodes.segment(None, job.id, "segment_00001.ts")
    )


async def test_a_ladder_has_a_master_and_a_folder_for_each_rung(place: Place, short: Path) -> None:
    job = await place.send(short, ladder="true", quality_profile="medium")
    async with place.working():
        done = await place.ended(job)

    master = (await place.transcodes.master(None, job.id)).text
    addresses = [line for line in master.splitlines() if not line.startswith("#")]
    assert addresses == [f"{rung}/index.m3u8" for rung in ("aac-192", "aac-64", "aac-128", "flac")]
    assert [rung.name for rung in done.rungs] == [address.split("/")[0] for address in addresses]
    flac = (await place.transcodes.playlist(None, job.id, "flac")).text
    assert '#EXT-X-MAP:URI="init.mp4"' in flac
    assert (await place.transcodes.segment(None, job.id, "init.mp4", "flac")).media_type == "audio/mp4"


async def test_only_what_a_playlist_names_can_be_had(place: Place, short: Path) -> None:
    job = await place.send(short)
    async with place.working():
        await place.ended(job)

    for name in (
        "segment_00000.ts",
        "segment_99999.ts",
        "init.mp4",
        "../source",
        "source",
        "waveform.dat",
        "cover",
        "",
    ):
        with pytest.raises(OutputNotFound):
            await place.transcodes.segment(None, job.id, name)
    with pytest.raises(OutputNotFound):
        await place.transcodes.playlist(None, job.id, "flac")
    with pytest.raises(OutputNotFound):
        await place.transcodes.cover(None, job.id)


async def test_the_source_is_not_kept_when_the_job_is_done(place: Place, short: Path) -> None:
    job = await place.send(short)
    async with place.working():
        await place.ended(job)
    place.clock.advance(61)
    await place.transcodes.sweep()

    kept = await place.files()
    assert f"transcodes/{job.id}/source" not in kept
    assert f"transcodes/{job.id}/1/aac-256/segment_00001.ts" in kept


# What is refused leaves nothing behind


@pytest.mark.parametrize("content", [b"", b"hello\n" * 1_000, b"#EXTM3U\n#EXTINF:6,\nfile:///etc/passwd\n"])
async def test_what_is_no_audio_is_refused(place: Place, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.wav").write_bytes(content)

    with pytest.raises(NotAudio):
        await place.send(tmp_path / "x.wav")

    assert await place.files() == []


async def test_a_header_without_sound_is_refused(place: Place, header: bytes) -> None:
    upload = place.transcodes.upload("x.wav")
    await upload.write(header)

    with pytest.raises(NotAudio):
        await place.transcodes.accept(None, upload, order_of({}))


async def test_what_is_too_large_is_refused_while_it_comes(storage: Storage, clock: FixedClock) -> None:
    place = made(storage, clock, bytes_max=1_000)
    upload = place.transcodes.upload("x.wav")
    await upload.write(b"x" * 1_000)

    with pytest.raises(TooLarge):
        await upload.write(b"x")

    assert await place.files() == []


async def test_what_lasts_too_long_is_refused(storage: Storage, clock: FixedClock, short: Path) -> None:
    with pytest.raises(NotAudio, match="longer than"):
        await made(storage, clock, duration_max_s=5).send(short)


async def test_more_jobs_than_may_wait_are_refused(place: Place, short: Path) -> None:
    for _ in range(3):
        await place.send(short)

    with pytest.raises(QueueFull):
        await place.send(short)

    assert len(await place.files()) == 3


async def test_an_upload_that_ends_early_leaves_nothing(place: Place) -> None:
    upload = place.transcodes.upload("x.wav")
    await upload.write(b"x" * 3_000_000)
    await upload.abort()

    assert await place.files() == []


# Who sees a job


async def test_a_job_is_its_owner_s_and_the_administrators(place: Place, short: Path) -> None:
    job = await place.send(short, somebody(9))

    for who in (somebody(9), somebody(10, is_admin=True), None):
        assert (await place.transcodes.job(who, job.id)).owner == 9
        assert [one.id for one in (await place.transcodes.jobs(who)).jobs] == [job.id]
    with pytest.raises(JobNotFound):
        await place.transcodes.job(somebody(10), job.id)
    with pytest.raises(JobNotFound):
        await place.transcodes.playlist(somebody(10), job.id)
    with pytest.raises(JobNotFound):
        await place.transcodes.delete(somebody(10), job.id)
    assert (await place.transcodes.jobs(somebody(10))).jobs == []


async def test_a_link_opens_the_media_of_one_job(place: Place, short: Path) -> None:
    mine, other = [await place.send(short, somebody(9)) for _ in range(2)]
    async with place.working():
        await place.ended(mine)
        await place.ended(other)

    assert (await place.transcodes.playlist(MediaGrant(mine.id), mine.id)).text
    with pytest.raises(JobNotFound):
        await place.transcodes.playlist(MediaGrant(mine.id), other.id)


async def test_jobs_are_listed_newest_first_in_pages(place: Place, short: Path) -> None:
    sent = [(await place.send(short, track_id=track)).id for track in ("a", "b", "a")]

    first = await place.transcodes.jobs(None, limit=2)
    second = await place.transcodes.jobs(None, limit=2, cursor=first.next_cursor)

    assert [job.id for job in [*first.jobs, *second.jobs]] == sent[::-1]
    assert second.next_cursor is None
    assert [job.id for job in (await place.transcodes.jobs(None, track_id="a")).jobs] == [sent[2], sent[0]]
    assert (await place.transcodes.jobs(None, status=JobState.COMPLETED)).jobs == []
    with pytest.raises(Invalid):
        await place.transcodes.jobs(None, cursor="x")


# Ends


async def announced(place: Place) -> list[Announcement]:
    tasks = await place.queue.lease(["announce"], lease_s=60, count=100)
    return [one for task in tasks for one in msgspec.json.decode(task.payload, type=list[Announcement])]


async def test_an_end_is_announced(place: Place, short: Path) -> None:
    done, cancelled = [await place.send(short) for _ in range(2)]
    await place.transcodes.delete(None, cancelled.id)
    async with place.working():
        await place.ended(done)

    told = {one.data["job_id"]: (one.topic, one.event_type) for one in await announced(place)}
    assert told == {
        done.id: ("mainstem.transcodes", "transcode.completed"),
        cancelled.id: ("mainstem.transcodes", "transcode.cancelled"),
    }


async def test_a_job_is_cancelled_and_its_process_killed_soon(place: Place, long: Path) -> None:
    """Within a second, where nothing else keeps the machine busy."""
    job = await place.send(long)
    async with place.working():
        await place.playable(job)
        cancelled = await place.transcodes.delete(None, job.id)
        await children_are(0, within_s=10)

    assert cancelled is not None
    assert cancelled.state is JobState.CANCELLED
    assert cancelled.completed_us is not None
    with pytest.raises(OutputNotFound):
        await place.transcodes.playlist(None, job.id, live=True)
    place.clock.advance(61)
    await place.transcodes.sweep()
    assert await place.files() == []


async def test_a_finished_job_is_removed_with_all_that_it_made(place: Place, short: Path) -> None:
    job = await place.send(short)
    async with place.working():
        await place.ended(job)

    assert await place.transcodes.delete(None, job.id) is None
    with pytest.raises(JobNotFound):
        await place.transcodes.segment(None, job.id, "segment_00001.ts")
    with pytest.raises(JobNotFound):
        await place.transcodes.delete(None, job.id)
    place.clock.advance(61)
    await place.transcodes.sweep()
    assert await place.files() == []


async def test_of_two_who_delete_at_once_one_does_it(place: Place, short: Path) -> None:
    job = await place.send(short)
    await place.transcodes.delete(None, job.id)

    ended = await asyncio.gather(*[place.transcodes.delete(None, job.id) for _ in range(2)], return_exceptions=True)

    assert sorted(map(type, ended), key=str) == sorted([type(None), JobNotFound], key=str)


async def test_jobs_are_retired_after_their_time(place: Place, short: Path) -> None:
    job = await place.send(short)
    async with place.working():
        await place.ended(job)
    place.clock.advance(7 * DAY_S - 1)
    await place.transcodes.sweep()
    assert (await place.transcodes.job(None, job.id)).state is JobState.COMPLETED

    place.clock.advance(2)
    await place.transcodes.sweep()

    with pytest.raises(JobNotFound):
        await place.transcodes.job(None, job.id)
    assert await place.files() == []


async def test_files_without_a_job_are_found_and_removed(place: Place, short: Path) -> None:
    """A crash between a file and its row leaves one; a young one may be on its way to its row."""
    job = await place.send(short)
    await place.storage.blobs.write("transcodes/nobody/source", b"x")
    place.clock.now_us = 4 * 10**15  # far from the time of the files

    await place.transcodes.sweep()

    assert await place.files() == [f"transcodes/{job.id}/source"]


async def test_a_damaged_file_fails_at_once_and_says_why(place: Place, damaged: Path) -> None:
    job = await place.send(damaged)
    async with place.working():
        failed = await place.ended(job)

    assert (failed.state, failed.attempt) == (JobState.FAILED, 1)
    assert failed.error is not None
    assert "damaged" in failed.error
    with pytest.raises(OutputNotFound):
        await place.transcodes.playlist(None, job.id)


async def test_a_job_that_takes_too_long_fails(storage: Storage, clock: FixedClock, long: Path) -> None:
    place = made(storage, clock, timeout_s=1.0)
    job = await place.send(long)
    async with place.working():
        failed = await place.ended(job)

    assert (failed.state, failed.error) == (JobState.FAILED, "It took longer than the 1 s that a job may take.")
    assert children() == []


async def test_a_job_whose_process_is_killed_is_tried_again_and_players_notice_nothing(
    place: Place, long: Path
) -> None:
    job = await place.send(long)
    async with place.working():
        before = await place.until(job, lambda now: now.job.progress > 20)
        (child,) = children()
        os.kill(child, signal.SIGKILL)
        playlist = (await place.transcodes.playlist(None, job.id, live=True)).text
        await place.retried_in(6)
        again = await place.until(job, lambda now: now.job.attempt == 2)
        later = (await place.transcodes.playlist(None, job.id, live=True)).text
        done = await place.ended(job)

    assert again.progress >= before.progress
    assert again.started_us == before.started_us
    assert later.startswith(playlist)
    assert (done.state, done.attempt) == (JobState.COMPLETED, 2)
    assert (await place.transcodes.playlist(None, job.id)).text.count("#EXTINF") == 100


async def test_three_deaths_are_an_honest_failure(place: Place, long: Path) -> None:
    job = await place.send(long)
    async with place.working():
        for attempt in (1, 2, 3):
            await place.until(job, lambda now, attempt=attempt: now.job.attempt == attempt)  # type: ignore[misc]
            (child,) = await children_are(1)
            os.kill(child, signal.SIGKILL)
            await children_are(0)
            if attempt < 3:
                await place.retried_in(400)
        failed = await place.ended(job)

    assert (failed.state, failed.attempt) == (JobState.FAILED, 3)
    assert failed.error is not None
    assert "SIGKILL" in failed.error


async def test_a_worker_that_ends_gives_its_job_back(place: Place, long: Path) -> None:
    job = await place.send(long)
    async with place.working():
        await place.playable(job)
    assert children() == []

    async with place.working():
        done = await place.ended(job)

    assert (done.state, done.attempt) == (JobState.COMPLETED, 1)


async def test_who_was_thought_dead_changes_nothing(place: Place, short: Path) -> None:
    """Two work at one job. The first has lost it, and neither publishes nor takes it from the second."""
    job = await place.send(short)
    (first,) = await place.queue.lease([KIND], lease_s=1)
    place.clock.advance(2)
    (second,) = await place.queue.lease([KIND], lease_s=60)

    runs = [place.handler().run(task, Held()) for task in (second, first)]
    ends = await asyncio.gather(*runs, return_exceptions=True)

    assert ends[0] is None
    assert isinstance(ends[1], LeaseLost)
    assert (await place.transcodes.job(None, job.id)).state is JobState.COMPLETED
    assert (await place.transcodes.playlist(None, job.id)).text.count("#EXTINF") == 2
