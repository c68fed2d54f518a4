"""
The exception tree.

::

    ButtDialError
    ├── ConfigError                     the caller's settings or arguments; nothing was sent
    │   ├── ArgumentTypeError           (also a TypeError)
    │   └── ArgumentValueError          (also a ValueError)
    ├── ClientClosedError               the client was closed
    ├── NotSupportedError               this server cannot do it; nothing was sent
    │   ├── ToolNotAvailable
    │   ├── ArgumentNotSupported
    │   ├── PreviewNotSupported
    │   └── EndpointNotAvailable
    ├── TransportError                  the way to the server and back
    │   ├── DeadlineExceededError       (also a TimeoutError)
    │   ├── ProtocolError               the response violates the protocol
    │   ├── SessionUnknownError         the server does not know the session
    │   ├── StreamLostError
    │   ├── LoginPostponedError         the client's own precaution against a lockout
    │   └── OutcomeUnknownError         it may have been carried out, or not
    ├── AuthError                       the token was refused
    │   ├── AuthMissingHeaderError
    │   ├── AuthInvalidTokenError
    │   ├── AuthTokenRevokedError       alias RevokedToken; a team token's: TokenRevoked
    │   └── AuthLockedOutError
    ├── ToolError                       an operation said no, asked as a tool or over REST
    │   ├── PermissionDeniedError       the token is valid, but lacks the permission
    │   ├── AgentSuspended              the agent exists, but is not active
    │   ├── ComplianceError             consent, do-not-contact, calling hours, content
    │   ├── RateLimitError
    │   ├── ChannelError
    │   │   ├── ProviderCapabilityError
    │   │   ├── NotProvisioned
    │   │   ├── NoChannelAssigned
    │   │   └── ProviderWebhookWireFailed
    │   ├── InvalidRequestError, NotFoundError, ConflictError, PayloadTooLargeError
    │   └── ToolNotAvailable            (the same class as above)
    ├── ServerError                     5xx
    ├── AgentNotFound, AgentNotProvisioned    raised by a host's agent directory
    └── AccountsError                   see buttdial_sync.errors.accounts
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

if TYPE_CHECKING:
    from datetime import datetime

E = TypeVar("E", bound="ButtDialError")

Stage = Literal["config", "transport", "session", "tool_call", "parse", "server"]
Outcome = Literal["sent", "rejected", "not_sent", "unknown"]
Cure = Literal["time", "operator", "nothing"]

_HAS_NOTES: bool = sys.version_info >= (3, 11)

# What ends a failure, where one code differs from the others of its class.
_CURE_OF_CODE: dict[str, Cure] = {
    "AGENT_ID_REQUIRED": "operator",
    "CALLING_HOURS": "time",
    "PROXY": "operator",
    "QUOTA_EXCEEDED": "operator",
    "TLS": "operator",
}


class ButtDialError(Exception):
    """
    Base class of every exception that this library raises on purpose.

    Instances pickle, so that they cross process boundaries. None of the attributes holds a token.

    Tracebacks, notebooks and pytest show ``remediation`` below the message, as a note. Python
    3.10 has no notes: there ``str(error)`` has it as its second line, and ``message`` is the
    message alone on every Python.

    Attributes:
        code: Machine-readable: the server's; where it gives none, the library's (``"REFUSED"``,
            ``"NOT_FOUND"``, …: ``docs/errors.rst`` lists them); or None.
        stage: Where it happened: ``"config"``, ``"transport"``, ``"session"``, ``"tool_call"``,
            ``"parse"`` or ``"server"``.
        outcome: The outcome of the request: ``"not_sent"`` (the server never had it),
            ``"rejected"`` (the server said no), ``"unknown"`` (it may have been carried out), or
            ``"sent"`` (it was, and the answer could not be read: a ``ProtocolError``).
        status_code: The HTTP status, or None.
        body: The decoded body of the answer, or None.
        retryable: What the server says about trying again, or None.
        retry_after: In seconds, when the server names a time, or None.
        remaining_attempts: Failed logins left before this address is locked out, or None.
        locked_until: Until when it is locked out (aware, UTC), or None.
    """

    server_codes: ClassVar[tuple[str, ...]] = ()
    default_code: ClassVar[str | None] = None
    remedy: ClassVar[str | None] = None
    default_stage: ClassVar[Stage] = "server"
    default_outcome: ClassVar[Outcome] = "rejected"
    default_cure: ClassVar[Cure] = "operator"

    _remediation: str | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        stage: Stage | None = None,
        outcome: Outcome | None = None,
        remediation: str | None = None,
        status_code: int | None = None,
        body: Any = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        remaining_attempts: int | None = None,
        locked_until: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code or next(iter(self.server_codes), None)
        self.stage: Stage = stage or self.default_stage
        self.outcome: Outcome = outcome or self.default_outcome
        self.remediation = remediation or self.remedy
        self.status_code = status_code
        self.body = body
        self.retryable = retryable
        self.retry_after = retry_after
        self.remaining_attempts = remaining_attempts
        self.locked_until = locked_until

    def __str__(self) -> str:
        if _HAS_NOTES or not self.remediation:
            return self.message
        return f"{self.message}\n{self.remediation}"

    @property
    def message(self) -> str:
        """What happened, without the advice."""
        return Exception.__str__(self)

    @property
    def remediation(self) -> str | None:
        """The server's own advice, otherwise the library's, or None."""
        return self._remediation

    @remediation.setter
    def remediation(self, advice: str | None) -> None:
        if _HAS_NOTES:
            # A list of its own: a copied error shares that of the original.
            notes: list[str] = getattr(self, "__notes__", [])
            others = [note for note in notes if note != self._remediation]
            vars(self)["__notes__"] = [advice, *others] if advice else others
        self._remediation = advice

    @property
    def cured_by(self) -> Cure:
        """
        What ends the failure.

        ``"time"``: the same again later. ``"operator"``: somebody corrects a setting, a credential,
        a channel or a quota. ``"nothing"``: the recipient or the content is at fault.
        """
        if self.code in _CURE_OF_CODE:
            return _CURE_OF_CODE[self.code]
        is_known = self.code and self.code in {self.default_code, *self.server_codes}
        if self.retryable is False and self.default_cure == "time" and not is_known:
            return "operator"
        return self.default_cure

    def advice_if_unknown(self, first: str | None) -> str | None:
        """
        Return the advice for a request whose outcome is unknown.

        Args:
            first: What to do about the outcome.

        Returns:
            That, and what to do about this error, if it has more to say than its class.
        """
        own = self.remediation if self.remediation not in {type(self).remedy, first} else None
        return " ".join(filter(None, (first, own))) or None

    def as_kind(self, kind: type[E], message: str | None = None, **changes: Any) -> E:
        """
        Return another kind of error with all attributes of this one.

        Args:
            kind: The class to make.
            message: Its text; this error's when None.
            **changes: Attributes that differ.

        Returns:
            The error, without traceback, cause and context.
        """
        error = kind(self.message if message is None else message)
        vars(error).update(vars(self))
        for name, value in {"remediation": self.remediation, **changes}.items():
            setattr(error, name, value)
        return error


class ConfigError(ButtDialError):
    """A setting or an argument is wrong, and the caller has to correct it. Nothing was sent."""

    default_stage: ClassVar[Stage] = "config"
    default_outcome: ClassVar[Outcome] = "not_sent"


class ArgumentTypeError(ConfigError, TypeError):
    """An argument has the wrong type; the message names it."""


class ArgumentValueError(ConfigError, ValueError):
    """An argument has an invalid value; the message names it."""

    default_cure: ClassVar[Cure] = "nothing"


class ClientClosedError(ButtDialError):
    """The client was closed before or during the call."""

    default_code = "CLIENT_CLOSED"
    remedy = "Make a new client, or close this one later."
    default_stage = "config"
    default_outcome = "not_sent"


class NotSupportedError(ButtDialError):
    """This server cannot do what was asked. Nothing was carried out."""

    default_cure: ClassVar[Cure] = "operator"

    default_stage = "config"
    default_outcome = "not_sent"


class ToolError(ButtDialError):
    """The server refused an operation. The subclasses are the reasons that have a name."""

    default_cure: ClassVar[Cure] = "time"


class ToolNotAvailable(NotSupportedError, ToolError):
    """The server has no such tool; the message names the nearest ones."""

    default_code = "TOOL_NOT_AVAILABLE"
    remedy = "Call list_tools() to see what this server offers; the two kinds of server differ."


class ArgumentNotSupported(NotSupportedError):
    """The server's schema lacks an argument that the caller gave; it would be dropped silently."""

    default_code = "ARGUMENT_NOT_SUPPORTED"
    remedy = "Leave the argument out, or make the client with check_schema=False to send it anyway."


