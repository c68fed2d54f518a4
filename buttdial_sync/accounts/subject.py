"""The base of the subjects of the accounts client, and their way down to a call."""

from __future__ import annotations

import sys
import uuid
import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

from buttdial_sync.calls.endpoint_call import EndpointCall, RequestSigner
from buttdial_sync.calls.operation import Endpoint
from buttdial_sync.connection import Connection
from buttdial_sync.errors import (
    AccountsError,
    ArgumentTypeError,
    ArgumentValueError,
    ConfigError,
    InvalidRequestError,
)
from buttdial_sync.errors.scrubbing import Secret, masked
from buttdial_sync.errors.texts import MEANING_OF_CODE

T = TypeVar("T")

_PACKAGE = __name__.partition(".")[0]


class Subject:
    """
    A group of methods on one subject; the client inherits all groups.

    Args:
        connection: The client's.
        signer: Signs the requests that want it.
        team_token: The workspace's token.
    """

    def __init__(
        self, connection: Connection, signer: RequestSigner, team_token: str | None
    ) -> None:
        self._connection = connection
        self._signer = signer
        self._token = masked(_check_header_value(team_token, "team_token"))

    def _call(
        self,
        endpoint: Endpoint[T],
        /,
        *,
        credential: str | None = None,
        idempotency_key: str | None = None,
        extra: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> T:
        """
        Call an endpoint.

        Args:
            endpoint: The endpoint.
            credential: A webhook secret or poll token, sent instead of the team token.
            idempotency_key: One for all attempts; made when absent, where the endpoint takes one.
            extra: Goes into the body as given.
            **arguments: By their names in Python; those that are None are left out.

        Raises:
            ClientClosedError: The client is closed.
            ConfigError: The token or secret is missing, or would be sent unencrypted.
            OutcomeUnknownError: It may have been carried out.
            ButtDialError: Anything else.
        """
        call = EndpointCall(
            self._connection,
            endpoint,
            arguments,
            credential=self._credential(endpoint, credential),
            extra=extra,
            idempotency_key=_key(idempotency_key) if endpoint.takes_key else None,
            signer=self._signer,
        )
        try:
            return call.result(endpoint.result)
        except InvalidRequestError as error:
            # Refusals of these endpoints have codes of their own.
            if type(error) is not InvalidRequestError or error.code in MEANING_OF_CODE:
                raise
            raise error.as_kind(AccountsError) from None

    def _credential(self, endpoint: Endpoint[Any], given: str | None) -> str | None:
        if endpoint.auth == "none":
            return None
        name = "webhook_secret" if endpoint.auth == "given" else "poll_token"
        credential = _check_header_value(given, name) or self._token
        if not credential:
            raise ConfigError(
                f"{endpoint.name} needs a team_token",
                remediation="Give team_token to the client (or with_token), or set "
                "BUTT_DIAL_TEAM_TOKEN.",
            )
        return Secret(credential)


def warn_caller(message: str) -> None:
    """Warn of something deprecated, at the line outside of this package that called it."""
    level = 1
    frame = sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        frame = frame.f_back
        level += 1
    warnings.warn(message, DeprecationWarning, stacklevel=level)


def _key(given: str | None) -> str:
    key = str(uuid.uuid4()) if given is None else given
    if not key.strip():
        raise ArgumentValueError("idempotency_key must not be empty")
    return _check_header_value(key, "idempotency_key") or key


def _check_header_value(value: str | None, name: str) -> str | None:
    """
    Return ``value`` if a header can hold it.

    Raises:
        ArgumentTypeError: It is not text.
        ArgumentValueError: It has characters that no header can hold, such as an ellipsis.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{name} must be text")
    if not (value.isascii() and value.isprintable()):
        raise ArgumentValueError(f"{name} has characters that cannot be sent")
    return value
