"""The same name in Python and on the wire."""

from __future__ import annotations

import re

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NEXT_WORD = re.compile(r"_([a-z0-9])")


def snake_case(name: str) -> str:
    """``messageId`` and ``message_id`` are both ``message_id``."""
    return _WORD_START.sub("_", name).lower()


def camel_case(name: str) -> str:
    """``message_id`` and ``messageId`` are both ``messageId``."""
    return _NEXT_WORD.sub(lambda found: found[1].upper(), name)
