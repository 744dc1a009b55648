"""DataStream's routes: path → credential → one verb → wire."""

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs

import msgspec
from msgspec import UNSET

from mainstem.errors import Denied, Invalid, MainstemError, Unauthenticated
from mainstem.events import Condition, Exports, Following, Form, Ingest, InvalidQuery, Probe, Queries, Sharing, Topics
from mainstem.faces.datastream import cloudevents, live, wire
from mainstem.faces.datastream.formats import FORMATS, written
from mainstem.http import (
    JSON,
    Answer,
    Call,
    Header,
    Reply,
    Route,
    Sessions,
    Socket,
    UnsupportedMediaType,
    UpgradeRequired,
    json_answer,
    openapi,
    wants_problem_details,
)
from mainstem.identity import KEY_PREFIX, Directory, Principal, RateLimited, RateLimiter, Right, Scope
from mainstem.ids import event_id
from mainstem.telemetry import PROMETHEUS_MEDIA_TYPE, Metrics

NDJSON = "application/x-ndjson"

_FORMS = {
    JSON: Form.JSON,
    NDJSON: Form.NDJSON,
    cloudevents.STRUCTURED: Form.CLOUDEVENT,
    cloudevents.BATCH: Form.CLOUDEVENTS,
    wire.ARROW: Form.ARROW,
}

_IDEMPOTENCY_KEY = Header(
    "Idempotency-Key",
    "Repeating a request with the same key and body within 24 h repeats the answer, not the events",
    characters_max=255,
)
_LAST_EVENT_ID = Header(
    "Last-Event-ID", "Begin after this event; browsers send it by themselves when they connect again", characters_max=24
)
_STREAM_ERRORS = ("INVALID_STREAM_ID",)
_INGEST_ERRORS = (
    "INVALID_EVENT",
    "SCHEMA_VIOLATION",
    "INVALID_TIMESTAMP",
    "INVALID_STREAM_ID",
    "IDEMPOTENCY_IN_PROGRESS",
    "IDEMPOTENCY_MISMATCH",
)
_QUERY_ERRORS = ("INVALID_QUERY", "INVALID_TIMESTAMP", "INVALID_STREAM_ID")


