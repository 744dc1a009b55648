"""Checks as rows: which listing is due, who has it in hand, and what was found.

The schedule is a column, so it survives any restart. Whoever takes a listing moves its next check behind a lease and
signs it: several checkers share the work and none does it twice, and what a dead one had in hand is due again when the
lease is over. What was found and what is due next go through one transaction, once a second.
"""

import random
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.catalogue.announcing import announcement, tell, told
from mainstem.catalogue.continuation import is_same_broadcast
from mainstem.catalogue.liveness.verdict import OFFLINES_NEEDED, Reason, Result, Standing, Verdict, decide
from mainstem.catalogue.tables import listings
from mainstem.clock import SECOND_US, Clock
from mainstem.events import Announcement
from mainstem.storage import Records
from mainstem.work import Queue

LEASE_S = 180.0
"""Longer than any check may take."""

CONFIRM_S = 30.0
"""When to look again after an Offline that is not enough alone."""

GAP_S_MAX = 1_800
"""Two Lives in a row further apart (nobody looked) do not make the time between them live."""

_JITTER = 0.1
_RETRY_S_MAX = 3_600.0
_TRACE_CHARACTERS_MAX = 512


class Pace(msgspec.Struct, frozen=True):
    """How often listings are checked."""

    live_s: float = 120
    idle_s: float = 420


class DueCheck(NamedTuple):
    """A listing that is ours to check until its lease ends."""

    listing: int
    link: str
    trace: str | None
    lease: str


class Found(NamedTuple):
    """What a check found, and when."""

    due: DueCheck
    verdict: Verdict
    at_us: int


