"""The event log on local disk: write-ahead files, sealed Parquet segments, a small catalogue of them."""

from mainstem.storage.embedded.log.log import EmbeddedLog, LogOptions
from mainstem.storage.embedded.log.verify import Finding, accept_loss, verify_log

__all__ = ["EmbeddedLog", "Finding", "LogOptions", "accept_loss", "verify_log"]
