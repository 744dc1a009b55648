"""Places where streams are shown from: looked up, made when a listing names a new one, and looked after."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.catalogue.flags import LOCATION_VALIDATION, Flags
from mainstem.catalogue.model import TEXT_CHARACTERS_MAX, Location, LocationId, PlaceDraft
from mainstem.catalogue.rights import require_maker, require_reader
from mainstem.catalogue.rows import location_of
from mainstem.catalogue.tables import listings, locations
from mainstem.clock import Clock
from mainstem.errors import Denied, InvalidFields, NotFound
from mainstem.identity import Principal, Role
from mainstem.storage import Records

ALL_MAX = 50_000
"""How many places a whole list has at most."""

_TEXTS = ("city", "state_province", "region", "country")
_BOUNDS = {"latitude": 90, "longitude": 180}
_DECIMALS = 6
_LAST = "\U0010ffff"


class PlaceChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says of a place, as he wrote it. What is not set stays as it is, or is none."""

    city: str | UnsetType | None = UNSET
    state_province: str | UnsetType | None = UNSET
    region: str | UnsetType | None = UNSET
    country: str | UnsetType | None = UNSET
    latitude: float | UnsetType | None = UNSET
    longitude: float | UnsetType | None = UNSET
    is_known_city: bool | UnsetType = UNSET
    """Counts only where an administrator says it."""
    unreadable: tuple[str, ...] = ()
    """Fields whose value is no number, where it must be one."""


class PlaceFilters(msgspec.Struct, frozen=True, kw_only=True):
    search: str | None = None
    """Found in any case within city, state, region or country."""
    country: str | None = None
    state: str | None = None


class PlacePage(msgspec.Struct, frozen=True):
    places: list[Location]
    counts: Mapping[LocationId, int]
    """How many listings each of them has."""
    total: int


class PlaceNotFound(NotFound):
    """No such place."""


class InvalidPlace(InvalidFields):
    """A place that cannot be."""


class PlaceInUse(InvalidFields):
    """Listings name the place, so it stays."""

    def __init__(self, count: int) -> None:
        super().__init__([("base", f"Location is being used by {count} stream(s)")])


def normalized_name(city: str | None, state_province: str | None, country: str | None) -> str:
    """What a place is found by: its parts that there are, trimmed, in lower case, with commas between."""
    parts = ((part or "").strip().lower() for part in (city, state_province, country))
    return ", ".join(part for part in parts if part)