class Checks:
    """The schedule and its results, in Records."""

    def __init__(
        self,
        records: Records,
        queue: Queue,
        clock: Clock,
        pace: Pace,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._records = records
        self._queue = queue
        self._clock = clock
        self._pace = pace
        self._chance = chance

    async def exchange(self, found: Sequence[Found], room: int) -> list[DueCheck]:
        """Keep what was found, and take up to `room` listings that are due, the longest overdue first.

        Writes nothing when there is neither. Found of a listing that is no longer ours (it was deleted or
        archived, its link changed, the lease was over) is dropped.
        """
        if not found and (room == 0 or not await self._anything_due()):
            return []
        async with self._records.begin() as tx:
            if found:
                await self._record(tx, found)
            return await self._take(tx, room) if room else []

    async def give_back(self, due: Iterable[DueCheck]) -> None:
        """Let others have at once what we took and did not check."""
        rows = [{"the_id": one.listing, "the_lease": one.lease} for one in due]
        if not rows:
            return
        async with self._records.begin() as tx:
            await tx.execute(_GIVE_BACK, rows)

    async def _anything_due(self) -> bool:
        async with self._records.read() as rows:
            return await rows.scalar(due_listings(self._clock()).limit(1)) is not None

    async def _take(self, tx: AsyncConnection, room: int) -> list[DueCheck]:
        now_us = self._clock()
        chosen = list((await tx.execute(due_listings(now_us).limit(room))).scalars())
        if not chosen:
            return []
        lease = secrets.token_urlsafe(9)
        taken = (
            update(listings)
            .where(listings.c.id.in_(chosen))
            .values(check_lease=lease, next_check_us=now_us + int(LEASE_S * SECOND_US))
            .returning(listings.c.id, listings.c.link, listings.c.check_trace)
        )
        return [DueCheck(row.id, row.link, row.check_trace, lease) for row in await tx.execute(taken)]

    async def _record(self, tx: AsyncConnection, found: Sequence[Found]) -> None:
        by_id = {one.due.listing: one for one in found}
        rows = (await tx.execute(_BEFORE.where(listings.c.id.in_(by_id)))).all()
        changes: list[dict[str, object]] = []
        announcements: list[Announcement] = []
        now_us = self._clock()
        for row in rows:
            one = by_id[row.id]
            if row.is_archived or row.check_lease != one.due.lease:
                continue
            change = after_check(row, one.verdict, one.at_us, now_us)
            next_us = one.at_us + int(self._pause_s(change, one.verdict) * SECOND_US)
            changes.append({**change._asdict(), "the_id": row.id, "next_check_us": next_us})
            announcements += _announcements(row, change, one)
        if changes:
            await tx.execute(_RECORD, changes)
        await tell(tx, self._queue, announcements)

    def _pause_s(self, change: "Change", verdict: Verdict) -> float:
        pause_s = self._pace.live_s if change.status == Result.LIVE else self._pace.idle_s
        doubted = verdict.result is Result.OFFLINE and not verdict.explicit and change.offline_streak < OFFLINES_NEEDED
        if doubted or verdict.reason is Reason.HOST_BUSY:
            pause_s = min(pause_s, CONFIRM_S)
        elif verdict.retry_s is not None:
            pause_s = max(pause_s, min(verdict.retry_s, _RETRY_S_MAX))
        # Without jitter, listings that were imported together would be checked together forever.
        return pause_s * (1 + _JITTER * (2 * self._chance() - 1))


class Change(NamedTuple):
    """What a check makes of a listing's columns."""

    status: str
    started_us: int | None
    ended_us: int | None
    last_checked_us: int | None
    last_live_us: int | None
    left_live_us: int | None
    updated_us: int
    check_result: str
    check_reason: str
    check_trace: str | None
    checked_us: int
    offline_streak: int


def after_check(row: Any, verdict: Verdict, at_us: int, now_us: int) -> Change:
    """A listing after a check at `at_us` that is kept now. Pure."""
    status = Result(row.status)
    # Offlines that were believed are spent when somebody else has said something since.
    spent = status is not Result.OFFLINE and row.offline_streak >= OFFLINES_NEEDED
    before = Standing(status, 0 if spent else row.offline_streak)
    after = decide(before, verdict)
    is_live = verdict.result is Result.LIVE
    begins = is_live and before.status is not Result.LIVE
    anew = begins and not is_same_broadcast(row.last_checked_us, row.left_live_us, at_us)
    return Change(
        status=after.status,
        started_us=at_us if anew or (is_live and row.started_us is None) else row.started_us,
        ended_us=None if begins else row.ended_us,
        last_checked_us=row.last_checked_us if verdict.result is Result.UNKNOWN else at_us,
        last_live_us=at_us if is_live else row.last_live_us,
        left_live_us=at_us if before.status is Result.LIVE and after.status is not Result.LIVE else row.left_live_us,
        # Not when it was seen: whoever asks what changed since the last change of all must hear of this one.
        updated_us=now_us if after.status != before.status else row.updated_us,
        check_result=verdict.result,
        check_reason=verdict.reason,
        check_trace=None if verdict.trace is None else verdict.trace[:_TRACE_CHARACTERS_MAX],
        checked_us=at_us,
        offline_streak=after.offline_streak,
    )


def _announcements(row: Any, change: Change, found: Found) -> list[Announcement]:
    listing, at_us = row.id, found.at_us
    checked: dict[str, object] = {
        "result": change.check_result,
        "reason": change.check_reason,
        "confidence": found.verdict.confidence,
        "status": change.status,
        "live_seconds": live_seconds(row, found),
    }
    events = [announcement("checked", listing, None, at_us, checked)]
    if change.status != row.status:
        values = {name: getattr(change, name) for name in ("status", "started_us", "ended_us")}
        changes = told({name: value for name, value in values.items() if value != getattr(row, name)})
        meaning = {"status": change.status, "was": row.status, "reason": change.check_reason}
        events.append(announcement("updated", listing, None, at_us, {"changes": changes}))
        events.append(announcement(change.status, listing, None, at_us, meaning))
    return events


def live_seconds(row: Any, found: Found) -> float:
    """How long a listing was live since it was last seen so: that it was live then and is live now tells of the time
    between, unless nobody looked for very long."""
    if found.verdict.result is not Result.LIVE or row.status != Result.LIVE or row.last_live_us is None:
        return 0.0
    seconds = (found.at_us - row.last_live_us) / SECOND_US
    return round(seconds, 3) if 0 <= seconds <= GAP_S_MAX else 0.0


_BEFORE = select(
    listings.c.id,
    listings.c.status,
    listings.c.offline_streak,
    listings.c.check_lease,
    listings.c.is_archived,
    listings.c.started_us,
    listings.c.ended_us,
    listings.c.last_checked_us,
    listings.c.last_live_us,
    listings.c.left_live_us,
    listings.c.updated_us,
)

_RECORD = (
    update(listings)
    .where(listings.c.id == bindparam("the_id"))
    .values(
        {name: bindparam(name) for name in (*Change._fields, "next_check_us")}
        | {
            "check_lease": None,
        }
    )
)

_GIVE_BACK = (
    update(listings)
    .where(listings.c.id == bindparam("the_id"), listings.c.check_lease == bindparam("the_lease"))
    .values(check_lease=None, next_check_us=0)
)


def due_listings(now_us: int) -> Any:
    """A query for the ids of what may be checked now, the longest overdue first."""
    return (
        select(listings.c.id)
        # SQLite would rather take an index that begins with is_archived, and look at every listing there is.
        .with_hint(listings, "INDEXED BY listings_to_check", "sqlite")
        .where(listings.c.is_archived.is_(False), listings.c.next_check_us <= now_us)
        .order_by(listings.c.next_check_us)
    )


__all__ = ["Change", "Checks", "DueCheck", "Found", "Pace", "after_check", "live_seconds"]
