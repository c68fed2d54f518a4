"""The parts of a client, which its families of calls share."""

from __future__ import annotations

from collections import OrderedDict

import attrs

from buttdial_sync.happy.connection import HappyConnection
from buttdial_sync.happy.realtime import Realtime
from buttdial_sync.happy.records import Records
from buttdial_sync.happy.rpc import Rpc
from buttdial_sync.happy.watching import SessionWatch

_SENDS_KEPT = 1_000


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
        last_sent: The number of the last message that this client sent to a session.
    """

    connection: HappyConnection
    records: Records
    realtime: Realtime
    rpc: Rpc
    poll_interval: float
    settle_seconds: float
    last_sent: OrderedDict[str, int] = attrs.field(factory=OrderedDict)

    def note_sent(self, session_id: str, seq: int) -> None:
        """Remember the last message to a session."""
        # A slower thread may come with the lower number.
        self.last_sent[session_id] = max(seq, self.last_sent.get(session_id, 0))
        self.last_sent.move_to_end(session_id)
        while len(self.last_sent) > _SENDS_KEPT:
            self.last_sent.popitem(last=False)

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
