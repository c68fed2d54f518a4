"""What is told to those who wait, and in which order."""

from __future__ import annotations

import threading

import pytest

from buttdial_sync.ailoop import AiloopClosedError
from buttdial_sync.ailoop.hearing import End, Receiver, Waiters
from buttdial_sync.errors import StreamLostError

PATIENCE = 30.0


def test_end_of_a_connection_on_which_nothing_left() -> None:
    """Its reading thread may tell of it late, when the message is about to leave on another one."""
    waiters = Waiters()
    waiter = waiters.register("message-1")
    lost, found = Receiver(waiters), Receiver(waiters)
    waiters.listen(waiter, lost)
    lost.end(lambda outcome: StreamLostError("cut", outcome=outcome))
    waiters.listen(waiter, found)
    assert waiter.get(0) is None
    found.end(lambda outcome: StreamLostError("cut", outcome=outcome))
    assert waiter.get(0) is End.LOST


def test_message_after_the_end() -> None:
    """Nobody would withdraw it, so it is refused."""
    waiters = Waiters()
    waiters.close(0)
    with pytest.raises(AiloopClosedError) as caught:
        waiters.register("message-1")
    assert caught.value.outcome == "not_sent"
    waiters.close(PATIENCE)  # it waits for nobody


def test_close_waits_for_a_withdrawal() -> None:
    """Also after the caller has gone."""
    waiters = Waiters()
    waiter = waiters.register("message-1")
    held = waiters.hold("message-1")
    waiters.discard(waiter)
    closing = threading.Thread(target=waiters.close, args=(PATIENCE,))
    closing.start()
    assert held.get(PATIENCE) is End.CLOSED
    closing.join(0.1)
    assert closing.is_alive()
    waiters.discard(held)
    closing.join(PATIENCE)
    assert not closing.is_alive()
