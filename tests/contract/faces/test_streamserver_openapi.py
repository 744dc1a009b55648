"""stream-server held to its own description: requests made up from the document, answers checked against it."""

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

from serving import Server, serving
from waiting import PATIENCE_S

NOT_CHECKED = (
    # Bytes of random text, an id of no job, or metadata that are no base64 fit the schema and are refused all the same.
    "positive_data_acceptance",
    # Unknown parameters are passed over, as the server before us did.
    "negative_data_rejection",
    # Nobody has to sign in here; who must has tests of its own.
    "ignored_auth",
    # What is no tus request has nothing of it in its headers.
    "missing_required_header",
    "unsupported_method",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this file's own: who tries everything may well delete something."""
    with serving(tmp_path_factory.mktemp("openapi") / "data") as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_route_answers_as_described(
    server: Server, subtests: pytest.Subtests, mode: schemathesis.GenerationMode
) -> None:
    """No server error, no status, type or body that the document does not have, whatever is sent."""
    load_all_checks()
    document = schemathesis.openapi.from_url(f"{server.url}/v1/stream/openapi.json")

    for found in document.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @settings(max_examples=15, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: "schemathesis.Case[Any]") -> None:
            excluded: list[Any] = [CHECKS.get_one(name) for name in NOT_CHECKED]
            case.call_and_validate(excluded_checks=excluded)

        with (
            subtests.test(operation.label),
            suppress(Unsatisfiable),
        ):  # a route without parameters cannot be asked wrongly
            check()


def test_the_document_is_openapi(server: Server) -> None:
    """It says the same each time, and every reference in it resolves."""
    text = httpx.get(f"{server.url}/v1/stream/openapi.json", timeout=PATIENCE_S).text
    document = httpx.get(f"{server.url}/v1/stream/openapi.json", timeout=PATIENCE_S).json()
    references = {part.partition('"')[0] for part in text.split('"$ref":"#/components/schemas/')[1:]}

    assert references <= document["components"]["schemas"].keys()
    assert httpx.get(f"{server.url}/v1/stream/openapi.json", timeout=PATIENCE_S).text == text
