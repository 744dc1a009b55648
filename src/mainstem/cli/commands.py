"""What the commands share: how they are declared, and how they answer."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from mainstem.settings import CONFIG_VARIABLE, Settings

DONE, FAILED, MISUSED = 0, 1, 2
"""Exit statuses."""

type Command = Callable[[argparse.Namespace, Settings], int]
type Commands = argparse._SubParsersAction[argparse.ArgumentParser]
"""What commands are added to: those of the program, or those of a group."""


def add_group(commands: Commands, name: str, help_: str, description: str) -> Commands:
    group = commands.add_parser(name, help=help_, description=description)
    return group.add_subparsers(metavar="COMMAND", required=True)


def add_command(commands: Commands, name: str, run: Command, help_: str, description: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=help_, description=description)
    command.set_defaults(command=run)
    command.add_argument(
        "--config", type=Path, metavar="FILE", help=f"the TOML file to use instead of {CONFIG_VARIABLE}"
    )
    command.add_argument("--data", metavar="FOLDER", help="the data folder, instead of MAINSTEM_DATA")
    command.add_argument("--json", action="store_true", help="answer with JSON, one object or array")
    return command


def count(text: str) -> int:
    number = int(text)
    if not 0 < number < 1 << 63:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError("must be more than 0 and less than a million")
    return number


def show(text: str) -> None:
    sys.stdout.write(text + "\n")


def show_json(value: object) -> None:
    show(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def show_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        show("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
