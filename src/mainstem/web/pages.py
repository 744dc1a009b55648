"""The pages, and the files that they load: all of it comes from this server."""

import re
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from html import escape
from importlib.resources import files
from string import Template

import msgspec

from mainstem.clock import rfc3339
from mainstem.errors import Invalid, MainstemError, NotFound
from mainstem.events import Probe, Vitals
from mainstem.http import Answer, Call, MethodNotAllowed, Reply, Route, accepts, json_answer

_PLAIN = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_MEDIA_TYPES = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
_ICON = "assets/icon.svg"
_ASSETS = {
    "style.css": "assets/style.css",
    "docs.js": "assets/docs.js",
    "icon.svg": _ICON,
    "player.js": "assets/player.js",
    "player.css": "assets/player.css",
    "hls.light.min.js": "vendor/hls.js/hls.light.min.js",
    "swagger-ui.css": "vendor/swagger-ui/swagger-ui.css",
    "swagger-ui-bundle.js": "vendor/swagger-ui/swagger-ui-bundle.js",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE = [
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
]
_REFUSALS: Mapping[type[MainstemError], tuple[int, str]] = {
    MethodNotAllowed: (405, "METHOD_NOT_ALLOWED"),
    NotFound: (404, "NOT_FOUND"),
    Invalid: (400, "INVALID_REQUEST"),
}
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")
_FRESH = [("cache-control", "no-cache")]
_KEPT = [("cache-control", "public, max-age=86400")]


class Door(msgspec.Struct, frozen=True):
    """An API that the server speaks, as the first page tells of it."""

    name: str
    paths: Sequence[str]
    purpose: str
    openapi: str
    """The path of its description for programs."""
    docs: str | None = None
    """The path of its interactive reference, where it has one."""


class _Reference(msgspec.Struct, frozen=True):
    """An interactive reference: Swagger UI over an OpenAPI document."""

    path: str
    name: str
    api: str
    document: str
    credential: str = ""
    """What the form for it is called. Without one there is no form: the credential is a parameter like others."""
    placeholder: str = ""
    scheme: str = ""
    """Of the credential, as the document names it."""


_REFERENCES = (
    _Reference("/v2/docs", "docs", "DataStream", "/v2/openapi.json", "API key", "ms_…", "apiKey"),
    _Reference(
        "/api-docs", "streamsource_docs", "StreamSource", "/swagger/v1/swagger.yaml", "Token", "eyJ… or ms_…", "bearer"
    ),
    _Reference("/Evernest/docs", "evernest_docs", "Evernest", "/Evernest/openapi.json"),
    _Reference(
        "/v1/stream/docs", "stream_docs", "stream-server", "/v1/stream/openapi.json", "API key", "ms_…", "apiKey"
    ),
)


class Welcome(msgspec.Struct):
    """The first page, for programs."""

    name: str
    version: str
    status: str
    components: Mapping[str, str]
    doors: Sequence[Door]
    docs: str
    openapi: str
    health: str


class Failure(msgspec.Struct):
    error: dict[str, object]


class Web:
    """The face of the pages: what its routes call, and what it says before and after each."""

    title = "Pages"
    prefixes = ("/assets", "/favicon.ico")
    codes: Mapping[str, int] = {code: status for status, code in _REFUSALS.values()}
    error_kind = Failure

    def __init__(self, probe: Probe, doors: Sequence[Door], version: str) -> None:
        self._probe = probe
        self._doors = doors
        self._version = version

    async def admit(self, call: Call) -> None:
        """Everybody may see them: they tell nothing that is not public, and what they show asks for a key itself."""

    def headers(self, call: Call) -> list[tuple[str, str]]:
        return _SAFE

    def refuse(self, call: Call, error: MainstemError | None) -> Answer:
        """In the common shape of an error, which is for programs: people get here by hand only."""
        for kind, (status, code) in _REFUSALS.items():
            if isinstance(error, kind):
                headers = [("allow", str(error.details["allow"]))] if status == 405 else []
                return json_answer(_failure(code, error.message), status, headers)
        return json_answer(_failure("INTERNAL", "Something went wrong here; it was logged"), 500)

    async def first(self, call: Call) -> Answer:
        """In the form that the client likes: HTML for browsers, JSON when asked for, else text."""
        vitals = await self._probe.check()
        accept = call.headers.get("accept", "")
        if accepts(accept, "text/html"):
            return Answer(body=self._first_page(vitals, _host(call)).encode(), media_type=_HTML, headers=_FRESH)
        if accepts(accept, "application/json"):
            return json_answer(self._welcome(vitals), headers=_FRESH)
        return Answer(body=self._first_text(vitals, _host(call)).encode(), media_type=_PLAIN, headers=_FRESH)

    async def docs(self, call: Call) -> Answer:
        reference = next(reference for reference in _REFERENCES if reference.path == call.raw_path)
        facts = msgspec.structs.asdict(reference)
        form = _template("assets/credential.html").substitute(facts) if reference.credential else ""
        page = _template("assets/docs.html").substitute(facts, form=form)
        return Answer(body=page.encode(), media_type=_HTML, headers=_FRESH)

    async def asset(self, call: Call) -> Answer:
        name = call.path("name")
        if name not in _ASSETS:
            raise NotFound("There is no such file", path=call.raw_path)
        return Answer(body=_file(_ASSETS[name]), media_type=_MEDIA_TYPES[name.rpartition(".")[2]], headers=_KEPT)

    async def favicon(self, call: Call) -> Answer:
        """Browsers ask for it at this path wherever no page tells them another, as beside JSON."""
        return Answer(body=_file(_ICON), media_type=_MEDIA_TYPES["svg"], headers=_KEPT)

    def _welcome(self, vitals: Vitals) -> Welcome:
        return Welcome(
            name="mainstem",
            version=self._version,
            status=vitals.condition.value,
            components={name: health.condition.value for name, health in vitals.components.items()},
            doors=self._doors,
            docs="/v2/docs",
            openapi="/v2/openapi.json",
            health="/health",
        )

    def _first_text(self, vitals: Vitals, host: str) -> str:
        doors = "\n\n".join(
            f"  {door.name:<14} {' '.join(door.paths)}\n{'':<17}{door.purpose}"
            f"\n{'':<17}{f'To try out: {door.docs}; for' if door.docs else 'For'} programs: {door.openapi}"
            for door in self._doors
        )
        return _template("assets/first.txt").substitute(
            version=self._version, status=vitals.condition.value, doors=doors, example=_example(host)
        )

    def _first_page(self, vitals: Vitals, host: str) -> str:
        return _template("assets/first.html").substitute(
            version=escape(self._version),
            status=vitals.condition.value,
            checked=_to_the_second(vitals.checked_us),
            components="\n".join(
                f'<li class="{health.condition.value}"><b>{escape(name)}</b> {health.condition.value}'
                f"{f'<p>{escape(health.reason)}</p>' if health.reason else ''}</li>"
                for name, health in vitals.components.items()
            ),
            doors="\n".join(map(_door, self._doors)),
            example=escape(_example(host)),
        )

    @cached_property
    def routes(self) -> Sequence[Route]:
        return [
            _page("/", "first_page", "See what this server is", self.first),
            *(_page(one.path, one.name, f"Try {one.api} out", self.docs) for one in _REFERENCES),
            _page("/assets/{name}", "asset", "A file of a page", self.asset),
            _page("/favicon.ico", "favicon", "The server's mark", self.favicon),
        ]


def _page(path: str, name: str, summary: str, handler: object) -> Route:
    return Route(
        method="GET",
        path=path,
        name=name,
        summary=summary,
        tag="Pages",
        public=True,
        replies={200: Reply("The page", media_type="text/html")},
        handler=handler,  # type: ignore[arg-type]  # one of the coroutine functions above
    )


def _failure(code: str, message: str) -> Failure:
    return Failure({"code": code, "message": message, "details": {}})


def _door(door: Door) -> str:
    paths = " ".join(f"<code>{escape(path)}</code>" for path in door.paths)
    ways = [("Try it", door.docs), ("OpenAPI", door.openapi)]
    links = " ".join(
        f'<a href="{escape(path)}" aria-label="{escape(f"{door.name}: {label}")}">{label}</a>'
        for label, path in ways
        if path
    )
    return (
        f'<li><h3>{escape(door.name)}</h3><p>{paths}</p><p>{escape(door.purpose)}</p><p class="ways">{links}</p></li>'
    )


def _to_the_second(time_us: int) -> str:
    date, _, time = rfc3339(time_us).partition("T")
    return f"{date} {time[:8]} UTC"


def _host(call: Call) -> str:
    """The address under which this client knows the server, for examples."""
    host = call.headers.get("host", "")
    return host if _HOST.fullmatch(host) else "localhost:8082"


def _example(host: str) -> str:
    return _template("assets/example.sh").substitute(host=host).strip()


@cache
def _template(path: str) -> Template:
    return Template(_file(path).decode())


@cache
def _file(path: str) -> bytes:
    return files("mainstem.web").joinpath(path).read_bytes()
