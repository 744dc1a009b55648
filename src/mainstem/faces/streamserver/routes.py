"""stream-server's routes: path → credential → one verb → wire."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import cached_property, partial
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainstem.clock import SECOND_US, Clock, rfc3339
from mainstem.errors import Exhausted, Invalid, MainstemError
from mainstem.faces.streamserver import player, wire
from mainstem.faces.streamserver.access import Access, MediaQuery, owner_of, reader, with_query
from mainstem.faces.streamserver.progress import EVENT_STREAM, Follows
from mainstem.faces.streamserver.uploads import ANSWER_HEADERS, REQUEST_HEADERS, RESUMABLE, TAG, Tus, tus_routes
from mainstem.http import (
    FORM,
    Answer,
    Call,
    Cors,
    File,
    Header,
    Reply,
    Route,
    Sessions,
    accepts,
    file_answer,
    form_parts,
    json_answer,
    openapi,
)
from mainstem.identity import Buckets, Scope
from mainstem.transcode import (
    BlobRef,
    Job,
    JobNotFound,
    JobState,
    NotFinished,
    OutputNotFound,
    Playlist,
    ResumableUploads,
    Transcodes,
    order_of,
)

ORDER_FIELDS = frozenset({"codec", "bitrate", "quality_profile", "priority", "track_id", "ladder", "loudness"})
PAGE_MAX = 1_000

_FORM_BYTES = 1 << 20
"""What a form may have beside its file."""
_ARRIVING_MAX = 128
"""Files that may come in at once: each may take as much of the disk as one may have."""
_LINK_S = 3_600
_ID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_SEGMENT = re.compile(r"segment_[0-9]{5,9}\.(?:ts|m4s)|init\.mp4")
_STATES = {state.value.lower(): state for state in JobState}

SAFE = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("permissions-policy", "geolocation=(), microphone=(), camera=()"),
    ("content-security-policy", "default-src 'none'; media-src 'self'; connect-src 'self'"),
]
"""What every answer carries, but for the page, which has a policy of its own."""


class FormIn(msgspec.Struct, kw_only=True):
    """The fields of the form, in any order."""

    file: Annotated[
        str,
        Meta(description="The audio: WAV, MP3, FLAC, Ogg, MP4 and others", extra_json_schema={"format": "binary"}),
    ]
    codec: Annotated[str, Meta(description="`aac`, `mp3`, `opus` or `flac`")] | UnsetType = UNSET
    bitrate: Annotated[str, Meta(description="Bits a second, such as 192000")] | UnsetType = UNSET
    quality_profile: Annotated[str, Meta(description="`hi_res`, `high`, `medium` or `low`")] = "high"
    priority: Annotated[str, Meta(description="`urgent`, `normal` or `background`")] = "normal"
    track_id: Annotated[str, Meta(description="A name of your own; else the file's")] | UnsetType = UNSET
    ladder: Annotated[str, Meta(description="`true`: several bitrates to choose from while playing")] = "false"
    loudness: Annotated[str, Meta(description="The loudness to bring it to, in LUFS, -70 to -5")] | UnsetType = UNSET


class DatesQuery(msgspec.Struct, kw_only=True):
    dates: Annotated[wire.Dates, Meta(description="How times are written")] | UnsetType = UNSET


class JobsQuery(DatesQuery, kw_only=True):
    status: Annotated[str, Meta(description="`Pending`, `Processing`, `Completed`, `Failed` or `Cancelled`")] = ""
    track_id: str = ""
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 100
    cursor: Annotated[str, Meta(description="Where the page before said to go on")] = ""


class WaveformQuery(MediaQuery, kw_only=True):
    samples_per_pixel: Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType = UNSET


class LinkQuery(msgspec.Struct, kw_only=True):
    expires_in: Annotated[int, Meta(ge=1, le=31_536_000, description="Seconds")] = _LINK_S


class StreamServer:
    """The face: what its routes call, and what it says before and after each."""

    title = "stream-server"
    prefixes = ("/v1/stream",)
    codes = wire.CODES
    error_kind = wire.Failure

    def __init__(
        self,
        *,
        transcodes: Transcodes,
        uploads: ResumableUploads,
        access: Access,
        sessions: Sessions,
        buckets: Buckets | None,
        cors: Cors,
        clock: Clock,
        file_bytes_max: int,
        dates: wire.Dates,
        version: str,
    ) -> None:
        self.cors = cors
        self._transcodes = transcodes
        self._access = access
        self._buckets = buckets
        self._clock = clock
        self._file_bytes_max = file_bytes_max
        self._arriving = 0
        self._dates: wire.Dates = dates
        self._version = version
        self._tus = Tus(uploads, transcodes, access, self._count)
        self._follows = Follows(transcodes, access, sessions, dates)

    # Before and after

    async def admit(self, call: Call) -> None:
        assert call.route is not None
        await self._access.admit(call, is_media=call.route.query in (MediaQuery, WaveformQuery))

    def headers(self, call: Call) -> list[tuple[str, str]]:
        route = call.route
        if route is not None and route.name == "player":
            return [*SAFE[:-1], player.POLICY]
        return [*SAFE, RESUMABLE] if route is not None and route.tag == TAG else SAFE

    def refuse(self, call: Call, error: MainstemError | None) -> Answer:
        answer, route = wire.error_answer(error), call.route
        if route is None or route.name != "player" or not accepts(call.headers.get("accept", ""), "text/html"):
            return answer
        words = msgspec.json.decode(answer.body, type=wire.Failure).error
        return msgspec.structs.replace(answer, body=player.refusal(words), media_type=player.HTML)

    def _count(self, call: Call) -> None:
        """Count a file that somebody wants to send. Raises RateLimited."""
        if self._buckets is not None:
            self._buckets.take(call.address)

    # Files in

    async def transcode(self, call: Call) -> Answer:
        self._count(call)
        if self._arriving >= _ARRIVING_MAX:
            raise Exhausted(f"{_ARRIVING_MAX} files arrive already: try again shortly", retry_after_s=5)
        self._arriving += 1
        try:
            job = await self._accept(call)
        finally:
            self._arriving -= 1
        return json_answer(wire.SubmittedOut(job.id))

    async def _accept(self, call: Call) -> Job:
        fields: dict[str, str] = {}
        upload = None
        try:
            async with aclosing(form_parts(call, self._file_bytes_max + _FORM_BYTES)) as parts:
                async for part in parts:
                    if part.name == "file":
                        if upload is not None:
                            raise Invalid("The form has two fields named file: send one file a request", field="file")
                        order_of(fields)  # what can be told now need not wait for the file
                        upload = self._transcodes.upload(part.filename or "")
                        async for chunk in part.chunks():
                            await upload.write(chunk)
                    elif part.name in ORDER_FIELDS and (text := (await part.text()).strip()):
                        if part.name in fields:
                            raise Invalid(f"The form has two fields named {part.name}", field=part.name)
                        fields[part.name] = text
            if upload is None:
                raise Invalid("The form has no field named file, with the audio in it", field="file")
            return await self._transcodes.accept(owner_of(call), upload, order_of(fields))
        except BaseException:
            if upload is not None:
                await upload.abort()
            raise

    # Jobs

    async def job(self, call: Call) -> Answer:
        job = await self._transcodes.job(self._access.caller(call), _job_id(call))
        return json_answer(wire.job_out(job, self._dates_of(call)), headers=self._fresh)

    async def jobs(self, call: Call) -> Answer:
        query = call.query(JobsQuery)
        state = _STATES.get(query.status.lower())
        if query.status and state is None:
            raise Invalid(f"There is no status {query.status[:40]!r}", field="status")
        page = await self._transcodes.jobs(
            self._access.caller(call),
            status=state,
            track_id=query.track_id or None,
            limit=query.limit,
            cursor=query.cursor or None,
        )
        dates = self._dates_of(call)
        return json_answer(
            wire.JobsOut([wire.job_out(job, dates) for job in page.jobs], page.next_cursor), headers=self._fresh
        )

    async def delete(self, call: Call) -> Answer:
        job = await self._transcodes.delete(self._access.caller(call), _job_id(call))
        return Answer(204) if job is None else json_answer(wire.job_out(job, self._dates_of(call)))

    async def link(self, call: Call) -> Answer:
        job = await self._transcodes.job(self._access.caller(call), _job_id(call))
        expires_s = self._clock() // SECOND_US + call.query(LinkQuery).expires_in
        query = self._access.link(job.id, expires_s)
        return json_answer(
            wire.LinkOut(
                playlist=f"/v1/stream/hls/{job.id}/index.m3u8?{query}",
                master=f"/v1/stream/hls/{job.id}/master.m3u8?{query}",
                player=f"/v1/stream/job/{job.id}/player?{query}",
                expires_at=rfc3339(expires_s * SECOND_US),
            ),
            headers=self._fresh,
        )

    async def events(self, call: Call) -> Answer:
        job = _job_id(call)
        return await self._follows.answer(call, await self._access.viewer(call, job), job)

    def _dates_of(self, call: Call) -> wire.Dates:
        if not call.scope["query_string"]:
            return self._dates
        return call.query(DatesQuery).dates or self._dates

    # Media out

    async def index(self, call: Call, *, live: bool = False) -> Answer:
        job = _job_id(call)
        viewer = await self._access.viewer(call, job)
        rung = _rung(call)
        return await self._playlist(call, await self._transcodes.playlist(viewer, job, rung, live=live))

    async def master(self, call: Call, *, live: bool = False) -> Answer:
        job = _job_id(call)
        viewer = await self._access.viewer(call, job)
        return await self._playlist(call, await self._transcodes.master(viewer, job, live=live))

    async def segment(self, call: Call, *, live: bool = False) -> Answer:
        job = _job_id(call)
        name = call.path_parameters["segment"]
        viewer = await self._access.viewer(call, job)
        if not _SEGMENT.fullmatch(name):
            raise OutputNotFound("The job has no such segment")
        try:
            ref = await self._transcodes.segment(viewer, job, name, _rung(call), live=live)
        except NotFinished as error:
            raise OutputNotFound("The job has no such segment yet") from error
        return await self._file(call, ref, self._kept)

    async def _playlist(self, call: Call, playlist: Playlist) -> Answer:
        text = with_query(playlist.text, self._access.carried(call)).encode()
        file = File(size=len(text), etag=playlist.etag, media_type=wire.PLAYLIST, headers=self._fresh, compress=True)

        async def read(start: int, end: int) -> bytes:
            return text[start:end]

        return await file_answer(call, file, read)

    async def _file(self, call: Call, ref: BlobRef, headers: list[tuple[str, str]]) -> Answer:
        file = File(size=ref.size, etag=ref.etag, media_type=ref.media_type, headers=headers)
        return await file_answer(call, file, partial(self._transcodes.read, ref))

    @cached_property
    def _fresh(self) -> list[tuple[str, str]]:
        """For what may change: ask again each time."""
        return [("cache-control", "private, no-cache" if self._access.required else "no-cache")]

    @cached_property
    def _kept(self) -> list[tuple[str, str]]:
        return kept(private=self._access.required)

    # What else is known of it

    async def waveform(self, call: Call, *, binary: bool) -> Answer:
        job = _job_id(call)
        viewer = await self._access.viewer(call, job)
        samples_per_pixel = call.query(WaveformQuery).samples_per_pixel or None
        body = await self._transcodes.waveform(viewer, job, samples_per_pixel, binary=binary)
        media_type = "application/octet-stream" if binary else "application/json"
        return Answer(body=body, media_type=media_type, headers=self._kept)

    async def cover(self, call: Call) -> Answer:
        job = _job_id(call)
        viewer = await self._access.viewer(call, job)
        return await self._file(call, await self._transcodes.cover(viewer, job), self._kept)

    async def player(self, call: Call) -> Answer:
        id_ = _job_id(call)
        viewer = await self._access.viewer(call, id_)
        job = await self._transcodes.job(reader(viewer), id_)
        return Answer(body=player.page(job, self._access.carried(call)), media_type=player.HTML, headers=self._fresh)

    async def openapi(self, call: Call) -> Answer:
        return json_answer(self._document, headers=[("cache-control", "no-cache")])

    @cached_property
    def _document(self) -> Mapping[str, Any]:
        return openapi(self, self._version)

    @cached_property
    def routes(self) -> Sequence[Route]:
        return [*_job_routes(self), *_media_routes(self), *tus_routes(self._tus), _openapi_route(self)]


def kept(*, private: bool) -> list[tuple[str, str]]:
    """For what never changes: everybody may keep it, or only who may see it."""
    return [("cache-control", f"{'private' if private else 'public'}, max-age=31536000, immutable")]


def cors_of(origins: Sequence[str], max_age_s: int) -> Cors:
    """What pages of these origins may do."""
    return Cors(
        origins=frozenset(origins),
        methods=("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"),
        request_headers=(
            "Authorization",
            "Content-Type",
            "Range",
            "If-None-Match",
            "If-Range",
            "Last-Event-ID",
            "X-API-Key",
            "X-Request-Id",
            *REQUEST_HEADERS,
        ),
        exposed_headers=(
            "Content-Range",
            "Content-Length",
            "Accept-Ranges",
            "ETag",
            "Location",
            "Retry-After",
            "X-Request-Id",
            *ANSWER_HEADERS,
        ),
        max_age_s=max_age_s,
    )


def _job_id(call: Call) -> str:
    """Whatever is no UUID names no job."""
    text = call.path_parameters["job_id"]
    if not _ID.fullmatch(text):
        raise JobNotFound(f"There is no job {text[:40]!r}")
    return text.lower()


def _rung(call: Call) -> str | None:
    return call.path_parameters.get("rung")


# The table of routes

_JOBS, _MEDIA = "Jobs", "Media"
_JOB = "/v1/stream/job/{job_id}"
_LAST_EVENT_ID = Header("Last-Event-ID", "What the client saw last, when it comes back", 64)


def _job_routes(face: StreamServer) -> list[Route]:
    return [
        Route(
            method="POST",
            path="/v1/stream/transcode",
            name="transcode",
            summary="Send an audio file",
            description="It becomes a job: HLS in segments of 6 s, with loudness and waveform.",
            tag=_JOBS,
            scope=Scope.EVENTS_WRITE,
            bodies={FORM: FormIn},
            handler=face.transcode,
            replies={200: Reply("The file was taken", [wire.SubmittedOut])},
            errors=["NOT_AUDIO", "QUEUE_FULL"],
        ),
        Route(
            method="GET",
            path=_JOB,
            name="job",
            summary="See how a job goes",
            tag=_JOBS,
            scope=Scope.EVENTS_READ,
            query=DatesQuery,
            handler=face.job,
            replies={200: Reply("The job", [wire.JobOut])},
            errors=["NO_JOB"],
        ),
        Route(
            method="DELETE",
            path=_JOB,
            name="job_delete",
            summary="Cancel a job, or remove one that is at its end",
            description="A job that waits or runs is cancelled (200); one at its end goes with all that it made (204).",
            tag=_JOBS,
            scope=Scope.EVENTS_WRITE,
            query=DatesQuery,
            handler=face.delete,
            replies={200: Reply("The job, cancelled", [wire.JobOut]), 204: Reply("The job is gone")},
            errors=["NO_JOB"],
        ),
        Route(
            method="GET",
            path="/v1/stream/jobs",
            name="jobs",
            summary="List jobs, newest first",
            tag=_JOBS,
            scope=Scope.EVENTS_READ,
            query=JobsQuery,
            handler=face.jobs,
            replies={200: Reply("A page of jobs", [wire.JobsOut])},
        ),
        Route(
            method="GET",
            path=f"{_JOB}/events",
            name="job_events",
            summary="Follow a job as server-sent events",
            description="Events `progress`, `segment`, and at the end `completed`, `failed` or `cancelled`; a comment"
            " every 15 s. The data of all but `segment` is the job.",
            tag=_JOBS,
            scope=Scope.EVENTS_READ,
            query=MediaQuery,
            headers=[_LAST_EVENT_ID],
            handler=face.events,
            replies={
                200: Reply("Events, until the job is at its end", media_type=EVENT_STREAM),
                204: Reply("The client has seen the end"),
            },
            errors=["NO_JOB"],
        ),
        Route(
            method="POST",
            path=f"{_JOB}/link",
            name="job_link",
            summary="Get addresses that open a job's media",
            description="For players and people who have no credential: whoever has such an address may play this job.",
            tag=_JOBS,
            scope=Scope.EVENTS_READ,
            query=LinkQuery,
            handler=face.link,
            replies={200: Reply("The addresses", [wire.LinkOut])},
            errors=["NO_JOB"],
        ),
    ]


def _media_routes(face: StreamServer) -> list[Route]:
    return [
        *_hls_routes(face, "hls", "", live=False),
        *_hls_routes(face, "live", ", also while it is made", live=True),
        _media(
            f"{_JOB}/waveform.json",
            "waveform_json",
            "Get the waveform as JSON",
            partial(face.waveform, binary=False),
            "application/json",
            query=WaveformQuery,
        ),
        _media(
            f"{_JOB}/waveform.dat",
            "waveform_dat",
            "Get the waveform as a file of audiowaveform, version 2",
            partial(face.waveform, binary=True),
            "application/octet-stream",
            query=WaveformQuery,
        ),
        _media(f"{_JOB}/cover", "cover", "Get the picture that came with the audio", face.cover, "image/*"),
        _media(f"{_JOB}/player", "player", "A page that plays it", face.player, "text/html"),
    ]


def _hls_routes(face: StreamServer, folder: str, when: str, *, live: bool) -> list[Route]:
    path = f"/v1/stream/{folder}/{{job_id}}"
    index, master = partial(face.index, live=live), partial(face.master, live=live)
    segment = partial(face.segment, live=live)
    return [
        _media(f"{path}/index.m3u8", f"{folder}_index", f"Get the playlist{when}", index, wire.PLAYLIST),
        _media(
            f"{path}/master.m3u8", f"{folder}_master", f"Get the bitrates to choose from{when}", master, wire.PLAYLIST
        ),
        _media(f"{path}/{{segment}}", f"{folder}_segment", f"Get a segment{when}", segment, "video/mp2t"),
        _media(
            f"{path}/{{rung}}/index.m3u8",
            f"{folder}_rung",
            f"Get the playlist of one bitrate{when}",
            index,
            wire.PLAYLIST,
        ),
        _media(
            f"{path}/{{rung}}/{{segment}}",
            f"{folder}_rung_segment",
            f"Get a segment of one bitrate{when}",
            segment,
            "video/mp2t",
        ),
    ]


def _media(
    path: str,
    name: str,
    summary: str,
    handler: Callable[[Call], Awaitable[Answer]],
    media_type: str,
    query: type[MediaQuery] = MediaQuery,
) -> Route:
    return Route(
        method="GET",
        path=path,
        name=name,
        summary=summary,
        tag=_MEDIA,
        scope=Scope.EVENTS_READ,
        query=query,
        handler=handler,
        replies={200: Reply("It", media_type=media_type)},
        errors=["NO_JOB", "NO_OUTPUT", "NOT_FINISHED"],
    )


def _openapi_route(face: StreamServer) -> Route:
    return Route(
        method="GET",
        path="/v1/stream/openapi.json",
        name="stream_openapi",
        summary="This description, for programs",
        tag="About",
        public=True,
        handler=face.openapi,
        replies={200: Reply("An OpenAPI 3.1 document")},
    )