class PreviewNotSupported(NotSupportedError):
    """The tool has no ``confirm`` on this server: a preview would be carried out."""

    default_code = "PREVIEW_NOT_SUPPORTED"
    remedy = "This server has no previews. Pass confirm=True to carry the operation out."


class EndpointNotAvailable(NotSupportedError):
    """The server has no such REST endpoint."""

    default_code = "ENDPOINT_NOT_AVAILABLE"
    remedy = "Check base_url; the open-source server lacks some endpoints of the hosted one."


class TransportError(ButtDialError):
    """The server could not be reached, or the connection broke."""

    remedy = "Check base_url, the network and whether the server is up, then try again."
    default_cure: ClassVar[Cure] = "time"
    default_stage: ClassVar[Stage] = "transport"
    default_outcome: ClassVar[Outcome] = "not_sent"


class DeadlineExceededError(TransportError, TimeoutError):
    """The call's ``timeout`` passed."""

    default_code = "TIMEOUT"
    remedy = "Raise timeout, or find out why the server is slow."


class ProtocolError(TransportError):
    """The response violates the protocol."""

    default_cure: ClassVar[Cure] = "operator"

    default_code = "PROTOCOL_ERROR"
    remedy = "Check that base_url is a Butt-Dial server and not a proxy's or a login page."
    default_stage = "parse"


