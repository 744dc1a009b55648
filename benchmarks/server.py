"""The server under test: `python -m mainstem serve` with default settings, as a stranger starts it."""

import http.client
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from benchmarks.processes import HOST, Process, free_port
from benchmarks.software import Missing

EVENTS_PATH = "/v2/ingest/events"
BATCH_PATH = "/v2/ingest/batch"
JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
IDLE_S = 20
"""How long a connection may have been idle and still be used."""


class Server:
    """Give settings only where a figure needs them, and say so in its row."""

    durability = "fdatasync before the answer; readable at once"

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.key = "ms_" + secrets.token_urlsafe(32)
        self._environment = {"MAINSTEM_HOST": HOST, "MAINSTEM_PORT": str(self.port), "MAINSTEM_API_KEY": self.key}
        # Where it is set, every start compiles every module anew, which is not what a stranger's start does.
        self._environment |= {"MAINSTEM_DATA": str(self.data), "PYTHONDONTWRITEBYTECODE": ""}
        self._environment |= {f"MAINSTEM_{name.upper()}": str(value) for name, value in settings.items()}
        self.start()

    def start(self) -> float:
        """Start it on the data that is there, and give the seconds until it said that it is ready."""
        self._connection, self._asked_at = self._fresh(), time.monotonic()
        argv = [sys.executable, "-m", "mainstem", "serve"]
        self.process = Process(argv, self.folder, environment=self._environment)
        return self.process.wait(lambda: self.ask("GET", "/health/ready", connection=self._fresh())[0] == 200, 300)

    @property
    def headers(self) -> list[str]:
        """The last one is the Content-Type."""
        return [f"X-API-Key: {self.key}", f"Content-Type: {JSON}"]

    def url(self, path: str) -> str:
        return f"http://{HOST}:{self.port}{path}"

    def request(self, path: str, body: bytes) -> bytes:
        """A whole POST, ready to be sent on a raw connection."""
        lines = [f"POST {path} HTTP/1.1", f"Host: {HOST}:{self.port}", *self.headers, f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def _fresh(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(HOST, self.port, timeout=60)

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, connection: http.client.HTTPConnection | None = None
    ) -> tuple[int, bytes]:
        """One request on the connection that is kept open: the status and the body."""
        if time.monotonic() > self._asked_at + IDLE_S:
            self._connection.close()  # it opens again by itself, and the server may be about to close it
        self._asked_at = time.monotonic()
        line = connection or self._connection
        line.request(method, path, body, dict(header.split(": ", 1) for header in self.headers))
        answer = line.getresponse()
        return answer.status, answer.read()

    def get(self, path: str, parameters: Mapping[str, object] | Sequence[tuple[str, object]] = ()) -> dict[str, object]:
        return self._decoded(*self.ask("GET", f"{path}?{urlencode(parameters)}" if parameters else path))

    def post(self, path: str, body: object) -> dict[str, object]:
        return self._decoded(*self.ask("POST", path, msgspec.json.encode(body)))

    @staticmethod
    def _decoded(status: int, body: bytes) -> dict[str, object]:
        if status != 200:
            raise Missing(f"mainstem answered {status}: {body[:200]!r}")
        return msgspec.json.decode(body, type=dict[str, object])

    def gauge(self, name: str, **labels: str) -> float:
        """The value of a metric, without the prefix of its name. Raises Missing."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        for line in self.ask("GET", "/metrics")[1].decode().splitlines():
            key, _, value = line.rpartition(" ")
            if (
                not line.startswith("#")
                and key.partition("{")[0].endswith(name)
                and all(label in key for label in wanted)
            ):
                return float(value)
        raise Missing(f"/metrics has no {name} {labels}")

    def stored(self) -> int:
        """How many events it keeps, of all streams."""
        return int(sum(self.gauge("storage_events", state=state) for state in ("sealed", "unsealed")))

    def rest(self, timeout_s: float = 90) -> None:
        """Wait until it has sealed and merged what a load left behind: no change of its segments for 3 s, and idle."""
        deadline, seen, since = time.monotonic() + timeout_s, -1.0, time.monotonic()
        while time.monotonic() < min(deadline, since + 3):
            time.sleep(0.25)
            if (now := self.gauge("storage_segments")) != seen:
                seen, since = now, time.monotonic()
        self.process.settle()

    def count(self, stream: str) -> int:
        """How many events a reader finds in a stream."""
        found = self.get("/v2/query/events", {"stream_id": stream, "limit": 1})["total_count"]
        assert isinstance(found, int)
        return found
