"""Bodies: read under a limit, decompressed under the same limit, compressed when the client likes it."""

import asyncio
import io
import re
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any, Protocol

import zstandard

from mainstem.http.errors import BodyTooLarge, BodyTooSlow, ClientGone, MalformedBody, UnsupportedMediaType

COMPRESS_FROM_BYTES = 1_024
ENCODINGS = ("gzip", "zstd")

_OFF_LOOP_BYTES = 64 * 1024
"""Compressing more than this takes long enough for other requests to notice, so a thread does it."""
_UNPACK_OFF_LOOP_BYTES = 8 * 1024
_ZSTD_WINDOW_BYTES_MAX = 8 << 20  # what RFC 9659 allows a sender to ask for
_STEP_BYTES = 1_024
"""Four bytes of zstd can stand for 128 KiB, so a bomb is fed in steps and overshoots the limit by 32 MiB at most."""
_MEMBERS_MAX = 1_000
"""A body may be several compressed ones in a row, but setting up a decoder for each must not be the attack."""

type Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


async def read_body(receive: Receive, limit_bytes: int, pause_s: float) -> bytes:
    """The whole body as it was sent, counted while it arrives. Raises what `body_chunks` raises."""
    chunks = [chunk async for chunk in body_chunks(receive, limit_bytes, pause_s)]
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def body_chunks(receive: Receive, limit_bytes: int, pause_s: float) -> AsyncGenerator[bytes]:
    """The body as it arrives, in pieces as the network has them, counted.

    Raises BodyTooLarge as soon as it is over the limit, BodyTooSlow when nothing comes for `pause_s`, ClientGone.
    """
    size = 0
    while True:
        try:
            async with asyncio.timeout(pause_s):
                message = await receive()
        except TimeoutError as error:
            raise BodyTooSlow(f"The body stopped arriving for {pause_s:g} s; send it again, faster") from error
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        yield chunk
        if not message.get("more_body", False):
            return


async def decoded(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The body without its Content-Encoding; a big one is decompressed beside the loop."""
    if not encoding or encoding == "identity":
        return body
    if len(body) > _UNPACK_OFF_LOOP_BYTES:
        return await asyncio.to_thread(decompress, body, encoding, limit_bytes)
    return decompress(body, encoding, limit_bytes)


def decompress(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """Raises UnsupportedMediaType for an unknown encoding, BodyTooLarge past the limit, MalformedBody for nonsense.

    No more than the limit is ever decompressed, however small the body is.
    """
    match encoding:
        case "gzip" | "x-gzip":
            return _unpack(body, "gzip", limit_bytes, lambda: zlib.decompressobj(wbits=31))
        case "zstd":
            decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
            return _unpack(body, "zstd", limit_bytes, decompressor.decompressobj)
        case _:
            raise UnsupportedMediaType(
                f"Content-Encoding {encoding!r} is not known here; use gzip or zstd, or none", accepted=list(ENCODINGS)
            )


class _Member(Protocol):
    """One compressed stream of several that may follow each other, as zlib and zstandard both know it."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _unpack(body: bytes, encoding: str, limit_bytes: int, start: Callable[[], _Member]) -> bytes:
    plain = io.BytesIO()
    offset = 0
    try:
        for _ in range(_MEMBERS_MAX):
            if offset == len(body):
                return plain.getvalue()
            member = start()
            while not member.eof:
                if offset == len(body):
                    raise MalformedBody(f"The {encoding} body ends too early")
                step = body[offset : offset + _STEP_BYTES]
                plain.write(member.decompress(step))
                offset += len(step)
                if plain.tell() > limit_bytes:
                    raise too_large(limit_bytes)
            offset -= len(member.unused_data)
    except (zlib.error, zstandard.ZstdError) as error:
        raise MalformedBody(f"The body is not valid {encoding}, though Content-Encoding says so") from error
    raise MalformedBody(f"The {encoding} body has more than {_MEMBERS_MAX} members")


def too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body is over the limit of {limit_bytes} bytes; send it in smaller pieces", limit_bytes=limit_bytes
    )


async def compressed(body: bytes, accept_encoding: str) -> tuple[bytes, str]:
    """The body as this client likes it best, and the Content-Encoding to name; "" when it stays as it is."""
    if len(body) < COMPRESS_FROM_BYTES:
        return body, ""
    encoding = preferred_encoding(accept_encoding)
    if not encoding:
        return body, ""
    if len(body) > _OFF_LOOP_BYTES:
        return await asyncio.to_thread(_compress, body, encoding), encoding
    return _compress(body, encoding), encoding


def _compress(body: bytes, encoding: str) -> bytes:
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=3).compress(body)
    return zlib.compress(body, level=5, wbits=31)


class Compressor:
    """Compresses a body piece by piece."""

    def __init__(self, encoding: str) -> None:
        self._packer: Any
        if encoding == "zstd":
            self._packer = zstandard.ZstdCompressor(level=3).compressobj()
        else:
            self._packer = zlib.compressobj(level=5, wbits=31)

    def more(self, data: bytes) -> bytes:
        packed: bytes = self._packer.compress(data)
        return packed

    def end(self) -> bytes:
        packed: bytes = self._packer.flush()
        return packed


_QUALITY = re.compile(r"^\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*$", re.IGNORECASE)


def preferred_encoding(accept_encoding: str) -> str:
    """The best of ours by the client's own ranking, zstd before gzip where it has none; "" for neither."""
    qualities = _qualities(accept_encoding)
    rest = qualities.get("*", 0.0)
    best = max(("zstd", "gzip"), key=lambda name: qualities.get(name, rest))
    return best if qualities.get(best, rest) > 0 else ""


def _qualities(header: str) -> dict[str, float]:
    qualities: dict[str, float] = {}
    for part in header.lower().split(","):
        name, *parameters = part.split(";")
        quality = 1.0
        for parameter in parameters:
            match = _QUALITY.match(parameter)
            if match is not None:
                quality = float(match[1])
        if name.strip():
            qualities[name.strip()] = quality
    return qualities


def accepts(accept: str, media_type: str) -> bool:
    """Whether an Accept header names this media type itself (wildcards do not count)."""
    return _qualities(accept).get(media_type, 0.0) > 0
