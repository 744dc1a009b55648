"""Streamers: who is behind streams, and their accounts on platforms."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainstem.catalogue import AccountChanges, Platform, Streamer, StreamerAccount, StreamerChanges
from mainstem.faces.streamsource import wire
from mainstem.faces.streamsource.context import Context
from mainstem.faces.streamsource.listings import StreamChangesIn, StreamOut, changes_of, view_of
from mainstem.faces.streamsource.parameters import FORM, Parameters, parameters_of, query_of, record_id
from mainstem.http import JSON, Answer, Call, Reply, Route, json_answer

_TAG = "Streamers"
_TEXTS = ("name", "notes", "posted_by")
_ACCOUNTS_READ_MAX = 101
"""One more than may be changed at once."""
_ACCOUNT_TEXTS = ("platform", "username", "profile_url")


class AccountIn(msgspec.Struct, kw_only=True):
    id: Annotated[int, Meta(description="The account to change; left out, one is added")] | UnsetType = UNSET
    platform: Annotated[str, Meta(examples=["TikTok", "Twitch"])] | UnsetType = UNSET
    username: str | UnsetType = UNSET
    profile_url: Annotated[str, Meta(description="Made of the name where it is blank")] | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET
    destroy: Annotated[bool, Meta(description="Take the account away")] | UnsetType = msgspec.field(
        default=UNSET, name="_destroy"
    )


class StreamerChangesIn(msgspec.Struct, kw_only=True):
    """May also be under the key `streamer`."""

    name: Annotated[str, Meta(max_length=255)] | UnsetType = UNSET
    notes: str | UnsetType | None = UNSET
    posted_by: str | UnsetType | None = UNSET
    accounts_attributes: list[AccountIn] | UnsetType = UNSET


class StreamerIn(StreamerChangesIn, kw_only=True):
    """May also be under the key `streamer`."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]


class AccountOut(msgspec.Struct):
    id: int
    platform: str
    username: str
    profile_url: str | None
    is_active: bool


class StreamerOut(msgspec.Struct, kw_only=True):
    id: int
    name: str
    notes: str | None
    posted_by: str | None
    created_at: wire.Moment
    updated_at: wire.Moment
    accounts: list[AccountOut]
    streams_count: int
    active_streams_count: int


class StreamerList(msgspec.Struct):
    streamers: list[StreamerOut]
    meta: wire.PageMeta


class StreamersQuery(wire.PageQuery, kw_only=True):
    search: Annotated[str, Meta(description="A part of the name, in any case")] = ""
    platform: Annotated[str, Meta(description="Only those who have an account there")] = ""


def changes_of_streamer(given: Mapping[str, Any]) -> StreamerChanges:
    fields = Parameters(given)
    values: dict[str, Any] = {name: fields.text(name) for name in _TEXTS if name in fields}
    accounts = fields.get("accounts_attributes", fields.get("accounts", []))
    if isinstance(accounts, dict):  # a form numbers them
        accounts = list(accounts.values())
    if not isinstance(accounts, list):
        accounts = []
    found = [_account_changes(one) for one in accounts[:_ACCOUNTS_READ_MAX] if isinstance(one, dict)]
    return StreamerChanges(**values, accounts=tuple(found))


def _account_changes(given: Mapping[str, Any]) -> AccountChanges:
    fields = Parameters(given)
    values: dict[str, Any] = {name: fields.text(name) for name in _ACCOUNT_TEXTS if name in fields}
    active = fields.boolean("is_active")
    if active is not None:
        values["is_active"] = active
    return AccountChanges(id=fields.integer("id"), remove=fields.boolean("_destroy") is True, **values)


def streamer_out(streamer: Streamer) -> StreamerOut:
    return StreamerOut(
        id=streamer.id,
        name=streamer.name,
        notes=streamer.notes,
        posted_by=streamer.posted_by,
        created_at=wire.moment(streamer.created_us),
        updated_at=wire.moment(streamer.updated_us),
        accounts=[_account_out(account) for account in streamer.accounts],
        streams_count=streamer.listings,
        active_streams_count=streamer.active_listings,
    )


def _account_out(account: StreamerAccount) -> AccountOut:
    return AccountOut(account.id, account.platform.label, account.username, account.profile_url, account.is_active)


