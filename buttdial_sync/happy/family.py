"""What the families of calls of a client share."""

from __future__ import annotations

import threading
from collections import OrderedDict

from buttdial_sync.happy.connection import HappyConnection
from buttdial_sync.happy.credentials import Credentials
from buttdial_sync.happy.realtime import Realtime
from buttdial_sync.happy.records import Records
from buttdial_sync.happy.rpc import Rpc
from buttdial_sync.happy.watching import SessionWatch
from buttdial_sync.transport.deadline import check_seconds
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


class Family:
    """
    What the families of calls of a client share: its parts.

    Args:
        connection: Makes requests.
        credentials: Hold the secret.
        poll_interval: Seconds between two looks while the server cannot push.
        settle_seconds: How long a turn may take to begin.
    """

    def __init__(
        self,
        connection: HappyConnection,
        credentials: Credentials,
        *,
        poll_interval: float,
        settle_seconds: float,
    ) -> None:
        self._connection = connection
        self._records = Records(connection, credentials)
        self._realtime = Realtime(connection)
        self._rpc = Rpc(self._realtime, self._records)
        self._last_sent = LastSent()
        self._poll_interval = check_seconds(poll_interval, "poll_interval")
        self._settle_seconds = check_seconds(settle_seconds, "settle_seconds")

    def _watch(self, session_id: str, after_seq: int | None) -> SessionWatch:
        """Watch a session: its messages above ``after_seq``, or its state alone."""
        return SessionWatch(
            self._connection,
            self._records,
            self._realtime,
            session_id,
            after_seq,
            self._poll_interval,
        )
