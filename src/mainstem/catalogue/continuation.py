"""When a broadcast goes on and when a listing is over: the rules of half an hour. Pure.

Something exactly as old as the window is neither continued nor archived.
"""

from collections.abc import Iterable

from mainstem.catalogue.model import Listing, Status
from mainstem.clock import SECOND_US

WINDOW_US = 1_800 * SECOND_US
"""Whoever is live again within it goes on with the same broadcast."""


def is_within_window(moment_us: int | None, now_us: int, window_us: int = WINDOW_US) -> bool:
    """Whether something happened less than a window ago; what never happened did not."""
    return moment_us is not None and moment_us > now_us - window_us


def is_past_window(moment_us: int | None, now_us: int, window_us: int = WINDOW_US) -> bool:
    """Whether something happened more than a window ago; what never happened did not."""
    return moment_us is not None and moment_us < now_us - window_us


def candidate(listings: Iterable[Listing], now_us: int) -> Listing | None:
    """Which of a streamer's listings a new broadcast of his goes on in: one that is not archived and was last checked
    within the window. Of several, one that never began, else the one that began last."""
    fitting = [one for one in listings if not one.is_archived and is_within_window(one.last_checked_us, now_us)]
    return max(fitting, key=lambda one: (one.started_us is None, one.started_us or 0, one.id), default=None)


def is_same_broadcast(last_checked_us: int | None, left_live_us: int | None, now_us: int) -> bool:
    """Whether what goes live now is the broadcast that was live before: it was looked at within the window, and did not
    stop being live before it."""
    # Our own checker looks every few minutes: that alone would make tonight's broadcast the one of this morning.
    stopped_before = left_live_us is not None and not is_within_window(left_live_us, now_us)
    return is_within_window(last_checked_us, now_us) and not stopped_before


def is_over(listing: Listing, now_us: int, window_us: int = WINDOW_US) -> bool:
    """Whether the sweep archives a listing: it is not live, and was last checked, or is offline and was last live, more
    than a window ago. Pinned ones never; one that somebody took out of the archive not before a window is past."""
    if listing.is_archived or listing.is_pinned or listing.status is Status.LIVE:
        return False
    if listing.unarchived_us is not None and not is_past_window(listing.unarchived_us, now_us, window_us):
        return False
    was_live = listing.status is Status.OFFLINE and is_past_window(listing.last_live_us, now_us, window_us)
    return was_live or is_past_window(listing.last_checked_us, now_us, window_us)