class DataStream:
    """The face: what its routes call, and what it says before and after each."""

    title = "DataStream"
    prefixes = ("/v2", "/health", "/metrics")
    codes = wire.CODES
    error_kind = wire.ErrorBody

    def __init__(
        self,
        *,
        directory: Directory,
        limiter: RateLimiter,
        topics: Topics,
        ingest: Ingest,
        queries: Queries,
        exports: Exports,
        following: Following,
        sharing: Sharing,
        sessions: Sessions,
        probe: Probe,
        metrics: Metrics,
        version: str,
    ) -> None:
        self._directory = directory
        self._limiter = limiter
        self._topics = topics
        self._ingest = ingest
        self._queries = queries
        self._exports = exports
        self._sharing = sharing
        self._probe = probe
        self._metrics = metrics
        self._version = version
        self._sessions = sessions
        self._tails = live.Tails(following, sessions, self._authenticate)
        self._sockets = live.Sockets(following, sessions, ingest, limiter, self._authenticate)
        self._stopping = False

    def stop(self) -> None:
        """From now on the server answers what is under way and takes nothing new: it is alive, but not ready."""
        self._stopping = True
        self._sessions.stop()

    # Before and after

    async def admit(self, call: Call) -> None:
        """Find out who calls by API key or token, and count the request."""
        assert call.route is not None
        if call.route.public:
            return
        try:
            call.principal = await self._authenticate(call)
        except Unauthenticated:
            self._count_address(call)
            raise
        try:
            call.allowance = self._limiter.take(call.principal)
        except RateLimited as error:
            call.allowance = error.allowance
            raise

    async def _authenticate(self, call: Call) -> Principal:
        key = call.headers.get("x-api-key")
        if key is None:
            method, _, key = call.headers.get("authorization", "").partition(" ")
            if method.lower() != "bearer" or not key.strip():
                key = _key_in_query(call)
            key = key.strip()
            if not key.startswith(KEY_PREFIX):
                return await self._directory.authenticate_token(key)
        return self._directory.known_key(key) or await self._directory.authenticate_key(key)

    def _count_address(self, call: Call) -> None:
        """Guessing credentials is slow: sixty tries a minute from one address."""
        try:
            call.allowance = self._limiter.take_address(call.address)
        except RateLimited as error:
            call.allowance = error.allowance
            raise

    def headers(self, call: Call) -> list[tuple[str, str]]:
        return [] if call.allowance is None else wire.allowance_headers(call.allowance)

    def refuse(self, call: Call, error: MainstemError | None) -> Answer:
        return wire.error_answer(error, path=call.raw_path, as_problem=wants_problem_details(call))

    # Ingestion

    async def ingest_events(self, call: Call) -> Answer:
        started = time.perf_counter()
        form = _form(call)
        if form not in (Form.JSON, Form.CLOUDEVENT):
            return await self.ingest_batch(call)
        query = call.query(wire.IngestQuery)
        body = await _body(call, form)
        with self._counting_refusals(body, query):
            accepted = await self._ingest.one(
                call.caller, body, form=form, stream_id=query.stream_id or None, key=_idempotency_key(call)
            )
        return json_answer(
            wire.AcceptedOut(
                status="accepted",
                event_id=event_id(accepted.seq),
                processing_time_ms=_milliseconds_since(started),
                duplicate=accepted.duplicate,
            ),
            headers=_replayed(accepted.replayed),
        )

    async def ingest_batch(self, call: Call) -> Answer:
        started = time.perf_counter()
        form = _form(call)
        query = call.query(wire.IngestQuery)
        body = await _body(call, form)
        if form is Form.CLOUDEVENT:
            form, body = Form.CLOUDEVENTS, b"[%b]" % body
        with self._counting_refusals(body, query):
            batch = await self._ingest.many(
                call.caller,
                body,
                form=form,
                stream_id=query.stream_id or None,
                partial=query.partial,
                key=_idempotency_key(call),
            )
        for code, count in Counter(error.code for error in batch.errors).items():
            self._metrics.stream_error(batch.topic, code, count)
        answer = wire.batch_out(batch, _milliseconds_since(started), with_ids=query.ids)
        return json_answer(answer, headers=_replayed(batch.replayed))

    @contextmanager
    def _counting_refusals(self, body: bytes, query: wire.IngestQuery) -> Iterator[None]:
        """Count what is refused under its stream, when there is one: names that anybody makes up are no labels."""
        try:
            yield
        except MainstemError as error:
            name = query.stream_id or wire.stream_of(body)
            self._metrics.stream_error(name if name in self._topics else "unknown", wire.status_and_code(error)[1])
            raise

    # Streams

    async def create_stream(self, call: Call) -> Answer:
        topic = await self._topics.create(call.caller, (await call.json(wire.StreamIn)).draft())
        return json_answer(wire.stream_out(topic), 201)

    async def list_streams(self, call: Call) -> Answer:
        query = call.query(wire.ListQuery)
        from_name = wire.decode_cursor(query.cursor) if query.cursor else ""
        page = await self._topics.list(call.caller, limit=query.limit, from_name=from_name)
        next_cursor = None if page.next_name is None else wire.encode_cursor(page.next_name)
        return json_answer(wire.StreamList([wire.stream_out(topic) for topic in page.topics], next_cursor))

    async def get_stream(self, call: Call) -> Answer:
        return json_answer(wire.stream_out(await self._topics.get(call.caller, call.path("stream_id"))))

    async def update_stream(self, call: Call) -> Answer:
        """A new schema is held against what is stored before it counts."""
        dry_run = call.query(wire.UpdateStreamQuery).dry_run
        changes = (await call.json(wire.StreamPatch)).changes()
        name = call.path("stream_id")
        await self._topics.update(call.caller, name, changes, dry_run=True)
        check = None
        if isinstance(changes.schema, bytes):
            check = await self._topics.check_schema(call.caller, name, changes.schema)
        topic = await self._topics.update(call.caller, name, changes, dry_run=dry_run)
        return json_answer(wire.stream_out(topic, check))

    async def delete_stream(self, call: Call) -> Answer:
        name = call.path("stream_id")
        if call.query(wire.DeleteStreamQuery).confirm != name:
            raise Invalid(
                "Deleting a stream deletes its events for good: repeat its id as ?confirm=",
                field="confirm",
                stream_id=name,
            )
        await self._topics.delete(call.caller, name)
        return Answer(204)

    async def stream_status(self, call: Call) -> Answer:
        return json_answer(wire.status_out(await self._topics.status(call.caller, call.path("stream_id"))))

    async def list_grants(self, call: Call) -> Answer:
        grants = await self._sharing.grants(call.caller, call.path("stream_id"))
        return json_answer(wire.GrantList(grants=[wire.grant_out(one.account, one.name, one.right) for one in grants]))

    async def put_grant(self, call: Call) -> Answer:
        wanted = await call.json(wire.GrantIn)
        topic = await self._topics.for_managing(call.caller, call.path("stream_id"))
        account = await self._directory.find_account(call.path("account"), by_email=False)
        if wanted.password is not UNSET:
            self._count_address(call)
        password = None if wanted.password is UNSET else wanted.password
        await self._sharing.give(call.caller, account.id, topic.id, wanted.right(), password)
        return json_answer(wire.grant_out(account.id, account.name, wanted.right()))

    async def delete_grant(self, call: Call) -> Answer:
        topic = await self._topics.for_managing(call.caller, call.path("stream_id"))
        account = await self._directory.find_account(call.path("account"), by_email=False)
        await self._sharing.give(call.caller, account.id, topic.id, Right.NONE)
        return Answer(204)

    # Live

    async def tail(self, call: Call) -> Answer:
        return await self._tails.tail(call)

    async def serve_socket(self, call: Call, socket: Socket) -> None:
        await self._sockets.serve(call, socket)

    async def refuse_plain(self, call: Call) -> Answer:
        """What a client gets that does not ask for a WebSocket."""
        raise UpgradeRequired("This is a WebSocket: connect with ws:// or wss://, or send Upgrade: websocket")

    # Query

    async def query_events(self, call: Call) -> Answer:
        query = _query(call, wire.EventsQuery)
        projection = None if query.fields is UNSET else wire.Projection(query.fields)
        page = await call.unless_gone(self._queries.page(call.caller, wire.page_request(query)))
        return wire.page_answer(page, projection)

    async def query_aggregate(self, call: Call) -> Answer:
        layout = _query(call, wire.AggregateQuery).format
        wanted = await _query_body(call, wire.AggregateIn)
        answer = await call.unless_gone(self._queries.aggregate(call.caller, wire.aggregate_request(wanted)))
        return json_answer(wire.grafana_rows(answer) if layout == "grafana" else wire.aggregate_out(answer))

    async def export_events(self, call: Call) -> Answer:
        query = _query(call, wire.ExportQuery)
        form = FORMATS[query.format]
        if query.columns and not form.takes_columns:
            raise InvalidQuery(f"columns do not go with {query.format}: its events are whole", field="columns")
        export = await call.unless_gone(self._exports.open(call.caller, wire.export_request(query)))

        async def finish() -> None:
            export.close()

        chunks = written(form.make(export.columns, query.raw), export.tables())
        headers = [("content-disposition", wire.attachment(f"{query.stream_id}.{query.format}"))]
        return Answer(media_type=form.media_type, headers=headers, chunks=chunks, compress=form.compress, finish=finish)

    # Keys and tokens

    async def sign_in(self, call: Call) -> Answer:
        self._count_address(call)
        wanted = await call.json(wire.SignInBody)
        token = await self._directory.sign_in(wanted.email, wanted.password)
        answer = wire.TokenOut(access_token=token.access_token, expires_in=token.expires_in)
        return json_answer(answer, headers=[("cache-control", "no-store")])

    async def create_key(self, call: Call) -> Answer:
        key, text = await self._directory.create_key(call.caller, (await call.json(wire.KeyIn)).draft())
        return json_answer(wire.key_out(key, text), 201, [("cache-control", "no-store")])

    async def list_keys(self, call: Call) -> Answer:
        query = call.query(wire.ListQuery)
        page = await self._directory.keys(call.caller, limit=query.limit, cursor=query.cursor or None)
        return json_answer(wire.KeyList([wire.key_out(key) for key in page.keys], page.next_cursor))

    async def revoke_key(self, call: Call) -> Answer:
        await self._directory.revoke_key(call.caller, call.path("key_id"))
        return Answer(204)

    # Monitoring

    async def health(self, call: Call) -> Answer:
        vitals = await self._probe.check()
        status = 503 if vitals.condition is Condition.UNHEALTHY else 200
        return json_answer(wire.health_out(vitals, self._version), status, [("cache-control", "no-store")])

    async def live(self, call: Call) -> Answer:
        return json_answer(wire.AliveOut())

    async def ready(self, call: Call) -> Answer:
        if self._stopping or not self._probe.is_ready():
            return json_answer(wire.NotReadyOut("The server takes no writes now"), 503, [("retry-after", "1")])
        return json_answer(wire.ReadyOut())

    async def prometheus(self, call: Call) -> Answer:
        _require_operator(call)
        return Answer(body=self._metrics.prometheus(), media_type=PROMETHEUS_MEDIA_TYPE)

    async def metrics_json(self, call: Call) -> Answer:
        _require_operator(call)
        return json_answer(self._metrics.as_json())

    async def document(self, call: Call) -> Answer:
        return Answer(body=self._document)

    @cached_property
    def _document(self) -> bytes:
        return msgspec.json.encode(openapi(self, self._version))

    @cached_property
    def routes(self) -> Sequence[Route]:
        return _routes(self)


