"""The waiting queue, which opening a stream empties on one of the servers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from buttdial_sync.errors import ButtDialError, EndpointNotAvailable
from buttdial_sync.models.converter import structure
from buttdial_sync.models.inbox import WaitingMessage, WaitingMessages
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.rest import Rest

logger = logging.getLogger("buttdial_sync")

WAITING_PATH = "/api/v1/waiting-messages"
_PAGE = 50
PAGES_AT_MOST = 200
_AT_STAKE = (
    "%d messages waited. Opening a stream on the open-source server marks those that wait as "
    "delivered without delivering them: give the client before_open, which gets them first"
)


class WaitingQueue:
    """
    Empties the queue into a host's callback. Safe to share between threads.

    Args:
        rest: Reads the queue.
        hand_over: Gets the messages of each reading. What it raises is logged.
    """

    def __init__(self, rest: Rest, hand_over: Callable[[Sequence[WaitingMessage]], None]) -> None:
        self._rest = rest
        self._hand_over = hand_over

    def drain(self, token: str, deadline: Deadline) -> None:
        """
        Read until nothing waits.

        Raises:
            ButtDialError: The queue could not be read. The stream must not be opened then: it would
                empty the queue.
        """
        for _ in range(PAGES_AT_MOST):
            if not self.take_page(token, deadline):
                return

    def take_page(self, token: str, deadline: Deadline) -> bool:
        """
        Read one page. What is on it is no longer on the server.

        Returns:
            Whether more may wait.

        Raises:
            ButtDialError: The queue could not be read.
        """
        messages = self._read(token, deadline)
        if messages:
            self._pass_on(messages)
        return len(messages) >= _PAGE

    def _read(self, token: str, deadline: Deadline) -> Sequence[WaitingMessage]:
        try:
            answer = self._rest.call(
                "GET", WAITING_PATH, deadline, credential=token, query={"limit": str(_PAGE)}
            )
        except EndpointNotAvailable:
            return ()
        except ButtDialError as error:
            if error.outcome == "unknown":
                logger.error("the answer with the waiting messages was lost, and they with it")  # noqa: TRY400
            raise
        return structure(answer, WaitingMessages, source=WAITING_PATH).messages

    def _pass_on(self, messages: Sequence[WaitingMessage]) -> None:
        try:
            self._hand_over(messages)
        except Exception:
            logger.exception("before_open failed with %d messages", len(messages))


class QueueWatch:
    """
    Warns once that messages can get lost. Safe to share between threads.

    Args:
        is_drained: Whether the client empties the queue before it opens a stream.
    """

    def __init__(self, *, is_drained: bool) -> None:
        # Taking the next of an iterator is atomic: of two threads, one gets the warning.
        self._warnings = iter(() if is_drained else (_AT_STAKE,))

    def seen(self, waiting: WaitingMessages) -> WaitingMessages:
        """Return what was read; warn if messages really do wait for this agent."""
        warning = next(self._warnings, None) if waiting.messages else None
        if warning is not None:
            logger.warning(warning, len(waiting.messages))
        return waiting
