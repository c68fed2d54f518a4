"""A connection that is lost while a prompt waits: found again, never sent again."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Any

import pytest

from buttdial_sync.ailoop import AiloopClient, AiloopClosedError, NotAcceptedError
from buttdial_sync.testing import FakeAiloopServer
from tests.integration.ailoop.conftest import PATIENT, Clock, InBackground, connections_are_in_step


def listens_again(server: FakeAiloopServer) -> None:
    """Wait until the client has a connection that hears everything."""
    server.wait_until(lambda: any(each.is_viewer for each in server.hub.sockets.values()))


def asked_again(server: FakeAiloopServer, times: int) -> None:
    """Wait until the client has looked for its prompt."""
    server.wait_until(lambda: sum("/messages/" in each for each in server.requests) >= times)


def test_answered_over_http_meanwhile(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """History has such an answer."""
    future = background(client.ask, "Which?", ["a", "b"], timeout=PATIENT)
    prompt = server.next_prompt()
    with server.hub.changed:  # the client cannot come back before the answer is there
        server.hub.respond(prompt.id, "purple", "text", "http")
        server.drop_sockets()
        prompt.answer("b", at="http")
    assert future.result(PATIENT).option_id == "b"
    assert len(server.asked) == 1


def test_answered_at_the_terminal_afterwards(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """Broadcasts are heard again on a connection that hears all channels; it is closed after."""
    future = background(client.ask, "Which?", ["a", "b"], timeout=PATIENT, channel="else")
    prompt = server.next_prompt()
    server.drop_connections()
    listens_again(server)
    prompt.answer("b", at="terminal")
    assert future.result(PATIENT).option_id == "b"
    server.wait_until(lambda: not server.hub.sockets)
    server.answers("a")
    assert client.ask("Next?", ["a", "b"]).option_id == "a"
    assert [each.is_viewer for each in server.hub.sockets.values()] == [False]


def test_answered_at_the_terminal_meanwhile(
    new_server: FakeAiloopServer, new_client: AiloopClient, background: InBackground
) -> None:
    """Nobody has that answer any more: lost, well before the deadline."""
    future = background(new_client.authorize, "Deploy", timeout=1000)
    prompt = new_server.next_prompt()
    with new_server.hub.changed:
        new_server.drop_sockets()
        prompt.approve(at="terminal")
    result = future.result(PATIENT)
    assert (result.approved, result.reason) == (False, "lost")


def test_answered_at_the_terminal_meanwhile_on_an_old_server(
    clock: Clock, background: InBackground
) -> None:
    """It does not tell which prompts wait: lost at the deadline, and not before."""
    with (
        FakeAiloopServer("question") as server,
        AiloopClient(server.url, timeout=PATIENT, accept_timeout=PATIENT, clock=clock) as client,
    ):
        future = background(client.authorize, "Deploy", timeout=PATIENT)
        prompt = server.next_prompt()
        with server.hub.changed:
            server.drop_sockets()
            prompt.approve(at="terminal")
        listens_again(server)
        asked_again(server, 1)
        clock.now += PATIENT
        assert future.result(PATIENT).reason == "lost"


def test_still_shown_until_the_deadline(
    new_server: FakeAiloopServer, clock: Clock, background: InBackground
) -> None:
    """The server says that it still asks: then the end of the time is only that."""
    with AiloopClient(
        new_server.url, timeout=PATIENT, accept_timeout=PATIENT, clock=clock
    ) as client:
        future = background(client.authorize, "Deploy", timeout=PATIENT)
        prompt = new_server.next_prompt()
        pending = new_server.requests.count("GET /api/v1/pending")
        new_server.drop_connections()
        new_server.wait_until(lambda: new_server.requests.count("GET /api/v1/pending") > pending)
        clock.pass_deadline(new_server, prompt)
        assert future.result(PATIENT).reason in {"timed_out", "lost"}
        new_server.wait_until(lambda: prompt.id in new_server.withdrawn)


def test_behind_another_prompt(
    new_server: FakeAiloopServer, new_client: AiloopClient, background: InBackground
) -> None:
    """A prompt that is not shown yet is not given up: its turn comes."""
    first = background(new_client.ask, "One?", ["a", "b"], timeout=1000)
    new_server.next_prompt()
    second = background(new_client.ask, "Two?", ["a", "b"], timeout=1000)
    new_server.wait_until(lambda: len(new_server.asked) == 2)
    new_server.drop_connections()
    listens_again(new_server)
    asked_again(new_server, 2)
    new_server.asked[0].answer("a", at="terminal")
    assert first.result(PATIENT).option_id == "a"
    new_server.next_prompt().answer("b", at="terminal")
    assert second.result(PATIENT).option_id == "b"


def test_lost_again_and_again(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """Each loss is recovered; the prompt was sent once."""
    future = background(client.authorize, "Deploy", timeout=PATIENT)
    prompt = server.next_prompt()
    for number in range(1, 4):
        server.drop_connections()
        asked_again(server, number)
        listens_again(server)
    prompt.approve(at="http")
    assert future.result(PATIENT)
    assert len(server.asked) == 1


def test_server_is_away_for_a_while(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """The client keeps trying; what comes back has forgotten the prompt."""
    future = background(client.authorize, "Deploy", timeout=1000)
    server.next_prompt()
    server.stop()
    assert not future.done()
    server.start()
    assert future.result(PATIENT).reason == "lost"


def test_closed_while_the_server_is_away(
    new_server: FakeAiloopServer, new_client: AiloopClient, background: InBackground
) -> None:
    """The prompt was sent: nobody knows whether it is shown."""
    future = background(new_client.ask, "Which?", ["a", "b"], timeout=1000)
    new_server.next_prompt()
    new_server.stop()
    connections_are_in_step(new_server)
    new_client.close(0.1)
    with pytest.raises(AiloopClosedError) as caught:
        future.result(PATIENT)
    assert caught.value.outcome == "unknown"


def test_large_replay(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """A message of 1.5 MB in the replay does not cut the connection."""
    server.post({"type": "notification", "text": "x" * 1_500_000}, channel="logs")
    future = background(client.authorize, "Deploy", timeout=PATIENT)
    prompt = server.next_prompt()
    server.drop_connections()
    listens_again(server)
    asked_again(server, 1)
    prompt.approve(at="terminal")
    assert future.result(PATIENT)
    assert server.websocket_connections == 2


def test_lost_before_the_echo(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """The server may have the prompt or not: it is looked for, and not sent again."""
    client.say("connected")
    server.ignore_frames()
    future = background(client.authorize, "Deploy", timeout=PATIENT)
    server.wait_until(lambda: server.hub.ignored == 1)
    server.drop_connections()
    assert future.result(PATIENT).reason == "lost"
    assert server.asked == []


def test_lost_while_idle(server: FakeAiloopServer, client: AiloopClient) -> None:
    """An idle connection that was cut is replaced without a word, for messages too."""
    client.say("one")
    server.drop_connections()
    connections_are_in_step(server)
    client.say("two")
    server.restart()
    connections_are_in_step(server)
    server.approves()
    assert client.authorize("Deploy")


def test_notification_that_is_lost_before_the_echo(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """Whether it was taken is not known, so it is an error."""
    client.say("one")
    server.ignore_frames()
    future: Future[Any] = background(client.say, "two")
    server.wait_until(lambda: server.hub.ignored == 1)
    server.drop_connections()
    with pytest.raises(NotAcceptedError) as caught:
        future.result(PATIENT)
    assert caught.value.outcome == "unknown"


def test_several_callers_share_the_recovery(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """One connection is opened for all who lost theirs."""
    futures = [background(client.authorize, f"Step {number}", timeout=1000) for number in range(8)]
    server.wait_until(lambda: len(server.asked) == 8)

    server.drop_connections()
    asked_again(server, 8)
    server.approves()
    server.asked[0].approve(at="terminal")  # it was shown before
    assert all(future.result(PATIENT) for future in futures)
    assert server.websocket_connections == 2


def test_what_goes_wrong_is_logged_without_the_token(
    background: InBackground, caplog: pytest.LogCaptureFixture
) -> None:
    """No log line has it, at any level."""
    caplog.set_level(logging.DEBUG)
    with (
        FakeAiloopServer(token="very-secret-token") as server,
        AiloopClient(server.url, token="very-secret-token", accept_timeout=PATIENT) as client,
    ):
        future = background(client.authorize, "Deploy", timeout=PATIENT)
        server.next_prompt()
        server.restart()
        assert not future.result(PATIENT)
    assert caplog.records
    assert "very-secret-token" not in caplog.text