class _Streamers:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._streamers = context.streamers

    async def list(self, call: Call) -> Answer:
        query = query_of(call)
        page, per_page = query.page, query.per_page()
        word = query.filled("platform")
        platform = None if word is None else Platform.read(word)
        if word is not None and platform is None:
            return json_answer(StreamerList([], wire.page_meta(page, per_page, 0)))
        found = await self._streamers.page(
            call.caller, search=query.search, platform=platform, page=page, per_page=per_page
        )
        meta = wire.page_meta(page, per_page, found.total)
        answer = StreamerList([streamer_out(one) for one in found.streamers], meta)
        return json_answer(answer, headers=wire.page_headers(call, meta))

    async def get(self, call: Call) -> Answer:
        return _answer(await self._streamers.get(call.caller, record_id(call)))

    async def create(self, call: Call) -> Answer:
        given = await parameters_of(call, "streamer")
        return _answer(await self._streamers.create(call.caller, changes_of_streamer(given)), 201)

    async def update(self, call: Call) -> Answer:
        number = record_id(call)
        given = await parameters_of(call, "streamer")
        return _answer(await self._streamers.update(call.caller, number, changes_of_streamer(given)))

    async def delete(self, call: Call) -> Answer:
        await self._streamers.delete(call.caller, record_id(call))
        return Answer(204)

    async def continue_broadcast(self, call: Call) -> Answer:
        number = record_id(call)
        changes = changes_of(await parameters_of(call, "stream"))
        listing, is_new = await self._context.listings.continue_broadcast(call.caller, number, changes)
        view = await view_of(self._context, listing, call.caller)
        return wire.enveloped("stream", view, 201 if is_new else 200)


def _answer(streamer: Streamer, status: int = 200) -> Answer:
    return wire.enveloped("streamer", streamer_out(streamer), status)


def routes(context: Context) -> list[Route]:
    streamers = _Streamers(context)
    return [
        Route(
            method="GET",
            path="/api/v1/streamers",
            name="streamsource_streamers",
            summary="List streamers, by name",
            tag=_TAG,
            query=StreamersQuery,
            replies={200: Reply("A page of streamers", [StreamerList])},
            handler=streamers.list,
        ),
        Route(
            method="POST",
            path="/api/v1/streamers",
            name="streamsource_streamer_create",
            summary="Add a streamer",
            description="For editors and administrators. A new stream makes its streamer by itself where nobody fits.",
            tag=_TAG,
            bodies={JSON: StreamerIn, FORM: StreamerIn},
            body_bytes_max=wire.BODY_BYTES_MAX,
            errors=("NOT_FOUND",),
            replies={201: Reply("The streamer, also under the key `streamer`", [StreamerOut])},
            handler=streamers.create,
        ),
        Route(
            method="GET",
            path="/api/v1/streamers/{id}",
            name="streamsource_streamer",
            summary="See a streamer",
            tag=_TAG,
            errors=("NOT_FOUND",),
            replies=_FOUND,
            handler=streamers.get,
        ),
        *wire.patch_and_put(
            Route(
                method="PATCH",
                path="/api/v1/streamers/{id}",
                name="streamsource_streamer_update",
                summary="Change a streamer",
                description="For editors and administrators. Only what is sent is changed.",
                tag=_TAG,
                bodies={JSON: StreamerChangesIn, FORM: StreamerChangesIn},
                body_bytes_max=wire.BODY_BYTES_MAX,
                errors=("NOT_FOUND",),
                replies=_FOUND,
                handler=streamers.update,
            )
        ),
        Route(
            method="DELETE",
            path="/api/v1/streamers/{id}",
            name="streamsource_streamer_delete",
            summary="Delete a streamer with his accounts and streams",
            description="For administrators.",
            tag=_TAG,
            errors=("NOT_FOUND",),
            replies={204: Reply("They are gone")},
            handler=streamers.delete,
        ),
        Route(
            method="POST",
            path="/api/v1/streamers/{id}/continue",
            name="streamsource_streamer_continue",
            summary="Say that a streamer is live",
            description="For editors and administrators. Goes on with the stream he was live in, or that was looked at,"
            " less than half an hour ago; else adds one, for which `source` and `link` are needed.",
            tag=_TAG,
            bodies={JSON: StreamChangesIn, FORM: StreamChangesIn},
            body_bytes_max=wire.BODY_BYTES_MAX,
            errors=("NOT_FOUND",),
            replies={
                200: Reply("The stream that goes on, also under the key `stream`", [StreamOut]),
                201: Reply("A new stream, also under the key `stream`", [StreamOut]),
            },
            handler=streamers.continue_broadcast,
        ),
    ]


_FOUND = {200: Reply("The streamer, also under the key `streamer`", [StreamerOut])}