def _routes(face: DataStream) -> list[Route]:
    return [
        Route(
            method="POST",
            path="/v2/ingest/events",
            name="ingest_events",
            summary="Send one event",
            description="The answer comes when the event is synced to disk and can be read. With "
            f"`Content-Type: {NDJSON}` the body is a batch, one event a line. CloudEvents are taken structured, in "
            "batches, and in binary mode (`ce-*` headers).",
            tag="Ingestion",
            scope=Scope.EVENTS_WRITE,
            query=wire.IngestQuery,
            headers=[_IDEMPOTENCY_KEY],
            bodies={
                JSON: wire.SingleIn,
                NDJSON: str,
                cloudevents.STRUCTURED: wire.CloudEventIn,
                cloudevents.BATCH: list[wire.CloudEventIn],
                wire.ARROW: bytes,
            },
            replies={200: Reply("Durable and readable", [wire.AcceptedOut, wire.BatchOut])},
            errors=_INGEST_ERRORS,
            handler=face.ingest_events,
        ),
        Route(
            method="POST",
            path="/v2/ingest/batch",
            name="ingest_batch",
            summary="Send many events of one stream",
            description="All or nothing, unless `partial=true`. An Arrow body has the columns `event_type`, `data`"
            " (JSON text) and, if you like, `timestamp`, `metadata` and `event_id`; its stream is `?stream_id=`.",
            tag="Ingestion",
            scope=Scope.EVENTS_WRITE,
            query=wire.IngestQuery,
            headers=[_IDEMPOTENCY_KEY],
            bodies={
                JSON: wire.BatchIn,
                NDJSON: str,
                cloudevents.STRUCTURED: wire.CloudEventIn,
                cloudevents.BATCH: list[wire.CloudEventIn],
                wire.ARROW: bytes,
            },
            replies={200: Reply("Durable and readable", [wire.BatchOut])},
            errors=_INGEST_ERRORS,
            handler=face.ingest_batch,
        ),
        Route(
            method="GET",
            path="/v2/ws",
            name="websocket",
            summary="Publish and subscribe over a WebSocket",
            description="For clients that ask for the upgrade. Messages are JSON text; `op` says what each is for: "
            "`publish`, `subscribe`, `unsubscribe` or `ping`.",
            tag="Live",
            query=live.SocketQuery,
            key_in_query=True,
            replies={},
            errors=("UPGRADE_REQUIRED",),
            handler=face.refuse_plain,
            socket=face.serve_socket,
        ),
        Route(
            method="GET",
            path="/v2/streams/{stream_id}/events",
            name="tail_stream",
            summary="Follow a stream",
            description="Server-sent events: `id` is the event's id, `data` the event as JSON. Ask with "
            f"`Accept: {live.EVENT_STREAM}`. An event `lagging` tells how many were left out because the reader is "
            "too slow.",
            tag="Live",
            scope=Scope.EVENTS_READ,
            query=live.TailQuery,
            headers=[_LAST_EVENT_ID],
            key_in_query=True,
            replies={200: Reply("Events as they come", media_type=live.EVENT_STREAM)},
            errors=("INVALID_STREAM_ID", "NOT_ACCEPTABLE"),
            handler=face.tail,
        ),
        Route(
            method="GET",
            path="/v2/query/events",
            name="query_events",
            summary="Find events",
            tag="Query",
            scope=Scope.EVENTS_READ,
            query=wire.EventsQuery,
            replies={200: Reply("A page of events", [wire.EventList])},
            errors=_QUERY_ERRORS,
            handler=face.query_events,
        ),
        Route(
            method="POST",
            path="/v2/query/aggregate",
            name="query_aggregate",
            summary="Count, sum and otherwise sum up events",
            tag="Query",
            scope=Scope.EVENTS_READ,
            query=wire.AggregateQuery,
            bodies={JSON: wire.AggregateIn},
            replies={200: Reply("One result for each group", [wire.AggregateOut, list[dict[str, Any]]])},
            errors=_QUERY_ERRORS,
            handler=face.query_aggregate,
        ),
        Route(
            method="GET",
            path="/v2/export/events",
            name="export_events",
            summary="Export events as a file",
            description="All that match, in the order in which they came in, sent while it is read.",
            tag="Query",
            scope=Scope.EVENTS_READ,
            query=wire.ExportQuery,
            replies={200: Reply("The file", media_type="*/*")},
            errors=_QUERY_ERRORS,
            handler=face.export_events,
        ),
        Route(
            method="GET",
            path="/v2/streams",
            name="list_streams",
            summary="List streams",
            tag="Streams",
            scope=Scope.EVENTS_READ,
            query=wire.ListQuery,
            replies={200: Reply("Streams that the caller may read or manage, by id", [wire.StreamList])},
            handler=face.list_streams,
        ),
        Route(
            method="POST",
            path="/v2/streams",
            name="create_stream",
            summary="Create a stream",
            tag="Streams",
            scope=Scope.STREAMS_MANAGE,
            bodies={JSON: wire.StreamIn},
            replies={201: Reply("The new stream", [wire.StreamOut])},
            errors=("CONFLICT",),
            handler=face.create_stream,
        ),
        Route(
            method="GET",
            path="/v2/streams/{stream_id}",
            name="get_stream",
            summary="See a stream's settings",
            tag="Streams",
            scope=Scope.EVENTS_READ,
            replies={200: Reply("The stream", [wire.StreamOut])},
            errors=_STREAM_ERRORS,
            handler=face.get_stream,
        ),
        Route(
            method="PATCH",
            path="/v2/streams/{stream_id}",
            name="update_stream",
            summary="Change a stream's settings",
            tag="Streams",
            scope=Scope.STREAMS_MANAGE,
            description="With a new `schema` the answer tells how many of the stored events break it, the newest "
            "first, as many as can be looked at in two seconds.",
            query=wire.UpdateStreamQuery,
            bodies={JSON: wire.StreamPatch},
            replies={200: Reply("The stream as it is now, or would be", [wire.StreamOut])},
            errors=_STREAM_ERRORS,
            handler=face.update_stream,
        ),
        Route(
            method="DELETE",
            path="/v2/streams/{stream_id}",
            name="delete_stream",
            summary="Delete a stream and its events for good",
            tag="Streams",
            scope=Scope.STREAMS_MANAGE,
            query=wire.DeleteStreamQuery,
            replies={204: Reply("Gone")},
            errors=_STREAM_ERRORS,
            handler=face.delete_stream,
        ),
        Route(
            method="GET",
            path="/v2/streams/{stream_id}/status",
            name="stream_status",
            summary="See how a stream is doing",
            tag="Streams",
            scope=Scope.EVENTS_READ,
            replies={200: Reply("Counts, rate and lag", [wire.StatusOut])},
            errors=_STREAM_ERRORS,
            handler=face.stream_status,
        ),
        Route(
            method="GET",
            path="/v2/streams/{stream_id}/grants",
            name="list_grants",
            summary="See who may do what with a stream",
            description="For those who manage it. Administrators may do everything with every stream, and are not"
            " listed for that.",
            tag="Streams",
            scope=Scope.STREAMS_MANAGE,
            replies={200: Reply("What accounts were given, by number", [wire.GrantList])},
            errors=_STREAM_ERRORS,
            handler=face.list_grants,
        ),
        Route(
            method="PUT",
            path="/v2/streams/{stream_id}/grants/{account}",
            name="put_grant",
            summary="Give an account rights on a stream",
            description="`account` is its number or its name. It has exactly these rights afterwards, behind"
            " every door. Only with your own password do you make somebody a manager, and nobody takes that away.",
            tag="Streams",
            scope=Scope.STREAMS_MANAGE,
            bodies={JSON: wire.GrantIn},
            replies={200: Reply("What it may do now", [wire.GrantOut])},
            errors=(*_STREAM_ERRORS, "NOT_FOUND"),
            handler=face.put_grant,
        ),
        Route(
            method="DELETE",
            path="/v2/streams/{stream_id}/grants/{account}",
            name="delete_grant",
            summary="Take an account's rights on a stream away",
            tag="Streams",
            scope=Scope.STREAMS_MANAGE,
            replies={204: Reply("Gone")},
            errors=(*_STREAM_ERRORS, "NOT_FOUND"),
            handler=face.delete_grant,
        ),
        Route(
            method="POST",
            path="/v2/auth/token",
            name="sign_in",
            summary="Exchange email and password for a token",
            tag="Credentials",
            public=True,
            bodies={JSON: wire.SignInBody},
            replies={200: Reply("A token for Authorization: Bearer", [wire.TokenOut])},
            errors=("UNAUTHENTICATED", "RATE_LIMITED"),
            handler=face.sign_in,
        ),
        Route(
            method="GET",
            path="/v2/keys",
            name="list_keys",
            summary="List API keys",
            tag="Credentials",
            scope=Scope.ADMIN,
            query=wire.ListQuery,
            replies={200: Reply("Keys, without the secret", [wire.KeyList])},
            handler=face.list_keys,
        ),
        Route(
            method="POST",
            path="/v2/keys",
            name="create_key",
            summary="Create an API key",
            description="The key itself is in this answer and never again.",
            tag="Credentials",
            scope=Scope.ADMIN,
            bodies={JSON: wire.KeyIn},
            replies={201: Reply("The new key", [wire.KeyOut])},
            errors=("INVALID_TIMESTAMP",),
            handler=face.create_key,
        ),
        Route(
            method="DELETE",
            path="/v2/keys/{key_id}",
            name="revoke_key",
            summary="Revoke an API key",
            tag="Credentials",
            scope=Scope.ADMIN,
            replies={204: Reply("The key is no longer good")},
            errors=("NOT_FOUND",),
            handler=face.revoke_key,
        ),
        *(
            Route(
                method="GET",
                path=path,
                name=name,
                summary="See whether the server is well",
                tag="Monitoring",
                public=True,
                replies={
                    200: Reply("Healthy or degraded", [wire.HealthOut]),
                    503: Reply("Unhealthy; `reasons` says why", [wire.HealthOut]),
                },
                handler=face.health,
            )
            for path, name in (("/health", "health"), ("/v2/health", "health_v2"))
        ),
        Route(
            method="GET",
            path="/health/live",
            name="live",
            summary="Know that the process runs",
            tag="Monitoring",
            public=True,
            replies={200: Reply("It does", [wire.AliveOut])},
            handler=face.live,
        ),
        Route(
            method="GET",
            path="/health/ready",
            name="ready",
            summary="Know whether writes are taken",
            tag="Monitoring",
            public=True,
            replies={
                200: Reply("They are", [wire.ReadyOut]),
                503: Reply("They are not, and why", [wire.NotReadyOut]),
            },
            handler=face.ready,
        ),
        Route(
            method="GET",
            path="/metrics",
            name="metrics",
            summary="Metrics for Prometheus",
            description="For credentials of the operator's account that are not limited to some streams, with whatever"
            " scopes.",
            tag="Monitoring",
            replies={200: Reply("Text in the exposition format", media_type="text/plain")},
            handler=face.prometheus,
        ),
        Route(
            method="GET",
            path="/v2/metrics",
            name="metrics_json",
            summary="The same metrics as JSON",
            description="Durations with p50, p95 and p99. For credentials of the operator's account that are not"
            " limited to some streams.",
            tag="Monitoring",
            replies={200: Reply("Values by name", [dict[str, Any]])},
            handler=face.metrics_json,
        ),
        Route(
            method="GET",
            path="/v2/openapi.json",
            name="openapi",
            summary="This document",
            tag="Monitoring",
            public=True,
            replies={200: Reply("OpenAPI 3.1", [dict[str, Any]])},
            handler=face.document,
        ),
    ]


