"""Where things are kept: five ports, and the engines behind them."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_PLACES = {
    "mainstem.storage.columns": ("SCHEMA", "Draft", "Drafts", "Row", "Text"),
    "mainstem.storage.embedded.log": ("Finding", "accept_loss", "verify_log"),
    "mainstem.storage.embedded.records": ("SqliteRecords",),
    "mainstem.storage.layout": ("Layout",),
    "mainstem.storage.opening": ("Storage", "Workplace", "open_storage", "open_workplace", "scratch"),
    "mainstem.storage.ports": (
        "Analytics",
        "BlobInfo",
        "Blobs",
        "Condition",
        "Done",
        "Health",
        "Hit",
        "Log",
        "LogFigures",
        "Note",
        "Part",
        "Path",
        "Receipt",
        "Records",
        "Signals",
        "Snapshot",
        "Sql",
        "TopicState",
    ),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> object:
    # Processes beside the server open records and blobs, and must not carry the engines of the log.
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACE_OF[name]), name)
