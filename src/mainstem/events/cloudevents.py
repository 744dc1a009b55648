"""CloudEvents 1.0 in their JSON format, as events of ours, with nothing of them lost."""

import binascii
import re
from base64 import b64decode
from hashlib import blake2b
from typing import NamedTuple

import msgspec
from msgspec import Raw

_REQUIRED = ("id", "source", "specversion", "type")
_MAPPED = ("type", "time", "data", "data_base64")
_NAME = re.compile(r"[a-z0-9]+")

type _Attribute = str | bool | int

_members = msgspec.json.Decoder(dict[str, Raw])
_attribute: msgspec.json.Decoder[_Attribute] = msgspec.json.Decoder(str | bool | int)
_OBJECT = (b"{",)


class NoCloudEvent(Exception):
    """An attribute is missing or wrong; the message names it."""


class Translation(NamedTuple):
    """A CloudEvent in our words."""

    event_type: str
    timestamp: str | None
    data: Raw
    metadata: Raw
    event_id: str
    stream_id: str


def translate(event: bytes | Raw) -> Translation:
    """A CloudEvent as an event of ours.

    `type` and `time` are the event's type and timestamp. `data` stays as it is when it is an object; anything else
    becomes `{"value": …}`, and `data_base64` becomes `{"base64": "…"}`. All other attributes are metadata, so that the
    CloudEvent can be made again. `source` and `id` together are what makes a repeat. The stream is the extension
    `streamid`, else the source, as it is.

    Raises NoCloudEvent, and msgspec's errors for what is no JSON object.
    """
    members = {name: value for name, value in _members.decode(event).items() if bytes(value) != b"null"}
    attributes = {name: _read(name, value) for name, value in members.items() if name not in ("data", "data_base64")}
    for name in _REQUIRED:
        if not isinstance(value := attributes.get(name), str) or not value:
            raise NoCloudEvent(f"the attribute {name!r} must be there, a text that is not empty")
    if attributes["specversion"] != "1.0":
        raise NoCloudEvent("the attribute 'specversion' must be \"1.0\"")
    time, stream_id = attributes.get("time"), attributes.get("streamid", attributes["source"])
    if not isinstance(time, str | None) or not isinstance(stream_id, str):
        raise NoCloudEvent("the attributes 'time' and 'streamid' must be text")
    return Translation(
        event_type=str(attributes["type"]),
        timestamp=time,
        data=_data(members),
        metadata=Raw(msgspec.json.encode({name: value for name, value in members.items() if name not in _MAPPED})),
        event_id=_identity(str(attributes["source"]), str(attributes["id"])),
        stream_id=stream_id,
    )


def _read(name: str, value: Raw) -> _Attribute:
    if not _NAME.fullmatch(name):
        raise NoCloudEvent(f"the attribute {name[:64]!r} is not named with lower-case letters and digits alone")
    try:
        return _attribute.decode(value)
    except msgspec.ValidationError as error:
        raise NoCloudEvent(f"the attribute {name[:64]!r} must be text, true, false or a whole number") from error


def _data(members: dict[str, Raw]) -> Raw:
    data, encoded = members.get("data"), members.get("data_base64")
    if data is not None and encoded is not None:
        raise NoCloudEvent("it has both 'data' and 'data_base64'")
    if data is not None:
        return data if bytes(data).startswith(_OBJECT) else Raw(b'{"value":%b}' % bytes(data))
    if encoded is not None:
        try:
            b64decode(msgspec.json.decode(encoded, type=str), validate=True)
        except (msgspec.ValidationError, binascii.Error, ValueError) as error:
            raise NoCloudEvent("'data_base64' is not text in base64") from error
        return Raw(b'{"base64":%b}' % bytes(encoded))
    return Raw(b"{}")


def _identity(source: str, id_: str) -> str:
    """Of a fixed length, for a source alone may be longer than an event_id."""
    return f"ce:{blake2b(f'{source}\0{id_}'.encode(), digest_size=16).hexdigest()}"
