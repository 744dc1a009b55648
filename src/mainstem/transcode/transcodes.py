"""The verbs on jobs: sending a file, looking how it goes, ending it, and reading what was made."""

import asyncio
import hashlib
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, and_, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.clock import Clock
from mainstem.errors import Invalid, NotFound, Unavailable
from mainstem.identity import Principal, Role
from mainstem.ids import AccountId
from mainstem.storage import Blobs, Records
from mainstem.transcode import hls, places
from mainstem.transcode.audio import Rung, Segment
from mainstem.transcode.child import COVER_FILE, WAVEFORM_FILE, file_name
from mainstem.transcode.intake import Upload, probe
from mainstem.transcode.model import (
    OPEN_STATES,
    BlobRef,
    Job,
    JobNotFound,
    JobPage,
    JobState,
    MediaGrant,
    NotFinished,
    Order,
    OutputNotFound,
    Playlist,
    Progress,
    QueueFull,
)
from mainstem.transcode.orders import track_of
from mainstem.transcode.plan import plan
from mainstem.transcode.retention import Retention
from mainstem.transcode.rows import encoded, job_of, segment_of
from mainstem.transcode.run import ATTEMPTS_MAX, KIND, Limits, end
from mainstem.transcode.tables import jobs, segments
from mainstem.work import Queue

type Who = Principal | MediaGrant | None
"""Who asks: somebody, the holder of a link to one job's media, or None, whoever it is, where nobody has to sign in."""

JOBS_PAGE_MAX = 1_000

_PROBES = 4
_VIEWS_MAX = 256
_CACHE_BYTES = 64 << 20
_CACHED_BYTES_MAX = 8 << 20
_FOLLOW_EVERY_S = 0.25
_AT_HAND_S = 0.25


class _View:
    """What serving a job needs to know, as of one version of the records."""

    def __init__(self, version: int, job: Job, run: int, runs: list[dict[int, tuple[int, Segment]]]) -> None:
        self.version = version
        self.looked_s = monotonic()
        """When it was last held against the records."""
        self.job = job
        self.run = run
        self.segments = runs
        """By rung: number → the run that made it, and the segment."""
        self.playlists: dict[tuple[int, bool], Playlist] = {}
        """Those that were asked for, by rung and whether live: of a long job one takes long to write."""

    def of(self, place: int) -> list[Segment]:
        return [segment for _, segment in self.segments[place].values()]


