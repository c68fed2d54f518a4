"""
Forked children start anew.

Locks may be held, threads are gone, and a connection used by two processes swaps their answers. So
what must not be shared registers here and is reset in the child. ``os.register_at_fork`` does not
run under every server (uWSGI without ``--py-call-uwsgi-fork-hooks``): hence the process id.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something that starts anew in a forked child."""

    def start_anew(self) -> None:
        """Make new locks and connections; touch nothing that was inherited, close nothing."""


_everything: weakref.WeakSet[Forkable] = weakref.WeakSet()
_lock = threading.Lock()
_kept_unclosed: list[object] = []
_process = os.getpid()


def on_fork_start_anew(thing: Forkable) -> None:
    """Have ``thing`` reset in every child that is forked from now on."""
    with _lock:
        _everything.add(thing)


def keep_unclosed(*inherited: object) -> None:
    """
    Keep inherited objects for as long as the process lives.

    Closing a stream whose reader was blocked at the fork hangs, and collecting one closes it.
    """
    _kept_unclosed.extend(inherited)


def start_anew_if_forked() -> None:
    """Do what the fork hook does, where it did not run."""
    if os.getpid() != _process:
        _in_child()


def _in_child() -> None:
    global _lock, _process  # noqa: PLW0603 - the inherited lock is held
    _lock = threading.Lock()
    _process = os.getpid()
    for thing in list(_everything):
        thing.start_anew()


def _before() -> None:
    _lock.acquire()


def _in_parent() -> None:
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
