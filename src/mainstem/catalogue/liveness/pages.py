"""What a page says of itself, whoever made it. Pure.

The order matters: a page that is no real answer (a challenge, a wall to sign in, a server in trouble) is recognised
before anything in it is believed, and silence in a page is believed only where the page is known to speak.
"""

import re

from mainstem.catalogue.liveness.fetch import Answer, retry_after_s
from mainstem.catalogue.liveness.verdict import Reason, Verdict, live, offline, unknown

_CHALLENGES = (
    b"_wafchallengeid",
    b"/waf-aiso/",
    b"/cdn-cgi/challenge-platform/",
    b"cf-chl-",
    b"cf_chl_opt",
    b"awsWafCookieDomainList",
    b"gokuProps",
    b"px-captcha",
    b"captcha-delivery.com",
    b"_Incapsula_Resource",
    b"TikTokCaptcha",
    b"verify-bar-close",
)
"""Marks that only challenge pages carry, whatever their size."""

_SMALL_CHALLENGES = re.compile(
    r"Please wait\.\.\.|Just a moment\.\.\.|Checking your browser|Attention Required!|unusual traffic"
    r"|Verify you are human|are you a robot|confirm you(?:'|\u2019|&#39;)re not a bot|g-recaptcha|h-captcha"
    r"|Enable JavaScript and cookies|Access denied",
    re.IGNORECASE,
)
"""Words that a page may well say in its chat, so they count only in pages too small to have one."""

_SMALL_PAGE_BYTES = 60_000

_WALLS = re.compile(
    r"^(?:consent\.(?:youtube|google)\.[a-z.]+$|(?:www\.|m\.)?facebook\.com/(?:login|checkpoint|cookie)"
    r"|(?:www\.)?instagram\.com/(?:accounts/login|challenge)|(?:www\.)?google\.com/sorry|accounts\.google\.com"
    r"|(?:www\.)?tiktok\.com/login)"
)

_BROADCASTS = re.compile(r"""["']isLiveBroadcast["']\s*:\s*["']?(true|https?://schema\.org/True|1)\b""", re.IGNORECASE)
_END_DATE = re.compile(r'["\']endDate["\']\s*:\s*["\'](?=[^"\'])')


def refusal(answer: Answer) -> Verdict | None:
    """What an answer means that is no answer to our question; None for one that is worth reading."""
    if is_challenge(answer):
        return unknown(Reason.CHALLENGE)
    if answer.status in {404, 410}:
        return offline(Reason.GONE)
    if answer.status == 429:
        return unknown(Reason.RATE_LIMITED, retry_s=retry_after_s(answer))
    if answer.status >= 500:
        return unknown(Reason.SERVER_ERROR, retry_s=retry_after_s(answer))
    if answer.status in {401, 402, 403, 407, 451}:
        return unknown(Reason.DENIED)
    if answer.status not in {200, 203, 206}:
        return unknown(Reason.BROKEN_ANSWER)
    return None


def is_challenge(answer: Answer) -> bool:
    """A page that wants to see a person, or a signed-in one, before it says anything."""
    headers = answer.headers
    if headers.get("cf-mitigated", "").lower() == "challenge" or "x-amzn-waf-action" in headers:
        return True
    if _WALLS.match(answer.target.host + answer.target.path) or _WALLS.match(answer.target.host):
        return True
    if answer.is_medium or not answer.body or "json" in answer.media_type:
        return False
    if any(mark in answer.body for mark in _CHALLENGES):
        return True
    return len(answer.body) < _SMALL_PAGE_BYTES and _SMALL_CHALLENGES.search(answer.text()) is not None


def has_broadcast(text: str) -> bool:
    """The page has schema.org's BroadcastEvent of something that goes on: `isLiveBroadcast` without an `endDate`."""
    return "isLiveBroadcast" in text and _BROADCASTS.search(text) is not None and _END_DATE.search(text) is None


def page_verdict(answer: Answer) -> Verdict:
    """Of a page of nobody we know: only its own word that it broadcasts is believed, its silence means nothing."""
    return live(Reason.SAYS_LIVE, 0.7) if has_broadcast(answer.text()) else unknown(Reason.NO_ADAPTER)
