"""Questions for which nobody waits: asked by one process, answered to another one, once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync.ailoop import (
    AiloopClient,
    AiloopConfigError,
    Answer,
    AnsweredQuestion,
    Authorization,
    NotAcceptedError,
    PendingQuestions,
)
from buttdial_sync.testing import FakeAiloopServer
from tests.integration.ailoop.conftest import PATIENT, InBackground

Handler = Callable[[AnsweredQuestion], object]


class Now:
    """The time of the rows."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 1, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.moment

    def go_on(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture(params=["memory", "sqlite"])
def questions(
    request: pytest.FixtureRequest, tmp_path: Path, now: Now
) -> Iterator[PendingQuestions]:
    if request.param == "memory":
        yield PendingQuestions.in_memory(clock=now)
        return
    with PendingQuestions.in_sqlite(tmp_path / "questions.db", clock=now) as made:
        yield made


def other_client(server: FakeAiloopServer) -> AiloopClient:
    return AiloopClient(
        server.url, timeout=PATIENT, accept_timeout=PATIENT, sleep=lambda seconds: None
    )


def test_answer_over_http(
    server: FakeAiloopServer, client: AiloopClient, questions: PendingQuestions, now: Now
) -> None:
    """Another client finds it in the history, and hands it over once, with what belongs to it."""
    seen: list[AnsweredQuestion] = []
    message_id = client.post_question(
        questions, "Where?", ["stage", "prod"], about={"order": 42}, timeout=600
    )
    prompt = server.next_prompt()
    assert (prompt.id, prompt.content["timeout_seconds"]) == (message_id, 605)
    with other_client(server) as other:
        prompt.answer("purple", at="http")
        report = other.resume(questions, seen.append)
        if server.hub.generation == "decision":
            assert (report.handed_over, report.waiting) == (0, 1)
        prompt.answer("2", at="http")
        now.go_on(5)
        assert other.resume(questions, seen.append).handed_over == 1
        now.go_on(3600)
        assert other.resume(questions, seen.append).handed_over == 0
    (answered,) = seen
    assert (answered.message_id, answered.about) == (message_id, {"order": 42})
    assert isinstance(answered.result, Answer)
    assert (answered.result.status, answered.result.option_id) == ("answered", "prod")
    assert questions.stats()["handed_over"] == 1


@pytest.mark.parametrize(("act", "approved"), [("approve", True), ("deny", False)])
def test_authorization(
    server: FakeAiloopServer,
    client: AiloopClient,
    questions: PendingQuestions,
    act: str,
    approved: bool,
) -> None:
    """An approval is one for a person's yes only."""
    seen: list[AnsweredQuestion] = []
    client.post_authorization(questions, "Deploy", context={"v": 1})
    getattr(server.next_prompt(), act)(at="http")
    client.resume(questions, seen.append)
    assert isinstance(seen[0].result, Authorization)
    assert bool(seen[0].result) is approved


def test_restart(
    server: FakeAiloopServer, client: AiloopClient, questions: PendingQuestions
) -> None:
    """A restarted server has forgotten the question."""
    seen: list[AnsweredQuestion] = []
    client.post_authorization(questions, "Deploy")
    server.next_prompt()
    server.restart()
    with other_client(server) as other:
        other.resume(questions, seen.append)
    assert isinstance(seen[0].result, Authorization)
    assert (seen[0].result.approved, seen[0].result.reason) == (False, "lost")


def test_answer_of_the_terminal_that_nobody_heard(
    new_server: FakeAiloopServer, new_client: AiloopClient, questions: PendingQuestions
) -> None:
    """It is sent only once: lost, and not a yes."""
    seen: list[AnsweredQuestion] = []
    new_client.post_authorization(questions, "Deploy")
    new_server.next_prompt().approve(at="terminal")
    with other_client(new_server) as other:
        other.resume(questions, seen.append)
    assert isinstance(seen[0].result, Authorization)
    assert (seen[0].result.approved, seen[0].result.reason) == (False, "lost")


def test_watching_hears_the_terminal(
    server: FakeAiloopServer, questions: PendingQuestions, now: Now, background: InBackground
) -> None:
    """While somebody watches, its answers are kept and handed over, once among two watchers."""
    seen: list[AnsweredQuestion] = []
    handed_over = threading.Event()

    def handler(answered: AnsweredQuestion) -> None:
        seen.append(answered)
        handed_over.set()

    clients = [AiloopClient(server.url, timeout=PATIENT, accept_timeout=PATIENT) for _ in range(2)]
    watching = [background(each.resume, questions, handler, watch=True) for each in clients]
    server.wait_until(lambda: sum(each.is_viewer for each in server.hub.sockets.values()) == 2)
    with other_client(server) as other:
        other.post_authorization(questions, "Deploy")
        prompt = server.next_prompt()
        prompt.approve(at="terminal")
        assert handed_over.wait(PATIENT)
    for each in clients:
        each.close(PATIENT)
    assert sum(future.result(PATIENT).handed_over for future in watching) == 1
    assert [bool(answered.result) for answered in seen] == [True]


def test_nobody_answers(
    new_server: FakeAiloopServer,
    new_client: AiloopClient,
    questions: PendingQuestions,
    now: Now,
) -> None:
    """After its time the question is withdrawn and handed over as timed out."""
    seen: list[AnsweredQuestion] = []
    message_id = new_client.post_question(questions, "Which?", ["a", "b"], timeout=600)
    new_server.next_prompt()
    assert new_client.resume(questions, seen.append).waiting == 1
    assert new_client.resume(questions, seen.append).waiting == 0  # not due yet
    now.go_on(601)
    assert new_client.resume(questions, seen.append).handed_over == 1
    assert isinstance(seen[0].result, Answer)
    assert seen[0].result.status == "timed_out"
    new_server.wait_until(lambda: new_server.withdrawn == [message_id])


def test_server_that_is_away(
    server: FakeAiloopServer, client: AiloopClient, questions: PendingQuestions, now: Now
) -> None:
    """Not being able to look says nothing about the answer."""
    client.post_question(questions, "Which?", ["a", "b"])
    server.next_prompt()
    server.stop()
    with AiloopClient(server.url, max_attempts=1) as other:
        assert other.resume(questions, lambda answered: None).waiting == 1
    assert questions.count_pending() == 1


def test_handler_that_raises(
    server: FakeAiloopServer, client: AiloopClient, questions: PendingQuestions, now: Now
) -> None:
    """It gets the answer again, though the server has forgotten it, and not for ever."""

    def fail(answered: AnsweredQuestion) -> None:
        raise RuntimeError("the database is away")

    seen: list[AnsweredQuestion] = []
    client.post_question(questions, "Which?", ["a", "b"])
    message_id = client.post_question(questions, "Other?", ["a", "b"])
    server.next_prompt().answer("b", at="http")
    server.next_prompt().answer("b", at="http")
    assert client.resume(questions, fail).failed == 2
    server.restart()
    now.go_on(30)
    assert (
        client.resume(
            questions, lambda it: seen.append(it) if it.message_id != message_id else fail(it)
        ).failed
        == 1
    )
    assert [each.result.option_id for each in seen if isinstance(each.result, Answer)] == ["b"]
    for _ in range(6):
        now.go_on(30)
        client.resume(questions, fail)
    assert questions.stats() == {"pending": 0, "handed_over": 1, "dead": 1, "dismissed": 0}


def test_question_that_was_not_sent(server: FakeAiloopServer, questions: PendingQuestions) -> None:
    """Who gets an error does not get an answer later."""
    with AiloopClient(server.url, accept_timeout=0.3) as client:
        with pytest.raises(AiloopConfigError, match="JSON"):
            client.post_question(questions, "Which?", ["a", "b"], about=object())
        client.server_info()
        server.ignore_frames()
        with pytest.raises(NotAcceptedError):
            client.post_question(questions, "Which?", ["a", "b"])
    assert questions.count_pending() == 0


def test_process_that_died_before_sending(
    server: FakeAiloopServer, client: AiloopClient, questions: PendingQuestions, now: Now
) -> None:
    """Nobody looks while it may still be sent; later it is lost, and told."""
    from buttdial_sync.ailoop.answers import Prompt

    seen: list[Any] = []
    prompt = Prompt(
        id="6a4aa2a6-7c24-4a2c-9d0c-0d0d0d0d0d0d", channel="public", kind="authorization"
    )
    questions.add(prompt, None, seconds=600, sending=30)
    assert client.resume(questions, seen.append).waiting == 0
    now.go_on(35)
    assert client.resume(questions, seen.append).handed_over == 1
    assert seen[0].result.reason == "lost"
