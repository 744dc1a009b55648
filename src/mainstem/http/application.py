"""The ASGI application: finds the route, admits the caller, answers, and says no in the face's own words."""

import asyncio
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby

from starlette.routing import Route as StarletteRoute
from starlette.routing import Router, WebSocketRoute
from starlette.types import Receive, Scope, Send

from mainstem.errors import MainstemError
from mainstem.http.bodies import Compressor, accepts, compressed, preferred_encoding
from mainstem.http.errors import BodyTooSlow, ClientGone, MethodNotAllowed, NoSuchRoute
from mainstem.http.origins import Cors, CrossOrigin
from mainstem.http.routes import Answer, Call, Face, Limits, Route
from mainstem.http.sockets import INTERNAL, Socket, chosen_subprotocol
from mainstem.telemetry import Metrics, current_request_id, get_logger

logger = get_logger(__name__)

_TAKEN_WITHIN_S = 120
"""A client that takes nothing of a long answer for so long is given up."""


class Application:
    """All faces behind one port. The first face answers for paths that no face claims."""

    def __init__(self, faces: Sequence[Face], limits: Limits, metrics: Metrics) -> None:
        self._faces = faces
        self._cors = {id(face): face.cors for face in faces if isinstance(face, CrossOrigin)}
        self._limits = limits
        self._metrics = metrics
        routes = [
            _route_of(path, _Path(self, face, {route.method: route for route in routes}))
            for face in faces
            for path, routes in groupby(sorted(face.routes, key=_specific_first), key=lambda route: route.path)
        ] + [
            WebSocketRoute(route.path, _SocketPath(self, face, route))
            for face in faces
            for route in face.routes
            if route.socket is not None
        ]
        # A router tries one route after the other: by the first folder of the path there are few to try.
        folders: dict[str, list[StarletteRoute | WebSocketRoute]] = {}
        for route in routes:
            folders.setdefault(_first_folder(route.path), []).append(route)
        self._routers = {folder: self._router(inside) for folder, inside in folders.items()}

    def _router(self, routes: Sequence[StarletteRoute | WebSocketRoute]) -> Router:
        return Router(routes, redirect_slashes=False, default=self._no_route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            raise NotImplementedError(f"{scope['type']} is not spoken here")
        # Routing looks at the path as it was sent, so that an encoded slash stays inside its segment.
        path = scope["raw_path"].decode("latin-1")
        router = self._routers.get(_first_folder(path), self._no_route)
        await router({**scope, "path": path}, receive, send)

    async def answer(self, call: Call, face: Face, route: Route | None, problem: MainstemError | None) -> Answer:
        """The face's answer to a call: to the route when there is one, else to the problem of finding it."""
        try:
            cors = self._cors_of(face)
            preflight = None if cors is None else cors.preflight(call)
            if preflight is not None:
                return preflight
            if problem is not None:
                raise problem
            assert route is not None
            await face.admit(call)
            return await route.handler(call)
        except MainstemError as error:
            answer = face.refuse(call, error)
            if isinstance(error, BodyTooSlow):
                answer.headers.append(("connection", "close"))
            return answer
        except ClientGone:
            raise
        except Exception:
            logger.exception("request failed", method=call.method, path=call.raw_path)
            return face.refuse(call, None)

    async def serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        face: Face,
        route: Route | None = None,
        problem: MainstemError | None = None,
    ) -> None:
        with self._calling(scope, receive, route) as call:
            answer = await self.answer(call, face, route, problem)
            if answer.chunks is None:
                await _send(call, answer, self._headers(call, face), send)
                self._count(call, answer.status)
            else:
                self._count(call, answer.status)  # it may take hours from here
                await _stream(call, answer, self._headers(call, face), send)

    async def serve_socket(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        face: Face,
        route: Route | None = None,
        problem: MainstemError | None = None,
    ) -> None:
        """Admit a client that wants a WebSocket, and hand it to its route; a client refused gets an HTTP answer."""
        socket = Socket(receive, send, route.message_bytes_max if route else None)
        with self._calling({**scope, "method": "GET"}, receive, route) as call:
            try:
                await receive()  # the wish to connect
                answer = await self._refusal(call, face, problem)
                if answer is not None:
                    self._count(call, answer.status)
                    await _send(call, answer, face.headers(call), send, before="websocket.")
                    return
                assert route is not None
                assert route.socket is not None
                headers = _encoded(_common_headers(call, face.headers(call)))
                subprotocol = chosen_subprotocol(scope.get("subprotocols", ()), route.subprotocols)
                accept = {"type": "websocket.accept", "headers": headers, "subprotocol": subprotocol}
                await send(accept | {"message_bytes_max": route.message_bytes_max})  # which our protocol knows to keep
                self._count(call, 101)
                await route.socket(call, socket)
                await socket.close()
            except ClientGone:
                raise
            except Exception:
                logger.exception("socket failed", path=call.raw_path)
                await socket.close(INTERNAL)

    @contextmanager
    def _calling(self, scope: Scope, receive: Receive, route: Route | None) -> Iterator[Call]:
        """One request from its beginning to its end; a client that goes away ends it as well."""
        call = Call(scope, receive, self._limits)
        call.route = route
        call.path_parameters = scope.get("path_params", {})
        token = current_request_id.set(call.request_id)
        try:
            yield call
        except ClientGone:
            logger.debug("client went away", method=call.method, path=call.raw_path)
        finally:
            current_request_id.reset(token)

    def _headers(self, call: Call, face: Face) -> list[tuple[str, str]]:
        """What the face gives to every answer, and what browsers must know about pages of other origins."""
        cors = self._cors_of(face)
        return face.headers(call) if cors is None else [*face.headers(call), *cors.headers(call)]

    def _cors_of(self, face: Face) -> Cors | None:
        return self._cors.get(id(face))

    async def _refusal(self, call: Call, face: Face, problem: MainstemError | None) -> Answer | None:
        try:
            if problem is not None:
                raise problem
            await face.admit(call)
        except MainstemError as error:
            return face.refuse(call, error)
        return None

    def _count(self, call: Call, status: int) -> None:
        elapsed_s = time.perf_counter() - call.began_s
        self._metrics.request(call.route.name if call.route else "none", call.method, status, elapsed_s)
        logger.debug(
            "request",
            method=call.method,
            path=call.raw_path,
            status=status,
            milliseconds=round(elapsed_s * 1_000, 3),
            credential=call.principal.credential if call.principal else None,
        )

    async def _no_route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        whole = f"{path.lower()}/"
        face = next((face for face in self._faces if whole.startswith(_folders(face.prefixes))), self._faces[0])
        problem = NoSuchRoute("There is nothing at this path; the routes are listed in /v2/openapi.json", path=path)
        serve = self.serve if scope["type"] == "http" else self.serve_socket
        await serve(scope, receive, send, face=face, problem=problem)


