"""Finding out who is behind new listings."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import func, insert, select
from sqlalchemy.dialects.sqlite import insert as insert_or_leave
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.catalogue.model import Platform, StreamerId
from mainstem.catalogue.platforms import channel_in, is_channel_name
from mainstem.catalogue.rules import Values, folded
from mainstem.catalogue.streamers import profile_url
from mainstem.catalogue.tables import streamer_accounts, streamers


class _Clues(NamedTuple):
    """What a listing says of who is behind it."""

    name: str
    """The source, as names are compared."""
    platform: Platform | None
    """None: one where nobody has an account that we know."""
    known_as: str | None
    """By what name he may be known there."""


class _Known(NamedTuple):
    """The streamers who may be meant. One who is still to be made has a number below 0."""

    by_name: dict[str, int]
    by_account: dict[tuple[Platform, str], int]

    def fitting(self, clues: _Clues) -> tuple[int | None, str | None]:
        """Who is meant, and by which name on the platform he was found, if by one."""
        if clues.platform is not None:
            for username in (clues.known_as, clues.name):
                if username is not None and (clues.platform, username) in self.by_account:
                    return self.by_account[clues.platform, username], username
        return self.by_name.get(clues.name), None


async def assign(tx: AsyncConnection, listings: Sequence[Values], now_us: int) -> list[StreamerId]:
    """The streamers behind new listings, made where nobody fits: who has the account that the link names, or one named
    like the source on that platform, or that name. He has that account from then on.

    Each listing counts for those behind it. A few hundred at once: all that is known of them goes through memory.
    """
    clues = [_clues(listing) for listing in listings]
    known = await _read(tx, clues)
    found: list[int] = []
    made: list[Values] = []
    accounts: list[tuple[int, Platform, str]] = []
    for listing, clue in zip(listings, clues, strict=True):
        streamer, username = known.fitting(clue)
        if streamer is None:
            made.append(_streamer(listing, clue.name, now_us))
            streamer = known.by_name[clue.name] = -len(made)
        if clue.platform is not None and clue.known_as is not None and clue.known_as != username:
            accounts.append((streamer, clue.platform, clue.known_as))
            known.by_account[clue.platform, clue.known_as] = streamer
        found.append(streamer)
    numbers: list[int] = []
    if made:
        row = insert(streamers).returning(streamers.c.id, sort_by_parameter_order=True)
        numbers = list((await tx.execute(row, made)).scalars())

    def number(streamer: int) -> StreamerId:
        return StreamerId(streamer if streamer > 0 else numbers[-streamer - 1])

    if accounts:
        values = [_account(number(streamer), platform, name, now_us) for streamer, platform, name in accounts]
        await tx.execute(insert_or_leave(streamer_accounts).on_conflict_do_nothing(), values)
    return [number(streamer) for streamer in found]


def _clues(listing: Values) -> _Clues:
    name = folded(listing["source"])
    platform = None if listing["platform"] is Platform.OTHER else listing["platform"]
    return _Clues(name, platform, channel_in(listing["link"]) or (name if is_channel_name(name) else None))


async def _read(tx: AsyncConnection, clues: Sequence[_Clues]) -> _Known:
    names = {clue.name for clue in clues}
    named = select(streamers.c.name_folded, streamers.c.id).where(streamers.c.name_folded.in_(names))
    known = _Known({row.name_folded: row.id for row in await tx.execute(named)}, {})
    platforms = {clue.platform for clue in clues if clue.platform is not None}
    if platforms:
        accounts = streamer_accounts.c
        usernames = names | {clue.known_as for clue in clues if clue.known_as is not None}
        query = select(accounts.platform, accounts.username, func.min(accounts.streamer))
        query = query.where(accounts.platform.in_(platforms), accounts.username.in_(usernames))
        for platform, username, streamer in await tx.execute(query.group_by(accounts.platform, accounts.username)):
            known.by_account[Platform(platform), username] = streamer
    return known


def _streamer(listing: Values, name: str, now_us: int) -> Values:
    return {
        "name": listing["source"].strip(),
        "name_folded": name,
        "notes": listing["notes"],
        "posted_by": listing["posted_by"],
        "owner": listing["owner"],
        "created_us": now_us,
        "updated_us": now_us,
    }


def _account(streamer: StreamerId, platform: Platform, username: str, now_us: int) -> Values:
    return {
        "streamer": streamer,
        "platform": platform,
        "username": username,
        "profile_url": profile_url(platform, username),
        "is_active": True,
        "created_us": now_us,
        "updated_us": now_us,
    }
