"""One run of an operation: its attempts and their outcome."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar

from buttdial_sync.connection import Connection
from buttdial_sync.errors import (
    ButtDialError,
    ClientClosedError,
    OutcomeUnknownError,
)
from buttdial_sync.errors.scrubbing import scrub_error, secrets_in
from buttdial_sync.models.converter import structure
from buttdial_sync.transport.deadline import Deadline

logger = logging.getLogger("buttdial_sync")

T = TypeVar("T")


class Call(ABC):
    """
    One run of an operation. It is used once, by one thread.

    Args:
        connection: The client's.
        operation: The operation's name, for events and messages.
        deadline: Over all attempts and the pauses between them.
        reads_only: It changes nothing, so an unknown outcome is repeated.
        credential: What the server checks; None where it needs none.
        arguments: What is sent. No secret that stands in it is in an error.

    Attributes:
        attempts: How many were begun.
    """

    def __init__(
        self,
        connection: Connection,
        operation: str,
        deadline: Deadline,
        *,
        reads_only: bool,
        credential: str | None = None,
        arguments: Mapping[str, Any],
    ) -> None:
        self.connection = connection
        self.operation = operation
        self.deadline = deadline
        self.reads_only = reads_only
        self.attempts = 0
        self._credential = credential
        self._arguments = arguments
        self._may_have_been_carried_out = False

    def run(self) -> Any:
        """
        Make attempts until one succeeds, or must not be followed by another.

        Returns:
            The decoded answer.

        Raises:
            ClientClosedError: The client is closed.
            ButtDialError: The last attempt's. Once an attempt's outcome was unknown, it stays so:
                a later refusal does not prove that the earlier attempt did nothing.
        """
        self.connection.check_open()
        if self._credential:
            self.connection.logins.breaker.check(self._credential)
        attempt = self._told_attempt if self.connection.events.has_listener else self._attempt
        while True:
            self.attempts += 1
            try:
                return attempt()
            except ButtDialError as error:
                self._scrub(error)
                pause = self._pause_after(error)
                if pause is None:
                    if isinstance(error, ClientClosedError) and error.outcome == "unknown":
                        raise self._closed(error.message) from None
                    raise
                self._tell_retry(error, pause)
            self.connection.sleep(pause)
            if self.connection.closed:  # close() ends the pause
                raise self._closed("the client is closed")

    def answer(self) -> Any:
        """
        Return the decoded answer, or raise an unknown outcome under its own class.

        Raises:
            OutcomeUnknownError: It may have been carried out.
            ButtDialError: Anything else.
        """
        try:
            return self.run()
        except (OutcomeUnknownError, ClientClosedError):
            raise
        except ButtDialError as error:
            if error.outcome != "unknown" or self.reads_only:
                raise
            raise error.as_kind(
                OutcomeUnknownError,
                f"{self.operation} may have been carried out: {error.message}",
                remediation=error.advice_if_unknown(self.remedy_for_unknown),
            ) from error

    def result(self, kind: type[T]) -> T:
        """
        Return the answer as an object.

        Args:
            kind: Its class.

        Raises:
            OutcomeUnknownError: It may have been carried out.
            ButtDialError: Anything else.
        """
        answer = self.answer()
        try:
            return structure({} if answer is None else answer, kind, source=self.operation)
        except ButtDialError as error:
            self._scrub(error)
            failure = error.as_kind(type(error))
        # Without the frames that looked at the answer: a new token may stand in it.
        del answer
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame, and so the whole client

    @property
    def remedy_for_unknown(self) -> str | None:
        """The advice for an unknown outcome."""
        return OutcomeUnknownError.remedy

    @abstractmethod
    def _attempt(self) -> Any:
        """Make one attempt, and return its decoded answer."""

    def _server_honours_key(self) -> bool:
        """Whether the server carries out a repetition only once."""
        return False

    def _scrub(self, error: ButtDialError) -> None:
        """Remove from an error what the server repeats of our secrets."""
        try:
            secrets = [self._credential, *secrets_in(self._arguments)]
        except RecursionError:  # the arguments contain themselves, and were not sent
            secrets = [self._credential]
        scrub_error(error, secrets)

    def _pause_after(self, error: ButtDialError) -> float | None:
        """Return the seconds until the next attempt; None if there must not be one."""
        if error.outcome == "unknown":
            self._may_have_been_carried_out = True
        if self._may_have_been_carried_out:
            error.outcome = "unknown"
        pause = self.connection.retries.pause_after(error, self.attempts)
        if self._may_have_been_carried_out:
            error.retryable = None  # the server said it of this attempt, not of the earlier one
        if pause is None or self.connection.closed or not self.deadline.remaining():
            return None
        if error.outcome == "unknown" and not (self.reads_only or self._server_honours_key()):
            return None
        return pause if pause < self.deadline.remaining() else None

    def _closed(self, message: str) -> ClientClosedError:
        """Return the error of a call that close() has ended."""
        if not self._may_have_been_carried_out:
            return ClientClosedError(message)
        return ClientClosedError(
            f"{self.operation} may have been carried out: {message}",
            outcome="unknown",
            remediation=self.remedy_for_unknown,
        )

    def _told_attempt(self) -> Any:
        """Make one attempt, and tell the host of its beginning and its end."""
        connection = self.connection
        with connection.events.attempt(self.operation, self.attempts, connection.clock):
            return self._attempt()

    def _tell_retry(self, error: ButtDialError, pause: float) -> None:
        logger.info(
            "%s: attempt %d failed (%s); next in %.2f s",
            self.operation,
            self.attempts,
            error.message,  # a handler may keep the record, and with the error all its frames
            pause,
        )
        self.connection.events.tell(self.operation, "retry", self.attempts, pause, error)
