"""Commands for accounts, their keys and sources, and their rights on streams."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager

import msgspec

from mainstem import curator
from mainstem.cli.commands import DONE, Commands, add_command, add_group, positive, show, show_json, show_table
from mainstem.clock import SECOND_US, rfc3339, system_clock
from mainstem.errors import NotFound
from mainstem.events import TopicNotFound, give_as_operator
from mainstem.identity import (
    OPERATOR,
    SERVICES,
    Account,
    Directory,
    Key,
    KeyDraft,
    Principal,
    Right,
    Role,
    Scope,
    Seal,
    Source,
    SourceNotFound,
    Sources,
    Tier,
    sealing_key,
    signing_key,
)
from mainstem.ids import AccountId
from mainstem.settings import Settings
from mainstem.storage import Layout, SqliteRecords

_ALL_SCOPES = "all"
_FIRST_USER_KEY = "first"
_RIGHTS = {"read": Right.READ, "write": Right.WRITE, "manage": Right.MANAGE}
_DAY_US = 86_400 * SECOND_US


def add_user(commands: Commands) -> None:
    users = add_group(
        commands,
        "user",
        "look after accounts, their roles and user keys",
        "Accounts, their roles and user keys. Works while the server runs.",
    )
    add = add_command(
        users,
        "add",
        _add_account,
        "add an account",
        "Add an account; prints its number, its name, and a first user key, with which it makes sources in Evernest.",
    )
    add.add_argument("name", metavar="NAME", help="a name that no other account has")
    add.add_argument("--email", help="what the account signs in with")
    password = add.add_mutually_exclusive_group()
    password.add_argument("--password", help="the password to sign in with (others on this machine may see it)")
    password.add_argument(
        "--password-stdin", action="store_true", help="read the password from the first line of input"
    )
    role_of_new = add.add_mutually_exclusive_group()
    role_of_new.add_argument("--admin", action="store_true", help="the same as `--role admin`")
    role_of_new.add_argument(
        "--role",
        choices=list(Role),
        metavar="ROLE",
        default=Role.EDITOR,
        help="default (reads alone), editor (makes things), or admin (every right on everything); editor if not given",
    )
    service = add_command(
        users,
        "service",
        _add_services,
        "add accounts for programs",
        "Add accounts for the programs that keep StreamSource's catalogue; prints the password of each this once.",
    )
    service.add_argument(
        "email", nargs="*", metavar="EMAIL", help=f"what each signs in with; {' and '.join(SERVICES)} if not given"
    )
    add_command(users, "list", _list_accounts, "list the accounts", "List the accounts, oldest first.")
    key = add_command(
        users,
        "key",
        _user_key,
        "add or revoke a user key",
        "Add a user key to an account, for Evernest, or revoke one; a running server knows at once.",
    )
    key.add_argument("account", metavar="ACCOUNT", help="whose key it is, by name, email or number")
    key.add_argument(
        "--name", default=_FIRST_USER_KEY, help=f"what the key is called; {_FIRST_USER_KEY!r} if not given"
    )
    key.add_argument("--revoke", action="store_true", help="end the key of this name for good")
    role = add_command(
        users,
        "role",
        _set_role,
        "change an account's role",
        "Change an account's role; it counts at once, also for tokens and connections that are there already.",
    )
    role.add_argument("account", metavar="ACCOUNT", help="whose role, by name, email or number")
    role.add_argument("role", metavar="ROLE", choices=list(Role), help=", ".join(Role))
    delete = add_command(
        users,
        "delete",
        _delete_account,
        "delete an account",
        "Delete an account with its keys for good. What it owns in the catalogue goes to the oldest administrator.",
    )
    delete.add_argument("account", metavar="ACCOUNT", help="which one, by name, email or number")


def add_key(commands: Commands) -> None:
    keys = add_group(commands, "key", "add, list and revoke API keys", "API keys. Works while the server runs.")
    add = add_command(
        keys, "add", _add_api_key, "add an API key", "Add an API key; it is shown this once and never again."
    )
    add.add_argument("--name", required=True, help="what the key is for")
    add.add_argument(
        "--account",
        metavar="NAME",
        help="whose key it is, by name, email or number; the first administrator's if not given",
    )
    add.add_argument(
        "--scope",
        action="append",
        choices=[*Scope, _ALL_SCOPES],
        metavar="SCOPE",
        help=f"what it may be used for, once for each: {', '.join(Scope)}, or {_ALL_SCOPES};"
        " to send and read events and make streams if not given",
    )
    add.add_argument(
        "--tier",
        choices=list(Tier),
        metavar="TIER",
        default=Tier.STANDARD,
        help="how many requests an hour: "
        + ", ".join(
            f"{tier} ({tier.per_hour or 'no limit':,})" if tier.per_hour else f"{tier} (no limit)" for tier in Tier
        )
        + "; standard if not given",
    )
    add.add_argument(
        "--stream",
        action="append",
        metavar="STREAM",
        help="the only stream it may touch, once for each; all if not given",
    )
    add.add_argument("--days", type=positive, metavar="DAYS", help="how long it is good for; for ever if not given")
    add_command(keys, "list", _list_keys, "list the API keys", "List the API keys that are not revoked, oldest first.")
    revoke = add_command(
        keys,
        "revoke",
        _revoke_key,
        "end an API key for good",
        "End an API key for good; a running server knows at once.",
    )
    revoke.add_argument("id", metavar="ID", help="the key's id, as `mainstem key list` shows it")


def add_grant(commands: Commands) -> None:
    grant = add_command(
        commands,
        "grant",
        _grant,
        "give an account rights on a stream",
        "Give an account exactly these rights on a stream; a running server knows at once.",
    )
    grant.add_argument("stream", metavar="STREAM", help="the stream's id, which is its name in Evernest")
    grant.add_argument("account", metavar="ACCOUNT", help="whose rights they are, by name, email or number")
    grant.add_argument(
        "rights", type=_rights, metavar="RIGHTS", help="read, write and manage, with commas between; or none"
    )


def add_source(commands: Commands) -> None:
    sources = add_group(
        commands, "source", "list and delete sources", "Sources of Evernest. Works while the server runs."
    )
    listing = add_command(sources, "list", _list_sources, "list the sources", "List an account's sources, by number.")
    listing.add_argument("account", metavar="ACCOUNT", help="whose sources they are, by name, email or number")
    deletion = add_command(
        sources,
        "delete",
        _delete_source,
        "delete a source",
        "End a source, its key and its rights for good; a running server knows at once. Its messages stay.",
    )
    deletion.add_argument("account", metavar="ACCOUNT", help="whose source it is, by name, email or number")
    deletion.add_argument("id", type=int, metavar="ID", help="the source's number, as `mainstem source list` shows it")


# What they do


def _rights(text: str) -> Right:
    if text == "none":
        return Right.NONE
    try:
        return Right(sum({_RIGHTS[name] for name in text.split(",")}))
    except KeyError as error:
        raise argparse.ArgumentTypeError("must be read, write and manage, with commas between, or none") from error


def _add_account(asked: argparse.Namespace, settings: Settings) -> int:
    password = sys.stdin.readline().rstrip("\r\n") if asked.password_stdin else asked.password

    role = Role.ADMIN if asked.admin else Role(asked.role)

    async def add(directory: Directory, sources: Sources) -> tuple[Account, str]:
        account = await directory.create_account(
            asked.name,
            email=asked.email,
            password=password,
            is_admin=role is Role.ADMIN,
            is_editor=role is not Role.DEFAULT,
        )
        return account, await sources.create_user_key(account.id, _FIRST_USER_KEY)

    account, user_key = _with_sources(settings, add)
    if asked.json:
        show_json({**_account_view(account), "user_key": user_key})
    else:
        show(f"{account.id} {account.name}\nuser key {user_key}")
    return DONE


def _user_key(asked: argparse.Namespace, settings: Settings) -> int:
    async def add_or_revoke(directory: Directory, sources: Sources) -> tuple[Account, str | None]:
        account = await directory.find_account(asked.account)
        if asked.revoke:
            await sources.revoke_user_key(account.id, asked.name)
            return account, None
        return account, await sources.create_user_key(account.id, asked.name)

    account, user_key = _with_sources(settings, add_or_revoke)
    if asked.json:
        show_json({"id": account.id, "name": asked.name, "user_key": user_key, "revoked": asked.revoke})
    else:
        show(user_key or f"The user key {asked.name!r} of {account.name} is revoked.")
    return DONE


def _list_accounts(asked: argparse.Namespace, settings: Settings) -> int:
    accounts = _with_directory(settings, Directory.accounts)
    if asked.json:
        show_json([_account_view(account) for account in accounts])
    else:
        show_table(
            ("id", "name", "email", "role", "created"),
            [(str(one.id), one.name, one.email or "", one.role, rfc3339(one.created_us)) for one in accounts],
        )
    return DONE


def _add_services(asked: argparse.Namespace, settings: Settings) -> int:
    made = curator.at_desk(settings, lambda desk: curator.add_services(desk, asked.email or SERVICES))
    if asked.json:
        show_json([{**_account_view(account), "password": password} for account, password in made])
    else:
        show_table(("id", "email", "password"), [(str(one.id), one.email or "", password) for one, password in made])
    return DONE


def _set_role(asked: argparse.Namespace, settings: Settings) -> int:
    account = curator.at_desk(settings, lambda desk: curator.set_role(desk, asked.account, asked.role))
    if asked.json:
        show_json(_account_view(account))
    else:
        show(f"{account.name} is {account.role} now.")
    return DONE


def _delete_account(asked: argparse.Namespace, settings: Settings) -> int:
    account, heir = curator.at_desk(settings, lambda desk: curator.delete_account(desk, asked.account))
    if asked.json:
        show_json({"id": account.id, "deleted": True, "heir": heir.id})
    else:
        show(f"{account.name} is deleted. What it owned is {heir.name}'s now.")
    return DONE


def _add_api_key(asked: argparse.Namespace, settings: Settings) -> int:
    async def add(directory: Directory) -> tuple[Key, str]:
        draft = KeyDraft(
            name=asked.name,
            scopes=_scopes(asked.scope),
            tier=Tier(asked.tier),
            topics=None if asked.stream is None else frozenset(asked.stream),
            expires_us=None if asked.days is None else system_clock() + int(asked.days * _DAY_US),
            account=await _owner(directory, asked.account),
        )
        return await directory.create_key(OPERATOR, draft)

    key, text = _with_directory(settings, add)
    if asked.json:
        show_json({**_key_view(key), "key": text})
    else:
        show(f"{text}\n\nThis is {key.id}, {key.name!r}. Keep it now: it is not shown again.")
    return DONE


def _list_keys(asked: argparse.Namespace, settings: Settings) -> int:
    async def listed(directory: Directory) -> tuple[list[Key], dict[AccountId, str]]:
        names = {account.id: account.name for account in await directory.accounts()}
        return await _every_key(directory), names

    keys, names = _with_directory(settings, listed)
    if asked.json:
        show_json([_key_view(key) for key in keys])
    else:
        show_table(
            ("id", "name", "account", "tier", "scopes", "streams", "expires", "last used"),
            [
                (
                    key.id,
                    key.name,
                    names[key.account],
                    str(key.tier),
                    _ALL_SCOPES if key.scopes >= set(Scope) else " ".join(sorted(key.scopes)),
                    "all" if key.topics is None else " ".join(sorted(key.topics)),
                    "never" if key.expires_us is None else rfc3339(key.expires_us),
                    "never" if key.last_used_us is None else rfc3339(key.last_used_us),
                )
                for key in keys
            ],
        )
    return DONE


def _revoke_key(asked: argparse.Namespace, settings: Settings) -> int:
    async def revoke(directory: Directory) -> None:
        await directory.revoke_key(OPERATOR, asked.id)

    _with_directory(settings, revoke)
    if asked.json:
        show_json({"id": asked.id, "revoked": True})
    else:
        show(f"{asked.id} is revoked.")
    return DONE


def _grant(asked: argparse.Namespace, settings: Settings) -> int:
    async def grant() -> tuple[Account, Right]:
        async with _identity(settings) as (directory, _), SqliteRecords(Layout(settings.data).records) as records:
            account = await directory.find_account(asked.account)
            try:
                return account, await give_as_operator(records, directory, account.id, asked.stream, asked.rights)
            except TopicNotFound as error:
                raise NotFound(f"There is no stream {asked.stream!r}: its first event makes it.") from error

    account, before = asyncio.run(grant())
    if asked.json:
        rights = {"rights": _names_of(asked.rights), "before": _names_of(before)}
        show_json({"stream": asked.stream, "account": account.id, **rights})
    else:
        now, then = (", ".join(_names_of(right)) or "nothing" for right in (asked.rights, before))
        show(f"{account.name} may {now} with {asked.stream}; before: {then}.")
    return DONE


def _list_sources(asked: argparse.Namespace, settings: Settings) -> int:
    async def listed(directory: Directory, sources: Sources) -> list[Source]:
        return await sources.of(_standing_for(await directory.find_account(asked.account)))

    found = _with_sources(settings, listed)
    if asked.json:
        show_json([{"id": one.id, "name": one.name, "created_at": rfc3339(one.created_us)} for one in found])
    else:
        rows = [(str(one.id), one.name, rfc3339(one.created_us)) for one in found]
        show_table(("id", "name", "created"), rows)
    return DONE


def _delete_source(asked: argparse.Namespace, settings: Settings) -> int:
    async def delete(directory: Directory, sources: Sources) -> Source:
        account = await directory.find_account(asked.account)
        owner = _standing_for(account)
        try:
            source = await sources.get(owner, asked.id)
        except SourceNotFound as error:
            known = f"`mainstem source list {account.name}` shows those that exist"
            raise NotFound(f"{account.name} has no source {asked.id}: {known}.") from error
        await sources.delete(owner, source.id)
        return source

    source = _with_sources(settings, delete)
    if asked.json:
        show_json({"account": source.account, "id": source.id, "name": source.name, "deleted": True})
    else:
        show(f"The source {source.name!r} is deleted.")
    return DONE


def _with_directory[Answer](settings: Settings, work: Callable[[Directory], Coroutine[None, None, Answer]]) -> Answer:
    return _with_sources(settings, lambda directory, _: work(directory))


def _with_sources[Answer](
    settings: Settings, work: Callable[[Directory, Sources], Coroutine[None, None, Answer]]
) -> Answer:
    async def run() -> Answer:
        async with _identity(settings) as (directory, sources):
            return await work(directory, sources)

    return asyncio.run(run())


@asynccontextmanager
async def _identity(settings: Settings) -> AsyncIterator[tuple[Directory, Sources]]:
    """Directory and sources of a server that may be running. A database that is not there yet is made, one that is
    older is left alone: the server that runs on it may be older, too."""
    layout = Layout(settings.data)
    layout.make()
    records = SqliteRecords(layout.records)
    if not layout.records.exists():
        await records.migrate()
    async with records:
        directory = Directory(records, system_clock, signing_key(layout.keys), settings.token_lifetime_s)
        yield directory, Sources(records, system_clock, directory, Seal(sealing_key(layout.keys)))


def _standing_for(account: Account) -> Principal:
    """The operator, in the place of an account."""
    return msgspec.structs.replace(OPERATOR, account=account.id, name=account.name)


def _names_of(right: Right) -> list[str]:
    return [name for name, one in _RIGHTS.items() if one in right]


def _scopes(names: Sequence[str] | None) -> frozenset[Scope] | None:
    if names is None:
        return None
    return frozenset(Scope) if _ALL_SCOPES in names else frozenset(map(Scope, names))


async def _owner(directory: Directory, account: str | None) -> AccountId:
    if account is not None:
        return (await directory.find_account(account)).id
    administrators = [one for one in await directory.accounts() if one.is_admin]
    if not administrators:
        raise NotFound("There is no administrator yet: start the server once, or name an account with --account.")
    return administrators[0].id


async def _every_key(directory: Directory) -> list[Key]:
    page = await directory.keys(OPERATOR, limit=1_000)
    keys = page.keys
    while page.next_cursor is not None:
        page = await directory.keys(OPERATOR, limit=1_000, cursor=page.next_cursor)
        keys += page.keys
    return keys


def _account_view(account: Account) -> dict[str, object]:
    return {
        "id": account.id,
        "name": account.name,
        "email": account.email,
        "admin": account.is_admin,
        "role": account.role,
        "created_at": rfc3339(account.created_us),
    }


def _key_view(key: Key) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "account": key.account,
        "scopes": sorted(key.scopes),
        "tier": key.tier,
        "streams": None if key.topics is None else sorted(key.topics),
        "expires_at": None if key.expires_us is None else rfc3339(key.expires_us),
        "created_at": rfc3339(key.created_us),
        "last_used_at": None if key.last_used_us is None else rfc3339(key.last_used_us),
    }
