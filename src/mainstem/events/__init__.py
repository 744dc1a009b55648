"""The log, and all that hangs on it: topics, ingest, queries."""

from mainstem.events.filters import InvalidQuery, parse_timestamp
from mainstem.events.ingest import (
    Accepted,
    Batch,
    EventError,
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
from mainstem.events.model import (
    Activity,
    Topic,
    TopicChanges,
    TopicDefaults,
    TopicDraft,
    TopicExists,
    TopicNotFound,
    TopicPage,
    TopicStatus,
)
from mainstem.events.topics import Topics
from mainstem.events.vitals import Probe, Vitals
from mainstem.storage import Condition, Row

__all__ = [
    "Accepted",
    "Activity",
    "Batch",
    "Condition",
    "EventError",
    "Form",
    "Ingest",
    "IngestLimits",
    "InvalidEvent",
    "InvalidEvents",
    "InvalidJson",
    "InvalidQuery",
    "InvalidTimestamp",
    "KeyInUse",
    "KeyReused",
    "Probe",
    "Row",
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
    "parse_timestamp",
]
