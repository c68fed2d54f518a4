"""The report of a pass over the due messages."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Literal, get_args

import attrs

from buttdial_sync.errors import Outcome
from buttdial_sync.stores.figures import Figures

logger = logging.getLogger("buttdial_sync.retry")

Step = Literal["delivered", "retried", "dead", "postponed", "taken", "errors"]
STEPS: tuple[Step, ...] = get_args(Step)
"""The steps; each is also the name of its count in a :class:`RetryReport`."""


@attrs.frozen(kw_only=True)
class RetryReport:
    """
    The counts of a pass over the due messages.

    Attributes:
        fetched: How many were due and leased.
        delivered: The server took them.
        retried: They failed, and are due again later.
        dead: They were given up.
        postponed: They were put back without an attempt that counts: a rate limit, a lockout, a
            token that is missing or wrong, a stop.
        taken: Another process had begun an attempt meanwhile.
        errors: How often the repository or a hook failed; ``last_error`` and the log say which. A
            hook that fails is counted in addition to the result of the message.
        paused_until: When the server's last limit or lockout ends (aware), or None.
        last_error: The last error, or None. The error of a refused token is kept in preference to
            others.
        remediation: Advice for a person if the server refused a token, or None.
    """

    fetched: int = 0
    delivered: int = 0
    retried: int = 0
    dead: int = 0
    postponed: int = 0
    taken: int = 0
    errors: int = 0
    paused_until: datetime | None = None
    last_error: str | None = None
    remediation: str | None = None

    @property
    def processed(self) -> int:
        """How many have a recorded end, that is delivered, retried, dead or postponed."""
        return self.delivered + self.retried + self.dead + self.postponed

    @property
    def outcome(self) -> Outcome:
        """``"sent"`` if nothing failed, ``"rejected"`` if a person has to act, ``"not_sent"``."""
        if self.dead or self.remediation is not None:
            return "rejected"
        return "not_sent" if self.errors or self.retried or self.postponed else "sent"


@attrs.frozen(kw_only=True)
class OutboxEvent:
    """
    What ``on_event`` of a loop gets. It does not hold tokens, recipients or texts of messages.

    Attributes:
        kind: ``"figures"``.
        figures: How the outbox is; errors of servers are in it.
    """

    kind: Literal["figures"]
    figures: Figures


@attrs.frozen(kw_only=True)
class Recorded:
    """
    The result of one message in one pass, as its row has it.

    Attributes:
        step: The result; ``"errors"`` if the repository failed.
        error: The reason.
        remediation: Advice for a person if a token was refused.
        hook_error: The hook that failed meanwhile, and how.
    """

    step: Step
    error: str | None = None
    remediation: str | None = None
    hook_error: str | None = None


class Tally:
    """
    A report in the making. Safe to share between threads.

    Args:
        progress: Gets the report after each message, one call at a time.

    Attributes:
        unsettled_in_a_row: How many messages in a row have no recorded end.
    """

    def __init__(self, progress: Callable[[RetryReport], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._progress = progress
        self._counts: dict[str, int] = dict.fromkeys(("fetched", *STEPS), 0)
        self._last_error: str | None = None
        self._remediation: str | None = None
        self._paused_until: datetime | None = None
        self._untold: deque[RetryReport] = deque()
        self._is_telling = False
        self.unsettled_in_a_row = 0

    @property
    def report(self) -> RetryReport:
        """What was counted so far."""
        return RetryReport(
            **self._counts,
            paused_until=self._paused_until,
            last_error=self._last_error,
            remediation=self._remediation,
        )

    def fetched(self, count: int) -> None:
        """Count messages that were fetched."""
        with self._lock:
            self._counts["fetched"] += count

    def count(self, recorded: Recorded) -> None:
        """Count what became of a message, and tell the host."""
        with self._lock:
            wrong = "; ".join(filter(None, (recorded.error, recorded.hook_error)))
            self._add(recorded.step, wrong, recorded.remediation)
            if recorded.hook_error:
                self._add("errors", wrong)
            is_settled = recorded.step not in {"taken", "errors"}
            self.unsettled_in_a_row = 0 if is_settled else self.unsettled_in_a_row + 1
            if self._progress is None:
                return
            self._untold.append(self.report)
        self._tell(self._progress)

    def paused(self, until: datetime | None) -> None:
        """Note until when the server wants to be left alone."""
        self._paused_until = until

    def _add(self, step: Step, error: str | None, remediation: str | None = None) -> None:
        self._counts[step] += 1
        if error and (remediation or self._remediation is None):
            self._last_error, self._remediation = error, remediation

    def _tell(self, progress: Callable[[RetryReport], None]) -> None:
        # No lock is held while the host's function runs. Other threads leave their reports to the
        # thread that is calling it, so that the calls come one at a time and in order.
        while True:
            with self._lock:
                if self._is_telling or not self._untold:
                    return
                self._is_telling = True
                report = self._untold.popleft()
            try:
                progress(report)
            except Exception as error:
                logger.exception("progress failed")
                with self._lock:
                    # An error of a message is more useful than this one.
                    failure = f"progress failed: {type(error).__name__}"
                    self._add("errors", self._last_error or failure)
            finally:
                with self._lock:
                    self._is_telling = False
