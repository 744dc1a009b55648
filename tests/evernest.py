"""Evernest as a client program speaks it, for tests of that door: users, their sources, and what each asks."""

import io
import json
from collections.abc import Mapping
from contextlib import redirect_stdout
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from mainstem.cli import main

RIGHTS = ("NoRight", "ReadOnly", "WriteOnly", "ReadWrite", "Admin")
READING = {"ReadOnly", "ReadWrite", "Admin"}
WRITING = {"WriteOnly", "ReadWrite", "Admin"}

_numbers = count(1)


def fresh(word: str) -> str:
    """A name that no other test uses, behind this door or another: they share a server."""
    return f"evernest-{word}-{next(_numbers)}"


class User:
    """An account with a user key, as `mainstem user add` makes it."""

    def __init__(self, client: httpx.Client, data: Path, *options: str, name: str | None = None) -> None:
        self.client = client
        self.data = data
        self.name = name or fresh("user")
        made = command("user", "add", self.name, *options, data=data)
        self.id: int = made["id"]
        self.key: str = made["user_key"]

    def ask(self, path: str, **parameters: Any) -> Any:
        return answer(self.client, path, UserKey=self.key, **parameters)

    def refused(self, path: str, *arguments: str, reason: str = "", status: int = 400, **parameters: Any) -> Any:
        return refusal(self.client, path, *arguments, reason=reason, status=status, UserKey=self.key, **parameters)

    def stream(self, name: str | None = None) -> int:
        """A stream that this user administers; its id."""
        made: int = self.ask("/Stream/New", StreamName=name or fresh("stream"))["Stream"]["Id"]
        return made

    def source(self, rights: Mapping[int, str] | None = None, name: str | None = None) -> "Source":
        """A source of this user with these rights by stream."""
        made = Source(self, self.ask("/Source/New", SourceName=name or fresh("source"))["Source"])
        for stream, right in (rights or {}).items():
            made.allow(stream, right)
        return made

    def share(self, other: "User", stream: int, right: str, **parameters: Any) -> None:
        self.ask(f"/UserRight/{other.id}/{stream}/Set/{right}", **parameters)

    def datastream_key(self) -> str:
        """An API key of the same account, for the other door."""
        scopes = [f"--scope={scope}" for scope in ("events:read", "events:write", "streams:manage")]
        made = command("key", "add", "--name", "a", "--account", self.name, "--tier=unlimited", *scopes, data=self.data)
        key: str = made["key"]
        return key


class Source:
    """A source with its key."""

    def __init__(self, owner: User, made: Mapping[str, Any]) -> None:
        self.owner = owner
        self.client = owner.client
        self.id: int = made["Id"]
        self.name: str = made["Name"]
        self.key: str = made["Key"]

    def allow(self, stream: int, right: str) -> None:
        self.owner.ask(f"/Right/{self.id}/{stream}/Set/{right}")

    def ask(self, path: str, **parameters: Any) -> Any:
        return answer(self.client, path, Key=self.key, **parameters)

    def refused(self, path: str, *arguments: str, reason: str = "", status: int = 400, **parameters: Any) -> Any:
        return refusal(self.client, path, *arguments, reason=reason, status=status, Key=self.key, **parameters)

    def push(self, stream: int, message: str) -> Any:
        return self.ask(f"/Stream/{stream}/Push", Message=message)

    def pull(self, stream: int, event: int) -> Any:
        return self.ask(f"/Stream/{stream}/Pull/{event}")["Event"]

    def messages(self, stream: int) -> list[str]:
        """All that there is, 1,000 at a time."""
        total = self.ask(f"/Stream/{stream}")["Stream"]["Count"]
        found = []
        for first in range(0, total, 1_000):
            events = self.ask(f"/Stream/{stream}/Pull/{first}/{min(first + 999, total - 1)}")["Events"]
            found += [event["Message"] for event in events]
        return found


def answer(client: httpx.Client, path: str, **parameters: Any) -> Any:
    """The Response to a POST with a JSON body."""
    return response_of(client.post(path, json=parameters))


def response_of(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    body = reply.json()
    assert set(body) == {"Success", "UtcTime", "Response"}
    assert body["Success"] is True
    return body["Response"]


def refusal(
    client: httpx.Client,
    path: str,
    *arguments: str,
    reason: str = "",
    status: int = 400,
    message: str = "BadArgument",
    **parameters: Any,
) -> Any:
    """Check that a POST is refused in this way; the error."""
    return error_of(client.post(path, json=parameters), status, message, *arguments, reason=reason)


def error_of(reply: httpx.Response, status: int, message: str, *arguments: str, reason: str = "") -> Any:
    assert reply.status_code == status, reply.text
    body = reply.json()
    assert set(body) == {"Success", "UtcTime", "Error"}
    assert body["Success"] is False
    error = body["Error"]
    assert error["Message"] == message, error
    assert error["HelpMessage"]
    assert error.get("Arguments", []) == list(arguments), error
    assert error.get("Reason", "") == reason, error
    return error


def command(*words: str, data: Path) -> Any:
    """What a command of `mainstem` answers in JSON."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert main([*words, "--data", str(data), "--json"]) == 0
    return json.loads(printed.getvalue())
