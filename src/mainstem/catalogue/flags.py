"""Feature flags: what is on, for whom. A flag is on when any of its gates is open for whoever asks."""

import math
import random
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Literal
from zlib import crc32

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.catalogue.tables import feature_gates, features
from mainstem.clock import SECOND_US, Clock
from mainstem.errors import Denied, Exhausted, InvalidFields, NotFound
from mainstem.identity import Principal, Role
from mainstem.storage import Records

ANALYTICS = "stream_analytics"
EXPORT = "stream_export"
BULK_IMPORT = "stream_bulk_import"
TAGS = "stream_tags"
MAINTENANCE = "maintenance_mode"
LOCATION_VALIDATION = "location_validation"

ACTOR = "^User:[0-9]{1,18}$"
"""What an actor looks like, as a regular expression."""
FEATURES_MAX = 200
ACTORS_MAX = 1_000

_ASK_EVERY_US = SECOND_US // 2
_NAME = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_ACTOR = re.compile(ACTOR, re.ASCII)
_OF_ALL = 100_000
"""Actors are spread over so many places, so that a thousandth of a percent is one of them."""


class Group(StrEnum):
    """Kinds of callers that a flag may be on for."""

    ADMINS = "admins"
    EDITORS = "editors"
    PREMIUM_USERS = "premium_users"
    """The administrators."""
    BETA_USERS = "beta_users"
    """Nobody, as yet."""


_GROUPS: Mapping[Group, frozenset[Role]] = {
    Group.ADMINS: frozenset({Role.ADMIN}),
    Group.EDITORS: frozenset({Role.EDITOR}),
    Group.PREMIUM_USERS: frozenset({Role.ADMIN}),
    Group.BETA_USERS: frozenset(),
}


class Feature(msgspec.Struct, frozen=True):
    """A flag with its gates."""

    name: str
    boolean: bool = False
    actors: frozenset[str] = frozenset()
    """Such as `User:8`."""
    groups: frozenset[str] = frozenset()
    percentage_of_actors: float = 0
    percentage_of_time: float = 0

    @property
    def state(self) -> Literal["on", "off", "conditional"]:
        """`on` for all, `off` for all, or `conditional`."""
        if self.boolean or max(self.percentage_of_actors, self.percentage_of_time) >= 100:
            return "on"
        return "off" if self == Feature(self.name) else "conditional"


class Gate(msgspec.Struct, frozen=True):
    """Which gate of a flag is to be changed; none of them means the flag as a whole."""

    actor: str | None = None
    group: str | None = None
    percentage_of_actors: float | None = None
    percentage_of_time: float | None = None


