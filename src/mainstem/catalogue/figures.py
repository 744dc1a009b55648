"""What the log knows about a listing: how often it was looked at, how long it was live, who opened it.

Nothing is made up: what nobody counts is zero.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import msgspec

from mainstem.catalogue.announcing import TOPIC
from mainstem.clock import SECOND_US, Clock
from mainstem.errors import NotFound
from mainstem.events import AggregateRequest, Aggregation, PageRequest, Queries
from mainstem.identity import OPERATOR

_PAGE_EVENTS = 1_000
_PAGES_MAX = 10
"""Of changes, the newest; a listing that is changed more often than ten thousand times has its oldest left out."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Counted over the events that are still kept."""

    clicks: int = 0
    viewers: int = 0
    """Different accounts that opened it."""
    checks: int = 0
    checks_live: int = 0
    checks_offline: int = 0
    """The others could not tell."""
    status_changes: int = 0
    broadcasts: int = 0
    """How often it went live."""
    live_s: int = 0
    availability: float | None = None
    """The share of those of its checks that could tell which found it live; None before the first."""


class Change(NamedTuple):
    """From this moment on the listing had this status, or was in the archive."""

    time_us: int
    status: str


class LiveTime(NamedTuple):
    seconds: int
    broadcasts: int


class ListingFigures:
    """Asks the log on behalf of whoever may see the listing: the topic itself is the operator's."""

    def __init__(self, queries: Queries, clock: Clock) -> None:
        self._queries = queries
        self._clock = clock

    async def of(self, listing: int) -> Figures:
        """Raises Unavailable or Exhausted where the log is too busy to answer."""
        try:
            counted = await self._counts(listing)
            changes = await self._changes(listing)
        except NotFound:  # nothing was ever told of any listing
            return Figures()
        live = live_time(changes, self._clock())
        clicks, viewers = counted.get(("listing.clicked", None), (0, 0))
        checks = {result: count for (kind, result), (count, _) in counted.items() if kind == "listing.checked"}
        checks_live, checks_offline = checks.get("live", 0), checks.get("offline", 0)
        told = checks_live + checks_offline
        return Figures(
            clicks=clicks,
            viewers=viewers,
            checks=sum(checks.values()),
            checks_live=checks_live,
            checks_offline=checks_offline,
            status_changes=status_changes(changes),
            broadcasts=live.broadcasts,
            live_s=live.seconds,
            availability=round(checks_live / told, 4) if told else None,
        )

    async def _counts(self, listing: int) -> dict[tuple[str, str | None], tuple[int, int]]:
        """Kind of event and result of a check → how many, and by how many accounts."""
        request = AggregateRequest(
            stream=TOPIC,
            filters=[f"data.id={listing:d}"],
            aggregations=[Aggregation("count"), Aggregation("count_distinct", "data.by")],
            group_by=["event_type", "data.result"],
        )
        answer = await self._queries.aggregate(OPERATOR, request)
        return {
            (str(group.group["event_type"]), _text(group.group["data.result"])): (
                group.count,
                _whole(group.values["count_distinct(data.by)"]),
            )
            for group in answer.results
        }

    async def _changes(self, listing: int) -> list[Change]:
        """The newest changes of its status, oldest first."""
        filters = [f"data.id={listing:d}", *(f"event_type!=listing.{other}" for other in ("checked", "clicked"))]
        changes: list[Change] = []
        cursor: str | None = None
        for _ in range(_PAGES_MAX):
            request = PageRequest(stream=TOPIC, filters=filters, order="desc", limit=_PAGE_EVENTS, cursor=cursor)
            page = await self._queries.page(OPERATOR, request)
            for row in page.events:
                status = _ARCHIVED if row.event_type in _ENDS else _status_in(row.data)
                if status is not None:
                    changes.append(Change(row.ts_us, status))
            cursor = page.next_cursor
            if cursor is None:
                break
        changes.reverse()
        return changes


_ENDS = frozenset({"listing.archived", "listing.deleted"})
_ARCHIVED = "archived"


class _Changed(msgspec.Struct, frozen=True):
    status: str | None = None


class _Told(msgspec.Struct):
    status: str | None = None
    changes: _Changed = _Changed()


_decode = msgspec.json.Decoder(_Told).decode


def _status_in(data: bytes) -> str | None:
    """The status that an event tells of, if it does."""
    try:
        told = _decode(data)
    except msgspec.DecodeError:  # an administrator may write anything into the topic
        return None
    return told.status or told.changes.status


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def live_time(changes: Iterable[Change], now_us: int) -> LiveTime:
    """How long a listing was live in all, and how often it went live, by the changes of its status, oldest first."""
    live_us, broadcasts = 0, 0
    since_us: int | None = None
    for change in changes:
        if change.status == "live" and since_us is None:
            since_us = change.time_us
            broadcasts += 1
        elif change.status != "live" and since_us is not None:
            live_us += change.time_us - since_us
            since_us = None
    if since_us is not None:
        live_us += max(now_us - since_us, 0)
    return LiveTime(live_us // SECOND_US, broadcasts)


def status_changes(changes: Iterable[Change]) -> int:
    """How often the status became another one. To be put into the archive is no change of status."""
    statuses = [change.status for change in changes if change.status != _ARCHIVED]
    return sum(one != other for one, other in pairwise(statuses))
