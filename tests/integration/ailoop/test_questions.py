"""Questions for which nobody waits: asked by one process, answered to another one, once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
from buttdial_sync.ailoop.questions import questions_schema
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.stores.memory import MemoryStore
from buttdial_sync.stores.schema import LEASE, Claim, Condition, Row
from buttdial_sync.stores.times import Clock
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


class FailingStore(MemoryStore):
    """A database that fails when it is told to."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(questions_schema(), clock)
        self.failures: Counter[str] = Counter()
        self.error: type[BaseException] = RuntimeError
        self.failed = threading.Event()
        self.extended = threading.Semaphore(0)

    def fail(self, what: str, times: int = 1) -> None:
        """Fail in ``"claim"``, ``"extend_lease"``, or updates of this column, so many times."""
        self.failures[what] = times

    def wait_until_extended(self) -> None:
        """Wait until a lease was extended that knows what time it is."""
        while self.extended.acquire(blocking=False):
            pass
        for _ in range(2):  # the first may have looked at the clock before
            assert self.extended.acquire(timeout=PATIENT)

    def claim(self, claim: Claim) -> list[Row]:
        self._fail_at(["claim"])
        return super().claim(claim)

    def update(self, row_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        is_extended = changes.keys() == {LEASE}
        self._fail_at(["extend_lease"] if is_extended else changes)
        done = super().update(row_id, changes, condition)
        if is_extended:
            self.extended.release()
        return done

    def _fail_at(self, names: Any) -> None:
        for name in names:
            if self.failures[name] > 0:
                self.failures[name] -= 1
                self.failed.set()
                raise self.error("database is locked")


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


def post_answered(
    server: FakeAiloopServer, client: AiloopClient, questions: PendingQuestions, count: int
) -> None:
    """Ask, and have the answers known already."""
    for number in range(count):
        client.post_question(questions, f"Which {number}?", ["a", "b"], about=number)
        server.next_prompt().answer("b", at="http")
    for message in client.history():
        questions.record(message.raw)


def test_slow_handlers_of_two_processes(
    new_server: FakeAiloopServer,
    new_client: AiloopClient,
    questions: PendingQuestions,
    now: Now,
) -> None:
    """The lease is for one answer, not for all that a pass hands over."""
    post_answered(new_server, new_client, questions, 6)
    seen: list[Any] = []

    def slow(answered: AnsweredQuestion) -> None:
        seen.append(answered.about)
        now.go_on(questions.lease * 0.4)
        if len(seen) == 4:
            other.resume(questions, lambda it: seen.append(it.about))

    with other_client(new_server) as other:
        new_client.resume(questions, slow)
    assert sorted(seen) == [0, 1, 2, 3, 4, 5]


def test_lease_begins_again_after_looking(
    new_server: FakeAiloopServer, questions: PendingQuestions, now: Now
) -> None:
    """Looking at a slow server, and then the handler, may take most of a lease each."""
    seen: list[Any] = []

    def slow_server(event: ClientEvent) -> None:
        if event.kind == "answer" and event.operation.endswith("/messages"):
            now.go_on(questions.lease * 0.7)

    def handler(answered: AnsweredQuestion) -> None:
        now.go_on(questions.lease * 0.7)
        other.resume(questions, seen.append)
        seen.append(answered)

    with (
        other_client(new_server) as other,
        AiloopClient(new_server.url, timeout=PATIENT, on_event=slow_server) as client,
    ):
        other.post_question(questions, "Which?", ["a", "b"])
        new_server.next_prompt().answer("b", at="http")
        client.resume(questions, handler)
    assert len(seen) == 1


@pytest.mark.parametrize("error", [None, RuntimeError, SystemExit, asyncio.CancelledError])
def test_handler_that_takes_longer_than_the_lease(
    new_server: FakeAiloopServer,
    new_client: AiloopClient,
    now: Now,
    error: type[BaseException] | None,
) -> None:
    """The lease is extended, also if the store fails once, so nobody else hands the answer over."""
    store = FailingStore(now)
    questions = PendingQuestions(store, lease=0.3)
    seen: list[Any] = []

    def slow(answered: AnsweredQuestion) -> None:
        for _ in range(4):
            now.go_on(0.2)
            store.wait_until_extended()
            other.resume(questions, seen.append)
        seen.append(answered)

    with other_client(new_server) as other:
        other.post_question(questions, "Which?", ["a", "b"])
        new_server.next_prompt().answer("b", at="http")
        if error is not None:
            store.error = error
            store.fail("extend_lease")
        assert new_client.resume(questions, slow).handed_over == 1
    assert len(seen) == 1
    assert store.failed.is_set() == (error is not None)


def test_lease_whose_extension_hangs(
    new_server: FakeAiloopServer, background: InBackground
) -> None:
    """The pass does not wait for it: the row that it would extend has no lease any more."""
    begun, go_on = threading.Event(), threading.Event()

    @contextmanager
    def around() -> Iterator[None]:
        if threading.current_thread().name.endswith("-lease"):
            begun.set()
            go_on.wait(PATIENT)
        yield

    questions = PendingQuestions(MemoryStore(questions_schema()), lease=0.3, around=around)
    with other_client(new_server) as client:
        client.post_question(questions, "Which?", ["a", "b"])
        new_server.next_prompt().answer("b", at="http")
        try:
            passing = background(client.resume, questions, lambda _: begun.wait(PATIENT))
            assert passing.result(PATIENT / 2).handed_over == 1
        finally:
            go_on.set()


def test_pass_that_takes_longer_than_a_postponement(
    new_server: FakeAiloopServer, questions: PendingQuestions, now: Now
) -> None:
    """It looks at each question once, and ends."""
    looked: list[object] = []

    def slow_server(event: ClientEvent) -> None:
        looked.append(event.operation)
        if len(looked) < 100:  # without the end that is tested there would be none
            now.go_on(5)

    with (
        other_client(new_server) as other,
        AiloopClient(new_server.url, timeout=PATIENT, on_event=slow_server) as client,
    ):
        for number in range(3):
            other.post_question(questions, f"Which {number}?", ["a", "b"])
        assert client.resume(questions, looked.append).waiting == 3


def test_store_that_fails_when_the_terminal_answers(
    new_server: FakeAiloopServer, new_client: AiloopClient, background: InBackground
) -> None:
    """Such an answer comes once: it is kept until it is written down; the first one counts."""
    store = FailingStore()
    questions = PendingQuestions(store)
    seen: list[AnsweredQuestion] = []
    handed_over = threading.Event()

    def handler(answered: AnsweredQuestion) -> None:
        seen.append(answered)
        handed_over.set()

    watching = background(new_client.resume, questions, handler, watch=True)
    new_server.wait_until(lambda: any(each.is_viewer for each in new_server.hub.sockets.values()))
    with other_client(new_server) as other:
        message_id = other.post_authorization(questions, "Deploy")
        prompt = new_server.next_prompt()
        store.fail("reply")
        prompt.deny(at="terminal")
        assert store.failed.wait(PATIENT)
        other.respond(message_id, None, "authorization_approved")
        assert handed_over.wait(PATIENT)
    new_client.close(PATIENT)
    assert watching.result(PATIENT).handed_over == 1
    assert isinstance(seen[0].result, Authorization)
    assert seen[0].result.reason == "denied"


def test_watching_goes_on_after_a_failure_of_the_store(
    new_server: FakeAiloopServer, new_client: AiloopClient, background: InBackground
) -> None:
    """The next pass may succeed; meanwhile somebody has to listen."""
    store = FailingStore()
    questions = PendingQuestions(store)
    store.fail("claim")
    handed_over = threading.Event()
    watching = background(
        new_client.resume, questions, lambda answered: handed_over.set(), watch=True
    )
    assert store.failed.wait(PATIENT)
    with other_client(new_server) as other:
        other.post_authorization(questions, "Deploy")
        new_server.next_prompt().approve(at="http")
        assert handed_over.wait(PATIENT)
    new_client.close(PATIENT)
    assert watching.result(PATIENT).handed_over == 1


def test_store_that_fails_after_the_handler(new_server: FakeAiloopServer) -> None:
    """It is told again that the answer was handed over; the handler is not called again."""
    store = FailingStore()
    seen: list[AnsweredQuestion] = []
    with other_client(new_server) as client:
        questions = PendingQuestions(store)
        client.post_question(questions, "Which?", ["a", "b"])
        new_server.next_prompt().answer("b", at="http")
        store.fail("status", times=5)
        assert client.resume(questions, seen.append).handed_over == 1
        client.resume(questions, seen.append)
    assert len(seen) == 1
    assert questions.stats()["handed_over"] == 1


@pytest.mark.parametrize(
    "broken",
    [
        {"prompt": json.dumps({"id": "x", "asks": "Which?", "options": []})},
        {"prompt": "{"},
        {"prompt": "[]"},
        {"about": "{"},
        {"reply": json.dumps({"said": "yes"})},
        {"reply": "yes"},
        {"expires_at": None},
    ],
    ids=lambda broken: json.dumps(broken)[:30],
)
def test_row_that_cannot_be_read(
    new_server: FakeAiloopServer,
    new_client: AiloopClient,
    broken: Mapping[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is given up, and told; the others are handed over."""
    questions = PendingQuestions.in_memory()
    seen: list[Any] = []
    for number in range(3):
        message_id = new_client.post_question(questions, "Which?", ["a", "b"], about=number)
        new_server.next_prompt().answer("b", at="http")
        if number < 2:
            assert questions.store.update(message_id, broken, Condition())
    assert new_client.history()
    for message in new_client.history():
        questions.record(message.raw)
    new_client.resume(questions, lambda answered: seen.append(answered.about))
    assert seen == [2]
    assert questions.stats()["dead"] == 2
    assert caplog.text.count("cannot be read") == 2
    row = questions.store.newest("dead", 1)[0]
    assert row["last_error"].startswith("the row cannot be read")


def test_store_that_fails_once_the_question_was_sent(
    new_server: FakeAiloopServer, new_client: AiloopClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The person sees it: a caller that got an error would ask again."""
    store = FailingStore()
    questions = PendingQuestions(store)
    store.fail("next_retry_at")
    message_id = new_client.post_question(questions, "Refund?", ["yes", "no"])
    assert store.failed.is_set()
    assert f"the row of question {message_id} could not be changed" in caplog.text
    assert new_server.next_prompt().id == message_id
    assert questions.count_pending() == 1


def test_store_that_fails_once_the_question_was_not_sent(new_server: FakeAiloopServer) -> None:
    """What became of the prompt is told, not what became of the row."""
    store = FailingStore()
    with AiloopClient(new_server.url, accept_timeout=0.3) as client:
        client.server_info()
        new_server.ignore_frames()
        store.fail("status")
        with pytest.raises(NotAcceptedError):
            client.post_question(PendingQuestions(store), "Which?", ["a", "b"])
    assert store.failed.is_set()


def test_answer_at_the_terminal_while_others_are_shown(
    new_server: FakeAiloopServer,
    new_client: AiloopClient,
    questions: PendingQuestions,
    now: Now,
) -> None:
    """Nobody heard it, so nobody knows whether there was one: it is not "timed out"."""
    seen: list[AnsweredQuestion] = []
    new_client.post_authorization(questions, "Deploy", timeout=600)
    new_server.next_prompt().approve(at="terminal")
    with other_client(new_server) as other:
        other.navigate_without_waiting("https://example.com")
        new_server.next_prompt()
        assert new_client.resume(questions, seen.append).waiting == 1
        now.go_on(601)
        new_client.resume(questions, seen.append)
    assert isinstance(seen[0].result, Authorization)
    assert seen[0].result.reason == "lost"


def test_nobody_is_known_to_have_answered_an_old_server(
    questions: PendingQuestions, now: Now
) -> None:
    """It does not tell what it shows, so the question is lost; and withdrawn, to be safe."""
    seen: list[AnsweredQuestion] = []
    with FakeAiloopServer("question") as server, other_client(server) as client:
        message_id = client.post_question(questions, "Which?", ["a", "b"], timeout=600)
        server.next_prompt()
        now.go_on(601)
        client.resume(questions, seen.append)
        server.wait_until(lambda: server.withdrawn == [message_id])
    assert isinstance(seen[0].result, Answer)
    assert seen[0].result.status == "lost"


@pytest.mark.parametrize("correlation_id", ["\0", "\ud800", "x" * 10_000, "", 7, None])
def test_responses_to_what_cannot_be_a_prompt(
    correlation_id: object, questions: PendingQuestions
) -> None:
    """A database that refuses such an id is not asked: the answer would be tried for ever."""
    assert not questions.record({"correlation_id": correlation_id})
