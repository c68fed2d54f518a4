"""Where a server wants the token: found once, by one at a time."""

from __future__ import annotations

import gc
import itertools
import os
import socket
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
        assert has_to_wait(placement)


def has_to_wait(placement: TokenPlacement) -> bool:
    """Whether a turn is not to be had at once."""
    waited: list[bool] = []

    def give_up() -> bool:
        waited.append(True)
        return True

    with placement.turn(patient(), is_cancelled=give_up):
        return bool(waited)


forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@forking
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


def descriptors() -> set[str]:
    return set(os.listdir("/dev/fd"))


@forking
def test_nothing_is_opened_before_a_fork() -> None:
    """Neither making a placement nor a turn opens a descriptor; dropping a shared one closes it."""
    before = descriptors()
    made = TokenPlacement("https://opens-nothing.test:443")
    with made.turn(patient()):
        assert descriptors() == before
    made.share()
    assert len(descriptors()) == len(before) + 2
    del made
    assert descriptors() == before


@forking
def test_turns_of_a_shared_placement_do_not_multiply(placement: TokenPlacement) -> None:
    """Before a fork as after it, one has the turn."""
    placement.share()
    lost = placement.turn(patient())
    lost.__enter__()
    for _ in range(3):
        with placement.turn(Deadline(0.0, lambda: 0.0)):
            pass
    lost.__exit__(None, None, None)
    placement._locks.clear()  # as in a child: what is left is the mark
    with placement.turn(patient()):
        placement._locks.clear()
        assert has_to_wait(placement)


@forking
def test_what_is_known_is_not_shared(placement: TokenPlacement) -> None:
    """A fork opens nothing for an origin that needs no turn any more: children inherit the find."""
    placement.remember("header")
    before = descriptors()
    placement.share()
    assert descriptors() == before


@forking
@pytest.mark.parametrize("reused", [False, True], ids=["closed", "reused"])
def test_a_pipe_that_somebody_closed_is_left_alone(placement: TokenPlacement, reused: bool) -> None:
    """Nothing is read from, written to or closed under a number that is another's now."""
    placement.share()
    mark = placement._mark
    assert mark is not None
    numbers = (mark._reading, mark._writing)
    theirs = socket.socketpair()
    theirs[1].sendall(b"theirs")
    for number, sock in zip(numbers, theirs, strict=True):
        os.close(number)
        if reused:
            os.dup2(sock.fileno(), number)
    try:
        with placement.turn(patient()):
            placement.remember("query")
        placement._mark = None
        del mark
        gc.collect()
        if reused:
            assert [os.fstat(number) for number in numbers] == [
                os.fstat(sock.fileno()) for sock in theirs
            ]
        theirs[1].close()
        with theirs[0] as left:
            if reused:
                os.close(numbers[1])
            assert left.recv(100) == b"theirs"
            assert left.recv(100) == b""
    finally:
        for number in numbers[: 1 if reused else 0]:
            os.close(number)
