"""The fake Butt-Dial server, without the ways to reach it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from buttdial_sync.testing.incoming import Incoming


class FakeServer(Incoming):
    """
    A Butt-Dial server for tests, without a way to be reached: that is what the faces add.

    Args: As those of `FakeButtDialServer`.
    """

    def push(self, notification: Mapping[str, Any], token: str | None = None) -> int:
        """
        Send a notification to the open streams.

        The open-source server pushes no inbound message: there it goes into the waiting queue.

        Args:
            notification: The JSON-RPC notification. Without ``method`` it is taken as the data of
                an inbound message, and wrapped into ``notifications/message``.
            token: Only to streams that were opened with this token.

        Returns:
            To how many streams it went; 0 where it waits in the queue.
        """
        if "method" not in notification:
            params = {"level": "info", "data": dict(notification)}
            notification = {"method": "notifications/message", "params": params}
        if notification["method"] == "notifications/message" and not self._dialect.hosted:
            pushed: Any = notification.get("params")
            if isinstance(pushed, Mapping) and isinstance(pushed.get("data"), Mapping):
                self._queue(pushed["data"])
            return 0
        return self._sessions.send({"jsonrpc": "2.0", **notification}, token)

    def ask(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        id: int | str = 0,  # noqa: A002 - JSON-RPC's own word
    ) -> int:
        """
        Send a request of the server's own to the open streams; see `client_answers`.

        Returns:
            To how many streams it went.
        """
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": id, "method": method}
        return self._sessions.send(message if params is None else {**message, "params": params})

    def send_raw(self, data: bytes) -> int:
        """Put bytes on the open streams as they stand; return on how many."""
        return self._sessions.send_bytes(data)

    def comment(self, text: str = "ping") -> int:
        """Put a comment on the open streams, as servers do to keep them alive."""
        return self._sessions.send_bytes(self._events.comment(text))

    def release(self) -> int:
        """Send the answers that ``late`` faults hold back; return how many."""
        return self._desk.release()

    def cut_streams(self, *, clean: bool = False) -> int:
        """
        End all open streams, and with them their sessions.

        Args:
            clean: Finish the HTTP answers properly; else the connections are just cut.

        Returns:
            How many there were.
        """
        return self._sessions.cut(clean=clean)

    def forget_sessions(self, *, cut: bool = False) -> None:
        """
        Forget all sessions: POSTs to them are refused.

        Args:
            cut: End their streams too.
        """
        self._sessions.forget()
        if cut:
            self._sessions.cut()
