"""Many streams at once: import, and export as JSON or CSV."""

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from itertools import batched
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainstem.catalogue import (
    BULK_IMPORT,
    EXPORT,
    IMPORT_ROWS_MAX,
    Kind,
    Listing,
    ListingChanges,
    Orientation,
    Status,
    require_maker,
)
from mainstem.errors import InvalidFields
from mainstem.faces.streamsource import wire
from mainstem.faces.streamsource.context import Context
from mainstem.faces.streamsource.listings import (
    TAG,
    StreamFilters,
    StreamIn,
    StreamOut,
    changes_of,
    request_of,
    views_of,
)
from mainstem.faces.streamsource.parameters import body_of, query_of
from mainstem.http import JSON, Answer, Call, Reply, Route, json_answer
from mainstem.ids import AccountId

IMPORT_BYTES_MAX = 16 << 20

CSV = "text/csv"
_OFF_LOOP_STREAMS = 500
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class ImportIn(msgspec.Struct):
    streams: list[StreamIn]


class ImportError(msgspec.Struct):  # noqa: A001  # what clients call it
    index: int
    """Which of the streams, from 0 on."""
    errors: list[str]


class ImportOut(msgspec.Struct, kw_only=True):
    imported: int
    total: int
    failed: int
    errors: list[ImportError]
    streams: list[StreamOut]


class ExportedStream(msgspec.Struct, kw_only=True):
    source: str
    link: str
    status: Status
    platform: str | None
    orientation: Orientation | None
    kind: Kind
    city: str | None
    state: str | None
    notes: str | None
    title: str | None
    posted_by: str | None
    is_pinned: bool
    created_at: wire.Moment
    last_checked_at: wire.Moment | None
    last_live_at: wire.Moment | None
    owner_email: str | None


class ExportOut(msgspec.Struct):
    exported_at: wire.Moment
    count: int
    streams: list[ExportedStream]


class ExportQuery(StreamFilters, kw_only=True):
    format: Annotated[Literal["json", "csv"], Meta(description="Anything else is `json`")] | UnsetType = UNSET


class _Transfer:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def bulk_import(self, call: Call) -> Answer:
        await self._context.flags.require(BULK_IMPORT, call.caller)
        require_maker(call.caller)
        rows = _rows_of(await body_of(call))
        imported = await self._context.imports.create_many(call.caller, rows)
        answer = ImportOut(
            imported=len(imported.created),
            total=len(rows),
            failed=len(imported.refused),
            errors=[ImportError(refused.index, refused.errors) for refused in imported.refused],
            streams=await self._stream_views(call, imported.created),
        )
        if len(answer.streams) > _OFF_LOOP_STREAMS:
            return await asyncio.to_thread(json_answer, answer)
        return json_answer(answer)

    async def _stream_views(self, call: Call, made: Sequence[Listing]) -> list[StreamOut]:
        """Some at a time, so that others are answered in between."""
        views: list[StreamOut] = []
        for some in batched(made, _OFF_LOOP_STREAMS):
            views += await views_of(self._context, some, call.caller)
            await asyncio.sleep(0)
        return views

    async def export(self, call: Call) -> Answer:
        await self._context.flags.require(EXPORT, call.caller)
        query = query_of(call)
        windows = self._views(await self._context.listings.all(call.caller, request_of(query)))
        if (query.filled("format") or "").lower() == "csv":
            disposition = ("content-disposition", 'attachment; filename="streams.csv"')
            return Answer(media_type=f"{CSV}; charset=utf-8", headers=[disposition], chunks=_as_csv(windows))
        return Answer(chunks=_as_json(windows, wire.whole_second(self._context.clock())))

    async def _views(self, windows: AsyncIterator[list[Listing]]) -> AsyncIterator[list[ExportedStream]]:
        emails: dict[AccountId, str | None] = {}
        async for window in windows:
            for listing in window:
                if listing.owner not in emails:
                    emails[listing.owner] = (await self._context.directory.anybody(listing.owner)).email
            yield [_exported(listing, emails[listing.owner]) for listing in window]


def _rows_of(body: Any) -> Sequence[ListingChanges | None]:
    """The streams in a body: an array, or an object that has one. None: one that is no object."""
    rows = body.get("streams", []) if isinstance(body, dict) else body
    if not isinstance(rows, list):
        raise InvalidFields([("streams", "must be an array")])
    # What is behind the first too many is not looked at: 16 MiB may be five million empty objects.
    return [changes_of(row) if isinstance(row, dict) else None for row in rows[: IMPORT_ROWS_MAX + 1]]


def _exported(listing: Listing, email: str | None) -> ExportedStream:
    return ExportedStream(
        source=listing.source,
        link=listing.link,
        status=listing.status,
        platform=None if listing.platform is None else listing.platform.label,
        orientation=listing.orientation,
        kind=listing.kind,
        city=listing.city,
        state=listing.state,
        notes=listing.notes,
        title=listing.title,
        posted_by=listing.posted_by,
        is_pinned=listing.is_pinned,
        created_at=wire.whole_second(listing.created_us),
        last_checked_at=wire.whole_second_or_null(listing.last_checked_us),
        last_live_at=wire.whole_second_or_null(listing.last_live_us),
        owner_email=email,
    )


async def _as_json(windows: AsyncIterator[list[ExportedStream]], exported_at: str) -> AsyncGenerator[bytes]:
    """The count comes last, when it is known: streams may be deleted while they are sent."""
    count = 0
    yield b'{"exported_at":%b,"streams":[' % msgspec.json.encode(exported_at)
    async for window in windows:
        if window:
            lead = b"," if count else b""
            count += len(window)
            yield lead + msgspec.json.encode(window)[1:-1]
    yield b'],"count":%d}' % count


async def _as_csv(windows: AsyncIterator[list[ExportedStream]]) -> AsyncGenerator[bytes]:
    names = [field.name for field in msgspec.structs.fields(ExportedStream)]
    yield _lines([names])
    async for window in windows:
        yield _lines([[_cell(getattr(stream, name)) for name in names] for stream in window])


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    lines = io.StringIO()
    csv.writer(lines).writerows(rows)
    return lines.getvalue().encode()


def _cell(value: object) -> str:
    """A value as a spreadsheet may open it: what it would take for a formula is marked as text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def routes(context: Context) -> list[Route]:
    transfer = _Transfer(context)
    return [
        Route(
            method="POST",
            path="/api/v1/streams/bulk_import",
            name="streamsource_streams_import",
            summary="Add many streams",
            description="For editors and administrators, where the feature `stream_bulk_import` is on. Each stream"
            f" is taken or refused by itself. At most {IMPORT_ROWS_MAX:,} at once, in an array or under `streams`.",
            tag=TAG,
            bodies={JSON: ImportIn | list[StreamIn]},
            body_bytes_max=IMPORT_BYTES_MAX,
            replies={200: Reply("What became of them", [ImportOut])},
            handler=transfer.bulk_import,
        ),
        Route(
            method="GET",
            path="/api/v1/streams/export",
            name="streamsource_streams_export",
            summary="Get all streams that fit, as JSON or CSV",
            description="Where the feature `stream_export` is on. With the filters and in the order of the list,"
            " without pages. In CSV, what a spreadsheet would take for a formula has a `'` before it.",
            tag=TAG,
            query=ExportQuery,
            errors=("NOT_FOUND",),
            replies={200: Reply("The streams", [ExportOut], also_as=[CSV])},
            handler=transfer.export,
        ),
    ]
