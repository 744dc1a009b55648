"""The OpenAPI 3.1 document of a face, from its routes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from itertools import groupby
from typing import Any

import msgspec

from mainstem.http.routes import JSON, Face, Header, Route

_COMMON_ERRORS = ("INVALID_REQUEST", "INTERNAL", "UNAVAILABLE")
_CREDENTIAL_ERRORS = ("UNAUTHENTICATED", "PERMISSION_DENIED", "RATE_LIMITED")
_BODY_ERRORS = ("INVALID_JSON", "PAYLOAD_TOO_LARGE", "REQUEST_TIMEOUT", "UNSUPPORTED_MEDIA_TYPE")


SCHEMES: Mapping[str, Any] = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token from signing in"},
}
"""How a credential comes with a request, as a rule."""


def openapi(face: Face, version: str, schemes: Mapping[str, Any] = SCHEMES) -> dict[str, Any]:
    """Deterministic: the same routes give the same document. `schemes` is empty where a credential is a parameter."""
    kinds = _kinds(face)
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schema_of = {repr(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    shapes = _Shapes(face, schema_of, components, schemes)
    routes = sorted(face.routes, key=lambda route: route.path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": face.title,
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in face.routes)],
        "paths": {
            path: {route.method.lower(): shapes.operation(route) for route in group}
            for path, group in groupby(routes, key=lambda route: route.path)
        },
        "components": {
            "schemas": components,
            **({"securitySchemes": schemes} if schemes else {}),
        },
    }


def _kinds(face: Face) -> list[Any]:
    kinds: list[Any] = [face.error_kind]
    for route in face.routes:
        kinds += [kind for kind in (route.query, *route.bodies.values()) if kind is not None]
        kinds += [kind for reply in route.replies.values() for kind in reply.kinds]
    return list({repr(kind): kind for kind in kinds}.values())


class _Shapes:
    def __init__(
        self, face: Face, schema_of: Mapping[str, Any], components: Mapping[str, Any], schemes: Mapping[str, Any]
    ) -> None:
        self._names = Counter(route.name for route in face.routes)
        self._security = [{name: list[str]()} for name in schemes]
        self._face = face
        self._schema_of = schema_of
        self._components = components

    def operation(self, route: Route) -> dict[str, Any]:
        operation: dict[str, Any] = {
            "operationId": route.name if self._names[route.name] == 1 else f"{route.name}_{route.method.lower()}",
            "summary": route.summary,
            "tags": [route.tag],
            "parameters": self._parameters(route),
            "responses": self._responses(route),
            "security": [] if route.public else self._security,
        }
        if route.description or route.scope:
            scope = f"Needs the scope `{route.scope.value}`." if route.scope else ""
            operation["description"] = " ".join(filter(None, (route.description, scope)))
        if route.bodies:
            content = {media: {"schema": self._schema_of[repr(kind)]} for media, kind in route.bodies.items()}
            operation["requestBody"] = {"required": True, "content": content}
        return operation

    def _parameters(self, route: Route) -> list[dict[str, Any]]:
        names = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
        in_path = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
        return in_path + self._query(route) + [_header(header) for header in route.headers]

    def _query(self, route: Route) -> list[dict[str, Any]]:
        if route.query is None:
            return []
        schema = self._resolved(self._schema_of[repr(route.query)])
        required = schema.get("required", ())
        return [
            {"name": name, "in": "query", "required": name in required, "schema": _without_null(property_schema)}
            for name, property_schema in schema["properties"].items()
        ]

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = schema.get("$ref")
        return self._components[reference.rpartition("/")[2]] if reference else schema

    def _responses(self, route: Route) -> dict[str, Any]:
        responses: dict[str, Any] = {}
        for status, reply in sorted(route.replies.items()):
            responses[str(status)] = {"description": reply.description}
            if status != 204:
                schemas = [self._schema_of[repr(kind)] for kind in reply.kinds]
                schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
                content = {reply.media_type: {"schema": schema} if schemas else {}}
                responses[str(status)]["content"] = content | {other: {} for other in reply.also_as}
        by_status: dict[int, list[str]] = {}
        for code in self.errors(route):
            by_status.setdefault(self._face.codes[code], []).append(code)
        for status, codes in sorted(by_status.items()):
            if str(status) in responses:
                continue
            responses[str(status)] = {
                "description": f"{_phrase(status)}: {', '.join(codes)}",
                "content": {JSON: {"schema": self._schema_of[repr(self._face.error_kind)]}},
            }
        return responses

    def errors(self, route: Route) -> Sequence[str]:
        codes = [*_COMMON_ERRORS]
        if not route.public:
            codes += _CREDENTIAL_ERRORS
        if route.bodies:
            codes += _BODY_ERRORS
        # A face need not tell all of them apart.
        return list(dict.fromkeys([*route.errors, *(code for code in codes if code in self._face.codes)]))


def _phrase(status: int) -> str:
    """What a status means; some protocols have one of their own."""
    return HTTPStatus(status).phrase if status in HTTPStatus else f"Status {status}"


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query parameter is given or not; it cannot be null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    if len(options) == 1:
        return {**options[0], **rest}
    default = schema.get("default")
    return rest if default is None else {**rest, "default": default}


def _header(header: Header) -> dict[str, Any]:
    return {
        "name": header.name,
        "in": "header",
        "required": False,
        "description": header.description,
        "schema": {"type": "string", "minLength": 1, "maxLength": header.characters_max},
    }
