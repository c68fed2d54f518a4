"""
Reading single fields of decoded JSON that anybody may have written.

What a message consists of must be right: a wrong type there is :class:`MalformedError`. What
surrounds it is None when it is wrong, for a message must not get lost over its sender's name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeAlias

from buttdial_sync.errors.moments import parse_moment
from buttdial_sync.errors.scrubbing import storable
from buttdial_sync.models.names import snake_case

Fields: TypeAlias = Mapping[str, Any]

_twin = lru_cache(maxsize=256)(snake_case)


class MalformedError(Exception):
    """A message or a field does not have the form that it should have."""


def first(data: Fields, *names: str) -> Any:
    """Return the first value that is there and not null; each name is read as snake_case too."""
    for name in names:
        value = data.get(name)
        if value is None:
            value = data.get(_twin(name))
        if value is not None:
            return value
    return None


def text(data: Fields, *names: str) -> str | None:
    """Return a text, None when there is none."""
    value = first(data, *names)
    return storable(value) if isinstance(value, str) else None


def content(data: Fields, *names: str) -> str | None:
    """
    Return a text, None when there is none.

    Raises:
        MalformedError: There is something else in its place.
    """
    value = first(data, *names)
    if value is not None and not isinstance(value, str):
        raise MalformedError(f"{names[0]} is not text")
    return None if value is None else storable(value)


def identifier(data: Fields, *names: str) -> str | None:
    """Return an id, which some servers write as a number."""
    value = first(data, *names)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return storable(str(value)) or None


def flag(data: Fields, *names: str) -> bool:
    """Return whether something is true."""
    return first(data, *names) is True


def whole_number(data: Fields, *names: str) -> int | None:
    """Return a whole number, None when there is none."""
    value = first(data, *names)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number(data: Fields, *names: str) -> float | None:
    """Return a finite number, None when there is none."""
    value = first(data, *names)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def moment(data: Fields, *names: str) -> datetime | None:
    """Return a time (UTC), None when there is none that can be read."""
    try:
        return parse_moment(first(data, *names))
    except (ValueError, OverflowError):
        return None


def mapping(data: Fields, *names: str) -> Fields:
    """Return an object, an empty one when there is none."""
    value = first(data, *names)
    return value if isinstance(value, Mapping) else {}


def mappings(data: Fields, *names: str) -> Iterator[Fields]:
    """Yield the objects of a list."""
    value = first(data, *names)
    for item in value if isinstance(value, list) else ():
        if isinstance(item, Mapping):
            yield item
