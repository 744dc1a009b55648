"""Forms with files (multipart/form-data, RFC 7578), read part by part while they arrive."""

from collections.abc import AsyncGenerator, AsyncIterator

import msgspec
import multipart

from mainstem.errors import Invalid
from mainstem.http.errors import MalformedBody, UnsupportedMediaType
from mainstem.http.routes import Call

FORM = "multipart/form-data"


class FormLimits(msgspec.Struct, frozen=True):
    """A form may have as many parts, fields (not files) of such a size, and so long a line in the head of a part."""

    parts_max: int = 32
    field_bytes_max: int = 16 * 1_024
    header_bytes_max: int = 8 * 1_024


class Part:
    """One field of a form. What is not read of it is passed over when the next is asked for."""

    def __init__(self, name: str, filename: str | None, events: AsyncGenerator[object], field_bytes_max: int) -> None:
        self.name = name
        self.filename = filename
        """As the client sent it, so anything; None where the field is no file."""
        self._events = events
        self._field_bytes_max = field_bytes_max
        self._is_read = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The content as it arrives, in pieces of some 64 KiB. Raises what reading a body raises."""
        while not self._is_read:
            event = await anext(self._events)
            if event is None:
                self._is_read = True
            else:
                assert isinstance(event, bytes)
                yield event

    async def text(self) -> str:
        """The whole content of a field, which is no file. Raises Invalid when it is too long or not UTF-8."""
        content = bytearray()
        async for chunk in self.chunks():
            content += chunk
            if len(content) > self._field_bytes_max:
                raise Invalid(
                    f"The field {self.name[:40]!r} is over the limit of {self._field_bytes_max} bytes", field=self.name
                )
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise Invalid(f"The field {self.name[:40]!r} is not valid UTF-8", field=self.name) from error


async def form_parts(call: Call, body_bytes_max: int, limits: FormLimits | None = None) -> AsyncGenerator[Part]:
    """The parts of a form in the order in which they come; each is read before the next is asked for.

    Raises UnsupportedMediaType when the body is no form, MalformedBody when it is a broken one, BodyTooLarge past the
    limit for all of it (as soon as that is known), BodyTooSlow and ClientGone.
    """
    limits = limits or FormLimits()
    parser = _parser(call, limits)
    events = _events(call, body_bytes_max, parser)
    try:
        async for event in events:
            assert event is not None
            part = Part(*_name_of(event), events, limits.field_bytes_max)
            yield part
            async for _ in part.chunks():
                pass
    finally:
        await events.aclose()


def _parser(call: Call, limits: FormLimits) -> multipart.PushMultipartParser:
    media_type, options = multipart.parse_options_header(call.headers.get("content-type", ""))
    if media_type != FORM:
        raise UnsupportedMediaType(
            f"This route reads {FORM}, not {media_type or 'a body without a Content-Type'}", accepted=[FORM]
        )
    try:
        return multipart.PushMultipartParser(
            options.get("boundary", ""),
            max_header_size=limits.header_bytes_max,
            max_segment_count=limits.parts_max,
        )
    except multipart.MultipartError as error:
        raise MalformedBody(f"The Content-Type is {FORM}, but its boundary is missing or wrong") from error


async def _events(
    call: Call, body_bytes_max: int, parser: multipart.PushMultipartParser
) -> AsyncGenerator[multipart.MultipartSegment | bytes | None]:
    """For each part its head, its content in pieces, and None."""
    try:
        async for chunk in call.chunks(body_bytes_max):
            if chunk and not parser.closed:
                for event in parser.parse(chunk):
                    yield event
        parser.close()
    except multipart.ParserLimitReached as error:
        raise Invalid(f"The form has too many parts, or one with too long a head: {error}") from error
    except multipart.MultipartError as error:
        raise MalformedBody(f"The body is not valid {FORM}: {error}") from error


def _name_of(head: multipart.MultipartSegment) -> tuple[str, str | None]:
    return head.name or "", head.filename
