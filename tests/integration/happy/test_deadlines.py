"""A call's own timeout is the deadline of all that it does, whatever the client's is."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from buttdial_sync.happy import errors
from buttdial_sync.happy.client import HappyClient
from buttdial_sync.testing.happy_server import FakeHappyServer
from buttdial_sync.testing.http_messages import Reply, Request, json_response
from tests.integration.happy.conftest import client_of

PATIENCE = 30.0
SHORT = 0.3


def hanging(server: FakeHappyServer, path: str, until: threading.Event) -> list[Request]:
    """Have requests for a path hang; return those that were waited for to the end."""
    waited_for: list[Request] = []

    def hang(request: Request) -> Reply | None:
        if not request.path.endswith(path):
            return None
        if not until.wait(PATIENCE):
            waited_for.append(request)
        return json_response(503, {"error": "shutting down"})  # nothing happens after the test

    server.faults.append(hang)
    return waited_for


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/v2/sessions", lambda client, key: client.send_message(key, "x", timeout=SHORT)),
        ("/v2/sessions", lambda client, key: client.stop_session(key, timeout=SHORT)),
        ("/v2/sessions", lambda client, key: client.deny(key, "request", timeout=SHORT)),
        ("/v2/sessions", lambda client, key: client.abort_turn(key, timeout=SHORT)),
        ("/messages", lambda client, key: client.wait_for_idle(key, SHORT)),
        ("/messages", lambda client, key: client.wait_for_turn_completion(key, SHORT)),
        ("/messages", lambda client, key: client.run_prompt(key, "x", SHORT)),
        ("/messages", lambda client, key: list(client.follow(key, timeout=SHORT))),
    ],
)
def test_a_server_that_hangs(
    happy_server: FakeHappyServer, path: str, call: Callable[[HappyClient, str], object]
) -> None:
    """Each page gets only what is left of it."""
    process = happy_server.add_session()
    process.session.active = False
    until = threading.Event()
    waited_for = hanging(happy_server, path, until)
    try:
        with client_of(happy_server, timeout=600.0) as client:
            with pytest.raises(errors.HappyError) as caught:
                call(client, process.session.id)
            assert isinstance(caught.value, errors.TimeoutError | errors.MessageDeliveryError)
    finally:
        until.set()
    assert waited_for == []


def test_following_a_server_that_hangs(happy_server: FakeHappyServer) -> None:
    """It ends when it should, and does not raise for an outage."""
    session_id = happy_server.add_session().session.id
    until = threading.Event()
    waited_for = hanging(happy_server, "/messages", until)
    try:
        with client_of(happy_server, timeout=600.0) as client:
            assert list(client.follow(session_id, after_seq=0, timeout=SHORT)) == []
    finally:
        until.set()
    assert waited_for == []


@pytest.mark.parametrize("call", ["wait_for_idle", "wait_for_turn_completion"])
def test_waiting_goes_on_after_an_outage(happy_server: FakeHappyServer, call: str) -> None:
    """Whoever waits for an hour does not want to hear of a restart of the server."""
    process = happy_server.add_session()
    process.write_event({"t": "turn-start"}, "t")
    failing = ["the newest number", "what the session is doing"]

    def fails(request: Request) -> Reply | None:
        if request.path.endswith("/messages") and failing:
            failing.pop()
            return json_response(503, {"error": "restarting"})
        if not failing and not ended:
            ended.append(process.write_event({"t": "turn-end", "status": "completed"}, "t"))
        return None

    ended: list[object] = []
    happy_server.faults.append(fails)
    with client_of(happy_server, max_attempts=1) as client:
        getattr(client, call)(process.session.id, PATIENCE)
    assert ended
