"""The client's connection to one ailoop server: its addresses, its requests, what it can do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from buttdial_sync.ailoop.errors import (
    AiloopConfigError,
    AiloopError,
    AiloopOutcomeUnknownError,
    AiloopProtocolError,
    MessageNotFoundError,
    ValidationError,
    ailoop_error,
)
from buttdial_sync.ailoop.messages import ResponseType, is_channel_name, new_message
from buttdial_sync.ailoop.server import Health, PendingList, ServerInfo
from buttdial_sync.errors import ButtDialError, ProtocolError
from buttdial_sync.errors.scrubbing import Secret, scrub_error
from buttdial_sync.models.converter import structure
from buttdial_sync.transport.client_connection import ConnectionOptions
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.network import address_of, is_private
from buttdial_sync.transport.rest_connection import RestConnection

T = TypeVar("T")

PENDING = "/api/v1/pending"
# A message, as events name the request.
_MESSAGE = "/api/v1/messages/{id}"
# The server never stores what is sent to a reserved channel, so asking there has no effect.
_NEVER_STORED = "admin"
_WITHOUT_DECISION_API = frozenset({400, 405})
# Published in May 2026 with the decision API, and with the old server's answers to bad requests.
_DECISION_API_WITH_OLD_ANSWERS = ("1.0.1", "1.0.2", "1.0.3")
_WS_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_HTTP_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class AiloopConnection(RestConnection):
    """
    Makes the requests of one client. Safe to share between threads and across forks.

    Args:
        server_url: The server, as http(s) or ws(s), with its base path if it has one.
        channel: The channel of calls that name none.
        token: The token, or None: servers started from the command line have none.
        insecure_hosts: Hosts to which the token may go unencrypted.
        options: See :class:`.ConnectionOptions`.

    Raises:
        AiloopConfigError: An argument is missing or wrong.
    """

    unknown_error = AiloopOutcomeUnknownError

    def __init__(
        self,
        server_url: str | None,
        channel: str,
        token: str | None,
        insecure_hosts: Collection[str],
        options: ConnectionOptions,
    ) -> None:
        scheme, rest = _split(server_url)
        self.websocket_url = f"{_WS_SCHEMES[scheme]}://{rest}/"
        self.channel = checked_channel(channel)
        own_token = None if token is None else Secret(_checked_token(token))
        if own_token is not None and not is_private(self.websocket_url, insecure_hosts):
            raise AiloopConfigError(
                "the token would travel unencrypted, and everybody on the way could read it",
                remediation="Use https:// or wss://, or name the host in insecure_hosts.",
            )
        super().__init__(f"{_HTTP_SCHEMES[scheme]}://{rest}", own_token, options)
        self._known: ServerInfo | None = None

    def own_error(self, error: ButtDialError) -> AiloopError:
        """Return the error of this client for one of the layers below."""
        failure = _explained(ailoop_error(error))
        scrub_error(failure, (self.token,))
        return failure

    def channel_or_own(self, channel: str | None) -> str:
        """
        Return the channel of a call.

        Raises:
            AiloopConfigError: The server would refuse the name, or drop the message silently.
        """
        return self.channel if channel is None else checked_channel(channel)

    def call(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        deadline: Deadline | None = None,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> T:
        """
        Make a request and read its answer; only a GET is tried again.

        Args:
            method: The HTTP method.
            path: The path, its parts quoted.
            kind: The class of the answer.
            deadline: Over all attempts; the client's own when None.
            query: Goes into the URL.
            body: Goes into the body as JSON.
            endpoint: The path's template, for events and messages.

        Raises:
            AiloopOutcomeUnknownError: It may have been carried out; its answer was lost.
            AiloopError: The server refused it, or could not be reached.
        """
        limit = self.deadline() if deadline is None else deadline
        answer = self.request(method, path, limit, query=query, body=body, endpoint=endpoint)
        try:
            return structure(answer, kind, source=f"{method} {endpoint or path}")
        except ProtocolError as error:
            raise self.own_error(error) from None

    def message(self, message_id: str, deadline: Deadline | None = None) -> dict[str, Any]:
        """
        Return a message as it came.

        Raises:
            MessageNotFoundError: The server has none with this id: it was restarted, perhaps.
            AiloopError: The server could not be reached, or refused the request.
        """
        path = f"/api/v1/messages/{quote(message_id, safe='')}"
        return self.call("GET", path, dict, deadline=deadline, endpoint=_MESSAGE)

    def respond(
        self,
        message_id: str,
        answer: str | None,
        response_type: ResponseType,
        deadline: Deadline | None = None,
    ) -> dict[str, Any]:
        """
        Answer a prompt, and return the response as it came.

        Raises:
            MessageNotFoundError: The server has no such message.
            AiloopError: The server could not be reached, or refused the request.
        """
        return self.call(
            "POST",
            f"/api/v1/messages/{quote(message_id, safe='')}/response",
            dict,
            deadline=deadline,
            body={"answer": answer, "response_type": response_type},
            endpoint=f"{_MESSAGE}/response",
        )

    def history(self, channel: str, limit: int, deadline: Deadline) -> list[dict[str, Any]]:
        """
        Return the last messages of a channel as they came, the oldest first.

        Raises:
            AiloopProtocolError: The answer has no list of them.
            AiloopError: The server could not be reached, or refused the request.
        """
        answer = self.call(
            "GET",
            f"/api/channels/{channel}/messages",
            dict,
            deadline=deadline,
            query={"limit": str(limit)},
            endpoint="/api/channels/{channel}/messages",
        )
        messages = answer.get("messages")
        if not isinstance(messages, list):
            raise AiloopProtocolError("the history has no list of messages", outcome="sent")
        return [each for each in messages if isinstance(each, dict)]

    def info(self, deadline: Deadline | None = None) -> ServerInfo:
        """Find out what the server is, each time anew, without an effect on it."""
        limit = self.deadline() if deadline is None else deadline
        health = self.call("GET", "/api/v1/health", Health, deadline=limit)
        supports_pending = self._has_pending(limit)
        decides = supports_pending or self._knows_decisions(health.version, limit)
        self._known = ServerInfo(
            version=health.version,
            api="decision" if decides else "question",
            supports_pending=supports_pending,
            supports_free_text=not decides,
            queue_size=health.queue_size,
            active_connections=health.active_connections,
            active_channels=health.active_channels,
        )
        return self._known

    def known_info(self, deadline: Deadline) -> ServerInfo:
        """Return what is remembered about the server; find it out if nothing is."""
        return self._known or self.info(deadline)

    def forget_info(self) -> None:
        """Find out anew before the next prompt: the server was restarted, perhaps as another."""
        self._known = None

    def _has_pending(self, deadline: Deadline) -> bool:
        try:
            self.call("GET", PENDING, PendingList, deadline=deadline)
        except MessageNotFoundError:
            return False
        return True

    def _knows_decisions(self, version: str, deadline: Deadline) -> bool:
        question = {"type": "question", "text": "", "timeout_seconds": 1}
        probe = new_message("00000000-0000-4000-8000-000000000000", _NEVER_STORED, question)
        try:
            self.call("POST", "/api/v1/messages", dict, deadline=deadline, body=probe)
        except ValidationError as error:
            if error.status_code in _WITHOUT_DECISION_API:
                return version.startswith(_DECISION_API_WITH_OLD_ANSWERS)
            if "unknown variant" in error.message:
                return True
            raise
        raise AiloopProtocolError(
            "the server takes messages for a reserved channel", outcome="sent"
        )


def checked_channel(channel: str) -> str:
    """
    Return a channel's name if the server accepts it.

    Raises:
        AiloopConfigError: It does not, or would drop the message silently.
    """
    if not is_channel_name(channel):
        raise AiloopConfigError(
            f"{channel!r} cannot be a channel: 1 to 64 letters, digits, - and _, the first of them "
            "a letter or a digit, and not system, admin, internal, reserved or ailoop"
        )
    return channel


def _explained(error: AiloopError) -> AiloopError:
    # The server up to 1.0.3 answers every bad body, channel or dependency like this.
    if error.status_code == 405:
        return error.as_kind(
            ValidationError,
            "the server refused the request (HTTP 405, which old versions say for bad values)",
            outcome="rejected",
        )
    if error.status_code in {400, 413, 415, 422}:
        return error.as_kind(type(error), outcome="rejected")
    return error


def _checked_token(token: str) -> str:
    if not isinstance(token, str):
        raise AiloopConfigError("token must be text")
    if not token.strip():
        raise AiloopConfigError("token is empty: leave it out for a server without tokens")
    return token.strip()


def _split(server_url: str | None) -> tuple[str, str]:
    if not server_url:
        raise AiloopConfigError(
            "no server_url", remediation="Give server_url, or set AILOOP_SERVER."
        )
    parts = address_of(server_url, _WS_SCHEMES)
    if parts is None or parts.query or parts.fragment or parts.username is not None:
        raise AiloopConfigError(
            "server_url must be a plain address that begins with http://, https://, ws:// or "
            "wss://",
            remediation="Give the token as token, and nothing after the base path.",
        )
    return parts.scheme, f"{parts.netloc}{parts.path}".rstrip("/")