class Places:
    """The verbs of places. Everybody reads, editors write, administrators say which cities are known."""

    def __init__(self, records: Records, clock: Clock, flags: Flags) -> None:
        self._records = records
        self._clock = clock
        self._flags = flags

    # For listings

    async def resolve(self, tx: AsyncConnection, draft: PlaceDraft) -> LocationId | None:
        """The place of a listing, made in the caller's transaction when it is new; None for one without a city.

        While the feature `location_validation` is on only known cities are found, and none is made. Raises
        InvalidFields then for others, and for what no place can be.
        """
        return await self._resolve(tx, _values(draft, {}), {})

    async def resolve_many(
        self, tx: AsyncConnection, drafts: Sequence[PlaceDraft]
    ) -> list[LocationId | InvalidFields | None]:
        """`resolve` for several, up to a few hundred, each by itself: what it answers, or raises."""
        described = [_values(draft, {}) for draft in drafts]
        names = {values["normalized_name"] for values in described if values["city"]}
        known: dict[str, LocationId] = {}
        if names and not await self._flags.is_on(LOCATION_VALIDATION):
            query = select(locations.c.normalized_name, locations.c.id).where(locations.c.normalized_name.in_(names))
            known = {name: LocationId(place) for name, place in await tx.execute(query)}
        outcomes: list[LocationId | InvalidFields | None] = []
        for values in described:
            try:
                outcomes.append(await self._resolve(tx, values, known))
            except InvalidFields as error:
                outcomes.append(error)
        return outcomes

    async def _resolve(
        self, tx: AsyncConnection, values: Mapping[str, Any], known: dict[str, LocationId]
    ) -> LocationId | None:
        """`known`: some places by name, to which one that is made is added."""
        name = values["normalized_name"]
        if not values["city"]:
            return None
        if name in known:
            return known[name]
        found = await _by_name(tx, name)
        if await self._flags.is_on(LOCATION_VALIDATION):
            return await _known(tx, found, values)
        if found is not None:
            return found.id
        try:
            _check(values, ())
        except InvalidPlace as error:
            raise InvalidFields([("base", f"Location validation failed: {error.message}")]) from error
        known[name] = await self._insert(tx, {**values, "is_known_city": False})
        return known[name]

    # Reading

    async def get(self, principal: Principal, place: int) -> tuple[Location, int]:
        """A place, and how many listings it has. Raises Denied, PlaceNotFound."""
        require_reader(principal)
        async with self._records.read() as rows:
            found = await _one(rows, place)
            return found, (await _counts(rows, [found.id])).get(found.id, 0)

    async def page(
        self, principal: Principal, *, page: int = 1, per_page: int = 20, filters: PlaceFilters | None = None
    ) -> PlacePage:
        """Places by city and state. Raises Denied."""
        require_reader(principal)
        wanted = _wanted(filters or PlaceFilters())
        query = select(locations).where(wanted).order_by(*_ORDER).limit(per_page).offset((page - 1) * per_page)
        async with self._records.read() as rows:
            total = await rows.scalar(select(func.count()).select_from(locations).where(wanted))
            found = [location_of(row) for row in await rows.execute(query)]
            return PlacePage(found, await _counts(rows, [place.id for place in found]), total or 0)

    async def all(self, principal: Principal, *, only_known: bool = False) -> list[Location]:
        """The first 50,000 places by city and state. Raises Denied."""
        require_reader(principal)
        query = select(locations).where(locations.c.is_known_city if only_known else true())
        async with self._records.read() as rows:
            return [location_of(row) for row in await rows.execute(query.order_by(*_ORDER).limit(ALL_MAX))]

    # Writing

    async def create(self, principal: Principal, changes: PlaceChanges) -> Location:
        """Raises Denied, InvalidPlace."""
        require_maker(principal)
        values = _values(changes, {})
        values["is_known_city"] = principal.role is Role.ADMIN and changes.is_known_city is True
        async with self._records.begin() as tx:
            await self._check(tx, values, changes.unreadable)
            return await _one(tx, await self._insert(tx, values))

    async def update(self, principal: Principal, place: int, changes: PlaceChanges) -> Location:
        """Raises PlaceNotFound, Denied (a known city is an administrator's to change), InvalidPlace."""
        async with self._records.begin() as tx:
            before = await _one(tx, place)
            require_maker(principal)
            if before.is_known_city and principal.role is not Role.ADMIN:
                raise Denied("Known cities are for administrators to change")
            values = _values(changes, msgspec.structs.asdict(before))
            if principal.role is Role.ADMIN and changes.is_known_city is not UNSET:
                values["is_known_city"] = changes.is_known_city
            await self._check(tx, values, changes.unreadable, place=before.id)
            values["updated_us"] = self._clock()
            await tx.execute(update(locations).where(locations.c.id == place).values(**values))
            return await _one(tx, place)

    async def delete(self, principal: Principal, place: int) -> None:
        """Raises PlaceNotFound, Denied, PlaceInUse."""
        async with self._records.begin() as tx:
            found = await _one(tx, place)
            require_maker(principal)
            if found.is_known_city and principal.role is not Role.ADMIN:
                raise Denied("Known cities are for administrators to delete")
            count = (await _counts(tx, [found.id])).get(found.id, 0)
            if count:
                raise PlaceInUse(count)
            await tx.execute(delete(locations).where(locations.c.id == place))

    async def _check(
        self, tx: AsyncConnection, values: Mapping[str, Any], unreadable: Sequence[str], place: int | None = None
    ) -> None:
        same = await _by_name(tx, values["normalized_name"]) if values["city"] else None
        is_taken = same is not None and same.id != place
        _check(values, unreadable, [("normalized_name", "has already been taken")] if is_taken else [])

    async def _insert(self, tx: AsyncConnection, values: Mapping[str, Any]) -> LocationId:
        now_us = self._clock()
        row = insert(locations).values(**values, created_us=now_us, updated_us=now_us).returning(locations.c.id)
        return LocationId((await tx.execute(row)).scalar_one())


