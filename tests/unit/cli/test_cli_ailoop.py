"""The commands that ask a person, against the fake ailoop server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from buttdial_sync.ailoop import AiloopClient, PendingQuestions
from buttdial_sync.cli import main
from buttdial_sync.testing import FakeAiloopServer
from tests.unit.cli.cli_runner import SEPARATED


def run(server: FakeAiloopServer | None, *arguments: str, **environ: str) -> Result:
    env = {"no_proxy": "127.0.0.1", "AILOOP_SERVER": server.url if server else "", **environ}
    return CliRunner(env=env, **SEPARATED).invoke(main, ["ailoop", *arguments])


def data_of(result: Result) -> Any:
    return json.loads(result.stdout.splitlines()[-1])


def test_authorize_is_zero_for_an_approval(ailoop_server: FakeAiloopServer) -> None:
    """The one way to 0."""
    ailoop_server.approves()
    result = run(ailoop_server, "authorize", "Deploy", "--context", "1.4", "--confirm-settled")
    assert (result.exit_code, result.stdout) == (0, "Approved.\n")
    assert ailoop_server.asked[0].content["context"] == "1.4"
    assert data_of(run(ailoop_server, "authorize", "Deploy", "--json"))["approved"] is True


@pytest.mark.parametrize(
    ("reaction", "reason"),
    [
        (lambda prompt: prompt.deny(), "denied"),
        (lambda prompt: prompt.expire(), "denied"),
        (lambda prompt: prompt.answer("yes"), "text"),
    ],
)
def test_authorize_is_not_zero_for_anything_else(
    ailoop_server: FakeAiloopServer, reaction: Any, reason: str
) -> None:
    """Each denial has the exit code 1, and its reason on stderr."""
    ailoop_server.when_asked(reaction)
    result = run(ailoop_server, "authorize", "Deploy")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"not approved: {reason}" in result.stderr
    data = data_of(run(ailoop_server, "authorize", "Deploy", "--json"))
    assert (data["ok"], data["approved"], data["reason"]) == (False, False, reason)


def test_authorize_without_a_server(ailoop_server: FakeAiloopServer) -> None:
    """Nothing was asked, and that is no success either."""
    assert run(None, "authorize", "Deploy").exit_code == 2
    assert run(ailoop_server, "authorize", "").exit_code == 2
    assert run(ailoop_server, "authorize").exit_code == 2
    assert run(ailoop_server, "authorize", "x", "--channel", "a b").exit_code == 2
    assert run(ailoop_server, "authorize", "x", "--timeout", "0").exit_code == 2
    ailoop_server.token = "wanted-token"
    assert run(ailoop_server, "authorize", "Deploy").exit_code == 1
    ailoop_server.stop()
    assert run(ailoop_server, "authorize", "Deploy", "--timeout", "1").exit_code == 3


def test_time_is_over(ailoop_server: FakeAiloopServer) -> None:
    """Nobody answered."""
    assert run(ailoop_server, "authorize", "Deploy", "--timeout", "0.5").exit_code != 0
    ailoop_server.when_asked(lambda prompt: prompt.expire())
    result = run(ailoop_server, "ask", "Which?", "a", "b")
    assert (result.exit_code, result.stdout) == (75, "")
    assert "no answer: timed_out" in result.stderr


def test_token_comes_from_the_environment(ailoop_server: FakeAiloopServer) -> None:
    """It is in no option, which other users of the machine could read."""
    ailoop_server.token = "wanted-token"
    ailoop_server.approves()
    assert run(ailoop_server, "authorize", "Deploy", AILOOP_TOKEN="wanted-token").exit_code == 0


def test_ask(ailoop_server: FakeAiloopServer) -> None:
    """The choice goes to stdout, ready for a script."""
    ailoop_server.answers("2")
    result = run(ailoop_server, "ask", "Where?", "stage", "prod", "--recommend", "stage")
    assert (result.exit_code, result.stdout) == (0, "prod\n")
    data = data_of(run(ailoop_server, "ask", "Where?", "stage", "prod", "--json"))
    assert (data["ok"], data["option_id"], data["index"]) == (True, "prod", 1)
    free = run(ailoop_server, "ask", "Where?")
    assert free.exit_code == 2
    assert "no free text" in free.stderr


def test_say_and_navigate(ailoop_server: FakeAiloopServer) -> None:
    """They say the id, or what the person said."""
    said = data_of(run(ailoop_server, "say", "Done", "--priority", "high", "--json"))
    message = ailoop_server.hub.find(said["message_id"])
    assert message is not None
    assert message["content"]["priority"] == "high"
    ailoop_server.approves()
    assert run(ailoop_server, "navigate", "https://a.example").stdout == "yes\n"
    ailoop_server.denies()
    assert run(ailoop_server, "navigate", "https://a.example").exit_code == 1
    asked = data_of(run(ailoop_server, "navigate", "https://a.example", "--no-wait", "--json"))
    assert asked["message_id"] == ailoop_server.asked[-1].id


def test_pending_and_answer(ailoop_server: FakeAiloopServer) -> None:
    """One process asks, another one answers."""
    assert run(ailoop_server, "pending").stdout == "No prompt is shown.\n"
    asked = data_of(run(ailoop_server, "navigate", "https://a.example", "--no-wait", "--json"))
    ailoop_server.next_prompt()
    assert asked["message_id"] in run(ailoop_server, "pending").stdout
    (shown,) = data_of(run(ailoop_server, "pending", "--json"))["prompts"]
    assert (shown["message_id"], shown["kind"]) == (asked["message_id"], "navigate")
    assert run(ailoop_server, "answer", asked["message_id"]).exit_code == 2
    assert run(ailoop_server, "answer", asked["message_id"], "x", "--deny").exit_code == 2
    assert run(ailoop_server, "answer", asked["message_id"], "--approve").exit_code == 0
    ailoop_server.wait_until(lambda: ailoop_server.hub.active is None)
    missing = run(ailoop_server, "answer", "00000000-0000-4000-8000-000000000001", "a")
    assert missing.exit_code == 1


def test_tasks(ailoop_server: FakeAiloopServer) -> None:
    """The life of tasks."""

    def task(*arguments: str) -> Result:
        return run(ailoop_server, "tasks", *arguments, "--channel", "release")

    assert task("list").stdout == "No tasks.\n"
    build = data_of(task("create", "Build", "--json"))["id"]
    ship = data_of(task("create", "Ship", "it", "--assignee", "ada", "--json"))["id"]
    assert f"waits for {build}" in task("depend", ship, build).stdout
    assert task("list", "--ready").stdout == f"{build}  pending    Build\n"
    assert ship in task("list", "--blocked").stdout
    assert task("list", "--blocked", "--state", "done").exit_code == 2
    assert task("update", build, "done").stdout == f"{build}  done       Build\n"
    assert [each["id"] for each in data_of(task("list", "--state", "done", "--json"))["tasks"]] == [
        build
    ]
    assert "waits" not in task("depend", ship, build, "--remove").stdout
    assert run(ailoop_server, "tasks", "update", build, "done").exit_code == 1  # another channel


def test_listen(ailoop_server: FakeAiloopServer) -> None:
    """A line for each message."""
    ailoop_server.post({"type": "notification", "text": "hello\x1b[2J"}, channel="builds")
    ailoop_server.post({"type": "notification", "text": "other"})
    result = run(ailoop_server, "listen", "--channel", "builds", "--count", "1")
    assert result.exit_code == 0
    assert '{"type": "notification", "text": "hello\\u001b[2J"}' in result.stdout
    assert "\x1b" not in result.stdout
    lines = run(ailoop_server, "listen", "--count", "2", "--json").stdout.splitlines()
    assert [json.loads(line)["channel"] for line in lines[:2]] == ["builds", "public"]
    assert json.loads(lines[2]) == {"ok": True, "messages": 2}


def test_resume(ailoop_server: FakeAiloopServer, tmp_path: Path) -> None:
    """A line for each answer, each once; a mistyped path makes no file."""
    db = str(tmp_path / "questions.db")
    assert run(ailoop_server, "resume", "--db", db).exit_code == 2
    with (
        PendingQuestions.in_sqlite(db) as questions,
        AiloopClient(ailoop_server.url, accept_timeout=30) as client,
    ):
        message_id = client.post_authorization(questions, "Deploy", about={"order": 42})
    ailoop_server.next_prompt().approve(at="http")
    line, told = run(ailoop_server, "resume", "--db", db).stdout.splitlines()
    answered = json.loads(line)
    assert (answered["message_id"], answered["about"]) == (message_id, {"order": 42})
    assert answered["result"]["approved"] is True
    assert told == "1 answered, 0 waiting"
    again = data_of(run(ailoop_server, "resume", "--db", db, "--json"))
    assert (again["ok"], again["handed_over"]) == (True, 0)
