"""A client that is closed while a prompt is on its way: none is left behind for nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from buttdial_sync.ailoop import (
    AiloopClient,
    AiloopClosedError,
    NotAcceptedError,
    PendingQuestions,
)
from buttdial_sync.ailoop.questions import questions_schema
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.stores.memory import MemoryStore
from buttdial_sync.stores.schema import Condition
from buttdial_sync.testing import FakeAiloopServer
from tests.integration.ailoop.conftest import PATIENT, InBackground


class StoreOfSlowCaller(MemoryStore):
    """Takes a change only when the client is closed."""

    def __init__(self) -> None:
        super().__init__(questions_schema())
        self.closed = threading.Event()

    def update(self, row_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        assert self.closed.wait(PATIENT)
        return super().update(row_id, changes, condition)


def post(client: AiloopClient, questions: PendingQuestions) -> object:
    return client.post_question(questions, "Which?", ["a", "b"])


def ask(client: AiloopClient, _: PendingQuestions) -> object:
    return client.ask("Which?", ["a", "b"])


def navigate(client: AiloopClient, _: PendingQuestions) -> object:
    return client.navigate("https://host.test")


def navigate_without_waiting(client: AiloopClient, _: PendingQuestions) -> object:
    return client.navigate_without_waiting("https://host.test")


Call = Callable[[AiloopClient, PendingQuestions], object]


@pytest.mark.parametrize("call", [ask, navigate, post, navigate_without_waiting])
def test_closed_before_the_prompt_has_left(server: FakeAiloopServer, call: Call) -> None:
    """It is not sent, because nobody might be left who withdraws it."""

    def on_event(event: ClientEvent) -> None:
        if event.kind == "connect":
            client._sockets.waiters.close(0)  # what close() does first

    client = AiloopClient(server.url, timeout=PATIENT, accept_timeout=PATIENT, on_event=on_event)
    questions = PendingQuestions.in_memory()
    with client, pytest.raises(AiloopClosedError) as caught:
        call(client, questions)
    assert caught.value.outcome == "not_sent"
    assert server.asked == []
    assert questions.count_pending() == 0


@pytest.mark.parametrize("call", [post, navigate_without_waiting])
def test_closed_before_the_echo(
    new_server: FakeAiloopServer, background: InBackground, call: Call
) -> None:
    """Close waits until it is withdrawn, because the server may have it."""
    store = StoreOfSlowCaller()
    questions = PendingQuestions(store)
    with AiloopClient(new_server.url, timeout=PATIENT, accept_timeout=PATIENT) as client:
        client.server_info()
        new_server.ignore_frames()
        future = background(call, client, questions)
        new_server.wait_until(lambda: new_server.hub.ignored == 1)
        client.close(PATIENT)
        store.closed.set()
        with pytest.raises(NotAcceptedError):
            future.result(PATIENT)
    assert any(each.endswith("/response") for each in new_server.requests)
    assert questions.count_pending() == 0
