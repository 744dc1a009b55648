"""L1: what it costs to know of 5,000 listings who is live, as a share of one core.

All of them are live, so that each is checked every two minutes: 42 checks a second. The far side is another process
and not counted; the checker's schedule, its connections, its transactions and its announcements are.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection

import uvloop
from sqlalchemy import func, insert, select, text

from benchmarks.figures import Figure, at_most
from benchmarks.ingest import MAINSTEM
from benchmarks.stage import Stage
from benchmarks.table import Row, row
from mainstem.catalogue.liveness import (
    Checker,
    CheckerOptions,
    Checks,
    NoOwnStreams,
    Pace,
    Prober,
    Reason,
    Verdict,
    live,
    open_prober,
)
from mainstem.catalogue.tables import listings
from mainstem.clock import SECOND_US, system_clock
from mainstem.identity.tables import accounts
from mainstem.storage import Records, SqliteRecords
from mainstem.telemetry import configure_logging
from mainstem.work import Queue

LISTINGS = 5_000
HOSTS = 500
MEASURED_S = 15.0
WARM_S = 3.0
ROUNDS = 3
PACE = Pace(live_s=120, idle_s=420)


def checking(stage: Stage) -> Iterator[Row]:
    """L1: the schedule alone, with checks that cost nothing; and all of it, each check a playlist over HTTP."""
    alone = [uvloop.run(_share_of_a_core(stage, fetch=False)) for _ in range(ROUNDS)]
    whole = [uvloop.run(_share_of_a_core(stage, fetch=True)) for _ in range(ROUNDS)]
    what = f"{LISTINGS:,} live listings"
    for name, measured in (("scheduled and recorded", alone), ("and their playlists fetched", whole)):
        figure = Figure(tuple(share for share, _ in measured))
        note = f"{min(rate for _, rate in measured):.0f} checks/s"
        yield row("L1", f"{what} {name}, share of one core", MAINSTEM, figure, _percent, at_most(0.10), note)


def _percent(share: float) -> str:
    return f"{share:.1%}"


async def _share_of_a_core(stage: Stage, *, fetch: bool) -> tuple[float, float]:
    """Seconds of CPU for each second of the clock, and checks a second."""
    configure_logging("warning")
    engine = SqliteRecords(stage.fresh_folder("liveness") / "mainstem.sqlite")
    await engine.migrate()
    here, there = multiprocessing.Pipe()
    far = multiprocessing.get_context("spawn").Process(target=_play, args=(there,), daemon=True)
    far.start()
    port = here.recv()
    options = CheckerOptions(check_allow_private=True)
    try:
        async with engine, open_prober(options, NoOwnStreams(), system_clock, _loopback) as prober:
            await _fill(engine, port)
            checks = Checks(engine, Queue(engine, system_clock), system_clock, PACE)
            return await _measured(engine, Checker(checks, prober if fetch else _AlwaysLive(prober), system_clock))
    finally:
        far.kill()
        far.join()


async def _measured(records: Records, checker: Checker) -> tuple[float, float]:
    running = asyncio.create_task(checker.run())
    await asyncio.sleep(WARM_S)
    before, cpu_s, began = await _checked(records), time.process_time(), time.monotonic()
    await asyncio.sleep(MEASURED_S)
    spent_s, lasted_s = time.process_time() - cpu_s, time.monotonic() - began
    done = await _checked(records) - before
    running.cancel()
    await asyncio.wait([running])
    return spent_s / lasted_s, done / lasted_s


async def _checked(records: Records) -> int:
    query = select(func.count()).select_from(listings).where(listings.c.check_result == "live")
    async with records.read() as rows:
        return await rows.scalar(query) or 0


async def _fill(records: Records, port: int) -> None:
    """Listings that are due evenly over two minutes, ten on each host."""
    now_us = system_clock()
    async with records.begin() as tx:
        keeper = insert(accounts).values(name="keeper", is_admin=False, created_us=0).returning(accounts.c.id)
        owner = (await tx.execute(keeper)).scalar_one()
        links = [f"http://host{number % HOSTS}.example:{port}/{number}.m3u8" for number in range(LISTINGS)]
        step_us = int(PACE.live_s * SECOND_US / LISTINGS)
        await tx.execute(
            insert(listings),
            [
                {
                    "source": f"Camera {number}",
                    "source_folded": f"camera {number}",
                    "link": link,
                    "link_normal": link,
                    "status": "live",
                    "platform_detected": False,
                    "kind": "video",
                    "is_pinned": False,
                    "is_archived": False,
                    "last_live_us": now_us,
                    "last_checked_us": now_us,
                    "started_us": now_us,
                    "owner": owner,
                    "created_us": now_us,
                    "updated_us": now_us,
                    "next_check_us": now_us + number * step_us,
                }
                for number, link in enumerate(links)
            ],
        )
        await tx.execute(text("ANALYZE"))


class _AlwaysLive(Prober):
    """Checks that take a moment and cost nothing."""

    def __init__(self, like: Prober) -> None:
        self.__dict__ = like.__dict__

    async def check(self, link: str, trace: str | None = None) -> Verdict:
        await asyncio.sleep(0.05)
        return live(Reason.FRESH)


async def _loopback(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


# The far side


def _play(tell: Connection) -> None:
    asyncio.run(_serve(tell))


async def _serve(tell: Connection) -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, backlog=1_024)
    tell.send(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.readuntil(b"\r\n\r\n")
        body = _playlist()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


def _playlist() -> bytes:
    """Six segments of four seconds, the newest just made."""
    now = datetime.now(UTC)
    number = int(now.timestamp() / 4)
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:4", f"#EXT-X-MEDIA-SEQUENCE:{number - 6}"]
    for each in range(6):
        lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{(now - timedelta(seconds=4 * (6 - each))).isoformat()}")
        lines += ["#EXTINF:4.000,", f"segment{number - 6 + each}.ts"]
    return ("\n".join(lines) + "\n").encode()
