"""Which features are on, and for administrators: for whom."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainstem.catalogue import ACTOR, Feature, Gate, Group
from mainstem.errors import InvalidFields
from mainstem.faces.streamsource import wire
from mainstem.faces.streamsource.context import Context
from mainstem.faces.streamsource.parameters import FORM, Parameters, parameters_of
from mainstem.http import JSON, Answer, Call, Reply, Route, json_answer
from mainstem.identity import Principal, Role

TAG = "Features"
type _Percentage = Annotated[float, Meta(ge=0, le=100)]


class GateIn(msgspec.Struct, kw_only=True):
    """Whom it is about; with none of these it is about everybody."""

    actor: Annotated[str, Meta(description="An account, such as `User:8`", pattern=ACTOR)] | None = None
    group: Group | None = None
    percentage_of_actors: _Percentage | None = None
    percentage_of_time: _Percentage | None = None


class FeatureOut(msgspec.Struct, kw_only=True):
    """All but name and enabled is for administrators."""

    name: str
    enabled: bool
    """For whoever asks."""
    state: Literal["on", "off", "conditional"] | UnsetType = UNSET
    boolean: bool | UnsetType = UNSET
    actors: list[str] | UnsetType = UNSET
    groups: list[str] | UnsetType = UNSET
    percentage_of_actors: float | UnsetType = UNSET
    percentage_of_time: float | UnsetType = UNSET


class FeatureList(msgspec.Struct):
    features: list[FeatureOut]


class _Features:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def list(self, call: Call) -> Answer:
        found = await self._context.flags.all()
        return json_answer(FeatureList([await self._view(feature, call.caller) for feature in found]))

    async def get(self, call: Call) -> Answer:
        return await self._answer(call, await self._context.flags.get(call.path("name")))

    async def enable(self, call: Call) -> Answer:
        gate = _gate(await parameters_of(call))
        return await self._answer(call, await self._context.flags.enable(call.caller, call.path("name"), gate))

    async def disable(self, call: Call) -> Answer:
        gate = _gate(await parameters_of(call))
        return await self._answer(call, await self._context.flags.disable(call.caller, call.path("name"), gate))

    async def clear(self, call: Call) -> Answer:
        return await self._answer(call, await self._context.flags.clear(call.caller, call.path("name")))

    async def _answer(self, call: Call, feature: Feature) -> Answer:
        return wire.enveloped("feature", await self._view(feature, call.caller))

    async def _view(self, feature: Feature, caller: Principal) -> FeatureOut:
        enabled = await self._context.flags.is_on(feature.name, caller)
        if caller.role is not Role.ADMIN:
            return FeatureOut(name=feature.name, enabled=enabled)
        return FeatureOut(
            name=feature.name,
            enabled=enabled,
            state=feature.state,
            boolean=feature.boolean,
            actors=sorted(feature.actors),
            groups=sorted(feature.groups),
            percentage_of_actors=feature.percentage_of_actors,
            percentage_of_time=feature.percentage_of_time,
        )


_GATES = Gate.__struct_fields__


def _gate(given: Parameters) -> Gate:
    """Raises InvalidFields for a percentage that is no number, and for gates that are not known or left blank: what
    was meant for somebody must not be on for everybody."""
    problems = [(name, "can't be blank") for name in _GATES if name in given and given.filled(name) is None]
    if given and not problems and not any(name in given for name in _GATES):
        problems = [("gate", "is not included in the list")]
    if problems:
        raise InvalidFields(problems)
    return Gate(
        actor=given.filled("actor"),
        group=given.filled("group"),
        percentage_of_actors=_percentage(given, "percentage_of_actors"),
        percentage_of_time=_percentage(given, "percentage_of_time"),
    )


def _percentage(given: Parameters, name: str) -> float | None:
    text = given.filled(name)
    try:
        return None if text is None else float(text)
    except ValueError as error:
        raise InvalidFields([(name, "is not a number")]) from error


def routes(context: Context) -> list[Route]:
    features = _Features(context)
    return [
        Route(
            method="GET",
            path="/api/v1/features",
            name="streamsource_features",
            summary="See which features are on for you",
            tag=TAG,
            replies={200: Reply("Every feature, by name", [FeatureList])},
            handler=features.list,
        ),
        Route(
            method="GET",
            path="/api/v1/features/{name}",
            name="streamsource_feature",
            summary="See whether a feature is on for you",
            tag=TAG,
            errors=("NOT_FOUND",),
            replies={200: Reply("The feature", [FeatureOut])},
            handler=features.get,
        ),
        *(
            Route(
                method="POST",
                path=f"/api/v1/features/{{name}}/{verb}",
                name=f"streamsource_feature_{verb}",
                summary=summary,
                description="For administrators, in maintenance, too.",
                tag=TAG,
                bodies={} if verb == "clear" else {JSON: GateIn, FORM: GateIn},
                body_bytes_max=wire.BODY_BYTES_MAX,
                errors=("NOT_FOUND",),
                replies={200: Reply("The feature", [FeatureOut])},
                handler=handler,
            )
            for verb, summary, handler in (
                ("enable", "Switch a feature on, for everybody or for some", features.enable),
                ("disable", "Switch a feature off, for everybody or for some", features.disable),
                ("clear", "Forget for whom a feature is on", features.clear),
            )
        ),
    ]
