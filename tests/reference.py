"""The generated parts of docs/reference, rendered from the code; `make reference` writes them, a test compares them.

In a page, `<!-- generated: name -->` and `<!-- end -->` enclose what comes from here; all else is written by hand.
"""

import argparse
import asyncio
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mainstem import cli
from mainstem.app import compose
from mainstem.faces.datastream import DataStream, wire
from mainstem.faces.evernest import Evernest
from mainstem.faces.evernest import wire as evernest
from mainstem.faces.streamserver import StreamServer
from mainstem.faces.streamserver import wire as streamserver
from mainstem.faces.streamserver.uploads import Tus
from mainstem.faces.streamsource import Context, StreamSource
from mainstem.faces.streamsource import wire as streamsource
from mainstem.faces.streamsource.cable import Cable
from mainstem.faces.streamsource.feed import FeedFace
from mainstem.http import Face, Route, openapi
from mainstem.settings import Settings, describe
from mainstem.telemetry import Family

PAGES = Path(__file__).parents[1] / "docs" / "reference"

_BLOCK = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(page: str, sources: Mapping[str, Callable[[], str]]) -> str:
    """The page with every generated part as the code would have it."""
    return _BLOCK.sub(lambda match: f"{match[1]}\n{sources[match['name']]().strip()}\n\n{match[3]}", page)


def settings() -> str:
    return _table(
        ("variable", "key", "default", "unit", "what it sets", "alias"),
        (
            (
                f"`{one.variable}`",
                f"`{one.name}`",
                _default(one.default, one.unit),
                one.unit,
                one.sentence,
                ", ".join(f"`{alias}`" for alias in one.aliases),
            )
            for one in describe()
        ),
    )


def commands() -> str:
    return "\n\n".join(_command(command) for command in _leaves(cli.parser()))


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for command in group.choices.values():
            yield from _leaves(command)


def _command(command: argparse.ArgumentParser) -> str:
    own = [action for action in command._actions if action.dest not in _COMMON]
    own.sort(key=lambda action: bool(action.option_strings))
    parts = [f"### {command.prog}", str(command.description)]
    if own:
        parts.append(_table(("option", "meaning"), ((_spelling(action), action.help or "") for action in own)))
    return "\n\n".join(parts)


_COMMON = ("help", "config", "data", "json")
"""Options that every command has; the page speaks of them once."""


def _spelling(action: argparse.Action) -> str:
    name = ", ".join(action.option_strings)
    value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    return f"`{' '.join(part for part in (name, value) if part)}`"


def errors() -> str:
    kinds: dict[tuple[int, str], list[str]] = {}
    for kind, status_and_code in wire.ERRORS.items():
        kinds.setdefault(status_and_code, []).append(_translated(first_sentence(kind.__doc__ or "")))
    kinds[wire.INTERNAL] = [_UNFORESEEN]
    rows = ((str(status), f"`{code}`", " ".join(dict.fromkeys(said))) for (status, code), said in sorted(kinds.items()))
    return _table(("status", "code", "when"), rows)


def _translated(sentence: str) -> str:
    """What the core calls a topic, this API calls a stream."""
    return sentence.replace("topic", "stream").replace("this principal", "the caller")


# The HTTP API, from the document that the server itself publishes


def _face() -> DataStream:
    """The face without anything behind it: its routes are data, and nobody will call them."""
    return DataStream.__new__(DataStream)


def _stream_server() -> StreamServer:
    face = StreamServer.__new__(StreamServer)
    face._tus = Tus.__new__(Tus)
    return face


def _streamsource() -> StreamSource:
    face = StreamSource.__new__(StreamSource)
    nothing: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(Context))
    face._context, face._version = Context(**nothing), ""
    face._cable, face._feed = Cable.__new__(Cable), FeedFace.__new__(FeedFace)
    face._feed.is_public = False
    return face


def streamsource_routes() -> str:
    """Its errors have no codes that clients see: their statuses stand here."""
    face = _streamsource()
    return re.sub(r"`([A-Z_]{4,})`", lambda match: str(face.codes.get(match[1], match[0])), routes(face))


