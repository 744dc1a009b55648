"""Evernest's routes: path → key → one verb → wire. Each answers GET and POST alike."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from itertools import chain
from typing import Annotated, Any, NamedTuple
from uuid import uuid4

import msgspec

from mainstem.clock import Clock
from mainstem.errors import Invalid, MainstemError, Unauthenticated
from mainstem.events import Messages, Pulled, Sharing, TopicDraft, TopicExists, Topics
from mainstem.faces.evernest import wire
from mainstem.http import JSON, Answer, Call, MethodNotAllowed, Reply, Route, json_answer, openapi
from mainstem.identity import Directory, Principal, RateLimiter, Right, Sources
from mainstem.ids import AccountId, SourceId, TopicId

_METHODS = ("GET", "POST")
_OFF_LOOP_EVENTS = 500
_UNKNOWN = {
    "StreamId": "EventStreamIdDoesNotExist",
    "SourceId": "SourceIdDoesNotExist",
    "UserId": "UserIdDoesNotExist",
    "EventId": "InvalidEventId",
    "FromEventId": "InvalidEventId",
    "ToEventId": "InvalidEventId",
}
_ERRORS = tuple(wire.CODES)
_IN_PATH = re.compile(r"\{(\w+)\}")


class Request(NamedTuple):
    """A call whose parameters are read and whose key is checked."""

    call: Call
    parameters: wire.Parameters
    principal: Principal | None

    @property
    def caller(self) -> Principal:
        assert self.principal is not None
        return self.principal

    @property
    def stream(self) -> TopicId:
        return TopicId(self.number("StreamId"))

    @property
    def source(self) -> SourceId:
        return SourceId(self.number("SourceId"))

    @property
    def user(self) -> AccountId:
        return AccountId(self.number("UserId"))

    def number(self, name: str) -> int:
        """An id in the path; the route has seen to it that it is one. Raises BadArgument past 64 bits."""
        digits = self.call.path(name)
        number = int(digits) if len(digits) <= 20 else 1 << 63
        if not -(1 << 63) <= number < 1 << 63:
            raise wire.BadArgument(f"{name} is beyond 64 bits.", name, _UNKNOWN[name])
        return number


type Verb = Callable[[Request], Awaitable[object]]


class Parameter(NamedTuple):
    """What a route takes beside the ids in its path, for its documentation."""

    name: str
    meaning: str
    needed: bool = True

    @property
    def told(self) -> str:
        return self.name if self.needed else f"{self.name}, {self.meaning}"


_KEY = Parameter("Key", "the key of the source that asks")
_USER_KEY = Parameter("UserKey", "a user key of the account that asks")
_FORMAT = Parameter("Format", "`text` for the bare messages", needed=False)


class Evernest:
    """The face: what its routes call, and what it says before and after each."""

    title = "Evernest"
    prefixes = ("/stream", "/source", "/right", "/user", "/userright", "/evernest")
    codes = wire.CODES
    error_kind = wire.Failure

    def __init__(
        self,
        *,
        directory: Directory,
        sources: Sources,
        limiter: RateLimiter,
        topics: Topics,
        messages: Messages,
        sharing: Sharing,
        clock: Clock,
        version: str,
    ) -> None:
        self._directory = directory
        self._sources = sources
        self._limiter = limiter
        self._topics = topics
        self._messages = messages
        self._sharing = sharing
        self._clock = clock
        self._version = version

    # Before and after

    async def admit(self, call: Call) -> None:
        """Whose request it is stands in its parameters, and each route asks for a key of its own kind."""
        if call.method not in _METHODS:
            raise MethodNotAllowed(f"This path takes GET and POST, not {call.method}.")

    def headers(self, call: Call) -> list[tuple[str, str]]:
        return [wire.NOT_KEPT]

    def refuse(self, call: Call, error: MainstemError | None) -> Answer:
        return wire.error_answer(error, self._clock(), list(call.path_parameters))

    def by_source(self, verb: Verb) -> Callable[[Call], Awaitable[Answer]]:
        """Answers with what the verb gives to the source whose Key came."""

        async def answer(call: Call) -> Answer:
            parameters = await _parameters(call)
            key = parameters.needed("Key")
            try:
                call.principal = self._sources.known(key) or await self._sources.authenticate(key)
            except Unauthenticated as error:
                raise wire.BadArgument("No source has this Key.", "Key", "SourceKeyDoesNotExist") from error
            return await self._answer(verb, Request(call, parameters, call.principal))

        return answer

    def by_user(self, verb: Verb) -> Callable[[Call], Awaitable[Answer]]:
        """Answers with what the verb gives to the user whose UserKey came."""

        async def answer(call: Call) -> Answer:
            parameters = await _parameters(call)
            key = parameters.needed("UserKey")
            try:
                call.principal = await self._sources.authenticate_user(key)
            except Unauthenticated as error:
                raise wire.BadArgument("No user has this UserKey.", "UserKey", "UserKeyDoesNotExist") from error
            return await self._answer(verb, Request(call, parameters, call.principal))

        return answer

    def by_anybody(self, verb: Verb) -> Callable[[Call], Awaitable[Answer]]:
        async def answer(call: Call) -> Answer:
            return await self._answer(verb, Request(call, await _parameters(call), None))

        return answer

    async def _answer(self, verb: Verb, request: Request) -> Answer:
        response = await verb(request)
        return wire.success(response, self._clock())

    # Rights

    async def own_right(self, request: Request) -> object:
        topic = await self._topics.by_id(request.stream)
        return await self._source_right(request.caller, _source_of(request.caller), topic.id)

    async def source_right(self, request: Request) -> object:
        source = (await self._sources.get(request.caller, request.source)).id
        topic = await self._topics.by_id(request.stream)
        return await self._source_right(request.caller, source, topic.id)

    async def _source_right(self, principal: Principal, source: SourceId, topic: TopicId) -> object:
        rights = await self._directory.source_rights(principal.account, source)
        return {"Right": wire.right_word(rights.get(topic, Right.NONE))}

    async def set_source_right(self, request: Request) -> object:
        source = await self._sources.get(request.caller, request.source)
        topic = await self._topics.by_id(request.stream)
        right = wire.parse_right(request.call.path("Right"))
        await self._sources.give(request.caller, source.id, topic.id, right)
        return {"Guid": _guid()}

    async def user_right(self, request: Request) -> object:
        right = await self._sharing.right_of(request.caller, request.user, request.stream)
        return {"Right": wire.right_word(right)}

    async def set_user_right(self, request: Request) -> object:
        await self._directory.account(request.user)
        topic = await self._topics.by_id(request.stream)
        right = wire.parse_right(request.call.path("Right"))
        password = None
        if right == Right.ADMIN:
            password = request.parameters.needed("Password")
            self._limiter.take_address(request.call.address)
        await self._sharing.give(request.caller, request.user, topic.id, right, password)
        return {"Guid": _guid()}

    # Sources

    async def own_source(self, request: Request) -> object:
        return await self._source(request.caller, _source_of(request.caller))

    async def source(self, request: Request) -> object:
        return await self._source(request.caller, request.source)

    async def _source(self, principal: Principal, source_id: SourceId) -> object:
        source = await self._sources.get(principal, source_id)
        key = await self._sources.key(principal, source_id)
        rights = await self._directory.source_rights(principal.account, source_id)
        related = await self._sharing.related(principal.account)
        return {"Source": wire.source_out(source, key, rights, related)}

    async def create_source(self, request: Request) -> object:
        name = request.parameters.new_name("SourceName")
        try:
            source, key = await self._sources.create(request.caller, name)
        except Invalid as error:
            raise wire.BadArgument(error.message, "SourceName", "InvalidString") from error
        return {"Guid": _guid(), "Source": {"Key": key, "Name": source.name, "Id": source.id}}

    # Streams

    async def stream(self, request: Request) -> object:
        return {"Stream": wire.stream_out(await self._messages.status(request.caller, request.stream))}

    async def create_stream(self, request: Request) -> object:
        name = request.parameters.new_name("StreamName")
        try:
            topic = await self._topics.create(request.caller, TopicDraft(name, retention_days=None))
        except TopicExists as error:
            message = "A stream of this name exists already: choose another."
            raise wire.BadArgument(message, "StreamName", "EventStreamNameTaken") from error
        except Invalid as error:
            message = error.message.replace("stream ID", "stream's name")
            raise wire.BadArgument(message, "StreamName", "InvalidString") from error
        return {"Guid": _guid(), "Stream": {"Id": topic.id, "Name": topic.name}}

    async def pull(self, request: Request) -> object:
        stream = (await self._topics.by_id(request.stream)).id
        pulled = await self._messages.pull(request.caller, stream, request.number("EventId"))
        return {"Event": _events(request, pulled)[0]}

    async def pull_range(self, request: Request) -> object:
        stream = (await self._topics.by_id(request.stream)).id
        first, last = request.number("FromEventId"), request.number("ToEventId")
        pulled = await self._messages.pull_range(request.caller, stream, first, last)
        if len(pulled.messages) > _OFF_LOOP_EVENTS:
            return {"Events": await asyncio.to_thread(_events, request, pulled)}
        return {"Events": _events(request, pulled)}

    async def pull_random(self, request: Request) -> object:
        return {"Event": _events(request, await self._messages.pull_random(request.caller, request.stream))[0]}

    async def push(self, request: Request) -> object:
        stream = (await self._topics.by_id(request.stream)).id
        text = request.parameters.needed("Message")
        return wire.pushed(*await self._messages.push(request.caller, stream, text))

    # Users

    async def own_user(self, request: Request) -> object:
        caller = request.caller
        sources = [wire.Numbered(source.id) for source in await self._sources.of(caller)]
        streams = [wire.Numbered(topic) for topic in await self._sharing.related(caller.account)]
        return {"User": wire.UserOut(caller.account, caller.name, sources, streams)}

    async def user(self, request: Request) -> object:
        account = await self._directory.account(request.user)
        return {"User": wire.UserOut(account.id, account.name)}

    # Documentation

    async def document(self, call: Call) -> Answer:
        return json_answer(self._document)

    @cached_property
    def _document(self) -> object:
        return openapi(self, self._version, schemes={})

    @cached_property
    def routes(self) -> Sequence[Route]:
        return [*chain.from_iterable(_routes(self)), _document_route(self)]


async def _parameters(call: Call) -> wire.Parameters:
    return wire.Parameters(call.scope["query_string"], await call.body())


def _source_of(principal: Principal) -> SourceId:
    assert principal.source is not None
    return principal.source


def _events(request: Request, pulled: Pulled) -> list[wire.EventOut] | list[str]:
    """As objects, or with Format=text as the bare messages."""
    if (request.parameters.text("Format") or "").lower() == "text":
        return [message.text for message in pulled.messages]
    return [wire.event_out(pulled.topic, message) for message in pulled.messages]


def _guid() -> str:
    return str(uuid4())


def _routes(face: Evernest) -> list[list[Route]]:
    def by_source(path: str, name: str, summary: str, verb: Verb, *parameters: Parameter) -> list[Route]:
        return _both(path, name, summary, face.by_source(verb), _KEY, *parameters)

    def by_user(path: str, name: str, summary: str, verb: Verb, *parameters: Parameter) -> list[Route]:
        return _both(path, name, summary, face.by_user(verb), _USER_KEY, *parameters)

    stream_name = Parameter("StreamName", "what the stream is called, as no other is")
    source_name = Parameter("SourceName", "what the source is called, as no other of yours is")
    message = Parameter("Message", "the text")
    password = Parameter("Password", "to make him an administrator", needed=False)

    return [
        by_user("/Stream/New", "stream_new", "Make a stream", face.create_stream, stream_name),
        by_source("/Stream/{StreamId}", "stream", "See a stream's name and how much it has", face.stream),
        by_source("/Stream/{StreamId}/Push", "push", "Push a message", face.push, message),
        by_source("/Stream/{StreamId}/Pull/Random", "pull_random", "Pull any event", face.pull_random, _FORMAT),
        by_source("/Stream/{StreamId}/Pull/{EventId}", "pull", "Pull an event", face.pull, _FORMAT),
        by_source(
            "/Stream/{StreamId}/Pull/{FromEventId}/{ToEventId}",
            "pull_range",
            "Pull the events from one to another, both included",
            face.pull_range,
            _FORMAT,
        ),
        by_source("/Source", "own_source", "See the source that asks", face.own_source),
        by_user("/Source/New", "source_new", "Make a source", face.create_source, source_name),
        by_user("/Source/{SourceId}", "source", "See one of your sources", face.source),
        by_source("/Right/{StreamId}", "own_right", "See the right of the source that asks", face.own_right),
        by_user("/Right/{SourceId}/{StreamId}", "source_right", "See a right of your source", face.source_right),
        by_user(
            "/Right/{SourceId}/{StreamId}/Set/{Right}",
            "source_right_set",
            "Give your source a right",
            face.set_source_right,
        ),
        by_user("/User", "own_user", "See yourself", face.own_user),
        _both("/User/{UserId}", "user", "See a user's name", face.by_anybody(face.user)),
        by_user("/UserRight/{UserId}/{StreamId}", "user_right", "See a user's right", face.user_right),
        by_user(
            "/UserRight/{UserId}/{StreamId}/Set/{Right}",
            "user_right_set",
            "Give a user a right on a stream that you administer",
            face.set_user_right,
            password,
        ),
    ]


def _both(
    path: str, name: str, summary: str, handler: Callable[[Call], Awaitable[Answer]], *parameters: Parameter
) -> list[Route]:
    """The route by each of its methods. Parameters are documented where each method has them as a rule."""
    shape = _shape(name, parameters) if parameters else None
    return [
        Route(
            method=method,
            path=path,
            pattern=f"^{_IN_PATH.sub(_segment, path)}/?$",
            name=f"evernest_{name}",
            summary=summary,
            description="; ".join(parameter.told for parameter in parameters),
            query=shape if method == "GET" else None,
            bodies={JSON: shape} if shape is not None and method == "POST" else {},
            handler=handler,
            public=not parameters,
            tag=path.split("/")[1],
            replies={200: Reply("Success", [wire.Success])},
            errors=_ERRORS,
        )
        for method in _METHODS
    ]


def _shape(name: str, parameters: Sequence[Parameter]) -> type[msgspec.Struct]:
    """The parameters as documentation has them; what comes is read by `wire.Parameters`."""
    fields: list[Any] = []
    for one in sorted(parameters, key=lambda parameter: not parameter.needed):
        kind = Annotated[str, msgspec.Meta(description=f"{one.meaning[0].upper()}{one.meaning[1:]}")]
        fields.append((one.name, kind) if one.needed else (one.name, kind | msgspec.UnsetType, msgspec.UNSET))
    title = "".join(part.capitalize() for part in name.split("_"))
    return msgspec.defstruct(f"{title}Parameters", fields)


def _document_route(face: Evernest) -> Route:
    return Route(
        method="GET",
        path="/Evernest/openapi.json",
        name="evernest_openapi",
        summary="This document",
        tag="Documentation",
        public=True,
        replies={200: Reply("OpenAPI 3.1", [dict[str, Any]])},
        handler=face.document,
    )


def _segment(match: re.Match[str]) -> str:
    """What a parameter takes: ids are digits, those of events may count from the end, a right is any word."""
    name = match[1]
    kind = "[^/]+" if name == "Right" else "-?[0-9]+" if name.endswith("EventId") else "[0-9]+"
    return f"(?P<{name}>{kind})"
