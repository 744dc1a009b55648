"""WebSockets: what a route's handler gets, and what ends the connection."""

from typing import Any

import pytest

from mainstem.http import ClientGone, Socket
from mainstem.http.sockets import chosen_subprotocol


def socket_of(*messages: dict[str, Any], message_bytes_max: int | None = None) -> tuple[Socket, list[Any]]:
    """A socket whose client sends these messages, and the list of what is sent to it."""
    waiting, sent = list(messages), list[Any]()

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    return Socket(receive, send, message_bytes_max), sent


@pytest.mark.parametrize("content", [{"text": "a" * 9}, {"text": "€€€"}, {"bytes": b"\0" * 9}])
async def test_a_message_over_the_limit_ends_the_connection(content: dict[str, Any]) -> None:
    """The limit counts bytes as they are sent, and the client is told by the status for it."""
    message = {"type": "websocket.receive", **content}
    socket, sent = socket_of(message, message_bytes_max=8)
    with pytest.raises(ClientGone):
        await socket.receive()
    assert [frame.get("code") for frame in sent] == [1009]

    socket, sent = socket_of(message, message_bytes_max=9)
    assert await socket.receive() == next(iter(content.values()))


def test_the_subprotocol_is_the_clients_first_choice_that_is_spoken() -> None:
    """None of them is no reason to refuse: the server then names none."""
    assert chosen_subprotocol(["x", "b", "a"], ["a", "b"]) == "b"
    assert chosen_subprotocol(["x"], ["a"]) is None
    assert chosen_subprotocol([], ["a"]) is None
