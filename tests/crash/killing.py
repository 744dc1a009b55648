"""Kill a writer without warning, again and again, and look whether anything that it was told is stored is gone.

Each writer has a stream of events that tell their writer and number, so that the expected bytes can be told from what
is found. After a kill a writer sends again what was not acknowledged, as a client does, and must not be stored twice.
"""

import asyncio
import multiprocessing
import os
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec

from logs import kept
from mainstem.clock import system_clock
from mainstem.ids import TopicId
from mainstem.storage import Draft, Drafts, Log, Note, Row
from mainstem.storage.embedded.log import EmbeddedLog, LogOptions
from mainstem.storage.ports import Condition
from serving import Server, serving
from waiting import PATIENCE_S, wait_until

OPTIONS = LogOptions(
    segment_events=3_000,
    seal_age_s=0.1,
    maintain_every_s=0.05,
    compaction_events=40_000,
    disk_free_bytes_min=0,
)
WINDOW_S = 86_400
TOPICS = [TopicId(number) for number in (1, 2, 3)]
WRITERS = range(12)
_FULL_LOOK_EVERY = 20
_KILLS_A_FOLDER = 50
_AT_LEAST = 200
"""So many events a server has taken before it may be killed, however slow the machine is now."""


class Mark(msgspec.Struct, frozen=True):
    """What an event says of itself."""

    writer: int
    number: int
    filling: str = ""

    @property
    def encoded(self) -> bytes:
        return msgspec.json.encode(self)

    @property
    def event_id(self) -> str:
        return f"{self.writer}-{self.number}"


def mark(writer: int, number: int) -> Mark:
    """Mostly small, sometimes large; always the same for the same writer and number."""
    noise = blake2b(f"{writer} {number}".encode()).hexdigest()
    return Mark(writer, number, noise * (number % 4 if number % 101 else 600))


def topic_of(writer: int) -> TopicId:
    return TOPICS[writer % len(TOPICS)]


def batch_size(writer: int, number: int) -> int:
    """How many events a batch has that begins with this one."""
    return 1 + (7 * writer + number) % 40


# The writers of a log, in a process that is to be killed


