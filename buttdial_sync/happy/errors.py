"""
The errors of the Happy client.

Each is a :class:`~buttdial_sync.happy.errors.HappyError` and also the matching class of the
library's own tree, so ``except AuthError`` catches a refused Happy token too. The published SDK's
names are kept; ``TimeoutError`` and ``ConnectionError`` are second names, because Python has
classes of that name.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar

from buttdial_sync.errors import (
    ArgumentValueError,
    AuthError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    ConflictError,
    DeadlineExceededError,
    NotFoundError,
    NotSupportedError,
    Outcome,
    OutcomeUnknownError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    Stage,
    ToolError,
    TransportError,
)
from buttdial_sync.errors.translating import raised_as

E = TypeVar("E", bound="HappyError")


class HappyError(ButtDialError):
    """
    Base class of every error of the Happy client.

    Attributes:
        session_id: The session that the call was about, where there is one.
    """

    session_id: str | None = None


class HappyConfigError(HappyError, ArgumentValueError):
    """A setting or an argument is wrong, and the caller has to correct it. Nothing was sent."""


class HappyClosedError(HappyError, ClientClosedError):
    """The client was closed before or during the call."""


class AuthenticationError(HappyError, AuthError):
    """The server refused the token."""

    remedy = "Check the token; sign in again on the machine that the key file comes from."


class CredentialsError(AuthenticationError, ConfigError):
    """The token or the secret is missing or malformed. Nothing was sent."""

    remedy = (
        "Give token and secret_b64, set HAPPY_TOKEN and HAPPY_SECRET, or give the path of a key "
        "file as credentials_path."
    )
    default_stage: ClassVar[Stage] = "config"
    default_outcome: ClassVar[Outcome] = "not_sent"


class EncryptionError(HappyError):
    """Something cannot be decrypted, or is malformed after it was."""

    default_stage = "parse"


class WrongKeyError(EncryptionError):
    """The client's secret does not open this record."""

    remedy = (
        'Give the account secret: the value of "secret" in agent.key. The machineKey of an '
        "access.key file opens only the record of its own machine."
    )
    default_outcome = "not_sent"


class ConnectionError(HappyError, TransportError):  # noqa: A001 - its published name
    """The server could not be reached, or the connection broke."""


class TimeoutError(HappyError, DeadlineExceededError):  # noqa: A001 - its published name
    """The call's time has passed."""


class HappyProtocolError(HappyError, ProtocolError):
    """The server's answer violates the protocol."""

    remedy = "Check that server_url is a Happy server and not a proxy's or a login page."


class HappyOutcomeUnknownError(HappyError, OutcomeUnknownError):
    """The request may have been carried out, or not: its answer was lost."""


class RequestRefused(HappyError, ToolError):
    """The server refused the request."""


class HappyPermissionDenied(RequestRefused, PermissionDeniedError):
    """The token may not do this."""


class HappyRateLimitError(RequestRefused, RateLimitError):
    """Too many requests."""


class HappyServerError(HappyError, ServerError):
    """The server failed."""


class SessionNotFound(HappyError, NotFoundError):
    """The server has no session with this id: it was deleted, or is another account's."""


class RpcTransportError(HappyError, TransportError):
    """A call of a machine or a session did not get through, or its answer did not come back."""


class RpcOutcomeUnknownError(RpcTransportError, OutcomeUnknownError):
    """The call of a machine or a session may have been carried out: its answer was lost."""

    default_outcome = "unknown"


class RpcError(HappyError, ToolError):
    """The machine or the session answered a call with an error; the message has its words."""


class RpcNotSupported(HappyError, NotSupportedError):
    """The machine or the session does not know this call."""


class MachineOfflineError(HappyError, TransportError):
    """The machine is not connected to the server. Nothing was carried out."""

    remedy = "Start the Happy daemon on the machine, and try again."


class MachineNotFound(MachineOfflineError, NotFoundError):
    """The account has no machine with this id."""

    remedy = "Look at list_machines(): is the id complete, and of this account?"


class SessionOfflineError(HappyError, TransportError):
    """The session's process is not connected to the server. Nothing was carried out."""

    remedy = "Look at is_alive(); a session whose process has ended must be spawned again."


class SpawnError(HappyError, ToolError):
    """The machine refused to start a session; the message has the daemon's own words."""


class DirectoryNeedsApproval(SpawnError):
    """The directory does not exist, and the machine asks whether to create it."""

    remedy = "Call again with create_dir=True if the directory should be created."


class SpawnOutcomeUnknownError(RpcOutcomeUnknownError):
    """
    The machine was slow: the session may have been started, or will be.

    It is not repeated, because that could start a second agent in the same directory.
    """

    remedy = "Call find_spawned(machine_id, directory, since=…) before you spawn again."


class StopSessionError(HappyError, ToolError):
    """The session could not be stopped."""


class MetadataUpdateError(HappyError, ToolError):
    """The server refused to change a session's metadata."""


class MetadataConflictError(MetadataUpdateError, ConflictError):
    """
    Others changed the session's metadata again and again.

    Nothing was changed by us, unless ``outcome`` is ``"unknown"``.
    """

    remedy = "Try again later."


class MessageDeliveryError(HappyError, TransportError):
    """
    The message was not stored by the server, or nobody knows whether it was.

    ``outcome`` tells which: ``"not_sent"``, ``"rejected"`` or ``"unknown"``.

    Attributes:
        local_id: Send again with this ``local_id``: the server stores it only once.
    """

    local_id: str | None = None


class MessageOutcomeUnknownError(MessageDeliveryError, OutcomeUnknownError):
    """The message may have been stored. It is safe to send it again with its ``local_id``."""

    remedy = "Send it again with the same local_id: the server stores it only once."
    default_outcome = "unknown"


class RequestNotPending(HappyError, ConflictError):
    """
    The agent does not wait for this permission: it was answered already, or withdrawn.

    Attributes:
        status: ``"approved"``, ``"denied"`` or ``"canceled"``; None if the request is not known.
    """

    status: str | None = None


HappyTimeoutError = TimeoutError
HappyConnectionError = ConnectionError

# The server cannot be reached now, or not for now: who waits goes on waiting.
OUTAGES = (HappyConnectionError, HappyTimeoutError, HappyServerError, HappyRateLimitError)

# From the special to the general: the first that matches is taken.
_COUNTERPARTS: tuple[tuple[type[ButtDialError], type[HappyError]], ...] = (
    (AuthError, AuthenticationError),
    (ClientClosedError, HappyClosedError),
    (ConfigError, HappyConfigError),
    (DeadlineExceededError, TimeoutError),
    (OutcomeUnknownError, HappyOutcomeUnknownError),
    (ProtocolError, HappyProtocolError),
    (TransportError, ConnectionError),
    (PermissionDeniedError, HappyPermissionDenied),
    (RateLimitError, HappyRateLimitError),
    (ServerError, HappyServerError),
)


def happy_error(error: ButtDialError) -> HappyError:
    """Return the error of this client for one of the layers below; ``outcome`` and text stay."""
    if isinstance(error, HappyError):
        return error
    kind = next((ours for kind, ours in _COUNTERPARTS if isinstance(error, kind)), RequestRefused)
    return error.as_kind(kind)


def about(error: E, session_id: str) -> E:
    """Note in an error which session it is about."""
    error.session_id = session_id
    return error


def all_about(session_id: str) -> raised_as:
    """Note in each error that is raised inside which session it is about."""
    return raised_as(lambda error: about(happy_error(error), session_id))
