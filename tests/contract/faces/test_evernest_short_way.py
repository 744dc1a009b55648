"""The short way of Push and the long way of all others: whoever takes which must not notice."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from evernest import Source, User
from serving import Server
from waiting import wait_until

LONG_WAY = {"X-Nothing-Special": "but not plain either"}
OUR_ID = re.compile(r"req_[\w-]{12}_[0-9a-f]+")
"""The ids that the short way gives; those of the long way are random to the end."""

TEXTS = ["", "a", "two\nlines", 'quotes " \\', "é 漢 🙂", "\x00", '{"a": 1}', "x" * 512]


@pytest.fixture
def alice(server: Server) -> Iterator[User]:
    with server.client(None) as client:
        yield User(client, server.data)


@pytest.fixture
def numbers(alice: User) -> int:
    return alice.stream()


@pytest.fixture
def source(alice: User, numbers: int) -> Source:
    """One whose key and right the short way knows."""
    source = alice.source({numbers: "ReadWrite"})
    source.push(numbers, "first")
    return source


def both(source: Source, path: str, parameters: dict[str, Any], method: str = "POST") -> list[httpx.Response]:
    """The same request on either way."""
    given: dict[str, Any] = {"params": parameters} if method == "GET" else {"json": parameters}
    return [source.client.request(method, path, headers=extra, **given) for extra in ({}, LONG_WAY)]


def common(response: httpx.Response) -> dict[str, Any]:
    """All that two answers to the same request share."""
    told = re.sub(r'"(UtcTime|Date)":"[^"]*"', "", response.text)
    told = re.sub(r'"(EventId|Id)":\d+', "", told)
    ours = ("x-request-id", "date", "content-length")
    headers = {name: value for name, value in response.headers.items() if name not in ours}
    return {"status": response.status_code, "headers": headers, "body": told}


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_both_ways_push_alike(source: Source, numbers: int, text: str, method: str) -> None:
    """Status, headers and members; both count on, and both were really taken."""

    def took_both() -> bool:
        count = len(source.messages(numbers))
        short, long = both(source, f"/Stream/{numbers}/Push", {"Key": source.key, "Message": text}, method)
        assert common(short) == common(long)
        assert (short.status_code, short.json()["Response"]["Event"]["Message"]) == (200, text)
        assert [reply.json()["Response"]["EventId"] for reply in (short, long)] == [count, count + 1]
        assert source.messages(numbers)[count:] == [text, text]
        assert not OUR_ID.fullmatch(long.headers["x-request-id"])
        return OUR_ID.fullmatch(short.headers["x-request-id"]) is not None

    wait_until(took_both)  # what the server remembers of keys it forgets now and then


@pytest.mark.parametrize(
    "change",
    [
        {"Key": "unknown"},
        {"Key": None},
        {"Key": 5},
        {"Message": None},
        {"Message": ["a"]},
        {"Message": "x" * ((1 << 20) + 1)},
    ],
    ids=str,
)
def test_both_ways_refuse_alike(source: Source, numbers: int, change: dict[str, Any]) -> None:
    parameters = {"Key": source.key, "Message": "a", **change}
    short, long = both(source, f"/Stream/{numbers}/Push", parameters)
    assert common(short) == common(long)
    assert short.status_code == 400


def test_what_is_unusual_is_taken_as_well(source: Source, numbers: int) -> None:
    """The long way has it: other cases, more members, a mixture of query and body, an encoded path, a long message."""
    asked: list[tuple[str, dict[str, str], dict[str, Any]]] = [
        (f"/STREAM/{numbers}/push/", {}, {"Key": source.key, "Message": "a"}),
        (f"/Stream/{numbers}/Push", {}, {"key": source.key, "message": "a"}),
        (f"/Stream/{numbers}/Push", {}, {"Key": source.key, "Message": "a", "More": [1]}),
        (f"/Stream/{numbers}/Push", {"Key": source.key}, {"Message": "a"}),
        (f"/Stream/{numbers}/Push", {"Key": "wrong", "Message": "b"}, {"Key": source.key, "Message": "a"}),
        (f"/Stream/{numbers}/Push", {"kEY": source.key, "mEssage": "a", "c": "d"}, {}),
        (f"/Stream/{numbers:05}/Push", {"Key": source.key, "Message": "a"}, {}),
        (f"/Stream/{numbers}/Push", {}, {"Key": source.key, "Message": "x" * 5_000}),
    ]
    for path, query, body in asked:
        reply = source.client.post(path, params=query, json=body)
        assert reply.status_code == 200, reply.text
    assert source.messages(numbers) == ["first", *["a"] * 7, "x" * 5_000]


def test_a_right_that_is_taken_ends_the_short_way_at_once(source: Source, numbers: int) -> None:
    path = f"/Stream/{numbers}/Push"
    for right, status in (("ReadOnly", 403), ("WriteOnly", 200), ("None", 403), ("ReadWrite", 200)):
        source.allow(numbers, right)
        short, long = both(source, path, {"Key": source.key, "Message": "a"})
        assert (short.status_code, long.status_code) == (status, status)
        assert common(short) == common(long)
