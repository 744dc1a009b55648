"""DataStream's health, metrics and description of itself, and how a server starts and stops."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving import API_KEY, Server, refused, send, serving
from waiting import PATIENCE_S, wait_until


def metrics(client: httpx.Client) -> dict[str, Any]:
    answer: dict[str, Any] = client.get("/v2/metrics").json()
    return answer


@pytest.mark.parametrize("path", ["/health", "/v2/health"])
def test_health_is_as_documented(server: Server, path: str) -> None:
    """Open to all, with the members that each API has, and no others."""
    response = httpx.get(f"{server.url}{path}", timeout=PATIENCE_S)
    body = response.json()

    assert response.status_code == 200
    assert body.keys() == {"status", "components", "timestamp", "version"}
    assert body["status"] == "healthy"
    assert body["components"] == dict.fromkeys(("ingestion", "processing", "storage", "delivery"), "healthy")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", body["timestamp"])


@pytest.mark.parametrize(
    ("path", "answer"),
    [("/health/live", {"status": "ok"}), ("/health/ready", {"status": "ready", "database": "connected"})],
)
def test_a_server_that_runs_is_live_and_ready(server: Server, path: str, answer: dict[str, str]) -> None:
    """For whoever decides about restarts and traffic."""
    response = httpx.get(f"{server.url}{path}", timeout=PATIENCE_S)

    assert (response.status_code, response.json()) == (200, answer)


def test_a_full_disk_is_unhealthy_and_refuses_writes(tmp_path: Path) -> None:
    """503 with Retry-After and the reason; what is stored stays readable."""
    with serving(tmp_path / "data") as server, server.client() as client:
        send(client, "kept", {"event_type": "x"})
        server.stop()
    with serving(tmp_path / "data", disk_free_bytes_min=1 << 60) as server, server.client() as client:
        body = {"stream_id": "kept", "events": [{"event_type": "x"}]}
        wait_until(lambda: client.get("/health/ready").status_code != 200)
        refusal = client.post("/v2/ingest/batch", json=body)
        health = client.get("/health")

        refused(refusal, 503, "UNAVAILABLE")
        assert int(refusal.headers["retry-after"]) >= 1
        assert health.status_code == 503
        assert health.json()["status"] == health.json()["components"]["ingestion"] == "unhealthy"
        assert health.json()["reasons"]["ingestion"]
        not_ready = client.get("/health/ready").json()
        assert not_ready["status"] == "not ready"
        assert not_ready["error"]
        assert client.get("/v2/query/events?stream_id=kept").json()["total_count"] == 1


def test_little_room_is_degraded(tmp_path: Path) -> None:
    """Before writes are refused there is a warning; they still work, so the status is 200."""
    free = shutil.disk_usage(tmp_path).free
    with serving(tmp_path / "data", disk_free_bytes_min=free // 2) as server, server.client() as client:
        health = client.get("/health")
        send(client, "kept", {"event_type": "x"})

    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["components"]["storage"] == "degraded"


def test_damage_is_told_by_its_name(tmp_path: Path) -> None:
    """Storage is unhealthy until an operator has seen to it; everything else stays readable and writable."""
    data = tmp_path / "data"
    settings = {"segment_events": 16, "unsealed_events_max": 64, "seal_age_s": 0.2, "maintain_every_s": 0.2}
    with serving(data, **settings) as server, server.client() as client:
        send(client, "kept", *[{"event_type": "x"}] * 64)
        wait_until(lambda: _only_in_segments(data / "log"))
        server.stop()
    (segment,) = data.glob("log/segments/*.parquet")
    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    segment.write_bytes(damaged)

    with serving(data, **settings) as server, server.client() as client:
        wait_until(lambda: client.get("/health").status_code == 503)
        health = client.get("/health")
        assert health.json()["components"] == {
            "ingestion": "healthy",
            "processing": "healthy",
            "storage": "unhealthy",
            "delivery": "healthy",
        }
        assert segment.stem in health.json()["reasons"]["storage"]
        assert client.get("/health/ready").status_code == 200
        send(client, "kept", {"event_type": "y"})
        assert client.get("/v2/query/events?stream_id=kept&event_type=y").json()["total_count"] == 1


def _only_in_segments(log: Path) -> bool:
    """Whether the write-ahead file is gone, too, from which a damaged segment would be made again."""
    return any(log.glob("segments/*.parquet")) and len(list(log.glob("wal/*.wal"))) == 1


def test_metrics_are_for_the_operator(server: Server, client: httpx.Client) -> None:
    """They name everybody's streams; any key of his will do, whatever its scopes."""
    key = client.post("/v2/keys", json={"name": "prometheus", "scopes": ["alerts:manage"]}).json()["key"]

    assert (
        httpx.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE_S).status_code
        == 200
    )
    refused(httpx.get(f"{server.url}/metrics", timeout=PATIENCE_S), 401, "UNAUTHENTICATED")


