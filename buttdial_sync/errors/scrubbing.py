"""Keep secrets out of everything that a person or a log may read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from buttdial_sync.errors.tree import ButtDialError

_MASK = "***"
# Masking each "1" because somebody typed it as a passcode would hide the reason, too.
_SHORTEST_SECRET = 4
_IN_QUERY = re.compile(r"((?:^|[?&\s])(?:poll_)?token=)[^&\s\"']+", re.IGNORECASE)
_SECRET_ENDINGS = ("token", "secret", "otp", "passcode", "password", "credentials")


class Secret(str):
    """
    A token, or what holds one, whose ``repr`` does not show it.

    Django's debug page and Sentry print the local variables of frames, those of libraries included.
    So a token is one from the moment that it is given until its request is sent.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(_MASK)


class SecretBytes(bytes):
    """The same of bytes, for the body of a request."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(_MASK.encode())


def masked(value: Any) -> Any:
    """Return a text as a :class:`Secret`, also inside of mappings and lists; the rest as it is."""
    if isinstance(value, str):
        return Secret(value)
    if isinstance(value, Mapping):
        return {key: masked(item) for key, item in value.items()}
    return [masked(item) for item in value] if isinstance(value, list | tuple) else value


def masked_items(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping in which the texts under a secret's name are masked, nested ones too."""
    try:
        found: dict[str, Any] = _masked_inside(values)
    except RecursionError:
        return dict(values)  # it contains itself; whoever sends it refuses that
    return found


def _masked_inside(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: masked(item) if is_secret(str(name)) else _masked_inside(item)
            for name, item in value.items()
        }
    return [_masked_inside(item) for item in value] if isinstance(value, list) else value


def secrets_in(value: Any, *, is_named: bool = False) -> Iterator[str]:
    """Yield the texts that are masked, or stand under a secret's name, also nested ones."""
    if isinstance(value, str):
        if is_named or isinstance(value, Secret):
            yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from secrets_in(item, is_named=is_named or is_secret(str(name)))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secrets_in(item, is_named=is_named)


def is_secret(name: str) -> bool:
    """Whether a value with this name must not be shown; ``teamToken`` and ``team_token`` alike."""
    return name.lower().endswith(_SECRET_ENDINGS)


def scrub(text: str, secrets: Iterable[str | None] = ()) -> str:
    """
    Return ``text`` without the secrets, also where they are percent-encoded.

    Secrets of less than four characters stay: they hide nothing, and every text has them.
    """
    # The longest first: of one that begins with another, the rest would stay.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _MASK).replace(quote(secret, safe=""), _MASK)
    return _IN_QUERY.sub(rf"\1{_MASK}", text)


def storable(text: str) -> str:
    """Return ``text`` without what databases refuse: NUL, and halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")


def scrub_error(error: ButtDialError, secrets: Collection[str | None]) -> None:
    """Remove secrets from an error: the given ones, and texts of the body below a secret's name."""
    error.args = tuple(_scrubbed(arg, secrets) for arg in error.args)
    error.remediation = _scrubbed(error.remediation, secrets)
    try:
        error.body = _scrubbed(error.body, secrets)
    except RecursionError:
        error.body = None  # nested too deeply to be looked through


def _scrubbed(value: Any, secrets: Collection[str | None], *, is_named: bool = False) -> Any:
    if isinstance(value, str):
        return _MASK if is_named else scrub(value, secrets)
    if isinstance(value, Mapping):
        return {
            key: _MASK
            if _is_secret_item(str(key), item)
            else _scrubbed(item, secrets, is_named=is_named or is_secret(str(key)))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_scrubbed(item, secrets, is_named=is_named) for item in value]
    return value


def _is_secret_item(name: str, value: Any) -> bool:
    # A yes or no under such a name, as in "hasToken", is not a secret.
    return is_secret(name) and isinstance(value, str | int) and not isinstance(value, bool)
