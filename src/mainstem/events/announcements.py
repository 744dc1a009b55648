"""Announcements: what the server itself tells of changes to its records, as events of topics of its own.

A row and the event that tells of it cannot disagree. The announcement is put on the queue in the row's transaction, and
the one who owns the log appends it later, under an id that was fixed with the row: what a crash lets him append again
is known by it and dropped.
"""

from collections.abc import Iterator, Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.events.model import SYSTEM_PREFIX
from mainstem.work import Queue

KIND = "announce"

_PIECE_BYTES = 128 << 10
_ATTEMPTS_MAX = 1_000_000_000  # nothing but the log can refuse one, and that is not the announcement's fault


class Announcement(msgspec.Struct, frozen=True):
    """An event of a topic of the server's own."""

    topic: str
    """A name that begins with `mainstem.`."""
    event_type: str
    data: dict[str, object]
    event_id: str
    """What makes a repeat: a fresh one for each change, such as `ids.random_id`."""
    time_us: int


async def announce(tx: AsyncConnection, queue: Queue, *announcements: Announcement) -> None:
    """Tell of a change in the transaction that makes it. Those of one topic are appended in the order in which their
    transactions were committed, in a quarter of a second as a rule, and each once.

    Raises Invalid for one that is larger than a task may be (256 KiB).
    """
    for announcement in announcements:
        assert announcement.topic.startswith(SYSTEM_PREFIX)
        assert announcement.event_type
        assert announcement.event_id
    for texts in _pieces([msgspec.json.encode(announcement) for announcement in announcements]):
        await queue.put(tx, KIND, b"[%b]" % b",".join(texts), attempts_max=_ATTEMPTS_MAX)


def _pieces(texts: Sequence[bytes]) -> Iterator[list[bytes]]:
    """As few as fit a task each; one that is too large by itself is the queue's to refuse."""
    piece: list[bytes] = []
    size = 0
    for text in texts:
        if piece and size + len(text) + 1 > _PIECE_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(text)
        size += len(text) + 1
    if piece:
        yield piece
