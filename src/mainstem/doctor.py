"""What `mainstem doctor` looks at: the machine, the database and every segment of the log."""

import errno
import http.client
import os
import platform
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import duckdb
import msgspec
import pyarrow

from mainstem import __version__
from mainstem.clock import system_clock
from mainstem.errors import MainstemError
from mainstem.settings import Settings
from mainstem.storage import Layout, SqliteRecords, accept_loss, verify_log
from mainstem.work import Queue

_PROBE_TIMEOUT_S = 2


class Verdict(StrEnum):
    GOOD = "good"
    NOTE = "note"
    """Worth knowing; nothing is wrong."""
    PROBLEM = "problem"


class Check(NamedTuple):
    """One thing that was looked at."""

    subject: str
    verdict: Verdict
    finding: str


async def examine(settings: Settings) -> list[Check]:
    """Look at everything. Reads the whole database and every segment, but writes nothing."""
    layout = Layout(settings.data)
    return [
        _versions(),
        _data(layout),
        _disk(layout, settings),
        _port(settings),
        await _records(layout),
        await _tasks(layout),
        *_log(layout),
    ]


def give_up(settings: Settings, segment: str) -> None:
    """Count a damaged segment as lost, so that health no longer speaks of it. Raises NotFound for any other."""
    accept_loss(Layout(settings.data).log, segment)


def _versions() -> Check:
    versions = {
        "mainstem": __version__,
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "DuckDB": duckdb.__version__,
        "Arrow": pyarrow.__version__,
        "PyAV": metadata.version("av"),  # without loading it: only the children do
    }
    return Check("versions", Verdict.GOOD, ", ".join(f"{name} {version}" for name, version in versions.items()))


def _data(layout: Layout) -> Check:
    folder = layout.data
    if not folder.exists():
        return Check("data", Verdict.NOTE, f"{folder} is not there yet; the first start makes it.")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Check("data", Verdict.PROBLEM, f"{folder} may not be read and written by this user: give it to him.")
    others = [path for path in (folder, layout.keys) if path.exists() and path.stat().st_mode & 0o077]
    if others:
        return Check("data", Verdict.NOTE, f"Other users may look into {others[0]}; `chmod 700` keeps them out.")
    return Check("data", Verdict.GOOD, f"{folder} can be read and written, and by nobody else.")


def _disk(layout: Layout, settings: Settings) -> Check:
    free = shutil.disk_usage(_nearest(layout.data)).free
    finding = f"{_size(free)} free, {_size(settings.disk_free_bytes_min)} kept in reserve"
    if free < settings.disk_free_bytes_min:
        return Check("disk", Verdict.PROBLEM, f"{finding}: writes are refused until there is room.")
    return Check("disk", Verdict.GOOD, f"{finding}.")


def _port(settings: Settings) -> Check:
    if settings.port == 0:
        return Check("port", Verdict.GOOD, "Any free port will do.")
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            if _answers(settings):
                return Check("port", Verdict.GOOD, f"A mainstem server answers on {where}.")
            return Check("port", Verdict.PROBLEM, f"Another program has {where}: stop it, or set MAINSTEM_PORT.")
        return Check("port", Verdict.PROBLEM, f"{where} cannot be listened on: {error.strerror}.")
    return Check("port", Verdict.GOOD, f"{where} is free.")


def _answers(settings: Settings) -> bool:
    """Whether what listens there is one of us; unhealthy counts."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    connection = http.client.HTTPConnection(host, settings.port, timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        health = msgspec.json.decode(connection.getresponse().read(65_536), type=dict[str, object])
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return False
    finally:
        connection.close()
    return {"status", "components"} <= health.keys()


async def _records(layout: Layout) -> Check:
    if not layout.records.exists():
        return Check("records", Verdict.NOTE, "There is no database yet; the first start makes it.")
    records = SqliteRecords(layout.records)
    try:
        async with records:
            faults = await records.check()
    except MainstemError as error:
        return Check("records", Verdict.PROBLEM, error.message)
    if faults:
        return Check("records", Verdict.PROBLEM, f"{layout.records} is damaged, restore it: {faults[0]}")
    return Check("records", Verdict.GOOD, f"{layout.records} is whole ({_size(layout.records.stat().st_size)}).")


async def _tasks(layout: Layout) -> Check:
    try:
        async with SqliteRecords(layout.records) as records:
            figures = await Queue(records, system_clock).figures()
    except MainstemError:
        return Check("tasks", Verdict.NOTE, "The database cannot be asked for tasks.")
    parked = {kind: one.parked for kind, one in figures.items() if one.parked}
    if parked:
        counts = ", ".join(f"{count} of {kind}" for kind, count in parked.items())
        return Check("tasks", Verdict.NOTE, f"Tasks failed for good ({counts}): `mainstem tasks list` says why.")
    waiting = sum(one.waiting + one.delayed + one.leased for one in figures.values())
    return Check("tasks", Verdict.GOOD, f"No task has failed for good; {waiting} are to be done.")


def _log(layout: Layout) -> Iterator[Check]:
    if not layout.log.exists():
        yield Check("log", Verdict.NOTE, "There is no log yet; the first start makes it.")
        return
    for finding in verify_log(layout.log):
        verdict = Verdict.GOOD if finding.sound else Verdict.PROBLEM
        yield Check("log", verdict, f"{finding.subject}: {finding.message}")


def _nearest(folder: Path) -> Path:
    """The folder itself, or what will hold it."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
