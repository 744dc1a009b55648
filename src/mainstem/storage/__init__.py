"""Where things are kept: five ports, and the engines behind them."""

from mainstem.storage.columns import SCHEMA, Draft, Drafts, Row, Text
from mainstem.storage.embedded.log import Finding, accept_loss, verify_log
from mainstem.storage.embedded.records import SqliteRecords
from mainstem.storage.layout import Layout
from mainstem.storage.opening import Storage, Workplace, open_storage, open_workplace, scratch
from mainstem.storage.ports import (
    Analytics,
    BlobInfo,
    Blobs,
    Condition,
    Done,
    Health,
    Hit,
    Log,
    LogFigures,
    Note,
    Part,
    Path,
    Receipt,
    Records,
    Signals,
    Snapshot,
    Sql,
    TopicState,
)

__all__ = [
    "SCHEMA",
    "Analytics",
    "BlobInfo",
    "Blobs",
    "Condition",
    "Done",
    "Draft",
    "Drafts",
    "Finding",
    "Health",
    "Hit",
    "Layout",
    "Log",
    "LogFigures",
    "Note",
    "Part",
    "Path",
    "Receipt",
    "Records",
    "Row",
    "Signals",
    "Snapshot",
    "Sql",
    "SqliteRecords",
    "Storage",
    "Text",
    "TopicState",
    "Workplace",
    "accept_loss",
    "open_storage",
    "open_workplace",
    "scratch",
    "verify_log",
]
