"""REST calls."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import requests

from buttdial_sync.errors import ProtocolError
from buttdial_sync.errors.scrubbing import Secret
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.http import Http, decoded, json_bytes, refusal
from buttdial_sync.transport.logins import Logins

logger = logging.getLogger("buttdial_sync.http")

_announced: set[tuple[str, str]] = set()


class Rest:
    """
    Makes REST calls at one server. Safe to share between threads.

    Args:
        http: Sends the requests.
        base_url: The server.
        logins: Says which tokens may be used, and learns from the answers; None for a server that
            locks nobody out.
    """

    def __init__(self, http: Http, base_url: str, logins: Logins | None = None) -> None:
        self._http = http
        self._base_url = base_url
        self._logins = logins

    def call(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        credential: str | None = None,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        endpoint: str | None = None,
    ) -> Any:
        """
        Make one attempt at a call.

        Args:
            method: The HTTP method.
            path: The path, its parts quoted.
            deadline: Until when.
            credential: Goes into ``Authorization: Bearer``.
            query: Goes into the URL.
            body: Goes into the body as JSON.
            headers: More headers.
            endpoint: The path's template, for the log.

        Returns:
            The decoded JSON; None for an empty answer.

        Raises:
            ButtDialError: Anything but a success.
        """
        url = f"{self._base_url}{path}"
        sent_headers = {"Accept": "application/json", **(headers or {})}
        if credential:
            sent_headers["Authorization"] = Secret(f"Bearer {credential}")
        content = None
        if body is not None:
            sent_headers["Content-Type"] = "application/json"
            content = json_bytes(body)
        request = self._http.prepare(method, url, headers=sent_headers, query=query, body=content)
        logins = self._logins
        with (
            logins.breaker.login(
                credential, deadline, logins.log_in, is_cancelled=lambda: self._http.closed
            )
            if credential and logins is not None
            else nullcontext()
        ):
            response, _ = self._http.send(request, deadline)
            _announce_sunset(method, endpoint or path, response)
            if response.status_code >= 300:
                try:
                    raise refusal(response, "rest", credential)
                finally:
                    del response  # its headers may repeat the token
        return _answer(response, f"{method} {endpoint or path}")


def _answer(response: requests.Response, source: str) -> Any:
    if not response.content.strip():
        return None
    # A success may hold a fresh credential, so nothing is scrubbed here.
    answer = decoded(response.content)
    if isinstance(answer, str) and not response.content.lstrip().startswith(b'"'):
        raise ProtocolError(
            f"{source} answered HTTP {response.status_code} with a body that is not JSON",
            outcome="unknown",
            status_code=response.status_code,
        )
    return answer


def _announce_sunset(method: str, endpoint: str, response: requests.Response) -> None:
    """Log once per endpoint and process that the server will remove it (RFC 8594)."""
    if not response.headers.get("deprecation") or (method, endpoint) in _announced:
        return
    _announced.add((method, endpoint))
    sunset = response.headers.get("sunset")
    logger.warning(
        "the server deprecates %s %s%s", method, endpoint, f"; it ends {sunset}" if sunset else ""
    )
