"""The view of one agent: messages, tools by name, and the families."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import attrs

from buttdial_sync._renamed import missing_attribute, shown_as
from buttdial_sync.calls.arguments import check_argument, checked, plain_text
from buttdial_sync.calls.call import Call
from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.calls.rest_sending import StreamOrRestCall, send_over_rest
from buttdial_sync.calls.sending import SEND, arguments_of, check_message, sid_of
from buttdial_sync.calls.tool_call import AgentContext, SessionCall, ToolCall, takes_key
from buttdial_sync.errors import (
    ArgumentNotSupported,
    ArgumentTypeError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    ToolNotAvailable,
)
from buttdial_sync.errors.scrubbing import masked, masked_items
from buttdial_sync.models.message import Message, TargetGender
from buttdial_sync.models.sending import SendResult
from buttdial_sync.models.tools import Tool
from buttdial_sync.settings import check_count
from buttdial_sync.transport.session import McpSession

if TYPE_CHECKING:
    from buttdial_sync.models.message import Channel
    from buttdial_sync.tools.billing import Billing
    from buttdial_sync.tools.consent import Consent
    from buttdial_sync.tools.directory import Directory
    from buttdial_sync.tools.inbox import Inbox
    from buttdial_sync.tools.organization import Organization
    from buttdial_sync.tools.otp import Otp
    from buttdial_sync.tools.profile import Profile
    from buttdial_sync.tools.sessions import Sessions
    from buttdial_sync.tools.trust import Trust
    from buttdial_sync.tools.voice import Voice
    from buttdial_sync.tools.whatsapp import WhatsApp

_RAISED = (ClientClosedError, ArgumentTypeError, ArgumentNotSupported)


class _MadeOnFirstUse:
    """
    A family that is made when it is first used: the result types cost more than a send.

    ``functools.cached_property`` has a lock before Python 3.12, which a fork may find held.
    """

    def __init__(self, kind: str, doc: str) -> None:
        self._kind = kind
        self.__doc__ = doc

    def __set_name__(self, owner: object, name: str) -> None:
        self._name = name

    def __get__(self, view: AgentView | None, owner: object) -> Any:
        if view is None:
            return self
        kind = getattr(import_module(f"buttdial_sync.tools.{self._name}"), self._kind)
        return view.__dict__.setdefault(self._name, kind(view._agent))


def _family(kind: str, doc: str) -> Any:
    """Declare a family: a class in the module of ``tools`` that is called as the attribute."""
    return _MadeOnFirstUse(kind, doc)


@shown_as("Client")
class AgentView:
    """
    Speaks as one agent, over the connection of a client. Safe to share between threads.

    :class:`Client` is one, and :meth:`Client.as_agent` makes more. Closing one that it made does
    nothing; closing the client ends all of them.

    Args:
        agent: The agent, and its connection.

    Attributes:
        whatsapp: Reactions, polls, buttons, … on WhatsApp.
        voice: Calls and speech.
        sessions: Conversations with several participants.
        consent: The consent of contacts.
        trust: The contacts that the agent trusts.
        otp: One-time passcodes.
        directory: Other agents, contacts, groups and numbers.
        inbox: Inbound messages, their address, and filters.
        billing: Usage, costs and income.
        profile: The agent itself.
        organization: The calls of administrators.
    """

    whatsapp: WhatsApp = _family("WhatsApp", "Reactions, polls, buttons, … on WhatsApp.")
    voice: Voice = _family("Voice", "Calls and speech.")
    sessions: Sessions = _family("Sessions", "Conversations with several participants.")
    consent: Consent = _family("Consent", "The consent of contacts.")
    trust: Trust = _family("Trust", "The contacts that the agent trusts.")
    otp: Otp = _family("Otp", "One-time passcodes.")
    directory: Directory = _family("Directory", "Other agents, contacts, groups and numbers.")
    inbox: Inbox = _family("Inbox", "Inbound messages, their address, and filters.")
    billing: Billing = _family("Billing", "Usage, costs and income.")
    profile: Profile = _family("Profile", "The agent itself.")
    organization: Organization = _family("Organization", "The calls of administrators.")

    def __init__(self, agent: AgentContext) -> None:
        self._agent = agent

    def send_message(
        self,
        to: str,
        body: str | None = None,
        channel: str = "whatsapp",
        *,
        media_url: str | None = None,
        sender_sid: str | None = None,
        sender_name: str | None = None,
        language: str | None = None,
        fallback_channels: Sequence[str] | None = None,
        scheduled_at: datetime | str | None = None,
        thread_id: str | None = None,
        entity_id: str | None = None,
        reply_msg_id: str | None = None,
        idempotency_key: str | None = None,
        subject: str | None = None,
        html: str | None = None,
        template_id: str | None = None,
        template_vars: Mapping[str, str] | None = None,
        target_gender: TargetGender | None = None,
        agent_token: str | None = None,
        timeout: float | None = None,
    ) -> SendResult:
        """
        Send a message, and return the result.

        The result tells all that the network and the server did, a refused token included; its
        ``raise_for_outcome()`` makes an exception of a failure.

        Calling it twice sends two messages, unless both calls have the same ``idempotency_key`` and
        the server honours it (the hosted one does, the open-source one does not).

        Args:
            to: E.164 number or email address. Spaces, dots, dashes and brackets of a number are
                removed; what the channel cannot reach is a failed result (``INVALID_RECIPIENT``).
            body: The text. CRLF becomes LF.
            channel: ``"whatsapp"``, ``"sms"``, ``"email"`` or ``"line"``.
            media_url: Address of a picture, sound or document.
            sender_sid: Which of the agent's senders to use.
            sender_name: Name shown to the recipient, where the channel has one.
            language: Of the text, as in ``"en"``.
            fallback_channels: Tried by the server in this order when the channel fails.
            scheduled_at: When the server is to send it: a datetime with a time zone, or ISO 8601.
            thread_id: Your own id of the conversation; comes back in answers.
            entity_id: Your own id of the subject.
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
            ConfigError: There is no token.
            ArgumentNotSupported: This server would silently drop an argument.
            ArgumentTypeError: An argument has the wrong type.
            ClientClosedError: The client is closed.
        """
        message = Message(
            to=to,
            body=body,
            channel=cast("Channel", channel),  # any text may be given; check_message looks at it
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
        agent_token = self._agent.token_or(agent_token)
        call: Call | None = None
        try:
            message = check_message(message)
            arguments = arguments_of(message)
            arguments["to"] = self._agent.recipients.normalized(message.to, message.channel)
            call = _call_to_send(self._agent, arguments, agent_token, timeout)
            answer = call.run()
        except _RAISED:
            raise
        except ButtDialError as error:
            if call is None:
                return SendResult.of(error)
            return SendResult.of(
                error, idempotency_key=arguments["idempotencyKey"], attempts=call.attempts
            )
        return SendResult(
            outcome="sent",
            message_sid=sid_of(answer),
            idempotency_key=arguments["idempotencyKey"],
            attempts=call.attempts,
            raw=answer,
        )

    def send_many(
        self,
        recipients: Iterable[str],
        body: str | None = None,
        channel: str = "whatsapp",
        *,
        campaign: str | None = None,
        workers: int = 4,
        on_result: Callable[[str, SendResult], object] | None = None,
        **content: Any,
    ) -> list[SendResult]:
        """
        Send the same message to several people, and return one result for each, in their order.

        For some hundred people. For more, or where nothing may be lost when the process ends, write
        them into an :class:`~buttdial_sync.Outbox`, or use ``buttdial-sync send-many``.

        Calling it twice sends twice, unless both calls have the same ``campaign`` and the server
        honours keys.

        Args:
            recipients: To whom.
            body: The text.
            channel: As in :meth:`send_message`.
            campaign: A name for this sending. Each recipient's key is made of it, so that whoever
                got the message does not get it again, in whichever spelling the number is given.
            workers: How many are sent at the same time, from 1.
            on_result: Called with each recipient and result as soon as there is one, in the calling
                thread.
            **content: The other arguments of :meth:`send_message`.

        Returns:
            A result for each recipient; one that cannot be reached has a failed one.

        Raises:
            ConfigError: There is no token. Nothing was sent.
            ArgumentTypeError: An argument has the wrong type, or is ``idempotency_key``: with the
                same key all would be one message. Nothing was sent.
            ArgumentValueError: ``workers`` is less than 1.
            ArgumentNotSupported: This server would silently drop an argument. Nothing was sent.
        """
        if "idempotency_key" in content:
            raise ArgumentTypeError("send_many makes a key for each recipient: give campaign")
        if isinstance(recipients, str):
            raise ArgumentTypeError("recipients must be several, not one str")
        check_count(workers, "workers")
        people = list(recipients)
        for number, person in enumerate(people):  # all of them before the first is sent to
            check_argument(f"recipients[{number}]", plain_text(person), str, required=False)
        check_argument("channel", plain_text(channel), str, required=False)

        def send(to: str) -> SendResult:
            key = None if campaign is None else f"{campaign}:{channel}:{self._one_for(to, channel)}"
            try:
                return self.send_message(to, body, channel, idempotency_key=key, **content)
            except ClientClosedError as error:
                return SendResult.of(error, idempotency_key=key)

        sending: dict[Future[SendResult], str] = {}
        sent: Future[SendResult] | None = None
        with ThreadPoolExecutor(workers, "buttdial-sync-send-many") as executor:
            try:
                sending = {executor.submit(send, to): to for to in people}
                for sent in as_completed(sending):
                    result = sent.result()
                    if on_result is not None:
                        on_result(sending[sent], result)
                return [each.result() for each in sending]
            except BaseException:  # a mistake in the arguments, or Ctrl-C: those not begun are left
                executor.shutdown(cancel_futures=True)
                raise
            finally:
                # They hold the error, whose traceback holds this frame, and so the client.
                sending, sent = {}, None

    def _one_for(self, to: str, channel: str) -> str:
        """Return the same text for all spellings of a recipient."""
        try:
            return self._agent.recipients.normalized(plain_text(to), plain_text(channel))
        except ButtDialError:  # the send says so
            return to

    @checked
    def check_recipient(self, to: str, channel: str = "whatsapp") -> str:
        """
        Check a recipient as ``send_message`` does, without sending: for a form, or an import.

        Args:
            to: The recipient.
            channel: How it will be reached.

        Returns:
            The recipient as it is sent, a number without spaces, dots, dashes and brackets.

        Raises:
            ArgumentValueError: The channel cannot reach it. ``remediation`` says what to write.
        """
        return self._agent.recipients.normalized(to, channel)

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
            The decoded JSON of the answer, or its text if it is not JSON.

        Raises:
            ToolError: The tool said no, or answered with ``success`` false.
            OutcomeUnknownError: It may have been carried out; its answer was lost.
            AuthError: It was not carried out: the token is wrong, revoked or locked out.
            TransportError: It was not carried out: the server could not be reached in time.
            ClientClosedError: The client is closed.
        """
        agent_token = masked(agent_token)
        if isinstance(arguments, Mapping):
            arguments = masked_items(arguments)
        check_argument("name", name, str, required=True)
        check_argument("arguments", arguments, Mapping[str, Any] | None, required=False)
        call = ToolCall(
            self._agent,
            ToolOperation(name, object),
            dict(arguments or {}),
            agent_token=agent_token,
            timeout=timeout,
            check_schema=False,
        )
        try:
            return call.answer()
        except ToolNotAvailable as error:
            if near := call.nearest_tools():
                error.remediation = f"Did you mean {' or '.join(near)}?"
            raise

    def list_tools(
        self, *, agent_token: str | None = None, timeout: float | None = None
    ) -> list[Tool]:
        """
        Return the tools that the server offers, with their schemas. Safe to repeat.

        Asked once per session, and again when the server says that they changed.

        Raises:
            ButtDialError: The server could not be asked.
        """
        agent_token = masked(agent_token)
        tools: list[Tool] = SessionCall(
            self._agent,
            "tools/list",
            McpSession.list_tools,
            agent_token=agent_token,
            timeout=timeout,
        ).run()
        return copy.deepcopy(tools)  # a host may edit them for its model; ours decide what is sent

    @property
    def agent_id(self) -> str | None:
        """The agent that the client speaks as."""
        return self._agent.agent_id

    def honours_idempotency_key(
        self, *, agent_token: str | None = None, timeout: float | None = None
    ) -> bool:
        """
        Find out whether the server sends messages with the same key only once. Safe to repeat.

        Asked of the schema of ``comms_send_message``, which is fetched once per session. Where
        messages go over REST, the answer is no.

        Args:
            agent_token: Ask as another agent.
            timeout: In seconds, over everything.

        Raises:
            ButtDialError: The server could not be asked.
        """
        agent_token = masked(agent_token)
        try:
            if not self._agent.sends_over_rest:
                return takes_key(
                    self.list_tools(agent_token=agent_token, timeout=timeout), SEND.name
                )
        except ConfigError:
            if not self._agent.sends_over_rest:  # else this has found it out
                raise
        return False

    def ping(self, *, agent_token: str | None = None, timeout: float | None = None) -> float:
        """
        Ask the server for a sign of life over the live session. Safe to repeat.

        Returns:
            The round trip in seconds, without the opening of the session.

        Raises:
            ButtDialError: There was none.
        """
        agent_token = masked(agent_token)
        seconds: float = SessionCall(
            self._agent, "ping", McpSession.ping, agent_token=agent_token, timeout=timeout
        ).run()
        return seconds

    @checked
    def as_agent(self, agent_token: str, *, agent_id: str | None = None) -> AgentView:
        """
        Return a view that speaks as another agent, over the same connection.

        It costs nothing, so a host with many agents makes one where it needs one. Closing it does
        nothing; closing the client ends it too. Safe to call twice.

        Args:
            agent_token: The other agent's token.
            agent_id: Its id.

        Returns:
            The view.

        Raises:
            ArgumentValueError: An argument is blank.
        """
        agent = attrs.evolve(
            self._agent, agent_id=agent_id, token=agent_token, must_send_agent_id=False
        )
        return AgentView(agent)

    def forget_refusals(self) -> None:
        """
        Ask the server again about tokens that it refused, and after a lockout.

        A refused token rests for 15 minutes, and a lockout until its end, for all clients of this
        process at this server: meanwhile calls fail without a request. Call this after a correction
        on the server. A new token need not wait for it.
        """
        self._agent.connection.logins.breaker.forget()

    @property
    def base_url(self) -> str:
        """The server."""
        return self._agent.connection.base_url

    @property
    def timeout(self) -> float:
        """How long a whole call may take, in seconds, unless the call has its own ``timeout``."""
        return self._agent.connection.timeout

    def close(self, timeout: float = 2.0) -> None:
        """
        Do nothing: the connection belongs to the client that made this view.

        Args:
            timeout: As for :meth:`Client.close`.
        """

    def __enter__(self) -> AgentView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    if not TYPE_CHECKING:  # type checkers would take every name as Any

        def __getattr__(self, name: str) -> Any:
            raise missing_attribute("Client", name, obj=self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r}, agent_id={self.agent_id!r})"


def _call_to_send(
    agent: AgentContext, arguments: Mapping[str, Any], token: str, timeout: float | None
) -> Call:
    if agent.send_via == "rest":
        return send_over_rest(agent, arguments, token, timeout)
    kind = StreamOrRestCall if agent.send_via == "auto" else ToolCall
    return kind(agent, SEND, arguments, agent_token=token, timeout=timeout)


def context_of(view: AgentView) -> AgentContext:
    """
    Return the agent of a view, and its connection.

    This is the one entrance for what is built on a client and needs more of it than its public
    methods: the listener (sessions, pushes) and the doctor (the token, plain HTTP).
    """
    return view._agent
