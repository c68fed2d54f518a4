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
from buttdial_sync.transport.token_location import TokenLocation, forget_token_locations
from tests.unit.moments import Key

PATIENCE = 5.0
_numbers = itertools.count(1)


@pytest.fixture
def location() -> Iterator[TokenLocation]:
    # A fresh origin: whoever holds on to the last test's object must not lend it to this one.
    yield TokenLocation.of(f"https://location-{next(_numbers)}.test:443")
    forget_token_locations()


def patient() -> Deadline:
    return Deadline(PATIENCE)


def test_one_per_origin(location: TokenLocation) -> None:
    """Clients of one origin share what they find; other origins do not."""
    assert TokenLocation.of(location._origin) is location
    other = TokenLocation.of("https://other.test:443")
    location.remember("query")
    assert (location.known, other.known) == ("query", None)


@pytest.mark.parametrize("lookup", [1, 2, 3])
def test_one_per_origin_for_clients_that_are_made_at_once(lookup: int) -> None:
    """Or each of them would try the token in the wrong place."""
    name = f"https://location-{next(_numbers)}.test:443"
    others: list[TokenLocation] = []
    other = threading.Thread(target=lambda: others.append(TokenLocation.of(name)))

    def let_the_other_try() -> None:
        other.start()
        other.join(0.1)  # it waits for its turn

    origin = Key(name)
    origin.on_lookup(lookup, let_the_other_try)
    first = TokenLocation.of(origin)
    if other.ident is None:
        other.start()
    other.join(PATIENCE)
    assert others == [first]
    forget_token_locations()


def test_forgotten(location: TokenLocation) -> None:
    """Tests may put another kind of server at a known address."""
    location.remember("query")
    forget_token_locations()
    assert location.known is None
    assert TokenLocation.of(location._origin) is not location


def test_one_thread_at_a_time(location: TokenLocation) -> None:
    """While one tries, the others wait; each then has a turn of its own."""
    inside: list[int] = []
    together: list[int] = []
    begun = threading.Barrier(8)

    def take_a_turn() -> None:
        begun.wait(PATIENCE)
        with location.probe(patient()):
            inside.append(1)
            together.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=take_a_turn) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert together == [1] * 8


def test_others_learn_from_the_first(location: TokenLocation) -> None:
    """Who waited for a turn knows afterwards what the one before found."""
    holding, waiting, seen = threading.Event(), threading.Event(), []

    def second() -> None:
        holding.wait(PATIENCE)
        waiting.set()
        with location.probe(patient()):
            seen.append(location.known)

    thread = threading.Thread(target=second)
    thread.start()
    with location.probe(patient()):
        holding.set()
        assert waiting.wait(PATIENCE)
        location.remember("query")
    thread.join(PATIENCE)
    assert seen == ["query"]


def test_turn_is_given_back_after_a_failure(location: TokenLocation) -> None:
    """A try that raises does not keep the turn, and finds nothing."""
    for _ in range(3):
        with pytest.raises(ValueError, match="mine"), location.probe(patient()):
            raise ValueError("mine")
    assert not has_to_wait(location)
    assert location.known is None


def test_dead_holder_is_survived(location: TokenLocation) -> None:
    """A turn that is never given back is taken all the same, once the deadline says so."""
    lost = location.probe(patient())
    lost.__enter__()
    clock = iter([0.0, 0.0, 0.0])
    with location.probe(Deadline(0.0, lambda: next(clock, 0.0))):
        location.remember("header")
    with location.probe(patient()):
        assert location.known == "header"


def test_known_place_needs_no_turn(location: TokenLocation) -> None:
    """Once it is known nobody waits, even if the turn is not given back."""
    location.remember("header")
    first = location.probe(patient())
    first.__enter__()
    assert not has_to_wait(location)
    with location.probe(Deadline(0.0, lambda: 0.0)):
        assert location.known == "header"


def test_turns_do_not_multiply(location: TokenLocation) -> None:
    """A turn that was taken without waiting its time does not let two try at once later."""
    lost = location.probe(patient())
    lost.__enter__()
    for _ in range(3):
        with location.probe(Deadline(0.0, lambda: 0.0)):
            pass
    lost.__exit__(None, None, None)
    with location.probe(patient()):
        assert has_to_wait(location)


