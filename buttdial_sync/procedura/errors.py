"""
The errors of the Procedura client.

Each is a :class:`ProceduraError` and also the matching class of the library's own tree, so that
either habit of catching works.

::

    ProceduraError                    (ButtDialError)
    ├── ProceduraConfigError          (ArgumentValueError)     a setting or an argument; not sent
    ├── ProceduraClosedError          (ClientClosedError)      the agent was closed
    ├── ProceduraAuthError            (AuthError)              password or token refused
    ├── ModuleFailedError             (ToolError)              the module ended with an error
    │   └── ModuleUnknownError        (NotFoundError)          the server has no such module
    └── ProceduraTransportError       (TransportError)         not reached; nothing was sent
        ├── ProceduraProtocolError    (ProtocolError)          not a Procedura server
        ├── ProceduraDeadlineError    (DeadlineExceededError)  not sent in time
        │   ├── AckTimeoutError       (OutcomeUnknownError)    sent, and not acknowledged in time
        │   └── ResultTimeoutError    (OutcomeUnknownError)    acknowledged, and no result in time
        └── ConnectionLostError       (OutcomeUnknownError)    sent, and the connection was lost
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from buttdial_sync.errors import (
    ArgumentValueError,
    AuthError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    DeadlineExceededError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    ProtocolError,
    ToolError,
    TransportError,
)
from buttdial_sync.errors.translating import raised_as


class ProceduraError(ButtDialError):
    """Base class of every error of the Procedura client."""


class ProceduraConfigError(ProceduraError, ArgumentValueError):
    """A setting or an argument is wrong, and the caller has to correct it. Nothing was sent."""


class ProceduraClosedError(ProceduraError, ClientClosedError):
    """The agent was closed before or during the call."""

    remedy = "Make a new RemoteAgent, or close this one later."


class ProceduraAuthError(ProceduraError, AuthError):
    """The server refused the password or the token."""

    remedy = "Log in again: login_password(), or buttdial-sync procedura login."


class ModuleFailedError(ProceduraError, ToolError):
    """
    The module ended with an error.

    Attributes:
        module: The module's name.
        details: Every field of the server's error frame but its address and its status.
    """

    module: str = ""
    details: Mapping[str, Any] = {}


class ModuleUnknownError(ModuleFailedError, NotFoundError):
    """The server has no such module."""

    remedy = "Check the module's name, and that the server has it loaded."


class ProceduraTransportError(ProceduraError, TransportError):
    """The server could not be reached. Nothing was sent."""

    remedy = "Check the URL, the network and whether the server is up, then try again."


class ProceduraProtocolError(ProceduraTransportError, ProtocolError):
    """The server's answer violates the protocol."""

    remedy = "Check that the URL is that of a Procedura server."


class ProceduraDeadlineError(ProceduraTransportError, DeadlineExceededError):
    """The time of the call passed. This class itself: before anything was sent."""

    remedy = "Raise the timeout, or find out why the server is slow."


class AckTimeoutError(ProceduraDeadlineError, OutcomeUnknownError):
    """The server did not acknowledge the request in time. The module may run, or not."""

    remedy = "Find out whether the module ran before you repeat it, or raise ack_timeout."
    default_outcome = "unknown"


class ResultTimeoutError(ProceduraDeadlineError, OutcomeUnknownError):
    """The server acknowledged the request, and did not end it in time. The module may still run."""

    remedy = "Find out whether the module ended before you repeat it, or raise the timeout."
    default_outcome = "unknown"


class ConnectionLostError(ProceduraTransportError, OutcomeUnknownError):
    """The connection was lost after the request was sent. The module may run, or not."""

    remedy = "Find out whether the module ran before you repeat it."
    default_outcome = "unknown"


# The first that fits counts.
_KINDS: tuple[tuple[type[ButtDialError], type[ProceduraError]], ...] = (
    (ConfigError, ProceduraConfigError),
    (ClientClosedError, ProceduraClosedError),
    (AuthError, ProceduraAuthError),
    (PermissionDeniedError, ProceduraAuthError),
    (DeadlineExceededError, ProceduraDeadlineError),
    (ProtocolError, ProceduraProtocolError),
    (ButtDialError, ProceduraTransportError),
)


def as_procedura_error(error: ButtDialError) -> ProceduraError:
    """Return the error as one of this room, with all its attributes."""
    if isinstance(error, ProceduraError):
        return error.as_kind(type(error))
    kind: type[ProceduraError]
    if isinstance(error, TransportError) and error.outcome == "unknown":
        is_late = isinstance(error, DeadlineExceededError)
        kind = AckTimeoutError if is_late else ConnectionLostError
    else:
        kind = next(ours for theirs, ours in _KINDS if isinstance(error, theirs))
    # Advice of the class is the class's own: nobody may be told to repeat what may have run.
    is_own = error.remediation not in {None, type(error).remedy}
    advice = [str(error.remediation).replace("base_url", "url")] if is_own else []
    if kind.remedy and (not is_own or issubclass(kind, OutcomeUnknownError)):
        advice.append(kind.remedy)
    return error.as_kind(kind, remediation=" ".join(advice) or None)


def raised_as_procedura_errors() -> raised_as:
    """Raise what this library raises inside as an error of this room, without a chain."""
    return raised_as(as_procedura_error)
