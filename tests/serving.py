"""A real server in a process of its own, as an operator starts it, for tests that speak HTTP to it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from waiting import PATIENCE_S

API_KEY = "ms_a-key-that-only-the-tests-know"
EMAIL = "admin@localhost"
PASSWORD = "correct horse battery staple"


class Server:
    """A running server: its address, its log, and clients for it."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str, data: Path, log: Path) -> None:
        self.process = process
        self.url = url
        self.data = data
        self.log = log

    @property
    def port(self) -> int:
        return httpx.URL(self.url).port or 80

    def client(self, key: str | None = API_KEY) -> httpx.Client:
        """A client that shows this key; None: nothing."""
        return httpx.Client(base_url=self.url, headers={} if key is None else {"X-API-Key": key}, timeout=PATIENCE_S)

    def connection(self) -> socket.socket:
        """A connection for bytes as they are."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def stop(self) -> int:
        """End it as an operator does; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def has_logged(self, event: str) -> bool:
        return any(line.get("event") == event for line in self.log_lines())

    def log_lines(self) -> list[dict[str, object]]:
        return [line for line in map(_decoded, self.log.read_bytes().splitlines()) if line is not None]


@contextmanager
def serving(data: Path, **settings: object) -> Iterator[Server]:
    """A server on a free port with this data folder and these settings, ready for requests."""
    log = data.parent / f"{data.name}.log"
    alone = {"transcode_jobs": 0, "check": "no"}  # no processes beside it, unless a test asks for them
    chosen = {"data": data, "port": 0, "api_key": API_KEY, "admin_password": PASSWORD, **alone, **settings}
    variables = {f"MAINSTEM_{name.upper()}": str(value) for name, value in chosen.items()}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mainstem", "serve"],
            env=inherited | variables,
            stdout=subprocess.DEVNULL,
            stderr=output,
        )
    try:
        yield Server(process, _url_of(process, log), data, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _url_of(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_bytes().splitlines(keepends=True):
            entry = _decoded(line) if line.endswith(b"\n") else None
            if entry is not None and entry.get("event") == "listening":
                return str(entry["url"])
        time.sleep(0.02)
    raise AssertionError(f"The server did not start. It said:\n{log.read_text()[-3_000:]}")


def _decoded(line: bytes) -> dict[str, object] | None:
    try:
        return msgspec.json.decode(line, type=dict[str, object])
    except msgspec.DecodeError:
        return None


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that this is an error of that kind in DataStream's shape, and give its details."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert body["error"]["code"] == code
    assert body["error"]["message"]
    details: dict[str, Any] = body["error"]["details"]
    return details


def send(client: httpx.Client, stream: str, *events: dict[str, Any], **parameters: str) -> dict[str, Any]:
    """Send events as one batch; the answer."""
    body = {"stream_id": stream, "events": events}
    response = client.post("/v2/ingest/batch", json=body, params=parameters)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def found(client: httpx.Client, stream: str, **parameters: str) -> list[dict[str, Any]]:
    """The events that a query answers."""
    response = client.get("/v2/query/events", params={"stream_id": stream, **parameters})
    assert response.status_code == 200, response.text
    events: list[dict[str, Any]] = response.json()["events"]
    return events
