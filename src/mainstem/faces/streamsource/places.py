"""Locations: where streams are shown from."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainstem.catalogue import Location, PlaceChanges, PlaceFilters, PlaceNotFound
from mainstem.faces.streamsource import wire
from mainstem.faces.streamsource.context import Context
from mainstem.faces.streamsource.parameters import FORM, Parameters, parameters_of, query_of, record_id, text_of
from mainstem.http import JSON, Answer, Call, Reply, Route, json_answer

_TAG = "Locations"
_PER_PAGE = 20
_OFF_LOOP_PLACES = 1_000
_ALL_KEPT = [("cache-control", "public, max-age=300")]
_KNOWN_KEPT = [("cache-control", "public, max-age=900")]
_TEXTS = ("city", "state_province", "region", "country")


class LocationIn(msgspec.Struct, kw_only=True):
    """May also be under the key `location`. A location is found by its city, state and country, in any case."""

    city: str
    state_province: str | None = None
    region: str | None = None
    country: str | None = None
    latitude: Annotated[float, Meta(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Meta(ge=-180, le=180)] | None = None
    is_known_city: Annotated[bool, Meta(description="Counts where an administrator says it")] = False


_CHANGES = wire.partial(LocationIn)


class LocationOut(msgspec.Struct, kw_only=True):
    id: int
    city: str
    state_province: str | None
    region: str | None
    country: str | None
    display_name: str
    full_display_name: str
    normalized_name: str
    latitude: str | None
    """In decimal degrees, as text."""
    longitude: str | None
    coordinates: list[float] | None
    """Latitude and longitude as numbers, where both are known."""
    is_known_city: bool
    created_at: wire.Moment
    updated_at: wire.Moment
    streams_count: int | UnsetType = UNSET


class ShortLocation(msgspec.Struct, kw_only=True):
    id: int
    city: str
    state_province: str | None
    country: str | None
    display_name: str
    normalized_name: str
    is_known_city: bool | UnsetType = UNSET


class LocationsMeta(msgspec.Struct):
    current_page: int
    next_page: int | None
    prev_page: int | None
    total_pages: int
    total_count: int
    per_page: int


class LocationList(msgspec.Struct):
    locations: list[LocationOut]
    meta: LocationsMeta


class LocationsQuery(msgspec.Struct, kw_only=True):
    page: Annotated[int, Meta(description="Which page, from 1 on", ge=1)] = 1
    per_page: Annotated[int, Meta(description="How long a page is", ge=1, le=100)] = _PER_PAGE
    search: Annotated[str, Meta(description="A part of city, state, region or country, in any case")] = ""
    country: str = ""
    state: str = ""


def location_out(place: Location, streams_count: int | UnsetType = UNSET) -> LocationOut:
    latitude, longitude = place.latitude, place.longitude
    is_located = latitude is not None and longitude is not None
    return LocationOut(
        id=place.id,
        city=place.city,
        state_province=place.state_province,
        region=place.region,
        country=place.country,
        display_name=_joined(place.city, place.state_province or place.country),
        full_display_name=_joined(place.city, place.state_province or place.region, place.country),
        normalized_name=place.normalized_name,
        latitude=_degrees(latitude),
        longitude=_degrees(longitude),
        coordinates=[latitude, longitude] if is_located else None,  # type: ignore[list-item]  # neither is None
        is_known_city=place.is_known_city,
        created_at=wire.moment(place.created_us),
        updated_at=wire.moment(place.updated_us),
        streams_count=streams_count,
    )


def _short(place: Location, *, with_known: bool) -> ShortLocation:
    return ShortLocation(
        id=place.id,
        city=place.city,
        state_province=place.state_province,
        country=place.country,
        display_name=_joined(place.city, place.state_province or place.country),
        normalized_name=place.normalized_name,
        is_known_city=place.is_known_city if with_known else UNSET,
    )


def _joined(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _degrees(degrees: float | None) -> str | None:
    """Up to six digits after the point, and one at least."""
    if degrees is None:
        return None
    digits = f"{degrees:.6f}".rstrip("0")
    return f"{digits}0" if digits.endswith(".") else digits


class _Places:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def list(self, call: Call) -> Answer:
        query = query_of(call)
        page, per_page = query.page, query.per_page(_PER_PAGE)
        filters = PlaceFilters(search=query.search, country=query.filled("country"), state=query.filled("state"))
        found = await self._context.places.page(call.caller, page=page, per_page=per_page, filters=filters)
        meta = wire.page_meta(page, per_page, found.total)
        answer = LocationList(
            [location_out(place, found.counts.get(place.id, 0)) for place in found.places], _meta(meta)
        )
        return json_answer(answer, headers=wire.page_headers(call, meta))

    async def all(self, call: Call) -> Answer:
        return await _short_list(await self._context.places.all(call.caller), _ALL_KEPT, with_known=True)

    async def known_cities(self, call: Call) -> Answer:
        found = await self._context.places.all(call.caller, only_known=True)
        return await _short_list(found, _KNOWN_KEPT, with_known=False)

    async def get(self, call: Call) -> Answer:
        place, count = await self._context.places.get(call.caller, _number(call))
        return wire.enveloped("location", location_out(place, count))

    async def create(self, call: Call) -> Answer:
        place = await self._context.places.create(call.caller, _changes(await parameters_of(call, "location")))
        return wire.enveloped("location", location_out(place, 0), 201)

    async def update(self, call: Call) -> Answer:
        changes = _changes(await parameters_of(call, "location"))
        await self._context.places.update(call.caller, _number(call), changes)
        return await self.get(call)

    async def delete(self, call: Call) -> Answer:
        await self._context.places.delete(call.caller, _number(call))
        return Answer(204)


def _number(call: Call) -> int:
    return record_id(call, kind=PlaceNotFound)


def _changes(given: Parameters) -> PlaceChanges:
    """What a request says of a place; what is no number is told, not dropped."""
    texts: dict[str, Any] = {name: given.text(name) for name in _TEXTS if name in given}
    numbers: dict[str, Any] = {name: _number_of(given[name]) for name in ("latitude", "longitude") if name in given}
    known = given.boolean("is_known_city")
    return PlaceChanges(
        **texts,
        **{name: number for name, number in numbers.items() if number is not UNSET},
        is_known_city=UNSET if known is None else known,
        unreadable=tuple(name for name, number in numbers.items() if number is UNSET),
    )


def _number_of(value: object) -> float | UnsetType | None:
    """None for blank; UNSET for what is no number."""
    text = text_of(value)
    if value is None or (text is not None and not text.strip()):
        return None
    try:
        return float(text or "")
    except ValueError:
        return UNSET


def _meta(meta: wire.PageMeta) -> LocationsMeta:
    page, last = meta.current_page, meta.total_pages
    return LocationsMeta(
        current_page=page,
        next_page=page + 1 if page < last else None,
        prev_page=page - 1 if page > 1 else None,
        total_pages=last,
        total_count=meta.total_count,
        per_page=meta.per_page,
    )


async def _short_list(places: Sequence[Location], headers: list[tuple[str, str]], *, with_known: bool) -> Answer:
    def answer() -> Answer:
        return json_answer([_short(place, with_known=with_known) for place in places], headers=headers)

    return await asyncio.to_thread(answer) if len(places) > _OFF_LOOP_PLACES else answer()


def routes(context: Context) -> list[Route]:
    places = _Places(context)
    return [
        Route(
            method="GET",
            path="/api/v1/locations",
            name="streamsource_locations",
            summary="List locations, by city and state",
            tag=_TAG,
            query=LocationsQuery,
            replies={200: Reply("A page of locations", [LocationList])},
            handler=places.list,
        ),
        Route(
            method="GET",
            path="/api/v1/locations/all",
            name="streamsource_locations_all",
            summary="List all locations in short",
            tag=_TAG,
            replies={200: Reply("All locations, by city and state", [list[ShortLocation]])},
            handler=places.all,
        ),
        Route(
            method="GET",
            path="/api/v1/locations/known_cities",
            name="streamsource_known_cities",
            summary="List the cities that count as known",
            description="While the feature `location_validation` is on, streams may name no others.",
            tag=_TAG,
            replies={200: Reply("Known cities, by city and state", [list[ShortLocation]])},
            handler=places.known_cities,
        ),
        Route(
            method="POST",
            path="/api/v1/locations",
            name="streamsource_location_create",
            summary="Add a location",
            description="For editors and administrators.",
            tag=_TAG,
            bodies={JSON: LocationIn, FORM: LocationIn},
            body_bytes_max=wire.BODY_BYTES_MAX,
            replies={201: Reply("The location", [LocationOut])},
            handler=places.create,
        ),
        Route(
            method="GET",
            path="/api/v1/locations/{id}",
            name="streamsource_location",
            summary="See a location",
            tag=_TAG,
            errors=("NOT_FOUND",),
            replies={200: Reply("The location", [LocationOut])},
            handler=places.get,
        ),
        *wire.patch_and_put(
            Route(
                method="PATCH",
                path="/api/v1/locations/{id}",
                name="streamsource_location_update",
                summary="Change a location",
                description="For editors, a known city for administrators. What is not given stays.",
                tag=_TAG,
                bodies={JSON: _CHANGES, FORM: _CHANGES},
                body_bytes_max=wire.BODY_BYTES_MAX,
                errors=("NOT_FOUND",),
                replies={200: Reply("The location", [LocationOut])},
                handler=places.update,
            )
        ),
        Route(
            method="DELETE",
            path="/api/v1/locations/{id}",
            name="streamsource_location_delete",
            summary="Delete a location that no stream names",
            description="For editors, a known city for administrators.",
            tag=_TAG,
            errors=("NOT_FOUND",),
            replies={204: Reply("It is gone")},
            handler=places.delete,
        ),
    ]
