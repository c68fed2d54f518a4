"""
Resetting in a forked child what must not be shared with its parent.

In a child locks may be held by threads that do not exist there, and two processes that use one
connection get each other's answers. So an object that must not be shared registers here, and is
reset in the child. uWSGI without ``--py-call-uwsgi-fork-hooks`` does not run the hooks of
``os.register_at_fork``, so the process id is compared too.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import Protocol

logger = logging.getLogger("buttdial_sync")


class Resettable(Protocol):
    """Something that is reset in a forked child."""

    def _reset_after_fork(self) -> None:
        """Make new locks and connections; touch nothing that was inherited, close nothing."""


# In the order of registration, so that what an object is made of is reset before the object.
# Changed by single atomic operations only: forks, signal handlers and the garbage collector come at
# any moment, and find no lock held.
_registered: dict[int, weakref.ref[Resettable]] = {}
_leaked: list[object] = []
_process = os.getpid()
# One for each process: an inherited one may be held by a thread that is not there.
_resetting: dict[int, threading.Lock] = {}


def reset_after_fork(thing: Resettable) -> None:
    """Have ``thing`` reset in every child that is forked from now on."""
    key = id(thing)

    def forget(gone: weakref.ref[Resettable]) -> None:
        # The id may be another object's by now.
        if _registered.get(key) is gone:
            _registered.pop(key, None)

    _registered[key] = weakref.ref(thing, forget)


def leak_until_exit(*inherited: object) -> None:
    """
    Keep inherited objects for as long as the process lives.

    Closing a stream whose reader was blocked at the fork hangs, and collecting one closes it.
    """
    _leaked.extend(inherited)


def reset_if_forked() -> None:
    """Do what the fork hook does, where it did not run. Other threads wait until it is done."""
    global _process  # noqa: PLW0603
    if os.getpid() != _process:
        with _resetting.setdefault(os.getpid(), threading.Lock()):
            if os.getpid() != _process:
                _reset_all()
                _process = os.getpid()


def _in_child() -> None:
    global _process  # noqa: PLW0603
    _process = os.getpid()
    _reset_all()


def _reset_all() -> None:
    for reference in list(_registered.values()):
        thing = reference()
        if thing is None:
            continue
        try:
            thing._reset_after_fork()  # not public: hosts must not call it
        except Exception:  # the others' locks may be held: they have to be reset too
            logger.exception("%s could not be reset after a fork", type(thing).__name__)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
