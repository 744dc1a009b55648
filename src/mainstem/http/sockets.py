"""WebSockets as a route's handler sees them."""

from starlette.types import Receive, Send

from mainstem.http.errors import ClientGone

NORMAL, GOING_AWAY, POLICY, INTERNAL = 1000, 1001, 1008, 1011


class Socket:
    """An open WebSocket. One task receives; any may send, and each message goes out whole."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.closed = False

    async def receive(self) -> str | bytes:
        """The next message, text or binary as it came. Raises ClientGone."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            self.closed = True
            raise ClientGone
        text: str | None = message.get("text")
        return bytes(message["bytes"]) if text is None else text

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
