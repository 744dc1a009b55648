"""Those who stay on: nothing that changes while they begin is missed."""

import asyncio
from pathlib import Path

from mainstem.clock import FixedClock
from mainstem.errors import Denied, MainstemError
from mainstem.http import Sessions
from mainstem.identity import OPERATOR, Directory, Principal
from mainstem.storage import SqliteRecords
from waiting import until


async def end_of(tmp_path: Path, check_after_s: float) -> type[MainstemError]:
    """What ends a session with a check that fails, though no account, key or right changes after it began."""
    clock = FixedClock()
    directory = Directory(SqliteRecords(tmp_path / "records"), clock, b"s" * 32, 3_600)
    sessions = Sessions(directory, clock)
    ends: list[MainstemError] = []

    async def authenticate() -> Principal:
        return OPERATOR

    async def check(principal: Principal) -> None:
        raise Denied("Not any more.")

    watching = asyncio.create_task(sessions.watch())
    with sessions.stay(OPERATOR, authenticate, ends.append) as session:
        await asyncio.sleep(check_after_s)
        session.add_check(check)
        await until(lambda: bool(ends))
    watching.cancel()
    return type(ends[0])


async def test_what_changed_before_a_session_began_ends_it(tmp_path: Path) -> None:
    """A key may be revoked after it was checked for the request and before the session is one."""
    assert await end_of(tmp_path, 0) is Denied


async def test_what_changed_before_a_check_was_added_ends_it(tmp_path: Path) -> None:
    """As with a right that is taken away while its subscription begins."""
    assert await end_of(tmp_path, 0.6) is Denied
