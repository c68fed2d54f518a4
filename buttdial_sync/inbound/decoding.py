"""From a stranger's bytes to JSON, within limits."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from buttdial_sync.errors.scrubbing import masked_items

_DEEPEST = 64
_MOST_CONTAINERS = 20_000
_LONGEST_NUMBER = 64
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class UnreadableError(ValueError):
    """It is not JSON, or not JSON that a server sends."""


def decode_json(body: bytes) -> Any:
    """
    Decode the body of a webhook; its credentials are masked.

    Args:
        body: Bytes from anybody, of a size that was checked.

    Returns:
        The value.

    Raises:
        UnreadableError: It is not JSON in UTF-8, or it is nested deeper, or holds more objects or
            longer numbers, than anything that a server sends.
    """
    _check_containers(body)
    try:
        value = _DECODER.decode(body.decode())
    except (ValueError, RecursionError) as error:
        raise UnreadableError(type(error).__name__) from None
    return masked_items(value) if isinstance(value, dict) else value


def _check_containers(body: bytes) -> None:
    """Refuse what would be expensive to read: it is nested too deep, or has too many objects."""
    if body.count(b"[") + body.count(b"{") <= _DEEPEST:
        return
    # Each step is one pass over the bytes. A stranger could write a body on which a regular
    # expression for strings would backtrack for a very long time.
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = b"".join(unescaped.split(b'"')[::2]).translate(None, _NOT_BRACKETS)
    if len(brackets) > 2 * _MOST_CONTAINERS:
        raise UnreadableError("too many objects")
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        if depth > _DEEPEST:
            raise UnreadableError("nested too deep")


def _whole_number(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError("a number too long")
    return int(digits)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_int=_whole_number, parse_constant=_refuse)
