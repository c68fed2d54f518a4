"""Waiting for an event that a signal's handler may set."""

from __future__ import annotations

import threading

import pytest

from buttdial_sync.transport.signals import wait_for


class Waits(threading.Event):
    """Says how long each wait may take, and is set after some of them."""

    def __init__(self, set_after: int) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._set_after = set_after

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        return len(self.waits) > self._set_after


@pytest.mark.parametrize(
    ("seconds", "set_after", "is_set", "waits"),
    [
        (0.25, 9, False, [0.25]),
        (1.0, 9, False, [1.0]),
        (2.5, 9, False, [1.0, 1.0, 0.5]),
        (3600.0, 2, True, [1.0, 1.0, 1.0]),
        (0.0, 0, True, [0.0]),
    ],
)
def test_no_wait_is_long(seconds: float, set_after: int, is_set: bool, waits: list[float]) -> None:
    """A signal that comes at the wrong moment does not end a wait, but it delays the end little."""
    event = Waits(set_after)
    assert wait_for(event, seconds) == is_set
    assert event.waits == waits
