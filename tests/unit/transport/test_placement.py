"""Where a server wants the token: found once, by one at a time."""

from __future__ import annotations

import itertools
import os
import select
import threading
from collections.abc import Iterator

import pytest

from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.placement import TokenPlacement, forget_placements

PATIENCE = 5.0
_numbers = itertools.count(1)


@pytest.fixture
def placement() -> Iterator[TokenPlacement]:
    # A fresh origin: whoever holds on to the last test's object must not lend it to this one.
    yield TokenPlacement.of(f"https://placement-{next(_numbers)}.test:443")
    forget_placements()


def patient() -> Deadline:
    return Deadline(PATIENCE)


def test_one_per_origin(placement: TokenPlacement) -> None:
    """Clients of one origin share what they find; other origins do not."""
    assert TokenPlacement.of(placement._origin) is placement
    other = TokenPlacement.of("https://other.test:443")
    placement.remember("query")
    assert (placement.known, other.known) == ("query", None)


def test_forgotten(placement: TokenPlacement) -> None:
    """Tests may put another kind of server at a known address."""
    placement.remember("query")
    forget_placements()
    assert placement.known is None


def test_one_thread_at_a_time(placement: TokenPlacement) -> None:
    """While one tries, the others wait; each then has a turn of its own."""
    inside: list[int] = []
    together: list[int] = []
    begun = threading.Barrier(8)

    def take_a_turn() -> None:
        begun.wait(PATIENCE)
        with placement.turn(patient()):
            inside.append(1)
            together.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=take_a_turn) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert together == [1] * 8


def test_others_learn_from_the_first(placement: TokenPlacement) -> None:
    """Who waited for a turn knows afterwards what the one before found."""
    holding, waiting, seen = threading.Event(), threading.Event(), []

    def second() -> None:
        holding.wait(PATIENCE)
        waiting.set()
        with placement.turn(patient()):
            seen.append(placement.known)

    thread = threading.Thread(target=second)
    thread.start()
    with placement.turn(patient()):
        holding.set()
        assert waiting.wait(PATIENCE)
        placement.remember("query")
    thread.join(PATIENCE)
    assert seen == ["query"]


def test_turn_is_given_back_after_a_failure(placement: TokenPlacement) -> None:
    """A try that raises does not keep the turn, and finds nothing."""
    for _ in range(3):
        with pytest.raises(ValueError, match="mine"), placement.turn(patient()):
            raise ValueError("mine")
    with placement.turn(patient()):
        assert placement.known is None


def test_dead_holder_is_survived(placement: TokenPlacement) -> None:
    """A turn that is never given back is taken all the same, once the deadline says so."""
    lost = placement.turn(patient())
    lost.__enter__()
    clock = iter([0.0, 0.0, 0.0])
    with placement.turn(Deadline(0.0, lambda: next(clock, 0.0))):
        placement.remember("header")
    with placement.turn(patient()):
        assert placement.known == "header"


def test_known_place_needs_no_turn(placement: TokenPlacement) -> None:
    """Once it is known nobody waits, even if the turn is not given back."""
    placement.remember("header")
    first = placement.turn(patient())
    first.__enter__()
    with placement.turn(Deadline(0.0, lambda: 0.0)):
        assert placement.known == "header"


def test_turns_do_not_multiply(placement: TokenPlacement) -> None:
    """A turn that was taken without waiting its time does not let two try at once later."""
    lost = placement.turn(patient())
    lost.__enter__()
    for _ in range(3):
        with placement.turn(Deadline(0.0, lambda: 0.0)):
            pass
    lost.__exit__(None, None, None)
    with placement.turn(patient()):
        readable, _, _ = select.select([placement._taking], [], [], 0)
        assert not readable


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_shares_the_find(placement: TokenPlacement) -> None:
    """What a forked child finds is known to its parent, at the parent's next turn."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with placement.turn(patient()):
                placement.remember("query")
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert placement.known is None
    with placement.turn(patient()):
        assert placement.known == "query"
