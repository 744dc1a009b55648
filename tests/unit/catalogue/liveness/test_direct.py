"""Media by their own address, asked over real sockets."""

import asyncio
import wave
from io import BytesIO

import pytest

from farside import PLAYLIST, FarSide, HlsSource, page
from mainstem.catalogue.liveness import Prober, Reason, Result
from mainstem.catalogue.liveness import direct as direct_module
from mainstem.catalogue.liveness import fetch as fetch_module
from mainstem.clock import FixedClock

LIVE, OFFLINE, UNKNOWN = Result.LIVE, Result.OFFLINE, Result.UNKNOWN


async def test_a_playlist_that_moves_on_is_live(prober: Prober, far: FarSide, clock: FixedClock) -> None:
    """Two reads, a target duration apart."""
    far.says("/live.m3u8", HlsSource(clock).answer)

    verdict = await prober.check(far.url("/live.m3u8"))

    assert (verdict.result, verdict.reason) == (LIVE, Reason.ADVANCES)
    assert far.asked == ["/live.m3u8"] * 2


async def test_a_dated_playlist_is_live_at_the_first_read(prober: Prober, far: FarSide, clock: FixedClock) -> None:
    far.says("/live.m3u8", HlsSource(clock, dated=True).answer)

    verdict = await prober.check(far.url("/live.m3u8"))

    assert (verdict.result, verdict.reason) == (LIVE, Reason.FRESH)
    assert far.asked == ["/live.m3u8"]


async def test_a_playlist_that_stands_still_is_offline(
    prober: Prober, far: FarSide, clock: FixedClock, waits: list[float]
) -> None:
    """After three target durations, and not as if the source had said so."""
    source = HlsSource(clock, dated=True)
    far.says("/live.m3u8", source.answer)
    source.stop()
    clock.advance(60)

    verdict = await prober.check(far.url("/live.m3u8"))

    assert (verdict.result, verdict.reason, verdict.explicit) == (OFFLINE, Reason.STANDS_STILL, False)
    assert sum(waits) == 12


async def test_a_second_look_at_a_standstill_need_not_wait(
    prober: Prober, far: FarSide, clock: FixedClock, waits: list[float]
) -> None:
    """The check before is far enough back to compare with."""
    source = HlsSource(clock)
    far.says("/live.m3u8", source.answer)
    source.stop()
    first = await prober.check(far.url("/live.m3u8"))
    waits.clear()
    clock.advance(30)

    second = await prober.check(far.url("/live.m3u8"), first.trace)

    assert (second.result, second.reason) == (OFFLINE, Reason.STANDS_STILL)
    assert waits == []


async def test_a_slow_playlist_is_judged_over_two_checks(
    prober: Prober, far: FarSide, clock: FixedClock, waits: list[float]
) -> None:
    """No check waits longer than half a minute; until it could tell it says so."""
    source = HlsSource(clock, segment_s=60)
    far.says("/live.m3u8", source.answer)
    source.stop()

    first = await prober.check(far.url("/live.m3u8"))
    clock.advance(200)
    second = await prober.check(far.url("/live.m3u8"), first.trace)

    assert (first.result, first.reason) == (UNKNOWN, Reason.NOT_YET)
    assert second.result is OFFLINE
    assert sum(waits) <= direct_module.PATIENCE_S


async def test_an_end_marker_says_it_in_as_many_words(prober: Prober, far: FarSide, clock: FixedClock) -> None:
    source = HlsSource(clock)
    source.ended = True
    far.says("/live.m3u8", source.answer)

    verdict = await prober.check(far.url("/live.m3u8"))

    assert (verdict.result, verdict.reason, verdict.explicit) == (OFFLINE, Reason.ENDED, True)


async def test_an_encoder_that_began_anew_is_live(prober: Prober, far: FarSide, clock: FixedClock) -> None:
    """Its numbers are smaller than before, and grow from there."""
    old, new = HlsSource(clock, segment_s=2), HlsSource(clock, segment_s=4)
    answers = iter([old.answer])
    far.says("/live.m3u8", lambda: next(answers, new.answer)())
    clock.advance(1_000)

    verdict = await prober.check(far.url("/live.m3u8"))

    assert (verdict.result, verdict.reason) == (LIVE, Reason.ADVANCES)


