"""Who gets what comes in for a token."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from buttdial_sync.errors import ConfigError
from buttdial_sync.listening.inbound_queue import InboundQueue
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.http import Http
from buttdial_sync.transport.push_router import PushRouter
from buttdial_sync.transport.rest import Rest
from tests.unit.listening.test_inbound_queue import push, taken


@pytest.fixture
def router() -> Iterator[PushRouter]:
    http = Http(connect_timeout=1.0)
    yield PushRouter(Rest(http, "https://butt-dial.test"), None)
    http.close()


def released(queue: InboundQueue) -> list[str]:
    queue.release_pushed(queue.generation)
    return taken(queue)


def test_each_token_has_its_own_sink(router: PushRouter) -> None:
    """What is pushed for one agent reaches no other; a second sink of one agent is refused."""
    first, second = InboundQueue(), InboundQueue()
    router.add("tok-1", first)
    router.add("tok-2", second)
    with pytest.raises(ConfigError, match="another listener"):
        router.add("tok-1", second)
    router.pushed("tok-2", push("p1"))
    assert (released(first), released(second)) == ([], ["p1"])


def test_removing_twice_does_not_remove_the_successor(router: PushRouter) -> None:
    """A sink takes itself out, and nobody else."""
    first, second = InboundQueue(), InboundQueue()
    router.add("tok-1", first)
    router.remove("tok-1", first)
    router.add("tok-1", second)
    router.remove("tok-1", first)
    router.pushed("tok-1", push("p1"))
    assert released(second) == ["p1"]


def test_nothing_is_read_when_nobody_wants_it(
    router: PushRouter, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a sink and without before_open the queue stays on the server; a push is reported."""
    router.opening("tok-1", Deadline(1.0))  # a request would be refused: there is no such server
    router.ended("tok-1")
    for name in ("p1", "p2"):
        router.pushed("tok-1", push(name))
    assert caplog.text.count("nobody listens") == 1
