"""What platforms answer, and what it means: one adapter for each, pure.

An adapter knows where to ask about a link and how to read what comes back. It believes a platform's Offline when the
answer is certainly about the channel; an answer that it does not recognise is Unknown. Platforms change their pages
without notice, and then this must fail towards Unknown, never towards Offline.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote

import msgspec

from mainstem.catalogue.liveness.address import Target, target_of
from mainstem.catalogue.liveness.fetch import Answer
from mainstem.catalogue.liveness.pages import has_broadcast, refusal
from mainstem.catalogue.liveness.verdict import Reason, Result, Verdict, live, offline, unknown


class Step(NamedTuple):
    """One question to a platform, and how to read its answer."""

    target: Target
    read: Callable[[Answer], Verdict]
    is_api: bool = False
    """Asks an address of the platform's own making. That nothing is there says as much of the API as of the link."""

    @property
    def accept(self) -> str:
        return "application/json" if self.is_api else "text/html"


class Adapter(NamedTuple):
    name: str
    hosts: tuple[str, ...]
    """A link is the platform's when its host is one of these or ends in a dot and one of these."""
    steps: Callable[[Target], Sequence[Step]]
    """Questions in order; the first answer that is not Unknown holds. None: nothing of the platform's that is live."""


def adapter_for(target: Target) -> Adapter | None:
    """The adapter that knows this link's host. A host is compared as a whole, so look-alikes are nobody's."""
    host = target.host
    while host:
        found = _BY_HOST.get(host)
        if found is not None:
            return found
        host = host.partition(".")[2]
    return None


def read(answer: Answer, step: Step) -> Verdict:
    """What an answer to a step means: nothing but trouble in trouble, else what the adapter reads in it."""
    refused = refusal(answer)
    if refused is not None:
        return unknown(Reason.BROKEN_ANSWER) if step.is_api and refused.result is Result.OFFLINE else refused
    try:
        verdict = step.read(answer)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError, IndexError):
        return unknown(Reason.BROKEN_ANSWER)
    if verdict.result is Result.OFFLINE and not answer.complete:
        return unknown(Reason.BROKEN_ANSWER)  # what would have made it Live may be in the part that is missing
    return verdict


def _json(answer: Answer) -> dict[str, Any]:
    return msgspec.json.decode(answer.body, type=dict[str, Any])


def _page(target: Target, read_page: Callable[[Answer], Verdict]) -> Step:
    return Step(target, read_page)


def _api(link: str, read_json: Callable[[Answer], Verdict]) -> Step:
    return Step(target_of(link), read_json, is_api=True)


def _read_mark(answer: Answer) -> Verdict:
    """Of a page that is asked because it is there or is not, and may say more."""
    return live(Reason.SAYS_LIVE, 0.8) if has_broadcast(answer.text()) else unknown(Reason.BROKEN_ANSWER)


def _parts(target: Target) -> list[str]:
    return [part for part in target.path.split("/") if part]


# TikTok: the API that its own live page asks, then the page

_TIKTOK_ROOM = "https://www.tiktok.com/api-live/user/room?aid=1988&sourceType=54&staleTime=600000&uniqueId={user}"
_TIKTOK_LIVE, _TIKTOK_ENDED = 2, 4
_TIKTOK_STATUS = re.compile(r'"liveRoom"\s*:\s*\{[^{}]{0,400}?"status"\s*:\s*(\d)')
_TIKTOK_PAGE = re.compile(r'"(?:LiveRoom|liveRoomUserInfo|webapp\.live-detail)"\s*:')


def _tiktok(target: Target) -> list[Step]:
    parts = _parts(target)
    if not parts or not parts[0].startswith("@") or (len(parts) > 1 and parts[1] != "live"):
        return [_page(target, _read_tiktok_page)]
    user = quote(parts[0].removeprefix("@").lower(), safe="._-%")
    page = target_of(f"https://www.tiktok.com/@{user}/live")
    return [_api(_TIKTOK_ROOM.format(user=user), _read_tiktok_room), _page(page, _read_tiktok_page)]


