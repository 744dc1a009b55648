"""Nouns of the event side: topics, and what is known of them."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from mainstem.errors import Conflict, Invalid, NotFound
from mainstem.ids import AccountId, TopicId

TOPIC_NAME_CHARACTERS_MAX = 255
SYSTEM_PREFIX = "mainstem."
"""Topics whose names begin so are the server's own: nobody else makes them."""
DESCRIPTION_CHARACTERS_MAX = 2_000
SCHEMA_BYTES_MAX = 256 * 1024
DEDUPE_WINDOW_S_MAX = 7 * 86_400
RETENTION_DAYS_MAX = 36_500
RETENTION_BYTES_MIN = 1 << 20


class Topic(msgspec.Struct, frozen=True):
    """An ordered, append-only log of events."""

    id: TopicId
    name: str
    description: str
    schema: bytes | None
    """A JSON Schema as text, or None."""
    retention_days: int | None
    """How long since its arrival an event is kept; None: for ever."""
    retention_bytes: int | None
    """How much of it is kept, as sealed on disk: the oldest events go first. None: all."""
    dedupe_window_s: int
    """How long a repeated event id is recognised; 0: never."""
    paused: bool
    """Events are taken and stored, but what hangs on the topic waits."""
    created_us: int
    owner: AccountId


class TopicDraft(msgspec.Struct, frozen=True):
    """What a topic shall be. Unset fields get the server's defaults."""

    name: str
    description: str = ""
    schema: bytes | None = None
    retention_days: int | msgspec.UnsetType | None = msgspec.UNSET
    retention_bytes: int | None = None
    dedupe_window_s: int | msgspec.UnsetType = msgspec.UNSET
    paused: bool = False


class TopicChanges(msgspec.Struct, frozen=True):
    """What shall be different. Unset fields stay as they are."""

    description: str | msgspec.UnsetType = msgspec.UNSET
    schema: bytes | msgspec.UnsetType | None = msgspec.UNSET
    retention_days: int | msgspec.UnsetType | None = msgspec.UNSET
    retention_bytes: int | msgspec.UnsetType | None = msgspec.UNSET
    dedupe_window_s: int | msgspec.UnsetType = msgspec.UNSET
    paused: bool | msgspec.UnsetType = msgspec.UNSET


class TopicDefaults(msgspec.Struct, frozen=True):
    retention_days: int | None = 90
    dedupe_window_s: int = 86_400


class Activity(StrEnum):
    ACTIVE = "active"
    IDLE = "idle"
    PAUSED = "paused"


class TopicStatus(msgspec.Struct, frozen=True):
    name: str
    activity: Activity
    events: int
    """How many it ever got."""
    rate_per_s: float
    """Over the last 60 s."""
    last_ts_us: int | None
    """The timestamp of the event that came last."""
    lag_s: float
    """How far the slowest consumer is behind."""


class TopicPage(msgspec.Struct, frozen=True):
    topics: list[Topic]
    next_name: str | None
    """Where the next page begins; None after the last."""


class SchemaCheck(msgspec.Struct, frozen=True):
    """How the events that a topic keeps stand to a schema."""

    checked: int
    """How many were looked at, the newest first."""
    broken: int
    complete: bool
    """All were looked at; else the time was up."""
    examples: Sequence["EventError"]
    """The newest that break it, a few of them; `index` is the event's sequence number."""


# One event of a body

ERRORS_TOLD = 100
"""How many of the errors in a body are told."""


class EventError(msgspec.Struct, frozen=True):
    """What is wrong with one event of a body; `index` counts from 0."""

    index: int
    code: str
    message: str
    path: str | None = None
    """Where inside the event, when its topic's schema says so."""


def told(errors: Sequence[EventError]) -> list[dict[str, object]]:
    """The first hundred, each with what there is to say about it."""
    shown = map(msgspec.structs.asdict, errors[:ERRORS_TOLD])
    return [{name: fact for name, fact in error.items() if fact is not None} for error in shown]


# Errors


class TopicNotFound(NotFound):
    """No such topic, or none that this principal may see."""

    def __init__(self, name: str) -> None:
        super().__init__("The specified stream ID does not exist", stream_id=name)


class TopicExists(Conflict):
    """A topic of this name is there already."""

    def __init__(self, name: str) -> None:
        super().__init__("A stream with this ID exists already; change it with PATCH", stream_id=name)


def check_topic_name(name: str) -> str:
    """The name itself when a topic may be called so. Raises Invalid."""
    if not 1 <= len(name) <= TOPIC_NAME_CHARACTERS_MAX:
        raise Invalid(f"A stream ID has 1 to {TOPIC_NAME_CHARACTERS_MAX} characters", field="stream_id")
    if not name.isprintable() and any(_is_control(character) for character in name):
        raise Invalid("A stream ID holds no control characters", field="stream_id")
    return name


def check_new_topic_name(name: str) -> str:
    """`check_topic_name` for a topic that somebody makes: the server's own names are not his to take."""
    if name.startswith(SYSTEM_PREFIX):
        raise Invalid(f"Stream IDs that begin with `{SYSTEM_PREFIX}` are the server's own.", field="stream_id")
    return check_topic_name(name)


def _is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character <= "\x9f" or "\ud800" <= character <= "\udfff"