class _Path:
    """One path with all its methods: an ASGI application of its own."""

    def __init__(self, application: Application, face: Face, routes: Mapping[str, Route]) -> None:
        self._application = application
        self._face = face
        self._routes = dict(routes)
        self.pattern = next(iter(routes.values())).pattern
        if "GET" in routes:
            self._routes["HEAD"] = routes["GET"]
        self._allow = ", ".join(sorted(self._routes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get(scope["method"])
        problem = None
        if route is None:
            problem = MethodNotAllowed(f"This path takes {self._allow}, not {scope['method']}", allow=self._allow)
        await self._application.serve(scope, receive, send, face=self._face, route=route, problem=problem)


class _SocketPath:
    """A path where WebSockets are taken."""

    def __init__(self, application: Application, face: Face, route: Route) -> None:
        self._application = application
        self._face = face
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application.serve_socket(scope, receive, send, face=self._face, route=self._route)


def _first_folder(path: str) -> str:
    """In small letters: some faces know their paths in any case."""
    return path[1:].partition("/")[0].lower()


def _route_of(path: str, endpoint: "_Path") -> StarletteRoute:
    route = StarletteRoute(path, endpoint)
    if endpoint.pattern:
        route.path_regex = re.compile(endpoint.pattern, re.IGNORECASE | re.ASCII)
    return route


def _folders(prefixes: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{prefix}/" for prefix in prefixes)


def _specific_first(route: Route) -> tuple[int, str]:
    """Fixed paths before those with parameters; the routes of one path together."""
    return (route.path.count("{"), route.path)


async def _send(
    call: Call, answer: Answer, face_headers: list[tuple[str, str]], send: Send, *, before: str = ""
) -> None:
    headers = _common_headers(call, face_headers) + answer.headers
    body, encoding = answer.body, ""
    if answer.body:
        headers.append(("content-type", answer.media_type))
        if answer.compress:
            body, encoding = await compressed(body, call.headers.get("accept-encoding", ""))
            headers.append(("vary", "accept, accept-encoding"))
    if encoding:
        headers.append(("content-encoding", encoding))
    if answer.status not in (204, 304):
        headers.append(("content-length", str(len(body))))
    start = f"{before}http.response.start"
    await send({"type": start, "status": answer.status, "headers": _encoded(headers)})
    await send({"type": f"{before}http.response.body", "body": b"" if call.method == "HEAD" else body})


async def _stream(call: Call, answer: Answer, face_headers: list[tuple[str, str]], send: Send) -> None:
    """Send what is made while it is sent, until it ends or the client goes away.

    When making it fails the answer stays without its end, by which the client knows.
    """
    assert answer.chunks is not None
    headers = [*_common_headers(call, face_headers), *answer.headers, ("content-type", answer.media_type)]
    encoding = preferred_encoding(call.headers.get("accept-encoding", "")) if answer.compress else ""
    headers.append(("vary", "accept, accept-encoding"))
    if encoding:
        headers.append(("content-encoding", encoding))
    try:
        await send({"type": "http.response.start", "status": answer.status, "headers": _encoded(headers)})
        if call.method != "HEAD":
            await call.unless_gone(_send_chunks(answer, Compressor(encoding) if encoding else None, send))
        await send({"type": "http.response.body", "body": b""})
    except MainstemError as error:
        logger.warning("answer broken off", path=call.raw_path, reason=error.message)
        raise ClientGone from error
    finally:
        await answer.chunks.aclose()
        await answer.finish()


async def _send_chunks(answer: Answer, compressor: Compressor | None, send: Send) -> None:
    assert answer.chunks is not None
    with _Patience() as patience:
        async for chunk in answer.chunks:
            body = chunk if compressor is None else await asyncio.to_thread(compressor.more, chunk)
            if body:
                patience.begin()
                await send({"type": "http.response.body", "body": body, "more_body": True})
                patience.end()
    if compressor is not None:
        await send({"type": "http.response.body", "body": compressor.end(), "more_body": True})


class _Patience:
    """Gives up a client that takes nothing for too long. It looks now and then: a timer for each chunk would cost as
    much as sending it."""

    def __enter__(self) -> "_Patience":
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._since: float | None = None
        self._gave_up = False
        self._timer = self._loop.call_later(_TAKEN_WITHIN_S / 4, self._look)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._timer.cancel()
        if self._gave_up and kind is asyncio.CancelledError:
            raise ClientGone

    def begin(self) -> None:
        self._since = self._loop.time()

    def end(self) -> None:
        self._since = None

    def _look(self) -> None:
        if self._since is not None and self._loop.time() - self._since > _TAKEN_WITHIN_S:
            assert self._task is not None
            self._gave_up = True
            self._task.cancel()
        else:
            self._timer = self._loop.call_later(_TAKEN_WITHIN_S / 4, self._look)


def _common_headers(call: Call, face_headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [("x-request-id", call.request_id), *face_headers]


def _encoded(headers: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def wants_problem_details(call: Call) -> bool:
    """Whether the client asks for errors as RFC 9457 tells them."""
    return accepts(call.headers.get("accept", ""), "application/problem+json")
