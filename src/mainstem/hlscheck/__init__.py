"""Holds HLS streams to RFC 8216 and its neighbours, on disk or over HTTP; `mainstem hlscheck` is its command."""

from mainstem.hlscheck.checking import Report, Watch, check
from mainstem.hlscheck.rules import RULES, Finding, Rule, Severity
from mainstem.hlscheck.telling import lines, view

__all__ = ["RULES", "Finding", "Report", "Rule", "Severity", "Watch", "check", "lines", "view"]
