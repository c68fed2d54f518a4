"""Which turn of an agent answers a message, and when it has ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import attrs

from buttdial_sync.happy.updates import (
    AgentReady,
    AgentText,
    RawUpdate,
    ToolCallEnded,
    ToolCallStarted,
    TurnEnded,
    TurnStarted,
    Update,
    UserText,
)

EndedHow = Literal["completed", "failed", "cancelled", "undetermined"]

_UNNAMED = ""
_OUTPUT = (AgentText, ToolCallStarted, ToolCallEnded)


class TurnTracker:
    """
    Follows the updates above one message, and finds the turn that answers it.

    It sees each update once, in the order of their numbers. An agent works on one turn at a time.

    - The first turn that starts above the message is ours, and only its own end ends it.
    - A turn that was running when the message was stored may take the message in. Its end
      is ours if nothing more follows; if another turn starts then, that one is ours.
    - Older producers say only that they are ready. That counts after output above the message.

    Args:
        running: The turn that ran when the message was stored; None if none did.
        turn: Our turn, if it has started already.

    Attributes:
        turn: The id of our turn, once it is known.
        ended: How our turn ended, once that is certain.
        likely_end: How it ended if nothing more follows; None while it has not.
        has_output: Whether the agent wrote something that may belong to our turn.
    """

    def __init__(self, running: str | None = None, *, turn: str | None = None) -> None:
        self.turn = turn
        self.ended: EndedHow | None = None
        self.likely_end: EndedHow | None = None
        self.has_output = turn is not None
        self._running = running

    def see(self, update: Update) -> None:
        """Take the next update."""
        if self.ended is not None or update.subagent is not None:
            return
        named = update.turn or _UNNAMED
        if isinstance(update, TurnStarted):
            # An agent works on one turn at a time: if ours has not ended, its end was lost.
            self.likely_end = None if self.turn in (None, named) else "undetermined"
            self.turn = named if self.turn is None else self.turn
        elif isinstance(update, TurnEnded):
            self._see_end(named, update.status)
        elif isinstance(update, AgentReady):
            self._see_ready()
        elif _is_output(update) and update.turn in (None, self.turn):
            self.has_output = True
            self.likely_end = None

    def is_of_turn(self, update: Update) -> bool:
        """Whether an update belongs to our turn, as far as it says."""
        ours = self._running if self.turn is None else self.turn
        return update.turn is None or update.turn == ours

    def _see_end(self, turn: str, status: EndedHow) -> None:
        if turn == self.turn:
            self.ended = status
        elif self.turn is None and turn == self._running:
            self.likely_end = status

    def _see_ready(self) -> None:
        if not self.has_output:
            return
        if self.turn is None and self._running is None:
            self.ended = "completed"
        else:
            # A turn with a name has an end of its own: this may be an earlier turn's.
            self.likely_end = "completed"


@attrs.frozen(kw_only=True)
class Standing:
    """
    What a session is doing.

    Attributes:
        newest_seq: The number of the last message; 0 if there is none.
        running: The id of the turn that runs; None if none does.
        asked_seq: The number of the last message to the agent that nothing followed, or None.
        last_end: How the last turn ended, or None.
    """

    newest_seq: int = 0
    running: str | None = None
    asked_seq: int | None = None
    last_end: EndedHow | None = None


def standing_of(newest_first: Iterable[Update]) -> Standing:
    """
    Find out what a session is doing, from its updates.

    Args:
        newest_first: As many as are needed are taken.
    """
    newest = running = asked_seq = last_end = None
    is_first = True
    for update in newest_first:
        newest = newest or update.seq
        if update.subagent is not None:
            continue
        if isinstance(update, TurnStarted):
            running = update.turn or _UNNAMED
        elif isinstance(update, TurnEnded):
            last_end = update.status
        elif isinstance(update, AgentReady):
            last_end = "completed"
        elif _is_output(update) and update.turn is None:
            # An older producer, which does not name its turns, and has not said that it is ready.
            running = _UNNAMED
        elif isinstance(update, UserText) and is_first:
            asked_seq = update.seq
        if running is not None or last_end is not None:
            break
        is_first = False
    return Standing(newest_seq=newest or 0, running=running, asked_seq=asked_seq, last_end=last_end)


def _is_output(update: Update) -> bool:
    return isinstance(update, _OUTPUT) or (isinstance(update, RawUpdate) and update.is_output)
