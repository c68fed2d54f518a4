"""
The encryption of Happy: two kinds of sealed records, and the keys to them.

A record with a ``dataEncryptionKey`` is sealed with AES-256-GCM under a key of its own, which is
boxed (X25519, XSalsa20-Poly1305) to the account's content key. Older records are sealed with the
account secret itself (XSalsa20-Poly1305). The primitives are PyNaCl's and cryptography's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

try:
    import nacl.exceptions
    import nacl.public
    import nacl.secret
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError as missing:
    reason = f"the Happy client needs {missing.name}: pip install 'buttdial-sync[happy]'"
    raise ImportError(reason) from missing

from buttdial_sync.happy.errors import EncryptionError
from buttdial_sync.transport.http import json_bytes

KEY_BYTES = 32
_GCM_NONCE = 12
_BOX_NONCE = 24
_TAG = 16
_VERSION = b"\x00"
_DATA_KEY_BUNDLE = 1 + KEY_BYTES + _BOX_NONCE + _TAG + KEY_BYTES
_CONTENT_USAGE = "Happy EnCoder"
_CONTENT_PATH = ("content",)
_NOT_SHOWN = "<a key>"


class KeyBytes(bytes):
    """A key: neither shown nor pickled."""

    __slots__ = ()

    def __repr__(self) -> str:
        return _NOT_SHOWN

    __str__ = __repr__

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a key cannot be pickled or copied")


class Cipher(Protocol):
    """Seals and opens the records under one key. Safe to share between threads."""

    def seal(self, value: Any) -> str:
        """Return a JSON value sealed, in base64."""

    def open(self, sealed: str) -> Any:
        """
        Return the JSON value of a sealed text.

        Raises:
            EncryptionError: It is malformed, damaged, or sealed with another key.
        """


class DataKeyCipher:
    """
    The cipher of a record that has a key of its own: ``00 | nonce | ciphertext | tag``.

    Args:
        key: The record's key, 32 bytes.
    """

    __slots__ = ("_aead",)

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, value: Any) -> str:
        """Return a JSON value sealed, in base64."""
        nonce = os.urandom(_GCM_NONCE)
        return encode_base64(_VERSION + nonce + self._aead.encrypt(nonce, json_bytes(value), None))

    def open(self, sealed: str) -> Any:
        """Return the JSON value of a sealed text; raise :class:`EncryptionError` otherwise."""
        bundle = decode_base64(sealed)
        if bundle[:1] == _VERSION and len(bundle) > _GCM_NONCE + _TAG:
            nonce, ciphertext = bundle[1 : 1 + _GCM_NONCE], bundle[1 + _GCM_NONCE :]
            try:
                return _decoded(self._aead.decrypt(nonce, ciphertext, None))
            except InvalidTag:
                pass
        raise EncryptionError("the record is damaged, or sealed with another key")


class SecretCipher:
    """
    The cipher of older records, which are sealed with the account secret: ``nonce | box``.

    Args:
        secret: The account secret, 32 bytes.
    """

    __slots__ = ("_box",)

    def __init__(self, secret: bytes) -> None:
        self._box = nacl.secret.SecretBox(secret)

    def seal(self, value: Any) -> str:
        """Return a JSON value sealed, in base64."""
        return encode_base64(bytes(self._box.encrypt(json_bytes(value))))

    def open(self, sealed: str) -> Any:
        """Return the JSON value of a sealed text; raise :class:`EncryptionError` otherwise."""
        bundle = decode_base64(sealed)
        if len(bundle) > _BOX_NONCE + _TAG:
            try:
                return _decoded(self._box.decrypt(bundle))
            except nacl.exceptions.CryptoError:
                pass
        raise EncryptionError("the record is damaged, or sealed with another key")


class ContentKey:
    """
    The account's key pair, to which the records' own keys are boxed.

    Args:
        secret: The account secret, 32 bytes.
    """

    __slots__ = ("_private",)

    def __init__(self, secret: bytes) -> None:
        seed = hashlib.sha512(derive_key(secret, _CONTENT_USAGE, _CONTENT_PATH)).digest()
        self._private = nacl.public.PrivateKey(KeyBytes(seed[:KEY_BYTES]))

    @property
    def public(self) -> bytes:
        """The public half."""
        return bytes(self._private.public_key)

    def unbox(self, boxed: str) -> KeyBytes | None:
        """Return a record's key, or None where it is boxed to another account, or damaged."""
        bundle = decode_base64(boxed)
        if bundle[:1] != _VERSION or len(bundle) != _DATA_KEY_BUNDLE:
            return None
        sender, sealed = bundle[1 : 1 + KEY_BYTES], bundle[1 + KEY_BYTES :]
        try:
            box = nacl.public.Box(self._private, nacl.public.PublicKey(sender))
            return KeyBytes(box.decrypt(sealed))
        except nacl.exceptions.CryptoError:
            return None


def box_data_key(key: bytes, public: bytes) -> str:
    """Box a record's key to an account's public key: ``00 | sender | nonce | box``, in base64."""
    sender = nacl.public.PrivateKey.generate()
    sealed = nacl.public.Box(sender, nacl.public.PublicKey(public)).encrypt(key)
    return encode_base64(_VERSION + bytes(sender.public_key) + bytes(sealed))


def derive_key(master: bytes, usage: str, path: Sequence[str]) -> KeyBytes:
    """
    Derive a key from a secret.

    Args:
        master: The secret.
        usage: What the tree of keys is for.
        path: The way down the tree.
    """
    node = _hmac_sha512(f"{usage} Master Seed".encode(), master)
    for segment in path:
        node = _hmac_sha512(node[KEY_BYTES:], b"\x00" + segment.encode())
    return KeyBytes(node[:KEY_BYTES])


def _hmac_sha512(key: bytes, data: bytes) -> KeyBytes:
    return KeyBytes(hmac.new(key, data, hashlib.sha512).digest())


def encode_base64(data: bytes) -> str:
    """Return standard, padded base64."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes:
    """
    Read standard, padded base64.

    Raises:
        EncryptionError: It is something else.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, TypeError):
        pass
    raise EncryptionError("the record is not base64")


def _decoded(plaintext: bytes) -> Any:
    try:
        return json.loads(plaintext)
    except (ValueError, RecursionError):
        pass
    raise EncryptionError("the record was decrypted, but is not JSON")
