"""The child of `libraries`: asks streamlink or yt-dlp about the link on standard input, and prints what it heard.

It is run as a file, and knows nothing else of mainstem: a child must not wait for the database's library.
"""

import ctypes
import os
import signal
import sys
from typing import Any, Literal

import msgspec

_SOCKET_TIMEOUT_S = 8


class Told(msgspec.Struct, frozen=True):
    """What the child says: `live`, `not_live`, or nothing that could be understood."""

    state: Literal["live", "not_live", "unknown"]
    detail: str = ""


def ask_streamlink(link: str) -> Told:
    import streamlink
    from streamlink.exceptions import NoPluginError

    session = streamlink.Streamlink({"http-timeout": _SOCKET_TIMEOUT_S})
    try:
        _, plugin_class, address = session.resolve_url(link, follow_redirect=False)
    except NoPluginError:
        return Told("unknown", "no plugin")
    streams = plugin_class(session, address).streams()
    # No streams is what it answers for an ended broadcast, a login wall and a page it did not understand alike.
    return Told("live") if streams else Told("unknown", "no streams")


def ask_yt_dlp(link: str) -> Told:
    from yt_dlp import YoutubeDL
    from yt_dlp.utils import DownloadError, UserNotLive

    options: Any = {
        "quiet": True,
        "no_warnings": True,
        "skip_download": True,
        "noplaylist": True,
        "socket_timeout": _SOCKET_TIMEOUT_S,
        "retries": 0,
        "extractor_retries": 0,
        "cachedir": False,
        "allowed_extractors": ["default", "-generic"],
    }
    try:
        with YoutubeDL(options) as session:
            facts = session.extract_info(link, download=False, process=False)
    except DownloadError as error:
        cause = error.exc_info[1] if error.exc_info else None
        return Told("not_live") if isinstance(cause, UserNotLive) else Told("unknown", type(cause).__name__)
    return told_by_yt_dlp(facts or {})


def told_by_yt_dlp(facts: dict[str, Any]) -> Told:
    """What the facts of an extractor mean."""
    if facts.get("is_live") is True or facts.get("live_status") == "is_live":
        return Told("live")
    if facts.get("live_status") in {"was_live", "post_live", "not_live"}:
        return Told("not_live", str(facts["live_status"]))
    return Told("unknown", str(facts.get("live_status")))


def main() -> None:
    os.nice(10)
    if sys.platform == "linux":
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    asks = {"streamlink": ask_streamlink, "yt_dlp": ask_yt_dlp}
    ask = asks[sys.argv[1]]
    link = sys.stdin.readline().strip()
    try:
        told = ask(link)
    except Exception as error:  # whatever a library raises means the same: it could not tell
        told = Told("unknown", type(error).__name__)
    sys.stdout.buffer.write(msgspec.json.encode(told))


if __name__ == "__main__":
    main()
