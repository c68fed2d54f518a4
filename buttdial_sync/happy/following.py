"""A turn that is being followed: what was seen of it, and whether it is over."""

from __future__ import annotations

from collections.abc import Callable

from buttdial_sync.happy.models import PermissionRequest
from buttdial_sync.happy.results import TaskStatus
from buttdial_sync.happy.turns import TurnTracker
from buttdial_sync.happy.updates import StateChanged, Update
from buttdial_sync.happy.watching import SessionWatch

# A producer that names no turns and never says that it is ready is done when it is quiet so long.
_QUIET_SECONDS = 60.0


class FollowedTurn:
    """
    What was seen of a turn, and whether it is over. For one thread.

    Args:
        tracker: Finds the turn and its end.
        watch: Watches the session.
        clock: A monotonic clock, in seconds.

    Attributes:
        updates: What was seen, in order, of other turns too.
    """

    def __init__(
        self, tracker: TurnTracker, watch: SessionWatch, clock: Callable[[], float]
    ) -> None:
        self.updates: list[Update] = []
        self._tracker = tracker
        self._watch = watch
        self._clock = clock
        self._quiet_since = clock()
        self._became_idle = False
        self._looks_wanted: int | None = None

    @property
    def requests(self) -> list[PermissionRequest]:
        """The permissions that the agent waits for."""
        session = self._watch.session
        return session.pending_requests if session else []

    def see(self, update: Update) -> None:
        """Take the next update."""
        self._quiet_since = self._clock()
        self._looks_wanted = None
        if update.seq is not None:
            self._tracker.see(update)
            self.updates.append(update)
        elif isinstance(update, StateChanged):
            state = update.session.agent_state or {}
            self._became_idle = (
                self._tracker.has_output
                and state.get("controlledByUser") is False
                and not update.session.pending_requests
            )

    def status(self, settle_seconds: float) -> TaskStatus | None:
        """Return how it ended; None while it may go on."""
        if self._tracker.ended is not None:
            return self._tracker.ended
        if self._watch.has_ended:
            return "archived"
        after = self._quiet_needed(settle_seconds)
        if after is None or self._clock() - self._quiet_since < after:
            return None
        if self._looks_wanted is None:
            # Only a look at the server proves that there is nothing more.
            self._looks_wanted = self._watch.looks + 1
            self._watch.look_again()
        if self._watch.looks < self._looks_wanted:
            return None
        return self._tracker.likely_end or "undetermined"

    def at_most(self, settle_seconds: float) -> float:
        """Return how long to wait before looking at :meth:`status` again."""
        after = self._quiet_needed(settle_seconds)
        if after is None or self._looks_wanted is not None:
            return _QUIET_SECONDS
        return max(0.0, after - (self._clock() - self._quiet_since))

    def _quiet_needed(self, settle_seconds: float) -> float | None:
        """Return for how long it has to be quiet to be over; None if being quiet says nothing."""
        tracker, session = self._tracker, self._watch.session
        if self.requests or self._watch.is_thinking:
            return None
        if tracker.likely_end is not None or (session is not None and not session.active):
            return settle_seconds
        if not tracker.has_output or tracker.turn is not None:
            return None
        said_so = self._became_idle or self._watch.is_thinking is False
        return settle_seconds if said_so else _QUIET_SECONDS
