"""A listener and forked children."""

from __future__ import annotations

import logging
import os

import pytest

from buttdial_sync.testing import LoopbackServer
from tests.forks import exit_code, forked
from tests.integration.inbound.listening import (
    Inbox,
    client_of,
    deliver,
    listener_of,
    numbered,
    wait_until,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_does_not_listen_and_says_so_once(hosted: LoopbackServer) -> None:
    """The child takes nothing from the queue; the parent goes on."""
    inbox = Inbox()

    def in_child() -> None:
        assert not listener.running
        assert client.send_message("+1", "x", timeout=20.0).ok
        assert listener.stop(0.1)

    with client_of(hosted) as client, listener_of(client, inbox) as listener:
        wait_until(lambda: listener.connected)
        assert exit_code(forked(in_child)) == 0
        deliver(hosted, 1)
        inbox.wait_for(1)
        assert listener.running
    assert inbox.ids == numbered(1)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_the_warning(hosted: LoopbackServer) -> None:
    """A child of a process that listened is told once; others are not told."""
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    keep = Keep(logging.WARNING)
    logging.getLogger("buttdial_sync.inbound").addHandler(keep)
    try:
        with client_of(hosted) as client:
            listener = listener_of(client, Inbox())
            assert exit_code(forked(lambda: check(said, 0))) == 0
            with listener:
                wait_until(lambda: listener.connected)
                assert exit_code(forked(lambda: check(said, 1))) == 0
    finally:
        logging.getLogger("buttdial_sync.inbound").removeHandler(keep)


def check(said: list[str], count: int) -> None:
    assert len([each for each in said if "does not run in this forked process" in each]) == count


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_may_start_it(hosted: LoopbackServer) -> None:
    """A listener that was made before the fork listens in the child that starts it."""
    inbox = Inbox()
    hosted.fake.add_waiting()

    def in_child() -> None:
        with listener:
            inbox.wait_for(1)
            wait_until(lambda: listener.connected)

    with client_of(hosted) as client:
        listener = listener_of(client, inbox)
        assert exit_code(forked(in_child)) == 0
    assert hosted.fake.waiting == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_of_a_process_that_listens_may_listen(hosted: LoopbackServer) -> None:
    """The parent's run is not in the way of the child's."""
    inbox = Inbox()

    def in_child() -> None:
        with listener:
            wait_until(lambda: listener.connected)

    with client_of(hosted) as client, listener_of(client, inbox) as listener:
        wait_until(lambda: listener.connected)
        assert exit_code(forked(in_child)) == 0
        assert listener.running
