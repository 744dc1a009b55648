"""The log, and all that hangs on it: topics, ingest, queries."""

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

__all__ = [
    "Activity",
    "Topic",
    "TopicChanges",
    "TopicDefaults",
    "TopicDraft",
    "TopicExists",
    "TopicNotFound",
    "TopicPage",
    "TopicStatus",
    "Topics",
]