class SessionUnknownError(TransportError):
    """The server does not know our session any more. The request was not carried out."""

    default_code = "SESSION_UNKNOWN"
    default_stage = "session"


class StreamLostError(TransportError):
    """The event stream ended."""

    default_code = "STREAM_LOST"
    default_stage = "session"


class LoginPostponedError(TransportError):
    """
    The client holds a login back: several tokens were refused, and another one could be, too.

    Ten failed logins lock the address out for all tokens. ``retry_after`` is in seconds.
    """

    default_code = "LOGIN_POSTPONED"
    default_stage = "session"
    remedy = "Correct the tokens that the server refuses; other new ones wait retry_after seconds."


class OutcomeUnknownError(TransportError):
    """
    The request may have been carried out, or not: its answer was lost.

    It is raised instead of a retry where a second attempt could carry the operation out twice.
    """

    remedy = "Find out whether it was carried out before you repeat it."
    default_outcome = "unknown"


class AuthError(ButtDialError):
    """The token was refused (HTTP 401). Never retried: failed logins add up to a lockout."""

    remedy = "Check the token: is it complete, for this server, and of the right kind?"
    default_stage: ClassVar[Stage] = "session"


class AuthMissingHeaderError(AuthError):
    """The request had no token that the server could see."""

    server_codes = ("AUTH_MISSING_HEADER",)
    remedy = (
        'Give agent_token (or team_token); if the server wants it in the URL, token_in="query".'
    )


class AuthInvalidTokenError(AuthError):
    """The server does not know this token."""

    server_codes = ("AUTH_INVALID_TOKEN",)


class AuthTokenRevokedError(AuthError):
    """
    The token was valid once and has been revoked, mostly by a rotation.

    ``RevokedToken`` is another published name of this class. A team token's own code
    (``TOKEN_REVOKED``) raises its subclass :class:`~buttdial_sync.TokenRevoked`.
    """

    server_codes = ("AUTH_TOKEN_REVOKED",)
    remedy = "Fetch the current token from where you keep it, or issue a new one."


RevokedToken = AuthTokenRevokedError


class AuthLockedOutError(AuthError):
    """Too many failed logins from this address: valid tokens are refused too (HTTP 429)."""

    server_codes = ("AUTH_LOCKED_OUT",)
    remedy = "Stop, correct the wrong token, and wait until the lockout has passed (15 minutes)."
    default_cure: ClassVar[Cure] = "time"


