"""Calling a REST endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from buttdial_sync.calls.arguments import json_value, to_wire
from buttdial_sync.calls.call import Call
from buttdial_sync.calls.operation import Endpoint, Variant, check_answer, fill_path
from buttdial_sync.calls.schema import dropped_keys
from buttdial_sync.calls.tool_call import AgentContext
from buttdial_sync.connection import Connection
from buttdial_sync.errors import (
    ArgumentNotSupported,
    ButtDialError,
    ConfigError,
    EndpointNotAvailable,
    InvalidRequestError,
    OutcomeUnknownError,
)
from buttdial_sync.errors.scrubbing import is_secret
from buttdial_sync.transport.secrets import scrub_urls_in_logs


@attrs.frozen(kw_only=True)
class RequestSigner:
    """
    Makes the headers of a signed request, new ones for each attempt.

    Attributes:
        wall_clock: Unix seconds.
        make_nonce: Makes 32 hex digits.
    """

    wall_clock: Callable[[], float]
    make_nonce: Callable[[], str]

    def headers(self) -> dict[str, str]:
        """Return the timestamp and a fresh nonce."""
        return {
            "X-Request-Timestamp": str(int(self.wall_clock())),
            "X-Request-Nonce": self.make_nonce(),
        }


class EndpointCall(Call):
    """
    A call of a REST endpoint.

    Args:
        connection: The client's.
        endpoint: The endpoint.
        arguments: By their names in Python; those that are None are left out.
        credential: Goes into ``Authorization: Bearer``, if any.
        extra: Goes into the body as given.
        idempotency_key: One for all attempts, where the endpoint takes one.
        signer: Signs each attempt, where the endpoint wants that.
        agent: The agent that calls, where it is an agent's endpoint.
        timeout: In seconds, over everything.

    Raises:
        ConfigError: An argument would be readable on its way, or no path or JSON can hold it.
    """

    def __init__(
        self,
        connection: Connection,
        endpoint: Endpoint[Any],
        arguments: Mapping[str, Any],
        *,
        credential: str | None,
        extra: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        signer: RequestSigner | None = None,
        agent: AgentContext | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(
            connection,
            endpoint.name,
            connection.deadline(timeout),
            reads_only=endpoint.reads_only,
            credential=credential,
            arguments={**arguments, **(extra or {})},
        )
        self._endpoint = endpoint
        self._given = {key: value for key, value in arguments.items() if value is not None}
        self._key = idempotency_key if endpoint.takes_key else None
        self._signer = signer if endpoint.is_signed else None
        # None if the server could not be told which agent this is.
        can_be_named = agent is not None and agent.id_with(credential) is not None
        self._agent = agent if can_be_named else None
        self._keep_private()
        fill_path(endpoint.path, self._given)  # refuses a bad value before the first attempt
        self._query = {
            name: value if isinstance(value, str) else str(value)
            for name, value in self._given.items()
            if name in endpoint.query
        }
        self._body = self._json_body(extra or {})

    @property
    def remedy_for_unknown(self) -> str | None:
        """The advice for an unknown outcome: if there is a key, call again with it."""
        if self._key is None:
            return OutcomeUnknownError.remedy
        return f"Call again with idempotency_key={self._key!r}: it is done only once."

    def _attempt(self) -> Any:
        """
        Make one attempt.

        The two kinds of server write a few endpoints differently. Only an answer shows which
        one this is: a page instead of JSON for an unknown path, or a 400 that misses the key which
        only the other way of writing has. Both say that nothing was carried out, so the other way
        is tried at once. The result is remembered.
        """
        agent = self._agent
        was_told = agent is not None and agent.must_send_agent_id
        try:
            answer = self._send_either_way()
        except InvalidRequestError as refusal:
            if agent is None or was_told or not _is_for_lack_of_agent_id(refusal):
                raise
            # Refused, so nothing was carried out: naming the agent is the same attempt.
            agent.must_send_agent_id = True
            answer = self._send_either_way()
        check_answer(answer, self._endpoint.check)
        return answer

    def _send_either_way(self) -> Any:
        ways = self._endpoint.variants
        known = self.connection.variants.get(self._endpoint.path, 0)
        try:
            return self._send(ways[known])
        except ButtDialError as error:
            if not _asks_for_the_other_way(error, self._endpoint, ways[known]):
                raise
        answer = self._send(ways[1 - known])
        self.connection.variants[self._endpoint.path] = 1 - known
        return answer

    def _named_agent(self) -> dict[str, Any]:
        """The agent's id, where the server does not know it from the token."""
        agent = self._agent
        if agent is None:
            return {}
        is_needed = agent.must_send_agent_id or self._endpoint.always_names_agent
        return {"agentId": agent.agent_id} if is_needed else {}

    def _server_honours_key(self) -> bool:
        return self._key is not None

    def _send(self, variant: Variant) -> Any:
        endpoint = self._endpoint
        body, query = self._body_for(variant), self._query
        if body is None:
            query = {**query, **self._named_agent()}
        else:
            body = {**body, **self._named_agent()}
        headers = self._signer.headers() if self._signer else {}
        if self._key is not None:
            headers["Idempotency-Key"] = self._key
        try:
            return self.connection.rest.call(
                endpoint.method,
                fill_path(variant.path, self._given),
                self.deadline,
                credential=self._credential,
                query=query,
                body=body,
                headers=headers,
                endpoint=variant.path,
            )
        except EndpointNotAvailable as error:
            error.args = (f"this server has no {endpoint.method} {variant.path}",)
            raise

    def _body_for(self, variant: Variant) -> dict[str, Any] | None:
        """
        Return the body in the words of one kind of server.

        Raises:
            ArgumentNotSupported: It would drop a key silently.
        """
        if self._body is None:
            return None
        body = {variant.names.get(key, key): value for key, value in self._body.items()}
        if not variant.schema:
            return body
        dropped = {*dropped_keys(variant.schema, body)}
        spared = {key for key, value in self._endpoint.defaults.items() if body.get(key) == value}
        if dropped - spared:
            raise ArgumentNotSupported(
                f"{self._endpoint.method} {variant.path} on this server does not know "
                f"{', '.join(sorted(dropped - spared))}",
                remediation="Leave it out: this server would drop it silently.",
            )
        return {key: value for key, value in body.items() if key not in dropped}

    def _json_body(self, extra: Mapping[str, Any]) -> dict[str, Any] | None:
        endpoint = self._endpoint
        inside = {name: value for name, value in self._given.items() if endpoint.is_in_body(name)}
        body = to_wire(inside, endpoint.key_of)
        body.update({name: json_value(value, name) for name, value in extra.items()})
        return body if body or endpoint.method in {"POST", "PATCH"} else None

    def _keep_private(self) -> None:
        """Refuse to send a secret in a URL that anybody on the way can read."""
        secrets = [name for name in self._endpoint.query if is_secret(name)]
        if not secrets:
            return
        scrub_urls_in_logs()
        if not self.connection.http.is_private_way(self.connection.base_url):
            raise ConfigError(
                f"{self.operation} would send {', '.join(secrets)} in a URL that others can read",
                remediation="Use https, or a server on this machine without a proxy.",
            )


def _is_for_lack_of_agent_id(refusal: InvalidRequestError) -> bool:
    return refusal.code == "AGENT_ID_REQUIRED" and refusal.outcome == "rejected"


def _asks_for_the_other_way(error: ButtDialError, endpoint: Endpoint[Any], tried: Variant) -> bool:
    if error.outcome == "unknown":
        return False
    if isinstance(error, EndpointNotAvailable):
        return endpoint.open_source_path is not None
    names = endpoint.open_source_names
    others = names.keys() if tried.names else names.values()
    return error.status_code == 400 and any(name in error.message for name in others)
