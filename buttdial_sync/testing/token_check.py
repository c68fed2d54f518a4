"""The token check: good and revoked tokens, failed logins and the lockout."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from buttdial_sync.testing.dialects import Dialect
from buttdial_sync.testing.http_messages import HttpResponse, json_response

ALLOWED_FAILURES = 10
LOCKOUT = timedelta(minutes=15)
MISSING_HEADER = "Missing Authorization header. Use: Bearer <token>"


class TokenCheck:
    """
    Checks tokens and counts failed logins, as both servers do for each IP address.

    There is one counter for streams, POSTs and REST. On the open-source server a missing token
    counts as a wrong one, and a good login resets the counter; on the hosted service
    neither is known, so a missing token is refused without being counted.

    Attributes:
        failed_logins: How many were counted in all.
        lockouts: How often they locked the address out.
        resets_after_login: Whether a good login resets the counter.
    """

    def __init__(
        self, dialect: Dialect, tokens: Iterable[str] | None, clock: Callable[[], datetime]
    ) -> None:
        self._dialect = dialect
        self._tokens = None if tokens is None else set(tokens)
        self._ending: dict[str, datetime] = {}
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._locked_until: datetime | None = None
        self.failed_logins = self.lockouts = 0
        self.resets_after_login = not dialect.hosted

    def allow(self, token: str) -> None:
        """Make a token good."""
        with self._lock:
            self._ending.pop(token, None)
            if self._tokens is not None:
                self._tokens.add(token)

    def revoke(self, token: str, after: timedelta = timedelta(0)) -> None:
        """Make a token that was good a revoked one, after some time."""
        with self._lock:
            self._ending[token] = self._clock() + after

    def clear(self) -> None:
        """Forget the failed logins; tokens stay as they are."""
        with self._lock:
            self._failures, self._locked_until = 0, None
            self.failed_logins = self.lockouts = 0

    def refuse(self, token: str | None, *, missing: str = MISSING_HEADER) -> HttpResponse | None:
        """
        Check a token.

        Args:
            token: The token, or None when there is none.
            missing: What the open-source server says when there is none.

        Returns:
            The refusal, or None when the token is good.
        """
        with self._lock:
            if self._locked_until is not None:
                if self._clock() < self._locked_until:
                    return self._locked_out(self._locked_until)
                self._failures, self._locked_until = 0, None
            if not token:
                return self._missing(missing)
            end = self._ending.get(token)
            revoked = end is not None and self._clock() >= end
            if not revoked and (self._tokens is None or token in self._tokens):
                if self.resets_after_login:
                    self._failures = 0
                return None
            return self._wrong(revoked=revoked)

    def _count(self) -> None:
        self.failed_logins += 1
        self._failures += 1
        if self._failures >= ALLOWED_FAILURES:
            self._locked_until = self._clock() + LOCKOUT
            self.lockouts += 1

    def _missing(self, text: str) -> HttpResponse:
        if not self._dialect.hosted:
            self._count()
            return json_response(401, {"error": text})
        return self._unauthorized("AUTH_MISSING_HEADER", "Missing Authorization header")

    def _wrong(self, *, revoked: bool) -> HttpResponse:
        self._count()
        if not self._dialect.hosted:
            return json_response(401, {"error": "Invalid or revoked token"})
        if revoked:
            return self._unauthorized("AUTH_TOKEN_REVOKED", "Token has been revoked")
        return self._unauthorized("AUTH_INVALID_TOKEN", "Invalid token")

    def _unauthorized(self, code: str, error: str) -> HttpResponse:
        remaining = max(0, ALLOWED_FAILURES - self._failures)
        body = {"error": error, "code": code, "retryable": False, "remainingAttempts": remaining}
        return json_response(401, body)

    def _locked_out(self, until: datetime) -> HttpResponse:
        if not self._dialect.hosted:
            return json_response(429, {"error": "Too many failed attempts. Try again later."})
        seconds = math.ceil((until - self._clock()).total_seconds())
        body = {
            "error": "Too many failed attempts",
            "code": "AUTH_LOCKED_OUT",
            "retryable": False,
            "retryAfterSeconds": seconds,
            "lockedUntil": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return json_response(429, body, {"Retry-After": str(seconds)})
