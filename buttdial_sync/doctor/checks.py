"""The checks of the stages. A check returns its result, or raises an exception."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from buttdial_sync.agent import AgentView, context_of
from buttdial_sync.calls.schema import find_tool
from buttdial_sync.calls.sending import SEND
from buttdial_sync.doctor.clocks import TOLERANCE_SECONDS, Now, in_words, skew_of
from buttdial_sync.doctor.reaching import first_deadline, get_root
from buttdial_sync.doctor.received import ReceivedEvents
from buttdial_sync.doctor.remediation import QUOTED_TOKEN, WRONG_AGENT, WRONG_PATH
from buttdial_sync.doctor.stages import Check, CheckResult, skip
from buttdial_sync.errors import (
    AuthTimestampExpired,
    ButtDialError,
    ConfigError,
    EndpointNotAvailable,
    ProtocolError,
)
from buttdial_sync.models.sending import SendResult

_NORMAL_AT_ROOT = frozenset({401, 403, 404, 405})
_QUOTES = ("'", '"')
_LONGEST_QUOTE = 40
_UNDELIVERED = frozenset({"failed", "undelivered"})
_BODY = "This is a test message of buttdial-sync doctor."
_NOBODY_LISTENS = "nothing receives webhooks here (inbound_handler, --webhook-port)"
_PLEASE_REPLY = "Please reply to it."
_OVER_REST = "messages go over REST, and a stream would throw away what waits for the agent"


@attrs.define(kw_only=True)
class Diagnosis:
    """
    One diagnosis of a client. For one thread.

    Attributes:
        client: The client.
        to: The recipient of a message, or None.
        channel: The channel.
        expect_ack: Whether the recipient is to answer.
        received: The events that come in meanwhile; None if nothing receives.
        receipt_timeout: How long to wait for the receipt, in seconds.
        ack_timeout: How long to wait for the answer, in seconds.
        now: The time.
        sent: The result of the message; None before it was sent.
    """

    client: AgentView
    to: str | None
    channel: str
    expect_ack: bool
    received: ReceivedEvents | None
    receipt_timeout: float
    ack_timeout: float
    now: Now
    sent: SendResult | None = None

    @property
    def checks(self) -> tuple[Check, ...]:
        """A check for each stage, in the stages' order."""
        return (
            self._config,
            self._reachability,
            self._handshake,
            self._tools,
            self._sending,
            self._receipt,
            self._answer,
        )

    def _config(self) -> CheckResult:
        """There is a token. The client's constructor has checked the address."""
        token = context_of(self.client).token_or(None)
        if token[:1] in _QUOTES and token[-1:] == token[:1]:
            raise ConfigError(
                "the token is in quotes",
                code=QUOTED_TOKEN.name.upper(),
                remediation=QUOTED_TOKEN.remedy,
            )
        agent = self.client.agent_id
        return CheckResult(detail=self.client.base_url + (f", agent {agent}" if agent else ""))

    def _reachability(self) -> CheckResult:
        """Some HTTP answer comes from the address, whatever it is, and the clocks agree."""
        connection = context_of(self.client).connection
        try:
            response = get_root(connection, self.client.base_url)
        except ProtocolError as redirected:
            # The client follows no redirects; here one is an answer like any other.
            if redirected.status_code is None:
                raise
            return CheckResult(detail=f"HTTP {redirected.status_code}")
        status = response.status_code
        normal = ", which is normal at this address" if status in _NORMAL_AT_ROOT else ""
        return self._with_clock(f"HTTP {status}{normal}", response.headers)

    def _handshake(self) -> CheckResult:
        """
        A session opens and answers; a refusal from before does not count.

        The token is good, and for this agent. A client that opens no stream is asked for that, too.
        """
        agent = context_of(self.client)
        agent.connection.logins.breaker.forget(agent.token_or(None))
        try:
            opens_streams = self._open_session()
        except EndpointNotAvailable as error:
            error.remediation = WRONG_PATH.remedy
            raise
        own_id = None
        if agent.agent_id or not opens_streams:
            own_id = _agent_of_token(self.client)
        if own_id and agent.agent_id and own_id != agent.agent_id:
            raise ConfigError(
                f"the token belongs to agent {own_id}, not to {agent.agent_id}",
                code=WRONG_AGENT.name.upper(),
                outcome="rejected",
                remediation=WRONG_AGENT.remedy,
            )
        return CheckResult() if opens_streams else skip(_OVER_REST)

    def _open_session(self) -> bool:
        """Open a session, and return whether the client does that at all."""
        if self._opens_no_stream():
            return False
        try:
            self.client.ping(timeout=first_deadline(context_of(self.client).connection).seconds)
        except ConfigError:  # with send_via="auto", where the token goes shows only now
            if not self._opens_no_stream():
                raise
            return False
        return True

    def _opens_no_stream(self) -> bool:
        agent = context_of(self.client)
        is_taken = agent.connection.router.takes_waiting(agent.token_or(None))
        return agent.sends_over_rest and not is_taken

    def _tools(self) -> CheckResult:
        """The server can send messages."""
        if self._opens_no_stream():
            return skip(_OVER_REST)
        deadline = first_deadline(context_of(self.client).connection)
        tools = self.client.list_tools(timeout=deadline.seconds)
        try:
            tool = find_tool(tools, SEND.name)
        except ButtDialError as error:
            error.outcome = "rejected"  # the list itself was answered
            raise
        return CheckResult(detail=f"{len(tools)} tools, {tool.name} among them")

    def _sending(self) -> CheckResult:
        """The server takes a message."""
        if self.to is None:
            return skip("there is no recipient (to)")
        body = f"{_BODY} {_PLEASE_REPLY}" if self.expect_ack else _BODY
        result = self.client.send_message(self.to, body, self.channel)
        if result.exception is not None:
            # Where the message may have been sent, only the result says what that means.
            result.exception.remediation = result.remediation
            raise result.exception
        self.sent = result
        named = f", id {result.message_sid}" if result.message_sid else ""
        return CheckResult(detail=f"over {self.channel}{named}")

    def _receipt(self) -> CheckResult:
        """The server reports what became of the message."""
        if self.sent is None:
            return skip("no message was sent")
        if _is_of_open_source_server(self.sent):
            return skip("this server (the open-source one) does not send delivery receipts")
        if self.received is None:
            return skip(_NOBODY_LISTENS)
        if self.sent.message_sid is None:
            return skip("the server returned no message id, so a receipt cannot be recognized")
        found = self.received.receipt(self.sent.message_sid, self.receipt_timeout)
        if found is None:
            raise ButtDialError(
                f"no receipt for {self.sent.message_sid} within {self.receipt_timeout:g} s",
                code="NO_RECEIPT",
                outcome="unknown",
                remediation="Check that the agent's callback URL leads to this program from the "
                "server's side (client.profile.get().callback_url), and that its webhooks go to "
                "the inbound_handler given here.",
            )
        if found.status in _UNDELIVERED:
            raise ButtDialError(
                f"status {found.status}: {found.error or found.error_code or 'no reason given'}",
                code=found.error_code,
                remediation="The provider could not deliver it: check the number; outside of "
                "WhatsApp's 24 hours only templates go through (template_id).",
            )
        return CheckResult(detail=f"status {found.status}")

    def _answer(self) -> CheckResult:
        """A person's answer comes back."""
        if self.sent is None or self.to is None:
            return skip("no message was sent")
        if not self.expect_ack:
            return skip("no answer is expected (expect_ack)")
        if self.received is None:
            return skip(_NOBODY_LISTENS)
        found = self.received.answer(self.to, self.ack_timeout)
        if found is None:
            raise ButtDialError(
                f"no answer from {self.to} within {self.ack_timeout:g} s",
                code="NO_ACK",
                outcome="unknown",
                remediation="Reply to the test message from that address in time; if you did, "
                "check that the agent's callback URL leads to this program.",
            )
        return CheckResult(detail=f"received {found.text[:_LONGEST_QUOTE]!r}")

    def _with_clock(self, detail: str, headers: Mapping[str, str]) -> CheckResult:
        skew = skew_of(headers, self.now())
        if skew is None or abs(skew) <= TOLERANCE_SECONDS:
            return CheckResult(detail=detail)
        # Not a failure, because messages are still sent. But signed requests and webhooks are
        # refused.
        return CheckResult(
            detail=f"{detail}; {in_words(skew)}",
            remediation=AuthTimestampExpired.remedy,
            fault="clock_skew",
        )


def _agent_of_token(client: AgentView) -> str | None:
    """Return the id of the token's agent; None if the server does not tell it."""
    try:
        return client.profile.get().agent_id
    except EndpointNotAvailable:  # the open-source server
        return client.profile.channel_status().agent_id


def _is_of_open_source_server(result: SendResult) -> bool:
    answer = result.raw
    return isinstance(answer, Mapping) and "externalId" in answer and "messageId" not in answer
