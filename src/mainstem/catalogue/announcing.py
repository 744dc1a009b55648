"""What is told of listings in the log: one topic, whichever door or process changed them.

Every event has the listing's number as `id` and as `by` who did it, null for the server itself. `listing.created` and
`listing.updated` have `changes`: the fields' new values, as clients would see them. What a change means is told by an
event of its own beside it: `listing.live`, `listing.offline`, `listing.archived`. Further there are `listing.deleted`,
`listing.checked` and `listing.clicked`.
"""

from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.clock import rfc3339
from mainstem.events import Announcement, announce
from mainstem.ids import AccountId, random_id
from mainstem.work import Queue

TOPIC = "mainstem.listings"

TEXT_CHARACTERS_MAX = 2_000
"""Longer texts are cut in what is told."""
_TOLD_AT_ONCE_BYTES = 128 << 10


def announcement(
    what: str, listing: int, by: AccountId | None, now_us: int, facts: Mapping[str, object] | None = None
) -> Announcement:
    """An event of the type `listing.<what>`."""
    data = {"id": listing, "by": by, **(facts or {})}
    return Announcement(TOPIC, f"listing.{what}", data, random_id("lst"), now_us)


async def tell(tx: AsyncConnection, queue: Queue, events: Sequence[Announcement]) -> None:
    """Announce events in the transaction of what they tell, in pieces that the queue takes."""
    piece: list[Announcement] = []
    size = 0
    for event in events:
        piece.append(event)
        size += len(msgspec.json.encode(event.data))
        if size > _TOLD_AT_ONCE_BYTES:
            await announce(tx, queue, *piece)
            piece, size = [], 0
    await announce(tx, queue, *piece)


def told(values: Mapping[str, object]) -> dict[str, object]:
    """Columns as events have them: times in RFC 3339 under names that end in `_at`."""
    return dict(_told(name, value) for name, value in values.items() if name not in _UNTOLD)


_UNTOLD = frozenset({"source_folded", "link_normal", "platform_detected", "left_live_us", "unarchived_us"})


def _told(name: str, value: object) -> tuple[str, object]:
    stem = name.removesuffix("_us")
    if stem == name:
        return name, value[:TEXT_CHARACTERS_MAX] if isinstance(value, str) else value
    return f"{stem}_at", rfc3339(value) if isinstance(value, int) else None
