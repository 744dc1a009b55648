"""DataStream held to its own description: requests made up from the document, answers checked against it."""

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

NOT_CHECKED = (
    # A cursor of random text, or an average of no field, fits the schema and is refused all the same.
    "positive_data_acceptance",
    # Requests without a credential are limited to sixty a minute; their answers have tests of their own.
    "ignored_auth",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this file's own: who tries everything may well delete something."""
    with serving(tmp_path_factory.mktemp("openapi") / "data") as running:
        yield running


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_route_answers_as_described(
    server: Server, subtests: pytest.Subtests, mode: schemathesis.GenerationMode
) -> None:
    """No server error, no status, type or body that the document does not have, whatever is sent."""
    load_all_checks()
    document = schemathesis.openapi.from_url(f"{server.url}/v2/openapi.json")

    for found in document.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @settings(max_examples=20, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: "schemathesis.Case[Any]") -> None:
            # A partial batch with wrong events is taken: that is what `partial` is for.
            taken = ("negative_data_rejection",) if "partial" in (case.query or {}) else ()
            excluded: list[Any] = [CHECKS.get_one(name) for name in (*NOT_CHECKED, *taken)]
            case.call_and_validate(headers={"X-API-Key": API_KEY}, excluded_checks=excluded)

        with (
            subtests.test(operation.label),
            suppress(Unsatisfiable),
        ):  # a route without parameters cannot be asked wrongly
            check()
    with server.client() as client:
        assert client.get("/v2/streams").status_code == 200, "The tests' own key was revoked on the way"


def test_the_document_is_openapi(server: Server) -> None:
    """It says the same each time, and every reference in it resolves."""
    text = httpx.get(f"{server.url}/v2/openapi.json", timeout=PATIENCE_S).text
    document = httpx.get(f"{server.url}/v2/openapi.json", timeout=PATIENCE_S).json()
    references = {part.partition('"')[0] for part in text.split('"$ref":"#/components/schemas/')[1:]}

    assert references <= document["components"]["schemas"].keys()
    assert httpx.get(f"{server.url}/v2/openapi.json", timeout=PATIENCE_S).text == text