async def test_a_master_leads_to_a_variant(prober: Prober, far: FarSide, clock: FixedClock) -> None:
    """By a reference, and over a redirect."""
    master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow/index.m3u8\n"
    far.says("/", page("", 302, Location="/tv/master.m3u8"))
    far.says("/tv/master.m3u8", page(master, media_type=PLAYLIST))
    far.says("/tv/low/index.m3u8", HlsSource(clock).answer)

    assert (await prober.check(far.url("/"))).result is LIVE


async def test_a_master_that_leads_to_itself_ends(prober: Prober, far: FarSide) -> None:
    far.says("/a.m3u8", page("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n", media_type=PLAYLIST))

    verdict = await prober.check(far.url("/a.m3u8"))

    assert (verdict.result, verdict.reason) == (UNKNOWN, Reason.REDIRECTS)


@pytest.mark.parametrize("status", [404, 410])
async def test_what_is_not_there_is_offline_if_it_stays_so(prober: Prober, far: FarSide, status: int) -> None:
    far.says("/live.m3u8", page("gone", status))

    verdict = await prober.check(far.url("/live.m3u8"))

    assert (verdict.result, verdict.reason, verdict.explicit) == (OFFLINE, Reason.GONE, False)


async def test_trouble_between_two_reads_is_unknown(prober: Prober, far: FarSide, clock: FixedClock) -> None:
    source = HlsSource(clock)
    far.says("/live.m3u8", source.answer(), page("", 503))

    verdict = await prober.check(far.url("/live.m3u8"))

    assert (verdict.result, verdict.reason) == (UNKNOWN, Reason.SERVER_ERROR)


def sound(seconds: float) -> bytes:
    file = BytesIO()
    with wave.open(file, "wb") as writing:
        writing.setnchannels(1)
        writing.setsampwidth(2)
        writing.setframerate(8_000)
        writing.writeframes(bytes(range(256)) * int(seconds * 8_000 * 2 / 256))
    return file.getvalue()


async def test_a_station_that_sends_sound_is_live(
    prober: Prober, far: FarSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SHOUTcast's way of saying OK included; it never ends, and is not listened to for long."""
    monkeypatch.setattr(fetch_module, "SAMPLE_S", 1.0)

    async def station(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"ICY 200 OK\r\nicy-name: Radio\r\nContent-Type: audio/wav\r\n\r\n" + sound(2))
        await writer.drain()
        await asyncio.Event().wait()

    far.does("/radio", station)

    verdict = await prober.check(far.url("/radio"))

    assert (verdict.result, verdict.reason) == (LIVE, Reason.MEDIA)


async def test_a_station_that_sends_noise_is_unknown(
    prober: Prober, far: FarSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "SAMPLE_S", 1.0)

    async def station(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n" + b"<html>no</html>" * 500)
        await writer.drain()
        await asyncio.Event().wait()

    far.does("/radio", station)

    assert (await prober.check(far.url("/radio"))).result is UNKNOWN


async def test_a_file_is_no_stream(prober: Prober, far: FarSide) -> None:
    far.says("/film.mp4", page(b"x" * 100_000, media_type="video/mp4"))

    verdict = await prober.check(far.url("/film.mp4"))

    assert (verdict.result, verdict.reason) == (OFFLINE, Reason.FILE)


async def test_a_page_is_believed_when_it_says_that_it_broadcasts(prober: Prober, far: FarSide) -> None:
    """Its silence means nothing."""
    far.says("/on", page('<script type="application/ld+json">{"isLiveBroadcast": true}</script>'))
    far.says("/off", page("<html>a page</html>"))

    assert (await prober.check(far.url("/on"))).result is LIVE
    assert (await prober.check(far.url("/off"))).reason is Reason.NO_ADAPTER
