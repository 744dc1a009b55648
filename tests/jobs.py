"""Jobs of stream-server, as its clients see them."""

import time
from pathlib import Path
from typing import Any

import httpx

from waiting import PATIENCE_S

FINAL = ("Completed", "Cancelled")


def submitted(client: httpx.Client, source: Path, **fields: str) -> str:
    """Upload a file; the job's id."""
    with source.open("rb") as file:
        response = client.post("/v1/stream/transcode", files={"file": (source.name, file)}, data=fields)
    assert response.status_code == 200, response.text
    job: str = response.json()["job_id"]
    return job


def ended(client: httpx.Client, job: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
    """The job when it has come to its end, whichever."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        response = client.get(f"/v1/stream/job/{job}")
        assert response.status_code == 200, response.text
        told: dict[str, Any] = response.json()
        if told["status"] in FINAL or told["status"].startswith("Failed"):
            return told
        time.sleep(0.05)
    raise AssertionError(f"the job did not end: {told}")


def finished(client: httpx.Client, job: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
    """The job, completed."""
    told = ended(client, job, timeout_s)
    assert told["status"] == "Completed", told
    return told
