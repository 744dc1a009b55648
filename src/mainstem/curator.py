"""What the operator does with accounts, features and the catalogue beside a running server, which knows at once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from mainstem.catalogue import Flags, hand_over_catalogue
from mainstem.clock import Clock, system_clock
from mainstem.events import hand_over_topics
from mainstem.identity import OPERATOR, Account, Accounts, Directory, Signer, signing_key
from mainstem.settings import Settings
from mainstem.storage import Layout, SqliteRecords
from mainstem.transcode import hand_over_jobs


class Desk(NamedTuple):
    """The capabilities that commands work with."""

    directory: Directory
    accounts: Accounts
    flags: Flags


@asynccontextmanager
async def desk(settings: Settings, clock: Clock = system_clock) -> AsyncIterator[Desk]:
    """For the block. Raises Unavailable where no server has made the data folder yet."""
    layout = Layout(settings.data)
    async with SqliteRecords(layout.records) as records:
        key = signing_key(layout.keys)
        directory = Directory(records, clock, key, settings.token_lifetime_s)
        signer = Signer(key, settings.token_lifetime_s, clock)
        heirs = [hand_over_catalogue, hand_over_topics, hand_over_jobs]
        yield Desk(directory, Accounts(records, clock, directory, signer, heirs=heirs), Flags(records, clock))


def at_desk[Answer](settings: Settings, work: Callable[[Desk], Coroutine[None, None, Answer]]) -> Answer:
    """Do something, from a program that has no loop yet."""

    async def run() -> Answer:
        async with desk(settings) as opened:
            return await work(opened)

    return asyncio.run(run())


async def add_services(desk: Desk, emails: Sequence[str]) -> list[tuple[Account, str]]:
    """Accounts for programs, each with its password. Raises InvalidFields; those before are there then."""
    return [await desk.accounts.create_service(OPERATOR, email) for email in emails]


async def set_role(desk: Desk, who: str, role: str) -> Account:
    """Raises NotFound, InvalidFields, AccountStays."""
    account = await desk.directory.find_account(who)
    return await desk.accounts.set_role(OPERATOR, account.id, role)


async def delete_account(desk: Desk, who: str) -> tuple[Account, Account]:
    """End an account; the answer is it, and who has its things now. Raises NotFound, AccountStays."""
    account = await desk.directory.find_account(who)
    heir = await desk.accounts.delete(OPERATOR, account.id)
    return account, await desk.directory.account(heir)
