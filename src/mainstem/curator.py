"""What the operator does with accounts, features and the catalogue beside a running server, which knows at once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from mainstem.catalogue import (
    Flags,
    Imports,
    Listings,
    Places,
    StreamwallOutcome,
    download,
    hand_over_catalogue,
    read_streamwall,
)
from mainstem.clock import Clock, system_clock
from mainstem.errors import NotFound, Unavailable
from mainstem.events import hand_over_topics
from mainstem.identity import OPERATOR, Account, Accounts, Directory, Principal, Signer, signing_key
from mainstem.settings import Settings
from mainstem.storage import Layout, SqliteRecords
from mainstem.transcode import hand_over_jobs
from mainstem.work import Queue


class Desk(NamedTuple):
    """The capabilities that commands work with."""

    directory: Directory
    accounts: Accounts
    flags: Flags
    listings: Listings
    imports: Imports


@asynccontextmanager
async def desk(settings: Settings, clock: Clock = system_clock) -> AsyncIterator[Desk]:
    """For the block. Raises Unavailable where no server has made the data folder yet."""
    layout = Layout(settings.data)
    async with SqliteRecords(layout.records) as records:
        key = signing_key(layout.keys)
        directory = Directory(records, clock, key, settings.token_lifetime_s)
        signer = Signer(key, settings.token_lifetime_s, clock)
        heirs = [hand_over_catalogue, hand_over_topics, hand_over_jobs]
        flags = Flags(records, clock)
        listings = Listings(records, Queue(records, clock), directory, Places(records, clock, flags), clock)
        accounts = Accounts(records, clock, directory, signer, heirs=heirs)
        yield Desk(directory, accounts, flags, listings, Imports(records, listings))


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


type Change = Literal["archive", "unarchive", "pin", "unpin", "delete"]


async def change_listings(desk: Desk, change: Change, numbers: Sequence[int]) -> None:
    """One after the other; those before one that does not exist are changed. Raises NotFound."""
    for number in numbers:
        try:
            match change:
                case "archive" | "unarchive":
                    await desk.listings.archive(OPERATOR, number, archived=change == "archive")
                case "pin" | "unpin":
                    await desk.listings.pin(OPERATOR, number, pinned=change == "pin")
                case "delete":
                    await desk.listings.delete(OPERATOR, number)
        except NotFound as error:
            raise NotFound(f"There is no listing {number}: `mainstem listing list` shows those that exist.") from error


async def acting_as(desk: Desk, who: str) -> Principal:
    """The operator for an account: what he makes is that account's, and he may no more than it. Raises NotFound."""
    account = await desk.directory.find_account(who)
    return msgspec.structs.replace(
        OPERATOR, account=account.id, name=account.name, is_admin=account.is_admin, is_editor=account.is_editor
    )


class StreamwallImport(NamedTuple):
    """What to import, and how."""

    place: str
    """A file, or an http or https address."""
    owner: str
    """Whose the new listings are."""
    skips_known: bool
    dry_run: bool
    offset: int
    limit: int | None


async def import_streamwall(desk: Desk, wanted: StreamwallImport, *, allow_private: bool) -> StreamwallOutcome:
    """Raises NotFound, NotAllowed, InvalidFields, Unavailable."""
    principal = await acting_as(desk, wanted.owner)
    return await desk.imports.from_streamwall(
        principal,
        read_streamwall(await _document(wanted.place, allow_private=allow_private)),
        skips_known=wanted.skips_known,
        dry_run=wanted.dry_run,
        offset=wanted.offset,
        limit=wanted.limit,
    )


async def _document(place: str, *, allow_private: bool) -> bytes:
    if place.lower().startswith(("http://", "https://")):
        return await download(place, allow_private=allow_private)
    try:
        return await asyncio.to_thread(Path(place).read_bytes)
    except OSError as error:
        raise Unavailable(f"{place} cannot be read: {error.strerror}.") from error
