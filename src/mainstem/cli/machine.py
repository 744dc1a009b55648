"""Commands that start the server and what works beside it, and look after its data."""

import argparse
import asyncio
from collections.abc import Callable, Coroutine

import msgspec

from mainstem.children import Trade
from mainstem.cli.commands import DONE, FAILED, Commands, add_command, add_group, positive, show, show_json, show_table
from mainstem.clock import rfc3339, system_clock
from mainstem.errors import Invalid
from mainstem.settings import Settings
from mainstem.storage import Layout, SqliteRecords
from mainstem.work import ParkedTask, Queue


def add_serve(commands: Commands) -> None:
    serve = add_command(
        commands,
        "serve",
        _serve,
        "start the server",
        "Start the server. The first start makes an administrator and an API key and prints them once.",
    )
    serve.add_argument("--host", help="the address to listen on, instead of MAINSTEM_HOST")
    serve.add_argument("--port", help="the port to listen on, instead of MAINSTEM_PORT; 0 takes any that is free")


def add_work(commands: Commands) -> None:
    work = add_command(
        commands,
        "work",
        _work,
        "work beside a server",
        "Transcode files and check listings in this process, too, until it is told to end. A server starts processes of"
        " its own for both; more of them help on a machine with more processors.",
    )
    work.add_argument("--only", choices=list(Trade), metavar="TRADE", help=f"only this: {' or '.join(Trade)}")


def add_tasks(commands: Commands) -> None:
    tasks = add_group(
        commands, "tasks", "list and replay parked tasks", "Tasks that failed for good. Works while the server runs."
    )
    listing = add_command(
        tasks,
        "list",
        _list_tasks,
        "list the parked tasks",
        "List the tasks that failed too often and were parked, oldest first, with why.",
    )
    listing.add_argument("--kind", help="only tasks of this kind; all if not given")
    replay = add_command(
        tasks,
        "replay",
        _replay_task,
        "have a parked task done after all",
        "Let a parked task be tried again, as often as a new one.",
    )
    replay.add_argument("id", type=int, metavar="ID", help="the task's number, as `mainstem tasks list` shows it")


def add_doctor(commands: Commands) -> None:
    doctor = add_command(
        commands,
        "doctor",
        _doctor,
        "check the data and the machine",
        "Check versions, folder, disk, port, the database, parked tasks, and the checksum of every segment of the log."
        " Works while the server runs.",
    )
    doctor.add_argument(
        "--accept-loss",
        metavar="SEGMENT",
        help="give up a damaged segment that cannot be restored, so that the server is healthy without it",
    )


def add_migrate(commands: Commands) -> None:
    add_command(
        commands,
        "migrate",
        _migrate,
        "bring the database to this version",
        "Bring the tables of the database to this version of mainstem. The server does the same when it starts.",
    )


def add_hlscheck(commands: Commands) -> None:
    check = add_command(
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
        type=positive,
        metavar="SECONDS",
        default=0,
        help="follow a playlist that has not ended for so long, or until its end; 0 if not given",
    )
    check.add_argument("--origin", metavar="ORIGIN", help="pages of this origin must be able to play it")
    check.add_argument(
        "--header", action="append", metavar="LINE", help="a header to send, `Name: value`, once for each"
    )


def add_demo(commands: Commands) -> None:
    demo = add_command(
        commands,
        "demo",
        _demo,
        "load real flights into a server of its own and ask it five questions",
        "Start a server on a free port, load 336,776 real flights over HTTP, ask five questions, show what it took.",
    )
    demo.add_argument("--keep", action="store_true", help="keep the data afterwards and say how to go on with it")


# What they do


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
        show_json([_task_view(task) for task in tasks])
    else:
        show_table(
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
        show_json({"id": asked.id, "replayed": True})
    else:
        show(f"Task {asked.id} waits to be done.")
    return DONE


def _doctor(asked: argparse.Namespace, settings: Settings) -> int:
    from mainstem import doctor

    if asked.accept_loss is not None:
        doctor.give_up(settings, asked.accept_loss)
    checks = asyncio.run(doctor.examine(settings))
    is_well = all(check.verdict is not doctor.Verdict.PROBLEM for check in checks)
    if asked.json:
        show_json({"ok": is_well, "checks": checks})
    else:
        for check in checks:
            show(f"{check.verdict.value:8} {check.subject:12} {check.finding}")
    return DONE if is_well else FAILED


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
        show_json({"database": str(Layout(settings.data).records), "steps": steps})
    else:
        show(f"Steps taken: {', '.join(steps)}." if steps else "The database is of this version already.")
    return DONE


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
        show_json(hlscheck.view(report))
    else:
        show("\n".join(hlscheck.lines(report)))
    return DONE if report.ok else FAILED


def _demo(asked: argparse.Namespace, settings: Settings) -> int:
    from mainstem import demo

    return demo.main(asked)


async def _with_queue[Answer](settings: Settings, ask: Callable[[Queue], Coroutine[None, None, Answer]]) -> Answer:
    async with SqliteRecords(Layout(settings.data).records) as records:
        return await ask(Queue(records, system_clock))


async def _every_parked_task(queue: Queue, kind: str | None) -> list[ParkedTask]:
    page = tasks = await queue.parked(kind, limit=1_000)
    while len(page) == 1_000:
        page = await queue.parked(kind, limit=1_000, after=page[-1].id)
        tasks += page
    return tasks


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
