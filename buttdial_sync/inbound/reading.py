"""
Reading single fields of decoded JSON that anybody may have written.

What has the wrong type is None, because a message must not get lost over one of its fields. Where
nothing is left that makes a message, the parsers raise :class:`MalformedError`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeAlias, TypedDict

from buttdial_sync.errors.moments import parse_moment
from buttdial_sync.errors.scrubbing import storable
from buttdial_sync.models.inbound import Source
from buttdial_sync.models.names import snake_case

Fields: TypeAlias = Mapping[str, Any]

# A dict is recognised at once, an abstract class takes longer to ask. Messages are full of them.
_OBJECT = (dict, Mapping)
_twin = lru_cache(maxsize=256)(snake_case)


class Origin(TypedDict):
    """The ``source`` and ``verified`` of the events that are read."""

    source: Source | None
    verified: bool


UNKNOWN: Origin = {"source": None, "verified": False}
"""The host read the payload itself."""


class MalformedError(Exception):
    """A part is missing without which it is not a message."""


def names_in(payload: Any) -> str:
    """
    Return the names in a payload, for the log, and none of the values.

    They are those at its top, and those of what changed in one of WhatsApp's.
    """
    if not isinstance(payload, _OBJECT):
        return f"a {type(payload).__name__}"
    changes = [each for entry in mappings(payload, "entry") for each in mappings(entry, "changes")]
    inner = {name for each in changes for name in mapping(each, "value")}
    return f"{[*sorted(payload), *sorted(inner)]!r:.300}"


def first(data: Fields, names: tuple[str, ...]) -> Any:
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
    value = first(data, names)
    return storable(value) if isinstance(value, str) else None


def wrong_texts(data: Fields, *names: str) -> list[str]:
    """Return the names under which there is something, but not a text."""
    given = ((name, first(data, (name,))) for name in names)
    return [name for name, value in given if value is not None and not isinstance(value, str)]


def identifier(data: Fields, *names: str) -> str | None:
    """Return an id, which some servers write as a number."""
    value = first(data, names)
    if isinstance(value, str):
        return storable(value) or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def flag(data: Fields, *names: str) -> bool:
    """Return whether something is true under one of the names."""
    return any(data.get(each) is True for name in names for each in (name, _twin(name)))


def whole_number(data: Fields, *names: str) -> int | None:
    """Return a whole number, None when there is none."""
    value = first(data, names)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number(data: Fields, *names: str) -> float | None:
    """Return a finite number, None when there is none."""
    value = first(data, names)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def moment(data: Fields, *names: str) -> datetime | None:
    """Return a time (UTC), None when there is none that can be read."""
    try:
        return parse_moment(first(data, names))
    except (ValueError, OverflowError):
        return None


def mapping(data: Fields, *names: str) -> Fields:
    """Return an object, an empty one when there is none."""
    value = first(data, names)
    return value if isinstance(value, _OBJECT) else {}


def mappings(data: Fields, *names: str) -> Iterator[Fields]:
    """Yield the objects of a list."""
    value = first(data, names)
    for item in value if isinstance(value, list) else ():
        if isinstance(item, _OBJECT):
            yield item
