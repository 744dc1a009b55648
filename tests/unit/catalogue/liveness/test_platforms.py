"""What platforms answer, from recorded pages, and ten thousand checks in which none of them is in order."""

import random
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mainstem.catalogue.liveness.address import AddressGuard, Unreachable, target_of
from mainstem.catalogue.liveness.fetch import Answer
from mainstem.catalogue.liveness.platforms import ADAPTERS, Adapter, adapter_for, read
from mainstem.catalogue.liveness.verdict import Reason, Result, Standing, Verdict, decide, unknown
from mainstem.catalogue.model import Platform
from mainstem.catalogue.platforms import _DOMAINS

DATA = Path(__file__).parents[3] / "data" / "liveness"
LIVE, OFFLINE, UNKNOWN = Result.LIVE, Result.OFFLINE, Result.UNKNOWN

TYPES = {".html": "text/html; charset=utf-8", ".json": "application/json"}

LINKS = {
    "TikTok": "https://www.tiktok.com/@Street.Reporter/live",
    "YouTube": "https://www.youtube.com/watch?v=aBcDeFgHiJk",
    "Twitch": "https://www.twitch.tv/StreetCam",
    "Kick": "https://kick.com/streetcam",
    "Facebook": "https://www.facebook.com/city/videos/555",
    "Instagram": "https://www.instagram.com/city/live/",
    "Rumble": "https://rumble.com/embed/v5abc/",
    "Bilibili": "https://live.bilibili.com/6",
    "X": "https://x.com/i/broadcasts/1yNGabcde",
    "Vimeo": "https://vimeo.com/event/1",
    "DLive": "https://dlive.tv/city",
    "Trovo": "https://trovo.live/s/city",
}


def adapter(name: str) -> Adapter:
    return next(one for one in ADAPTERS if one.name == name)


def recorded(name: str, link: str) -> Answer:
    path = DATA / "pages" / name
    return Answer(target_of(link), 200, {"content-type": TYPES[path.suffix]}, path.read_bytes())


def verdict_of(name: str, link: str, *pages: str) -> Verdict:
    """What is found when a platform answers its adapter's questions with these pages, the last one for the rest."""
    verdict = unknown(Reason.NO_ADAPTER)
    steps = adapter(name).steps(target_of(link))
    for number, step in enumerate(steps):
        page = pages[min(number, len(pages) - 1)]
        verdict = read(recorded(page, step.target.link), step)
        if verdict.result is not UNKNOWN:
            break
    return verdict


@pytest.mark.parametrize(
    ("name", "pages", "result", "explicit"),
    [
        ("TikTok", ["tiktok_room_live.json"], LIVE, True),
        ("TikTok", ["tiktok_room_ended.json"], OFFLINE, True),
        ("TikTok", ["tiktok_room_empty.json", "tiktok_page_live.html"], LIVE, True),
        ("TikTok", ["tiktok_room_error.json", "tiktok_page_ended.html"], OFFLINE, False),
        ("TikTok", ["tiktok_room_empty.json", "tiktok_page_silent.html"], UNKNOWN, False),
        ("YouTube", ["youtube_live.html"], LIVE, True),
        ("YouTube", ["youtube_live_without_details.html"], LIVE, True),
        ("YouTube", ["youtube_ld_live.html"], LIVE, True),
        ("YouTube", ["youtube_ld_over.html"], UNKNOWN, False),
        ("YouTube", ["youtube_ended.html"], OFFLINE, True),
        ("YouTube", ["youtube_upcoming.html"], OFFLINE, True),
        ("YouTube", ["youtube_video.html"], OFFLINE, False),
        ("YouTube", ["youtube_channel_not_live.html"], OFFLINE, False),
        ("YouTube", ["youtube_sign_in.html"], UNKNOWN, False),
        ("Twitch", ["twitch_live.html"], LIVE, True),
        ("Twitch", ["twitch_offline.html"], OFFLINE, False),
        ("Twitch", ["twitch_empty.html"], UNKNOWN, False),
        ("Kick", ["kick_live.json"], LIVE, True),
        ("Kick", ["kick_offline.json"], OFFLINE, True),
        ("Kick", ["kick_error.json", "kick_channel_live.json"], LIVE, True),
        ("Kick", ["kick_error.json", "kick_channel_offline.json"], OFFLINE, True),
        ("Kick", ["kick_error.json"], UNKNOWN, False),
        ("Facebook", ["facebook_live.html"], LIVE, True),
        ("Facebook", ["facebook_over.html"], OFFLINE, False),
        ("Facebook", ["facebook_silent.html"], UNKNOWN, False),
        ("Instagram", ["instagram_live.html"], LIVE, True),
        ("Instagram", ["instagram_over.html"], OFFLINE, False),
        ("Instagram", ["instagram_silent.html"], UNKNOWN, False),
        ("Rumble", ["rumble_live.json"], LIVE, True),
        ("Rumble", ["rumble_over.json"], OFFLINE, True),
        ("Bilibili", ["bilibili_live.json"], LIVE, True),
        ("Bilibili", ["bilibili_offline.json"], OFFLINE, True),
        ("Bilibili", ["bilibili_error.json"], UNKNOWN, False),
        ("X", ["x_live.html"], LIVE, True),
        ("X", ["x_silent.html"], UNKNOWN, False),
    ],
)
def test_a_recorded_page_means(name: str, pages: list[str], result: Result, explicit: bool) -> None:
    verdict = verdict_of(name, LINKS[name], *pages)

    assert (verdict.result, verdict.explicit) == (result, explicit)


