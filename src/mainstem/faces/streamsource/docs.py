"""The description of this API for programs: OpenAPI, made from the routes."""

from typing import Any

import msgspec

from mainstem.http import Answer, Call, Face, Reply, Route, openapi

_YAML = "application/yaml"
_PATH = "/swagger/v1/swagger.yaml"
_SCHEMES = {"bearer": {"type": "http", "scheme": "bearer", "description": "A token from signing in, or an API key"}}
TAG = "Documentation"


def routes(face: Face, version: str) -> list[Route]:
    """The document's own routes are in it, too."""

    async def document(call: Call) -> Answer:
        # JSON is YAML (YAML 1.2, section 1.3).
        text = msgspec.json.encode(openapi(face, version, _SCHEMES))
        return Answer(body=msgspec.json.format(text, indent=2), media_type=_YAML)

    return [
        Route(
            method="GET",
            path=_PATH,
            name="streamsource_openapi",
            summary="This document",
            tag=TAG,
            public=True,
            replies={200: Reply("OpenAPI 3.1, as YAML that is JSON as well", [dict[str, Any]], media_type=_YAML)},
            handler=document,
        )
    ]