class FeatureOff(Denied):
    """A feature that is not on for whoever asks."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The feature {name} is not on for you", feature=name)
        self.name = name


def actor_of(principal: Principal) -> str:
    """By what name a flag knows an account."""
    return f"User:{principal.account}"


def is_open(feature: Feature, principal: Principal | None, chance: float) -> bool:
    """Whether any gate of a flag is open. `chance` is a random number from 0 to below 1; nobody in particular (None)
    gets through the gates for all alone."""
    if feature.boolean or chance * 100 < feature.percentage_of_time:
        return True
    if principal is None:
        return False
    actor = actor_of(principal)
    if actor in feature.actors or any(principal.role in _GROUPS[Group(group)] for group in feature.groups):
        return True
    return crc32(f"{feature.name}{actor}".encode()) % _OF_ALL < feature.percentage_of_actors * (_OF_ALL / 100)


class Flags:
    """The flags, remembered: what another process changes is seen within half a second."""

    def __init__(self, records: Records, clock: Clock, chance: Callable[[], float] = random.random) -> None:
        self._records = records
        self._clock = clock
        self._chance = chance
        self._features: Mapping[str, Feature] = {}
        self._version: int | None = None
        self._asked_us = 0

    async def is_on(self, name: str, principal: Principal | None = None) -> bool:
        """Whether a feature is on for somebody, or (None) for everybody. One that nobody ever added is off."""
        await self._refresh()
        feature = self._features.get(name)
        return feature is not None and is_open(feature, principal, self._chance())

    async def require(self, name: str, principal: Principal) -> None:
        """Raise FeatureOff unless the feature is on for whoever asks."""
        if not await self.is_on(name, principal):
            raise FeatureOff(name)

    async def all(self) -> list[Feature]:
        """Every flag, by name."""
        await self._refresh()
        return [self._features[name] for name in sorted(self._features)]

    async def get(self, name: str) -> Feature:
        """Raises NotFound."""
        await self._refresh()
        feature = self._features.get(name)
        if feature is None:
            raise NotFound(f"There is no feature {name!r}")
        return feature

    async def enable(self, principal: Principal, name: str, gate: Gate = Gate()) -> Feature:  # noqa: B008  # frozen
        """Open a gate; the whole flag when none is named, and then no other gate counts. A new name makes a flag.

        Raises Denied, InvalidFields, Exhausted.
        """
        _require_administrator(principal)
        values = _gate_values(gate)
        if not _NAME.fullmatch(name):
            raise InvalidFields([("name", "is invalid")])
        async with self._records.begin() as tx:
            await self._add(tx, name)
            if not values:
                await tx.execute(delete(feature_gates).where(feature_gates.c.feature == name))
                values = {"boolean": "true"}
            for kind, value in values.items():
                await _close(tx, name, kind, value)
                await tx.execute(insert(feature_gates).values(feature=name, kind=kind, value=value))
            await _check_size(tx, name)
        return await self._changed(name)

    async def disable(self, principal: Principal, name: str, gate: Gate = Gate()) -> Feature:  # noqa: B008  # frozen
        """Close a gate, or all of them when none is named. Raises Denied, NotFound, InvalidFields."""
        _require_administrator(principal)
        await self.get(name)
        values = _gate_values(gate)
        if not values:
            return await self.clear(principal, name)
        async with self._records.begin() as tx:
            for kind, value in values.items():
                await _close(tx, name, kind, value)
        return await self._changed(name)

    async def clear(self, principal: Principal, name: str) -> Feature:
        """Close every gate. Raises Denied, NotFound."""
        _require_administrator(principal)
        await self.get(name)
        async with self._records.begin() as tx:
            await tx.execute(delete(feature_gates).where(feature_gates.c.feature == name))
        return await self._changed(name)

    async def _add(self, tx: AsyncConnection, name: str) -> None:
        known = set(await tx.scalars(select(features.c.name)))
        if name in known:
            return
        if len(known) >= FEATURES_MAX:
            raise Exhausted(f"There are {FEATURES_MAX} features, and no room for more")
        await tx.execute(insert(features).values(name=name, created_us=self._clock()))

    async def _changed(self, name: str) -> Feature:
        self._version = None
        self._asked_us = 0
        return await self.get(name)

    async def _refresh(self) -> None:
        now_us = self._clock()
        if self._version is not None and 0 <= now_us - self._asked_us < _ASK_EVERY_US:
            return
        self._asked_us = now_us
        version = await self._records.version()
        if version == self._version:
            return
        async with self._records.read() as rows:
            names = list(await rows.scalars(select(features.c.name)))
            gates = [tuple(row) for row in await rows.execute(select(feature_gates))]
        self._features = MappingProxyType({name: _feature(name, gates) for name in names})
        self._version = version


async def _close(tx: AsyncConnection, name: str, kind: str, value: str) -> None:
    """Of actors and groups there may be many, of percentages there is one."""
    gate = (feature_gates.c.feature == name) & (feature_gates.c.kind == kind)
    if kind in ("actor", "group"):
        gate &= feature_gates.c.value == value
    await tx.execute(delete(feature_gates).where(gate))


async def _check_size(tx: AsyncConnection, name: str) -> None:
    query = select(feature_gates.c.value).where(feature_gates.c.feature == name)
    if len((await tx.scalars(query)).all()) > ACTORS_MAX:
        raise Exhausted(f"A feature is on for {ACTORS_MAX:,} actors at most: enable a group, or a percentage")


def _gate_values(gate: Gate) -> dict[str, str]:
    """The gates that were named, as they are kept. Raises InvalidFields."""
    problems = []
    if gate.actor is not None and not _ACTOR.fullmatch(gate.actor):
        problems.append(("actor", "is invalid"))
    if gate.group is not None and gate.group not in list(Group):
        problems.append(("group", "is not included in the list"))
    percentages = {"percentage_of_actors": gate.percentage_of_actors, "percentage_of_time": gate.percentage_of_time}
    for kind, percentage in percentages.items():
        if percentage is not None and not (math.isfinite(percentage) and 0 <= percentage <= 100):
            problems.append((kind, "must be from 0 to 100"))
    if problems:
        raise InvalidFields(problems)
    texts = {"actor": gate.actor, "group": gate.group}
    numbers = {kind: repr(float(percentage)) for kind, percentage in percentages.items() if percentage is not None}
    return {kind: text for kind, text in texts.items() if text is not None} | numbers


def _feature(name: str, gates: list[tuple[str, str, str]]) -> Feature:
    def values(kind: str) -> list[str]:
        return [value for feature, of, value in gates if (feature, of) == (name, kind)]

    return Feature(
        name,
        boolean=bool(values("boolean")),
        actors=frozenset(values("actor")),
        groups=frozenset(values("group")),
        percentage_of_actors=max(map(float, values("percentage_of_actors")), default=0),
        percentage_of_time=max(map(float, values("percentage_of_time")), default=0),
    )


def _require_administrator(principal: Principal) -> None:
    if principal.role is not Role.ADMIN:
        raise Denied("Only an administrator changes features")
