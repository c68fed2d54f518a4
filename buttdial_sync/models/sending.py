"""The result of sending a message."""

from __future__ import annotations

from typing import Any, NoReturn

import attrs

from buttdial_sync.errors import (
    ButtDialError,
    ChannelError,
    Cure,
    Outcome,
    OutcomeUnknownError,
    Stage,
)


@attrs.frozen(kw_only=True)
class SendResult:
    """
    The result of a message. Exactly one of :attr:`ok`, :attr:`failed`, :attr:`unknown` is true.

    Of a failed one exactly one of :attr:`retryable`, :attr:`permanent`, :attr:`needs_operator` is.

    A yes or no cannot express three states: ``if result:`` and ``bool(result)`` raise `TypeError`.

    Attributes:
        outcome: ``"sent"`` (the server took it), ``"rejected"`` (the server said no),
            ``"not_sent"`` (the server never had it) or ``"unknown"`` (it may have been sent).
        message_sid: The server's id of the message; deliveries and failures are reported under it.
        error: The error in words, or None.
        error_type: Name of the exception class, such as ``"RateLimitError"``, or None.
        error_code: The server's code, or None.
        error_channel: The channel that it happened on, where the server says so.
        stage_failed: ``"config"``, ``"transport"``, ``"session"``, ``"tool_call"``, ``"parse"``,
            ``"server"``, or None.
        remediation: What to do about it: the server's own advice, else ours, or None.
        retry_after: In how many seconds to try again, where the server says so.
        idempotency_key: The key that the message went out with. Sending again with the same key is
            safe on a server that honours it.
        attempts: How often it was tried; 0 if nothing was asked, as with a token that the server
            refused before.
        queued: An :class:`~buttdial_sync.Outbox` keeps the message, and a
            :class:`~buttdial_sync.RetryLoop` goes on with it: do not send it again yourself.
        exception: The error as an exception, without traceback, cause and context; or None.
        raw: The server's answer, decoded, or None.
    """

    outcome: Outcome
    message_sid: str | None = None
    error: str | None = None
    error_type: str | None = None
    error_code: str | None = None
    error_channel: str | None = None
    stage_failed: Stage | None = None
    remediation: str | None = None
    retry_after: float | None = None
    idempotency_key: str | None = None
    attempts: int = 0
    queued: bool = False
    exception: ButtDialError | None = attrs.field(default=None, eq=False, repr=False)
    raw: Any = attrs.field(default=None, eq=False, repr=False)

    @classmethod
    def of(
        cls, error: ButtDialError, *, idempotency_key: str | None = None, attempts: int = 0
    ) -> SendResult:
        """
        Return the result of a message that was not sent, or may have been.

        Args:
            error: Why.
            idempotency_key: The key that the message went out with.
            attempts: How often it was tried.
        """
        remediation = error.remediation
        if error.outcome == "unknown":
            remediation = error.advice_if_unknown(OutcomeUnknownError.remedy)
        return cls(
            outcome=error.outcome,
            error=error.message,
            error_type=type(error).__name__,
            error_code=error.code,
            error_channel=error.channel if isinstance(error, ChannelError) else None,
            stage_failed=error.stage,
            remediation=remediation,
            retry_after=error.retry_after,
            idempotency_key=idempotency_key,
            attempts=attempts,
            exception=error.as_kind(type(error), remediation=remediation),
            raw=error.body,
        )

    def __bool__(self) -> NoReturn:
        raise TypeError("a SendResult is not a yes or no: ask for its ok, failed or unknown")

    @property
    def ok(self) -> bool:
        """The server took the message. Its delivery is reported later, as a receipt."""
        return self.outcome == "sent"

    @property
    def failed(self) -> bool:
        """The message was not sent, for certain."""
        return self.outcome in {"rejected", "not_sent"}

    @property
    def retryable(self) -> bool:
        """
        The same message may be sent again later, after :attr:`retry_after` if it is set.

        The server was not reached, was limiting or failed: it ends by itself.
        """
        return self.failed and self._cured_by == "time"

    @property
    def permanent(self) -> bool:
        """This content can never be sent to this recipient. Other messages are not concerned."""
        return self.failed and self._cured_by == "nothing"

    @property
    def needs_operator(self) -> bool:
        """
        Somebody has to act first, mostly as :attr:`remediation` says.

        A credential, a setting, a channel, the agent or a quota is the cause. Other messages of
        this agent meet it too.
        """
        return self.failed and self._cured_by == "operator"

    @property
    def _cured_by(self) -> Cure:
        if self.exception is not None:
            return self.exception.cured_by
        return "time" if self.outcome == "not_sent" else "operator"

    @property
    def unknown(self) -> bool:
        """The message may have been sent; its answer was lost. Sending again could send twice."""
        return self.outcome == "unknown"

    def raise_for_outcome(self) -> SendResult:
        """
        Return this result if the message was sent.

        Raises:
            OutcomeUnknownError: It may have been sent.
            ButtDialError: It was not sent; the class is that of :attr:`error_type`.
        """
        if self.ok:
            return self
        told = self.exception or ButtDialError(
            self.error or "the message was not sent",
            code=self.error_code,
            stage=self.stage_failed,
            outcome=self.outcome,
            remediation=self.remediation,
            retry_after=self.retry_after,
        )
        if self.unknown and not isinstance(told, OutcomeUnknownError):
            raise told.as_kind(
                OutcomeUnknownError, f"the message may have been sent: {told.message}"
            )
        raise told.as_kind(type(told))  # a copy: a raised error gets a traceback
