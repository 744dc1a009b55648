"""The ActionCable protocol, `actioncable-v1-json`: what a client says, and the frames that it understands.

Everything here is pure. A client sends commands for an identifier, which is itself JSON and names a channel; what goes
back is tied to that identifier, or is about the connection as a whole.
"""

from typing import Any, Literal

import msgspec

from mainstem.errors import Invalid

SUBPROTOCOL = "actioncable-v1-json"
UNSUPPORTED = "actioncable-unsupported"
"""What clients offer beside it; one that gets nothing else knows that there is nothing to talk about."""
PING_EVERY_S = 3

MESSAGE_BYTES_MAX = 64 << 10
IDENTIFIER_CHARACTERS_MAX = 2_000

Reason = Literal["unauthorized", "invalid_request", "server_restart", "remote"]
"""Why a connection ends, in the words that clients know."""


class Subscribe(msgspec.Struct, frozen=True):
    identifier: str
    channel: str


class Unsubscribe(msgspec.Struct, frozen=True):
    identifier: str


class Perform(msgspec.Struct, frozen=True):
    """An action of a channel, with what it is given."""

    identifier: str
    action: str
    data: dict[str, Any]


type Command = Subscribe | Unsubscribe | Perform


class NotACommand(Invalid):
    """No frame of this protocol: whoever sends it does not speak it."""


class BadData(Invalid):
    """A message whose data cannot be read; the rest of it could."""

    def __init__(self, identifier: str, message: str) -> None:
        super().__init__(message)
        self.identifier = identifier


class _Frame(msgspec.Struct):
    command: str
    identifier: str
    data: str = "{}"


class _Identifier(msgspec.Struct):
    channel: str


def read(content: str | bytes) -> Command:
    """The command in a frame. Raises NotACommand, BadData."""
    if isinstance(content, bytes):
        raise NotACommand("Frames are text")
    try:
        frame = msgspec.json.decode(content, type=_Frame)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise NotACommand(f"This is no command: {error}") from error
    if len(frame.identifier) > IDENTIFIER_CHARACTERS_MAX:
        raise NotACommand(f"An identifier has at most {IDENTIFIER_CHARACTERS_MAX} characters")
    match frame.command:
        case "subscribe":
            return Subscribe(frame.identifier, _channel(frame.identifier))
        case "unsubscribe":
            return Unsubscribe(frame.identifier)
        case "message":
            return _perform(frame)
        case unknown:
            raise NotACommand(f"There is no command {unknown[:40]!r}")


def _channel(identifier: str) -> str:
    """The channel that an identifier names; "" when it names none, which is no channel of anybody's."""
    try:
        return msgspec.json.decode(identifier, type=_Identifier).channel
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""


def _perform(frame: _Frame) -> Perform:
    try:
        data = msgspec.json.decode(frame.data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadData(frame.identifier, "Malformed data: it is a JSON object, as text") from error
    action = data.pop("action", None)
    if not isinstance(action, str):
        raise BadData(frame.identifier, "Malformed data: it names no action")
    return Perform(frame.identifier, action, data)


# Frames that go out


def welcome() -> bytes:
    return b'{"type":"welcome"}'


def ping(now_s: int) -> bytes:
    return b'{"type":"ping","message":%d}' % now_s


def confirm(identifier: str) -> bytes:
    return msgspec.json.encode({"identifier": identifier, "type": "confirm_subscription"})


def reject(identifier: str) -> bytes:
    return msgspec.json.encode({"identifier": identifier, "type": "reject_subscription"})


def push(identifier: str, message: bytes) -> bytes:
    """A message, JSON already, for the subscription with this identifier."""
    return b'{"identifier":%b,"message":%b}' % (msgspec.json.encode(identifier), message)


def disconnect(reason: Reason, *, reconnect: bool) -> bytes:
    return msgspec.json.encode({"type": "disconnect", "reason": reason, "reconnect": reconnect})