_ORDER = (locations.c.city, locations.c.state_province, locations.c.id)


def _values(changes: PlaceChanges | PlaceDraft, before: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a place that somebody describes; blank texts are none."""

    def after(name: str) -> Any:
        given = getattr(changes, name)
        if isinstance(given, str):
            given = given.strip() or None
        return before.get(name) if given is UNSET else given

    values = {name: after(name) for name in (*_TEXTS, *_BOUNDS)}
    values |= {name: round(values[name], _DECIMALS) for name in _BOUNDS if _is_number(values[name])}
    values["normalized_name"] = normalized_name(values["city"], values["state_province"], values["country"])
    return values


def _check(values: Mapping[str, Any], unreadable: Sequence[str], more: Sequence[tuple[str, str]] = ()) -> None:
    """Raise InvalidPlace with all that is wrong."""
    problems = [] if values["city"] else [("city", "can't be blank")]
    problems += [
        (name, f"is too long (maximum is {TEXT_CHARACTERS_MAX} characters)")
        for name in _TEXTS
        if len(values[name] or "") > TEXT_CHARACTERS_MAX
    ]
    problems += [(name, "is invalid") for name in _TEXTS if "\0" in (values[name] or "")]
    problems += [(name, "is not a number") for name in unreadable]
    problems += [
        (name, f"must be from -{bound} to {bound}")
        for name, bound in _BOUNDS.items()
        if values[name] is not None and not (_is_number(values[name]) and abs(values[name]) <= bound)
    ]
    problems += more
    if problems:
        raise InvalidPlace(problems)


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _wanted(filters: PlaceFilters) -> ColumnElement[bool]:
    parts: list[ColumnElement[bool]] = []
    if filters.search:
        folded = filters.search.strip().lower()
        # The name has city, state and country in lower case; SQLite lowers ASCII letters alone.
        name = locations.c.normalized_name.contains(folded, autoescape=True)
        parts.append(or_(name, locations.c.region.icontains(folded, autoescape=True)))
    if filters.country:
        parts.append(locations.c.country == filters.country)
    if filters.state:
        parts.append(locations.c.state_province == filters.state)
    return and_(true(), *parts)


async def _one(tx: AsyncConnection, place: int) -> Location:
    row = (await tx.execute(select(locations).where(locations.c.id == place))).one_or_none()
    if row is None:
        raise PlaceNotFound(f"There is no location {place}")
    return location_of(row)


async def _by_name(tx: AsyncConnection, name: str) -> Location | None:
    row = (await tx.execute(select(locations).where(locations.c.normalized_name == name))).one_or_none()
    return None if row is None else location_of(row)


async def _counts(tx: AsyncConnection, places: Sequence[LocationId]) -> dict[LocationId, int]:
    query = (
        select(listings.c.location, func.count()).where(listings.c.location.in_(places)).group_by(listings.c.location)
    )
    return {LocationId(place): count for place, count in await tx.execute(query)}


async def _known(tx: AsyncConnection, found: Location | None, values: Mapping[str, Any]) -> LocationId:
    """The known city that is meant: the one of this name, else one whose state is the same or not told.

    Raises InvalidFields.
    """
    if found is not None and found.is_known_city:
        return found.id
    city, state = values["city"].lower(), (values["state_province"] or "").lower()
    begins = and_(locations.c.normalized_name >= city, locations.c.normalized_name < city + _LAST)
    query = select(locations).where(locations.c.is_known_city, begins).order_by(locations.c.id)
    for row in await tx.execute(query):
        place = location_of(row)
        if place.city.lower() == city and (place.state_province or state).lower() == state:
            return place.id
    raise InvalidFields([("city", "is not a recognized city. Please contact an admin to add it.")])