def _read_tiktok_room(answer: Answer) -> Verdict:
    body = _json(answer)
    # An empty answer with status 0 is what strangers get who ask too often: it says nothing about the channel.
    if body.get("statusCode") != 0 or not isinstance(body.get("data"), dict):
        return unknown(Reason.BROKEN_ANSWER)
    match body["data"]["liveRoom"]["status"]:
        case 2:
            return live(Reason.SAYS_LIVE)
        case 4:
            return offline(Reason.SAYS_OFFLINE, explicit=True)
    return unknown(Reason.BROKEN_ANSWER)


def _read_tiktok_page(answer: Answer) -> Verdict:
    text = answer.text()
    if has_broadcast(text):
        return live(Reason.SAYS_LIVE, 0.9)
    status = _TIKTOK_STATUS.search(text)
    if status is not None:
        if int(status[1]) == _TIKTOK_LIVE:
            return live(Reason.SAYS_LIVE, 0.9)
        if int(status[1]) == _TIKTOK_ENDED:
            return offline(Reason.SAYS_OFFLINE, confidence=0.8)
    return unknown(Reason.BROKEN_ANSWER)


# YouTube: the player's own account of the video, in the page of the video or of the channel's live address

_YOUTUBE_PLAYER = re.compile(r"ytInitialPlayerResponse\s*=\s*\{")
_YOUTUBE_DETAILS = re.compile(r'"liveBroadcastDetails"\s*:\s*\{([^{}]*)\}')
_YOUTUBE_LIVE_NOW = re.compile(r'"isLiveNow"\s*:\s*(true|false)')
_YOUTUBE_IS_LIVE = re.compile(r'"isLive"\s*:\s*true')
_YOUTUBE_VIDEO_DETAILS = re.compile(r'"videoDetails"\s*:\s*\{\s*"videoId"\s*:\s*"([\w-]{11})"')
_YOUTUBE_UNPLAYABLE = re.compile(r'"playabilityStatus"\s*:\s*\{\s*"status"\s*:\s*"(?:LOGIN_REQUIRED|ERROR|UNPLAYABLE)"')
_YOUTUBE_CHANNEL = re.compile(r'<link rel="canonical" href="https://www\.youtube\.com/(?:channel/|c/|user/|@)[^"]+"')
_YOUTUBE_VIDEO = re.compile(r"[\w-]{11}")


def _youtube(target: Target) -> list[Step]:
    parts = _parts(target)
    video = _youtube_video(target, parts)
    if video is not None:
        return [_page(target_of(f"https://www.youtube.com/watch?v={video}"), _read_youtube)]
    if parts and (parts[0].startswith("@") or parts[0] in {"c", "channel", "user"}):
        name = "/".join(parts[: 1 if parts[0].startswith("@") else 2])
        return [_page(target_of(f"https://www.youtube.com/{name}/live"), _read_youtube)]
    return [_page(target, _read_youtube)]


def _youtube_video(target: Target, parts: list[str]) -> str | None:
    if target.host == "youtu.be":
        candidate = parts[0] if parts else ""
    elif parts[:1] == ["watch"]:
        candidate = parse_qs(target.query).get("v", [""])[0]
    elif len(parts) > 1 and parts[0] in {"live", "v", "embed", "shorts"}:
        candidate = parts[1]
    else:
        return None
    return candidate if _YOUTUBE_VIDEO.fullmatch(candidate) and candidate != "live_stream" else None


def _read_youtube(answer: Answer) -> Verdict:
    text = answer.text()
    details = _YOUTUBE_DETAILS.search(text)
    if details is not None:
        now = _YOUTUBE_LIVE_NOW.search(details[1])
        if now is not None and now[1] == "true":
            return live(Reason.SAYS_LIVE)
        if now is not None or "endTimestamp" in details[1]:
            return offline(Reason.SAYS_OFFLINE, explicit=True)
    if has_broadcast(text):
        return live(Reason.SAYS_LIVE, 0.9)
    if _YOUTUBE_UNPLAYABLE.search(text):
        return unknown(Reason.DENIED)
    player = _YOUTUBE_PLAYER.search(text)
    if player is not None and _YOUTUBE_VIDEO_DETAILS.search(text, player.start()):
        # A page also names other videos, some of them live: only the player's own part counts.
        own = text[player.start() : player.start() + 400_000].partition("ytInitialData")[0]
        return live(Reason.SAYS_LIVE, 0.9) if _YOUTUBE_IS_LIVE.search(own) else offline(Reason.NO_MARKER)
    if _YOUTUBE_CHANNEL.search(text) and "ytInitialData" in text:
        return offline(Reason.NO_MARKER, confidence=0.8)  # a channel's live address that shows the channel
    return unknown(Reason.BROKEN_ANSWER)


