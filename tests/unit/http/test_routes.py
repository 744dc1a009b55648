"""Calls: what a query string may say, and when work is given up."""

import asyncio
from typing import Any

import msgspec
import pytest

from mainstem.errors import Invalid
from mainstem.http import Call, Limits
from mainstem.http.errors import ClientGone
from mainstem.http.routes import convert_query


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    limit: int = 10
    filter: list[str] = []
    exact: bool = False


def test_a_query_string_becomes_a_struct() -> None:
    """Percent-encoding, plus signs and repeated lists included."""
    assert convert_query(b"name=a%2Fb+c&limit=5&filter=x%3D1&filter=y%3D2&exact=true", Wanted) == Wanted(
        "a/b c", 5, ["x=1", "y=2"], True
    )


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (b"", "name"),
        (b"name=a&limit=x", "limit"),
        (b"name=a&limit=", "limit"),
        (b"name=a&nmae=b", "nmae"),
        (b"name=a&name=b", "name"),
        (b"name=a&exact=perhaps", "exact"),
    ],
)
def test_a_wrong_query_string_names_its_parameter(query: bytes, field: str) -> None:
    """Missing, unknown, repeated, or of another type."""
    with pytest.raises(Invalid) as raised:
        convert_query(query, Wanted)

    assert raised.value.details["field"] == field


def call_of(*messages: dict[str, Any]) -> Call:
    """A call whose client sends these messages, then says nothing more."""
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    scope: dict[str, Any] = {"method": "GET", "raw_path": b"/", "headers": [], "client": None, "query_string": b""}
    return Call(scope, receive, Limits())


async def test_work_is_given_up_when_the_client_goes() -> None:
    """Nobody waits for it, and it may hold a place that others wait for."""
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    call = call_of({"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"})
    with pytest.raises(ClientGone):
        await call.unless_gone(work())
    assert ended.is_set()


async def test_work_for_a_client_that_stays_is_done() -> None:
    """Its result and its error are the caller's."""

    async def work() -> int:
        return 7

    async def fail() -> None:
        raise Invalid("wrong")

    assert await call_of().unless_gone(work()) == 7
    with pytest.raises(Invalid):
        await call_of().unless_gone(fail())
