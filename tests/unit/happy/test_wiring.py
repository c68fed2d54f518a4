"""What a client remembers between its calls."""

from __future__ import annotations

from typing import Any

from buttdial_sync.happy.wiring import Wiring


def wiring() -> Wiring:
    parts: Any = None
    return Wiring(
        connection=parts,
        records=parts,
        realtime=parts,
        rpc=parts,
        poll_interval=1.0,
        settle_seconds=1.0,
    )


def test_the_session_that_was_written_to_longest_ago_is_forgotten() -> None:
    """Not the one that was first written to longest ago."""
    parts = wiring()
    parts.note_sent("busy", 1)
    for number in range(999):
        parts.note_sent(f"session-{number}", 1)
    parts.note_sent("busy", 2)
    parts.note_sent("another", 1)
    assert parts.last_sent["busy"] == 2
    assert "session-0" not in parts.last_sent
    assert len(parts.last_sent) == 1_000


def test_a_slower_thread() -> None:
    """The last message is the one with the highest number."""
    parts = wiring()
    parts.note_sent("session-1", 7)
    parts.note_sent("session-1", 6)
    assert parts.last_sent["session-1"] == 7