@pytest.mark.parametrize("body", [b'{"data":{}}', b'{"slug":"streamcam","livestream":{}}'])
def test_an_empty_livestream_says_nothing(body: bytes) -> None:
    for step in adapter("Kick").steps(target_of(LINKS["Kick"])):
        answer = Answer(step.target, 200, {"content-type": "application/json"}, body)
        assert read(answer, step).result is UNKNOWN


def test_rumbles_pages_are_read_too() -> None:
    link = "https://rumble.com/v5abc-downtown.html"
    assert verdict_of("Rumble", link, "rumble_page_live.html").result is LIVE
    assert verdict_of("Rumble", link, "rumble_page_video.html").result is OFFLINE


@pytest.mark.parametrize(
    ("link", "asked"),
    [
        ("https://www.tiktok.com/@Ann.B/live?lang=en", "https://www.tiktok.com/api-live/user/room?aid=1988"),
        ("https://vm.tiktok.com/ZM12ab/", "https://vm.tiktok.com/ZM12ab/"),
        ("https://youtu.be/aBcDeFgHiJk?t=5", "https://www.youtube.com/watch?v=aBcDeFgHiJk"),
        ("https://m.youtube.com/live/aBcDeFgHiJk", "https://www.youtube.com/watch?v=aBcDeFgHiJk"),
        ("https://www.youtube-nocookie.com/embed/aBcDeFgHiJk", "https://www.youtube.com/watch?v=aBcDeFgHiJk"),
        ("https://www.youtube.com/@city", "https://www.youtube.com/@city/live"),
        ("https://www.youtube.com/channel/UCabc/live", "https://www.youtube.com/channel/UCabc/live"),
        ("https://www.youtube.com/embed/live_stream?channel=UCabc", "https://www.youtube.com/embed/live_stream"),
        ("https://m.twitch.tv/StreetCam", "https://www.twitch.tv/streetcam"),
        ("https://player.twitch.tv/?channel=StreetCam&parent=x", "https://www.twitch.tv/streetcam"),
        ("https://kick.com/StreetCam", "https://kick.com/api/v2/channels/streetcam/livestream"),
        ("https://live.bilibili.com/6?x=y", "https://api.live.bilibili.com/room/v1/Room/get_info?id=6"),
    ],
)
def test_a_link_is_asked_where_the_platform_answers(link: str, asked: str) -> None:
    found = adapter_for(target_of(link))

    assert found is not None
    assert found.steps(target_of(link))[0].target.link.startswith(asked)


@pytest.mark.parametrize(
    "link",
    [
        "https://www.twitch.tv/videos/1234567",
        "https://www.twitch.tv/directory/all",
        "https://clips.twitch.tv/Funny",
        "https://kick.com/streetcam/videos/9f8e",
        "https://kick.com/streetcam?clip=1",
        "https://www.instagram.com/p/Cabc/",
    ],
)
def test_what_is_never_live_is_not_asked(link: str) -> None:
    found = adapter_for(target_of(link))

    assert found is not None
    assert found.steps(target_of(link)) == []


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/?x=twitch.tv",
        "https://twitch.tv.evil.example/streetcam",
        "https://nottwitch.tv/streetcam",
        "https://kick.com.evil.example/a",
        "https://evil.example/youtube.com/watch?v=aBcDeFgHiJk",
        "https://tiktok.com-live.example/@a/live",
    ],
)
def test_a_look_alike_is_nobodys(link: str) -> None:
    assert adapter_for(target_of(link)) is None


@pytest.mark.parametrize(("domain", "platform"), _DOMAINS.items())
def test_what_the_catalogue_calls_a_platform_has_its_adapter(domain: str, platform: Platform) -> None:
    """By the domain itself and by any name below it."""
    for host in (domain, f"www.{domain}", f"a.b.{domain}"):
        found = adapter_for(target_of(f"https://{host}/somebody"))
        assert found is not None
        assert found.name == platform.label


