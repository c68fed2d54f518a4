"""Which key opens which record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from buttdial_sync.happy.credentials import Credentials
from buttdial_sync.happy.crypto import Cipher, ContentKey, DataKeyCipher, SecretCipher
from buttdial_sync.happy.errors import EncryptionError, WrongKeyError

_KEPT = 10_000


class Keyring:
    """
    Finds and keeps the ciphers of machines and sessions. Safe to share between threads.

    Args:
        credentials: The client's.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._kind = credentials.kind
        self._source = credentials.source
        self._content_key = ContentKey(credentials.secret)
        # The secret itself is the key of older records; a machineKey is that of its machine.
        self._by_secret: tuple[Cipher, Cipher] = (
            SecretCipher(credentials.secret),
            DataKeyCipher(credentials.secret),
        )
        self._known: dict[str, Cipher] = {}

    def known(self, record_id: str) -> Cipher | None:
        """Return the cipher of a record that was seen before."""
        return self._known.get(record_id)

    def cipher_of(self, record: Mapping[str, Any]) -> Cipher:
        """
        Return the cipher of a machine or session.

        Raises:
            WrongKeyError: The client's secret does not open this record.
        """
        record_id = str(record.get("id"))
        known = self._known.get(record_id)
        if known is not None:
            return known
        cipher = self._found(record)
        if len(self._known) >= _KEPT:
            self._known.clear()  # they are found again
        self._known[record_id] = cipher
        return cipher

    def _found(self, record: Mapping[str, Any]) -> Cipher:
        boxed = record.get("dataEncryptionKey")
        if boxed and self._kind != "machine":
            key = self._content_key.unbox(boxed)
            if key is not None:
                return DataKeyCipher(key)
        # Only a record that it opens proves that the secret itself is the key: what is sealed with
        # a wrong key would be stored, and nobody could read it.
        cipher = self._by_secret[1 if boxed else 0]
        try:
            cipher.open(str(record.get("metadata")))
        except EncryptionError:
            pass
        else:
            return cipher
        whose = (
            "the machineKey of an access.key file"
            if self._kind == "machine"
            else "the secret of another account, or a machineKey"
        )
        raise WrongKeyError(
            f"the secret of {self._source} does not open record {record.get('id')}: it is {whose}"
        )