def streamsource_errors() -> str:
    kinds: dict[tuple[int, str], list[str]] = {}
    for kind, refusal in streamsource.ERRORS.items():
        said = _translated(first_sentence(kind.__doc__ or ""))
        kinds.setdefault((refusal.status, f"`{refusal.text}`" if refusal.text else ""), []).append(said)
    unforeseen = streamsource.INTERNAL
    kinds[unforeseen.status, f"`{unforeseen.text}`"] = [_UNFORESEEN]
    rows = ((str(status), text, " ".join(dict.fromkeys(said))) for (status, text), said in sorted(kinds.items()))
    return _table(("status", "`error`", "when"), rows)


def routes(face: Face) -> str:
    document = openapi(face, "")
    parts = []
    for tag, group in groupby(face.routes, key=lambda route: route.tag):
        parts.append(f"## {tag}")
        parts += [_route(route, document["paths"][route.path][route.method.lower()]) for route in group]
    return "\n\n".join(parts)


def _route(route: Route, operation: Mapping[str, Any]) -> str:
    parts = [f"### {route.method} {route.path}", " ".join(filter(None, (f"{route.summary}.", route.description)))]
    parts.append(_who(route))
    parameters = [one for one in operation["parameters"] if one["in"] != "path"]
    if parameters:
        rows = ((f"`{one['name']}`", one["in"], *_described(one["schema"], one)) for one in parameters)
        parts.append(_table(("parameter", "in", "type", "default", "meaning"), rows))
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        is_lines = media_type == "application/x-ndjson"
        parts.append(
            f"Body, `{media_type}`: {'one [EventIn](#eventin) a line' if is_lines else _type(content['schema'])}."
        )
    for status, reply in sorted(route.replies.items()):
        content = operation["responses"][str(status)].get("content", {}).get(reply.media_type, {})
        shape = f": {_type(content['schema'])}" if "schema" in content else ""
        parts.append(f"**{status}** {reply.description}{shape}.")
    codes = [f"`{code}`" for code in route.errors]
    if codes:
        parts.append(f"Errors of its own: {', '.join(codes)}.")
    return "\n\n".join(parts)


def _who(route: Route) -> str:
    if route.public:
        return "Needs no credential."
    return f"Needs a credential with the scope `{route.scope.value}`." if route.scope else "Needs a credential."


def shapes(face: Face) -> str:
    document = openapi(face, "")
    queries = {getattr(route.query, "__name__", "") for route in face.routes}
    parts = []
    for name, schema in sorted(document["components"]["schemas"].items()):
        if name in queries:
            continue
        if "enum" in schema:
            parts.append(f"### {name}\n\nOne of {_type(schema)}.")
            continue
        required = schema.get("required", ())
        rows = (
            (f"`{field}`", *_described(kind, {"required": field in required, **kind}))
            for field, kind in schema["properties"].items()
        )
        said = [first_sentence(schema["description"])] if "description" in schema else []
        parts.append("\n\n".join([f"### {name}", *said, _table(("field", "type", "default", "meaning"), rows)]))
    return "\n\n".join(parts)


def _described(schema: Mapping[str, Any], about: Mapping[str, Any]) -> tuple[str, str, str]:
    """Type, default and meaning of a parameter or field."""
    default = "required" if about.get("required") else ""
    if "default" in schema and schema["default"] not in (None, [], {}):
        default = f"`{json.dumps(schema['default'])}`"
    return _type(schema), default, about.get("description") or schema.get("description", "")