# Twitch: its pages carry schema.org's mark for search engines while the channel is live

_TWITCH_RESERVED = frozenset({"directory", "search", "settings", "subscriptions", "videos", "downloads", "jobs", "p"})
_TWITCH_NAME = re.compile(r"[a-z0-9_]{2,25}")


def _twitch(target: Target) -> list[Step]:
    parts = _parts(target)
    if target.host == "player.twitch.tv":
        parts = parse_qs(target.query).get("channel", [])
    channel = parts[0].lower() if parts else ""
    if channel in _TWITCH_RESERVED or not _TWITCH_NAME.fullmatch(channel) or target.host == "clips.twitch.tv":
        return []
    if len(parts) > 1 and parts[1] in {"videos", "video", "v", "clip", "clips", "schedule", "about"}:
        return []

    def read_page(answer: Answer) -> Verdict:
        text = answer.text()
        if has_broadcast(text):
            return live(Reason.SAYS_LIVE, 0.9)
        about = (
            rf"""(?:og:url|canonical)["'][^>]{{0,40}}https://(?:www\.|m\.)?twitch\.tv/(?i:{re.escape(channel)})["'/?]"""
        )
        if re.search(about, text):
            return offline(Reason.NO_MARKER, confidence=0.6)
        return unknown(Reason.BROKEN_ANSWER)

    return [_page(target_of(f"https://www.twitch.tv/{channel}"), read_page)]


# Kick: an open API

_KICK_RESERVED = frozenset({"video", "categories", "search", "auth", "browse", "following"})


def _kick(target: Target) -> list[Step]:
    parts = _parts(target)
    if target.host == "player.kick.com":
        parts = parts[:1]
    if len(parts) != 1 or parts[0].lower() in _KICK_RESERVED or "clip=" in target.query:
        return []
    slug = quote(parts[0].lower(), safe="_-%")
    return [
        _api(f"https://kick.com/api/v2/channels/{slug}/livestream", _read_kick_livestream),
        _api(f"https://kick.com/api/v2/channels/{slug}", _read_kick_channel),
        _page(target_of(f"https://kick.com/{slug}"), _read_mark),
    ]


def _read_kick_livestream(answer: Answer) -> Verdict:
    body = _json(answer)
    if "data" not in body:
        return unknown(Reason.BROKEN_ANSWER)
    if body["data"] is None:
        return offline(Reason.SAYS_OFFLINE, explicit=True)
    return live(Reason.SAYS_LIVE) if body["data"].get("id") is not None else unknown(Reason.BROKEN_ANSWER)


def _read_kick_channel(answer: Answer) -> Verdict:
    body = _json(answer)
    if not isinstance(body.get("slug"), str) or "livestream" not in body:
        return unknown(Reason.BROKEN_ANSWER)
    stream = body["livestream"]
    if stream is None or stream.get("is_live") is False:
        return offline(Reason.SAYS_OFFLINE, explicit=True)
    says_live = stream.get("is_live") is True or stream.get("id") is not None
    return live(Reason.SAYS_LIVE) if says_live else unknown(Reason.BROKEN_ANSWER)


# Facebook and Instagram: little is shown to who has not signed in

_FACEBOOK_LIVE = re.compile(
    r'"is_live_streaming"\s*:\s*true|"broadcast_status"\s*:\s*"LIVE"|"is_live"\s*:\s*true\s*,\s*"video_id"'
)
_FACEBOOK_OVER = re.compile(r'"is_live_streaming"\s*:\s*false|"broadcast_status"\s*:\s*"(?:VOD_READY|LIVE_STOPPED)"')
_INSTAGRAM_LIVE = re.compile(r'"broadcast_status"\s*:\s*"active"')
_INSTAGRAM_OVER = re.compile(r'"broadcast_status"\s*:\s*"(?:stopped|post_live)"')


def _marks(over: re.Pattern[str], on: re.Pattern[str]) -> Callable[[Answer], Verdict]:
    def read_page(answer: Answer) -> Verdict:
        text = answer.text()
        if has_broadcast(text) or on.search(text):
            return live(Reason.SAYS_LIVE, 0.8)
        # Never explicit: the mark may be that of another video on the page.
        return offline(Reason.SAYS_OFFLINE, confidence=0.7) if over.search(text) else unknown(Reason.BROKEN_ANSWER)

    return read_page


