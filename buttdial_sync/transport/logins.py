"""What a client needs to use tokens: the breaker of the server's address, and a harmless login."""

from __future__ import annotations

import time

from buttdial_sync.errors import AuthError, ButtDialError
from buttdial_sync.errors.scrubbing import Secret
from buttdial_sync.transport.deadline import Clock, Deadline
from buttdial_sync.transport.http import Http, origin_of, refusal
from buttdial_sync.transport.token_breaker import TokenBreaker

# Both servers have it, it changes nothing, and it looks at the token first.
_HARMLESS_PATH = "/api/v1/channel-status"
_TOKEN_WAS_GOOD = frozenset({200, 400, 403})
_LONGEST_LOGIN = 5.0


class Logins:
    """
    The logins of one client. Safe to share between threads.

    Args:
        http: Sends the requests.
        base_url: The server.
        clock: A monotonic clock, in seconds.

    Attributes:
        breaker: What all clients of this process know about the server's tokens.
    """

    def __init__(self, http: Http, base_url: str, clock: Clock = time.monotonic) -> None:
        self._http = http
        self._url = f"{base_url}{_HARMLESS_PATH}"
        self.breaker = TokenBreaker.of(origin_of(base_url), clock)

    def log_in(self, token: str, deadline: Deadline) -> None:
        """Log in with a good token, so that the server counts failed logins from 0 again."""
        headers = {"Accept": "application/json", "Authorization": Secret(f"Bearer {token}")}
        request = self._http.prepare("GET", self._url, headers=headers)
        generation = self.breaker.generation
        try:
            response, _ = self._http.send(request, deadline.within(_LONGEST_LOGIN))
        except ButtDialError:
            return  # it says nothing about the token
        if response.status_code in _TOKEN_WAS_GOOD:
            self.breaker.learn(token, None)
            return
        error = refusal(response, "rest", token)
        if isinstance(error, AuthError):
            self.breaker.learn(token, error, generation)
