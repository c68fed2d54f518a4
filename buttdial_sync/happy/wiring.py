"""The parts of a client, which its families of calls share."""

from __future__ import annotations

import threading
from collections import OrderedDict

import attrs

from buttdial_sync.happy.connection import HappyConnection
from buttdial_sync.happy.realtime import Realtime
from buttdial_sync.happy.records import Records
from buttdial_sync.happy.rpc import Rpc
from buttdial_sync.happy.watching import SessionWatch
from buttdial_sync.transport.fork import reset_after_fork

_SENDS_KEPT = 1_000


class LastSent:
    """The number of the last message to each session. Safe to share between threads, over forks."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[str, int] = OrderedDict()
        self._reset_after_fork()
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: nobody holds the lock."""
        self._lock = threading.Lock()

    def note(self, session_id: str, seq: int) -> None:
        """Remember a message, unless a slower thread comes with the lower number."""
        with self._lock:
            self._numbers[session_id] = max(seq, self._numbers.get(session_id, 0))
            self._numbers.move_to_end(session_id)
            while len(self._numbers) > _SENDS_KEPT:
                self._numbers.popitem(last=False)

    def get(self, session_id: str) -> int | None:
        """Return the last message's number; None if none is known."""
        return self._numbers.get(session_id)


@attrs.frozen(kw_only=True)
class Wiring:
    """
    The parts of a client.

    Attributes:
        connection: Makes requests.
        records: Reads and decrypts what the server keeps.
        realtime: The live connection.
        rpc: Calls machines and sessions.
        poll_interval: Seconds between two looks while the server cannot push.
        settle_seconds: How long a turn may take to begin.
        last_sent: The last message that this client sent to each session.
    """

    connection: HappyConnection
    records: Records
    realtime: Realtime
    rpc: Rpc
    poll_interval: float
    settle_seconds: float
    last_sent: LastSent = attrs.field(factory=LastSent)

    def watch(self, session_id: str, after_seq: int | None) -> SessionWatch:
        """Watch a session: its messages above ``after_seq``, or its state alone."""
        return SessionWatch(
            self.connection,
            self.records,
            self.realtime,
            session_id,
            after_seq,
            self.poll_interval,
        )


class Family:
    """A family of calls of a client."""

    _wiring: Wiring
