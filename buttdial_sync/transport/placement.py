"""
Where a server wants the token: in a header or in the URL.

It shows only by trying, a wrong try is a failed login, and failed logins add up to a lockout. So
one process tries at a time, also among the workers that a server forks from one parent, and what
it finds is known to all of them.
"""

from __future__ import annotations

import socket
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from buttdial_sync.transport.deadline import Deadline

Place = Literal["header", "query"]

_MARKS: dict[bytes, Place | None] = {b"?": None, b"h": "header", b"q": "query"}
_MARK_OF = {place: mark for mark, place in _MARKS.items()}
_LONGEST_TURN = 10.0
_LOOK_UP_SECONDS = 0.25

_found: dict[str, Place] = {}
_placements: weakref.WeakValueDictionary[str, TokenPlacement] = weakref.WeakValueDictionary()


class TokenPlacement:
    """
    What is known about one origin. Safe to share between threads and forked processes.

    One byte travels in a pair of sockets that forked children inherit: whoever holds it has the
    turn to find out, and puts back what it found.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._taking, self._giving = socket.socketpair()
        self._giving.sendall(_MARK_OF[None])
        weakref.finalize(self, _close_both, self._taking, self._giving)

    @classmethod
    def of(cls, origin: str) -> TokenPlacement:
        """Return the one of this origin."""
        return _placements.get(origin) or _placements.setdefault(origin, cls(origin))

    @property
    def known(self) -> Place | None:
        """Where this origin wants the token, or None."""
        return _found.get(self._origin)

    def remember(self, place: Place) -> None:
        """Keep what was found."""
        _found[self._origin] = place

    @contextmanager
    def turn(
        self, deadline: Deadline, *, is_cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """
        Be the only one to find out, or learn from the one that did.

        A holder that died never puts the byte back; after a while the turn is taken without it.
        """
        limit = deadline.within(_LONGEST_TURN)
        while not (taken := self._take(limit.within(_LOOK_UP_SECONDS).remaining())):
            if is_cancelled() or not limit.remaining():
                break
        try:
            yield
        finally:
            # Without the byte only knowledge is added: two unknown marks would be two turns.
            if taken or self.known is not None:
                with suppress(OSError):
                    self._giving.sendall(_MARK_OF[self.known])

    def _take(self, seconds: float) -> bool:
        try:
            self._taking.settimeout(max(0.001, seconds))
            place = _MARKS.get(self._taking.recv(1))
        except TimeoutError:
            return False
        if place is not None:
            self.remember(place)
        return True


def _close_both(*sockets: socket.socket) -> None:
    for sock in sockets:
        sock.close()


def forget_placements() -> None:
    """Forget what was found, for tests that put another kind of server at a known address."""
    _found.clear()
    _placements.clear()
    _placements.clear()
