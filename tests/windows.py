"""Windows onto the shared sheet: connections to /cable as programs that speak ActionCable make them, for tests."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import ClientConnection, connect

from streamsource import Person, fresh
from waiting import PATIENCE_S

SHEET = json.dumps({"channel": "CollaborativeStreamsChannel"})
EVENTS = json.dumps({"channel": "StreamsChannel"})
PROTOCOL = "actioncable-v1-json"


class Window:
    """One connection, open at a channel."""

    def __init__(self, line: ClientConnection) -> None:
        self.line = line
        self.pings: list[int] = []

    def say(self, command: str, identifier: str = SHEET, **rest: Any) -> None:
        self.line.send(json.dumps({"command": command, "identifier": identifier, **rest}))

    def act(self, action: str, **data: Any) -> None:
        self.say("message", data=json.dumps({"action": action, **data}))

    def hear(self, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """The next frame that is no ping."""
        deadline = time.monotonic() + within_s
        while True:
            frame: dict[str, Any] = json.loads(self.line.recv(timeout=max(deadline - time.monotonic(), 0.001)))
            if frame.get("type") != "ping":
                return frame
            self.pings.append(frame["message"])

    def told(self, fits: Callable[[dict[str, Any]], bool], identifier: str = SHEET) -> dict[str, Any]:
        """The next message of a channel that fits; others before it are passed over."""
        while True:
            frame = self.hear()
            if frame.get("identifier") == identifier and "message" in frame and fits(frame["message"]):
                message: dict[str, Any] = frame["message"]
                return message

    def next(self, action: str, **facts: Any) -> dict[str, Any]:
        wanted = {"action": action, **facts}
        return self.told(lambda message: wanted.items() <= message.items())

    def refusal(self) -> dict[str, Any]:
        return self.told(lambda message: "error" in message)

    def quiet(self, *actions: str) -> bool:
        """Whether nothing of this kind is told up to the answer to a ping."""
        self.act("no_such_action")
        heard: set[Any] = set()

        def is_answer(message: dict[str, Any]) -> bool:
            heard.add(message.get("action"))
            return "error" in message

        self.told(is_answer)
        return not set(actions) & heard


@contextmanager
def opened(url: str, query: str = "", **options: Any) -> Iterator[Window]:
    """A connection, welcome. It takes whatever comes at once, while its test does something else: the server lets go of
    clients that fall behind."""
    settings = {"subprotocols": [PROTOCOL], "open_timeout": PATIENCE_S, "max_queue": None, **options}
    with connect(cable_of(url) + query, **settings) as line:
        window = Window(line)
        assert line.subprotocol == PROTOCOL
        assert window.hear() == {"type": "welcome"}
        yield window


@contextmanager
def a_window(of: Person, *identifiers: str) -> Iterator[Window]:
    """A connection, welcome, with these subscriptions confirmed."""
    with opened(url_of(of), f"?token={of.token}") as window:
        for identifier in identifiers or (SHEET,):
            window.say("subscribe", identifier)
            while window.hear() != {"identifier": identifier, "type": "confirm_subscription"}:
                pass
        yield window


def url_of(of: Person) -> str:
    return str(of.api.base_url.copy_with(path="/")).rstrip("/")


def cable_of(url: str) -> str:
    return f"{url}/cable".replace("http", "ws", 1)


def name_of(somebody: Person) -> str:
    return somebody.email.partition("@")[0]


def row(owner: Person, **fields: Any) -> int:
    """The number of a new stream."""
    number: int = owner.listing(**{"link": f"https://live.example/{fresh('row')}", **fields})["id"]
    return number


def cell(number: int, field: str = "title") -> str:
    return f"stream_{number}_{field}"
