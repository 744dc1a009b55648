"""Uploads that go on where they broke off, as tus 1.0.0 has them, with most of its extensions."""

import base64
import binascii
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

from mainstem.clock import SECOND_US
from mainstem.errors import Invalid
from mainstem.faces.streamserver import wire
from mainstem.faces.streamserver.access import Access, owner_of
from mainstem.http import Answer, BodyTooLarge, Call, Header, Reply, Route
from mainstem.identity import Role, Scope
from mainstem.transcode import (
    CHECKSUMS,
    Checksum,
    Resumable,
    ResumableUploads,
    TooLarge,
    Transcodes,
    order_of,
)

TAG = "Resumable uploads"
VERSION = "1.0.0"
RESUMABLE = ("tus-resumable", VERSION)
"""What every answer carries."""
EXTENSIONS = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "expiration",
    "checksum",
    "termination",
    "concatenation",
)
PATH = "/v1/stream/uploads"
BYTES = "application/offset+octet-stream"
REQUEST_HEADERS = (
    "Tus-Resumable",
    "Upload-Length",
    "Upload-Defer-Length",
    "Upload-Offset",
    "Upload-Metadata",
    "Upload-Checksum",
    "Upload-Concat",
    "X-HTTP-Method-Override",
)
ANSWER_HEADERS = (
    "Tus-Resumable",
    "Tus-Version",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Checksum-Algorithm",
    "Upload-Offset",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Expires",
    "Upload-Concat",
    "Stream-Job-Id",
)

_NUMBER = re.compile(r"[0-9]{1,18}")
_ID = re.compile(rf"(?:https?://[^/\s]+)?{PATH}/([0-9a-f]{{32}})")
_METADATA_BYTES_MAX = 16 * 1_024
_METADATA_KEYS_MAX = 64


