"""`GET /api/v1/feed`: all that is not archived, a bare array in the words that Streamwall knows, for who polls it.

It says nothing of who posted what, since the operator may open it to everybody.
"""

import asyncio
from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from mainstem.catalogue import Edition, Feed, Kind, Listing, Orientation
from mainstem.faces.streamsource.listings import TAG
from mainstem.http import JSON, Answer, Call, Reply, Route, compressed, preferred_encoding

_OFF_LOOP_LISTINGS = 200


class FeedItem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A listing; what it does not have is left out."""

    id: int
    link: str
    kind: str
    source: str
    status: str
    """`Live`, `Offline` or `Unknown`."""
    is_pinned: bool
    label: str | UnsetType = UNSET
    """The title, which is shown instead of the source."""
    platform: str | UnsetType = UNSET
    orientation: str | UnsetType = UNSET
    """`vertical`, `horizontal` or `square`."""
    city: str | UnsetType = UNSET
    state: str | UnsetType = UNSET
    latitude: float | UnsetType = UNSET
    longitude: float | UnsetType = UNSET
    notes: str | UnsetType = UNSET


_ORIENTATIONS = {Orientation.PORTRAIT: Orientation.VERTICAL, Orientation.LANDSCAPE: Orientation.HORIZONTAL}


def item_of(listing: Listing) -> FeedItem:
    place = listing.location
    orientation = listing.orientation
    return FeedItem(
        id=listing.id,
        link=listing.link,
        kind=Kind.VIDEO if listing.kind is Kind.STREAM else listing.kind,
        source=listing.source,
        status=listing.status.capitalize(),
        is_pinned=listing.is_pinned,
        label=listing.title or UNSET,
        platform=UNSET if listing.platform is None else listing.platform.label,
        orientation=UNSET if orientation is None else _ORIENTATIONS.get(orientation, orientation),
        city=listing.city or UNSET,
        state=listing.state or UNSET,
        latitude=UNSET if place is None or place.latitude is None else place.latitude,
        longitude=UNSET if place is None or place.longitude is None else place.longitude,
        notes=listing.notes or UNSET,
    )


class _Written(NamedTuple):
    """An edition as it is sent: by the encoding that clients like, the bytes, and the encoding that they are in."""

    number: str
    bodies: dict[str, tuple[bytes, str]]


class FeedFace:
    """Writes an edition once in each encoding, however many ask for it at once."""

    def __init__(self, feed: Feed, *, is_public: bool) -> None:
        self._feed = feed
        self.is_public = is_public
        self._written = _Written("", {})
        self._writing = asyncio.Lock()

    async def answer(self, call: Call) -> Answer:
        edition = await self._feed.edition()
        headers = [
            ("etag", f'W/"{edition.number}"'),
            ("cache-control", "public, no-cache" if self.is_public else "private, no-cache"),
            ("vary", "accept-encoding" if self.is_public else "accept-encoding, authorization"),
        ]
        if _has(call, edition.number):
            return Answer(304, headers=headers)
        body, encoding = await self._body(edition, preferred_encoding(call.headers.get("accept-encoding", "")))
        if encoding:
            headers.append(("content-encoding", encoding))
        return Answer(200, body, JSON, headers, compress=False)

    async def _body(self, edition: Edition, liked: str) -> tuple[bytes, str]:
        """The edition, and how it is encoded: a short one stays as it is."""
        async with self._writing:
            if self._written.number != edition.number:
                self._written = _Written(edition.number, {"": (await _encoded(edition), "")})
            bodies = self._written.bodies
            if liked not in bodies:
                bodies[liked] = await compressed(bodies[""][0], liked)
            return bodies[liked]


async def _encoded(edition: Edition) -> bytes:
    if len(edition.listings) > _OFF_LOOP_LISTINGS:
        return await asyncio.to_thread(_encode, edition)
    return _encode(edition)


def _encode(edition: Edition) -> bytes:
    return msgspec.json.encode(list(map(item_of, edition.listings)))


def _has(call: Call, number: str) -> bool:
    """Whether the client has this edition already (RFC 9110, section 13.1.2)."""
    known = call.headers.get("if-none-match", "")
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in known.split(",")}
    return "*" in tags or number in tags


def routes(face: FeedFace) -> list[Route]:
    return [
        Route(
            method="GET",
            path="/api/v1/feed",
            name="streamsource_feed",
            summary="Poll everything that is not archived, as Streamwall reads it",
            description="A bare array, pinned ones first, then the newest, 10,000 at most. Send the ETag back as"
            " If-None-Match: while nothing has changed the answer is 304 and costs nothing."
            " Without a token only where the operator has set `MAINSTEM_PUBLIC_FEED`.",
            tag=TAG,
            handler=face.answer,
            public=face.is_public,
            replies={200: Reply("The listings", [list[FeedItem]]), 304: Reply("Nothing has changed")},
        )
    ]
