"""Who loads the server during a soak: writers of every form, readers, followers, and people who do it wrong.

A writer numbers its events from 0. It counts what was acknowledged, and that is what must be found in the end.
"""

import itertools
import json
import random
import socket
import threading
import time
from abc import abstractmethod
from collections import defaultdict
from contextlib import suppress
from typing import Any, ClassVar

import httpx
import pyarrow as pa
from websockets.sync.client import connect

from evernest import Source
from serving import API_KEY, Server
from waiting import PATIENCE_S

STREAM = "soak"
_PAUSE_S = 0.05


class Worker(threading.Thread):
    """Does its turn again and again, with a pause; what goes wrong is kept in `failure`."""

    pause_s: ClassVar[float] = _PAUSE_S

    def __init__(self, server: Server, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.server = server
        self.failure: Exception | None = None
        self.turns = 0
        self.ending = threading.Event()

    def run(self) -> None:
        try:
            with self.server.client() as client:
                while not self.ending.is_set():
                    self.turn(client)
                    self.turns += 1
                    self.ending.wait(self.pause_s)
        except Exception as error:  # told at the end, with the worker's name
            self.failure = error

    @abstractmethod
    def turn(self, client: httpx.Client) -> None: ...


class Writer(Worker):
    """Writes `size` events a turn, each with the writer's name and a number."""

    size: ClassVar[int] = 1

    def __init__(self, server: Server, name: str) -> None:
        super().__init__(server, name)
        self.acknowledged = 0

    def turn(self, client: httpx.Client) -> None:
        numbers = range(self.acknowledged, self.acknowledged + self.size)
        answer = self.post(client, [{"writer": self.name, "number": number, "text": "x" * 80} for number in numbers])
        assert answer.status_code == 200, answer.text
        self.acknowledged += self.size

    @abstractmethod
    def post(self, client: httpx.Client, events: list[dict[str, Any]]) -> httpx.Response: ...


class Singles(Writer):
    pause_s = 0.005

    def post(self, client: httpx.Client, events: list[dict[str, Any]]) -> httpx.Response:
        return client.post("/v2/ingest/events", json={"stream_id": STREAM, "event_type": self.name, "data": events[0]})


class Batches(Writer):
    size = 100

    def post(self, client: httpx.Client, events: list[dict[str, Any]]) -> httpx.Response:
        batch = [{"event_type": self.name, "data": data} for data in events]
        return client.post("/v2/ingest/batch", json={"stream_id": STREAM, "events": batch})


class Careful(Writer):
    """Sends each request twice under one key, as after a lost answer."""

    size = 20

    def post(self, client: httpx.Client, events: list[dict[str, Any]]) -> httpx.Response:
        lines = "\n".join(json.dumps({"event_type": self.name, "data": data}) for data in events)
        headers = {
            "Content-Type": "application/x-ndjson",
            "Idempotency-Key": f"{self.name}-{self.acknowledged}",
        }
        request: dict[str, Any] = {"content": lines, "headers": headers, "params": {"stream_id": STREAM}}
        first = client.post("/v2/ingest/batch", **request)
        again = client.post("/v2/ingest/batch", **request)
        assert again.headers.get("idempotent-replayed") == "true", again.text
        return first


class CloudEvents(Writer):
    """Sends each event twice, so that its source and id must be recognised."""

    pause_s = 0.02

    def post(self, client: httpx.Client, events: list[dict[str, Any]]) -> httpx.Response:
        number = events[0]["number"]
        headers = {"ce-specversion": "1.0", "ce-id": str(number), "ce-source": self.name, "ce-type": self.name}
        request: dict[str, Any] = {"json": events[0], "headers": headers, "params": {"stream_id": STREAM}}
        first = client.post("/v2/ingest/events", **request)
        assert client.post("/v2/ingest/events", **request).json()["duplicate"] is True
        return first


class Columns(Writer):
    size = 200

    def post(self, client: httpx.Client, events: list[dict[str, Any]]) -> httpx.Response:
        batch = pa.record_batch({"event_type": [self.name] * len(events), "data": list(map(json.dumps, events))})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        return client.post(
            "/v2/ingest/batch",
            content=sink.getvalue().to_pybytes(),
            headers={"Content-Type": "application/vnd.apache.arrow.stream"},
            params={"stream_id": STREAM},
        )


class Pusher(Worker):
    """Pushes messages through the Evernest door."""

    pause_s = 0.01

    def __init__(self, server: Server, name: str, source: Source, stream: int) -> None:
        super().__init__(server, name)
        self.acknowledged = 0
        self._source = source
        self._stream = stream

    def turn(self, client: httpx.Client) -> None:
        self._source.push(self._stream, f"{self.name} {self.acknowledged}")
        self.acknowledged += 1


class Asker(Worker):
    """Pages, aggregates, pulls: the questions of both doors."""

    def turn(self, client: httpx.Client) -> None:
        page = client.get("/v2/query/events", params={"stream_id": STREAM, "order": "desc", "limit": 50})
        assert page.status_code == 200, page.text
        wanted = {
            "stream_id": STREAM,
            "aggregations": [{"operation": "count"}, {"operation": "p95", "field": "data.number"}],
            "group_by": ["data.writer"],
        }
        answer = client.post("/v2/query/aggregate", json=wanted)
        assert answer.status_code == 200, answer.text
        for path in ("/health", "/metrics", "/v2/streams", f"/v2/streams/{STREAM}/status", "/"):
            assert client.get(path).status_code == 200, path


class Changer(Worker):
    """Makes and drops streams and keys, so that what is remembered of them must be forgotten, too."""

    pause_s = 0.2

    def turn(self, client: httpx.Client) -> None:
        name = f"passing-{self.turns}"
        schema = {"required": ["a"], "title": name}
        assert client.post("/v2/streams", json={"stream_id": name, "schema": schema}).status_code == 201
        event = {"stream_id": name, "event_type": "x", "data": {"a": 1}}
        made = client.post("/v2/keys", json={"name": name, "tier": "unlimited"}).json()
        with self.server.client(made["key"]) as other:
            assert other.post("/v2/ingest/events", json=event).status_code == 200
            assert other.post("/v2/ingest/events", json={**event, "data": {}}).status_code == 400
        assert client.delete(f"/v2/keys/{made['id']}").status_code == 204
        assert client.delete(f"/v2/streams/{name}", params={"confirm": name}).status_code == 204


class Stranger(Worker):
    """Does everything wrong: half requests, nonsense, wrong keys, fresh connections each time."""

    pause_s = 0.1

    def turn(self, client: httpx.Client) -> None:
        dice = random.Random(self.turns)
        body = json.dumps({"stream_id": STREAM, "event_type": "x"}).encode()
        head = f"POST /v2/ingest/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nContent-Length: {len(body)}\r\n"
        whole = f"{head}X-Turn: {self.turns}\r\nContent-Type: text/html\r\n\r\n".encode() + body
        with socket.create_connection(("127.0.0.1", self.server.port)) as connection, suppress(OSError):
            connection.sendall(whole[: dice.randrange(len(whole))] if dice.random() < 0.5 else whole)
            if dice.random() < 0.5:
                connection.settimeout(0.2)
                connection.recv(4_096)
        refusals = (
            ("application/json", b"{"),
            ("application/json", b'{"stream_id":"soak","event_type":"x","data":"\xff"}'),
            ("application/vnd.apache.arrow.stream", dice.randbytes(300)),
            ("application/cloudevents+json", b"{}"),
        )
        for media_type, content in refusals:
            answer = client.post("/v2/ingest/batch", content=content, headers={"Content-Type": media_type})
            assert answer.status_code == 400, answer.text


class Follower(Worker):
    """Sees every event of the stream once, in the order of each writer, or is told how many it missed."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__(server, name)
        self.seen: dict[str, int] = defaultdict(int)
        self.skipped = 0
        self.ready = threading.Event()

    def turn(self, client: httpx.Client) -> None:
        raise NotImplementedError("a follower has one long turn")

    def take(self, event: dict[str, Any]) -> None:
        data = event["data"]
        writer, number = (data["writer"], data["number"]) if "writer" in data else data["message"].rsplit(" ", 1)
        expected, number = self.seen[writer], int(number)
        assert number == expected or (self.skipped and number > expected), f"{writer}: {number} after {expected - 1}"
        self.seen[writer] = number + 1


class SocketFollower(Follower):
    def run(self) -> None:
        try:
            url = f"{self.server.url}/v2/ws".replace("http", "ws")
            with connect(
                url, additional_headers={"X-API-Key": API_KEY}, max_size=None, open_timeout=PATIENCE_S
            ) as line:
                line.send(json.dumps({"op": "subscribe", "ref": 1, "stream_id": STREAM, "from": "latest"}))
                while not self.ending.is_set():
                    with suppress(TimeoutError):
                        self._hear(json.loads(line.recv(timeout=0.2)))
        except Exception as error:
            self.failure = error

    def _hear(self, frame: dict[str, Any]) -> None:
        match frame["op"]:
            case "subscribed":
                self.ready.set()
            case "events":
                for event in frame["events"]:
                    self.take(event)
            case "lagging":
                self.skipped += frame["skipped"]
            case other:
                raise AssertionError(f"{other}: {frame}")


class TailFollower(Follower):
    """Comes back after a while with the last id that it saw, as browsers do."""

    def run(self) -> None:
        last = ""
        try:
            with self.server.client() as client:
                while not self.ending.is_set():
                    last = self._follow(client, last, time.monotonic() + 5)
        except Exception as error:
            self.failure = error

    def _follow(self, client: httpx.Client, last: str, until: float) -> str:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        kind = ""
        with client.stream("GET", f"/v2/streams/{STREAM}/events", headers=headers, timeout=30) as tail:
            assert tail.status_code == 200
            self.ready.set()
            for line in tail.iter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    kind = value
                elif field == "id":
                    last = value
                elif field == "data" and kind == "lagging":
                    self.skipped += json.loads(value)["skipped"]
                elif field == "data":
                    self.take(json.loads(value))
                elif not line:
                    kind = ""
                if not field and (self.ending.is_set() or (last and time.monotonic() > until)):
                    break  # between two events, or at a sign of life
        return last


def writers(server: Server) -> list[Writer]:
    """Two of each kind."""
    kinds: tuple[type[Writer], ...] = (Singles, Batches, Careful, CloudEvents, Columns)
    return [kind(server, f"{kind.__name__}-{number}") for kind, number in itertools.product(kinds, range(2))]