class Tus:
    """Answers the routes under /v1/stream/uploads. Once an upload is complete it becomes a job by itself."""

    def __init__(
        self,
        uploads: ResumableUploads,
        transcodes: Transcodes,
        access: Access,
        count: Callable[[Call], None],
    ) -> None:
        self._uploads = uploads
        self._transcodes = transcodes
        self._access = access
        self._count = count

    # Routes

    async def options(self, call: Call) -> Answer:
        return Answer(
            204,
            headers=[
                ("tus-version", VERSION),
                ("tus-extension", ",".join(EXTENSIONS)),
                ("tus-max-size", str(self._uploads.length_max)),
                ("tus-checksum-algorithm", ",".join(CHECKSUMS)),
            ],
        )

    async def create(self, call: Call) -> Answer:
        _require_version(call)
        self._count(call)
        concat = call.headers.get("upload-concat", "")
        metadata = parse_metadata(call.headers.get("upload-metadata", ""))
        order_of(metadata)  # now, so that nobody sends a file for an order that cannot be
        if concat.startswith("final;"):
            upload = await self._uploads.concatenate(owner_of(call), self._parts(call, concat), metadata)
        else:
            length = _number(call, "upload-length")
            if length is None and call.headers.get("upload-defer-length") != "1":
                raise Invalid("Say in Upload-Length how long the upload is, or Upload-Defer-Length: 1")
            is_part = concat == "partial"
            upload = await self._uploads.create(owner_of(call), length, metadata, is_part=is_part)
        headers = [("location", f"{PATH}/{upload.id}")]
        async with self._uploads.held(upload.id):
            if call.media_type == BYTES:
                upload = await self._append(call, upload)
            return Answer(201, headers=[*headers, *await self._facts(call, upload)])

    async def head(self, call: Call) -> Answer:
        _require_version(call)
        upload = self._found(call)
        async with self._uploads.held(upload.id):
            upload = self._found(call)
            facts = await self._facts(call, upload)
        length = (
            [("upload-length", str(upload.length))] if upload.length is not None else [("upload-defer-length", "1")]
        )
        about = [("upload-metadata", _metadata_text(upload.metadata))] if upload.metadata else []
        if upload.is_part:
            about.append(("upload-concat", "partial"))
        elif upload.parts:
            about.append(("upload-concat", "final;" + " ".join(f"{PATH}/{part}" for part in upload.parts)))
        return Answer(200, headers=[("cache-control", "no-store"), *length, *about, *facts])

    async def patch(self, call: Call) -> Answer:
        _require_version(call)
        upload = self._found(call)
        offset = _number(call, "upload-offset")
        if call.media_type != BYTES:
            raise wire.WrongPatch(f"The bytes of an upload come as {BYTES}", accepted=[BYTES])
        if offset is None:
            raise Invalid("Say in Upload-Offset where the bytes belong")
        async with self._uploads.held(upload.id):
            length = _number(call, "upload-length")
            if length is not None:
                await self._uploads.declare_length(upload.id, length)
            upload = await self._append(call, self._found(call), offset)
            return Answer(204, headers=await self._facts(call, upload))

    async def delete(self, call: Call) -> Answer:
        _require_version(call)
        upload = self._found(call)
        async with self._uploads.held(upload.id):
            await self._uploads.end(upload.id)
        return Answer(204)

    async def override(self, call: Call) -> Answer:
        """For clients that can send nothing but GET and POST."""
        methods: Mapping[str, Callable[[Call], Awaitable[Answer]]] = {"PATCH": self.patch, "DELETE": self.delete}
        method = methods.get(call.headers.get("x-http-method-override", "").upper())
        if method is None:
            raise Invalid("Say in X-HTTP-Method-Override what is meant: PATCH or DELETE")
        return await method(call)

    # What they do

    def _found(self, call: Call) -> Resumable:
        return self._find(call, call.path("upload_id"))

    def _find(self, call: Call, upload_id: str) -> Resumable:
        caller = self._access.caller(call)

        def may_see(upload: Resumable) -> bool:
            return caller is None or caller.role is Role.ADMIN or upload.owner == caller.account

        return self._uploads.find(upload_id, may_see)

    def _parts(self, call: Call, concat: str) -> list[Resumable]:
        matches = [_ID.fullmatch(address) for address in concat.removeprefix("final;").split()]
        if None in matches or not matches:
            raise Invalid("Upload-Concat names the parts by their addresses, with spaces between")
        return [self._find(call, match[1]) for match in matches if match is not None]

    async def _append(self, call: Call, upload: Resumable, offset: int = 0) -> Resumable:
        left = (self._uploads.length_max if upload.length is None else upload.length) - upload.offset
        try:
            return await self._uploads.append(upload.id, offset, _chunks(call, left), _checksum(call))
        except BodyTooLarge as error:
            if upload.length is None:
                limit = self._uploads.length_max
                raise TooLarge(f"The file is over the limit of {limit} bytes", limit_bytes=limit) from error
            raise Invalid("These are more bytes than the upload was to have") from error

    async def _facts(self, call: Call, upload: Resumable) -> list[tuple[str, str]]:
        """What every answer about an upload says; one that is complete becomes a job here, if it is none yet."""
        if upload.is_complete and not upload.is_part and upload.job is None:
            upload = await self._complete(upload)
        expires = datetime.fromtimestamp(self._uploads.expires_us(upload) // SECOND_US, UTC)
        headers = [
            ("upload-offset", str(upload.offset)),
            ("upload-expires", format_datetime(expires, usegmt=True)),
        ]
        if upload.job is None:
            return headers
        job = ("stream-job-id", upload.job)
        # The address of an upload is needed where it is made; that of its job, everywhere else.
        is_new = call.method == "POST" and "x-http-method-override" not in call.headers
        return [*headers, job] if is_new else [*headers, job, ("location", f"/v1/stream/job/{upload.job}")]

    async def _complete(self, upload: Resumable) -> Resumable:
        """Make it a job of whoever began it, not of who sent the last of it.

        When it is no good, the upload is over; when there is no room for now, it stays.
        """
        filename = upload.metadata.get("filename") or upload.metadata.get("name") or ""
        intake = self._transcodes.upload(filename)
        try:
            async for chunk in self._uploads.content(upload.id):
                await intake.write(chunk)
            job = await self._transcodes.accept(upload.owner, intake, order_of(upload.metadata))
        except Invalid:
            await intake.abort()
            await self._uploads.end(upload.id)
            raise
        except BaseException:
            await intake.abort()
            raise
        return await self._uploads.settle(upload.id, job.id)


async def _chunks(call: Call, left: int) -> AsyncIterator[bytes]:
    async for chunk in call.chunks(left):
        yield chunk


def parse_metadata(header: str) -> dict[str, str]:
    """`filename d29ybGQ=,codec`: names, and values in base64. Raises Invalid."""
    metadata: dict[str, str] = {}
    if len(header) > _METADATA_BYTES_MAX:
        raise Invalid(f"Upload-Metadata has at most {_METADATA_BYTES_MAX} bytes")
    for pair in filter(None, (pair.strip() for pair in header.split(","))):
        name, _, value = pair.partition(" ")
        if name in metadata or len(metadata) >= _METADATA_KEYS_MAX:
            raise Invalid(f"Upload-Metadata names {name[:40]!r} twice, or more than {_METADATA_KEYS_MAX} things")
        try:
            metadata[name] = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Invalid(f"Upload-Metadata: the value of {name[:40]!r} is not base64 of UTF-8") from error
    return metadata


def _metadata_text(metadata: Mapping[str, str]) -> str:
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}".rstrip() for name, value in metadata.items())


