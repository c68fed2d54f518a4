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


HandOver = Callable[[Sequence[WaitingMessage]], None]


def drain_queue(rest: Rest, token: str, deadline: Deadline, hand_over: HandOver) -> None:
    """
    Read the waiting queue until it is empty.

    Args:
        rest: Reads it.
        token: The agent's.
        deadline: Until when.
        hand_over: Gets the messages of each page. What it raises is logged.

    Raises:
        ButtDialError: The queue could not be read. The stream must not be opened then: it would
            empty the queue.
    """
    for _ in range(PAGES_AT_MOST):
        if not take_page(rest, token, deadline, hand_over):
            return


def take_page(rest: Rest, token: str, deadline: Deadline, hand_over: HandOver) -> bool:
    """
    Read one page. What is on it is no longer on the server.

    Args:
        rest: Reads it.
        token: The agent's.
        deadline: Until when.
        hand_over: Gets the messages. What it raises is logged.

    Returns:
        Whether more may wait.

    Raises:
        ButtDialError: The queue could not be read.
    """
    messages = _read(rest, token, deadline)
    if messages:
        try:
            hand_over(messages)
        except Exception:
            logger.exception("before_open failed with %d messages", len(messages))
    return len(messages) >= _PAGE


def _read(rest: Rest, token: str, deadline: Deadline) -> Sequence[WaitingMessage]:
    try:
        answer = rest.call(
            "GET", WAITING_PATH, deadline, credential=token, query={"limit": str(_PAGE)}
        )
    except EndpointNotAvailable:
        return ()
    except ButtDialError as error:
        if error.outcome == "unknown":
            logger.error("the answer with the waiting messages was lost, and they with it")  # noqa: TRY400
        raise
    return structure(answer, WaitingMessages, source=WAITING_PATH).messages
