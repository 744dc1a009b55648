"""The composition root: settings → storage → capabilities → faces → one ASGI application behind one port."""

import asyncio
import contextlib
import errno
import functools
import gc
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn
import uvloop

from mainstem import __version__
from mainstem.catalogue import (
    CellLocks,
    Feed,
    Flags,
    IgnoreLists,
    Imports,
    ListingFigures,
    Listings,
    ListingsWatch,
    Places,
    Presence,
    Sheet,
    Streamers,
    Timestamps,
    hand_over_catalogue,
)
from mainstem.children import Children
from mainstem.clock import SECOND_US, Clock, system_clock
from mainstem.errors import MainstemError, Unavailable
from mainstem.events import (
    Announcer,
    Exports,
    Following,
    Ingest,
    IngestLimits,
    MessageLimits,
    Messages,
    Probe,
    Queries,
    Sharing,
    TopicDefaults,
    Topics,
    hand_over_topics,
)
from mainstem.faces.datastream import DataStream, HotIngest
from mainstem.faces.evernest import Evernest, HotPush
from mainstem.faces.streamserver import AUDIENCE, ISSUER, Access, HotSegment, StreamServer, cors_of
from mainstem.faces.streamsource import Cable, Context, FeedFace, StreamSource, Throttle
from mainstem.http import Application, Guard, HotRoute, Limits, Sessions, SocketProtocol, TrustedProxies, hot_protocol
from mainstem.identity import (
    Accounts,
    Buckets,
    Directory,
    FirstStart,
    ForeignTokens,
    RateLimiter,
    Seal,
    Signer,
    Sources,
    Terms,
    linking_key,
    sealing_key,
    signing_key,
)
from mainstem.settings import Settings
from mainstem.storage import Layout, Storage, open_storage
from mainstem.telemetry import Metrics, configure_logging, get_logger
from mainstem.transcode import Limits as JobLimits
from mainstem.transcode import ResumableLimits, ResumableUploads, Transcodes, hand_over_jobs
from mainstem.web import Door, Web
from mainstem.work import Queue, QueueWatch

logger = get_logger("mainstem")

_BACKLOG = 2_048
_PORT_REFUSED = (errno.EADDRINUSE, errno.EACCES)
"""What another port may help with; anything else is wrong with the address."""
_DATASTREAM = Door(
    "DataStream",
    ["/v2", "/health", "/metrics"],
    "Send events, query them, add them up, follow them live.",
    "/v2/openapi.json",
    "/v2/docs",
)
_EVERNEST = Door(
    "Evernest",
    ["/Stream", "/Source", "/Right", "/User"],
    "Push short messages, pull them by number.",
    "/Evernest/openapi.json",
    "/Evernest/docs",
)
_STREAMSOURCE = Door(
    "StreamSource",
    ["/api/v1", "/cable", "/api-docs"],
    "Keep a catalogue of live streams elsewhere, and know which are live.",
    "/swagger/v1/swagger.yaml",
    "/api-docs",
)
_STREAM_SERVER = Door(
    "stream-server",
    ["/v1/stream"],
    "Send an audio file, get HLS that players play.",
    "/v1/stream/openapi.json",
    "/v1/stream/docs",
)
_PING_S = 20
_SWEEP_EVERY_S = 60


@dataclass(frozen=True, slots=True)
class Server:
    """All parts of a running server, wired."""

    application: Application
    protocol: type[Guard]
    datastream: DataStream
    first_start: FirstStart | None
    children: Children
    background: Sequence[Callable[[], Coroutine[None, None, None]]]
    """What runs beside the requests, each until it is cancelled."""


@contextlib.asynccontextmanager
async def compose(settings: Settings, clock: Clock = system_clock) -> AsyncIterator[Server]:
    """Open storage, wire everything on top of it, and close it in reverse at the end of the block."""
    async with open_storage(settings, clock) as storage:
        layout = Layout(settings.data)
        directory = Directory(storage.records, clock, signing_key(layout.keys), settings.token_lifetime_s)
        first_start = await directory.bootstrap(settings.admin_email, settings.admin_password, settings.api_key)
        sessions = Sessions(directory, clock)
        async with _running(directory.watch(), sessions.watch()):
            server = await _wire(settings, storage, directory, sessions, layout, clock, first_start)
            async with _running(*(work() for work in server.background)):
                yield server


@contextlib.asynccontextmanager
async def _running(*works: Coroutine[None, None, None]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(work) for work in works]
        try:
            yield
        finally:
            for task in running:
                task.cancel()