def _form(call: Call) -> Form:
    """How the body is written, by its Content-Type. Raises UnsupportedMediaType."""
    if cloudevents.is_binary(call):
        return Form.CLOUDEVENT
    form = _FORMS.get(call.media_type)
    if form is None:
        raise UnsupportedMediaType(
            f"Send events as {JSON} or {NDJSON}, and say so in Content-Type",
            accepted=list(_FORMS),
            content_type=call.media_type or None,
        )
    return form


async def _body(call: Call, form: Form) -> bytes:
    body = await call.body()
    return cloudevents.structured(call, body) if form is Form.CLOUDEVENT and cloudevents.is_binary(call) else body


_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')


def _idempotency_key(call: Call) -> str | None:
    """The key as a structured-field string, or bare. Raises Invalid for an empty or endless one."""
    given = call.headers.get("idempotency-key")
    if given is None:
        return None
    quoted = _QUOTED.fullmatch(given)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else given
    limit = _IDEMPOTENCY_KEY.characters_max
    if not 1 <= len(key) <= limit:
        raise Invalid(f"An Idempotency-Key has 1 to {limit} characters", field="Idempotency-Key")
    assert call.route is not None
    return f"{call.route.name} {key}"  # it counts for one route


def _key_in_query(call: Call) -> str:
    """Raises Unauthenticated where there is none, or none is read from there."""
    if call.route is not None and call.route.key_in_query:
        keys = parse_qs(call.scope["query_string"].decode("latin-1")).get("api_key", [])
        if len(keys) == 1:
            return str(keys[0])
    raise Unauthenticated("Send an API key as X-API-Key, or a key or token as Authorization: Bearer")


def _replayed(replayed: bool) -> list[tuple[str, str]]:
    return [("idempotent-replayed", "true")] if replayed else []


def _query[T](call: Call, kind: type[T]) -> T:
    try:
        return call.query(kind)
    except Invalid as error:
        raise InvalidQuery(error.message, **error.details) from error


async def _query_body[T](call: Call, kind: type[T]) -> T:
    try:
        return await call.json(kind)
    except Invalid as error:
        if type(error) is not Invalid:  # no JSON, too large, ...: not a matter of the query
            raise
        raise InvalidQuery(error.message, **error.details) from error


def _milliseconds_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1_000, 3)


def _require_operator(call: Call) -> None:
    """Metrics name everybody's streams, so they are the operator's, and not for a key of his that is limited to some;
    which scopes his credential has does not matter."""
    if not call.caller.is_admin or call.caller.topics is not None:
        raise Denied("Metrics are for credentials of the operator's account that see all streams; ask him for one")
