"""The one way from a method of the accounts client to the server and back."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from buttdial_sync.accounts.endpoint import Endpoint, fill_path
from buttdial_sync.accounts.secrecy import conceal, is_secret
from buttdial_sync.accounts.server import Request, Server
from buttdial_sync.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    OutcomeUnknownError,
)
from buttdial_sync.models.converter import structure
from buttdial_sync.tools.caller import final_error
from buttdial_sync.transport.http import is_private_way
from buttdial_sync.transport.secrets import scrub_urls_in_logs

T = TypeVar("T")

_KEY = "Idempotency-Key"


class AccountsCaller:
    """
    Calls the endpoints with one credential. Safe to share between threads.

    Args:
        server: The server.
        team_token: The workspace's token.
    """

    def __init__(self, server: Server, team_token: str | None) -> None:
        self.server = server
        self.team_token = check_credential(team_token, "team_token")
        self.closed = False

    def call(
        self,
        endpoint: Endpoint,
        kind: type[T],
        /,
        *,
        credential: str | None = None,
        idempotency_key: str | None = None,
        extra: Mapping[str, Any] | None = None,
        check: Callable[[Any], None] | None = None,
        **arguments: Any,
    ) -> T:
        """
        Call an endpoint, as often as it may be.

        Args:
            endpoint: Which.
            kind: What the answer is made into.
            credential: Sent instead of the team token.
            idempotency_key: One for all attempts; made when absent, where the endpoint takes one.
            extra: Goes into the body as given.
            check: Looks at the decoded answer, and raises if it is a "no".
            **arguments: By their names in Python; those that are None are left out.

        Raises:
            ClientClosedError: The client is closed.
            ConfigError: The credential is missing, or would be readable on its way.
            OutcomeUnknownError: It may have been carried out.
            ButtDialError: Anything else.
        """
        if self.closed:
            raise ClientClosedError("the client is closed")
        request = self._request(endpoint, credential, idempotency_key, extra, arguments)
        deadline = self.server.runtime.deadline(None)
        may_repeat = endpoint.reads_only or endpoint.takes_key
        try:
            answer = self.server.runtime.run(
                endpoint.operation,
                lambda: self.server.attempt(request, deadline),
                deadline,
                may_repeat_unknown=lambda: may_repeat,
            )
            if check is not None:
                check(answer)
            return structure({} if answer is None else answer, kind, source=endpoint.operation)
        except ButtDialError as error:
            conceal(error, request.secrets)
            failure = final_error(error, endpoint.operation, reads_only=endpoint.reads_only)
        key = request.headers.get(_KEY)
        if key and isinstance(failure, OutcomeUnknownError):
            failure.remediation = f"Call again with idempotency_key={key!r}: it is done only once."
        raise failure

    def _request(
        self,
        endpoint: Endpoint,
        credential: str | None,
        idempotency_key: str | None,
        extra: Mapping[str, Any] | None,
        arguments: Mapping[str, Any],
    ) -> Request:
        given = {name: value for name, value in arguments.items() if value is not None}
        sent = self._credential(endpoint, credential)
        self._keep_private(endpoint)
        fill_path(endpoint.path, given)  # refuses what no path can hold, before the first attempt
        everything = {**given, **(extra or {})}
        secrets = [
            value
            for name, value in everything.items()
            if isinstance(value, str) and is_secret(name)
        ]
        return Request(
            endpoint=endpoint,
            arguments=given,
            body=endpoint.body(given, extra),
            query={name: given[name] for name in endpoint.query if name in given},
            credential=sent,
            headers={_KEY: _key(idempotency_key)} if endpoint.takes_key else {},
            secrets=(*secrets, *([sent] if sent else [])),
        )

    def _credential(self, endpoint: Endpoint, given: str | None) -> str | None:
        if endpoint.auth == "none":
            return None
        name = "webhook_secret" if endpoint.auth == "given" else "poll_token"
        credential = check_credential(given, name) or self.team_token
        if not credential:
            raise ConfigError(
                f"{endpoint.operation} needs a team_token",
                remediation="Give team_token to the client (or with_token), or set "
                "BUTT_DIAL_TEAM_TOKEN.",
            )
        return credential

    def _keep_private(self, endpoint: Endpoint) -> None:
        if not endpoint.query:
            return
        scrub_urls_in_logs()
        if not is_private_way(self.server.base_url):
            raise ConfigError(
                f"{endpoint.operation} would send {', '.join(endpoint.query)} readable in the URL",
                remediation="Use https, or a server on this machine.",
            )


def _key(given: str | None) -> str:
    key = str(uuid.uuid4()) if given is None else given
    if not key.strip():
        raise ArgumentValueError("idempotency_key must not be empty")
    return check_credential(key, "idempotency_key") or key


def check_credential(value: str | None, name: str) -> str | None:
    """
    Return what goes into a header, if a header can hold it.

    Raises:
        ArgumentTypeError: It is no text.
        ArgumentValueError: It has characters that no header can hold, such as an ellipsis.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{name} must be text")
    if not (value.isascii() and value.isprintable()):
        raise ArgumentValueError(f"{name} has characters that cannot be sent")
    return value
