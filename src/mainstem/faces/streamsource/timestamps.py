"""Timestamps: moments worth finding again, and where in which streams they are to be seen."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainstem.catalogue import LinkDraft, Timestamp, TimestampChanges, TimestampFilters, TimestampLink
from mainstem.clock import SECOND_US, moment_of
from mainstem.faces.streamsource import wire
from mainstem.faces.streamsource.context import Context
from mainstem.faces.streamsource.parameters import (
    FORM,
    Parameters,
    integer_of,
    parameters_of,
    query_of,
    record_id,
)
from mainstem.http import JSON, Answer, Call, Reply, Route, json_answer

_TAG = "Timestamps"
_DAY_US = 86_400 * SECOND_US
_LINKS_READ_MAX = 1_001
_DATE_CHARACTERS = len("2025-01-05")


class LinkIn(msgspec.Struct, kw_only=True):
    stream_id: int
    seconds: Annotated[int, Meta(ge=0, description="How far into the stream")] | None = None


class TimestampIn(msgspec.Struct, kw_only=True):
    """May also be under the key `timestamp`."""

    title: Annotated[str, Meta(min_length=3, max_length=200)]
    description: Annotated[str, Meta(max_length=2_000)] | None = None
    event_timestamp: wire.Moment
    streams: Annotated[list[LinkIn], Meta(description="All of them; others are unlinked")] | UnsetType = UNSET


_CHANGES = wire.partial(TimestampIn)


class LinkOut(msgspec.Struct, kw_only=True):
    stream_id: int
    stream_timestamp_seconds: int | None
    stream_timestamp_display: str
    source: str
    title: str | None
    added_by_user_id: int


class TimestampOut(msgspec.Struct, kw_only=True):
    id: int
    title: str
    description: str | None
    event_timestamp: wire.Moment
    user: wire.UserOut
    """Who wrote it down."""
    streams: list[LinkOut]
    created_at: wire.Moment
    updated_at: wire.Moment


class TimestampList(msgspec.Struct):
    timestamps: list[TimestampOut]
    meta: wire.PageMeta


class TimestampsQuery(wire.PageQuery):
    search: Annotated[str, Meta(description="A part of title or description, in any case")] = ""
    start_date: Annotated[str, Meta(description="The first day, or time, of those that are listed")] = ""
    end_date: Annotated[str, Meta(description="The last day, or time")] = ""
    stream_id: Annotated[int | None, Meta(description="Only moments that this stream shows")] = None


def _link_out(link: TimestampLink) -> LinkOut:
    return LinkOut(
        stream_id=link.listing,
        stream_timestamp_seconds=link.seconds,
        stream_timestamp_display=link.display,
        source=link.source,
        title=link.title,
        added_by_user_id=link.added_by,
    )


class _Timestamps:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def list(self, call: Call) -> Answer:
        query = query_of(call)
        page, per_page = query.page, query.per_page()
        found = await self._context.timestamps.page(call.caller, page=page, per_page=per_page, filters=_filters(query))
        meta = wire.page_meta(page, per_page, found.total)
        answer = TimestampList([await self._view(timestamp) for timestamp in found.timestamps], meta)
        return json_answer(answer, headers=wire.page_headers(call, meta))

    async def get(self, call: Call) -> Answer:
        return await self._answer(await self._context.timestamps.get(call.caller, record_id(call)))

    async def create(self, call: Call) -> Answer:
        changes = _changes(await parameters_of(call, "timestamp"))
        return await self._answer(await self._context.timestamps.create(call.caller, changes), 201)

    async def update(self, call: Call) -> Answer:
        changes = _changes(await parameters_of(call, "timestamp"))
        return await self._answer(await self._context.timestamps.update(call.caller, record_id(call), changes))

    async def delete(self, call: Call) -> Answer:
        await self._context.timestamps.delete(call.caller, record_id(call))
        return Answer(204)

    async def link(self, call: Call) -> Answer:
        draft = _link(await parameters_of(call))
        return await self._answer(await self._context.timestamps.link(call.caller, record_id(call), draft), 201)

    async def unlink(self, call: Call) -> Answer:
        timestamp, listing = record_id(call), record_id(call, "stream_id")
        return await self._answer(await self._context.timestamps.unlink(call.caller, timestamp, listing))

    async def _answer(self, timestamp: Timestamp, status: int = 200) -> Answer:
        return wire.enveloped("timestamp", await self._view(timestamp), status)

    async def _view(self, timestamp: Timestamp) -> TimestampOut:
        return TimestampOut(
            id=timestamp.id,
            title=timestamp.title,
            description=timestamp.description,
            event_timestamp=wire.moment(timestamp.event_us),
            user=wire.user_out(await self._context.directory.anybody(timestamp.owner)),
            streams=[_link_out(link) for link in timestamp.links],
            created_at=wire.moment(timestamp.created_us),
            updated_at=wire.moment(timestamp.updated_us),
        )


def _filters(query: Parameters) -> TimestampFilters:
    """Days count from their first moment to their last; what is no time is as good as not given."""
    end = query.filled("end_date")
    end_us = moment_of(end)
    if end_us is not None:
        end_us += _DAY_US if end is not None and len(end) == _DATE_CHARACTERS else 1
    return TimestampFilters(
        search=query.search,
        start_us=moment_of(query.filled("start_date")),
        end_us=end_us,
        listing=None if query.filled("stream_id") is None else query.integer("stream_id") or 0,  # which none has
    )


def _changes(given: Parameters) -> TimestampChanges:
    """What a request says of a moment; what is no time is told, not dropped."""
    moment = given.get("event_timestamp")
    event_us = moment_of(moment)
    is_blank = moment is None or (isinstance(moment, str) and not moment.strip())
    return TimestampChanges(
        title=given.text("title") if "title" in given else UNSET,
        description=given.text("description") if "description" in given else UNSET,
        event_us=event_us if "event_timestamp" in given else UNSET,
        links=[_link_of(link) for link in given.list("streams")[:_LINKS_READ_MAX]] if "streams" in given else UNSET,
        unreadable=("event_timestamp",) if event_us is None and not is_blank else (),
    )


def _link_of(value: Any) -> LinkDraft:
    """A link, or a stream's bare number."""
    return _link(Parameters(value if isinstance(value, dict) else {"stream_id": value}))


