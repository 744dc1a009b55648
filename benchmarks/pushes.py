"""P5: messages pushed through the Evernest door, one a request."""

import os
import subprocess
import sys
from collections.abc import Iterator

import msgspec

from benchmarks.figures import Figure, at_least, at_most
from benchmarks.ingest import MAINSTEM, REQUESTS
from benchmarks.load import Load
from benchmarks.server import JSON, Server
from benchmarks.software import Missing
from benchmarks.stage import Stage
from benchmarks.table import Row, milliseconds, row

CONNECTIONS = 64
MESSAGES = 2_000


class _Answer(msgspec.Struct, rename="pascal"):
    response: dict[str, dict[str, str | int] | str]


class _Account(msgspec.Struct):
    user_key: str


def pushes(stage: Stage) -> Iterator[Row]:
    """A closed loop; every push is durable before its answer, as an event of DataStream is."""
    stream, key = _door(stage.server())
    messages = [f"message {number}: the temperature in room {number % 40} is fine" for number in range(MESSAGES)]
    bodies = stage.wrk().bodies("pushes", [msgspec.json.encode({"Key": key, "Message": text}) for text in messages])
    url = stage.server().url(f"/Stream/{stream}/Push")

    def measure() -> Load:
        headers = [f"Content-Type: {JSON}"]
        load = stage.wrk().post(url, bodies, headers, connections=CONNECTIONS, seconds=stage.scale.round_s)
        stage.server().process.settle()
        return load

    loads = [measure() for _ in range(stage.scale.rounds + 1)][1:]
    what = f"Evernest push, one message a request, {CONNECTIONS} connections"
    yield row("P5", what, MAINSTEM, Figure(tuple(load.rate for load in loads)), REQUESTS, at_least(40_000))
    yield row("P5", f"{what}: p95", MAINSTEM, Figure(tuple(load.p95_ms for load in loads)), milliseconds, at_most(15))


def _door(server: Server) -> tuple[int, str]:
    """A stream, and the key of a source that may push to it."""
    environment = {**os.environ, "MAINSTEM_DATA": str(server.data)}
    argv = [sys.executable, "-m", "mainstem", "user", "add", "pusher", "--json"]
    added = subprocess.run(argv, env=environment, capture_output=True, check=False)
    if added.returncode:
        raise Missing(f"`mainstem user add` failed: {added.stderr[-200:]!r}")
    user_key = msgspec.json.decode(added.stdout, type=_Account).user_key
    stream = _made(server, "Stream", StreamName="pushes", UserKey=user_key)
    source = _made(server, "Source", SourceName="pusher", UserKey=user_key)
    server.post(f"/Right/{source['Id']}/{stream['Id']}/Set/WriteOnly", {"UserKey": user_key})
    return int(stream["Id"]), str(source["Key"])


def _made(server: Server, kind: str, **parameters: str) -> dict[str, str | int]:
    answer = msgspec.convert(server.post(f"/{kind}/New", parameters), _Answer)
    made = answer.response[kind]
    assert isinstance(made, dict)
    return made