@pytest.mark.parametrize("path", ["/metrics", "/v2/metrics"])
def test_a_key_for_some_streams_reads_no_metrics(server: Server, client: httpx.Client, stream: str, path: str) -> None:
    """They name the others, too."""
    key = client.post("/v2/keys", json={"name": "device", "streams": [stream]}).json()["key"]

    refused(httpx.get(f"{server.url}{path}", headers={"X-API-Key": key}, timeout=PATIENCE_S), 403, "PERMISSION_DENIED")


def test_prometheus_reads_the_metrics(client: httpx.Client, stream: str) -> None:
    """In its own format, with base units, one prefix, and no sample twice."""
    send(client, stream, {"event_type": "x"})
    response = client.get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(response.text)}

    assert response.headers["content-type"].startswith("text/plain")
    assert all(name.startswith("mainstem_") for name in families)
    wanted = {
        "mainstem_events_ingested",
        "mainstem_stream_events",
        "mainstem_ingest_errors",
        "mainstem_ingest_commit_duration_seconds",
        "mainstem_http_requests",
        "mainstem_http_request_duration_seconds",
        "mainstem_storage_bytes",
        "mainstem_storage_utilization_ratio",
    }
    assert wanted <= families.keys()
    for family in families.values():
        samples = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
        assert len(set(samples)) == len(samples)


def test_metrics_count(client: httpx.Client, stream: str) -> None:
    """Events, by stream as well, and requests, with p50, p95 and p99."""
    before = metrics(client)
    send(client, stream, *[{"event_type": "x"}] * 5)
    after = metrics(client)

    assert after["events_ingested_total"] == before["events_ingested_total"] + 5
    assert {"labels": {"stream": stream}, "value": 5} in after["stream_events_total"]
    assert after["log_tail_cut_bytes"] == 0
    batches = [one for one in after["http_request_duration_seconds"] if one["labels"]["route"] == "ingest_batch"]
    assert all(0 < one["p50"] <= one["p95"] <= one["p99"] for one in batches)
    commits = after["ingest_commit_duration_seconds"]
    assert 0 < commits["p50"] <= commits["p95"] <= commits["p99"]


def test_refused_events_are_counted_by_stream(client: httpx.Client, stream: str) -> None:
    """So that an error rate can be told for each."""
    send(client, stream, {"event_type": "x"})
    client.post("/v2/ingest/batch", json={"stream_id": stream, "events": [{"event_type": ""}]})
    client.post("/v2/ingest/events", json={"stream_id": stream, "event_type": ""})

    counted = [one for one in metrics(client)["ingest_errors_total"] if one["labels"]["stream"] == stream]
    assert counted == [{"labels": {"stream": stream, "code": "INVALID_EVENT"}, "value": 2}]


