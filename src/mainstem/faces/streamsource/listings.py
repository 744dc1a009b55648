"""Streams, as StreamSource calls listings: how clients describe them, how they are shown, and the routes to them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainstem.catalogue import (
    ANALYTICS,
    TAGS,
    Choice,
    Filters,
    Kind,
    Listing,
    ListingChanges,
    LocationId,
    Orientation,
    PageRequest,
    PlaceDraft,
    Platform,
    Sort,
    Status,
    StreamerId,
)
from mainstem.clock import moment_of
from mainstem.faces.streamsource import wire
from mainstem.faces.streamsource.context import Context
from mainstem.faces.streamsource.parameters import (
    FORM,
    Parameters,
    integer_of,
    parameters_of,
    query_of,
    record_id,
    text_of,
)
from mainstem.faces.streamsource.places import LocationIn, LocationOut, location_out
from mainstem.http import JSON, Answer, Call, Reply, Route, json_answer
from mainstem.identity import Principal
from mainstem.ids import AccountId

TAG = "Streams"

# What a client says of a listing

_TEXTS = ("link", "source", "status", "platform", "orientation", "kind", "title", "notes", "city", "state", "posted_by")
_ALIASES = {"link": "url", "posted_by": "postedBy"}
_TIMES = {
    "started_at": "started_us",
    "ended_at": "ended_us",
    "last_checked_at": "last_checked_us",
    "last_live_at": "last_live_us",
}
_SWITCHES = ("is_pinned", "is_archived")
_NOBODY = 0
"""A number that no record has."""


def changes_of(given: Mapping[str, Any]) -> ListingChanges:
    """The fields of a request as changes. Others are left alone, and so are objects and lists where a text is meant."""
    fields = Parameters(given)
    values: dict[str, Any] = {}
    unreadable: list[str] = []
    for name in _TEXTS:
        key = _ALIASES.get(name, name) if name not in fields else name
        if key in fields and not isinstance(fields[key], dict | list):
            values[name] = text_of(fields[key])
    for name in _SWITCHES:
        switched = fields.boolean(name)
        if switched is not None:
            values[name] = switched
    for name, field in _TIMES.items():
        if name in fields:
            values[field] = time_us = _moment(fields[name])
            if time_us is None and not _is_blank(fields[name]):
                unreadable.append(name)
    for name in ("streamer", "location"):
        key = f"{name}_id"
        if key in fields:
            values[name] = None if _is_blank(fields[key]) else integer_of(fields[key]) or _NOBODY
    if "location" in fields and (fields["location"] is None or isinstance(fields["location"], dict)):
        values["place"] = None if fields["location"] is None else place_draft(fields["location"])
    return ListingChanges(**values, unreadable=tuple(unreadable))


def cell_changes(field: str, value: object) -> ListingChanges:
    """One field of a shared sheet. A kind that nobody knows is a video there."""
    if field == "kind" and Kind.read(text_of(value) or "") is None:
        value = Kind.VIDEO.value
    return changes_of({field: value})


def place_draft(given: Mapping[str, Any]) -> PlaceDraft:
    fields = Parameters(given)
    return PlaceDraft(
        city=fields.text("city"),
        state_province=fields.text("state_province"),
        region=fields.text("region"),
        country=fields.text("country"),
        latitude=_decimal(fields.get("latitude")),
        longitude=_decimal(fields.get("longitude")),
    )


def _moment(value: object) -> int | None:
    return None if _is_blank(value) else moment_of(value)


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _decimal(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        return None


class StreamChangesIn(msgspec.Struct, kw_only=True):
    """May also be under the key `stream`. What is left out stays as it is."""

    source: Annotated[str, Meta(max_length=255)] | UnsetType = UNSET
    link: (
        Annotated[str, Meta(description="An http or https address, or one that players open: rtmp, rtmps, rtsp, rtsps")]
        | UnsetType
    ) = UNSET
    status: Status | UnsetType = UNSET
    platform: Annotated[str | None, Meta(description="Told from the link where it is blank")] | UnsetType = UNSET
    orientation: Orientation | UnsetType | None = UNSET
    kind: Kind | UnsetType = UNSET
    title: str | UnsetType | None = UNSET
    notes: str | UnsetType | None = UNSET
    city: str | UnsetType | None = UNSET
    state: str | UnsetType | None = UNSET
    posted_by: str | UnsetType | None = UNSET
    is_pinned: bool | UnsetType = UNSET
    is_archived: bool | UnsetType = UNSET
    started_at: wire.Moment | UnsetType | None = UNSET
    ended_at: wire.Moment | UnsetType | None = UNSET
    last_checked_at: wire.Moment | UnsetType | None = UNSET
    last_live_at: wire.Moment | UnsetType | None = UNSET
    streamer_id: int | UnsetType | None = UNSET
    location_id: int | UnsetType | None = UNSET
    location: LocationIn | UnsetType | None = UNSET


class StreamIn(StreamChangesIn, kw_only=True):
    """May also be under the key `stream`."""

    source: Annotated[str, Meta(min_length=1, max_length=255)]
    link: Annotated[
        str, Meta(description="An http or https address, or one that players open: rtmp, rtmps, rtsp, rtsps")
    ]
    continue_: Annotated[
        bool, Meta(description="Go on with the broadcast of the streamer that is named, where he was live just now")
    ] = msgspec.field(default=False, name="continue")


# How a listing is shown


class StreamerNameOut(msgspec.Struct):
    id: int
    name: str


class CheckOut(msgspec.Struct):
    """What the last check found. `unknown` says nothing about the stream, only that it could not be told."""

    result: str
    reason: str | None
    at: wire.Moment | None


class StreamOut(msgspec.Struct, kw_only=True):
    id: int
    source: str
    link: str
    status: Status
    is_pinned: bool
    is_archived: bool
    platform: str | None
    orientation: Orientation | None
    kind: Kind
    city: str | None
    state: str | None
    notes: str | None
    title: str | None
    posted_by: str | None
    started_at: wire.Moment | None
    ended_at: wire.Moment | None
    last_checked_at: wire.Moment | None
    last_live_at: wire.Moment | None
    created_at: wire.Moment
    updated_at: wire.Moment
    check: CheckOut | None
    user: wire.UserOut
    streamer_id: int | None
    streamer: StreamerNameOut | None
    location_id: int | None
    location: LocationOut | None
    analytics_url: Annotated[str, Meta(description="Only where the feature `stream_analytics` is on")] | UnsetType = (
        UNSET
    )
    tags: Annotated[list[str], Meta(description="Only where the feature `stream_tags` is on")] | UnsetType = UNSET


class StreamList(msgspec.Struct):
    streams: list[StreamOut]
    meta: wire.PageMeta


async def view_of(context: Context, listing: Listing, caller: Principal | None = None) -> StreamOut:
    """A listing as clients see it, with what is on for the caller."""
    return (await views_of(context, [listing], caller))[0]


async def views_of(context: Context, listings: Sequence[Listing], caller: Principal | None = None) -> list[StreamOut]:
    users: dict[AccountId, wire.UserOut] = {}
    for listing in listings:
        if listing.owner not in users:
            # Whose account goes while the listing is on its way must not take the whole list along.
            users[listing.owner] = wire.user_out(await context.directory.anybody(listing.owner))
    has_analytics = caller is not None and await context.flags.is_on(ANALYTICS, caller)
    has_tags = caller is not None and await context.flags.is_on(TAGS, caller)
    views = [stream_out(listing, users[listing.owner]) for listing in listings]
    for view in views:
        if has_analytics:
            view.analytics_url = f"/api/v1/streams/{view.id}/analytics"
        if has_tags:
            view.tags = []
    return views


def stream_out(listing: Listing, user: wire.UserOut) -> StreamOut:
    streamer, place = listing.streamer, listing.location
    return StreamOut(
        id=listing.id,
        source=listing.source,
        link=listing.link,
        status=listing.status,
        is_pinned=listing.is_pinned,
        is_archived=listing.is_archived,
        platform=None if listing.platform is None else listing.platform.label,
        orientation=listing.orientation,
        kind=listing.kind,
        city=listing.city,
        state=listing.state,
        notes=listing.notes,
        title=listing.title,
        posted_by=listing.posted_by,
        started_at=wire.moment_or_null(listing.started_us),
        ended_at=wire.moment_or_null(listing.ended_us),
        last_checked_at=wire.moment_or_null(listing.last_checked_us),
        last_live_at=wire.moment_or_null(listing.last_live_us),
        created_at=wire.moment(listing.created_us),
        updated_at=wire.moment(listing.updated_us),
        check=_check_out(listing),
        user=user,
        streamer_id=None if streamer is None else streamer.id,
        streamer=None if streamer is None else StreamerNameOut(streamer.id, streamer.name),
        location_id=None if place is None else place.id,
        location=None if place is None else location_out(place),
    )


def _check_out(listing: Listing) -> CheckOut | None:
    if listing.check_result is None:
        return None
    return CheckOut(listing.check_result, listing.check_reason, wire.moment_or_null(listing.checked_us))


# What is asked for

_SORTS = {
    "name": Sort.NAME,
    "source": Sort.NAME,
    "created": Sort.CREATED,
    "created_at": Sort.CREATED,
    "updated": Sort.UPDATED,
    "updated_at": Sort.UPDATED,
    "checked": Sort.CHECKED,
    "checked_at": Sort.CHECKED,
    "last_checked_at": Sort.CHECKED,
}


class StreamFilters(msgspec.Struct, kw_only=True):
    """Blank values count as not given. Words may be in any case, and unknown ones fit nothing."""

    status: Status | UnsetType = UNSET
    notStatus: Annotated[Status, Meta(description="All but these")] | UnsetType = UNSET  # noqa: N815
    platform: Annotated[str, Meta(examples=["TikTok", "YouTube"])] | UnsetType = UNSET
    orientation: (
        Annotated[Orientation, Meta(description="`portrait` is `vertical`, `landscape` is `horizontal`")] | UnsetType
    ) = UNSET
    kind: Kind | UnsetType = UNSET
    user_id: Annotated[int, Meta(description="The owner")] | UnsetType = UNSET
    streamer_id: int | UnsetType = UNSET
    location_id: int | UnsetType = UNSET
    is_pinned: Annotated[bool, Meta(description="Also as `pinned`")] | UnsetType = UNSET
    is_archived: (
        Annotated[bool, Meta(description="Also as `archived`. Lists have archived streams for administrators only")]
        | UnsetType
    ) = UNSET
    link: Annotated[str, Meta(description="Exactly this link")] | UnsetType = UNSET
    search: (
        Annotated[
            str, Meta(description="Found in any case within source, link, title, city, state, notes or posted_by")
        ]
        | UnsetType
    ) = UNSET
    sort: (
        Annotated[
            str,
            Meta(
                description="`name`, `created`, `updated_at` or `checked_at`, with a `-` before it the other way round;"
                " anything else: pinned ones first, then the newest"
            ),
        ]
        | UnsetType
    ) = UNSET
    direction: Annotated[str, Meta(description="`desc` turns `sort` round as well")] | UnsetType = UNSET


class StreamsQuery(StreamFilters, kw_only=True):
    page: Annotated[int, Meta(description="Which page, from 1 on", ge=1)] = 1
    per_page: Annotated[int, Meta(description="How long a page is", ge=1, le=100)] = 25


def request_of(query: Parameters) -> PageRequest:
    """What cannot be a page or a length counts as not given."""
    wanted = (query.filled("sort") or "").lower()
    sort = _SORTS.get(wanted.removeprefix("-"), Sort.DEFAULT)
    descending = wanted.startswith("-") or (query.filled("direction") or "").lower() == "desc"
    return PageRequest(
        page=query.page, per_page=query.per_page(), filters=filters_of(query), sort=sort, descending=descending
    )


def filters_of(query: Parameters) -> Filters:
    return Filters(
        statuses=_statuses(query),
        platforms=_chosen(Platform, query.filled("platform")),
        orientations=_orientations(query.filled("orientation")),
        kinds=_chosen(Kind, query.filled("kind")),
        is_pinned=_switch(query, "is_pinned", "pinned"),
        is_archived=_switch(query, "is_archived", "archived"),
        owner=_number(query, "user_id", AccountId),
        streamer=_number(query, "streamer_id", StreamerId),
        location=_number(query, "location_id", LocationId),
        link=query.filled("link"),
        search=query.filled("search"),
    )


def _statuses(query: Parameters) -> frozenset[Status] | None:
    fitting = _chosen(Status, query.filled("status"))
    excluded = query.filled("notStatus")
    if excluded is None:
        return fitting
    return (frozenset(Status) if fitting is None else fitting) - {Status.read(excluded)}


def _orientations(word: str | None) -> frozenset[Orientation] | None:
    if word is None:
        return None
    chosen = Orientation.read(word)
    return frozenset() if chosen is None else chosen.same


def _chosen[Word: Choice](kind: type[Word], word: str | None) -> frozenset[Word] | None:
    if word is None:
        return None
    chosen = kind.read(word)
    return frozenset() if chosen is None else frozenset({chosen})


def _switch(query: Parameters, name: str, alias: str) -> bool | None:
    found = query.boolean(name)
    return query.boolean(alias) if found is None else found


def _number[Id](query: Parameters, name: str, kind: Callable[[int], Id]) -> Id | None:
    if query.filled(name) is None:
        return None
    return kind(query.integer(name) or _NOBODY)


# Routes


class _Streams:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._listings = context.listings

    async def list(self, call: Call) -> Answer:
        request = request_of(query_of(call))
        page = await self._listings.page(call.caller, request)
        meta = wire.page_meta(request.page, request.per_page, page.total)
        views = await views_of(self._context, page.listings, call.caller)
        return json_answer(StreamList(views, meta), headers=wire.page_headers(call, meta))

    async def get(self, call: Call) -> Answer:
        return await self._answer(call, await self._listings.get(call.caller, record_id(call)))

    async def create(self, call: Call) -> Answer:
        given = await parameters_of(call, "stream")
        continues = given.boolean("continue") is True
        listing = await self._listings.create(call.caller, changes_of(given), continues=continues)
        return await self._answer(call, listing, 201)

    async def update(self, call: Call) -> Answer:
        """Whoever may not is told so before what is wrong with his body."""
        number = record_id(call)
        await self._listings.changeable(call.caller, number)
        given = await parameters_of(call, "stream")
        return await self._answer(call, await self._listings.update(call.caller, number, changes_of(given)))

    async def delete(self, call: Call) -> Answer:
        await self._listings.delete(call.caller, record_id(call))
        return Answer(204)

    async def pin(self, call: Call) -> Answer:
        return await self._answer(call, await self._listings.pin(call.caller, record_id(call), pinned=True))

    async def unpin(self, call: Call) -> Answer:
        return await self._answer(call, await self._listings.pin(call.caller, record_id(call), pinned=False))

    async def archive(self, call: Call) -> Answer:
        return await self._answer(call, await self._listings.archive(call.caller, record_id(call), archived=True))

    async def unarchive(self, call: Call) -> Answer:
        return await self._answer(call, await self._listings.archive(call.caller, record_id(call), archived=False))

    async def _answer(self, call: Call, listing: Listing, status: int = 200) -> Answer:
        return wire.enveloped("stream", await view_of(self._context, listing, call.caller), status)


def routes(context: Context) -> list[Route]:
    streams = _Streams(context)
    return [
        Route(
            method="GET",
            path="/api/v1/streams",
            name="streamsource_streams",
            summary="List streams",
            description="Those of everybody. Archived ones only for administrators."
            " The headers say how many there are, and link to the neighbouring pages.",
            tag=TAG,
            query=StreamsQuery,
            errors=("NOT_FOUND",),
            replies={200: Reply("A page of streams", [StreamList])},
            handler=streams.list,
        ),
        Route(
            method="POST",
            path="/api/v1/streams",
            name="streamsource_stream_create",
            summary="Add a stream",
            description="For editors and administrators.",
            tag=TAG,
            bodies={JSON: StreamIn, FORM: StreamIn},
            body_bytes_max=wire.BODY_BYTES_MAX,
            replies={201: Reply("The stream, also under the key `stream`", [StreamOut])},
            handler=streams.create,
        ),
        Route(
            method="GET",
            path="/api/v1/streams/{id}",
            name="streamsource_stream",
            summary="See a stream",
            description="Also one that is archived.",
            tag=TAG,
            errors=("NOT_FOUND",),
            replies=_FOUND,
            handler=streams.get,
        ),
        *wire.patch_and_put(
            Route(
                method="PATCH",
                path="/api/v1/streams/{id}",
                name="streamsource_stream_update",
                summary="Change a stream",
                description="For its owner, as an editor, and for administrators. Only what is sent is changed.",
                tag=TAG,
                bodies={JSON: StreamChangesIn, FORM: StreamChangesIn},
                body_bytes_max=wire.BODY_BYTES_MAX,
                errors=("NOT_FOUND",),
                replies=_FOUND,
                handler=streams.update,
            )
        ),
        Route(
            method="DELETE",
            path="/api/v1/streams/{id}",
            name="streamsource_stream_delete",
            summary="Delete a stream",
            description="For its owner, as an editor, and for administrators.",
            tag=TAG,
            errors=("NOT_FOUND",),
            replies={204: Reply("It is gone")},
            handler=streams.delete,
        ),
        *(
            Route(
                method=method,
                path=f"/api/v1/streams/{{id}}/{path}",
                name=f"streamsource_stream_{name}",
                summary=summary,
                description="For its owner, as an editor, and for administrators.",
                tag=TAG,
                errors=("NOT_FOUND",),
                replies=_FOUND,
                handler=handler,
            )
            for method, path, name, summary, handler in (
                ("PUT", "pin", "pin", "Put a stream on top of lists", streams.pin),
                ("DELETE", "pin", "unpin", "Have a stream on top of lists no longer", streams.unpin),
                ("POST", "archive", "archive", "Put a stream into the archive", streams.archive),
                ("POST", "unarchive", "unarchive", "Take a stream out of the archive", streams.unarchive),
            )
        ),
    ]


_FOUND = {200: Reply("The stream, also under the key `stream`", [StreamOut])}
