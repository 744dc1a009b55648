"""Encryption of what has to be shown again, so that the database alone, or a copy of it, gives nothing away."""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mainstem.errors import Unavailable

_NONCE_BYTES = 12


class Seal:
    """AES-256-GCM with the server's sealing key. `label` ties what is sealed to its row: no other opens it."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key[:32])

    def close(self, text: str, label: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text.encode(), label)

    def open(self, sealed: bytes, label: bytes) -> str:
        """Raises Unavailable when it was sealed with another key."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], label).decode()
        except InvalidTag as error:
            raise Unavailable(
                "This key was encrypted with another sealing key: put back the file `sealing` that belongs to the data."
            ) from error