def _checksum(call: Call) -> Checksum | None:
    header = call.headers.get("upload-checksum")
    if header is None:
        return None
    algorithm, _, text = header.strip().partition(" ")
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Invalid("Upload-Checksum is the name of an algorithm and a checksum in base64") from error
    if algorithm not in CHECKSUMS:
        raise Invalid(f"Upload-Checksum: {algorithm[:20]!r} is not known here, only {', '.join(CHECKSUMS)}")
    return Checksum(algorithm, digest)


def _number(call: Call, name: str) -> int | None:
    text = call.headers.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text.strip()):
        raise Invalid(f"{name.title()} is a whole number of bytes")
    return int(text)


def _require_version(call: Call) -> None:
    """Raises WrongVersion."""
    if call.headers.get("tus-resumable") != VERSION:
        raise wire.WrongVersion(f"Send Tus-Resumable: {VERSION}, which is the version of tus spoken here")


# The table of routes

_VERSION_HEADER = Header("Tus-Resumable", f"Must be {VERSION}", 16)
_HEADERS = {
    "length": Header("Upload-Length", "How many bytes the file has", 18),
    "defer": Header("Upload-Defer-Length", "`1`: the length comes later", 1),
    "offset": Header("Upload-Offset", "How many bytes are there already", 18),
    "metadata": Header(
        "Upload-Metadata", "Names and values in base64: `filename`, and the fields of the form", _METADATA_BYTES_MAX
    ),
    "checksum": Header("Upload-Checksum", f"{', '.join(CHECKSUMS)}, and the checksum in base64", 128),
    "concat": Header("Upload-Concat", "`partial`, or `final;` and the addresses of the parts", 8_192),
}


def tus_routes(tus: Tus) -> list[Route]:
    one = f"{PATH}/{{upload_id}}"
    create = ("length", "defer", "metadata", "concat", "checksum")
    return [
        Route(
            method="OPTIONS",
            path=PATH,
            name="upload_options",
            summary="See what of tus is spoken here",
            tag=TAG,
            public=True,
            handler=tus.options,
            replies={204: Reply("The headers say it")},
        ),
        _route("POST", PATH, "upload_begin", "Begin an upload", tus.create, 201, *create),
        _route("HEAD", one, "upload_offset", "See how far an upload is", tus.head, 200),
        _route("PATCH", one, "upload_append", "Go on with an upload", tus.patch, 204, "offset", "length", "checksum"),
        _route("DELETE", one, "upload_end", "End an upload", tus.delete, 204),
        _route("POST", one, "upload_override", "PATCH or DELETE, for clients that have only POST", tus.override, 204),
    ]


def _route(
    method: str,
    path: str,
    name: str,
    summary: str,
    handler: Callable[[Call], Awaitable[Answer]],
    status: int,
    *headers: str,
) -> Route:
    return Route(
        method=method,
        path=path,
        name=name,
        summary=summary,
        tag=TAG,
        scope=Scope.EVENTS_WRITE,
        headers=[_VERSION_HEADER, *(_HEADERS[header] for header in headers)],
        handler=handler,
        replies={status: Reply("The headers say how far it is, and which job it became once it is complete")},
        errors=[
            "WRONG_VERSION",
            "WRONG_OFFSET",
            "UPLOAD_BUSY",
            "CHECKSUM_MISMATCH",
            "PAYLOAD_TOO_LARGE",
            "NOT_AUDIO",
            "NOT_BYTES",
        ],
    )
