"""
Where a server wants the token: in a header or in the URL.

Only a try shows it, a wrong try is a failed login, and failed logins add up to a lockout. So one
process tries at a time, also among the workers that a server forks from one parent, and all of them
learn the result.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal, TypeVar

from urllib3.util.wait import wait_for_read

from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.descriptors import Identity, identity_of, is_still

Location = Literal["header", "query"]
T = TypeVar("T")

_MARKS: dict[bytes, Location | None] = {b"?": None, b"h": "header", b"q": "query"}
_MARK_OF = {location: mark for mark, location in _MARKS.items()}
_LONGEST_TURN = 10.0
_LOOK_UP_SECONDS = 0.25

_found: dict[str, Location] = {}
_locations: weakref.WeakValueDictionary[str, TokenLocation] = weakref.WeakValueDictionary()
# One for each process: an inherited one may be held by a thread that is not there.
_lookups: dict[int, threading.Lock] = {}


class TokenLocation:
    """
    What is known about one origin. Safe to share between threads and forked processes.

    Threads take turns by a lock. Forked processes take turns by a :class:`_SharedMark`, which is
    made before the first fork: a process that never forks opens no descriptor here.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._locks: dict[int, threading.Lock] = {}  # one for each process, too
        self._mark: _SharedMark | None = None

    @classmethod
    def of(cls, origin: str) -> TokenLocation:
        """Return the one of this origin."""
        # A lock, because setdefault() of a weak dictionary is not atomic.
        with _lookups.setdefault(os.getpid(), threading.Lock()):
            location = _locations.get(origin)
            if location is None:
                location = _locations[origin] = cls(origin)
            return location

    @property
    def known(self) -> Location | None:
        """Where this origin wants the token, or None."""
        return _found.get(self._origin)

    def remember(self, location: Location) -> None:
        """Keep what was found."""
        _found[self._origin] = location

    def share(self) -> None:
        """Have the children that are forked from now on take turns with this process."""
        if self.known is None and not (self._mark and self._mark.is_ours()):
            with suppress(OSError):  # no descriptor is left: each process tries for itself
                self._mark = _SharedMark()

    @contextmanager
    def probe(
        self, deadline: Deadline, *, is_cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """
        Be the only one to find out, or learn from the one that did.

        A holder that died never gives its turn back; after a while the turn is taken without it.
        """
        limit = deadline.within(_LONGEST_TURN)
        lock = self._locks.setdefault(os.getpid(), threading.Lock())
        has_lock = self._await(lambda seconds: lock.acquire(timeout=seconds), limit, is_cancelled)
        taken, mark = b"", self._mark
        try:
            if mark is not None:
                with suppress(OSError):  # it was closed by somebody else: go on without it
                    taken = self._await(mark.take, limit, is_cancelled)
            location = _MARKS.get(taken)
            if location is not None:
                self.remember(location)
            yield
        finally:
            # If we timed out waiting for the mark, put one back only when the location is known:
            # two marks that say "unknown" would let two processes probe at once.
            if mark is not None and (taken or self.known is not None):
                with suppress(OSError):
                    mark.put(_MARK_OF[self.known])
            if has_lock:
                lock.release()

    def _await(
        self, take: Callable[[float], T], limit: Deadline, is_cancelled: Callable[[], bool]
    ) -> T:
        while not (taken := take(limit.within(_LOOK_UP_SECONDS).remaining())):
            if self.known is not None or is_cancelled() or not limit.remaining():
                break
        return taken


class _SharedMark:
    """One byte in a pipe that forked processes share: the process that takes it has the turn."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        self._identity = identity_of(self._reading)  # both ends have the same
        weakref.finalize(self, _close_if_ours, self._identity, self._reading, self._writing)
        os.set_blocking(self._reading, False)
        self.put(_MARK_OF[None])

    def is_ours(self) -> bool:
        """Whether nobody closed the pipe."""
        return all(is_still(end, self._identity) for end in (self._reading, self._writing))

    def take(self, seconds: float) -> bytes:
        """
        Wait for the mark and take it; return b"" if it did not come.

        Raises:
            OSError: The pipe was closed.
        """
        wait_for_read(self._reading, seconds)  # type: ignore[arg-type] # a descriptor will do
        self._check()
        try:
            return os.read(self._reading, 1)
        except BlockingIOError:
            return b""

    def put(self, mark: bytes) -> None:
        """
        Give the mark back.

        Raises:
            OSError: The pipe was closed.
        """
        self._check()
        os.write(self._writing, mark)

    def _check(self) -> None:
        if not self.is_ours():
            raise OSError("the pipe was closed by somebody else")


def _close_if_ours(identity: Identity | None, *descriptors: int) -> None:
    for descriptor in descriptors:
        if is_still(descriptor, identity):
            os.close(descriptor)


def _share_all() -> None:
    for location in list(_locations.values()):
        location.share()


def forget_token_locations() -> None:
    """Forget what was found, for tests that put another kind of server at a known address."""
    _found.clear()
    _locations.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_share_all)
