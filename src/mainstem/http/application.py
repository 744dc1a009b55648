"""The ASGI application: finds the route, admits the caller, answers, and says no in the face's own words."""

import re
import time
from collections.abc import Mapping, Sequence
from itertools import groupby

from starlette.routing import Route as StarletteRoute
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from mainstem.errors import MainstemError
from mainstem.http.bodies import accepts, compressed
from mainstem.http.errors import BodyTooSlow, ClientGone, MethodNotAllowed, NoSuchRoute
from mainstem.http.routes import Answer, Call, Face, Limits, Route
from mainstem.telemetry import Metrics, current_request_id, get_logger

logger = get_logger(__name__)


class Application:
    """All faces behind one port. The first face answers for paths that no face claims."""

    def __init__(self, faces: Sequence[Face], limits: Limits, metrics: Metrics) -> None:
        self._faces = faces
        self._limits = limits
        self._metrics = metrics
        self._router = Router(
            [
                _route_of(path, _Path(self, face, {route.method: route for route in routes}))
                for face in faces
                for path, routes in groupby(sorted(face.routes, key=_specific_first), key=lambda route: route.path)
            ],
            redirect_slashes=False,
            default=self._no_route,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"{scope['type']} is not spoken here")
        # Routing looks at the path as it was sent, so that an encoded slash stays inside its segment.
        await self._router({**scope, "path": scope["raw_path"].decode("latin-1")}, receive, send)

    async def answer(self, call: Call, face: Face, route: Route | None, problem: MainstemError | None) -> Answer:
        """The face's answer to a call: to the route when there is one, else to the problem of finding it."""
        try:
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
        started = time.perf_counter()
        call = Call(scope, receive, self._limits)
        call.route = route
        call.path_parameters = scope.get("path_params", {})
        token = current_request_id.set(call.request_id)
        try:
            answer = await self.answer(call, face, route, problem)
            await _send(call, answer, face.headers(call), send)
            elapsed_s = time.perf_counter() - started
            self._metrics.request(route.name if route else "none", call.method, answer.status, elapsed_s)
            logger.debug(
                "request",
                method=call.method,
                path=call.raw_path,
                status=answer.status,
                milliseconds=round(elapsed_s * 1_000, 3),
                credential=call.principal.credential if call.principal else None,
            )
        except ClientGone:
            logger.debug("client went away", method=call.method, path=call.raw_path)
        finally:
            current_request_id.reset(token)

    async def _no_route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        whole = f"{path.lower()}/"
        face = next((face for face in self._faces if whole.startswith(_folders(face.prefixes))), self._faces[0])
        problem = NoSuchRoute("There is nothing at this path; the routes are listed in /v2/openapi.json", path=path)
        await self.serve(scope, receive, send, face=face, problem=problem)


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


async def _send(call: Call, answer: Answer, face_headers: list[tuple[str, str]], send: Send) -> None:
    headers = [("x-request-id", call.request_id), *face_headers, *answer.headers]
    body, encoding = await compressed(answer.body, call.headers.get("accept-encoding", ""))
    if answer.body:
        headers.append(("content-type", answer.media_type))
        headers.append(("vary", "accept, accept-encoding"))
    if encoding:
        headers.append(("content-encoding", encoding))
    if answer.status != 204:
        headers.append(("content-length", str(len(body))))
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        }
    )
    await send({"type": "http.response.body", "body": b"" if call.method == "HEAD" else body})


def wants_problem_details(call: Call) -> bool:
    """Whether the client asks for errors as RFC 9457 tells them."""
    return accepts(call.headers.get("accept", ""), "application/problem+json")
