"""
The errors of the ailoop client.

Each is an :class:`AiloopError` and also the matching class of the library's own tree, so
``except AuthError`` catches a token that ailoop refused, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from buttdial_sync.errors import (
    ArgumentValueError,
    AuthError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    DeadlineExceededError,
    NotFoundError,
    NotSupportedError,
    Outcome,
    OutcomeUnknownError,
    PermissionDeniedError,
    ProtocolError,
    ServerError,
    ToolError,
    TransportError,
)
from buttdial_sync.errors.translating import raised_as

if TYPE_CHECKING:
    from buttdial_sync.ailoop.answers import Authorization


class AiloopError(ButtDialError):
    """Base class of every error of the ailoop client."""


class AiloopConfigError(AiloopError, ArgumentValueError):
    """A setting or an argument is wrong, and the caller has to correct it. Nothing was sent."""


class AiloopClosedError(AiloopError, ClientClosedError):
    """The client was closed before or during the call."""


class AiloopNotSupportedError(AiloopError, NotSupportedError):
    """This server cannot do it. Nothing was sent."""


class AuthenticationError(AiloopError, AuthError):
    """The server refused the token."""


class AiloopConnectionError(AiloopError, TransportError):
    """The server could not be reached, or the connection broke."""

    remedy = "Check server_url, the network and whether the server is up, then try again."


class AiloopTimeoutError(AiloopError, DeadlineExceededError):
    """The call's time has passed."""


class AiloopProtocolError(AiloopError, ProtocolError):
    """The server's answer violates the protocol."""

    remedy = "Check that server_url is an ailoop server and not a proxy's or a login page."


class AiloopOutcomeUnknownError(AiloopError, OutcomeUnknownError):
    """The request may have been carried out, or not: its answer was lost."""


class NotAcceptedError(AiloopOutcomeUnknownError):
    """The server did not confirm a message. It has dropped it, or it is very slow."""

    remedy = "Look at the server's log: it drops messages that it does not understand."


class ValidationError(AiloopError, ToolError):
    """The server refused the request; ``status_code`` and the message have its words."""


class MessageNotFoundError(ValidationError, NotFoundError):
    """The server has no such message or task. A restarted server has forgotten all of them."""

    remedy = "Check the id and its channel; if every call says this, server_url and its base path."


class AiloopServerError(AiloopError, ServerError):
    """The server failed."""


class AuthorizationDeniedError(AiloopError, PermissionDeniedError):
    """
    There is no approval, and ``raise_on_deny`` was given.

    Attributes:
        authorization: What became of the prompt.
    """

    authorization: Authorization | None = None
    remedy = "Do not carry the action out."
    default_outcome: ClassVar[Outcome] = "rejected"


# From the special to the general: the first that matches is taken.
_COUNTERPARTS: tuple[tuple[type[ButtDialError], type[AiloopError]], ...] = (
    (AuthError, AuthenticationError),
    (ClientClosedError, AiloopClosedError),
    (ConfigError, AiloopConfigError),
    (DeadlineExceededError, AiloopTimeoutError),
    (OutcomeUnknownError, AiloopOutcomeUnknownError),
    (ProtocolError, AiloopProtocolError),
    (TransportError, AiloopConnectionError),
    (ServerError, AiloopServerError),
)


def ailoop_error(error: ButtDialError) -> AiloopError:
    """Return the error of this client for one of the layers below; ``outcome`` and text stay."""
    if isinstance(error, AiloopError):
        return error
    if error.status_code == 404:
        return error.as_kind(
            MessageNotFoundError, outcome="rejected", remediation=MessageNotFoundError.remedy
        )
    kind = next((ours for kind, ours in _COUNTERPARTS if isinstance(error, kind)), ValidationError)
    remedy = kind.remedy if kind.remedy and kind is not AiloopTimeoutError else error.remediation
    return error.as_kind(kind, remediation=remedy)


def raised_as_ailoop_errors() -> raised_as:
    """Raise what this library raises inside as an error of this client, without a chain."""
    return raised_as(ailoop_error)
