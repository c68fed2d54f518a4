"""Arguments as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError
from buttdial_sync.models.names import camel_case


def to_wire(
    arguments: Mapping[str, Any], key_of: Callable[[str], str] = camel_case
) -> dict[str, Any]:
    """
    Return arguments by their names on the wire, without those that are None.

    Args:
        arguments: By their names in Python.
        key_of: Converts a name.

    Raises:
        ArgumentTypeError: JSON cannot hold a value; the message has the argument's name.
        ArgumentValueError: The same of a number that is not finite.
    """
    return {
        key_of(name): json_value(value, name)
        for name, value in arguments.items()
        if value is not None
    }


def json_value(value: Any, name: str) -> Any:
    """
    Return a value as plain JSON types, its texts with line feeds only.

    One of the servers rejects carriage returns.

    Raises:
        ArgumentTypeError: JSON cannot hold it; the message has the argument's name.
        ArgumentValueError: It is a number that is not finite.
    """
    if isinstance(value, str):
        return value.replace("\r\n", "\n").replace("\r", "\n") if "\r" in value else value
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            raise ArgumentValueError(f"{name} must be a finite number")
        return float(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ArgumentTypeError(f"{name} must have keys that are text")
        return {key: json_value(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [json_value(item, f"{name}[{number}]") for number, item in enumerate(value)]
    raise ArgumentTypeError(f"{name} must be plain JSON, not {type(value).__name__}")