class PermissionDeniedError(ToolError):
    """The token is valid, but may not do this (HTTP 403)."""

    default_cure: ClassVar[Cure] = "operator"

    default_code = "PERMISSION_DENIED"
    remedy = "Use a token of the scope that the operation needs."


class AgentSuspended(ToolError):
    """The agent exists, but the operator suspended it or took it out of service."""

    default_cure: ClassVar[Cure] = "operator"

    default_code = "AGENT_SUSPENDED"
    remedy = "Have the operator activate the agent again."


class ComplianceError(ToolError):
    """
    A rule forbids this message.

    ``code`` says which: ``"DO_NOT_CONTACT"``, ``"CONSENT_REQUIRED"``, ``"CALLING_HOURS"``,
    ``"CONTENT_REFUSED"``, or ``"COMPLIANCE"`` for another one.
    """

    default_cure: ClassVar[Cure] = "nothing"

    default_code = "COMPLIANCE"
    remedy = "Do what the rule asks for: the error names it. The same message is refused again."


class RateLimitError(ToolError):
    """Too many requests or actions. ``retry_after`` says when to go on, if the server says so."""

    server_codes = ("RATE_LIMITED", "RATE_LIMIT_EXCEEDED")
    remedy = "Wait retry_after seconds, send more slowly, or ask for a higher limit."


class ChannelError(ToolError):
    """
    A failure of one channel.

    Attributes:
        channel: ``"whatsapp"``, ``"sms"``, …, or None.
        action: The action that was refused, or None.
        provider: The provider that refused it, or None.
    """

    channel: str | None = None
    action: str | None = None
    provider: str | None = None
    default_cure: ClassVar[Cure] = "operator"


class ProviderCapabilityError(ChannelError):
    """The provider behind the channel cannot perform the action."""

    server_codes = ("PROVIDER_UNSUPPORTED", "CHANNEL_UNSUPPORTED")
    remedy = "Use another channel, or a sender (sender_sid) of a provider that can."


class NotProvisioned(ChannelError):
    """The agent does not exist on the server."""

    server_codes = ("AGENT_NOT_PROVISIONED", "AGENT_NOT_FOUND", "NOT_PROVISIONED")
    remedy = "Register the agent first (AccountsClient.register_agent)."


class NoChannelAssigned(ChannelError):
    """The agent exists but has no sender on this channel."""

    server_codes = ("NO_CHANNEL_ASSIGNED",)
    remedy = "Assign a channel (AccountsClient.manage_agent_channel) before sending."


class ProviderWebhookWireFailed(ChannelError):
    """The server could not set the provider's webhook and rolled the change back (HTTP 502)."""

    server_codes = ("PROVIDER_WEBHOOK_WIRE_FAILED",)
    remedy = "Try again in a moment. If the error stays, check the provider's credentials."
    default_cure: ClassVar[Cure] = "time"


class InvalidRequestError(ToolError):
    """The request is invalid (HTTP 400, or a tool's invalid arguments)."""

    default_cure: ClassVar[Cure] = "nothing"

    default_code = "INVALID_REQUEST"


class NotFoundError(ToolError):
    """The object does not exist (HTTP 404 or 410)."""

    default_cure: ClassVar[Cure] = "operator"

    default_code = "NOT_FOUND"


class ConflictError(ToolError):
    """The object exists already, or its state forbids the change (HTTP 409)."""

    default_cure: ClassVar[Cure] = "operator"

    default_code = "CONFLICT"


class PayloadTooLargeError(ToolError):
    """The request is larger than the server accepts (HTTP 413): 1 MB for REST, 4 MiB for tools."""

    default_cure: ClassVar[Cure] = "nothing"

    default_code = "PAYLOAD_TOO_LARGE"
    remedy = "Send less at once; pass media by URL."


class ServerError(ButtDialError):
    """The server failed (HTTP 5xx)."""

    default_cure: ClassVar[Cure] = "time"

    default_code = "SERVER_ERROR"
    remedy = "Try again later. If the error stays, look at the server's log."


class AgentNotFound(ButtDialError, KeyError):
    """Raised by a host's agent directory: no agent with this id."""


class AgentNotProvisioned(ButtDialError, ValueError):
    """Raised by a host's agent directory: the agent has no credentials yet."""