def _link(given: Parameters) -> LinkDraft:
    seconds = next((given[name] for name in _SECONDS if name in given), None)
    is_blank = seconds is None or (isinstance(seconds, str) and not seconds.strip())
    number = integer_of(seconds)
    return LinkDraft(listing=given.integer("stream_id"), seconds=number, is_readable=is_blank or number is not None)


_SECONDS = ("seconds", "stream_timestamp_seconds", "timestamp_seconds")
"""What clients call it."""


def routes(context: Context) -> list[Route]:
    timestamps = _Timestamps(context)
    return [
        Route(
            method="GET",
            path="/api/v1/timestamps",
            name="streamsource_timestamps",
            summary="List moments, the latest first",
            tag=_TAG,
            query=TimestampsQuery,
            replies={200: Reply("A page of moments", [TimestampList])},
            handler=timestamps.list,
        ),
        Route(
            method="POST",
            path="/api/v1/timestamps",
            name="streamsource_timestamp_create",
            summary="Write a moment down",
            description="For editors and administrators.",
            tag=_TAG,
            bodies={JSON: TimestampIn, FORM: TimestampIn},
            body_bytes_max=wire.BODY_BYTES_MAX,
            replies={201: Reply("The moment", [TimestampOut])},
            handler=timestamps.create,
        ),
        Route(
            method="GET",
            path="/api/v1/timestamps/{id}",
            name="streamsource_timestamp",
            summary="See a moment",
            tag=_TAG,
            errors=("NOT_FOUND",),
            replies={200: Reply("The moment", [TimestampOut])},
            handler=timestamps.get,
        ),
        *wire.patch_and_put(
            Route(
                method="PATCH",
                path="/api/v1/timestamps/{id}",
                name="streamsource_timestamp_update",
                summary="Change a moment",
                description="For whoever wrote it down, while he is an editor, and for administrators.",
                tag=_TAG,
                bodies={JSON: _CHANGES, FORM: _CHANGES},
                body_bytes_max=wire.BODY_BYTES_MAX,
                errors=("NOT_FOUND",),
                replies={200: Reply("The moment", [TimestampOut])},
                handler=timestamps.update,
            )
        ),
        Route(
            method="DELETE",
            path="/api/v1/timestamps/{id}",
            name="streamsource_timestamp_delete",
            summary="Delete a moment",
            description="For whoever wrote it down, while he is an editor, and for administrators.",
            tag=_TAG,
            errors=("NOT_FOUND",),
            replies={204: Reply("It is gone; the streams stay")},
            handler=timestamps.delete,
        ),
        Route(
            method="POST",
            path="/api/v1/timestamps/{id}/streams",
            name="streamsource_timestamp_link",
            summary="Say that a stream shows a moment",
            tag=_TAG,
            bodies={JSON: LinkIn, FORM: LinkIn},
            body_bytes_max=wire.BODY_BYTES_MAX,
            errors=("NOT_FOUND",),
            replies={201: Reply("The moment", [TimestampOut])},
            handler=timestamps.link,
        ),
        Route(
            method="DELETE",
            path="/api/v1/timestamps/{id}/streams/{stream_id}",
            name="streamsource_timestamp_unlink",
            summary="Say that a stream does not show a moment",
            tag=_TAG,
            errors=("NOT_FOUND",),
            replies={200: Reply("The moment", [TimestampOut])},
            handler=timestamps.unlink,
        ),
    ]
