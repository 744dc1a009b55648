"""Nouns of the catalogue: listings of what is live elsewhere, the streamers behind them, and where they are."""

from enum import StrEnum
from typing import NewType, Self

import msgspec
from msgspec import UNSET, UnsetType

from mainstem.errors import Denied, NotFound
from mainstem.ids import AccountId

ListingId = NewType("ListingId", int)
"""A listing's number, 1 and up, never used again."""

StreamerId = NewType("StreamerId", int)
"""A streamer's number, 1 and up, never used again."""

LocationId = NewType("LocationId", int)
"""A place's number, 1 and up, never used again."""

SOURCE_CHARACTERS_MAX = 255
LINK_CHARACTERS_MAX = 8_192
TEXT_CHARACTERS_MAX = 1_000
"""Of titles, places and names of posters."""
NOTES_CHARACTERS_MAX = 65_535


class Choice(StrEnum):
    """Something to choose from, in words that clients write in any case."""

    @classmethod
    def read(cls, text: str) -> Self | None:
        """The choice that a client's word means; None when it means none."""
        try:
            return cls(text.strip().lower())
        except ValueError:
            return None


class Status(Choice):
    LIVE = "live"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


class Platform(Choice):
    """Where a stream is. Rows keep the key, clients see the label."""

    TIKTOK = "tiktok"
    FACEBOOK = "facebook"
    TWITCH = "twitch"
    YOUTUBE = "youtube"
    INSTAGRAM = "instagram"
    KICK = "kick"
    OTHER = "other"

    @classmethod
    def read(cls, text: str) -> Self | None:
        # A bot that does not recognise a link says so in this word.
        return super().read("other" if text.strip().lower() == "unknown" else text)

    @property
    def label(self) -> str:
        return _LABELS[self.value]


_LABELS = {
    "tiktok": "TikTok",
    "facebook": "Facebook",
    "twitch": "Twitch",
    "youtube": "YouTube",
    "instagram": "Instagram",
    "kick": "Kick",
    "other": "Other",
}


class Orientation(Choice):
    """How the picture stands. A listing keeps the word that was used; lists take words of one meaning for the same."""

    VERTICAL = "vertical"
    HORIZONTAL = "horizontal"
    PORTRAIT = "portrait"
    LANDSCAPE = "landscape"
    SQUARE = "square"

    @property
    def same(self) -> frozenset["Orientation"]:
        """The words with the same meaning, this one included."""
        return next((words for words in _SAME_ORIENTATIONS if self in words), frozenset({self}))


_SAME_ORIENTATIONS = (
    frozenset({Orientation.VERTICAL, Orientation.PORTRAIT}),
    frozenset({Orientation.HORIZONTAL, Orientation.LANDSCAPE}),
)


class Kind(Choice):
    """What is behind the link."""

    VIDEO = "video"
    WEB = "web"
    OVERLAY = "overlay"
    BACKGROUND = "background"
    STREAM = "stream"


class StreamerName(msgspec.Struct, frozen=True, gc=False):
    """A streamer, as a listing names him."""

    id: StreamerId
    name: str


class Location(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A place where something is shown from."""

    id: LocationId
    city: str
    state_province: str | None
    region: str | None
    country: str | None
    latitude: float | None
    longitude: float | None
    normalized_name: str
    """What it is found by: city, state and country, trimmed, in lower case."""
    is_known_city: bool
    created_us: int
    updated_us: int


class PlaceDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A place as somebody describes it. Blank parts are as good as none."""

    city: str | None = None
    state_province: str | None = None
    region: str | None = None
    country: str | None = None
    latitude: float | None = None
    longitude: float | None = None


class Listing(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry of the catalogue. Times are microseconds since 1970."""

    id: ListingId
    source: str
    """Who or what is shown."""
    link: str
    status: Status
    platform: Platform | None
    platform_detected: bool
    """The platform was told from the link, and will be again when the link changes."""
    orientation: Orientation | None
    kind: Kind
    title: str | None
    notes: str | None
    city: str | None
    state: str | None
    posted_by: str | None
    is_pinned: bool
    is_archived: bool
    started_us: int | None
    """When the broadcast began that is under way, or was the last."""
    ended_us: int | None
    last_checked_us: int | None
    last_live_us: int | None
    left_live_us: int | None
    """When it was last seen to stop being live."""
    unarchived_us: int | None
    """When somebody took it out of the archive; the sweep counts from then."""
    check_result: str | None
    check_reason: str | None
    checked_us: int | None
    """The last check of ours, also one that could not tell."""
    owner: AccountId
    streamer: StreamerName | None
    location: Location | None
    created_us: int
    updated_us: int


class ListingChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says of a listing, as he wrote it: it is held to the rules when it is applied.

    What is not set stays as it is, or gets its default in a new listing.
    """

    link: str | UnsetType | None = UNSET
    source: str | UnsetType | None = UNSET
    status: str | UnsetType | None = UNSET
    platform: str | UnsetType | None = UNSET
    orientation: str | UnsetType | None = UNSET
    kind: str | UnsetType | None = UNSET
    title: str | UnsetType | None = UNSET
    notes: str | UnsetType | None = UNSET
    city: str | UnsetType | None = UNSET
    state: str | UnsetType | None = UNSET
    posted_by: str | UnsetType | None = UNSET
    is_pinned: bool | UnsetType = UNSET
    is_archived: bool | UnsetType = UNSET
    started_us: int | UnsetType | None = UNSET
    ended_us: int | UnsetType | None = UNSET
    last_checked_us: int | UnsetType | None = UNSET
    last_live_us: int | UnsetType | None = UNSET
    streamer: int | UnsetType | None = UNSET
    location: int | UnsetType | None = UNSET
    place: PlaceDraft | UnsetType | None = UNSET
    """Instead of a location's number; None takes the location away."""
    unreadable: tuple[str, ...] = ()
    """Fields whose value is no time, or no number, where it must be one."""


class Sort(StrEnum):
    """In which order a list comes. All but the first may be turned round."""

    DEFAULT = "default"
    """Pinned ones first, then the newest."""
    NAME = "name"
    CREATED = "created"
    UPDATED = "updated"
    CHECKED = "checked"


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Which listings are meant: those that fit all that is set. An empty set fits none."""

    statuses: frozenset[Status] | None = None
    platforms: frozenset[Platform] | None = None
    orientations: frozenset[Orientation] | None = None
    kinds: frozenset[Kind] | None = None
    is_pinned: bool | None = None
    is_archived: bool | None = None
    """Only an administrator's list has archived listings, whatever this says."""
    owner: AccountId | None = None
    streamer: StreamerId | None = None
    location: LocationId | None = None
    link: str | None = None
    search: str | None = None
    """Found in any case within source, link, title, city, state, notes or poster."""


class PageRequest(msgspec.Struct, frozen=True, kw_only=True):
    page: int = 1
    """Counts from 1."""
    per_page: int = 25
    filters: Filters = Filters()
    sort: Sort = Sort.DEFAULT
    descending: bool = False


class Page(msgspec.Struct, frozen=True):
    listings: list[Listing]
    total: int
    """How many there are on all pages together."""


class NotAllowed(Denied):
    """The caller's role, or who owns the thing, does not let him do this."""

    def __init__(self) -> None:
        super().__init__("You are not authorized to perform this action")


class ListingNotFound(NotFound):
    """No such listing."""

    def __init__(self, listing: int) -> None:
        super().__init__("Record not found", listing=listing)


class StreamerNotFound(NotFound):
    """No such streamer."""

    def __init__(self, streamer: int) -> None:
        super().__init__("Record not found", streamer=streamer)
