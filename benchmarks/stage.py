"""What a run has at hand: a folder, its length, the server under test, and the peers, each started when first asked
for and stopped at the end."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import msgspec

from benchmarks import events
from benchmarks.events import Rows
from benchmarks.load import Load, Wrk
from benchmarks.peers import Nats, Postgres, Redis
from benchmarks.server import BATCH_PATH, JSON, Server
from benchmarks.software import Missing


class Scale(msgspec.Struct, frozen=True):
    """How long and how much."""

    rounds: int = 5
    round_s: float = 3
    sustained_s: float = 60
    history_events: int = 10_000_000
    """Events stored before P7 asks its questions."""
    queries: int = 20
    """Queries a round."""
    kills: int = 3
    music_s: int = 300
    """How long the sound is that is transcoded."""
    transcodes: int = 3
    """Jobs a contender."""
    restart_events: int = 0
    """Events stored before P12, at least."""


QUICK = Scale(rounds=5, round_s=1, sustained_s=8, history_events=1_000_000, queries=10, kills=1, music_s=60)
DEFAULT = Scale()
FULL = Scale(restart_events=100_000_000)


class Sustained(msgspec.Struct, frozen=True):
    """What came of the long run at full load."""

    load: Load
    events_a_second: float
    unsealed_before: float
    unsealed_after: float
    rss_before_bytes: int
    rss_peak_bytes: int


class Stage:
    def __init__(self, scale: Scale, folder: Path) -> None:
        self.scale = scale
        self.folder = folder
        self._exits = ExitStack()
        self._known: dict[str, object] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._exits.close()

    def _once[Thing](self, name: str, make: Callable[[], Thing]) -> Thing:
        """The thing of this name, made the first time; what could not be made is not tried again."""
        if name not in self._known:
            try:
                self._known[name] = make()
            except Missing as reason:
                self._known[name] = reason
        thing = self._known[name]
        if isinstance(thing, Missing):
            raise thing
        return thing  # type: ignore[return-value]  # what `make` gave under this name

    def fresh_folder(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    # Peers

    def redis(self) -> Redis:
        return self._once("redis", lambda: self._stopped(Redis(self.fresh_folder("redis"))))

    def nats(self, sync_interval: str) -> Nats:
        return self._once(
            f"nats-{sync_interval}", lambda: self._stopped(Nats(self.fresh_folder("nats"), sync_interval))
        )

    def postgres(self) -> Postgres:
        return self._once("postgres", lambda: self._stopped(Postgres(self.fresh_folder("postgres"))))

    def wrk(self) -> Wrk:
        return self._once("wrk", lambda: Wrk(self.fresh_folder("wrk")))

    def _stopped[Peer: (Redis, Nats, Postgres)](self, peer: Peer) -> Peer:
        self._exits.callback(peer.process.stop)
        return peer

    # The server under test

    def server(self) -> Server:
        """The one server that takes all the load of a run, and so has ever more events stored."""

        def start() -> Server:
            server = Server(self.fresh_folder("mainstem"))
            self._exits.callback(lambda: server.process.stop())  # whichever process is its last
            return server

        return self._once("mainstem", start)

    @contextmanager
    def fresh_server(self, **settings: object) -> Iterator[Server]:
        """Another server on an empty folder, for the block."""
        server = Server(self.fresh_folder("mainstem"), **settings)
        try:
            yield server
        finally:
            server.process.stop()

    # Load

    def many_streams(self) -> list[tuple[str, Rows]]:
        """32 streams of 4,000 events: what P1 rotates over, in every system."""
        rows = self._once("rows", lambda: events.make(128_000, seed=1, first_us=time.time_ns() // 1_000, step_us=20))
        return [(f"stream-{place:02d}", many) for place, many in enumerate(events.batches(rows, 4_000))]

    def post(
        self,
        path: str,
        name: str,
        bodies: Callable[[], Sequence[bytes]],
        *,
        connections: int,
        seconds: float | None = None,
        server: Server | None = None,
        content_type: str = JSON,
    ) -> Load:
        """A closed loop of POSTs that rotates over bodies, which are made once for each name."""
        wrk, server = self.wrk(), server or self.server()
        prepared = self._once(f"bodies of {name}", lambda: wrk.bodies(name, bodies()))
        seconds = seconds or self.scale.round_s
        headers = [*server.headers[:-1], f"Content-Type: {content_type}"]
        return wrk.post(server.url(path), prepared, headers, connections=connections, seconds=seconds)

    def post_thousands(
        self, seconds: float | None = None, *, connections: int = 16, server: Server | None = None
    ) -> Load:
        """P1's load on mainstem: bodies of 1,000 events for many streams."""

        def bodies() -> list[bytes]:
            streams = self.many_streams()
            return [events.http_batch(name, rows) for name, many in streams for rows in events.batches(many, 1_000)]

        return self.post(BATCH_PATH, "thousands", bodies, connections=connections, seconds=seconds, server=server)

    def sustained(self) -> Sustained:
        """P1's load for a minute without a pause, so that sealing has to keep pace."""

        def measure() -> Sustained:
            server = self.server()
            server.process.settle()
            server.process.forget_peak()
            rss_bytes = server.process.rss_bytes()
            before, stored = server.gauge("storage_events", state="unsealed"), server.stored()
            load = self.post_thousands(self.scale.sustained_s)
            after = server.gauge("storage_events", state="unsealed")
            if server.stored() - stored < load.answers * 1_000:
                raise Missing(f"{load.answers} requests were answered, but {server.stored() - stored} events stored")
            return Sustained(load, load.rate * 1_000, before, after, rss_bytes, server.process.rss_peak_bytes())

        return self._once("sustained", measure)
