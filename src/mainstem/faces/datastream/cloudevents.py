"""CloudEvents over HTTP: how they are told apart, and those in binary mode as structured ones."""

from base64 import b64encode
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Raw

from mainstem.http import JSON, Call, MalformedBody

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

_PREFIX = "ce-"


def is_binary(call: Call) -> bool:
    """Whether the attributes are headers, and the body is the data, of whatever type."""
    return "ce-specversion" in call.headers and not call.media_type.startswith("application/cloudevents")


def structured(call: Call, body: bytes) -> bytes:
    """An event in binary mode in the JSON format: data that is JSON as it is, text as text, all else in base64.

    Raises MalformedBody for data that is no JSON though its Content-Type says so.
    """
    event: dict[str, object] = {
        name.removeprefix(_PREFIX): _decoded(value)
        for name, value in call.headers.items()
        if name.startswith(_PREFIX) and name not in ("ce-data", "ce-data_base64", "ce-datacontenttype")
    }
    if "content-type" in call.headers:
        event["datacontenttype"] = call.headers["content-type"]
    if body:
        name, data = _data(call.media_type, body)
        event[name] = data
    return msgspec.json.encode(event)


def _data(media_type: str, body: bytes) -> tuple[str, object]:
    if media_type in (JSON, "") or media_type.endswith("+json"):
        try:
            body.decode()
            return "data", msgspec.json.decode(body, type=Raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedBody(f"The data is not valid JSON: {error}") from error
    if media_type.startswith("text/"):
        try:
            return "data", body.decode()
        except UnicodeDecodeError:
            pass
    return "data_base64", b64encode(body).decode()


def _decoded(value: str) -> str:
    """Percent-encoding undone; what is no UTF-8 then shows as such."""
    quoted = len(value) >= 2 and value[0] == value[-1] == '"'
    text = value[1:-1].replace('\\"', '"').replace("\\\\", "\\") if quoted else value
    return unquote_to_bytes(text.encode("latin-1")).decode(errors="replace")
