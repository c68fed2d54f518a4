"""The client of one agent."""

from __future__ import annotations

import copy
import random
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError
from buttdial_sync.models.converter import structure
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.models.inbox import WaitingMessage
from buttdial_sync.models.sending import Channel, SendResult
from buttdial_sync.models.tools import Tool
from buttdial_sync.settings import TokenIn, check_token_in, load_settings
from buttdial_sync.tools.arguments import checked
from buttdial_sync.tools.caller import AgentCaller, Identity
from buttdial_sync.tools.families import Families
from buttdial_sync.tools.sending import SEND_TOOL, Gender, OutgoingMessage
from buttdial_sync.tools.subscriptions import Subscriber, Subscription, Subscriptions
from buttdial_sync.tools.waiting import QueueWatch
from buttdial_sync.transport.deadline import check_seconds
from buttdial_sync.transport.opening import SessionOpener
from buttdial_sync.transport.pool import SessionPool
from buttdial_sync.transport.rest import Rest
from buttdial_sync.transport.runtime import Runtime, check_base_url
from buttdial_sync.transport.session import McpSession, SessionOptions

_MIB = 1024 * 1024


class Client(Families):
    """
    A blocking client of one agent, or of several with :meth:`as_agent`.

    One client serves a whole process: threads share it freely, and a forked child opens sessions of
    its own. Nothing is sent before the first call. Use it as a context manager or :meth:`close` it.

    Args:
        base_url: The server, as in ``https://butt-dial.example``; with or without ``/sse``.
        agent_id: The agent's id.
        agent_token: The agent's token.
        timeout: Seconds that a whole call may take: connecting, posting, waiting, all attempts.
        connect_timeout: Seconds for each connection.
        max_attempts: Attempts in all; only what was certainly not carried out, or does no harm
            twice, is tried again.
        token_in: Where the token goes when a stream is opened: ``"header"``, ``"query"``, or
            ``"auto"`` to find out. In a URL only over https or on this machine.
        max_event_bytes: Larger answers end the session.
        max_sessions: Sessions held at once, one for each token; the one idle for longest goes.
        idle_ping: Seconds of silence after which a stream is pinged before it is used.
        check_schema: Ask the server's schemas, once per session, before a call that not every
            server understands: an optional argument, a preview, a tool that one of them lacks or
            names otherwise. False sends it as it is: arguments may be dropped silently, and on the
            open-source server a preview is carried out.
        before_open: Gets the messages that wait for the agent, before each stream is opened:
            opening one empties the queue on the open-source server. It may not call the client.
        on_event: Told of each attempt, answer, retry and connection, in the calling thread.
        clock: A monotonic clock in seconds, for tests.
        sleep: Sleeps for some seconds between attempts, for tests.
        random_fraction: Gives numbers from 0 to 1 for the jitter, for tests.

    Attributes:
        base_url: The server.
        whatsapp: Reactions, polls, buttons, … on WhatsApp.
        voice: Calls and speech.
        sessions: Conversations with several participants.
        consent: What contacts have agreed to.
        trust: Which contacts the agent trusts.
        otp: One-time passcodes.
        directory: Other agents, contacts, groups and numbers.
        inbox: What comes in.
        billing: Usage, costs and income.
        profile: The agent itself.
        organization: What administrators may do.

    Raises:
        ConfigError: An argument is missing or wrong.
    """

    def __init__(
        self,
        base_url: str,
        *,
        agent_id: str | None = None,
        agent_token: str | None = None,
        timeout: float = 30.0,
        connect_timeout: float = 10.0,
        max_attempts: int = 3,
        token_in: TokenIn = "auto",
        max_event_bytes: int = 16 * _MIB,
        max_sessions: int = 32,
        idle_ping: float = 60.0,
        check_schema: bool = True,
        before_open: Callable[[Sequence[WaitingMessage]], None] | None = None,
        on_event: Callable[[ClientEvent], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        self._closed = True  # until the constructor is through, for __del__
        self.base_url = check_base_url(base_url)
        self._runtime = Runtime(
            timeout=timeout,
            connect_timeout=connect_timeout,
            max_attempts=max_attempts,
            on_event=on_event,
            clock=clock,
            sleep=sleep,
            random_fraction=random_fraction,
        )
        rest = Rest(self._runtime.http, self.base_url)
        self._subscriptions = Subscriptions(rest, before_open)
        self._opener = SessionOpener(
            self._runtime.http,
            self.base_url,
            token_in=check_token_in(token_in, "token_in") or "auto",
            options=SessionOptions(
                max_event_bytes=_positive(max_event_bytes, "max_event_bytes"),
                on_notification=self._subscriptions.pushed,
                on_end=self._subscriptions.ended,
                clock=clock,
            ),
            before_open=self._subscriptions.before_open,
            on_event=self._runtime.emit,
        )
        self._pool = SessionPool(
            self._opener.open,
            max_sessions=_positive(max_sessions, "max_sessions"),
            idle_ping=check_seconds(idle_ping, "idle_ping"),
        )
        identity = Identity(agent_id=agent_id, agent_token=agent_token)
        caller = AgentCaller(self._runtime, self._pool, rest, identity, check_schema=check_schema)
        super().__init__(caller, QueueWatch(is_drained=before_open is not None))
        self._owner: Client | None = None
        self._closed = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Client:
        """
        Make a client of what the environment says.

        It reads ``BUTT_DIAL_BASE_URL`` (else ``BUTT_DIAL_URL``), ``BUTT_DIAL_AGENT_ID``,
        ``BUTT_DIAL_AGENT_TOKEN`` and ``BUTT_DIAL_TOKEN_IN``.

        Args:
            environ: Where to look; ``os.environ`` when None.
            **overrides: Arguments of the constructor, which win over the environment.

        Raises:
            ConfigError: There is no base URL, or a value is wrong.
        """
        settings = load_settings(environ)
        found = {
            "base_url": settings.base_url,
            "agent_id": settings.agent_id,
            "agent_token": settings.agent_token,
            "token_in": settings.token_in or "auto",
        }
        return cls(**{**found, **overrides})

    @checked
    def as_agent(self, agent_token: str, *, agent_id: str | None = None) -> Client:
        """
        Return a client that speaks as another agent, over the connections of this one.

        It costs nothing, so a host with many agents makes one where it needs one. Closing it does
        nothing; closing this client ends it too. Safe to call twice.

        Args:
            agent_token: The other agent's token.
            agent_id: Its id.

        Returns:
            The client.

        Raises:
            ArgumentValueError: An argument is blank.
        """
        view = copy.copy(self)
        identity = Identity(agent_id=agent_id, agent_token=agent_token)
        view._speak_through(self._caller.speaking_as(identity), self._watch)
        view._owner = self._owner or self
        view._closed = True  # it has nothing of its own that could be left open
        return view

    def send_message(
        self,
        to: str,
        body: str | None = None,
        channel: Channel = "whatsapp",
        *,
        media_url: str | None = None,
        sender_sid: str | None = None,
        sender_name: str | None = None,
        language: str | None = None,
        fallback_channels: Sequence[str] | None = None,
        scheduled_at: str | None = None,
        thread_id: str | None = None,
        entity_id: str | None = None,
        reply_msg_id: str | None = None,
        idempotency_key: str | None = None,
        subject: str | None = None,
        html: str | None = None,
        template_id: str | None = None,
        template_vars: Mapping[str, str] | None = None,
        target_gender: Gender | None = None,
        agent_token: str | None = None,
        timeout: float | None = None,
    ) -> SendResult:
        """
        Send a message, and report what became of it.

        Calling it twice sends two messages, unless both calls have the same ``idempotency_key`` and
        the server honours it (the hosted one does, the open-source one does not).

        Args:
            to: E.164 number or email address.
            body: The text. CRLF becomes LF.
            channel: ``"whatsapp"``, ``"sms"``, ``"email"`` or ``"line"``.
            media_url: Address of a picture, sound or document.
            sender_sid: Which of the agent's senders to use.
            sender_name: Name shown to the recipient, where the channel has one.
            language: Of the text, as in ``"en"``.
            fallback_channels: Tried by the server in this order when the channel fails.
            scheduled_at: When the server is to send it, ISO 8601.
            thread_id: Your own id of the conversation; comes back in answers.
            entity_id: Your own id of what it is about.
            reply_msg_id: The message that this one answers.
            idempotency_key: One key for one message, made when absent.
            subject: Of an email.
            html: The HTML body of an email.
            template_id: A WhatsApp template, needed outside the 24-hour window.
            template_vars: Its variables.
            target_gender: How to address the recipient: ``"male"``, ``"female"``, ``"unknown"``.
            agent_token: Send as another agent.
            timeout: In seconds, over everything.

        Returns:
            The result; ``ok``, ``failed`` or ``unknown``. It has the key, for sending again.

        Raises:
            AuthError: The token is wrong, revoked or locked out.
            ArgumentNotSupported: This server would silently drop an argument.
            ArgumentTypeError: An argument has the wrong type.
            ClientClosedError: The client is closed.
        """
        message = OutgoingMessage(
            to=to,
            body=body,
            channel=channel,
            media_url=media_url,
            sender_sid=sender_sid,
            sender_name=sender_name,
            language=language,
            fallback_channels=fallback_channels,
            scheduled_at=scheduled_at,
            thread_id=thread_id,
            entity_id=entity_id,
            reply_msg_id=reply_msg_id,
            idempotency_key=idempotency_key,
            subject=subject,
            html=html,
            template_id=template_id,
            template_vars=template_vars,
            target_gender=target_gender,
        )
        return self._sender.send(message, agent_token=agent_token, timeout=timeout)

    def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        agent_token: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """
        Call any tool of the server.

        Tried again only where it was certainly not carried out, or where ``arguments`` have an
        ``idempotencyKey`` that the server honours.

        Args:
            name: The tool's name.
            arguments: Its arguments, by their names on the wire.
            agent_token: Call as another agent.
            timeout: In seconds, over everything.

        Returns:
            The decoded JSON of the answer, or its text where it is none.

        Raises:
            ToolError: The tool said no.
            OutcomeUnknownError: It may have been carried out; its answer was lost.
            AuthError: The token is wrong, revoked or locked out.
            TransportError: It was not carried out: the server could not be reached in time.
            ClientClosedError: The client is closed.
        """
        return self._caller.call_tool(name, arguments, agent_token=agent_token, timeout=timeout)

    def list_tools(
        self, *, agent_token: str | None = None, timeout: float | None = None
    ) -> list[Tool]:
        """
        Return the tools that the server offers, with their schemas. Safe to repeat.

        Asked once per session, and again when the server says that they changed.

        Raises:
            ButtDialError: The server could not be asked.
        """
        answer = self._caller.ask_session(
            "tools/list",
            McpSession.list_tools,
            agent_token=agent_token,
            timeout=timeout,
        )
        return structure(answer, list[Tool], source="tools/list")

    @property
    def timeout(self) -> float:
        """How long a whole call may take, in seconds, unless it says otherwise."""
        return self._runtime.timeout

    @property
    def agent_id(self) -> str | None:
        """The agent that the client speaks as."""
        return self._caller.identity.agent_id

    def honours_idempotency_key(
        self, *, agent_token: str | None = None, timeout: float | None = None
    ) -> bool:
        """
        Find out whether the server sends messages with the same key only once. Safe to repeat.

        Asked of the schema of ``comms_send_message``, which is fetched once per session.

        Args:
            agent_token: Ask as another agent.
            timeout: In seconds, over everything.

        Raises:
            ButtDialError: The server could not be asked.
        """
        return self._caller.tool_honours_keys(SEND_TOOL, agent_token=agent_token, timeout=timeout)

    def ping(self, *, agent_token: str | None = None, timeout: float | None = None) -> float:
        """
        Ask the server for a sign of life over the live session. Safe to repeat.

        Returns:
            The round trip in seconds, without the opening of the session.

        Raises:
            ButtDialError: There was none.
        """
        return self._caller.ask_session(
            "ping",
            McpSession.ping,
            agent_token=agent_token,
            timeout=timeout,
        )

    def _subscribe(self, subscriber: Subscriber) -> Subscription:
        """Let a listener take in what comes for this agent."""
        return Subscription(self._caller, self._subscriptions, subscriber)

    def close(self, timeout: float = 2.0) -> None:
        """
        End everything: sessions, requests under way, pauses. Idempotent, from any thread.

        Calls that wait are told (:class:`ClientClosedError`, or a result whose outcome is
        unknown); later calls raise :class:`ClientClosedError`. Network faults raise nothing. A
        client that :meth:`as_agent` returned is left as it is.

        Args:
            timeout: How long to wait for the threads to end, in seconds.
        """
        if self._owner is not None:
            return
        self._closed = True
        if self._runtime.close():
            self._opener.close()
            self._pool.close(timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and self._pool.count:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        return f"Client({self.base_url!r}, agent_id={self._caller.identity.agent_id!r})"


def _positive(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentTypeError(f"{name} must be a whole number")
    if value < 1:
        raise ArgumentValueError(f"{name} must be at least 1")
    return value
