"""The log, and all that hangs on it: topics, ingest, queries."""

from mainstem.events.aggregates import AggregateAnswer, AggregateRequest, Aggregation, Operation, Order
from mainstem.events.filters import InvalidQuery, parse_field, parse_timestamp
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
from mainstem.events.query import Page, PageRequest, Queries
from mainstem.events.topics import Topics
from mainstem.events.vitals import Probe, Vitals
from mainstem.storage import Condition, Row

__all__ = [
    "Accepted",
    "Activity",
    "AggregateAnswer",
    "AggregateRequest",
    "Aggregation",
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
    "Operation",
    "Order",
    "Page",
    "PageRequest",
    "Probe",
    "Queries",
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
    "parse_field",
    "parse_timestamp",
]