def _type(schema: Mapping[str, Any]) -> str:
    """A JSON Schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    match schema.get("type"):
        case "array":
            return f"list of {_type(schema.get('items', {}))}"
        case "object":
            return "object"
        case "string" if schema.get("format") == "date-time":
            return "time"
        case "integer" | "number" | "string" as plain:
            return f"{plain}{_bounds(schema)}"
        case str(plain):
            return plain
        case _:
            return "anything"


def _bounds(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if "maxLength" in schema:
        return f", {schema.get('minLength', 0)} to {schema['maxLength']} characters"
    if low is not None and high is not None:
        return f", {low} to {high}"
    return f", at least {low}" if low is not None else ""


def evernest_routes() -> str:
    face = Evernest.__new__(Evernest)
    routes = {route.path: route for route in face.routes}.values()
    return _table(
        ("path", "parameters", "what it does"),
        ((f"`{route.path}`", route.description, f"{route.summary}.") for route in routes),
    )


def evernest_errors() -> str:
    kinds: dict[tuple[int, str, str], list[str]] = {}
    for kind, refusal in evernest.ERRORS.items():
        said = _translated(first_sentence(kind.__doc__ or ""))
        kinds.setdefault((refusal.status, refusal.message, refusal.reason), []).append(said)
    unforeseen = evernest.INTERNAL
    kinds[unforeseen.status, unforeseen.message, unforeseen.reason] = [_UNFORESEEN]
    rows = (
        (str(status), f"`{message}`", f"`{reason}`" if reason else "", " ".join(dict.fromkeys(said)))
        for (status, message, reason), said in sorted(kinds.items())
    )
    return _table(("status", "Message", "Reason", "when"), rows)


def streamserver_errors() -> str:
    kinds: dict[streamserver.Refusal, list[str]] = {}
    for kind, refusal in streamserver.ERRORS.items():
        kinds.setdefault(refusal, []).append(first_sentence(kind.__doc__ or ""))
    kinds[streamserver.INTERNAL] = [_UNFORESEEN]
    rows = (
        (str(refusal.status), f"`{refusal.code}`", f"`{refusal.text}`" if refusal.text else "", " ".join(said))
        for refusal, said in sorted(kinds.items(), key=lambda one: (one[0].status, one[0].code))
    )
    return _table(("status", "kind", "error", "when"), rows)


_UNFORESEEN = "Something that nobody foresaw; it is in the log under the request's id."


def metrics() -> str:
    families = asyncio.run(_families())
    return _table(
        ("name", "kind", "labels", "meaning"),
        ((f"`mainstem_{one.name}`", one.kind, _LABELS.get(one.name, ""), one.help) for one in families),
    )


_LABELS = {
    "http_requests_total": "`route`, `method`, `status`",
    "http_request_duration_seconds": "`route`, `method`",
    "ingest_errors_total": "`stream`, `code`",
    "ingest_commit_duration_seconds": "`quantile`",
    "stream_events_total": "`stream`",
    "storage_bytes": "`state`",
    "storage_events": "`state`",
    "listings": "`status`",
    "tasks": "`kind`, `state`",
    "tasks_oldest_waiting_seconds": "`kind`",
    "worker_processes": "`kind`",
    "worker_starts_total": "`kind`",
}


async def _families() -> list[Family]:
    """What a server that has just started would tell."""
    with TemporaryDirectory() as folder:
        async with compose(Settings(data=Path(folder), transcode_jobs=0, check=False)) as server:
            return list(server.datastream._metrics.families())


def first_sentence(docstring: str) -> str:
    return " ".join(docstring.partition("\n\n")[0].split())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Without the columns that would be empty."""
    cells = [[_cell(text) for text in row] for row in rows]
    filled = [column for column in range(len(head)) if any(row[column] for row in cells)]
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join(f"| {' | '.join(line[column] for column in filled)} |" for line in lines)


def _default(value: object, unit: str) -> str:
    if value is None:
        return ""
    if unit == "bytes" and isinstance(value, int):
        for size, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
            if value and value % size == 0:
                return f"`{value // size}{name}`"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


SOURCES: Mapping[str, Callable[[], str]] = {
    "settings": settings,
    "commands": commands,
    "errors": errors,
    "routes": lambda: routes(_face()),
    "shapes": lambda: shapes(_face()),
    "streamserver-routes": lambda: routes(_stream_server()),
    "streamserver-shapes": lambda: shapes(_stream_server()),
    "streamserver-errors": streamserver_errors,
    "streamsource-routes": streamsource_routes,
    "streamsource-shapes": lambda: shapes(_streamsource()),
    "streamsource-errors": streamsource_errors,
    "evernest-routes": evernest_routes,
    "evernest-errors": evernest_errors,
    "metrics": metrics,
}


def main() -> int:
    for path in sorted(PAGES.glob("*.md")):
        page = path.read_text()
        path.write_text(rendered(page, SOURCES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
