"""Files: which bytes of them go out, and when none have to."""

from typing import Any

import pytest

from mainstem.http import Answer, Call, File, Limits, RangeNotSatisfiable, file_answer
from mainstem.http.files import Span, parse_range

CONTENT = bytes(range(100))
FILE = File(size=100, etag="abc", media_type="video/mp2t", modified_us=1_710_498_600_000_000)


async def answered(method: str = "GET", file: File = FILE, **headers: str) -> Answer:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"method": method, "raw_path": b"/", "headers": raw, "client": None, "query_string": b""}

    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing is read of the request")

    async def read(start: int, end: int) -> bytes:
        return CONTENT[start:end]

    return await file_answer(Call(scope, receive, Limits()), file, read)


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-9", Span(0, 10)),
        ("bytes=90-", Span(90, 100)),
        ("bytes=-5", Span(95, 100)),
        ("bytes=-500", Span(0, 100)),
        ("bytes=95-2000", Span(95, 100)),
        ("Bytes= 1-1 ", Span(1, 2)),
        ("bytes=0-0,5-6", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=5-2", None),
        ("bytes=a-b", None),
        ("lines=0-9", None),
        ("", None),
    ],
)
def test_one_range_of_bytes_is_understood_and_anything_odd_is_ignored(header: str, span: Span | None) -> None:
    assert parse_range(header, 100) == span


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=9999999999-", "bytes=-0"])
def test_a_range_behind_the_end_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as raised:
        parse_range(header, 100)

    assert raised.value.details["size"] == 100


async def test_a_range_is_answered_with_its_place() -> None:
    answer = await answered(range="bytes=10-19")

    assert (answer.status, answer.body) == (206, CONTENT[10:20])
    assert ("content-range", "bytes 10-19/100") in answer.headers


async def test_a_range_counts_for_nothing_but_get() -> None:
    assert (await answered("HEAD", range="bytes=10-19")).status == 200


@pytest.mark.parametrize("tags", ['"abc"', 'W/"abc"', '"x", "abc"', "*"])
async def test_who_has_the_file_gets_it_not_again(tags: str) -> None:
    answer = await answered(if_none_match=tags)

    assert (answer.status, answer.body) == (304, b"")
    assert ("etag", '"abc"') in answer.headers


async def test_who_has_another_version_gets_the_file() -> None:
    assert (await answered(if_none_match='"abd"')).status == 200


@pytest.mark.parametrize(
    ("since", "status"),
    [("Fri, 15 Mar 2024 10:30:00 GMT", 304), ("Fri, 15 Mar 2024 10:29:59 GMT", 200), ("yesterday", 200)],
)
async def test_a_date_does_where_there_is_no_tag(since: str, status: int) -> None:
    assert (await answered(if_modified_since=since)).status == status
    assert (await answered(if_modified_since=since, if_none_match='"x"')).status == 200


@pytest.mark.parametrize(
    ("condition", "status"),
    [('"abc"', 206), ('W/"abc"', 200), ('"abd"', 200), ("Fri, 15 Mar 2024 10:30:00 GMT", 206), ("nonsense", 200)],
)
async def test_a_range_of_another_version_is_the_whole_file(condition: str, status: int) -> None:
    assert (await answered(range="bytes=0-9", if_range=condition)).status == status


async def test_a_file_that_may_be_compressed_has_a_weak_tag_and_its_ranges_are_not_compressed() -> None:
    file = File(size=100, etag="abc", media_type="text/plain", compress=True)

    whole, part = await answered(file=file), await answered(file=file, range="bytes=0-9")

    assert ("etag", 'W/"abc"') in whole.headers
    assert (whole.compress, part.compress) == (True, False)
    assert (await answered(file=file, range="bytes=0-9", if_range='W/"abc"')).status == 200
