"""WebSockets as a route's handler sees them."""

from collections.abc import Sequence

from starlette.types import Receive, Send

from mainstem.http.errors import ClientGone

NORMAL, GOING_AWAY, POLICY, TOO_BIG, INTERNAL = 1000, 1001, 1008, 1009, 1011


class Socket:
    """An open WebSocket. One task receives; any may send, and each message goes out whole."""

    def __init__(self, receive: Receive, send: Send, message_bytes_max: int | None = None) -> None:
        self._receive = receive
        self._send = send
        self._message_bytes_max = message_bytes_max
        self.closed = False

    async def receive(self) -> str | bytes:
        """The next message, text or binary as it came. Raises ClientGone.

        A message over the route's limit ends the connection (RFC 6455, section 7.4.1: status 1009).
        """
        message = await self._receive()
        if message["type"] != "websocket.receive":
            self.closed = True
            raise ClientGone
        text: str | None = message.get("text")
        content: str | bytes = bytes(message["bytes"]) if text is None else text
        if self._message_bytes_max is not None and _size(content) > self._message_bytes_max:
            await self.close(TOO_BIG, f"A message has at most {self._message_bytes_max} bytes")
            raise ClientGone
        return content

    async def send(self, text: str) -> None:
        """Waits while the client takes nothing. Raises ClientGone."""
        await self._out({"type": "websocket.send", "text": text})

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Nothing happens where it is closed."""
        if not self.closed:
            self.closed = True
            await self._out({"type": "websocket.close", "code": code, "reason": reason})

    async def _out(self, message: dict[str, object]) -> None:
        try:
            await self._send(message)
        except OSError as error:  # what ASGI servers raise when nobody is there
            self.closed = True
            raise ClientGone from error


def _size(content: str | bytes) -> int:
    return len(content) if isinstance(content, bytes) or content.isascii() else len(content.encode())


def chosen_subprotocol(offered: Sequence[str], spoken: Sequence[str]) -> str | None:
    """The first of the client's subprotocols that is spoken here; None: go on without one."""
    return next((name for name in offered if name in spoken), None)
