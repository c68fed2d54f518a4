"""What has happened to the fake server, for a test to look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from buttdial_sync.testing.core import Core
from buttdial_sync.testing.dialects import DialectName
from buttdial_sync.testing.exchange import Request
from buttdial_sync.testing.journal import ToolCall
from buttdial_sync.testing.workspace import Workspace


class Evidence(Core):
    """Lists and counters. Lists are copies, so they do not grow while a test looks at them."""

    @property
    def dialect(self) -> DialectName:
        """Which server this is."""
        return self._dialect.name

    @property
    def requests(self) -> list[Request]:
        """All requests, in the order in which they came."""
        return list(self._journal.requests)

    @property
    def calls(self) -> list[ToolCall]:
        """Every ``tools/call``, of whatever tool and whatever its outcome."""
        return list(self._journal.calls)

    @property
    def sent_messages(self) -> list[ToolCall]:
        """Every call of ``comms_send_message``, failed and repeated ones included."""
        return list(self._journal.sent_messages)

    @property
    def delivered(self) -> list[ToolCall]:
        """The messages that were sent: a repetition with the same idempotency key is not."""
        return list(self._journal.delivered)

    @property
    def client_answers(self) -> list[dict[str, Any]]:
        """What clients answered to `ask`."""
        return list(self._journal.client_answers)

    @property
    def client_notifications(self) -> list[dict[str, Any]]:
        """The notifications that clients sent."""
        return list(self._journal.client_notifications)

    @property
    def connections(self) -> int:
        """How many connections were accepted (socket face only)."""
        return self._journal.connections

    @property
    def streams_opened(self) -> int:
        """How many event streams were opened."""
        return self._journal.streams_opened

    @property
    def open_streams(self) -> int:
        """How many event streams are open now."""
        return len(self._sessions.open_streams())

    @property
    def posts(self) -> int:
        """How many JSON-RPC messages were posted."""
        return self._journal.posts

    @property
    def failed_logins(self) -> int:
        """How many requests came with a wrong token."""
        return self._gate.failed_logins

    @property
    def lost_waiting(self) -> int:
        """How many waiting messages were lost because a stream was opened (open-source)."""
        return self._journal.lost_waiting

    @property
    def waiting(self) -> list[dict[str, Any]]:
        """The messages in the waiting queue."""
        return list(self._rest.state.waiting)

    @property
    def workspace(self) -> Workspace:
        """What the accounts endpoints know: organisations, agents, challenges."""
        return self._rest.state.workspace

    @property
    def held(self) -> int:
        """How many ``late`` answers wait for `release`."""
        return self._desk.held

    def wait_for(self, predicate: Callable[[], object], timeout: float = 5.0) -> bool:
        """
        Wait until something is true about the server.

        Args:
            predicate: Asked now and after each thing that happens to the server.
            timeout: The longest wait, in seconds.

        Returns:
            Whether it became true.
        """
        return self._journal.wait_for(predicate, timeout)
