"""What a client remembers between its calls."""

from __future__ import annotations

import threading

import pytest

from buttdial_sync.happy.family import LastSent
from tests.unit.moments import Key

PATIENCE = 30.0


@pytest.fixture
def last_sent() -> LastSent:
    return LastSent()


def test_the_session_that_was_written_to_longest_ago_is_forgotten(last_sent: LastSent) -> None:
    """Not the one that was first written to longest ago."""
    last_sent.note("busy", 1)
    for number in range(999):
        last_sent.note(f"session-{number}", 1)
    last_sent.note("busy", 2)
    last_sent.note("another", 1)
    assert last_sent.get("busy") == 2
    assert last_sent.get("session-0") is None
    assert last_sent.get("session-1") == 1


def test_a_slower_thread(last_sent: LastSent) -> None:
    """The last message is the one with the highest number."""
    last_sent.note("session-1", 7)
    last_sent.note("session-1", 6)
    assert last_sent.get("session-1") == 7


@pytest.mark.parametrize("message", [("session-0", 6), ("another", 7)])
@pytest.mark.parametrize("lookup", range(1, 5))
def test_two_messages_at_once(last_sent: LastSent, lookup: int, message: tuple[str, int]) -> None:
    """The higher number counts, and no session is forgotten while it is noted."""
    for number in range(1_000):
        last_sent.note(f"session-{number}", 1)

    other = threading.Thread(target=last_sent.note, args=message)

    def let_the_other_note() -> None:
        other.start()
        other.join(0.1)  # it waits for its turn

    session_id = Key("session-0")
    session_id.on_lookup(lookup, let_the_other_note)
    last_sent.note(session_id, 5)
    if other.ident is None:
        other.start()
    other.join(PATIENCE)
    expected = {"session-0": 5, **dict([message])}
    assert {name: last_sent.get(name) for name in expected} == expected
