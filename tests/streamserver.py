"""What the tests of the stream-server door share: sending a file, waiting for its end, reading a playlist."""

import time
from collections.abc import Iterator
from typing import Any

import httpx

from tunes import tune
from waiting import PATIENCE_S

ENDS = ("Completed", "Failed", "Cancelled")
TUNE = tune(2.0)


def submit(client: httpx.Client, content: bytes = TUNE, /, *, filename: str = "tune.wav", **fields: str) -> str:
    """Send a file; the job's id."""
    response = client.post("/v1/stream/transcode", files={"file": (filename, content)}, data=fields)
    assert response.status_code == 200, response.text
    job: str = response.json()["job_id"]
    return job


def ended(client: httpx.Client, job: str) -> dict[str, Any]:
    """The job when it has come to its end, by following its events."""
    return [data for name, data in events(client, job) if name in ("completed", "failed", "cancelled")][-1]


def completed(client: httpx.Client, content: bytes = TUNE, /, *, filename: str = "tune.wav", **fields: str) -> str:
    """Send a file and wait until it can be played; the job's id."""
    job = submit(client, content, filename=filename, **fields)
    assert ended(client, job)["status"] == "Completed"
    return job


def events(client: httpx.Client, job: str, **headers: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a job until the server ends them: the name of each and its data."""
    deadline = time.monotonic() + PATIENCE_S
    path = f"/v1/stream/job/{job}/events"
    with client.stream("GET", path, headers={"Accept": "text/event-stream", **headers}) as response:
        assert response.status_code == 200, response.read()
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            assert time.monotonic() < deadline, "the job does not end"
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "data" in fields:
                yield fields["event"], httpx.Response(200, text=fields["data"]).json()
                fields = {}


def playlist(client: httpx.Client, job: str, path: str = "index.m3u8", folder: str = "hls") -> list[str]:
    response = client.get(f"/v1/stream/{folder}/{job}/{path}")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/vnd.apple.mpegurl"
    return response.text.splitlines()


def segments(lines: list[str]) -> list[str]:
    return [line for line in lines if line and not line.startswith("#")]


def refused(response: httpx.Response, status: int, error: str | None = None) -> str:
    """Check that this is an error in stream-server's shape; its words."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error", "status"}
    assert body["status"] == status
    assert body["error"]
    assert error is None or body["error"] == error
    said: str = body["error"]
    return said
