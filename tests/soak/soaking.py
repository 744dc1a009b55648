"""A soak: run every kind of load at once, watch the process, and look in the end whether all invariants hold.

What is watched: open files stay as many as they were, memory settles. What is looked at, before and after a restart:
each acknowledged event is there exactly once, behind both doors, and followers saw all of it in order.
"""

import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx

from evernest import Source, User
from serving import Server, serving
from soak.workers import (
    STREAM,
    Asker,
    Changer,
    Follower,
    Pusher,
    SocketFollower,
    Stranger,
    TailFollower,
    Worker,
    Writer,
    writers,
)
from waiting import PATIENCE_S

WARM_UP = 0.4
"""So much of the time caches may fill and allocators settle."""
WARM_UP_EVENTS = 150_000
"""And as long as fewer are acknowledged, which takes a busy machine longer: until some were sealed and merged."""
_WARM_UP_S_MAX = 240.0
GROWTH_MAX = 0.05
FILES_MORE_MAX = 5
"""Sealed segments come and go while we count."""
SMALL = {
    "segment_events": 20_000,
    "compaction_events": 100_000,
    "seal_age_s": 5,
    "maintain_every_s": 2,
    "row_group_cache_bytes": 8 << 20,
    "unsealed_events_max": 60_000,
    "query_memory_bytes": 128 << 20,
}
"""So that what takes hours otherwise (sealing, merging, eviction) happens many times over."""
_SAMPLE_S = 1.0
_CATCH_UP_S = 30.0


class Sample(NamedTuple):
    """`own_bytes` are the resident ones without those of mapped files, which are no more than a cache."""

    resident_bytes: int
    own_bytes: int
    files: int


class Outcome(NamedTuple):
    events: int
    growth: float
    files_before: float
    files_after: float
    skipped: int
    failures: list[str]

    def __str__(self) -> str:
        wrong = "".join(f"\n  WRONG: {failure}" for failure in self.failures)
        return (
            f"{self.events:,} events acknowledged and found; memory {self.growth:+.1%} after warm-up;"
            f" open files {self.files_before:.0f} then {self.files_after:.0f};"
            f" followers missed {self.skipped:,} and were told{wrong}"
        )


def soak(folder: Path, seconds: float, *, say: Callable[[object], None] | None = None) -> Outcome:
    """Run it; `failures` of the outcome is empty when everything held."""
    failures: list[str] = []
    with serving(folder / "data", **SMALL) as server, server.client() as client:
        user = User(client, server.data)
        stream = user.stream(STREAM)
        sources = [user.source({stream: "ReadWrite"}) for _ in range(2)]
        pushers = [Pusher(server, f"Pusher-{number}", source, stream) for number, source in enumerate(sources)]
        followers: list[Follower] = [SocketFollower(server, "socket"), TailFollower(server, "tail")]
        wrote = writers(server)
        others = [Asker(server, "Asker"), Changer(server, "Changer"), Stranger(server, "Stranger")]
        sockets_idle = _sockets(server)
        samples = _run(server, followers, wrote, [*pushers, *others], seconds, say)
        acknowledged = {one.name: one.acknowledged for one in wrote} | {one.name: one.acknowledged for one in pushers}
        _catch_up(followers, acknowledged)
        failures += _ended([*followers, *wrote, *pushers, *others])
        failures += _missed(followers, acknowledged)
        failures += _wrong(client, sources[0], stream, acknowledged)
        if (left := _settled_sockets(server, sockets_idle)) > sockets_idle:
            failures.append(f"{sockets_idle} connections were open before, and {left} after all clients had gone")
        failures += _logged(server)
        if server.stop() != 0:
            failures.append("the server did not stop in order")
    with serving(folder / "data", **SMALL) as server, server.client() as client:
        sources[0].client = client
        wrong = _wrong(client, sources[0], stream, acknowledged) + _logged(server)
        failures += [f"after a restart: {failure}" for failure in wrong]
    growth = _growth(samples)
    if growth > GROWTH_MAX:
        failures.append(f"memory grew by {growth:.1%} after warm-up")
    files_before, files_after = _ends([sample.files for sample in samples])
    if files_after > files_before + FILES_MORE_MAX:
        failures.append(f"{files_before:.0f} files were open after warm-up, {files_after:.0f} in the end")
    total = sum(acknowledged.values())
    return Outcome(total, growth, files_before, files_after, sum(one.skipped for one in followers), failures)


def _run(
    server: Server,
    followers: Sequence[Follower],
    writers: Sequence[Writer],
    others: Sequence[Worker],
    seconds: float,
    say: Callable[[object], None] | None,
) -> list[Sample]:
    """Load it until it is warm and for the rest of the time; what is seen from then on, every second."""
    workers = [*writers, *others]
    for follower in followers:
        follower.start()
    for follower in followers:
        assert follower.ready.wait(PATIENCE_S), f"{follower.name} was not let in: {follower.failure}"
    for worker in workers:
        worker.start()
    samples, began, warm_at_s = list[Sample](), time.monotonic(), None
    for second in itertools.count():
        at_s = time.monotonic() - began
        if warm_at_s is None and _is_warm(at_s, seconds, writers):
            warm_at_s = at_s
        if warm_at_s is not None:
            samples.append(_sample(server))
        if say is not None and second % 10 == 0:
            turns, now = sum(worker.turns for worker in workers), _sample(server)
            say(f"{at_s:5.0f} s  {turns:>9,} turns  {now.resident_bytes >> 20} MiB  {now.files} files")
        is_over = warm_at_s is not None and at_s >= warm_at_s + seconds * (1 - WARM_UP)
        if is_over or any(one.failure for one in [*followers, *workers]):
            break
        time.sleep(_SAMPLE_S)
    for worker in workers:
        worker.ending.set()
    for worker in workers:
        worker.join(30)
    return samples