async def _wire(
    settings: Settings,
    storage: Storage,
    directory: Directory,
    sessions: Sessions,
    layout: Layout,
    clock: Clock,
    first_start: FirstStart | None,
) -> Server:
    metrics = Metrics()
    queue = Queue(storage.records, clock)
    limiter = RateLimiter(storage.signals)
    defaults = TopicDefaults(settings.retention_days, settings.dedupe_window_s)
    topics = Topics(storage.records, storage.log, directory, clock, defaults)
    await topics.open()
    ingest = Ingest(
        storage.log,
        topics,
        clock,
        IngestLimits(
            event_bytes_max=settings.event_bytes_max,
            batch_events_max=settings.batch_events_max,
            arrow_bytes_max=settings.body_bytes_max,
        ),
    )
    children = Children(settings)
    watch = QueueWatch(queue)
    probe = Probe(
        storage.log, storage.records, topics, layout.temporary, clock, settings.disk_free_bytes_min, children.health
    )
    listings_watch = ListingsWatch(storage.records, clock)
    for source in (probe.families, watch.families, listings_watch.families, children.families):
        metrics.add(source)
    metrics.add(sessions.families)
    queries = Queries(storage.log, storage.analytics, topics, clock, settings.query_timeout_s)
    following = Following(storage.log, topics)
    sharing = Sharing(storage.records, topics, directory)
    datastream = DataStream(
        directory=directory,
        limiter=limiter,
        topics=topics,
        ingest=ingest,
        queries=queries,
        exports=Exports(storage.log, storage.analytics, topics, settings.query_timeout_s),
        following=following,
        sharing=sharing,
        sessions=sessions,
        probe=probe,
        metrics=metrics,
        version=__version__,
    )

    sources = Sources(storage.records, clock, directory, Seal(sealing_key(layout.keys)))
    messages = Messages(storage.log, topics, directory, clock, MessageLimits(settings.event_bytes_max))
    evernest = Evernest(
        directory=directory,
        sources=sources,
        limiter=limiter,
        topics=topics,
        messages=messages,
        sharing=sharing,
        clock=clock,
        version=__version__,
    )
    flags = Flags(storage.records, clock)
    places = Places(storage.records, clock, flags)
    listings = Listings(storage.records, queue, directory, places, clock)
    streamers = Streamers(storage.records, queue, directory, clock)
    sheet = Sheet(
        listings,
        streamers,
        directory,
        following,
        storage.signals,
        locks=CellLocks(clock),
        presence=Presence(clock),
    )
    context = Context(
        clock=clock,
        throttle=Throttle(limiter, clock, limits_loopback=settings.rate_limit_loopback),
        directory=directory,
        accounts=_accounts(settings, storage, directory, layout, clock),
        flags=flags,
        listings=listings,
        imports=Imports(storage.records, listings),
        figures=ListingFigures(queries, clock),
        streamers=streamers,
        places=places,
        ignore_lists=IgnoreLists(storage.records, clock),
        timestamps=Timestamps(storage.records, clock),
    )
    cable = Cable(context, sheet, sessions)
    feed = FeedFace(Feed(storage.records), is_public=settings.public_feed)
    streamsource = StreamSource(context, cable, feed, __version__)
    transcodes = Transcodes(
        storage.records,
        storage.blobs,
        queue,
        clock,
        scratch=storage.scratch,
        bytes_max=settings.max_file_size,
        keep_days=settings.compression_cleanup_after_days,
        waiting_max=settings.transcode_waiting_max,
        limits=JobLimits.of(settings),
    )
    uploads = ResumableUploads(
        layout.uploads,
        ResumableLimits(
            file_bytes_max=settings.max_file_size,
            open_max=settings.uploads_open_max,
            lifetime_s=settings.upload_lifetime_s,
            disk_free_bytes_min=settings.disk_free_bytes_min,
        ),
        clock,
    )
    await uploads.open()
    streamserver = _stream_server(settings, directory, sessions, layout, clock, transcodes, uploads)
    hot: list[HotRoute[Any]] = [HotIngest(ingest, directory, metrics), HotPush(messages, sources, clock, metrics)]
    if not _or_unless_local(settings.stream_require_auth, settings):
        hot.append(HotSegment(transcodes, streamserver.cors, metrics))
    protocol = hot_protocol(
        hot,
        body_bytes_max=settings.body_bytes_max,
        header_timeout_s=settings.header_timeout_s,
    )
    limits = Limits(
        body_bytes_max=settings.body_bytes_max,
        body_pause_s=settings.body_timeout_s,
        proxies=TrustedProxies(settings.trusted_proxies),
    )
    web = Web(probe, [_DATASTREAM, _EVERNEST, _STREAMSOURCE, _STREAM_SERVER], __version__)
    return Server(
        Application([datastream, evernest, streamsource, streamserver, web], limits, metrics),
        protocol,
        datastream,
        first_start,
        children,
        background=[
            Announcer(queue, storage.log, topics).run,
            sheet.run,
            cable.run,
            watch.run,
            listings_watch.run,
            children.run,
            functools.partial(_sweep, transcodes.sweep, uploads.sweep, functools.partial(_archive, settings, listings)),
        ],
    )


async def _archive(settings: Settings, listings: Listings) -> None:
    if settings.archive_after_minutes:
        await listings.sweep(settings.archive_after_minutes * 60 * SECOND_US)