def has_to_wait(location: TokenLocation) -> bool:
    """Whether a turn is not to be had at once."""
    waited: list[bool] = []

    def give_up() -> bool:
        waited.append(True)
        return True

    with location.probe(patient(), is_cancelled=give_up):
        return bool(waited)


forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@forking
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_shares_the_find(location: TokenLocation) -> None:
    """What a forked child finds is known to its parent, at the parent's next turn."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with location.probe(patient()):
                location.remember("query")
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert location.known is None
    with location.probe(patient()):
        assert location.known == "query"


def descriptors() -> set[str]:
    return set(os.listdir("/dev/fd"))


@forking
def test_nothing_is_opened_before_a_fork() -> None:
    """Neither making a location nor a turn opens a descriptor; dropping a shared one closes it."""
    before = descriptors()
    made = TokenLocation("https://opens-nothing.test:443")
    with made.probe(patient()):
        assert descriptors() == before
    made.share()
    assert len(descriptors()) == len(before) + 2
    del made
    assert descriptors() == before


@forking
def test_turns_of_a_shared_location_do_not_multiply(location: TokenLocation) -> None:
    """Before a fork as after it, one has the turn."""
    location.share()
    lost = location.probe(patient())
    lost.__enter__()
    for _ in range(3):
        with location.probe(Deadline(0.0, lambda: 0.0)):
            pass
    lost.__exit__(None, None, None)
    location._locks.clear()  # as in a child: what is left is the mark
    with location.probe(patient()):
        location._locks.clear()
        assert has_to_wait(location)


@forking
def test_what_is_known_is_not_shared(location: TokenLocation) -> None:
    """A fork opens nothing for an origin that needs no turn any more: children inherit the find."""
    location.remember("header")
    before = descriptors()
    location.share()
    assert descriptors() == before


@forking
@pytest.mark.parametrize("reused", [False, True], ids=["closed", "reused"])
def test_a_pipe_that_somebody_closed_is_left_alone(location: TokenLocation, reused: bool) -> None:
    """Nothing is read from, written to or closed under a number that is another's now."""
    location.share()
    mark = location._mark
    assert mark is not None
    numbers = (mark._reading, mark._writing)
    theirs = socket.socketpair()
    theirs[1].sendall(b"theirs")
    for number, sock in zip(numbers, theirs, strict=True):
        os.close(number)
        if reused:
            os.dup2(sock.fileno(), number)
    try:
        with location.probe(patient()):
            location.remember("query")
        location._mark = None
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


def test_waiting_goes_on_until_it_is_found(location: TokenLocation) -> None:
    """Who waits for a turn does not give up because it takes a while."""
    patience_shown, seen = threading.Event(), []
    calls = itertools.count()

    def clock() -> float:
        if next(calls) > 8:  # it has looked up more than once
            patience_shown.set()
        return 0.0

    def wait_for_a_turn() -> None:
        with location.probe(Deadline(PATIENCE, clock)):
            seen.append(location.known)

    waiting = threading.Thread(target=wait_for_a_turn)
    with location.probe(patient()):
        waiting.start()
        assert patience_shown.wait(PATIENCE)
        location.remember("query")
    waiting.join(PATIENCE)
    assert seen == ["query"]


@forking
def test_sharing_again(location: TokenLocation) -> None:
    """A pipe is made once; another one where somebody closed it."""
    location.share()
    first = location._mark
    assert first is not None
    location.share()
    assert location._mark is first
    os.close(first._reading)
    location.share()
    assert location._mark is not first
    assert location._mark is not None
    assert location._mark.is_ours()
    os.close(first._writing)


@forking
def test_shared_turn_that_finds_nothing(location: TokenLocation) -> None:
    """It is given back all the same."""
    location.share()
    assert not has_to_wait(location)
    location._locks.clear()  # as in another process
    assert not has_to_wait(location)


@forking
def test_find_without_a_turn(location: TokenLocation) -> None:
    """Who could not wait for the turn, and found the place, tells the other processes."""
    location.share()
    lost = location.probe(patient())
    lost.__enter__()
    location._locks.clear()  # as in another process
    with location.probe(Deadline(0.0, lambda: 0.0)):
        location.remember("query")
    forget_token_locations()  # as in a third one
    location._locks.clear()
    with location.probe(patient()):
        assert location.known == "query"
