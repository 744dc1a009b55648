"""The `mainstem` command: start the server, and look after accounts, keys and data, also while it runs."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

import msgspec

from mainstem import __version__
from mainstem.cli.accounts import add_grant, add_key, add_source, add_user
from mainstem.cli.catalogue import add_flag, add_import, add_listing
from mainstem.cli.commands import FAILED, MISUSED
from mainstem.cli.machine import add_demo, add_doctor, add_hlscheck, add_migrate, add_serve, add_tasks, add_work
from mainstem.errors import Invalid, MainstemError
from mainstem.settings import CONFIG_VARIABLE, PREFIX, load_settings

__all__ = ["main", "parser"]


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
        description="One server for streams of every kind: send events and query them, turn audio into HLS, know which"
        " streams elsewhere are live.",
        epilog=f"Settings come from {PREFIX}… variables and from the TOML file that {CONFIG_VARIABLE} or --config"
        " names. Exit status: 0 done, 1 failed or a problem was found, 2 asked for wrongly.",
    )
    top.add_argument("--version", action="version", version=f"mainstem {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        add_serve,
        add_user,
        add_key,
        add_grant,
        add_source,
        add_flag,
        add_listing,
        add_import,
        add_work,
        add_tasks,
        add_doctor,
        add_migrate,
        add_hlscheck,
        add_demo,
    ):
        add(commands)
    return top


def _environment(asked: argparse.Namespace) -> Mapping[str, str]:
    options = {name: getattr(asked, name, None) for name in ("data", "host", "port")}
    return {**os.environ, **{PREFIX + name.upper(): value for name, value in options.items() if value is not None}}


def _complain(error: MainstemError, *, as_json: bool) -> None:
    if as_json:
        sys.stderr.write(msgspec.json.encode({"error": {"message": error.message}}).decode() + "\n")
    else:
        sys.stderr.write(f"mainstem: {error.message}\n")