async def _sweep(*sweeps: Callable[[], Awaitable[None]]) -> None:
    """Clear away what is past its time, now and then, until cancelled."""
    while True:
        for sweep in sweeps:
            try:
                await sweep()
            except MainstemError as error:
                logger.warning("sweep failed", reason=error.message)
        await asyncio.sleep(_SWEEP_EVERY_S)


def _stream_server(
    settings: Settings,
    directory: Directory,
    sessions: Sessions,
    layout: Layout,
    clock: Clock,
    transcodes: Transcodes,
    uploads: ResumableUploads,
) -> StreamServer:
    """On this machine alone nobody has to sign in or is counted, unless that is asked for."""
    secret = settings.secret_key
    access = Access(
        directory,
        None if settings.jwt_secret is None else ForeignTokens(settings.jwt_secret, ISSUER, AUDIENCE, clock),
        linking_key(layout.keys) if secret is None else secret.encode(),
        clock,
        required=_or_unless_local(settings.stream_require_auth, settings),
        tolerance_s=settings.signature_tolerance_s,
    )
    buckets = Buckets(settings.rate_limit_rpm, settings.rate_limit_burst, clock)
    return StreamServer(
        transcodes=transcodes,
        uploads=uploads,
        access=access,
        sessions=sessions,
        buckets=buckets if _or_unless_local(settings.rate_limit, settings) else None,
        cors=cors_of(settings.allowed_origins, settings.cors_max_age_s),
        clock=clock,
        file_bytes_max=settings.max_file_size,
        dates=settings.stream_dates,
        version=__version__,
    )


def _or_unless_local(chosen: bool | None, settings: Settings) -> bool:
    return not settings.is_local if chosen is None else chosen


def _accounts(settings: Settings, storage: Storage, directory: Directory, layout: Layout, clock: Clock) -> Accounts:
    own = signing_key(layout.keys)
    key = own if settings.secret_key_base is None else settings.secret_key_base.encode()
    signer = Signer(key, settings.token_lifetime_s, clock, others=[own])
    terms = Terms(is_open=settings.signup, roles=settings.signup_roles)
    heirs = [hand_over_catalogue, hand_over_topics, hand_over_jobs]
    return Accounts(storage.records, clock, directory, signer, terms, heirs=heirs)


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is under way, sync and return.

    Raises Unavailable when the port or the data folder is taken.
    """
    configure_logging(settings.log_level, settings.log_format)
    with _listening_socket(settings.host, settings.port) as listener:
        async with compose(settings) as server:
            if server.first_start is not None:
                print(_welcome(server.first_start), flush=True)  # noqa: T201  # its one chance to be read
            runner = _Runner(_uvicorn_config(settings, server), server)
            with _sparing_the_collector():
                listener.listen(_BACKLOG)  # before we say so: whoever reads the line may connect at once
                logger.info("listening", url=_url(listener), version=__version__, data=str(settings.data))
                await runner.serve([listener])
    logger.info("stopped")


def run(settings: Settings) -> None:
    """`serve` on uvloop, from a program that has no loop yet."""
    uvloop.run(serve(settings))


class _Runner(uvicorn.Server):
    """uvicorn, which would send itself the signal again that ended it and so skip the closing of storage."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._composed = server

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        ends = (signal.SIGTERM, signal.SIGINT)
        for end in ends:
            loop.add_signal_handler(end, self.handle_exit, end, None)
        try:
            yield
        finally:
            for end in ends:
                loop.remove_signal_handler(end)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            logger.info("stopping", signal=signal.Signals(sig).name)
        self._composed.datastream.stop()
        self._composed.children.stop()
        super().handle_exit(sig, frame)


def _uvicorn_config(settings: Settings, server: Server) -> uvicorn.Config:
    return uvicorn.Config(
        server.application,
        http=server.protocol,
        ws=SocketProtocol,
        ws_max_size=settings.body_bytes_max,
        ws_ping_interval=_PING_S,
        ws_ping_timeout=_PING_S,
        ws_per_message_deflate=False,  # it costs more time than it saves bytes where many read along
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        limit_concurrency=settings.connections_max,
        timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]  # uvicorn takes fractions of a second, too
        timeout_graceful_shutdown=settings.shutdown_timeout_s,  # type: ignore[arg-type]
    )


@contextlib.contextmanager
def _listening_socket(host: str, port: int) -> Iterator[socket.socket]:
    """Take the port before anything else is opened, so that a second server fails at once and in plain words."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            another = "MAINSTEM_PORT" if error.errno in _PORT_REFUSED else "MAINSTEM_HOST"
            raise Unavailable(
                f"Cannot listen on {host} port {port}: {error.strerror}; choose another with {another}."
            ) from error
        yield listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def _sparing_the_collector() -> Iterator[None]:
    """What stands now stands to the end, and requests make few cycles: the collector need not look so often."""
    usual = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*usual)


def _welcome(first: FirstStart) -> str:
    password = first.password or "(as you gave it)"
    return (
        "\nThis is the first start. Keep these; they are not shown again.\n"
        f"  administrator  {first.email}\n"
        f"  password       {password}\n"
        f"  API key        {first.api_key}\n"
    )