def _is_warm(at_s: float, seconds: float, writers: Sequence[Writer]) -> bool:
    enough = sum(writer.acknowledged for writer in writers) >= WARM_UP_EVENTS or at_s >= _WARM_UP_S_MAX
    return enough and at_s >= seconds * WARM_UP


def _sample(server: Server) -> Sample:
    resident, shared = map(int, Path(f"/proc/{server.process.pid}/statm").read_text().split()[1:3])
    files = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    page = os.sysconf("SC_PAGE_SIZE")
    return Sample(resident * page, (resident - shared) * page, files)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the first third and of the last: in between everything breathes with each seal."""
    if not values:  # something failed before it was warm, which is told
        return 0, 0
    third = max(1, len(values) // 3)
    return statistics.median(values[:third]), statistics.median(values[-third:])


def _growth(samples: Sequence[Sample]) -> float:
    """Of what is the process's own, as a share of all that was resident."""
    before, after = _ends([sample.own_bytes for sample in samples])
    resident, _ = _ends([sample.resident_bytes for sample in samples])
    return (after - before) / resident if resident else 0


def _sockets(server: Server) -> int:
    folder = Path(f"/proc/{server.process.pid}/fd")
    targets = []
    for name in os.listdir(folder):
        with suppress(OSError):  # closed meanwhile
            targets.append(os.readlink(folder / name))
    return sum(target.startswith("socket:") for target in targets)


def _settled_sockets(server: Server, wanted: int) -> int:
    """How many are open when the server has noticed that clients have gone."""
    until = time.monotonic() + 20
    while (open_now := _sockets(server)) > wanted and time.monotonic() < until:
        time.sleep(0.5)
    return open_now


def _catch_up(followers: Sequence[Follower], acknowledged: dict[str, int]) -> None:
    """Give followers the time to see what was acknowledged last."""
    total, until = sum(acknowledged.values()), time.monotonic() + _CATCH_UP_S
    while time.monotonic() < until:
        if all(sum(one.seen.values()) >= total or one.failure for one in followers):
            break
        time.sleep(0.1)
    for follower in followers:
        follower.ending.set()
    for follower in followers:
        follower.join(30)  # a tail hears something every 15 s


def _logged(server: Server) -> list[str]:
    return [str(line) for line in server.log_lines() if line.get("level") in ("error", "critical")]


def _ended(workers: Sequence[Worker]) -> list[str]:
    failed = [f"{worker.name}: {worker.failure!r}" for worker in workers if worker.failure is not None]
    return failed + [f"{worker.name} hangs" for worker in workers if worker.is_alive()]


def _missed(followers: Sequence[Follower], acknowledged: dict[str, int]) -> list[str]:
    return [
        f"{follower.name} saw {follower.seen[name]} of {count} events of {name} and was told of no gap"
        for follower in followers
        for name, count in acknowledged.items()
        if follower.seen[name] != count and not follower.skipped
    ]


def _wrong(client: httpx.Client, source: Source, stream: int, acknowledged: dict[str, int]) -> list[str]:
    """What is not as it was acknowledged, behind either door."""
    wrong = []
    writers = {name: count for name, count in acknowledged.items() if not name.startswith("Pusher")}
    pushed = sum(acknowledged.values()) - sum(writers.values())
    wanted = {
        "stream_id": STREAM,
        "aggregations": [
            {"operation": "count_distinct", "field": "data.number"},
            {"operation": "max", "field": "data.number"},
            {"operation": "count_distinct", "field": "data.message"},
        ],
        "group_by": ["data.writer"],
        "limit": 1_000,
    }
    answer = client.post("/v2/query/aggregate", json=wanted)
    if answer.status_code != 200:  # told with all else that is wrong, not instead of it
        return [f"the question was answered with {answer.status_code}: {answer.text}"]
    found = {result["group"]["data.writer"]: result for result in answer.json()["results"]}
    if not found:
        again = client.post("/v2/query/aggregate", json=wanted).text
        wrong.append(f"the question found nothing: {answer.text}, then {again}, in {client.get('/health').text}")
    for name, count in writers.items():
        there = found.get(name, {"count": 0, "values": {}})
        numbers = there["values"].get("count_distinct(data.number)"), there["values"].get("max(data.number)")
        if count and (there["count"], *numbers) != (count, count, count - 1):
            wrong.append(f"{name}: {count} were acknowledged, {there['count']} found, distinct and last: {numbers}")
    messages = found.get(None, {"count": 0, "values": {}})
    if (messages["count"], messages["values"].get("count_distinct(data.message)", 0)) != (pushed, pushed):
        wrong.append(f"{pushed} messages were acknowledged, {messages['count']} found")
    total = sum(acknowledged.values())
    through_evernest = source.ask(f"/Stream/{stream}")["Stream"]["Count"]
    through_datastream = client.get("/v2/query/events", params={"stream_id": STREAM, "limit": 1}).json()["total_count"]
    if not through_evernest == through_datastream == total:
        wrong.append(
            f"{total} acknowledged, {through_datastream} behind DataStream, {through_evernest} behind Evernest"
        )
    return wrong


def _say(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(seconds: float) -> int:
    with tempfile.TemporaryDirectory(prefix="mainstem-soak-") as folder:
        outcome = soak(Path(folder), seconds, say=_say)
    _say(outcome)
    return 1 if outcome.failures else 0
