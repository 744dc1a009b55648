"""The log, and all that hangs on it: topics, ingest, queries."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mainstem.events.aggregates import AggregateAnswer, AggregateRequest, Aggregation, Operation, Order
    from mainstem.events.announcements import Announcement, announce
    from mainstem.events.announcer import Announcer
    from mainstem.events.export import Column, Export, ExportRequest, Exports
    from mainstem.events.export import Kind as ColumnKind
    from mainstem.events.export import schema as export_schema
    from mainstem.events.filters import InvalidQuery, parse_field, parse_timestamp
    from mainstem.events.follow import Following, Reader, Skipped, Start, TailBatch
    from mainstem.events.ingest import (
        Accepted,
        Batch,
        Form,
        Ingest,
        IngestLimits,
        InvalidEvent,
        InvalidEvents,
        InvalidJson,
        InvalidTimestamp,
        KeyInUse,
        KeyReused,
        TooLarge,
    )
    from mainstem.events.inheritance import hand_over_topics
    from mainstem.events.messages import (
        Message,
        MessageExpired,
        MessageLimits,
        Messages,
        MessageStatus,
        MessageTooLarge,
        NoMessages,
        NoSuchMessage,
        Pulled,
        RangeTooLarge,
    )
    from mainstem.events.model import (
        Activity,
        EventError,
        SchemaCheck,
        Topic,
        TopicChanges,
        TopicDefaults,
        TopicDraft,
        TopicExists,
        TopicNotFound,
        TopicPage,
        TopicStatus,
    )
    from mainstem.events.query import Page, PageRequest, Queries
    from mainstem.events.schemas import InvalidSchema, SchemaViolation
    from mainstem.events.sharing import ManagerStays, Sharing, WrongPassword, give_as_operator
    from mainstem.events.topics import Topics
    from mainstem.events.vitals import Probe, Vitals
    from mainstem.storage import Condition, Row

__all__ = [
    "Accepted",
    "Activity",
    "AggregateAnswer",
    "AggregateRequest",
    "Aggregation",
    "Announcement",
    "Announcer",
    "Batch",
    "Column",
    "ColumnKind",
    "Condition",
    "EventError",
    "Export",
    "ExportRequest",
    "Exports",
    "Following",
    "Form",
    "Ingest",
    "IngestLimits",
    "InvalidEvent",
    "InvalidEvents",
    "InvalidJson",
    "InvalidQuery",
    "InvalidSchema",
    "InvalidTimestamp",
    "KeyInUse",
    "KeyReused",
    "ManagerStays",
    "Message",
    "MessageExpired",
    "MessageLimits",
    "MessageStatus",
    "MessageTooLarge",
    "Messages",
    "NoMessages",
    "NoSuchMessage",
    "Operation",
    "Order",
    "Page",
    "PageRequest",
    "Probe",
    "Pulled",
    "Queries",
    "RangeTooLarge",
    "Reader",
    "Row",
    "SchemaCheck",
    "SchemaViolation",
    "Sharing",
    "Skipped",
    "Start",
    "TailBatch",
    "TooLarge",
    "Topic",
    "TopicChanges",
    "TopicDefaults",
    "TopicDraft",
    "TopicExists",
    "TopicNotFound",
    "TopicPage",
    "TopicStatus",
    "Topics",
    "Vitals",
    "WrongPassword",
    "announce",
    "export_schema",
    "give_as_operator",
    "hand_over_topics",
    "parse_field",
    "parse_timestamp",
]

_PLACES = {
    "mainstem.events.aggregates": ("AggregateAnswer", "AggregateRequest", "Aggregation", "Operation", "Order"),
    "mainstem.events.announcements": ("Announcement", "announce"),
    "mainstem.events.announcer": ("Announcer",),
    "mainstem.events.export": ("Column", "Export", "ExportRequest", "Exports", "ColumnKind", "export_schema"),
    "mainstem.events.filters": ("InvalidQuery", "parse_field", "parse_timestamp"),
    "mainstem.events.follow": ("Following", "Reader", "Skipped", "Start", "TailBatch"),
    "mainstem.events.ingest": (
        "Accepted",
        "Batch",
        "Form",
        "Ingest",
        "IngestLimits",
        "InvalidEvent",
        "InvalidEvents",
        "InvalidJson",
        "InvalidTimestamp",
        "KeyInUse",
        "KeyReused",
        "TooLarge",
    ),
    "mainstem.events.inheritance": ("hand_over_topics",),
    "mainstem.events.messages": (
        "Message",
        "MessageExpired",
        "MessageLimits",
        "Messages",
        "MessageStatus",
        "MessageTooLarge",
        "NoMessages",
        "NoSuchMessage",
        "Pulled",
        "RangeTooLarge",
    ),
    "mainstem.events.model": (
        "Activity",
        "EventError",
        "SchemaCheck",
        "Topic",
        "TopicChanges",
        "TopicDefaults",
        "TopicDraft",
        "TopicExists",
        "TopicNotFound",
        "TopicPage",
        "TopicStatus",
    ),
    "mainstem.events.query": ("Page", "PageRequest", "Queries"),
    "mainstem.events.schemas": ("InvalidSchema", "SchemaViolation"),
    "mainstem.events.sharing": ("ManagerStays", "Sharing", "WrongPassword", "give_as_operator"),
    "mainstem.events.topics": ("Topics",),
    "mainstem.events.vitals": ("Probe", "Vitals"),
    "mainstem.storage": ("Condition", "Row"),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}
_RENAMED = {"ColumnKind": "Kind", "export_schema": "schema"}


def __getattr__(name: str) -> object:
    # Processes beside the server announce, and must not carry the log and its queries.
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACE_OF[name]), _RENAMED.get(name, name))
