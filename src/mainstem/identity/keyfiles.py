"""Secrets of the server in files of their own, outside of the database, each made the first time it is needed."""

import os
import secrets
from pathlib import Path

from mainstem.errors import Unavailable

KEY_BYTES = 32


def signing_key(folder: Path) -> bytes:
    """The secret that signs this server's tokens. Only the owner may read the file."""
    return _secret(folder / "signing", "delete it, and everybody has to sign in again")


def sealing_key(folder: Path) -> bytes:
    """The secret that encrypts keys which are shown again. Only the owner may read the file."""
    return _secret(folder / "sealing", "restore it from a backup, or delete it, and keys made so far are shown no more")


def linking_key(folder: Path) -> bytes:
    """The secret that signs links which open something for whoever has them. Only the owner may read the file."""
    return _secret(folder / "linking", "delete it, and links given out so far open nothing more")


def _secret(path: Path, what_to_do: str) -> bytes:
    try:
        if not path.exists():
            _make_secret(path)
        key = path.read_bytes()
    except OSError as error:
        raise Unavailable(f"The {path.name} key {path} cannot be read or made: {error.strerror}.") from error
    if len(key) < KEY_BYTES:
        raise Unavailable(f"The {path.name} key {path} is damaged: {what_to_do}.")
    return key


def _make_secret(path: Path) -> None:
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a move, never replaces the key that another process made in the meantime.
        path.hardlink_to(unfinished)
    except FileExistsError:
        pass
    finally:
        unfinished.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
