"""The `mainstem` command: start the server, and look after accounts, keys and data, also while it runs."""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from mainstem import __version__, curator
from mainstem.catalogue import Feature, Filters, Gate, Group, Listing, PageRequest, Status
from mainstem.children import Trade
from mainstem.clock import SECOND_US, rfc3339, system_clock
from mainstem.errors import Invalid, MainstemError, NotFound
from mainstem.events import give_as_operator
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
    Sources,
    Tier,
    sealing_key,
    signing_key,
)
from mainstem.ids import AccountId
from mainstem.settings import CONFIG_VARIABLE, PREFIX, Settings, load_settings
from mainstem.storage import Layout, SqliteRecords
from mainstem.work import ParkedTask, Queue

DONE, FAILED, MISUSED = 0, 1, 2
_ALL_SCOPES = "all"
_FIRST_USER_KEY = "first"
_REFUSED_SHOWN = 20
_RIGHTS = {"read": Right.READ, "write": Right.WRITE, "manage": Right.MANAGE}
_DAY_US = 86_400 * SECOND_US

type Command = Callable[[argparse.Namespace, Settings], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. 0: done; 1: it could not be done, or doctor found a problem; 2: it was asked for wrongly."""
    asked = parser().parse_args(arguments)
    try:
        settings = load_settings(_environment(asked), asked.config)
        return int(asked.command(asked, settings))
    except MainstemError as error:
        _complain(error, as_json=asked.json)
        return MISUSED if isinstance(error, Invalid) else FAILED
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Every command and its options; documentation and tests read them from here."""
    top = argparse.ArgumentParser(
        prog="mainstem",
        description="One server for streams of every kind: send events, query them, lose none.",
        epilog=f"Settings come from {PREFIX}… variables and from the TOML file that {CONFIG_VARIABLE} or --config"
        " names. Exit status: 0 done, 1 failed or a problem was found, 2 asked for wrongly.",
    )
    top.add_argument("--version", action="version", version=f"mainstem {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    _add_serve(commands)
    _add_user(commands)
    _add_key(commands)
    _add_grant(commands)
    _add_source(commands)
    _add_flag(commands)
    _add_listing(commands)
    _add_import(commands)
    _add_work(commands)
    _add_tasks(commands)
    _add_doctor(commands)
    _add_command(
        commands,
        "migrate",
        _migrate,
        "bring the database to this version",
        "Bring the tables of the database to this version of mainstem. The server does the same when it starts.",
    )
    _add_hlscheck(commands)
    demo = _add_command(
        commands,
        "demo",
        _demo,
        "load real flights into a server of its own and ask it five questions",
        "Start a server on a free port, load 336,776 real flights over HTTP, ask five questions, show what it took.",
    )
    demo.add_argument("--keep", action="store_true", help="keep the data afterwards and say how to go on with it")
    return top


# What can be asked for

type _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _add_serve(commands: _Commands) -> None:
    serve = _add_command(
        commands,
        "serve",
        _serve,
        "start the server",
        "Start the server. The first start makes an administrator and an API key and prints them once.",
    )
    serve.add_argument("--host", help="the address to listen on, instead of MAINSTEM_HOST")
    serve.add_argument("--port", help="the port to listen on, instead of MAINSTEM_PORT; 0 takes any that is free")


def _add_user(commands: _Commands) -> None:
    users = _add_group(commands, "user", "add and list accounts", "Add and list accounts. Works while the server runs.")
    add = _add_command(
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
    service = _add_command(
        users,
        "service",
        _add_services,
        "add accounts for programs",
        "Add accounts for the programs that keep StreamSource's catalogue; prints the password of each this once.",
    )
    service.add_argument(
        "email", nargs="*", metavar="EMAIL", help=f"what each signs in with; {' and '.join(SERVICES)} if not given"
    )
    _add_command(users, "list", _list_accounts, "list the accounts", "List the accounts, oldest first.")
    key = _add_command(
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
    role = _add_command(
        users,
        "role",
        _set_role,
        "change an account's role",
        "Change an account's role; it counts at once, also for tokens and connections that are there already.",
    )
    role.add_argument("account", metavar="ACCOUNT", help="whose role, by name, email or number")
    role.add_argument("role", metavar="ROLE", choices=list(Role), help=", ".join(Role))
    delete = _add_command(
        users,
        "delete",
        _delete_account,
        "delete an account",
        "Delete an account with its keys for good. What it owns in the catalogue goes to the oldest administrator.",
    )
    delete.add_argument("account", metavar="ACCOUNT", help="which one, by name, email or number")


def _add_flag(commands: _Commands) -> None:
    flags = _add_group(
        commands, "flag", "switch features on and off", "Switch features on and off, for all or for some."
    )
    for name, run, sentence in (
        ("enable", _enable_flag, "switch a feature on for everybody, or for those who are named"),
        ("disable", _disable_flag, "switch a feature off for everybody, or for those who are named"),
    ):
        command = _add_command(flags, name, run, sentence, f"{sentence.capitalize()}; a running server knows at once.")
        command.add_argument("name", metavar="NAME", help="the feature's name, such as maintenance_mode")
        command.add_argument("--actor", metavar="User:ID", help="one account")
        command.add_argument("--group", metavar="GROUP", help=", ".join(Group))
        command.add_argument("--percentage-of-actors", metavar="N", type=float, help="so many of a hundred accounts")
        command.add_argument("--percentage-of-time", metavar="N", type=float, help="so many of a hundred requests")
    _add_command(flags, "list", _list_flags, "list the features", "List the features, and for whom each is on.")


def _add_listing(commands: _Commands) -> None:
    listings = _add_group(
        commands, "listing", "look after the catalogue", "Look after the catalogue's listings, as an administrator may."
    )
    found = _add_command(
        listings, "list", _list_listings, "list listings", "List listings, pinned ones first, then the newest."
    )
    found.add_argument("--status", choices=list(Status), metavar="STATUS", help=", ".join(Status))
    found.add_argument("--archived", action="store_true", help="what is in the archive, instead of what is not")
    found.add_argument("--search", metavar="TEXT", help="only those that have this in one of their texts")
    found.add_argument("--limit", type=_count, default=100, metavar="N", help="how many at most; 100 if not given")
    for name, sentence in (
        ("archive", "put listings into the archive"),
        ("unarchive", "take listings out of the archive"),
        ("pin", "put listings on top of lists"),
        ("unpin", "have listings on top of lists no longer"),
        ("delete", "delete listings for good"),
    ):
        command = _add_command(
            listings, name, _change_listings, sentence, f"{sentence.capitalize()}; who follows them is told."
        )
        command.add_argument("ids", metavar="ID", type=_count, nargs="+", help="their numbers")
        command.set_defaults(action=name)


def _add_import(commands: _Commands) -> None:
    imports = _add_group(commands, "import", "bring in what others have", "Bring in what other programs have.")
    wall = _add_command(
        imports,
        "streamwall",
        _import_streamwall,
        "import the streams of a Streamwall",
        "Import the streams of a Streamwall, recognised by their links: known ones are changed, others are made.",
    )
    wall.add_argument("place", metavar="FILE|URL", help="its JSON")
    wall.add_argument("--as", dest="owner", metavar="EMAIL", required=True, help="whose the new ones are")
    wall.add_argument("--skip-known", action="store_true", help="leave those alone whose link is there already")
    wall.add_argument("--dry-run", action="store_true", help="tell what would become of them, and write nothing")
    wall.add_argument("--offset", type=int, default=0, metavar="N", help="leave out the first N")
    wall.add_argument("--limit", type=_count, metavar="N", help="take N at most")


def _add_key(commands: _Commands) -> None:
    keys = _add_group(commands, "key", "add, list and revoke API keys", "API keys. Works while the server runs.")
    add = _add_command(
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
    add.add_argument("--days", type=_positive, metavar="DAYS", help="how long it is good for; for ever if not given")
    _add_command(keys, "list", _list_keys, "list the API keys", "List the API keys that are not revoked, oldest first.")
    revoke = _add_command(
        keys,
        "revoke",
        _revoke_key,
        "end an API key for good",
        "End an API key for good; a running server knows at once.",
    )
    revoke.add_argument("id", metavar="ID", help="the key's id, as `mainstem key list` shows it")


def _add_work(commands: _Commands) -> None:
    work = _add_command(
        commands,
        "work",
        _work,
        "work beside a server",
        "Transcode files and check listings in this process, too, until it is told to end. A server starts processes of"
        " its own for both; more of them help on a machine with more processors.",
    )
    work.add_argument("--only", choices=list(Trade), metavar="TRADE", help=f"only this: {' or '.join(Trade)}")


def _add_tasks(commands: _Commands) -> None:
    tasks = _add_group(
        commands, "tasks", "list and replay parked tasks", "Tasks that failed for good. Works while the server runs."
    )
    listing = _add_command(
        tasks,
        "list",
        _list_tasks,
        "list the parked tasks",
        "List the tasks that failed too often and were parked, oldest first, with why.",
    )
    listing.add_argument("--kind", help="only tasks of this kind; all if not given")
    replay = _add_command(
        tasks,
        "replay",
        _replay_task,
        "have a parked task done after all",
        "Let a parked task be tried again, as often as a new one.",
    )
    replay.add_argument("id", type=int, metavar="ID", help="the task's number, as `mainstem tasks list` shows it")


def _add_grant(commands: _Commands) -> None:
    grant = _add_command(
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


def _add_source(commands: _Commands) -> None:
    sources = _add_group(
        commands, "source", "list and delete sources", "Sources of Evernest. Works while the server runs."
    )
    listing = _add_command(sources, "list", _list_sources, "list the sources", "List an account's sources, by number.")
    listing.add_argument("account", metavar="ACCOUNT", help="whose sources they are, by name, email or number")
    deletion = _add_command(
        sources,
        "delete",
        _delete_source,
        "delete a source",
        "End a source, its key and its rights for good; a running server knows at once. Its messages stay.",
    )
    deletion.add_argument("account", metavar="ACCOUNT", help="whose source it is, by name, email or number")
    deletion.add_argument("id", type=int, metavar="ID", help="the source's number, as `mainstem source list` shows it")


def _add_doctor(commands: _Commands) -> None:
    doctor = _add_command(
        commands,
        "doctor",
        _doctor,
        "check the data and the machine",
        "Check disk, port, ffmpeg, versions, the database, and the checksum of every segment of the log."
        " Works while the server runs.",
    )
    doctor.add_argument(
        "--accept-loss",
        metavar="SEGMENT",
        help="give up a damaged segment that cannot be restored, so that the server is healthy without it",
    )


def _add_hlscheck(commands: _Commands) -> None:
    check = _add_command(
        commands,
        "hlscheck",
        _hlscheck,
        "hold an HLS stream to the rules",
        "Hold an HLS stream to RFC 8216: its playlists, every segment, and over HTTP how they are served. Exit status 1"
        " when a rule that must be kept is broken.",
    )
    check.add_argument("place", metavar="PLACE", help="the address of a playlist, or its path, or its folder")
    check.add_argument(
        "--watch",
        type=_positive,
        metavar="SECONDS",
        default=0,
        help="follow a playlist that has not ended for so long, or until its end; 0 if not given",
    )
    check.add_argument("--origin", metavar="ORIGIN", help="pages of this origin must be able to play it")
    check.add_argument(
        "--header", action="append", metavar="LINE", help="a header to send, `Name: value`, once for each"
    )


def _add_group(commands: _Commands, name: str, help_: str, description: str) -> _Commands:
    group = commands.add_parser(name, help=help_, description=description)
    return group.add_subparsers(metavar="COMMAND", required=True)


def _add_command(commands: _Commands, name: str, run: Command, help_: str, description: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=help_, description=description)
    command.set_defaults(command=run)
    command.add_argument(
        "--config", type=Path, metavar="FILE", help=f"the TOML file to use instead of {CONFIG_VARIABLE}"
    )
    command.add_argument("--data", metavar="FOLDER", help="the data folder, instead of MAINSTEM_DATA")
    command.add_argument("--json", action="store_true", help="answer with JSON, one object or array")
    return command


def _count(text: str) -> int:
    number = int(text)
    if not 0 < number < 1 << 63:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError("must be more than 0 and less than a million")
    return number


def _rights(text: str) -> Right:
    if text == "none":
        return Right.NONE
    try:
        return Right(sum({_RIGHTS[name] for name in text.split(",")}))
    except KeyError as error:
        raise argparse.ArgumentTypeError("must be read, write and manage, with commas between, or none") from error


def _environment(asked: argparse.Namespace) -> Mapping[str, str]:
    options = {name: getattr(asked, name, None) for name in ("data", "host", "port")}
    return {**os.environ, **{PREFIX + name.upper(): value for name, value in options.items() if value is not None}}


# Commands


def _serve(asked: argparse.Namespace, settings: Settings) -> int:
    # The server brings a hundred modules that no other command needs.
    from mainstem import app

    if asked.json:
        settings = msgspec.structs.replace(settings, log_format="json")
    app.run(settings)
    return DONE


def _work(asked: argparse.Namespace, settings: Settings) -> int:
    from mainstem import worker

    if asked.json:
        settings = msgspec.structs.replace(settings, log_format="json")
    worker.run(settings, list(Trade) if asked.only is None else [Trade(asked.only)])
    return DONE


def _list_tasks(asked: argparse.Namespace, settings: Settings) -> int:
    tasks = asyncio.run(_with_queue(settings, lambda queue: _every_parked_task(queue, asked.kind)))
    if asked.json:
        _show_json([_task_view(task) for task in tasks])
    else:
        _show_table(
            ("id", "kind", "key", "attempts", "parked", "error"),
            [
                (
                    str(one.id),
                    one.kind,
                    one.key,
                    str(one.attempts),
                    rfc3339(one.parked_us),
                    one.error.partition("\n")[0],
                )
                for one in tasks
            ],
        )
    return DONE


def _replay_task(asked: argparse.Namespace, settings: Settings) -> int:
    asyncio.run(_with_queue(settings, lambda queue: queue.replay(asked.id)))
    if asked.json:
        _show_json({"id": asked.id, "replayed": True})
    else:
        _show(f"Task {asked.id} waits to be done.")
    return DONE


def _demo(asked: argparse.Namespace, settings: Settings) -> int:
    from mainstem import demo

    return demo.main(asked)


def _doctor(asked: argparse.Namespace, settings: Settings) -> int:
    from mainstem import doctor

    if asked.accept_loss is not None:
        doctor.give_up(settings, asked.accept_loss)
    checks = asyncio.run(doctor.examine(settings))
    is_well = all(check.verdict is not doctor.Verdict.PROBLEM for check in checks)
    if asked.json:
        _show_json({"ok": is_well, "checks": checks})
    else:
        for check in checks:
            _show(f"{check.verdict.value:8} {check.subject:12} {check.finding}")
    return DONE if is_well else FAILED


def _hlscheck(asked: argparse.Namespace, settings: Settings) -> int:
    from mainstem import hlscheck

    headers = dict[str, str]()
    for line in asked.header or ():
        name, colon, value = line.partition(":")
        if not colon:
            raise Invalid(f"{line!r} is no header: write `Name: value`.")
        headers[name.strip()] = value.strip()
    report = hlscheck.check(asked.place, watch=hlscheck.Watch(asked.watch), origin=asked.origin, headers=headers)
    if asked.json:
        _show_json(hlscheck.view(report))
    else:
        _show("\n".join(hlscheck.lines(report)))
    return DONE if report.ok else FAILED


def _migrate(asked: argparse.Namespace, settings: Settings) -> int:
    async def migrate() -> list[str]:
        layout = Layout(settings.data)
        layout.make()
        records = SqliteRecords(layout.records)
        try:
            return await records.migrate()
        finally:
            await records.close()

    steps = asyncio.run(migrate())
    if asked.json:
        _show_json({"database": str(Layout(settings.data).records), "steps": steps})
    else:
        _show(f"Steps taken: {', '.join(steps)}." if steps else "The database is of this version already.")
    return DONE


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
        _show_json({**_account_view(account), "user_key": user_key})
    else:
        _show(f"{account.id} {account.name}\nuser key {user_key}")
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
        _show_json({"id": account.id, "name": asked.name, "user_key": user_key, "revoked": asked.revoke})
    else:
        _show(user_key or f"The user key {asked.name!r} of {account.name} is revoked.")
    return DONE


def _list_accounts(asked: argparse.Namespace, settings: Settings) -> int:
    accounts = _with_directory(settings, Directory.accounts)
    if asked.json:
        _show_json([_account_view(account) for account in accounts])
    else:
        _show_table(
            ("id", "name", "email", "administrator", "created"),
            [
                (str(one.id), one.name, one.email or "", "yes" if one.is_admin else "", rfc3339(one.created_us))
                for one in accounts
            ],
        )
    return DONE


def _add_services(asked: argparse.Namespace, settings: Settings) -> int:
    made = curator.at_desk(settings, lambda desk: curator.add_services(desk, asked.email or SERVICES))
    if asked.json:
        _show_json([{**_account_view(account), "password": password} for account, password in made])
    else:
        _show_table(("id", "email", "password"), [(str(one.id), one.email or "", password) for one, password in made])
    return DONE


def _set_role(asked: argparse.Namespace, settings: Settings) -> int:
    account = curator.at_desk(settings, lambda desk: curator.set_role(desk, asked.account, asked.role))
    if asked.json:
        _show_json(_account_view(account))
    else:
        _show(f"{account.name} is {account.role} now.")
    return DONE


def _delete_account(asked: argparse.Namespace, settings: Settings) -> int:
    account, heir = curator.at_desk(settings, lambda desk: curator.delete_account(desk, asked.account))
    if asked.json:
        _show_json({"id": account.id, "deleted": True, "heir": heir.id})
    else:
        _show(f"{account.name} is deleted. What it owned is {heir.name}'s now.")
    return DONE


def _enable_flag(asked: argparse.Namespace, settings: Settings) -> int:
    return _show_flag(
        asked, curator.at_desk(settings, lambda desk: desk.flags.enable(OPERATOR, asked.name, _gate(asked)))
    )


def _disable_flag(asked: argparse.Namespace, settings: Settings) -> int:
    return _show_flag(
        asked, curator.at_desk(settings, lambda desk: desk.flags.disable(OPERATOR, asked.name, _gate(asked)))
    )


def _gate(asked: argparse.Namespace) -> Gate:
    return Gate(asked.actor, asked.group, asked.percentage_of_actors, asked.percentage_of_time)


def _show_flag(asked: argparse.Namespace, feature: Feature) -> int:
    if asked.json:
        _show_json(_feature_view(feature))
    else:
        _show(f"{feature.name} is {feature.state}{_for_whom(feature)}.")
    return DONE


def _list_flags(asked: argparse.Namespace, settings: Settings) -> int:
    features = curator.at_desk(settings, lambda desk: desk.flags.all())
    if asked.json:
        _show_json([_feature_view(one) for one in features])
    else:
        _show_table(("name", "state", "for"), [(one.name, one.state, _for_whom(one).strip()) for one in features])
    return DONE


def _list_listings(asked: argparse.Namespace, settings: Settings) -> int:
    statuses = None if asked.status is None else frozenset({Status(asked.status)})
    filters = Filters(statuses=statuses, is_archived=asked.archived, search=asked.search)
    wanted = PageRequest(per_page=asked.limit, filters=filters)
    page = curator.at_desk(settings, lambda desk: desk.listings.page(OPERATOR, wanted))
    if asked.json:
        _show_json({"total": page.total, "listings": [_listing_view(one) for one in page.listings]})
    else:
        _show_table(
            ("id", "status", "pinned", "source", "link"),
            [(str(one.id), one.status, "yes" if one.is_pinned else "", one.source, one.link) for one in page.listings],
        )
    return DONE


def _change_listings(asked: argparse.Namespace, settings: Settings) -> int:
    curator.at_desk(settings, lambda desk: curator.change_listings(desk, asked.action, asked.ids))
    if asked.json:
        _show_json({"ids": asked.ids, "action": asked.action})
    else:
        _show(f"Done for {len(asked.ids)}.")
    return DONE


def _import_streamwall(asked: argparse.Namespace, settings: Settings) -> int:
    wanted = curator.StreamwallImport(
        asked.place, asked.owner, asked.skip_known, asked.dry_run, max(asked.offset, 0), asked.limit
    )
    outcome = curator.at_desk(
        settings,
        lambda desk: curator.import_streamwall(desk, wanted, allow_private=settings.check_allow_private),
    )
    if asked.json:
        _show_json({"dry_run": asked.dry_run, **msgspec.structs.asdict(outcome)})
        return DONE
    counts = {name: count for name, count in msgspec.structs.asdict(outcome).items() if isinstance(count, int)}
    counts["refused"] = len(outcome.refused)
    would = "Would be: " if asked.dry_run else ""
    _show(would + ", ".join(f"{name} {count}" for name, count in counts.items()))
    for row in outcome.refused[:_REFUSED_SHOWN]:
        _show(f"row {row.index}: {', '.join(row.errors)}")
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
        _show_json({**_key_view(key), "key": text})
    else:
        _show(f"{text}\n\nThis is {key.id}, {key.name!r}. Keep it now: it is not shown again.")
    return DONE


def _list_keys(asked: argparse.Namespace, settings: Settings) -> int:
    keys = _with_directory(settings, _every_key)
    if asked.json:
        _show_json([_key_view(key) for key in keys])
    else:
        _show_table(
            ("id", "name", "account", "tier", "scopes", "streams", "expires", "last used"),
            [
                (
                    key.id,
                    key.name,
                    str(key.account),
                    str(key.tier),
                    " ".join(sorted(key.scopes)),
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
        _show_json({"id": asked.id, "revoked": True})
    else:
        _show(f"{asked.id} is revoked.")
    return DONE


def _grant(asked: argparse.Namespace, settings: Settings) -> int:
    async def grant() -> tuple[Account, Right]:
        async with _identity(settings) as (directory, _), SqliteRecords(Layout(settings.data).records) as records:
            account = await directory.find_account(asked.account)
            return account, await give_as_operator(records, directory, account.id, asked.stream, asked.rights)

    account, before = asyncio.run(grant())
    if asked.json:
        rights = {"rights": _names_of(asked.rights), "before": _names_of(before)}
        _show_json({"stream": asked.stream, "account": account.id, **rights})
    else:
        now, then = (", ".join(_names_of(right)) or "nothing" for right in (asked.rights, before))
        _show(f"{account.name} may {now} with {asked.stream}; before: {then}.")
    return DONE


def _list_sources(asked: argparse.Namespace, settings: Settings) -> int:
    async def listed(directory: Directory, sources: Sources) -> list[Source]:
        return await sources.of(_standing_for(await directory.find_account(asked.account)))

    found = _with_sources(settings, listed)
    if asked.json:
        _show_json([{"id": one.id, "name": one.name, "created_at": rfc3339(one.created_us)} for one in found])
    else:
        rows = [(str(one.id), one.name, rfc3339(one.created_us)) for one in found]
        _show_table(("id", "name", "created"), rows)
    return DONE


def _delete_source(asked: argparse.Namespace, settings: Settings) -> int:
    async def delete(directory: Directory, sources: Sources) -> Source:
        owner = _standing_for(await directory.find_account(asked.account))
        source = await sources.get(owner, asked.id)
        await sources.delete(owner, source.id)
        return source

    source = _with_sources(settings, delete)
    if asked.json:
        _show_json({"account": source.account, "id": source.id, "name": source.name, "deleted": True})
    else:
        _show(f"The source {source.name!r} is deleted.")
    return DONE


# What commands share


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


async def _with_queue[Answer](settings: Settings, ask: Callable[[Queue], Coroutine[None, None, Answer]]) -> Answer:
    async with SqliteRecords(Layout(settings.data).records) as records:
        return await ask(Queue(records, system_clock))


async def _every_parked_task(queue: Queue, kind: str | None) -> list[ParkedTask]:
    page = tasks = await queue.parked(kind, limit=1_000)
    while len(page) == 1_000:
        page = await queue.parked(kind, limit=1_000, after=page[-1].id)
        tasks += page
    return tasks


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


# What is shown


def _account_view(account: Account) -> dict[str, object]:
    return {
        "id": account.id,
        "name": account.name,
        "email": account.email,
        "admin": account.is_admin,
        "role": account.role,
        "created_at": rfc3339(account.created_us),
    }


def _listing_view(listing: Listing) -> dict[str, object]:
    return {
        "id": listing.id,
        "source": listing.source,
        "link": listing.link,
        "status": listing.status,
        "is_pinned": listing.is_pinned,
        "is_archived": listing.is_archived,
        "created_at": rfc3339(listing.created_us),
    }


def _feature_view(feature: Feature) -> dict[str, object]:
    return {
        "name": feature.name,
        "state": feature.state,
        "boolean": feature.boolean,
        "actors": sorted(feature.actors),
        "groups": sorted(feature.groups),
        "percentage_of_actors": feature.percentage_of_actors,
        "percentage_of_time": feature.percentage_of_time,
    }


def _for_whom(feature: Feature) -> str:
    """Which gates of a feature are open, beside the one for all."""
    shares = {"accounts": feature.percentage_of_actors, "requests": feature.percentage_of_time}
    gates = [
        *sorted(feature.groups),
        *sorted(feature.actors),
        *(f"{share:g} % of {what}" for what, share in shares.items() if share),
    ]
    return f" for {', '.join(gates)}" if gates else ""


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


def _task_view(task: ParkedTask) -> dict[str, object]:
    return {
        "id": task.id,
        "kind": task.kind,
        "key": task.key,
        "attempts": task.attempts,
        "error": task.error,
        "created_at": rfc3339(task.created_us),
        "parked_at": rfc3339(task.parked_us),
    }


def _show(text: str) -> None:
    sys.stdout.write(text + "\n")


def _show_json(value: object) -> None:
    _show(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _show_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        _show("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _complain(error: MainstemError, *, as_json: bool) -> None:
    if as_json:
        sys.stderr.write(msgspec.json.encode({"error": {"message": error.message}}).decode() + "\n")
    else:
        sys.stderr.write(f"mainstem: {error.message}\n")
