"""Pages of other origins: whom the headers let in."""

from typing import Any

import pytest

from mainstem.http import Call, Cors, Limits


def cors(*origins: str) -> Cors:
    return Cors(
        origins=frozenset(origins),
        methods=("GET", "POST"),
        request_headers=("Range", "Authorization"),
        exposed_headers=("Content-Range",),
        max_age_s=60,
    )


TWO = cors("http://localhost:5176", "https://Player.example")


def call(method: str = "GET", **headers: str) -> Call:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"method": method, "raw_path": b"/", "headers": raw, "client": None, "query_string": b""}

    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing is read of the request")

    return Call(scope, receive, Limits())


@pytest.mark.parametrize("origin", ["http://localhost:5176", "https://player.example"])
def test_each_of_several_origins_is_let_in_by_its_name(origin: str) -> None:
    headers = dict(TWO.headers(call(origin=origin)))

    assert headers["access-control-allow-origin"] == origin
    assert headers["access-control-expose-headers"] == "Content-Range"
    assert headers["vary"] == "origin"


@pytest.mark.parametrize("headers", [{"origin": "http://localhost:5177"}, {"origin": "null"}, {}])
def test_others_get_no_headers_but_that_it_depends(headers: dict[str, str]) -> None:
    """A cache in between must not hand their answer to a page that is let in."""
    assert TWO.headers(call(**headers)) == [("vary", "origin")]


def test_a_star_lets_everybody_in_and_depends_on_nothing() -> None:
    assert dict(cors("*").headers(call(origin="https://a.example"))) == {
        "access-control-allow-origin": "*",
        "access-control-expose-headers": "Content-Range",
    }


def test_a_browser_that_asks_first_is_told_what_it_may_send() -> None:
    asking = call("OPTIONS", origin="http://localhost:5176", access_control_request_method="GET")
    answer = TWO.preflight(asking)

    assert answer is not None
    assert answer.status == 204
    assert dict(answer.headers) == {
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "Range, Authorization",
        "access-control-max-age": "60",
    }


def test_a_foreign_page_that_asks_first_is_told_nothing() -> None:
    answer = TWO.preflight(call("OPTIONS", origin="https://b.example", access_control_request_method="GET"))

    assert answer is not None
    assert answer.headers == []


def test_other_questions_are_not_a_browsers() -> None:
    assert TWO.preflight(call("OPTIONS", origin="http://localhost:5176")) is None
    assert TWO.preflight(call("GET", access_control_request_method="GET")) is None
