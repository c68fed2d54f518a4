"""Questions to people in a Django project: the table, the settings, the admin page."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import Client, override_settings

from buttdial_sync.ailoop import AiloopClosedError, AnsweredQuestion
from buttdial_sync.contrib.django import get_ailoop
from buttdial_sync.contrib.django.models import AiloopQuestion
from buttdial_sync.contrib.django.process import forget_everything
from buttdial_sync.contrib.django.questions import DatabaseQuestions, get_questions
from buttdial_sync.testing import FakeAiloopServer
from tests.unit.contrib.django_settings import BUTT_DIAL

pytestmark = pytest.mark.usefixtures("project")

PAGE = "/admin/buttdial_sync/ailoopquestion/"
PATIENT = 30.0
answers: list[AnsweredQuestion] = []


def keep(answered: AnsweredQuestion) -> None:
    answers.append(answered)


def fail(answered: AnsweredQuestion) -> None:
    raise RuntimeError("the host's fault \0")


@pytest.fixture
def server() -> Iterator[FakeAiloopServer]:
    answers.clear()
    with FakeAiloopServer() as server, override_settings(BUTT_DIAL=configured(server)):
        yield server


def configured(server: FakeAiloopServer, **changes: Any) -> dict[str, Any]:
    ailoop = {"server_url": server.url, "timeout": PATIENT, "accept_timeout": PATIENT}
    return {**BUTT_DIAL, "AILOOP": ailoop, "ON_ANSWER": f"{__name__}.keep", **changes}


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue().strip()


def make_due() -> None:
    earlier = get_questions().store.now() - timedelta(days=1)
    AiloopQuestion.objects.update(next_retry_at=earlier)


def ask() -> str:
    return get_ailoop().post_question(
        get_questions(), "Where?", ["stage", "prod"], about={"order": 42}
    )


def test_the_answer_is_handed_over_once(server: FakeAiloopServer) -> None:
    """With what belongs to it; a question without an answer waits."""
    message_id = ask()
    assert run("buttdial_ailoop") == "0 handed over, 1 waiting, 0 failed"
    server.next_prompt().answer("prod", at="http")
    make_due()
    assert run("buttdial_ailoop") == "1 handed over, 0 waiting, 0 failed"
    assert run("buttdial_ailoop") == "0 handed over, 0 waiting, 0 failed"
    (answered,) = answers
    assert (answered.message_id, answered.about) == (message_id, {"order": 42})
    assert getattr(answered.result, "option_id", None) == "prod"


def test_asking_inside_a_transaction(server: FakeAiloopServer) -> None:
    """It is refused before the person is asked: a rollback would take the question's row away."""
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        ask()
    assert not AiloopQuestion.objects.exists()
    transaction.on_commit(ask)
    assert server.next_prompt().content["type"] == "decision"
    assert len(server.asked) == 1


def test_a_handler_that_fails(server: FakeAiloopServer) -> None:
    """It is called again; what failed eight times is a dead letter for the admin page."""
    message_id = ask()
    server.next_prompt().answer("prod", at="http")
    with override_settings(BUTT_DIAL=configured(server, ON_ANSWER=f"{__name__}.fail")):
        for _ in range(8):
            make_due()
            assert run("buttdial_ailoop") == "0 handed over, 0 waiting, 1 failed"
    row = AiloopQuestion.objects.get()
    assert (row.status, row.retry_count) == ("dead", 8)
    assert str(row.last_error).startswith("RuntimeError: the host's fault")
    assert "\0" not in str(row.last_error)

    http = Client()
    http.force_login(User.objects.create_superuser("ailoop-root"))
    assert http.get(PAGE, {"q": "order"}).context["cl"].result_count == 1
    assert http.get(f"{PAGE}{message_id}/change/").status_code == 200
    chosen = {"_selected_action": [message_id]}
    said = http.post(PAGE, {**chosen, "action": "retry"}, follow=True)
    assert "1 queued" in str(said.content, "utf-8")
    assert run("buttdial_ailoop") == "1 handed over, 0 waiting, 0 failed"
    said = http.post(PAGE, {**chosen, "action": "dismiss"}, follow=True)
    assert "1 not changed" in str(said.content, "utf-8")
    assert len(answers) == 1


def test_giving_up_and_purging(server: FakeAiloopServer) -> None:
    """A question that was dismissed is not handed over, and goes after its time."""
    questions = get_questions()
    assert questions.dismiss(ask())
    assert not questions.force_retry("unknown")
    server.next_prompt().answer("prod", at="http")
    assert run("buttdial_ailoop") == "0 handed over, 0 waiting, 0 failed"
    AiloopQuestion.objects.update(resolved_at=questions.store.now() - timedelta(days=31))
    assert "1 questions" in run("buttdial_purge")
    assert questions.stats() == {"pending": 0, "handed_over": 0, "dead": 0, "dismissed": 0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ON_ANSWER": None}, "ON_ANSWER"),
        ({"ON_ANSWER": "nowhere.at.all"}, "cannot be imported"),
        ({"AILOOP": {}}, "server_url"),
        ({"AILOOP": {"server_url": "http://127.0.0.1:9", "chanel": "x"}}, "chanel"),
    ],
    ids=str,
)
def test_wrong_settings_end_with_2(
    changes: dict[str, Any], said: str, server: FakeAiloopServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And say what is wrong."""
    monkeypatch.delenv("AILOOP_SERVER", raising=False)
    wrong = override_settings(BUTT_DIAL=configured(server, **changes))
    with wrong, pytest.raises(CommandError, match=said) as failure:
        run("buttdial_ailoop")
    assert failure.value.returncode == 2


def test_one_client_for_the_process(server: FakeAiloopServer) -> None:
    """Views share it; it is closed when the settings change."""
    client = get_ailoop()
    assert get_ailoop() is client
    forget_everything()
    with pytest.raises(AiloopClosedError):
        client.server_info()


def test_the_settings_of_the_table(server: FakeAiloopServer) -> None:
    """Such as how long an answer may be handed over."""
    with override_settings(BUTT_DIAL=configured(server, QUESTIONS={"lease": 20.0})):
        assert get_questions().lease == 20.0
    assert isinstance(get_questions(), DatabaseQuestions)