def write_until_killed(folder: Path, acknowledgements: Path, progress: dict[int, int]) -> None:
    """Every acknowledgement goes to a file at once: what a process has written outlives it."""
    descriptor = os.open(acknowledgements, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    asyncio.run(_write(folder, descriptor, progress))


async def _write(folder: Path, acknowledgements: int, progress: dict[int, int]) -> None:
    async with EmbeddedLog.open(folder, OPTIONS, system_clock) as log, asyncio.TaskGroup() as writers:
        os.write(acknowledgements, b"open 0\n")
        for writer in WRITERS:
            kind = (_write_singles, _write_batches, _write_noted)[writer // len(TOPICS) % 3]
            writers.create_task(kind(log, writer, progress.get(writer, 0), acknowledgements))


async def _write_singles(log: EmbeddedLog, writer: int, number: int, acknowledgements: int) -> None:
    """Four at a time, in order, each with an event id."""
    loop = asyncio.get_running_loop()
    while True:
        answers = [loop.create_future() for _ in range(4)]
        for place, answer in enumerate(answers):
            log.submit(topic_of(writer), _draft(mark(writer, number + place)), WINDOW_S, answer.set_result)
        for answer in answers:
            result = await answer
            if isinstance(result, Exception):
                raise result
            number += 1
            os.write(acknowledgements, f"{writer} {number}\n".encode())


async def _write_batches(log: EmbeddedLog, writer: int, number: int, acknowledgements: int) -> None:
    """Batches of events with ids."""
    while True:
        size = batch_size(writer, number)
        drafts = Drafts.of([_draft(mark(writer, number + place)) for place in range(size)])
        await log.append(topic_of(writer), drafts, dedupe_window_s=WINDOW_S)
        number += size
        os.write(acknowledgements, f"{writer} {number}\n".encode())


async def _write_noted(log: EmbeddedLog, writer: int, number: int, acknowledgements: int) -> None:
    """Batches without ids, each with a note by which it is known whether it was stored."""
    while True:
        size = batch_size(writer, number)
        note = Note(f"{writer:8d}{number:8d}".encode(), b"stored")
        if await log.note(note.key) is None:
            drafts = Drafts.of([_draft(mark(writer, number + place), with_id=False) for place in range(size)])
            await log.append(topic_of(writer), drafts, note=note)
        number += size
        os.write(acknowledgements, f"{writer} {number}\n".encode())


def _draft(made: Mark, *, with_id: bool = True) -> Draft:
    return Draft(made.number, "mark", made.encoded, b"", made.event_id if with_id else "")


# Looking at what is left


@dataclass
class Ledger:
    """What was acknowledged, and what has been found so far."""

    acknowledged: Counter[int] = field(default_factory=Counter)
    """Writer → how many of its events."""
    found: Counter[int] = field(default_factory=Counter)
    looked_at: dict[TopicId, int] = field(default_factory=dict)
    """Topic → how many of its events have been looked at."""
    kills: int = 0
    events: int = 0

    @property
    def acknowledged_count(self) -> int:
        return sum(list(self.acknowledged.values()))

    def note(self, writer: int, count: int) -> None:
        self.acknowledged[writer] = max(self.acknowledged[writer], count)

    def check(self, topic: TopicId, rows: list[Row]) -> None:
        """Each event once, byte for byte, each writer's in order, indexes without a gap."""
        for row in rows:
            made = msgspec.json.decode(row.data, type=Mark)
            expected = mark(made.writer, self.found[made.writer])
            assert row.data == expected.encoded, f"expected {expected.event_id}, found {made.event_id}"
            assert topic_of(made.writer) == topic
            assert row.idx == self.looked_at.get(topic, 0)
            self.found[made.writer] += 1
            self.looked_at[topic] = row.idx + 1

    def check_acknowledged(self) -> None:
        for writer, count in self.acknowledged.items():
            assert self.found[writer] >= count, f"writer {writer}: {count} acknowledged, {self.found[writer]} found"
            assert _is_whole(writer, self.found[writer]), f"writer {writer}: a batch was stored in part"


def _is_whole(writer: int, count: int) -> bool:
    if writer // len(TOPICS) % 3 == 0:
        return True
    number = 0
    while number < count:
        number += batch_size(writer, number)
    return number == count


async def look(folder: Path, ledger: Ledger, *, at_all: bool) -> None:
    """Open what a kill has left and check it: what is new since the last look, or all of it, both ways of reading."""
    async with EmbeddedLog.open(folder, OPTIONS, system_clock) as log:
        assert log.health().condition is Condition.HEALTHY, log.health().reason
        if at_all:
            ledger.found.clear()
            ledger.looked_at.clear()
        for topic in TOPICS:
            ledger.check(topic, await kept(log, topic) if at_all else await _newer(log, topic, ledger))
    ledger.check_acknowledged()
    ledger.events = sum(ledger.found.values())


async def _newer(log: Log, topic: TopicId, ledger: Ledger) -> list[Row]:
    first, next_idx = ledger.looked_at.get(topic, 0), log.state(topic).next_idx
    assert next_idx >= first
    rows: list[Row] = []
    while first + len(rows) < next_idx:
        rows += await log.read(topic, first + len(rows), 10_000)
    return rows


# Killing


def kill_log_writers(folder: Path, kills: int, seed: int) -> Ledger:
    """Kill a process that writes to a log, at random moments, also while it opens what the last kill left."""
    chance, ledger = random.Random(seed), Ledger()
    processes = multiprocessing.get_context("forkserver")
    # What takes long to import, and is found without the path of the tests.
    processes.set_forkserver_preload(["httpx", "mainstem.storage.embedded.log"])
    for ledger.kills in range(1, kills + 1):
        acknowledgements = folder.parent / "acknowledgements"
        acknowledgements.unlink(missing_ok=True)
        writer = processes.Process(
            target=write_until_killed, args=(folder / "log", acknowledgements, dict(ledger.acknowledged))
        )
        writer.start()
        if chance.random() < 0.9:
            _wait_for(acknowledgements, writer)
        time.sleep(chance.expovariate(1 / 0.06))
        assert writer.is_alive(), "the writer ended by itself"
        writer.kill()
        writer.join()
        for writer_number, count in _read(acknowledgements):
            ledger.note(writer_number, count)
        at_all = ledger.kills == kills or ledger.kills % _FULL_LOOK_EVERY == 0
        asyncio.run(look(folder / "log", ledger, at_all=at_all))
    return ledger


def _wait_for(acknowledgements: Path, writer: BaseProcess) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not (acknowledgements.exists() and acknowledgements.stat().st_size):
        assert writer.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def _read(acknowledgements: Path) -> Iterator[tuple[int, int]]:
    if acknowledgements.exists():
        for line in acknowledgements.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n") and not line.startswith(b"open"):
                writer, count = line.split()
                yield int(writer), int(count)


class Client(NamedTuple):
    """A client of the server's, a thread: it sends what comes next until the server is gone."""

    writer: int
    ledger: Ledger

    def write(self, server: Server) -> None:
        with suppress(httpx.TransportError), server.client() as client:
            while True:
                number = self.ledger.acknowledged[self.writer]
                size = batch_size(self.writer, number) if self.writer // len(TOPICS) % 3 else 1
                events = [_event(mark(self.writer, number + place)) for place in range(size)]
                stream = f"topic-{topic_of(self.writer)}"
                if size == 1:
                    response = client.post("/v2/ingest/events", json={"stream_id": stream, **events[0]})
                else:
                    response = client.post("/v2/ingest/batch", json={"stream_id": stream, "events": events})
                assert response.status_code == 200, response.text
                self.ledger.note(self.writer, number + size)


def _event(made: Mark) -> dict[str, object]:
    return {
        "event_type": "mark",
        "timestamp": "2024-03-15T10:30:00Z",
        "data": msgspec.to_builtins(made),
        "event_id": made.event_id,
    }


def kill_servers(folder: Path, kills: int, seed: int) -> Ledger:
    """Kill a whole server under load, and ask the next one over the same folder for everything."""
    chance, ledger = random.Random(seed), Ledger()
    settings = {"segment_events": 3_000, "seal_age_s": 1, "maintain_every_s": 1}
    for ledger.kills in range(1, kills + 1):
        with serving(folder / "data", **settings) as server:
            _ask_for_all(server, ledger)
            failures: list[BaseException] = []
            clients = [
                threading.Thread(target=_catching, args=(failures, Client(writer, ledger), server))
                for writer in WRITERS
            ]
            for client in clients:
                client.start()
            before = ledger.acknowledged_count
            wait_until(lambda: bool(failures) or ledger.acknowledged_count >= before + _AT_LEAST)  # noqa: B023
            time.sleep(chance.expovariate(1 / 0.4))
            server.process.kill()
            for client in clients:
                client.join()
            assert not failures, failures
    with serving(folder / "data", **settings) as server:
        _ask_for_all(server, ledger)
    return ledger


def _catching(failures: list[BaseException], client: Client, server: Server) -> None:
    try:
        client.write(server)
    except BaseException as failure:
        failures.append(failure)


def _ask_for_all(server: Server, ledger: Ledger) -> None:
    """By the API, page by page; ids ascend within a stream."""
    ledger.found.clear()
    with server.client() as client:
        for topic in {topic_of(writer) for writer in ledger.acknowledged}:
            query = {"stream_id": f"topic-{topic}", "limit": "1000"}
            last_id = ""
            while True:
                answer = client.get("/v2/query/events", params=query)
                assert answer.status_code == 200, answer.text
                for event in answer.json()["events"]:
                    assert event["event_id"] > last_id
                    last_id = event["event_id"]
                    writer = event["data"]["writer"]
                    assert event["data"] == msgspec.to_builtins(mark(writer, ledger.found[writer]))
                    ledger.found[writer] += 1
                if answer.json()["next_cursor"] is None:
                    break
                query["cursor"] = answer.json()["next_cursor"]
        assert client.get("/health").status_code == 200
    ledger.check_acknowledged()
    ledger.events = sum(ledger.found.values())


def main(kills: int, seed: int) -> None:
    """Fifty kills a folder: nine in ten kill a writer of the log, which is quick; the others a server."""
    print(f"seed {seed}", flush=True)  # noqa: T201  # this is a command
    for done in range(0, kills, _KILLS_A_FOLDER):
        share = min(kills - done, _KILLS_A_FOLDER)
        _kill_and_tell(kill_log_writers, share - share // 10, seed + done, total=done)
        _kill_and_tell(kill_servers, share // 10, seed + done, total=done + share - share // 10)


def _kill_and_tell(kill: Callable[[Path, int, int], Ledger], kills: int, seed: int, *, total: int) -> None:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        ledger = kill(Path(folder), kills, seed)
    print(  # noqa: T201
        f"{total + kills} kills; {kill.__name__}: {kills} in {time.monotonic() - started:.0f} s,"
        f" {ledger.acknowledged_count} events acknowledged, {ledger.events} found,"
        " each once, in order, byte for byte",
        flush=True,
    )
