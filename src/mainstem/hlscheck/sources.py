"""Where a stream is read from: a folder, or a web server."""

import http.client
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urljoin, urlsplit

PLAYLIST_BYTES_MAX = 16 << 20
SEGMENT_BYTES_MAX = 512 << 20
_TIMEOUT_S = 30
_REDIRECTS_MAX = 5


class Unreachable(Exception):
    """It cannot be had; the message says why."""


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    """Names in lower case; empty for a file."""
    body: bytes


class Source(Protocol):
    def resolve(self, base: str, uri: str) -> str:
        """The address of what a playlist at `base` calls `uri`."""
        ...

    def read(self, address: str, size_max: int) -> Answer:
        """All of it. Raises Unreachable."""
        ...


class Folder:
    """Files; a URI may not lead out of the folder of the playlist that was asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def resolve(self, base: str, uri: str) -> str:
        return str(Path(base).parent / unquote(uri.partition("?")[0]))

    def read(self, address: str, size_max: int) -> Answer:
        path = Path(address)
        try:
            if not path.resolve().is_relative_to(self._root):
                raise Unreachable(f"lies outside of {self._root}")
            if path.stat().st_size > size_max:
                raise Unreachable(f"has more than {size_max} bytes")
            return Answer(200, {}, path.read_bytes())
        except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
            raise Unreachable(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


class Web:
    """One connection, kept open, to each server; follows redirects."""

    def __init__(self, home: str, headers: Mapping[str, str], origin: str | None) -> None:
        """`headers` may be credentials, so they go to the server of the address `home` alone, wherever its playlists
        and redirects lead."""
        parts = urlsplit(home)
        self._home = parts.scheme, parts.netloc
        self._own_headers = headers
        self._headers = {"User-Agent": "mainstem-hlscheck", "Accept-Encoding": "identity"}
        if origin is not None:
            self._headers["Origin"] = origin
        self._connections: dict[tuple[str, str], http.client.HTTPConnection] = {}

    def resolve(self, base: str, uri: str) -> str:
        return urljoin(base, uri)

    def read(self, address: str, size_max: int) -> Answer:
        for _ in range(_REDIRECTS_MAX):
            answer = self.ask("GET", address, {}, size_max)
            if answer.status not in (301, 302, 303, 307, 308) or "location" not in answer.headers:
                return answer
            address = urljoin(address, answer.headers["location"])
        raise Unreachable("redirects without end")

    def ask(self, method: str, address: str, headers: Mapping[str, str], size_max: int) -> Answer:
        """One request, no redirects; a connection that the server has closed is opened again. Raises Unreachable."""
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unreachable(f"{address} is no http address")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            try:
                return self._exchange(method, parts.scheme, parts.netloc, target, headers, size_max)
            except (http.client.RemoteDisconnected, ConnectionError):
                self._forget(parts.scheme, parts.netloc)
                return self._exchange(method, parts.scheme, parts.netloc, target, headers, size_max)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._forget(parts.scheme, parts.netloc)
            raise Unreachable(f"{method} failed: {error or type(error).__name__}") from error

    def _exchange(
        self, method: str, scheme: str, server: str, target: str, headers: Mapping[str, str], size_max: int
    ) -> Answer:
        connection = self._connections.get((scheme, server))
        if connection is None:
            connection = (
                http.client.HTTPSConnection(server, timeout=_TIMEOUT_S, context=ssl.create_default_context())
                if scheme == "https"
                else http.client.HTTPConnection(server, timeout=_TIMEOUT_S)
            )
            self._connections[scheme, server] = connection
        own = self._own_headers if (scheme, server) == self._home else {}
        connection.request(method, target, headers={**self._headers, **own, **headers})
        reply = connection.getresponse()
        body = reply.read(size_max + 1)
        if len(body) > size_max:
            self._forget(scheme, server)
            raise Unreachable(f"has more than {size_max} bytes")
        return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, body)

    def _forget(self, scheme: str, server: str) -> None:
        if connection := self._connections.pop((scheme, server), None):
            connection.close()

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
