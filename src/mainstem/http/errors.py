"""What can be wrong with a request before any capability has seen it."""

from mainstem.errors import Invalid, NotFound


class NoSuchRoute(NotFound):
    """No door has such a path."""


class MethodNotAllowed(Invalid):
    """The path exists, but not with this method. `allow` in the details lists those that it has."""


class NotAcceptable(Invalid):
    """The route does not answer in what the Accept header asks for."""


class UpgradeRequired(Invalid):
    """The route is a WebSocket, and the client has not asked for one."""


class UnsupportedMediaType(Invalid):
    """A Content-Type or Content-Encoding that this route does not read."""


class BodyTooLarge(Invalid):
    """The body is over the limit, as sent or after decompression."""


class BodyTooSlow(Invalid):
    """The client paused too long while sending the body."""


class MalformedBody(Invalid):
    """The body is not what its Content-Type or Content-Encoding says."""


class ClientGone(Exception):
    """The client closed the connection, or takes nothing any more: there is nobody to tell."""
