"""Forms: parts as they arrive, however the bytes are cut."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.errors import Invalid, MainstemError
from mainstem.http import BodyTooLarge, Call, FormLimits, Limits, MalformedBody, UnsupportedMediaType, form_parts

BODY = (
    b'--xyz\r\nContent-Disposition: form-data; name="before"\r\n\r\none\r\n'
    b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a \xc3\xa4.wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\n\r\n--xy\r\nbytes\0\r\n"
    b'--xyz\r\nContent-Disposition: form-data; name="after"\r\n\r\n\r\n--xyz--\r\n'
)
PARTS = [("before", None, b"one"), ("file", "a ä.wav", b"\r\n--xy\r\nbytes\0"), ("after", None, b"")]


def call_with(body: bytes, cuts: tuple[int, ...] = (), media_type: str = "multipart/form-data; boundary=xyz") -> Call:
    places = [0, *sorted(cuts), len(body)]
    pieces = [body[start:end] for start, end in pairwise(places)]
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages[-1]["more_body"] = False

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    headers = [(b"content-type", media_type.encode())]
    scope: dict[str, Any] = {
        "method": "POST",
        "raw_path": b"/",
        "headers": headers,
        "client": None,
        "query_string": b"",
    }
    return Call(scope, receive, Limits())


async def read(call: Call, limit_bytes: int = 10_000, limits: FormLimits | None = None) -> list[tuple[Any, ...]]:
    return [
        (part.name, part.filename, b"".join([chunk async for chunk in part.chunks()]))
        async for part in form_parts(call, limit_bytes, limits)
    ]


@given(st.sets(st.integers(1, len(BODY) - 1)))
async def test_parts_are_the_same_however_they_are_cut_on_the_way(cuts: set[int]) -> None:
    assert await read(call_with(BODY, tuple(cuts))) == PARTS


async def test_a_part_that_nobody_reads_is_passed_over() -> None:
    assert [part.name async for part in form_parts(call_with(BODY), 10_000)] == ["before", "file", "after"]


@pytest.mark.parametrize("media_type", ["application/json", "", "multipart/mixed; boundary=xyz"])
async def test_a_body_that_is_no_form_is_refused(media_type: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        await read(call_with(BODY, media_type=media_type))


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (BODY, "multipart/form-data"),
        (BODY, "multipart/form-data; boundary=other"),
        (BODY[:-20], "multipart/form-data; boundary=xyz"),
        (b"", "multipart/form-data; boundary=xyz"),
        (b"--xyz\r\nX: y\r\n\r\n--xyz--", "multipart/form-data; boundary=xyz"),
    ],
)
async def test_a_broken_form_is_refused(body: bytes, media_type: str) -> None:
    with pytest.raises(MalformedBody):
        await read(call_with(body, media_type=media_type))


@pytest.mark.parametrize(
    ("limits", "kind"), [(FormLimits(parts_max=2), Invalid), (FormLimits(header_bytes_max=30), Invalid)]
)
async def test_a_form_beyond_its_limits_is_refused(limits: FormLimits, kind: type[MainstemError]) -> None:
    with pytest.raises(kind):
        await read(call_with(BODY), limits=limits)


async def test_a_form_over_the_limit_is_refused_while_it_is_read() -> None:
    with pytest.raises(BodyTooLarge):
        await read(call_with(BODY, (50, 100)), limit_bytes=60)


async def test_a_field_that_is_too_long_or_no_text_is_refused() -> None:
    for content, limits in ((b"x" * 100, FormLimits(field_bytes_max=99)), (b"\xff", FormLimits())):
        body = b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\n%b\r\n--xyz--\r\n' % content
        with pytest.raises(Invalid):
            [await part.text() async for part in form_parts(call_with(body), 10_000, limits)]
