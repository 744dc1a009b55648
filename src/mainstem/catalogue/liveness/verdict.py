"""What a check found, and what that does to a listing's status. Pure: no clock, no network."""

from enum import StrEnum
from typing import NamedTuple

import msgspec


class Result(StrEnum):
    LIVE = "live"
    OFFLINE = "offline"
    UNKNOWN = "unknown"
    """The check could not tell. It changes nothing and dates nothing."""


class Reason(StrEnum):
    """Why a check came to its result; each member's text is what the API shows."""

    # Live

    ADVANCES = "playlist_advances"
    FRESH = "playlist_is_fresh"
    MEDIA = "media_arrives"
    SAYS_LIVE = "platform_says_live"
    OWN_LIVE = "own_stream_is_live"

    # Offline

    ENDED = "playlist_has_ended"
    STANDS_STILL = "playlist_stands_still"
    FILE = "file_not_stream"
    NO_MEDIA = "no_media_arrives"
    GONE = "not_found"
    SAYS_OFFLINE = "platform_says_offline"
    NO_MARKER = "page_shows_no_broadcast"
    OWN_OFFLINE = "own_stream_is_offline"

    # Unknown: the way there

    BAD_LINK = "link_cannot_be_checked"
    FORBIDDEN_ADDRESS = "address_not_public"
    NAME_NOT_FOUND = "name_not_found"
    NOT_REACHED = "connection_failed"
    TLS_FAILED = "tls_failed"
    TIMED_OUT = "timed_out"
    REDIRECTS = "too_many_redirects"
    HOST_BUSY = "host_busy"
    HOST_RESTS = "host_rests"

    # Unknown: the answer

    CHALLENGE = "challenge_page"
    DENIED = "access_denied"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    BROKEN_ANSWER = "answer_not_understood"
    NOT_YET = "not_known_yet"
    NO_ADAPTER = "no_way_to_check"
    CHECK_FAILED = "check_failed"


class Verdict(msgspec.Struct, frozen=True):
    """The result of one check."""

    result: Result
    reason: Reason
    explicit: bool = False
    """The far side said so in as many words: one such Offline is enough."""
    confidence: float = 1.0
    """From 0 to 1: how far the evidence is to be trusted. It is told with the check, and decides nothing."""
    trace: str | None = None
    """Where the medium stood, for the next check to compare with; at most 512 characters."""
    retry_s: float | None = None
    """The soonest that asking again makes sense, where the far side or our own breaker said so."""


def live(reason: Reason, confidence: float = 1.0, trace: str | None = None) -> Verdict:
    return Verdict(Result.LIVE, reason, True, confidence, trace)


def offline(reason: Reason, *, explicit: bool = False, confidence: float = 1.0, trace: str | None = None) -> Verdict:
    return Verdict(Result.OFFLINE, reason, explicit, confidence, trace)


def unknown(reason: Reason, *, trace: str | None = None, retry_s: float | None = None) -> Verdict:
    return Verdict(Result.UNKNOWN, reason, False, 0.0, trace, retry_s)


OFFLINES_NEEDED = 2
"""So many Offlines in a row, with no Live between them, are believed although none of them is explicit."""


class Standing(NamedTuple):
    """What is believed of a listing."""

    status: Result
    offline_streak: int
    """Offlines since the last Live that were not enough alone. Unknowns between them neither count nor clear it."""


def decide(standing: Standing, verdict: Verdict) -> Standing:
    """What is believed after a check.

    Live is believed at once. Offline is believed when it is explicit or the second in a row. Unknown changes nothing.
    """
    match verdict.result:
        case Result.UNKNOWN:
            return standing
        case Result.LIVE:
            return Standing(Result.LIVE, 0)
        case Result.OFFLINE:
            streak = min(standing.offline_streak + 1, OFFLINES_NEEDED)
            believed = verdict.explicit or streak >= OFFLINES_NEEDED
            return Standing(Result.OFFLINE if believed else standing.status, streak)
