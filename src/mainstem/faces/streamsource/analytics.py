"""Figures of a stream, and the way to its link that counts who opens it."""

import string
from typing import Annotated
from urllib.parse import quote

import msgspec
from msgspec import Meta

from mainstem.catalogue import ANALYTICS, Figures, Listing
from mainstem.clock import SECOND_US
from mainstem.faces.streamsource import wire
from mainstem.faces.streamsource.context import Context
from mainstem.faces.streamsource.listings import TAG
from mainstem.faces.streamsource.parameters import record_id
from mainstem.http import Answer, Call, Reply, Route, json_answer

_AS_THEY_ARE = string.ascii_letters + string.digits + string.punctuation


class AnalyticsOut(msgspec.Struct, kw_only=True):
    """Counted over the events that are kept; nothing is estimated."""

    stream_id: int
    views_count: Annotated[int, Meta(description="How often the link was opened by way of `/open`")]
    unique_viewers: Annotated[int, Meta(description="By how many accounts")]
    average_watch_time: Annotated[int, Meta(description="0: who watches elsewhere is not seen here")] = 0
    peak_concurrent_viewers: Annotated[int, Meta(description="0, for the same reason")] = 0
    last_updated: wire.Moment
    checks: int
    checks_live: int
    checks_offline: int
    status_changes: int
    broadcasts: Annotated[int, Meta(description="How often it went live")]
    live_seconds: int
    duration_seconds: Annotated[int | None, Meta(description="Of the broadcast that is under way, or was the last")]
    availability: Annotated[
        float | None, Meta(description="The share of the checks that could tell which found it live")
    ]


def analytics_out(listing: Listing, figures: Figures, now_us: int) -> AnalyticsOut:
    return AnalyticsOut(
        stream_id=listing.id,
        views_count=figures.clicks,
        unique_viewers=figures.viewers,
        last_updated=wire.moment(now_us),
        checks=figures.checks,
        checks_live=figures.checks_live,
        checks_offline=figures.checks_offline,
        status_changes=figures.status_changes,
        broadcasts=figures.broadcasts,
        live_seconds=figures.live_s,
        duration_seconds=_duration_s(listing, now_us),
        availability=figures.availability,
    )


def _duration_s(listing: Listing, now_us: int) -> int | None:
    if listing.started_us is None:
        return None
    end_us = now_us if listing.ended_us is None else listing.ended_us
    return max(end_us - listing.started_us, 0) // SECOND_US


def routes(context: Context) -> list[Route]:
    listings, figures = context.listings, context.figures

    async def analytics(call: Call) -> Answer:
        await context.flags.require(ANALYTICS, call.caller)
        listing = await listings.get(call.caller, record_id(call))
        return json_answer(analytics_out(listing, await figures.of(listing.id), context.clock()))

    async def open_link(call: Call) -> Answer:
        number = record_id(call)
        is_look = call.method == "HEAD"
        listing = await (listings.get if is_look else listings.click)(call.caller, number)
        # A link has a scheme that browsers or players open, or it could not have been stored; it may still hold letters
        # that a header may not.
        location = quote(listing.link, safe=_AS_THEY_ARE)
        return Answer(302, headers=[("location", location), ("cache-control", "no-store")])

    return [
        Route(
            method="GET",
            path="/api/v1/streams/{id}/analytics",
            name="streamsource_analytics",
            summary="See what the log knows about a stream",
            description="Needs the feature `stream_analytics`.",
            tag=TAG,
            handler=analytics,
            replies={200: Reply("The figures", [AnalyticsOut])},
            errors=["PERMISSION_DENIED", "NOT_FOUND"],
        ),
        Route(
            method="GET",
            path="/api/v1/streams/{id}/open",
            name="streamsource_open",
            summary="Go to a stream's link, and count that",
            tag=TAG,
            handler=open_link,
            replies={302: Reply("The link, as Location")},
            errors=["NOT_FOUND"],
        ),
    ]