class Transcodes:
    """Jobs that turn audio files into HLS. Any process may have one; the work is done by `TranscodeHandler`s."""

    def __init__(
        self,
        records: Records,
        blobs: Blobs,
        queue: Queue,
        clock: Clock,
        *,
        scratch: Path,
        bytes_max: int,
        waiting_max: int = 1_000,
        keep_days: float = 7,
        limits: Limits,
    ) -> None:
        """`bytes_max` is of an upload; `waiting_max` jobs may wait and run at once; final ones are kept for
        `keep_days`, 0 being for ever."""
        self._records = records
        self._blobs = blobs
        self._queue = queue
        self._clock = clock
        self._scratch = scratch
        self._bytes_max = bytes_max
        self._waiting_max = waiting_max
        self._limits = limits
        self._probing = asyncio.Semaphore(_PROBES)
        self._views: OrderedDict[str, _View] = OrderedDict()
        self._cache = _Cache()
        self._retention = Retention(records, blobs, clock, keep_days)

    # Sending a file

    def upload(self, filename: str) -> Upload:
        """Begin to take a file. Raises Unavailable when the disk has no room for one."""
        try:
            return Upload(filename, self._scratch, self._bytes_max, self._limits.disk_free_bytes_min)
        except OSError as error:
            raise Unavailable(f"The file cannot be kept: {error.strerror}.") from error

    async def accept(self, owner: AccountId | None, upload: Upload, order: Order) -> Job:
        """Make a job of a file that has come whole. On return it is on disk and will be done; else nothing is left.

        `owner` None: the job is nobody's in particular. Raises NotAudio, QueueFull, Unavailable.
        """
        try:
            await self._check_room()
            digest = await upload.finish()
            async with self._probing:
                media = await probe(upload.path, upload.size, self._limits)
            job_id = str(uuid.uuid4())
            row = {
                "id": job_id,
                "owner": owner,
                "track_id": order.track_id or track_of(upload.filename) or job_id,
                "state": JobState.PENDING,
                "progress": 0.0,
                "created_us": self._clock(),
                "attempt": 0,
                "run": 0,
                "request": encoded(order),
                "media": encoded(media),
                "rungs": encoded(plan(media, order)),
                "source_bytes": upload.size,
                "source_sha256": digest,
                "has_waveform": False,
                "tidy": False,
            }
            await self._blobs.adopt({places.source(job_id): upload.path})
            try:
                return await self._insert(row, order)
            except Exception:
                # Not when it is cancelled: then the row may be there in spite of that, and a search finds what is not.
                await self._blobs.delete(places.source(job_id))
                raise
        finally:
            await upload.abort()

    async def _insert(self, row: Mapping[str, object], order: Order) -> Job:
        async with self._records.begin() as tx:
            made = (await tx.execute(insert(jobs).values(row).returning(jobs))).one()
            await self._queue.put(tx, KIND, b"", key=made.id, priority=order.priority, attempts_max=ATTEMPTS_MAX)
        return job_of(made)

    async def _check_room(self) -> None:
        async with self._records.read() as rows:
            open_jobs = await rows.scalar(select(func.count()).where(jobs.c.state.in_(OPEN_STATES)))
        if (open_jobs or 0) >= self._waiting_max:
            raise QueueFull(f"{open_jobs} jobs wait already: send it later.", retry_after_s=30)

    # Looking how it goes

    async def job(self, principal: Principal | None, job_id: str) -> Job:
        """Raises JobNotFound."""
        async with self._records.read() as rows:
            return job_of(await _row(rows, principal, job_id))

    async def jobs(
        self,
        principal: Principal | None,
        *,
        status: JobState | None = None,
        track_id: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> JobPage:
        """Those that the caller may see, newest first. Raises Invalid for a limit or a cursor that is none."""
        if not 1 <= limit <= JOBS_PAGE_MAX:
            raise Invalid(f"limit is 1 to {JOBS_PAGE_MAX}.", field="limit")
        query = select(jobs).where(_visible(principal)).order_by(jobs.c.number.desc()).limit(limit + 1)
        if status is not None:
            query = query.where(jobs.c.state == status)
        if track_id is not None:
            query = query.where(jobs.c.track_id == track_id)
        if cursor is not None:
            if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
                raise Invalid("The cursor is none that was given out.", field="cursor")
            query = query.where(jobs.c.number < int(cursor))
        async with self._records.read() as rows:
            found = (await rows.execute(query)).all()
        more = str(found[limit - 1].number) if len(found) > limit else None
        return JobPage([job_of(row) for row in found[:limit]], more)

    async def follow(self, principal: Principal | None, job_id: str) -> AsyncIterator[Progress]:
        """How it stands now, and again whenever that has changed, to its end. Raises JobNotFound."""
        seen: Progress | None = None
        version = -1
        while seen is None or not seen.job.state.final:
            now = await self._records.version()
            if now != version:
                version = now
                progress = await self._progress(principal, job_id)
                if progress != seen:
                    seen = progress
                    yield progress
                    continue
            await asyncio.sleep(_FOLLOW_EVERY_S)

    async def _progress(self, principal: Principal | None, job_id: str) -> Progress:
        async with self._records.read() as rows:
            row = await _row(rows, principal, job_id)
            first_rung = and_(segments.c.job == row.number, segments.c.rung == 0, segments.c.number > 0)
            count = await rows.scalar(select(func.count()).select_from(segments).where(first_rung))
        return Progress(job_of(row), count or 0)

    # Ending it

    async def delete(self, principal: Principal | None, job_id: str) -> Job | None:
        """Cancel a job that is not final, the answer then; or remove one that is, with its output: None.

        Of two at once one does it. Raises JobNotFound.
        """
        async with self._records.begin() as tx:
            row = await _row(tx, principal, job_id)
            now_us = self._clock()
            # That of a failed job may lie parked.
            await self._queue.cancel(tx, KIND, job_id)
            if not JobState(row.state).final:
                return await end(tx, self._queue, job_id, JobState.CANCELLED, now_us)
            await tx.execute(update(jobs).where(jobs.c.id == job_id).values(removed_us=now_us, tidy=False))
        self._views.pop(job_id, None)
        return None

    async def sweep(self) -> None:
        """Remove jobs past their time, and files that nobody needs any more. Cheap when there are none."""
        await self._retention.sweep()

    # Reading what was made

    async def playlist(self, who: Who, job_id: str, rung: str | None = None, *, live: bool = False) -> Playlist:
        """The media playlist of a rung, None being that of the profile. `live`: also while the job runs, then of the
        segments that are there.

        Raises JobNotFound, NotFinished, OutputNotFound.
        """
        view = await self._playable(who, job_id, live=live)
        place = _place(view.job, rung)
        if known := view.playlists.get((place, live)):
            return known
        found = view.of(place)
        if not any(segment.number for segment in found):
            raise NotFinished("There is no segment yet.")
        ended = view.job.state is JobState.COMPLETED
        made = _playlist(hls.media(view.job.rungs[place], found, ended=ended, event=live))
        view.playlists[place, live] = made
        return made

    async def master(self, who: Who, job_id: str, *, live: bool = False) -> Playlist:
        """The master playlist of all rungs that players may choose from. Raises as `playlist` does."""
        view = await self._playable(who, job_id, live=live)
        several = len(view.job.rungs) > 1
        variants = [
            (f"{rung.name}/{hls.INDEX}" if several else hls.INDEX, rung, view.of(place))
            for place, rung in enumerate(view.job.rungs)
            if rung.in_master
        ]
        if not all(any(segment.number for segment in found) for _, _, found in variants):
            raise NotFinished("There is no segment yet.")
        return _playlist(hls.master(variants))

    async def segment(
        self, who: Who, job_id: str, name: str, rung: str | None = None, *, live: bool = False
    ) -> BlobRef:
        """A segment or an initialisation section, by the name that the playlist gives it; `read` reads it.

        Raises JobNotFound, OutputNotFound (also before the job is finished).
        """
        try:
            view = await self._playable(who, job_id, live=live)
        except NotFinished as error:
            raise OutputNotFound("There are no segments yet.") from error
        return _segment(view, name, rung)

    async def read(self, ref: BlobRef, start: int = 0, end: int | None = None) -> bytes:
        """The bytes from `start` to before `end`. What is asked for often stays in memory. Raises OutputNotFound."""
        try:
            if ref.size > _CACHED_BYTES_MAX:
                return await self._blobs.read(ref.name, start, end)
            whole = self._cache.get(ref.name)
            if whole is None:
                whole = await self._blobs.read(ref.name)
                self._cache.put(ref.name, whole)
        except NotFound as error:
            raise OutputNotFound("It was removed.") from error
        return whole if start == 0 and (end is None or end >= len(whole)) else whole[start:end]

    def at_hand(self, job_id: str, name: str, rung: str | None = None) -> tuple[BlobRef, bytes] | None:
        """What `segment` and `read` give of a finished job to who may play it, where both were found in memory and the
        job was looked at just now; None: ask those. Costs no I/O."""
        view = self._views.get(job_id)
        if view is None or monotonic() - view.looked_s > _AT_HAND_S or view.job.state is not JobState.COMPLETED:
            return None
        try:
            ref = _segment(view, name, rung)
        except OutputNotFound:
            return None
        content = self._cache.get(ref.name)
        return None if content is None else (ref, content)

    async def waveform(
        self, who: Who, job_id: str, samples_per_pixel: int | None = None, *, binary: bool = False
    ) -> bytes:
        """The waveform of the source in the format of audiowaveform, version 2: JSON, or as a `.dat` file.

        None: coarse enough for some thousand pixels. Raises JobNotFound, NotFinished, OutputNotFound, and Invalid for
        a resolution that is finer than is stored.
        """
        view = await self._playable(who, job_id, live=False)
        stored = await self._blobs.read(places.output(job_id, view.run, WAVEFORM_FILE))
        return await asyncio.to_thread(_waveform, stored, samples_per_pixel, binary)

    async def cover(self, who: Who, job_id: str) -> BlobRef:
        """The picture that came with the audio. Raises JobNotFound, NotFinished, OutputNotFound."""
        view = await self._playable(who, job_id, live=False)
        if view.job.cover is None:
            raise OutputNotFound("No picture came with this audio.")
        name = places.output(job_id, view.run, COVER_FILE)
        info = await self._blobs.info(name)
        if info is None:
            raise OutputNotFound("It was removed.")
        return BlobRef(name, info.size, f"{view.run:x}-cover-{info.size:x}", view.job.cover)

    async def _playable(self, who: Who, job_id: str, *, live: bool) -> _View:
        view = await self._view(job_id)
        if not _may_play(who, view.job):
            raise _not_found(job_id)
        match view.job.state:
            case JobState.COMPLETED:
                return view
            case JobState.PROCESSING if live:
                return view
            case JobState.PENDING | JobState.PROCESSING:
                raise NotFinished("The job is not finished yet.")
            case JobState.FAILED | JobState.CANCELLED:
                raise OutputNotFound("The job has no output.")

    async def _view(self, job_id: str) -> _View:
        version = await self._records.version()
        known = self._views.get(job_id)
        if known is not None and known.version == version:
            known.looked_s = monotonic()
            return known
        async with self._records.read() as rows:
            row = (await rows.execute(select(jobs).where(_there(job_id)))).one_or_none()
            if row is None:
                self._views.pop(job_id, None)
                raise _not_found(job_id)
            job = job_of(row)
            if known is not None and job.state is JobState.COMPLETED and known.job.state is JobState.COMPLETED:
                view = _View(version, job, row.run, known.segments)
                view.playlists = known.playlists
            else:
                view = _View(version, job, row.run, await _segments(rows, row.number, job.rungs))
        self._views[job_id] = view
        self._views.move_to_end(job_id)
        if len(self._views) > _VIEWS_MAX:
            self._views.popitem(last=False)
        return view


class _Cache:
    """The bytes of blobs that never change, those asked for last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def get(self, name: str) -> bytes | None:
        kept = self._kept.get(name)
        if kept is not None:
            self._kept.move_to_end(name)
        return kept

    def put(self, name: str, content: bytes) -> None:
        if name in self._kept:
            return
        self._kept[name] = content
        self._size += len(content)
        while self._size > _CACHE_BYTES:
            _, gone = self._kept.popitem(last=False)
            self._size -= len(gone)


def _there(job_id: str) -> ColumnElement[bool]:
    return and_(jobs.c.id == job_id, jobs.c.removed_us.is_(None))


def _visible(principal: Principal | None) -> ColumnElement[bool]:
    there = jobs.c.removed_us.is_(None)
    if principal is None or principal.role is Role.ADMIN:
        return there
    return and_(there, jobs.c.owner == principal.account)


def _may_play(who: Who, job: Job) -> bool:
    match who:
        case None:
            return True
        case MediaGrant():
            return who.job == job.id
        case Principal():
            return who.role is Role.ADMIN or who.account == job.owner


async def _row(rows: AsyncConnection, principal: Principal | None, job_id: str) -> Any:
    row = (await rows.execute(select(jobs).where(jobs.c.id == job_id, _visible(principal)))).one_or_none()
    if row is None:
        raise _not_found(job_id)
    return row


def _not_found(job_id: str) -> JobNotFound:
    return JobNotFound(f"There is no job {job_id[:100]!r}.")


async def _segments(rows: AsyncConnection, number: int, rungs: list[Rung]) -> list[dict[int, tuple[int, Segment]]]:
    found: list[dict[int, tuple[int, Segment]]] = [{} for _ in rungs]
    query = select(segments).where(segments.c.job == number).order_by(segments.c.rung, segments.c.number)
    for row in await rows.execute(query):
        found[row.rung][row.number] = (row.run, segment_of(row))
    return found


def _place(job: Job, rung: str | None) -> int:
    if rung is None:
        return 0
    for place, one in enumerate(job.rungs):
        if one.name == rung:
            return place
    raise OutputNotFound(f"The job has no rung {rung[:100]!r}.")


def _segment(view: _View, name: str, rung: str | None) -> BlobRef:
    place = _place(view.job, rung)
    chosen = view.job.rungs[place]
    number = hls.segment_number(chosen, name)
    found = None if number is None else view.segments[place].get(number)
    if found is None:
        raise OutputNotFound(f"There is no segment {name[:100]!r}.")
    run, segment = found
    return BlobRef(
        name=places.output(view.job.id, run, f"{chosen.name}/{file_name(chosen, segment.number)}"),
        size=segment.size,
        etag=f"{run:x}-{place:x}-{segment.number:x}-{segment.size:x}",
        media_type=hls.MEDIA_TYPES[name[name.rindex(".") :]],
    )


def _playlist(text: str) -> Playlist:
    return Playlist(text, hashlib.sha256(text.encode()).hexdigest()[:24])


def _waveform(stored: bytes, samples_per_pixel: int | None, binary: bool) -> bytes:
    from mainstem.transcode.waveform import Waveform

    drawn = Waveform.parse(stored).at(samples_per_pixel)
    return drawn.binary() if binary else msgspec.json.encode(drawn.json())
