"""What shall happen: a test programs the fake server's answers and faults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from buttdial_sync.testing.answers import ToolAnswer, ToolFailure
from buttdial_sync.testing.core import Core
from buttdial_sync.testing.exchange import Answer, Request, json_answer
from buttdial_sync.testing.faults import FaultKind, Place, make_fault
from buttdial_sync.testing.rest import Route
from buttdial_sync.testing.schemas import Tool
from buttdial_sync.testing.toolbox import SendAnswer

_COLUMNS = ("agentId", "channel", "from", "to", "body", "mediaUrl", "externalId")


class Programming(Core):
    """The methods with which a test says what the server shall answer."""

    def on_send(
        self,
        *,
        sid: str | None = None,
        error: object = None,
        code: str | None = None,
        channel: str | None = None,
        remediation: str | None = None,
        retryable: bool | None = None,
        raw_text: str | None = None,
        count: int = 1,
    ) -> None:
        """
        Program the answer to the next message.

        Args:
            sid: The message's id, if it is sent.
            error: What went wrong: a text or an object. With it, or with ``code``, the send fails.
            code: The error's code.
            channel: The channel that the error is about.
            remediation: What the user can do about it.
            retryable: Whether the message may be sent again.
            raw_text: The text of the answer, as it stands.
            count: How many messages get this answer.
        """
        extra = {"channel": channel, "remediation": remediation, "retryable": retryable}
        failure = None
        if error is not None or code is not None:
            given = {key: value for key, value in extra.items() if value is not None}
            failure = ToolFailure(code if error is None else error, code, **given)
        self._tools.on_send(SendAnswer(sid, failure, raw_text), count)

    def on_tool(self, name: str, answer: ToolAnswer) -> None:
        """
        Program what a tool answers from now on.

        Args:
            name: The tool's wire name.
            answer: A dict (sent as JSON), a text (sent as it stands), a `ToolFailure`, or a
                callable that gets the arguments and returns or raises one of these.
        """
        self._tools.on_tool(name, answer)

    def on_rest(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        public: bool = False,
    ) -> None:
        """
        Program what a REST endpoint answers from now on.

        Args:
            method: The HTTP method.
            path: The path, with ``{name}`` for a part that may be anything.
            body: The JSON value, or a callable that gets the request and returns it. Defaults to
                ``{}``.
            status: The status code.
            headers: Further headers.
            public: Whether no token is asked for.
        """

        def answer(_state: object, _params: object, request: Request) -> Answer:
            value = body(request) if callable(body) else body
            return json_answer(status, {} if value is None else value, headers or {})

        self._rest.program(Route(method.upper(), path, answer, public))

    def set_tools(self, tools: Iterable[str | Tool], *, announce: bool = False) -> None:
        """
        Have these tools and no others.

        Args:
            tools: Names, or objects as ``tools/list`` sends them.
            announce: Send ``notifications/tools/list_changed`` to the open streams.
        """
        self._tools.set_tools(tools)
        if announce:
            self._sessions.send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})

    def add_waiting(self, **fields: Any) -> dict[str, Any]:
        """
        Put a message into the waiting queue.

        Args:
            **fields: Its fields with their wire names, over plausible defaults.

        Returns:
            The message.
        """
        number = next(self._waiting_ids)
        message = {
            "id": f"waiting-{number}",
            "agentId": "agent-1",
            "channel": "sms",
            "direction": "inbound",
            "from": "+15551112222",
            "to": "+15550000000",
            "body": f"Message {number}",
            "createdAt": "2026-01-02T03:04:05Z" if self._dialect.hosted else "2026-01-02 03:04:05",
            **fields,
        }
        with self._rest.state.lock:
            self._rest.state.waiting.append(message)
        return message

    def _queue(self, message: Mapping[str, Any]) -> None:
        """Keep an inbound message as the open-source server does: with these columns only."""
        kept = {key: message[key] for key in _COLUMNS if key in message}
        self.add_waiting(**{"externalId": message.get("messageId"), "mediaUrl": None, **kept})

    def allow(self, token: str) -> None:
        """Make a token good."""
        self._gate.allow(token)

    def revoke(self, token: str) -> None:
        """Make a token a revoked one."""
        self._gate.revoke(token)

    def unlock(self) -> None:
        """End a lockout."""
        self._gate.unlock()

    def fault(
        self,
        kind: FaultKind,
        *,
        on: Place = "call",
        tool: str | None = None,
        count: int = 1,
        **options: Any,
    ) -> None:
        """
        Let something go wrong.

        Args:
            kind: What goes wrong: see `FaultKind`.
            on: At what kind of request: see `Place`.
            tool: Only at calls of this tool.
            count: How many times.
            **options: What the kind allows.

        Raises:
            ValueError: The kind, an option or the combination with ``on`` is unknown.
        """
        self._faults.add(make_fault(kind, on, tool, options), count)

    def clear_faults(self) -> None:
        """Forget the faults that have not struck."""
        self._faults.clear()

    def clear(self) -> None:
        """Forget what has happened and what was programmed; sessions and tokens stay."""
        self._journal.clear()
        self._faults.clear()
        self._tools.clear()
        self._rest.clear()
        with self._rest.state.lock:
            self._rest.state.waiting.clear()
