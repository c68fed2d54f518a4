"""The events that ``on_event`` gets."""

from __future__ import annotations

from typing import Literal

import attrs

from buttdial_sync.errors import Outcome

EventKind = Literal["attempt", "answer", "retry", "connect"]


@attrs.frozen(kw_only=True)
class ClientEvent:
    """
    One step of a client. It does not hold tokens, recipients or texts.

    Attributes:
        kind: ``"attempt"`` (a request is about to leave), ``"answer"`` (an attempt ended, well or
            not), ``"retry"`` (a pause before the next attempt), ``"connect"`` (a stream is open).
        operation: The tool's name, or method and path template of a REST call, or ``"session"``.
        attempt: Which attempt, from 1.
        seconds: How long the attempt took, or how long the pause is; None for ``"attempt"``.
        outcome: What became of the attempt; None where that is not known yet.
        error: The exception's class name, or None.
        code: Its ``code``, or None.
    """

    kind: EventKind
    operation: str
    attempt: int = 1
    seconds: float | None = None
    outcome: Outcome | None = None
    error: str | None = None
    code: str | None = None
