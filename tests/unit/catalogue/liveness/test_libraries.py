"""streamlink and yt-dlp, the second opinion: what they say counts for little, and what they raise for nothing."""

import subprocess
import sys
from typing import Any

import pytest

from farside import FarSide, page
from mainstem.catalogue.liveness import NoOwnStreams, Prober, Reason, Result, Target, Verdict, live, unknown
from mainstem.catalogue.liveness.address import target_of
from mainstem.catalogue.liveness.asking import ask_streamlink, ask_yt_dlp, told_by_yt_dlp
from mainstem.catalogue.liveness.connection import Dialer
from mainstem.catalogue.liveness.decoder import Decoder
from mainstem.catalogue.liveness.direct import DirectMedia
from mainstem.catalogue.liveness.fetch import Fetcher
from mainstem.catalogue.liveness.hosts import Hosts
from mainstem.catalogue.liveness.libraries import Name, PlatformLibrary, Told, installed, may_say_offline
from mainstem.catalogue.liveness.platforms import Adapter, Step, adapter_for
from mainstem.clock import FixedClock
from waiting import PATIENCE_S

TWITCH = "https://www.twitch.tv/streetcam"
TIKTOK = "https://www.tiktok.com/@street.reporter/live"
NOWHERE = "https://no-such-host.invalid/stream"


@pytest.mark.parametrize("name", ["streamlink", "yt_dlp"])
async def test_a_library_that_cannot_tell_is_unknown(name: Name) -> None:
    """It is not there, or does not know the address, or cannot reach it: all the same to us."""
    verdict = await PlatformLibrary(name).ask(target_of(NOWHERE))

    assert (verdict.result, verdict.reason) == (Result.UNKNOWN, Reason.CHECK_FAILED)


async def test_a_library_that_takes_too_long_is_killed() -> None:
    verdict = await PlatformLibrary("yt_dlp", timeout_s=0.001).ask(target_of(TWITCH))

    assert verdict.result is Result.UNKNOWN


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"is_live": True}, "live"),
        ({"live_status": "is_live"}, "live"),
        ({"is_live": False, "live_status": "was_live"}, "not_live"),
        ({"live_status": "post_live"}, "not_live"),
        ({"live_status": "is_upcoming"}, "unknown"),
        ({"live_status": None}, "unknown"),
        ({"is_live": False}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_what_yt_dlp_tells_means(facts: dict[str, Any], state: str) -> None:
    assert told_by_yt_dlp(facts).state == state


def test_not_live_is_believed_but_not_of_tiktok() -> None:
    """yt-dlp says so as well when it was shown a challenge there."""
    assert may_say_offline("yt_dlp", target_of(TWITCH))
    assert not may_say_offline("yt_dlp", target_of(TIKTOK))


LINKS = [
    TWITCH,
    TIKTOK,
    "https://kick.com/streetcam",
    "https://www.youtube.com/watch?v=aBcDeFgHiJk",
    "https://www.facebook.com/city/videos/555",
]


@pytest.mark.skipif("streamlink" not in installed(), reason="streamlink is not installed: mainstem[platforms]")
@pytest.mark.parametrize("link", LINKS)
def test_streamlink_knows_our_platforms(link: str) -> None:
    """Its own resolver, which asks no network."""
    import streamlink

    name, _, _ = streamlink.Streamlink().resolve_url(link, follow_redirect=False)

    found = adapter_for(target_of(link))
    assert found is not None
    assert name == found.name.lower()


@pytest.mark.skipif("streamlink" not in installed(), reason="streamlink is not installed: mainstem[platforms]")
def test_streamlink_does_not_know_pages_of_anybody() -> None:
    assert ask_streamlink(NOWHERE) == Told("unknown", "no plugin")


@pytest.mark.skipif("yt_dlp" not in installed(), reason="yt-dlp is not installed: mainstem[platforms]")
@pytest.mark.parametrize("link", LINKS)
def test_yt_dlp_knows_our_platforms(link: str) -> None:
    """Its own list of extractors, which asks no network."""
    from yt_dlp.extractor import gen_extractor_classes

    found = adapter_for(target_of(link))
    assert found is not None
    suitable = [each.IE_NAME.lower() for each in gen_extractor_classes() if each.suitable(link)]
    assert suitable[0].startswith(found.name.lower())


@pytest.mark.skipif("yt_dlp" not in installed(), reason="yt-dlp is not installed: mainstem[platforms]")
@pytest.mark.parametrize("link", [NOWHERE, TWITCH])
def test_yt_dlp_without_a_network_is_unknown(link: str) -> None:
    """Its errors of every class but one mean that it could not tell."""
    from yt_dlp.utils import DownloadError, UserNotLive

    assert issubclass(UserNotLive, Exception)
    assert not issubclass(DownloadError, UserNotLive)
    assert ask_yt_dlp(link).state == "unknown"


@pytest.mark.skipif("yt_dlp" not in installed(), reason="yt-dlp is not installed: mainstem[platforms]")
def test_yt_dlps_word_for_not_live_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the library wraps it on the way out."""
    from yt_dlp.extractor.twitch import TwitchStreamIE
    from yt_dlp.utils import UserNotLive

    def not_live(*_: object) -> None:
        raise UserNotLive(video_id="streetcam")

    monkeypatch.setattr(TwitchStreamIE, "_real_extract", not_live)

    assert ask_yt_dlp(TWITCH).state == "not_live"


def test_no_process_that_lasts_carries_a_library() -> None:
    """It is enough to know that it is there: the child that asks loads it."""
    look = (
        "import sys, mainstem.app, mainstem.worker, mainstem.catalogue.liveness.running as running;"
        "running.installed();"
        "print(*(name for name in ('streamlink', 'yt_dlp', 'lxml', 'requests') if name in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=PATIENCE_S)

    assert (run.stdout.split(), run.returncode) == ([], 0), run.stderr


class Asked:
    """A library that only remembers that it was asked, and says that all are live."""

    def __init__(self) -> None:
        self.links: list[str] = []

    async def ask(self, target: Target) -> Verdict:
        self.links.append(target.link)
        return live(Reason.SAYS_LIVE)


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (page("<script>window._wafchallengeid='x'</script>"), True),
        (page("", 403), True),
        (page("<html></html>"), True),
        (page("", 429), False),
        (page("", 503), False),
        (b"", True),
    ],
)
async def test_who_is_unwell_is_not_asked_again_by_another(
    dialer: Dialer, hosts: Hosts, fetcher: Fetcher, far: FarSide, answer: bytes, asked: bool
) -> None:
    """A second opinion is for answers that say nothing, not for a platform in trouble."""
    library = Asked()
    prober = Prober(
        own=NoOwnStreams(),
        dialer=dialer,
        hosts=hosts,
        fetcher=fetcher,
        direct=DirectMedia(fetcher, Decoder(), FixedClock()),
        libraries=[library],
    )
    far.says("/page", answer)
    known = Adapter("Somewhere", (), lambda target: [Step(target, lambda _: unknown(Reason.BROKEN_ANSWER))])

    await prober._platform(known, target_of(far.url("/page")))

    assert bool(library.links) is asked
