"""StreamSource held to its own description, and the description to what clients expect of it."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok

from serving import API_KEY, Server, serving
from waiting import PATIENCE_S

DOCUMENT = "/swagger/v1/swagger.yaml"
BEARER = {"Authorization": f"Bearer {API_KEY}"}
NOT_CHECKED = (
    # What fits the schema may still be refused: an email that is taken, a role that only an operator gives.
    "positive_data_acceptance",
    # Clients of five years are read kindly: a number for a text, a word for a number, members that nobody knows.
    "negative_data_rejection",
    # Who is let in has tests of its own.
    "ignored_auth",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this file's own: who tries everything may well delete something."""
    with serving(tmp_path_factory.mktemp("swagger") / "data") as running:
        yield running


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_route_answers_as_described(
    server: Server, subtests: pytest.Subtests, mode: schemathesis.GenerationMode
) -> None:
    """No server error, no status, type or body that the document does not have, whatever is sent."""
    load_all_checks()
    document = schemathesis.openapi.from_url(f"{server.url}{DOCUMENT}")
    excluded: list[Any] = [CHECKS.get_one(name) for name in NOT_CHECKED]

    for found in document.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @settings(max_examples=8, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: "schemathesis.Case[Any]") -> None:
            case.call_and_validate(headers=BEARER, excluded_checks=excluded)

        with (
            subtests.test(operation.label),
            suppress(Unsatisfiable),
        ):  # a route without parameters cannot be asked wrongly
            check()
    assert httpx.get(f"{server.url}/api/v1/users", headers=BEARER, timeout=PATIENCE_S).status_code == 200, (
        "The key was revoked on the way"
    )


def test_the_document_is_openapi(server: Server) -> None:
    """YAML that is JSON as well: it says the same each time, and every reference in it resolves."""
    answer = httpx.get(f"{server.url}{DOCUMENT}", timeout=PATIENCE_S)
    document = answer.json()
    references = {part.partition('"')[0] for part in answer.text.split('"$ref": "#/components/schemas/')[1:]}

    assert answer.headers["content-type"] == "application/yaml"
    assert references <= document["components"]["schemas"].keys()
    assert "mainstem." not in answer.text  # two shapes of one name would have their modules' names
    assert httpx.get(f"{server.url}{DOCUMENT}", timeout=PATIENCE_S).text == answer.text


@pytest.mark.parametrize(
    "route",
    [
        "POST /api/v1/users/signup",
        "POST /api/v1/users/login",
        "GET /api/v1/streams",
        "POST /api/v1/streams",
        "GET /api/v1/streams/{id}",
        "PUT /api/v1/streams/{id}",
        "PATCH /api/v1/streams/{id}",
        "DELETE /api/v1/streams/{id}",
        "PUT /api/v1/streams/{id}/pin",
        "DELETE /api/v1/streams/{id}/pin",
        "GET /api/v1/streams/{id}/analytics",
        "POST /api/v1/streams/bulk_import",
        "GET /api/v1/streams/export",
        "GET /api/v1/locations/known_cities",
        "DELETE /api/v1/ignore_lists/bulk_delete",
        "GET /api/v1/timestamps",
        "GET /api/v1/streamers",
        "DELETE /api/v1/logout",
    ],
)
def test_the_document_has_every_route(server: Server, route: str) -> None:
    """Those of the guide for clients, and those that it only plans."""
    method, path = route.split()

    assert method.lower() in httpx.get(f"{server.url}{DOCUMENT}", timeout=PATIENCE_S).json()["paths"][path]