def test_the_document_tells_every_route(server: Server) -> None:
    """OpenAPI 3.1, open to all; what it says of errors has the shape that errors have."""
    document = httpx.get(f"{server.url}/v2/openapi.json", timeout=PATIENCE_S).json()
    operations = [one for path in document["paths"].values() for one in path.values()]

    assert document["openapi"] == "3.1.0"
    assert {"/v2/ingest/events", "/v2/query/aggregate", "/v2/streams/{stream_id}", "/health"} <= document[
        "paths"
    ].keys()
    assert len({one["operationId"] for one in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"]
        assert {"500", "503"} <= operation["responses"].keys()


def test_a_stopping_server_answers_what_is_under_way(tmp_path: Path) -> None:
    """SIGTERM in the middle of a body: the answer still comes, and the process then ends long before it has to."""
    body = json.dumps({"stream_id": "kept", "events": [{"event_type": "x"}]}).encode()
    with serving(tmp_path / "data", shutdown_timeout_s=5 * PATIENCE_S) as server:
        with server.connection() as connection:
            head = (
                f"POST /v2/ingest/batch HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nExpect: 100-continue\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            connection.sendall(head.encode())
            assert connection.recv(65_536).startswith(b"HTTP/1.1 100")
            connection.sendall(body[:10])
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: server.has_logged("stopping"))
            time.sleep(0.3)  # while it closes the connections that wait for nothing
            connection.sendall(body[10:])

            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        assert server.process.wait(PATIENCE_S) == 0
        assert [line["event"] for line in server.log_lines()][-2:] == ["stopping", "stopped"]


def test_an_idle_connection_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """Nor does one that never finishes its request."""
    never = 5 * PATIENCE_S
    settings = {"shutdown_timeout_s": 1, "header_timeout_s": never, "body_timeout_s": never, "keep_alive_s": never}
    with serving(tmp_path / "data", **settings) as server, server.client() as client, server.connection() as connection:
        connection.sendall(b"POST /v2/ingest/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        client.get("/health")  # its answer says that what came before was read

        assert server.stop() == 0


def test_nothing_acknowledged_is_lost_when_stopping_under_load(tmp_path: Path) -> None:
    """Every 200 that a client got is there after the next start."""
    acknowledged: list[str] = []

    def load(url: str) -> None:
        with httpx.Client(base_url=url, headers={"X-API-Key": API_KEY}, timeout=PATIENCE_S) as client:
            try:
                while True:
                    answer = client.post("/v2/ingest/events", json={"stream_id": "load", "event_type": "x"})
                    if answer.status_code != 200:
                        return
                    acknowledged.append(answer.json()["event_id"])
            except httpx.TransportError:
                return

    with serving(tmp_path / "data") as server:
        threads = [threading.Thread(target=load, args=(server.url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(acknowledged) > 20)
        assert server.stop() == 0
        for thread in threads:
            thread.join()
    with serving(tmp_path / "data") as server, server.client() as client:
        status = client.get("/v2/streams/load/status").json()

    assert status["events_processed"] >= len(acknowledged)


def test_a_second_server_on_the_same_data_is_refused(server: Server) -> None:
    """With a sentence that says what to do."""
    second = _start(MAINSTEM_DATA=str(server.data), MAINSTEM_PORT="0")

    assert second.returncode != 0
    assert "MAINSTEM_DATA" in second.stderr + second.stdout
    assert "Traceback" not in second.stderr


def test_a_port_that_is_taken_is_told(server: Server, tmp_path: Path) -> None:
    """Before anything else is touched."""
    second = _start(MAINSTEM_DATA=str(tmp_path / "data"), MAINSTEM_PORT=str(server.port))

    assert second.returncode != 0
    assert "MAINSTEM_PORT" in second.stderr + second.stdout
    assert "Traceback" not in second.stderr
    assert not (tmp_path / "data").exists()


def test_the_first_start_shows_the_way_in_once(tmp_path: Path) -> None:
    """The administrator and a key that works; the second start shows nothing."""
    shown = [_first_words(tmp_path / "data") for _ in range(2)]
    key = re.search(r"ms_\S+", shown[0])

    assert key is not None
    assert "admin@localhost" in shown[0]
    assert shown[1] == ""


def _start(**variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mainstem", "serve"]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def _first_words(data: Path) -> str:
    """What a start prints, up to the moment it listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mainstem", "serve"],
        env={"MAINSTEM_DATA": str(data), "MAINSTEM_PORT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "listening" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    return process.communicate(timeout=PATIENCE_S)[0]
