"""Ignore lists: what programs that collect streams pass over. For administrators."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta

from mainstem.catalogue import IgnoreChanges, IgnoreEntry, IgnoreType, require_administrator
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

_TAG = "Ignore lists"
_FOR_ADMINISTRATORS = "For administrators."
_BULK_BYTES_MAX = 16 << 20
_ENTRIES_READ_MAX = 10_001
"""One more than may be made at once, so that there are too many of those, too."""


class EntryIn(msgspec.Struct, kw_only=True):
    """May also be under the key `ignore_list`."""

    list_type: IgnoreType
    value: str
    notes: str | None = None


_CHANGES = wire.partial(EntryIn)


class EntriesIn(msgspec.Struct):
    entries: list[EntryIn]


class IdsIn(msgspec.Struct):
    ids: list[int]


class EntryOut(msgspec.Struct, kw_only=True):
    id: int
    list_type: IgnoreType
    value: str
    notes: str | None
    created_at: wire.Moment
    updated_at: wire.Moment


class EntryList(msgspec.Struct):
    ignore_lists: list[EntryOut]
    meta: wire.PageMeta


class ByType(msgspec.Struct):
    twitch_users: list[str]
    discord_users: list[str]
    urls: list[str]
    domains: list[str]


class EntryFailure(msgspec.Struct):
    value: str | None
    errors: list[str]


class BulkOut(msgspec.Struct):
    created: list[EntryOut]
    errors: list[EntryFailure]


class Deleted(msgspec.Struct):
    deleted_count: int


class EntriesQuery(wire.PageQuery):
    list_type: str = ""
    search: Annotated[str, Meta(description="A part of the value, in any case")] = ""


class IdsQuery(msgspec.Struct):
    ids: Annotated[list[int], Meta(description="As `ids[]=1&ids[]=2`, or in the body")] = msgspec.field(
        name="ids[]", default_factory=list
    )


def _entry_out(entry: IgnoreEntry) -> EntryOut:
    return EntryOut(
        id=entry.id,
        list_type=entry.list_type,
        value=entry.value,
        notes=entry.notes,
        created_at=wire.moment(entry.created_us),
        updated_at=wire.moment(entry.updated_us),
    )


class _IgnoreLists:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def list(self, call: Call) -> Answer:
        query = query_of(call)
        page, per_page = query.page, query.per_page()
        found = await self._context.ignore_lists.page(
            call.caller,
            page=page,
            per_page=per_page,
            list_type=query.filled("list_type"),
            search=query.search,
        )
        meta = wire.page_meta(page, per_page, found.total)
        answer = EntryList([_entry_out(entry) for entry in found.entries], meta)
        return json_answer(answer, headers=wire.page_headers(call, meta))

    async def by_type(self, call: Call) -> Answer:
        values = await self._context.ignore_lists.by_type(call.caller)
        return json_answer({f"{kind}s": of_kind for kind, of_kind in values.items()})

    async def get(self, call: Call) -> Answer:
        return json_answer(_entry_out(await self._context.ignore_lists.get(call.caller, record_id(call))))

    async def create(self, call: Call) -> Answer:
        changes = _changes(await parameters_of(call, "ignore_list"))
        return json_answer(_entry_out(await self._context.ignore_lists.create(call.caller, changes)), 201)

    async def update(self, call: Call) -> Answer:
        changes = _changes(await parameters_of(call, "ignore_list"))
        entry = await self._context.ignore_lists.update(call.caller, record_id(call), changes)
        return json_answer(_entry_out(entry))

    async def delete(self, call: Call) -> Answer:
        await self._context.ignore_lists.delete(call.caller, record_id(call))
        return Answer(204)

    async def bulk_create(self, call: Call) -> Answer:
        """201 even when every entry fails: each is told by itself."""
        require_administrator(call.caller)  # before so much is read
        given = (await parameters_of(call)).list("entries")[:_ENTRIES_READ_MAX]
        entries = [_changes(Parameters(entry if isinstance(entry, dict) else {})) for entry in given]
        made = await self._context.ignore_lists.create_many(call.caller, entries)
        failures = [EntryFailure(value, list(errors)) for value, errors in made.failed]
        return json_answer(BulkOut([_entry_out(entry) for entry in made.created], failures), 201)

    async def bulk_delete(self, call: Call) -> Answer:
        require_administrator(call.caller)
        given = map(integer_of, (await parameters_of(call)).list("ids"))
        numbers = sorted({number for number in given if number is not None})
        return json_answer(Deleted(await self._context.ignore_lists.delete_many(call.caller, numbers)))


def _changes(given: Parameters) -> IgnoreChanges:
    return IgnoreChanges(
        list_type=given.text("list_type") if "list_type" in given else UNSET,
        value=given.text("value") if "value" in given else UNSET,
        notes=given.text("notes") if "notes" in given else UNSET,
    )


def routes(context: Context) -> list[Route]:
    lists = _IgnoreLists(context)
    return [
        Route(
            method="GET",
            path="/api/v1/ignore_lists",
            name="streamsource_ignore_lists",
            summary="List what is passed over",
            description=_FOR_ADMINISTRATORS,
            tag=_TAG,
            query=EntriesQuery,
            replies={200: Reply("A page of entries, the newest first", [EntryList])},
            handler=lists.list,
        ),
        Route(
            method="GET",
            path="/api/v1/ignore_lists/by_type",
            name="streamsource_ignore_lists_by_type",
            summary="See what is passed over, as plain values",
            description=_FOR_ADMINISTRATORS,
            tag=_TAG,
            replies={200: Reply("The values of each type", [ByType])},
            handler=lists.by_type,
        ),
        Route(
            method="POST",
            path="/api/v1/ignore_lists",
            name="streamsource_ignore_list_create",
            summary="Pass something over",
            description=_FOR_ADMINISTRATORS,
            tag=_TAG,
            bodies={JSON: EntryIn, FORM: EntryIn},
            body_bytes_max=wire.BODY_BYTES_MAX,
            replies={201: Reply("The entry", [EntryOut])},
            handler=lists.create,
        ),
        Route(
            method="POST",
            path="/api/v1/ignore_lists/bulk_create",
            name="streamsource_ignore_list_bulk_create",
            summary="Pass many things over",
            description="For administrators. What is wrong with an entry is told beside those that were made.",
            tag=_TAG,
            bodies={JSON: EntriesIn},
            body_bytes_max=_BULK_BYTES_MAX,
            replies={201: Reply("The entries, and what failed", [BulkOut])},
            handler=lists.bulk_create,
        ),
        Route(
            method="DELETE",
            path="/api/v1/ignore_lists/bulk_delete",
            name="streamsource_ignore_list_bulk_delete",
            summary="Forget many entries",
            description=_FOR_ADMINISTRATORS,
            tag=_TAG,
            query=IdsQuery,
            bodies={JSON: IdsIn},
            body_bytes_max=wire.BODY_BYTES_MAX,
            replies={200: Reply("How many there were", [Deleted])},
            handler=lists.bulk_delete,
        ),
        Route(
            method="GET",
            path="/api/v1/ignore_lists/{id}",
            name="streamsource_ignore_list",
            summary="See an entry",
            description=_FOR_ADMINISTRATORS,
            tag=_TAG,
            errors=("NOT_FOUND",),
            replies={200: Reply("The entry", [EntryOut])},
            handler=lists.get,
        ),
        *wire.patch_and_put(
            Route(
                method="PATCH",
                path="/api/v1/ignore_lists/{id}",
                name="streamsource_ignore_list_update",
                summary="Change an entry",
                description="For administrators. What is not given stays.",
                tag=_TAG,
                bodies={JSON: _CHANGES, FORM: _CHANGES},
                body_bytes_max=wire.BODY_BYTES_MAX,
                errors=("NOT_FOUND",),
                replies={200: Reply("The entry", [EntryOut])},
                handler=lists.update,
            )
        ),
        Route(
            method="DELETE",
            path="/api/v1/ignore_lists/{id}",
            name="streamsource_ignore_list_delete",
            summary="Forget an entry",
            description=_FOR_ADMINISTRATORS,
            tag=_TAG,
            errors=("NOT_FOUND",),
            replies={204: Reply("It is gone")},
            handler=lists.delete,
        ),
    ]
