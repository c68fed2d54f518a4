"""Keeping what a call gave and got out of its errors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from buttdial_sync.errors import ButtDialError
from buttdial_sync.models.names import snake_case
from buttdial_sync.transport.secrets import scrub

_MASK = "***"
_SHORTEST = 4
_SECRET_ENDINGS = ("token", "secret", "otp", "passcode", "password")


def is_secret(name: str) -> bool:
    """Whether what has this name must not be shown."""
    return snake_case(name).endswith(_SECRET_ENDINGS)


def conceal(error: ButtDialError, secrets: Collection[str]) -> None:
    """Take secrets out of an error: the given ones, and what its body names as such."""
    # Masking each "1" because somebody typed it as a passcode would hide the reason, too.
    secrets = [secret for secret in secrets if len(secret) >= _SHORTEST]
    error.args = tuple(_concealed(arg, secrets) for arg in error.args)
    error.remediation = _concealed(error.remediation, secrets)
    error.body = _concealed(error.body, secrets)


def _concealed(value: Any, secrets: Collection[str]) -> Any:
    if isinstance(value, str):
        return scrub(value, secrets)
    if isinstance(value, Mapping):
        return {
            key: _MASK
            if is_secret(str(key)) and isinstance(item, str)
            else _concealed(item, secrets)
            for key, item in value.items()
        }
    return [_concealed(item, secrets) for item in value] if isinstance(value, list) else value