# Trouble


def fault(path: Path, link: str) -> Answer:
    head, _, body = path.read_bytes().partition(b"\n\n")
    status, *lines = head.decode().split("\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Answer(target_of(headers.pop("at", link)), int(status), headers, body)


FAULTS = sorted((DATA / "faults").iterdir())


def troubled(chance: random.Random, path: Path, link: str) -> Answer:
    """A recorded fault, sometimes cut short, sometimes with a body that is none."""
    answer = fault(path, link)
    match chance.randrange(6):
        case 0:
            cut = answer.body[: chance.randrange(len(answer.body) + 1)]
            return Answer(answer.target, answer.status, answer.headers, cut, complete=False)
        case 1:
            return Answer(answer.target, answer.status, answer.headers, answer.body + b" " * 100_000)
        case 2 if answer.status != 200:
            return Answer(answer.target, answer.status, answer.headers, chance.randbytes(300))
    return answer


@pytest.mark.parametrize("path", FAULTS, ids=lambda path: path.name)
@pytest.mark.parametrize("name", [adapter.name for adapter in ADAPTERS])
def test_trouble_is_never_offline(name: str, path: Path) -> None:
    """Nor is it Live: whichever question of whichever adapter it answers."""
    for step in adapter(name).steps(target_of(LINKS[name])):
        assert read(fault(path, step.target.link), step).result is UNKNOWN


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize(("name", "link"), LINKS.items())
def test_only_the_page_of_the_link_itself_can_be_gone(name: str, link: str, status: int) -> None:
    """An API that has moved answers the same for every channel there is."""
    steps = adapter(name).steps(target_of(link))
    results = [read(Answer(step.target, status, {}), step).result for step in steps]

    assert results == [UNKNOWN] * (len(steps) - 1) + [OFFLINE]


def test_ten_thousand_troubled_checks_flip_nothing() -> None:
    """Recorded faults of every kind, mixed and mutilated, on listings of all platforms that are live: 0 flips."""
    chance = random.Random(6_226)
    names = cycle(LINKS)
    standings = {name: Standing(LIVE, 0) for name in LINKS}
    checks = 0
    while checks < 10_000:
        name = next(names)
        for step in adapter(name).steps(target_of(LINKS[name])):
            verdict = read(troubled(chance, chance.choice(FAULTS), step.target.link), step)
            standings[name] = decide(standings[name], verdict)
            checks += 1

    assert {standing.status for standing in standings.values()} == {LIVE}
    assert checks >= 10_000


@pytest.mark.parametrize("page", sorted(path.name for path in (DATA / "pages").iterdir() if path.suffix == ".html"))
def test_half_a_page_never_says_offline(page: str) -> None:
    """Wherever it is cut: the mark may have stood in the rest."""
    name = next(one for one in LINKS if page.startswith(one.lower()))
    for step in adapter(name).steps(target_of(LINKS[name])):
        whole = recorded(page, step.target.link)
        for end in range(0, len(whole.body), 97):
            half = Answer(whole.target, 200, whole.headers, whole.body[:end], complete=False)
            assert read(half, step).result is not OFFLINE


@pytest.mark.parametrize("line", (DATA.parent / "links.ndjson").read_text("utf-8").splitlines())
def test_the_checker_asks_the_platform_that_the_catalogue_names(line: str) -> None:
    """On the catalogue's corpus of links and look-alikes. What it cannot take apart safely it asks nobody about."""
    known = msgspec.json.decode(line, type=dict[str, Any])
    try:
        target = target_of(known["link"])
    except Unreachable:
        return
    if not target.scheme.startswith("http"):
        return  # played, whoever's it is

    found = adapter_for(target)
    labels = {one.label for one in Platform} - {"Other"}
    assert (found.name if found and found.name in labels else "Other") == Platform(known["platform"]).label


@pytest.mark.parametrize("line", (DATA.parent / "links.ndjson").read_text("utf-8").splitlines())
async def test_no_link_of_the_corpus_leads_inside(line: str) -> None:
    """Links whose host is an address are let through to public ones alone; names are asked of nobody here."""

    async def only_addresses(host: str, port: int) -> Sequence[str]:
        try:
            return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)]
        except OSError as error:
            raise Unreachable(Reason.NAME_NOT_FOUND, host) from error

    try:
        found = await AddressGuard(only_addresses).addresses(target_of(msgspec.json.decode(line)["link"]))
    except Unreachable:
        return
    assert all(ip_address(address).is_global for address in found)
