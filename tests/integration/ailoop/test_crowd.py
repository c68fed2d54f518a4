"""Many threads and forked processes that ask at once."""

from __future__ import annotations

import multiprocessing
import random
import threading
from typing import Any

import pytest

from buttdial_sync.ailoop import AiloopClient
from buttdial_sync.testing import FakeAiloopServer
from buttdial_sync.testing.ailoop_hub import FakePrompt
from tests.integration.ailoop.conftest import PATIENT, Clock, InBackground

THREADS = 32
CHANNELS = ("one", "two", "three", "four")


def test_each_thread_gets_its_own_answer(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """32 threads on four channels, one prompt at a time: no mix-up, and one connection."""

    def answer(prompt: FakePrompt) -> None:
        wanted = str(prompt.content.get("summary") or prompt.content["text"])
        prompt.answer(wanted, at=random.choice(["http", "terminal"]))

    def ask(number: int) -> bool:
        wanted = str(number % 7)
        answer = client.ask(
            wanted,
            [str(choice) for choice in range(7)],
            channel=CHANNELS[number % 4],
            timeout=PATIENT,
        )
        return answer.option_id == wanted

    server.when_asked(answer)
    futures = [background(ask, number) for number in range(THREADS)]
    assert [future.result(PATIENT) for future in futures] == [True] * THREADS
    assert len(server.asked) == THREADS
    assert server.websocket_connections == 1


def test_nobody_hangs_behind_the_others(
    server: FakeAiloopServer, timed_client: AiloopClient, clock: Clock, background: InBackground
) -> None:
    """Whatever stands ahead in the queue: every deadline ends its caller."""
    first = background(timed_client.authorize, "First", timeout=1000)
    server.next_prompt()
    futures = [
        background(timed_client.authorize, "Next", timeout=PATIENT, channel=CHANNELS[number % 4])
        for number in range(THREADS)
    ]
    server.wait_until(lambda: len(server.asked) == 1 + THREADS)
    server.wait_until_received()
    clock.now += PATIENT
    for prompt in server.asked[1:]:
        clock.wake(server, prompt)
    assert {future.result(PATIENT).reason for future in futures} == {"timed_out"}
    assert not first.done()
    server.asked[0].approve(at="terminal")
    assert first.result(PATIENT)


def test_answers_while_the_connection_breaks(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """Answers given over HTTP reach every thread across a break."""
    futures = [
        background(client.ask, str(number), ["a", "b"], channel=CHANNELS[number % 4], timeout=1000)
        for number in range(THREADS)
    ]
    server.wait_until(lambda: len(server.asked) == THREADS)
    with server.hub.changed:
        server.drop_sockets()
        for number, prompt in enumerate(server.asked):
            prompt.answer("ab"[number % 2], at="http")
    wanted = {prompt.id: "ab"[number % 2] for number, prompt in enumerate(server.asked)}
    for future in futures:
        answer = future.result(PATIENT)
        assert answer.option_id == wanted[answer.message_id]


def _authorize(client: AiloopClient, answers: Any) -> None:
    answers.put(bool(client.authorize("From the child")))
    client.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs os.fork()")
def test_forked_child(new_server: FakeAiloopServer, new_client: AiloopClient) -> None:
    """A child opens connections of its own; the parent's go on, also while it waits."""
    results: list[bool] = []
    parent = threading.Thread(
        target=lambda: results.append(bool(new_client.authorize("From the parent", timeout=1000)))
    )
    parent.start()
    prompt = new_server.next_prompt()
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_authorize, args=(new_client, answers))
    child.start()
    new_server.wait_until(lambda: len(new_server.asked) == 2)
    new_server.approves()
    prompt.approve()
    assert answers.get(timeout=PATIENT) is True
    child.join(PATIENT)
    assert child.exitcode == 0
    parent.join(PATIENT)
    assert results == [True]
    assert new_server.websocket_connections == 2
