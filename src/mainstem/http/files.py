"""Answers that are files: whole or in part, unless the client has them already (RFC 9110, sections 13 and 14)."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import NamedTuple

import msgspec

from mainstem.errors import Invalid
from mainstem.http.routes import Answer, Call

_RANGES_MAX = 16
_RANGE = re.compile(r"[ \t]*(\d{0,19})-(\d{0,19})[ \t]*")


class RangeNotSatisfiable(Invalid):
    """None of the bytes that are asked for exist. `size` in the details says how many there are."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a file before it is read."""

    size: int
    etag: str
    """What is in quotes in the ETag header: it changes whenever the content does."""
    media_type: str
    headers: list[tuple[str, str]] = []
    modified_us: int | None = None
    compress: bool = False
    """It is text, which the client may like compressed; its ETag is then a weak one."""

    @property
    def entity_tag(self) -> str:
        return f'W/"{self.etag}"' if self.compress else f'"{self.etag}"'


class Span(NamedTuple):
    """The bytes from `start` to before `end`."""

    start: int
    end: int


async def file_answer(call: Call, file: File, read: Callable[[int, int], Awaitable[bytes]]) -> Answer:
    """The file, the range of it that is asked for, or that the client has it already.

    `read` gives the bytes from one offset to before another. Of several ranges none is served: the answer is then the
    whole file, as RFC 9110 allows. Raises RangeNotSatisfiable.
    """
    headers = [("etag", file.entity_tag), ("accept-ranges", "bytes"), *file.headers]
    if file.modified_us is not None:
        headers.append(("last-modified", _http_date(file.modified_us)))
    if _has_it(call, file):
        return Answer(304, headers=headers)
    span = _asked_span(call, file)
    if span is None:
        body = await read(0, file.size)
        return Answer(200, body, file.media_type, headers, compress=file.compress)
    headers.append(("content-range", f"bytes {span.start}-{span.end - 1}/{file.size}"))
    body = await read(span.start, span.end)
    return Answer(206, body, file.media_type, headers, compress=False)


def parse_range(header: str, size: int) -> Span | None:
    """The one range that is asked for; None: the header is to be ignored. Raises RangeNotSatisfiable."""
    unit, equals, specs = header.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return None
    ranges = specs.split(",", _RANGES_MAX)
    matches = [_RANGE.fullmatch(one) for one in ranges]
    if len(ranges) > 1 or matches[0] is None:
        return None
    first, last = matches[0].groups()
    if not first and not last:
        return None
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    if start >= end:
        raise RangeNotSatisfiable(f"There are {size} bytes, and none of those that are asked for", size=size)
    return Span(start, end)


def _asked_span(call: Call, file: File) -> Span | None:
    header = call.headers.get("range")
    if header is None or call.method != "GET":
        return None
    condition = call.headers.get("if-range")
    return parse_range(header, file.size) if condition is None or _is_unchanged(condition, file) else None


def _is_unchanged(condition: str, file: File) -> bool:
    """If-Range compares strongly: a weak tag never matches, and a date only exactly."""
    if condition.endswith('"'):
        return not file.compress and condition == file.entity_tag
    return file.modified_us is not None and condition == _http_date(file.modified_us)


def _has_it(call: Call, file: File) -> bool:
    tags = call.headers.get("if-none-match")
    if tags is not None:
        return tags.strip() == "*" or f'"{file.etag}"' in [one.strip().removeprefix("W/") for one in tags.split(",")]
    since = call.headers.get("if-modified-since")
    return since is not None and file.modified_us is not None and _not_after(file.modified_us, since)


def _not_after(modified_us: int, since: str) -> bool:
    try:
        return modified_us // 1_000_000 <= int(parsedate_to_datetime(since).timestamp())
    except (ValueError, OverflowError):
        return False


def _http_date(time_us: int) -> str:
    return format_datetime(datetime.fromtimestamp(time_us // 1_000_000, UTC), usegmt=True)
