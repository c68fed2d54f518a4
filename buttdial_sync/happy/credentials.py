"""Where the token and the secret come from: arguments, the environment, or a key file."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from buttdial_sync.errors.scrubbing import Secret
from buttdial_sync.happy.crypto import KEY_BYTES, KeyBytes
from buttdial_sync.happy.errors import CredentialsError

SecretKind = Literal["account", "machine", "unknown"]
"""Whose secret it is: the account's, one machine's, or not known because no key file tells."""

_KEY_FILES = ("agent.key", "access.key")
_HOME = ".happy"
_SECRETS = ("HAPPY_TOKEN", "HAPPY_SECRET")
VARIABLES = ("HAPPY_SERVER_URL", "HAPPY_HOME_DIR", *_SECRETS)


@attrs.frozen(kw_only=True)
class Credentials:
    """
    A token and the secret that opens records. Not shown, and never pickled.

    Attributes:
        token: The bearer token.
        secret: 32 bytes.
        kind: Whose secret it is.
        source: Where both come from, for messages.
    """

    token: Secret = attrs.field(repr=False)
    secret: KeyBytes = attrs.field(repr=False)
    kind: SecretKind
    source: str


def credentials_of(
    token: str | None, secret_b64: str | None, path: str | os.PathLike[str] | None
) -> Credentials:
    """
    Return the credentials that a client was given, or those of a key file.

    Args:
        token: The bearer token.
        secret_b64: The secret in base64; given together with the token, or not at all.
        path: The key file; see :func:`load_credentials`.

    Raises:
        CredentialsError: Something is missing or malformed.
    """
    if token is None and secret_b64 is None:
        return load_credentials(path)
    if not token or not secret_b64:
        raise CredentialsError("token and secret_b64 must be given both, or neither")
    return _checked(token, secret_b64, "unknown", "the arguments")


def arguments_from_env(environ: Mapping[str, str]) -> dict[str, Any]:
    """
    Return a client's arguments: ``HAPPY_TOKEN`` and ``HAPPY_SECRET``, else the key file.

    Raises:
        CredentialsError: Only one of the two is set, or the key file is missing.
    """
    token, secret = map(environ.get, _SECRETS)
    if not token and not secret:
        return {"credentials_path": default_key_file(environ)}
    if not token or not secret:
        raise CredentialsError("HAPPY_TOKEN and HAPPY_SECRET must be set both, or neither")
    return {"token": token, "secret_b64": secret}


def load_credentials(path: str | os.PathLike[str] | None) -> Credentials:
    """
    Read a key file, in either of its formats.

    Args:
        path: The file; when None ``agent.key``, else ``access.key``, in ``HAPPY_HOME_DIR`` or
            ``~/.happy``.

    Raises:
        CredentialsError: There is no such file, or it is malformed.
    """
    file = default_key_file(os.environ) if path is None else Path(path).expanduser()
    data = _read(file)
    encryption = data.get("encryption")
    kind: SecretKind = "account"
    secret = data.get("secret")
    if not secret and isinstance(encryption, dict):
        kind, secret = "machine", encryption.get("machineKey")
    if not secret or not data.get("token"):
        raise CredentialsError(
            f"{file} lacks the token or the secret",
            remediation='It must have "token", and "secret" or "encryption": {"machineKey": …}.',
        )
    return _checked(data["token"], secret, kind, str(file))


def default_key_file(environ: Mapping[str, str]) -> Path:
    """Find the key file; raise :class:`CredentialsError` if there is none."""
    home = environ.get("HAPPY_HOME_DIR", "").strip()
    folder = Path(home).expanduser() if home else Path.home() / _HOME
    for name in _KEY_FILES:
        if (folder / name).is_file():
            return folder / name
    raise CredentialsError(f"there is no {' and no '.join(_KEY_FILES)} in {folder}")


def _read(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text("utf-8"), object_hook=_hidden)
    except FileNotFoundError:
        reason = f"there is no {file}"
    except OSError as error:
        reason = f"{file} cannot be read: {type(error).__name__}"
    except ValueError:
        reason = f"{file} is not JSON"
    else:
        if isinstance(data, dict):
            return data
        reason = f"{file} is not a JSON object"
    raise CredentialsError(reason)


def _hidden(part: dict[str, Any]) -> dict[str, Any]:
    """Hide every text of a key file from those who print local variables."""
    return {key: Secret(text) if isinstance(text, str) else text for key, text in part.items()}


def _checked(token: Any, secret_b64: Any, kind: SecretKind, source: str) -> Credentials:
    if not isinstance(token, str) or not token.strip():
        raise CredentialsError(f"the token in {source} is empty")
    if not (token.strip().isascii() and token.strip().isprintable()):
        raise CredentialsError(f"the token in {source} has characters that cannot be sent")
    try:
        secret = KeyBytes(base64.b64decode(secret_b64.strip(), validate=True))
    except (AttributeError, TypeError, ValueError):
        secret = KeyBytes()
    if len(secret) != KEY_BYTES:
        raise CredentialsError(f"the secret in {source} is not {KEY_BYTES} bytes in base64")
    return Credentials(token=Secret(token.strip()), secret=secret, kind=kind, source=source)
