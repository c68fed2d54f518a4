"""How deep a call goes and how many files it touches: no more than today."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.architecture.depth import Walk, measure

# Frames of our own package on the stack, and files. A send touches the files of the message, the
# call, the connection, the breaker of tokens, the pool, the session, the waiters, the request, the
# socket and its identity, the deadline and the process id: each of these is a subject of its own.
LIMITS = {
    # One file more than the subjects above: recipients are checked, because servers take any text.
    "send": (12, 18),
    "tool": (16, 22),
    "account call": (15, 18),
    # Three of the files are the store's, which also keeps what comes in: its rules, its times, and
    # who is next; one is what an operator has paused. What a result means, whether the server
    # answers, and which agents rest are subjects of their own.
    "run_once": (18, 37),
    "webhook": (9, 9),
}


@pytest.fixture(scope="module")
def walks() -> Mapping[str, Walk]:
    return measure()


@pytest.mark.parametrize("name", LIMITS)
def test_depth(name: str, walks: Mapping[str, Walk]) -> None:
    """A way that grows deeper or wider wants a reason, and a line here."""
    deep, wide = LIMITS[name]
    assert walks[name].depth <= deep
    assert len(walks[name].files) <= wide, sorted(walks[name].files)
