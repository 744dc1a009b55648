"""Which platform a link leads to, and whose channel it is there. Pure.

Hosts and paths as of November 2026, from what players, downloaders and link collectors recognise.
"""

import re
from collections.abc import Mapping
from urllib.parse import parse_qs, unquote

from mainstem.catalogue.links import is_within, parse_link, parse_listed_link
from mainstem.catalogue.model import Platform

_DOMAINS: Mapping[str, Platform] = {
    "tiktok.com": Platform.TIKTOK,
    "facebook.com": Platform.FACEBOOK,
    "fb.com": Platform.FACEBOOK,
    "fb.watch": Platform.FACEBOOK,
    "twitch.tv": Platform.TWITCH,
    "youtube.com": Platform.YOUTUBE,
    "youtube-nocookie.com": Platform.YOUTUBE,
    "youtu.be": Platform.YOUTUBE,
    "instagram.com": Platform.INSTAGRAM,
    "instagr.am": Platform.INSTAGRAM,
    "kick.com": Platform.KICK,
}

_NO_CHANNELS: Mapping[Platform, frozenset[str]] = {
    Platform.TWITCH: frozenset({"directory", "search", "videos", "settings", "subscriptions", "downloads", "p"}),
    Platform.KICK: frozenset({"video", "videos", "categories", "category", "search", "auth", "browse", "clips"}),
    Platform.INSTAGRAM: frozenset({"p", "tv", "reel", "reels", "stories", "explore", "accounts", "direct"}),
    Platform.FACEBOOK: frozenset({"watch", "live", "share", "reel", "gaming", "groups", "events", "pages", "people"}),
}
"""First parts of paths that are no channel's name."""

_NAME = re.compile(r"[\w.-]{1,64}")


def platform_of(link: str) -> Platform:
    """The platform whose host a link has; `OTHER` for every other, and for what is no link."""
    parsed = parse_listed_link(link)
    if parsed is not None:
        for domain, platform in _DOMAINS.items():
            if is_within(parsed.host, domain):
                return platform
    return Platform.OTHER


def channel_in(link: str) -> str | None:
    """Whose channel a link leads to, in lower case; None where the link does not say.

    What RTMP and RTSP have in their paths are applications and keys, and never names of channels.
    """
    parsed = parse_link(link)
    if parsed is None:
        return None
    parts = [unquote(part) for part in parsed.path.split("/") if part]
    platform = platform_of(link)
    match platform:
        case Platform.TIKTOK | Platform.YOUTUBE:
            name = parts[0][1:] if parts and parts[0].startswith("@") else None
        case Platform.TWITCH if parsed.host == "player.twitch.tv":
            name = parse_qs(parsed.query).get("channel", [None])[0]
        case Platform.TWITCH if parsed.host == "clips.twitch.tv":
            name = None
        case Platform.TWITCH | Platform.KICK | Platform.INSTAGRAM:
            name = parts[0] if parts else None
        case Platform.FACEBOOK:
            name = parts[0] if len(parts) > 1 and parts[1] in ("videos", "live") else None
        case _:
            name = None
    if name is None or not is_channel_name(name) or name.lower() in _NO_CHANNELS.get(platform, ()):
        return None
    return name.lower()


def is_channel_name(name: str) -> bool:
    """Whether a name looks like one that platforms give: letters, digits, `_`, `.` and `-`."""
    return _NAME.fullmatch(name) is not None
