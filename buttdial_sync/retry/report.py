"""What a pass over the due messages did."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Literal

import attrs

from buttdial_sync.errors import Outcome

logger = logging.getLogger("buttdial_sync.retry")

Step = Literal["delivered", "retried", "dead", "postponed", "taken", "errors"]


@attrs.frozen(kw_only=True)
class RetryReport:
    """
    What a pass did with the due messages.

    Attributes:
        fetched: How many were due and leased.
        delivered: The server took them.
        retried: They failed, and are due again later.
        dead: They were given up.
        postponed: They were put back without an attempt that counts: a rate limit, a lockout, a
            token that is missing or wrong, a stop.
        taken: Another process had begun an attempt meanwhile.
        errors: The repository or a hook failed; see the log.
        paused_until: Until when the server wants to be left alone (aware), or None.
        last_error: The last thing that went wrong, or None; of a refused token rather than of
            anything else.
        remediation: What a person has to do about a token that the server refused, or None.
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
        """How many have a recorded end: delivered, retried, dead or postponed."""
        return self.delivered + self.retried + self.dead + self.postponed

    @property
    def outcome(self) -> Outcome:
        """``"sent"`` if nothing failed, ``"rejected"`` if a person has to act, ``"not_sent"``."""
        if self.dead or self.remediation is not None:
            return "rejected"
        return "not_sent" if self.errors or self.retried or self.postponed else "sent"


class Tally:
    """
    A report in the making. Safe to share between threads.

    Args:
        progress: Gets the report after each message, one call at a time.
    """

    def __init__(self, progress: Callable[[RetryReport], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._progress = progress
        self._report = RetryReport()
        self._barren = 0

    @property
    def report(self) -> RetryReport:
        """What was counted so far."""
        return self._report

    @property
    def barren(self) -> int:
        """How many in a row were not settled."""
        return self._barren

    def fetched(self, count: int) -> None:
        """Count messages that were fetched."""
        with self._lock:
            self._report = attrs.evolve(self._report, fetched=self._report.fetched + count)

    def count(self, step: Step, error: str | None = None, remediation: str | None = None) -> None:
        """Count what became of a message."""
        with self._lock:
            now = self._report
            counted = attrs.evolve(now, **{step: getattr(now, step) + 1})
            if error and (remediation or now.remediation is None):
                counted = attrs.evolve(counted, last_error=error, remediation=remediation)
            self._report = counted
            self._barren = self._barren + 1 if step in {"taken", "errors"} else 0
            if self._progress is None:
                return
            try:
                self._progress(self._report)
            except Exception:
                logger.exception("progress failed")

    def paused(self, until: datetime | None) -> None:
        """Note until when the server wants to be left alone."""
        with self._lock:
            self._report = attrs.evolve(self._report, paused_until=until)
