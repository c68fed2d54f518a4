"""The fake Butt-Dial server, without the ways to reach it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from buttdial_sync._renamed import shown_as
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.testing.assertions import (
    check_nothing_sent,
    find_call,
    find_sent,
    find_sent_once,
)
from buttdial_sync.testing.core import ServerCore
from buttdial_sync.testing.dialects import DialectName
from buttdial_sync.testing.faults import FaultKind, Place, make_fault
from buttdial_sync.testing.http_messages import Reply, Request
from buttdial_sync.testing.raised import RaisedErrors
from buttdial_sync.testing.request_log import ToolCall
from buttdial_sync.testing.simulate import NUMBERS, HostSimulator, hand_over, message_payload
from buttdial_sync.testing.tool_answers import ToolAnswer, ToolFailure
from buttdial_sync.testing.tool_schemas import arguments_of
from buttdial_sync.testing.tools import SEND_MESSAGE, SendAnswer
from buttdial_sync.testing.workspace import RestCall, RestEndpoint, Workspace

if TYPE_CHECKING:
    from buttdial_sync.inbound.handler import InboundHandler


_NO_RECEIPTS = 'the open-source server has no receipts: use dialect="hosted"'


@shown_as("FakeButtDialServer")
class FakeServer:
    """
    The methods for tests: look at requests, program answers, let something come in.

    The faces (`LoopbackServer`, `MockedServer`) know this class, and `FakeButtDialServer` knows the
    faces. All the work is done by the parts of ``core``.

    Args: As those of `FakeButtDialServer`.
    """

    def __init__(
        self,
        *,
        dialect: DialectName = "hosted",
        tokens: Iterable[str] | Mapping[str, str] | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        # Internal. It is not private because the package's own tests make rare trouble with it.
        self.core = ServerCore(dialect, tokens, clock)
        self.raised = RaisedErrors()

    def handle(self, request: Request) -> Reply:
        """Answer one request. Faces call this, each request in a thread of its own."""
        return self.core.handle(request)

    def count_connection(self) -> None:
        """Note that a connection was accepted. The socket face calls this."""
        self.core.log.count("connections")

    @property
    def dialect(self) -> DialectName:
        """Which server this is."""
        return self.core.dialect.name

    @property
    def requests(self) -> list[Request]:
        """All requests, in the order in which they came."""
        return list(self.core.log.requests)

    @property
    def calls(self) -> list[ToolCall]:
        """
        Every call of a tool, whatever its outcome.

        Also those that a fault or a refused token has ended; not what the ``refuse`` fault stops.
        A message over REST is a call of ``comms_send_message``.
        """
        return list(self.core.log.calls)

    @property
    def sent_messages(self) -> list[ToolCall]:
        """
        Every call of ``comms_send_message``, failed and repeated ones included.

        A call is here as soon as it comes, before it is carried out: `wait_for` `delivered`.
        """
        return [call for call in self.calls if call.tool == SEND_MESSAGE]

    @property
    def delivered(self) -> list[ToolCall]:
        """The messages that were sent; a repetition with the same idempotency key is not."""
        return list(self.core.log.delivered)

    @property
    def connections(self) -> int:
        """How many connections were accepted (socket face only)."""
        return self.core.log.counts["connections"]

    @property
    def streams_opened(self) -> int:
        """How many event streams were opened."""
        return self.core.log.counts["streams"]

    @property
    def posts(self) -> int:
        """How many JSON-RPC messages were posted."""
        path = self.core.dialect.messages_path
        return sum(each.method == "POST" and each.path == path for each in self.requests)

    @property
    def waiting(self) -> list[dict[str, Any]]:
        """The messages in the waiting queue."""
        return list(self.core.waiting.messages)

    @property
    def lost_waiting(self) -> int:
        """How many waiting messages were lost because a stream was opened (open-source)."""
        return self.core.waiting.lost

    @property
    def workspace(self) -> Workspace:
        """What the accounts endpoints know, that is organisations, agents, challenges."""
        return self.core.rest.workspace

    @property
    def held(self) -> int:
        """How many ``late`` answers wait for `release`."""
        return self.core.mcp.held

    def wait_for(self, predicate: Callable[[], object], timeout: float = 5.0) -> bool:
        """
        Wait until something is true about the server.

        What `assert_sent` is to find, wait for in `delivered`: a call in `sent_messages` may not
        be carried out yet.

        Args:
            predicate: Asked now and after each thing that happens to the server.
            timeout: The longest wait, in seconds.

        Returns:
            Whether it became true.
        """
        return self.core.log.wait_for(predicate, timeout)

    def assert_sent(self, **fields: object) -> ToolCall:
        """
        Check that a message was sent that has these fields, whatever else it has.

        Messages of ``send_message`` only: polls, calls and passcodes are found by `assert_called`.

        Args:
            **fields: What it has to have, by the names of `ToolCall`: ``to``, ``body``,
                ``channel``, ``media_url``, ``thread_id``, … A value is compared with ``==``, a
                list also with a tuple, a datetime also with its text; a compiled pattern is
                searched for.

        Returns:
            The message; of several the first.

        Raises:
            AssertionError: There is none. What the server refused was not sent.
            TypeError: A message does not have such a field.
        """
        __tracebackhide__ = True
        return find_sent(self.core.log, fields)[0]

    def assert_sent_once(self, **fields: object) -> ToolCall:
        """
        Check that exactly one message was sent that has these fields; see `assert_sent`.

        A repetition with the same idempotency key is not a second message.
        """
        __tracebackhide__ = True
        return find_sent_once(self.core.log, fields)

    def assert_nothing_sent(self) -> None:
        """
        Check that nothing was tried that reaches people, by any client.

        That is messages, voice messages and calls, passcodes, and what WhatsApp sends, forwards
        and posts. A message to another agent is none of them.

        Raises:
            AssertionError: There was one, maybe refused.
        """
        __tracebackhide__ = True
        check_nothing_sent(self.core.log)

    def assert_called(self, tool: str, **args: object) -> ToolCall:
        """
        Check that a tool was called with these arguments, whatever else it got.

        Args:
            tool: The tool's wire name.
            **args: Arguments with their wire names.

        Returns:
            The call; of several the first.

        Raises:
            AssertionError: There is none.
            TypeError: The tool does not have such an argument.
        """
        __tracebackhide__ = True
        return find_call(self.core.log, tool, args, arguments_of(tool))

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
            raw_text: The text of the answer, sent unchanged.
            count: How many messages get this answer.
        """
        extra = {"channel": channel, "remediation": remediation, "retryable": retryable}
        failure = None
        if error is not None or code is not None:
            given = {key: value for key, value in extra.items() if value is not None}
            failure = ToolFailure(code if error is None else error, code, **given)
        self.core.tools.on_send(SendAnswer(sid, failure, raw_text), count)

    def on_tool(self, name: str, answer: ToolAnswer) -> None:
        """
        Program what a tool answers from now on.

        Args:
            name: The tool's wire name.
            answer: A dict (sent as JSON), a text (sent unchanged), a `ToolFailure`, or a
                callable that gets the arguments and returns or raises one of these.

        Raises:
            ValueError: This server has no such tool; the message names the nearest.
        """
        self.core.tools.check_name(name)
        self.core.tools.answers[name] = answer

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

        Raises:
            ValueError: The path does not begin with ``/``, or is almost that of an endpoint.
        """
        self.core.rest.check_path(path)

        def act(_workspace: Workspace, call: RestCall) -> object:
            value = body(call.request) if callable(body) else body
            return {} if value is None else value

        endpoint = RestEndpoint(
            method.upper(),
            path,
            act,
            public=public,
            only=None,
            status=status,
            headers=headers or {},
        )
        self.core.rest.programmed.insert(0, endpoint)

    def add_waiting(self, **fields: Any) -> dict[str, Any]:
        """
        Put a message into the waiting queue.

        Args:
            **fields: Its fields with their wire names, over plausible defaults.

        Returns:
            The message.
        """
        return self.core.waiting.add(fields)

    def revoke(self, token: str) -> None:
        """Make a token a revoked one."""
        self.core.token_check.revoke(token)

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
            ValueError: The kind, the tool, an option or the combination with ``on`` is unknown.
        """
        if tool is not None:
            self.core.tools.check_name(tool)
        self.core.faults.add(make_fault(kind, on, tool, options), count)

    def release(self) -> int:
        """Send the answers that ``late`` faults hold back; return how many."""
        return self.core.mcp.release()

    def clear(self) -> None:
        """
        Forget what has happened and what was programmed; sessions and tokens stay.

        Answers that ``late`` faults hold are dropped, and a lockout ends.
        """
        self.core.clear()

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

        Raises:
            ValueError: It is a receipt, and this is the open-source server.
        """
        if "method" not in notification:
            params = {"level": "info", "data": dict(notification)}
            notification = {"method": "notifications/message", "params": params}
        if notification["method"] == "notifications/message" and not self.core.dialect.hosted:
            pushed: Any = notification.get("params")
            if isinstance(pushed, Mapping) and isinstance(pushed.get("data"), Mapping):
                if "status" in pushed["data"]:
                    raise ValueError(_NO_RECEIPTS)
                self.core.waiting.keep(pushed["data"])
            return 0
        return self.core.sessions.send({"jsonrpc": "2.0", **notification}, token)

    def ask(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        id: int | str = 0,  # noqa: A002 - JSON-RPC's own word
    ) -> int:
        """
        Send a request of the server's own to the open streams; `requests` has the answers.

        Returns:
            To how many streams it went.
        """
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": id, "method": method}
        return self.core.sessions.send(message if params is None else {**message, "params": params})

    def simulate_inbound(
        self,
        host: str | InboundHandler,
        *,
        sender: str = "+14155550123",
        text: str = "hello",
        channel: str = "whatsapp",
        whatsapp_secret: str | None = None,
        **fields: Any,
    ) -> int:
        """
        Let a message come in.

        What the host does not take with an answer of 2xx, the open-source server keeps in its
        waiting queue.

        Args:
            host: Where to: a URL, which gets a webhook over HTTP, signed where servers sign; or an
                `InboundHandler`, which answers it as it answers the webhook, but without a network
                and taking its signature for right. Butt-Dial's own messages have none, so their
                ``verified`` is false.
            sender: The sender.
            text: The text.
            channel: On which channel.
            whatsapp_secret: Send it as WhatsApp Cloud does, signed with this app secret; else it
                comes in the format of this server's dialect.
            **fields: More fields, with their wire names.

        Returns:
            The HTTP status of the answer. 0 where the open-source server got none.
        """
        simulator = HostSimulator(whatsapp_secret=whatsapp_secret)
        if whatsapp_secret is not None:
            message = {"from": sender, "text": {"body": text}, **fields}
            return hand_over(simulator.whatsapp(message), host, "whatsapp")
        wanted = {"channel": channel, "body": text, "from": sender, **fields}
        payload = message_payload(next(NUMBERS), self.dialect, **wanted)
        try:
            status = hand_over(simulator.packed(payload), host, "butt-dial")
        except OSError:  # as all that requests raises
            if self.core.dialect.hosted:
                raise
            status = 0
        if not (self.core.dialect.hosted or 200 <= status < 300):
            self.core.waiting.keep(payload)
        return status

    def simulate_receipt(
        self,
        host: str | InboundHandler,
        *,
        message_sid: str,
        status: str = "delivered",
        channel: str = "whatsapp",
        **fields: Any,
    ) -> int:
        """
        Let a delivery receipt come in. The open-source server has none.

        Args:
            host: Where to: see `simulate_inbound`.
            message_sid: The message's id.
            status: ``"queued"``, ``"sent"``, ``"delivered"``, ``"read"``, ``"failed"`` or
                ``"undelivered"``.
            channel: On which channel.
            **fields: More fields, with their wire names.

        Returns:
            The HTTP status of the answer.

        Raises:
            ValueError: This is the open-source server.
        """
        if not self.core.dialect.hosted:
            raise ValueError(_NO_RECEIPTS)
        wanted = {"type": "status", "messageId": message_sid, "status": status, "channel": channel}
        payload = message_payload(next(NUMBERS), self.dialect, **wanted, **fields)
        return hand_over(HostSimulator().packed(payload), host, "butt-dial")

    def simulate_account_verified(
        self,
        host: str | InboundHandler,
        *,
        secret: str = "webhook-secret",
        delivery_id: str | None = None,
        **fields: Any,
    ) -> int:
        """
        Let the event come in that a workspace was verified.

        Args:
            host: Where to: see `simulate_inbound`.
            secret: The webhook secret that it is signed with.
            delivery_id: The same for a repeated delivery; made when absent.
            **fields: More fields, with their wire names: ``orgId``, ``teamToken``, …

        Returns:
            The HTTP status of the answer.
        """
        simulator = HostSimulator(account_secret=secret)
        delivery = simulator.account_verified(delivery_id=delivery_id, **fields)
        return hand_over(delivery, host, "account")
