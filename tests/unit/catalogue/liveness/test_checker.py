"""The checker at work: real records, real sockets, and a far side that is mostly unwell."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select

from catalogue import add_listings
from farside import FarSide, HlsSource, page
from mainstem.catalogue.liveness import (
    Checker,
    CheckerOptions,
    Checks,
    NoOwnStreams,
    Pace,
    Prober,
    Reason,
    Result,
    Target,
    Verdict,
    live,
    open_prober,
    platforms,
)
from mainstem.catalogue.tables import listings
from mainstem.clock import FixedClock
from mainstem.storage import Records
from mainstem.work import Queue
from waiting import PATIENCE_S

FAULTS = sorted((Path(__file__).parents[3] / "data" / "liveness" / "faults").iterdir())
LISTINGS, ROUNDS = 120, 10


async def loopback(host: str, port: int) -> Sequence[str]:
    """Every name is on this machine, so that each listing has a host of its own."""
    return ["127.0.0.1"]


@pytest.fixture
async def real_prober(clock: FixedClock) -> AsyncIterator[Prober]:
    options = CheckerOptions(check_timeout_seconds=PATIENCE_S, check_allow_private=True)
    async with open_prober(options, NoOwnStreams(), clock, loopback) as prober:
        yield prober


def new_checker(records: Records, queue: Queue, clock: FixedClock, prober: Prober, at_once: int = 64) -> Checker:
    return Checker(Checks(records, queue, clock, Pace(120, 420)), prober, clock, at_once=at_once)


async def round_of(checker: Checker) -> None:
    """Check all that is due, and keep what was found."""
    for _ in range(4):
        async with asyncio.TaskGroup() as group:
            await checker.turn(group)


async def statuses(records: Records) -> dict[str, int]:
    query = select(listings.c.status, func.count().label("listings")).group_by(listings.c.status)
    async with records.read() as rows:
        return {row.status: row.listings for row in await rows.execute(query)}


async def test_a_source_goes_live_and_ends(
    records: Records, queue: Queue, clock: FixedClock, far: FarSide, real_prober: Prober
) -> None:
    await add_listings(records, [far.url("/live.m3u8")])
    source = HlsSource(clock, dated=True)
    far.says("/live.m3u8", source.answer)
    checker = new_checker(records, queue, clock, real_prober)

    await round_of(checker)
    assert await statuses(records) == {"live": 1}

    source.ended = True
    clock.advance(150)
    await round_of(checker)
    assert await statuses(records) == {"offline": 1}


def troubled(chance: random.Random, far: FarSide, path: str) -> None:
    """From now on this path is in trouble: a recorded page, or bytes that are no answer, or none at all."""
    match chance.randrange(12):
        case 0:
            far.says(path, chance.randbytes(200))
        case 1:
            far.says(path, b"")
        case 2:
            far.says(path, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{")
        case 3:
            far.says(path, page("", 302, Location="http://nobody.invalid:1/"))
        case 4:
            far.says(path, page("#EXTM3U\n#EXT-X-TARGETDURATION:x\n", media_type="application/vnd.apple.mpegurl"))
        case _:
            head, _, body = chance.choice(FAULTS).read_bytes().partition(b"\n\n")
            status, *lines = head.decode().split("\n")
            headers = dict(line.split(": ", 1) for line in lines if not line.startswith("at: "))
            media_type = headers.pop("Content-Type", "text/plain")
            far.says(path, page(body, int(status), media_type, **{k.replace("-", "_"): v for k, v in headers.items()}))


async def test_over_a_thousand_checks_in_trouble_flip_nothing(
    records: Records, queue: Queue, clock: FixedClock, far: FarSide, real_prober: Prober
) -> None:
    """Each listing on a host of its own that is asked over a real socket, each time with another trouble: 0 flips."""
    chance = random.Random(626)
    links = [far.url(f"/{number}", f"host{number}.example") for number in range(LISTINGS)]
    await add_listings(records, links, status="live", last_live_us=clock(), last_checked_us=clock(), started_us=clock())
    checker = new_checker(records, queue, clock, real_prober)

    for _ in range(ROUNDS):
        for number in range(LISTINGS):
            troubled(chance, far, f"/{number}")
        await round_of(checker)
        assert await statuses(records) == {"live": LISTINGS}
        clock.advance(4_000)

    reasons = select(listings.c.check_result).distinct()
    async with records.read() as rows:
        assert list((await rows.execute(reasons)).scalars()) == ["unknown"]
    assert len(far.asked) >= LISTINGS * 4  # hosts that rest are not asked


class OwnStream:
    """A server that plays one address itself."""

    async def ask(self, target: Target) -> Verdict | None:
        return live(Reason.OWN_LIVE) if target.host == "our.example" else None


async def test_our_own_streams_are_asked_of_ourselves(clock: FixedClock) -> None:
    """Without opening a connection: the address may well be one that no check may connect to."""
    async with open_prober(CheckerOptions(), OwnStream(), clock) as prober:
        own = await prober.check("http://our.example/live/1.m3u8")
        other = await prober.check("http://127.0.0.1/live/1.m3u8")

    assert (own.result, own.reason) == (Result.LIVE, Reason.OWN_LIVE)
    assert other.reason is Reason.FORBIDDEN_ADDRESS


async def test_a_stopped_checker_gives_back_what_it_had(
    records: Records, queue: Queue, clock: FixedClock, far: FarSide, real_prober: Prober
) -> None:
    """Another one may have it at once, and what was found is kept."""
    asked = asyncio.Event()

    async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        asked.set()
        await asyncio.Event().wait()

    far.does("/slow", silent)
    await add_listings(records, [far.url("/slow")])
    running = asyncio.create_task(new_checker(records, queue, clock, real_prober).run())
    await asked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    heir = Checks(records, queue, clock, Pace())
    assert len(await heir.exchange([], room=5)) == 1


async def test_a_bug_met_by_one_link_ends_no_other_check(
    records: Records, queue: Queue, clock: FixedClock, far: FarSide, real_prober: Prober
) -> None:
    class Buggy:
        async def ask(self, target: Target) -> Verdict | None:
            raise ZeroDivisionError

    async with open_prober(CheckerOptions(), Buggy(), clock) as prober:
        verdict = await prober.check("http://example.com/")

    assert (verdict.result, verdict.reason) == (Result.UNKNOWN, Reason.CHECK_FAILED)


@pytest.mark.parametrize("asked", ["/s/abc", "/t/ZTabc"])
async def test_a_short_link_is_asked_where_it_leads(
    clock: FixedClock, far: FarSide, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """Of a shortener's or of the platform's own: the platform's interface is asked, not the page that comes."""
    host = "short.example" if asked == "/s/abc" else "vm.tiktok.com"
    page_of_channel = far.url("/@street.reporter/live", "www.tiktok.com")
    far.says(asked, page("", 302, Location=page_of_channel))
    far.says("/@street.reporter/live", page("<html>nothing to see</html>"))
    room = '{"data":{"liveRoom":{"status":2}},"statusCode":0}'
    far.says("/room?uniqueId=street.reporter", page(room, media_type="application/json"))
    api = far.url("/room?uniqueId=street.reporter", "www.tiktok.com")
    monkeypatch.setattr(platforms, "_TIKTOK_ROOM", api.replace("street.reporter", "{user}"))

    async with open_prober(CheckerOptions(check_allow_private=True), NoOwnStreams(), clock, loopback) as prober:
        verdict = await prober.check(far.url(asked, host))

    assert (verdict.result, verdict.reason) == (Result.LIVE, Reason.SAYS_LIVE)


async def test_a_host_that_keeps_challenging_is_left_alone(clock: FixedClock, far: FarSide) -> None:
    """Although its answers are in good order as far as HTTP goes."""
    far.says("/a", page("<script>window._wafchallengeid='x'</script>"))
    async with open_prober(CheckerOptions(check_allow_private=True), NoOwnStreams(), clock, loopback) as prober:
        reasons = [(await prober.check(far.url("/a"))).reason for _ in range(7)]

    assert reasons == [Reason.CHALLENGE] * 5 + [Reason.HOST_RESTS] * 2
    assert len(far.asked) == 5
