"""The base of the subjects of the accounts client."""

from __future__ import annotations

import sys
import warnings
from typing import Any, TypeVar

from buttdial_sync.accounts.caller import AccountsCaller
from buttdial_sync.calls.operation import Endpoint

T = TypeVar("T")

_PACKAGE = __name__.partition(".")[0]


class Subject:
    """A group of methods on one subject; the client inherits all groups."""

    _caller: AccountsCaller

    def _call(self, endpoint: Endpoint[T], /, **arguments: Any) -> T:
        return self._caller.call(endpoint, **arguments)


def warn_caller(message: str) -> None:
    """Warn of something deprecated, at the line outside of this package that called it."""
    level = 1
    frame = sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        frame = frame.f_back
        level += 1
    warnings.warn(message, DeprecationWarning, stacklevel=level)
