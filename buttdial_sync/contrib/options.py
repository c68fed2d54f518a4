"""Arguments that hosts give in their settings: unknown names are found before they are used."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from difflib import get_close_matches
from typing import Any

_ALIKE = 0.6
_GIVEN_BY_US = frozenset({"client", "inbound", "repository"})


def unknown_options(given: Iterable[object], make: Callable[..., Any]) -> Iterator[str]:
    """
    Say which options a function or class does not take, and which was meant.

    Args:
        given: The names.
        make: Takes the options as keyword arguments.
    """
    taken = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = [
        name
        for name, parameter in inspect.signature(make).parameters.items()
        if parameter.kind in taken and name not in _GIVEN_BY_US
    ]
    for name in given:
        if name not in known:
            yield f"{name!r} is unknown{nearest(name, known)}"


def nearest(name: object, known: Collection[str]) -> str:
    """Return the question whether another name was meant; empty if none is alike."""
    found = get_close_matches(str(name).casefold(), known, n=1, cutoff=_ALIKE)
    if not found:
        # Settings are written in upper case.
        found = get_close_matches(str(name).upper(), known, n=1, cutoff=_ALIKE)
    return f": did you mean {found[0]!r}?" if found else ""