def _facebook(target: Target) -> list[Step]:
    return [_page(target, _marks(_FACEBOOK_OVER, _FACEBOOK_LIVE))]


def _instagram(target: Target) -> list[Step]:
    parts = _parts(target)
    return [] if parts[:1] in (["p"], ["tv"], ["reel"]) else [_page(target, _marks(_INSTAGRAM_OVER, _INSTAGRAM_LIVE))]


# Rumble: the API of its embedded player

_RUMBLE_VIDEO = re.compile(r"(?:[a-z0-9]+\.)?(v[a-z0-9]+)(?:-.*\.html)?")
_RUMBLE_EMBED = re.compile(r'"embedUrl"\s*:\s*"https://rumble\.com/embed/(?:[a-z0-9]+\.)?(v[a-z0-9]+)')


def _rumble(target: Target) -> list[Step]:
    parts = _parts(target)
    if len(parts) == 2 and parts[0] == "embed":
        found = _RUMBLE_VIDEO.fullmatch(parts[1])
        if found:
            asked = f"https://rumble.com/embedJS/u3/?request=video&ver=2&v={found[1]}"
            return [_api(asked, _read_rumble), _page(target, _read_mark)]
    return [_page(target, _read_rumble_page)]


def _read_rumble(answer: Answer) -> Verdict:
    match _json(answer)["live"]:
        case 2:
            return live(Reason.SAYS_LIVE)
        case 0 | 1:
            return offline(Reason.SAYS_OFFLINE, explicit=True)
    return unknown(Reason.BROKEN_ANSWER)


def _read_rumble_page(answer: Answer) -> Verdict:
    if has_broadcast(answer.text()):
        return live(Reason.SAYS_LIVE, 0.9)
    if _RUMBLE_EMBED.search(answer.text()):
        return offline(Reason.NO_MARKER, confidence=0.6)
    return unknown(Reason.BROKEN_ANSWER)


# Bilibili: an open API


def _bilibili(target: Target) -> list[Step]:
    parts = _parts(target)
    room = parts[-1] if parts else ""
    if not (room.isascii() and room.isdigit()):
        return []
    asked = f"https://api.live.bilibili.com/room/v1/Room/get_info?id={room}"
    return [_api(asked, _read_bilibili), _page(target, _read_mark)]


def _read_bilibili(answer: Answer) -> Verdict:
    body = _json(answer)
    if body["code"] != 0:
        return unknown(Reason.BROKEN_ANSWER)
    match body["data"]["live_status"]:
        case 1:
            return live(Reason.SAYS_LIVE)
        case 0 | 2:  # nothing, or a loop of recordings
            return offline(Reason.SAYS_OFFLINE, explicit=True)
    return unknown(Reason.BROKEN_ANSWER)


# All others that are known by name: only a mark of their own is believed


def _only_marks(target: Target) -> list[Step]:
    def read_page(answer: Answer) -> Verdict:
        return live(Reason.SAYS_LIVE, 0.8) if has_broadcast(answer.text()) else unknown(Reason.NO_ADAPTER)

    return [_page(target, read_page)]


ADAPTERS = (
    Adapter("TikTok", ("tiktok.com",), _tiktok),
    Adapter("YouTube", ("youtube.com", "youtu.be", "youtube-nocookie.com"), _youtube),
    Adapter("Twitch", ("twitch.tv",), _twitch),
    Adapter("Kick", ("kick.com",), _kick),
    Adapter("Facebook", ("facebook.com", "fb.com", "fb.watch"), _facebook),
    Adapter("Instagram", ("instagram.com", "instagr.am"), _instagram),
    Adapter("Rumble", ("rumble.com",), _rumble),
    Adapter("Bilibili", ("live.bilibili.com",), _bilibili),
    Adapter("X", ("x.com", "twitter.com"), _only_marks),
    Adapter("Vimeo", ("vimeo.com",), _only_marks),
    Adapter("DLive", ("dlive.tv",), _only_marks),
    Adapter("Trovo", ("trovo.live",), _only_marks),
)

_BY_HOST = {host: adapter for adapter in ADAPTERS for host in adapter.hosts}
