"""Names for things: typed ids, and fresh random ones."""

import secrets
from typing import NewType

TopicId = NewType("TopicId", int)
"""A topic's number, 8 and up (0 to 7 are reserved for the system), never used again."""

AccountId = NewType("AccountId", int)
"""An account's number, 8 and up (0 to 7 are reserved for the system), never used again."""

SourceId = NewType("SourceId", int)
"""A source's number among those of its account, 0 and up, never used again."""

Seq = NewType("Seq", int)
"""An event's place among all events of the server, 1 and up."""


def event_id(seq: int) -> str:
    """The public id of an event: `evt_` and at least ten decimal digits, so ids sort as text, too."""
    return f"evt_{seq:010d}"


def parse_event_id(text: str) -> Seq | None:
    """The sequence number in an `evt_` id, or None where the text is no such id."""
    digits = text.removeprefix("evt_")
    if digits == text or not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
        return None
    return Seq(int(digits))


def random_id(prefix: str) -> str:
    """A fresh id such as `key_3q2-7wZ…` with 128 random bits."""
    return f"{prefix}_{secrets.token_urlsafe(16)}"
