"""Questions to a person, on both generations of server."""

from __future__ import annotations

import copy
import json
import pickle
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from buttdial_sync.ailoop import (
    AiloopClient,
    AiloopConfigError,
    AiloopNotSupportedError,
    Answer,
    NotAcceptedError,
    Option,
    Recommendation,
    prompting,
)
from buttdial_sync.testing import FakeAiloopServer
from buttdial_sync.testing.ailoop_hub import FakePrompt
from tests.integration.ailoop.conftest import PATIENT, Clock, InBackground

COLOURS = [Option(id="r", label="Red"), Option(id="b", label="Blue")]


@pytest.mark.parametrize("typed", ["Blue", " blue ", "BLUE", "2"])
@pytest.mark.parametrize("at", ["http", "terminal"])
def test_choice(server: FakeAiloopServer, client: AiloopClient, typed: str, at: str) -> None:
    """Label and place mean the option, whoever resolves them."""
    server.answers(typed.strip() if at == "terminal" else typed, at=at)  # type: ignore[arg-type]
    answer = client.ask("Which colour?", options=COLOURS)
    assert (answer.status, answer.option_id, answer.label, answer.index) == (
        "answered",
        "b",
        "Blue",
        1,
    )
    assert answer.message_id == server.asked[0].id
    assert client.get_message(answer.message_id).id == answer.message_id


def test_choices_are_options_with_their_own_text(
    server: FakeAiloopServer, client: AiloopClient
) -> None:
    """A plain choice is its own id."""
    server.answers("Green")
    answer = client.ask("Which?", ["Red", "Green"])
    assert (answer.option_id, answer.label, answer.index) == ("Green", "Green", 1)


def test_what_is_sent_to_a_new_server(
    new_server: FakeAiloopServer, new_client: AiloopClient
) -> None:
    """Options, context and recommendation go where the decision API has them."""
    new_server.answers("b")
    new_client.ask(
        "Which?",
        options=[*COLOURS, Option(id="g", label="Green", detail_markdown="*new*")],
        recommendation=Recommendation(option_id="b", rationale_markdown="calm"),
        context="## Why",
        timeout=29.2,
    )
    content = dict(new_server.asked[0].content)
    assert content.pop("decision_id") == new_server.asked[0].id
    assert content == {
        "type": "decision",
        "summary": "Which?",
        "options": [
            {"id": "r", "label": "Red"},
            {"id": "b", "label": "Blue"},
            {"id": "g", "label": "Green", "detail_markdown": "*new*"},
        ],
        "context_markdown": "## Why",
        "recommendation": {"option_id": "b", "rationale_markdown": "calm"},
        "timeout_seconds": 35,
    }


def test_what_is_sent_to_an_old_server() -> None:
    """What the question API has no field for stands in the text."""
    with FakeAiloopServer("question") as server, AiloopClient(server.url) as client:
        server.answers("Blue")
        client.ask("Which?", options=COLOURS, recommendation="b", context="Why", timeout=29)
        assert server.asked[0].content == {
            "type": "question",
            "text": "Which?\n\nWhy\n\nRecommended: b",
            "choices": ["Red", "Blue"],
            "timeout_seconds": 34,
        }


def test_free_text_on_an_old_server() -> None:
    """The question API has free text."""
    with FakeAiloopServer("question") as server, AiloopClient(server.url) as client:
        server.answers("Ada")
        answer = client.ask("Your name?")
        assert (answer.status, answer.text, answer.option_id) == ("answered", "Ada", None)


def test_free_text_on_a_new_server(new_server: FakeAiloopServer, new_client: AiloopClient) -> None:
    """The decision API has none: an error, and nobody was asked."""
    with pytest.raises(AiloopNotSupportedError, match="free text") as caught:
        new_client.ask("Your name?")
    assert caught.value.outcome == "not_sent"
    assert new_server.asked == []
    assert new_server.websocket_connections == 0


def test_the_server_is_examined_once(server: FakeAiloopServer, client: AiloopClient) -> None:
    """Its generation is remembered, and finding out leaves nothing on the server."""
    server.answers("1")
    client.ask("Which?", ["a", "b"])
    assert server.asked[0].kind == server.hub.generation
    requests = len(server.requests)
    client.ask("Which?", ["a", "b"])
    assert len(server.requests) == requests
    assert set(server.hub.channels) == {"public"}


def test_answer_twice(server: FakeAiloopServer, client: AiloopClient) -> None:
    """Of two answers to one prompt the first counts, and the second is not the next prompt's."""

    def twice(prompt: FakePrompt) -> None:
        prompt.answer("a", at="http")
        prompt.answer("b", at="http")

    server.when_asked(twice)
    assert client.ask("One?", ["a", "b"]).option_id == "a"
    server.answers("b")
    assert client.ask("Two?", ["a", "b"]).option_id == "b"


def test_invalid_answer_and_then_a_valid_one(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """What is not among the choices is not taken."""
    future = background(client.ask, "Which?", ["a", "b"], timeout=PATIENT)
    prompt = server.next_prompt()
    prompt.answer("purple", at="http")
    prompt.answer("0", at="http")
    prompt.answer("3", at="http")
    prompt.answer("", at="http")
    assert not future.done()
    prompt.answer("2", at="http")
    assert future.result(PATIENT).option_id == "b"


def test_only_invalid_answers(
    server: FakeAiloopServer, timed_client: AiloopClient, clock: Clock, background: InBackground
) -> None:
    """Nothing was chosen; the last text is told."""
    future = background(timed_client.ask, "Which?", ["a", "b"], timeout=PATIENT)
    prompt = server.next_prompt()
    prompt.answer("red", at="http")
    prompt.answer("purple", at="http")
    clock.pass_deadline(server, prompt)
    answer = future.result(PATIENT)
    assert (answer.status, answer.text, answer.option_id) == ("timed_out", "purple", None)


@pytest.mark.parametrize(("act", "option"), [("approve", "yes"), ("deny", "no")])
def test_yes_and_no_of_telegram(
    server: FakeAiloopServer, client: AiloopClient, act: str, option: str
) -> None:
    """Telegram says yes and no as an approval and a denial, also to a decision."""
    server.when_asked(lambda prompt: getattr(prompt, act)(at="terminal"))
    answer = client.ask("Sure?", ["no", "maybe", "yes"])
    assert (answer.status, answer.option_id) == ("answered", option)


def test_yes_of_telegram_that_fits_no_option(
    server: FakeAiloopServer, client: AiloopClient
) -> None:
    """It is reported and not guessed at."""
    server.approves()
    answer = client.ask("Which?", ["Red", "Blue"])
    assert (answer.status, answer.text, answer.option_id) == ("answered", "yes", None)


def test_timeout_of_the_server(server: FakeAiloopServer, client: AiloopClient) -> None:
    """The server's own end of a prompt."""
    server.when_asked(lambda prompt: prompt.expire())
    assert client.ask("Which?", ["a", "b"]).status == "timed_out"
    assert server.withdrawn == []


def test_timeout_of_the_client_withdraws(
    server: FakeAiloopServer, timed_client: AiloopClient, clock: Clock, background: InBackground
) -> None:
    """When the caller's time is over, the person is not left with a question for nobody."""
    future = background(timed_client.ask, "Which?", ["a", "b"], timeout=PATIENT)
    clock.pass_deadline(server, server.next_prompt())
    answer = future.result(PATIENT)
    assert answer.status == "timed_out"
    server.wait_until(lambda: server.withdrawn == [answer.message_id])
    server.wait_until(lambda: server.hub.active is None)


def test_skipped_prompt_comes_again(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """A skip is no end: the server asks again, and the answer counts. It was sent once."""
    future = background(client.ask, "Which?", ["a", "b"], timeout=PATIENT)
    server.next_prompt().skip()
    again = server.next_prompt()
    assert not future.done()
    again.answer("a", at="terminal")
    assert future.result(PATIENT).option_id == "a"
    assert again.times_shown == 2
    assert len(server.asked) == 1


def test_return_on_skip(server: FakeAiloopServer, client: AiloopClient) -> None:
    """Who does not want to wait on gets the skip, and the prompt is withdrawn."""
    server.when_asked(lambda prompt: prompt.skip() if prompt.times_shown == 1 else None)
    answer = client.ask("Which?", ["a", "b"], wait_if_skipped=False)
    assert answer.status == "skipped"
    server.wait_until(lambda: server.withdrawn == [answer.message_id])


def test_skipped_until_the_end(
    server: FakeAiloopServer, timed_client: AiloopClient, clock: Clock, background: InBackground
) -> None:
    """If the person only puts it off, the status says so."""
    future = background(timed_client.ask, "Which?", ["a", "b"], timeout=PATIENT)
    server.next_prompt().skip()
    clock.pass_deadline(server, server.next_prompt())
    assert future.result(PATIENT).status == "skipped"


def test_empty_answer(server: FakeAiloopServer, client: AiloopClient) -> None:
    """An answer of null ends the prompt without a choice."""
    server.when_asked(lambda prompt: prompt.answer(None))
    assert client.ask("Which?", ["a", "b"]).status == "skipped"


def test_no_echo(generation: str) -> None:
    """What the server drops is an error after the time for the echo, and withdrawn in case."""
    with (
        FakeAiloopServer(generation) as server,  # type: ignore[arg-type]
        AiloopClient(server.url, accept_timeout=0.3) as client,
    ):
        server.ignore_frames()
        with pytest.raises(NotAcceptedError, match="did not confirm") as caught:
            client.ask("Which?", ["a", "b"])
        assert caught.value.outcome == "unknown"
        with pytest.raises(NotAcceptedError):
            client.say("hello")
        server.wait_until(lambda: any(each.endswith("/response") for each in server.requests))


def test_server_of_the_other_generation(new_server: FakeAiloopServer) -> None:
    """A wrong type shows in the missing echo only; the next call looks at the server anew."""
    with AiloopClient(new_server.url, accept_timeout=0.3) as client:
        assert client.pending() == []
        new_server.hub.generation = "question"
        with pytest.raises(NotAcceptedError):
            client.ask("Which?", ["a", "b"])
        with pytest.raises(AiloopNotSupportedError):
            client.pending()


def test_answer_before_its_turn_does_not_reach_another(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """Responses belong to the prompt whose id they carry, whichever is shown."""
    first = background(client.ask, "One?", ["a", "b"], timeout=PATIENT, channel="one")
    server.next_prompt()
    second = background(client.ask, "Two?", ["a", "b"], timeout=PATIENT, channel="two")
    server.wait_until(lambda: len(server.asked) == 2)
    server.asked[1].answer("b", at="http")
    assert second.result(PATIENT).option_id == "b"
    assert not first.done()
    server.asked[0].answer("a", at="http")
    assert first.result(PATIENT).option_id == "a"


def test_head_of_line(
    server: FakeAiloopServer, timed_client: AiloopClient, clock: Clock, background: InBackground
) -> None:
    """A prompt behind another one ends at its own deadline, though the server's clock stands."""
    first = background(timed_client.ask, "One?", ["a", "b"], timeout=1000, channel="one")
    server.next_prompt()
    second = background(timed_client.ask, "Two?", ["a", "b"], timeout=PATIENT, channel="two")
    server.wait_until(lambda: len(server.asked) == 2)
    clock.pass_deadline(server, server.asked[1])
    assert second.result(PATIENT).status == "timed_out"
    assert not first.done()
    server.asked[0].answer("a", at="terminal")
    assert first.result(PATIENT).option_id == "a"


@pytest.mark.parametrize(
    "arguments",
    [
        {"choices": ["a"]},
        {"choices": []},
        {"choices": ["a", "a"]},
        {"choices": ["a", " "]},
        {"choices": "ab"},
        {"choices": ["a", "b"], "options": COLOURS},
        {"choices": ["a", "b"], "recommendation": "c"},
        {"choices": ["a", "b"], "timeout": 0},
        {"choices": ["a", "b"], "channel": "system"},
        {"choices": ["a", "b"], "channel": "a b"},
        {"choices": [1, 2]},
        {"options": ["a", "b"]},
        {"options": [Option(id=1, label="One"), Option(id=2, label="Two")]},  # type: ignore[arg-type]
        {"choices": ["a", "b"], "timeout": "5"},
        {"question": " ", "choices": ["a", "b"]},
        {"question": None, "choices": ["a", "b"]},
    ],
)
def test_wrong_arguments(
    server: FakeAiloopServer, client: AiloopClient, arguments: dict[str, object]
) -> None:
    """The server would drop or accept them in silence, so they never leave."""
    with pytest.raises(AiloopConfigError) as caught:
        client.ask(**{"question": "Which?", **arguments})  # type: ignore[arg-type]
    assert caught.value.outcome == "not_sent"
    assert server.requests == []
    assert server.websocket_connections == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.authorize(None),
        lambda client: client.navigate(7),
        lambda client: client.history(limit=0),
        lambda client: client.history(limit="7"),
        lambda client: client.get_message(None),
        lambda client: client.tasks.get(None),
        lambda client: client.tasks.remove_dependency("a", None),
        lambda client: client.say("x", timeout=-1),
    ],
)
def test_wrong_arguments_of_other_calls(
    server: FakeAiloopServer, client: AiloopClient, call: Callable[[AiloopClient], object]
) -> None:
    """They are errors of this client, as its documentation says."""
    with pytest.raises(AiloopConfigError) as caught:
        call(client)
    assert caught.value.outcome == "not_sent"
    assert server.requests == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0},
        {"connect_timeout": "1"},
        {"accept_timeout": -1},
        {"max_attempts": 0},
        {"max_attempts": 1.5},
        {"token": " "},
        {"token": 7},
    ],
)
def test_wrong_arguments_of_the_constructor(wrong: dict[str, Any]) -> None:
    """Those that other clients have too."""
    with pytest.raises(AiloopConfigError, match=next(iter(wrong))):
        AiloopClient("http://localhost:9", **wrong)


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy])
def test_client_cannot_be_copied(client: AiloopClient, how: Callable[[object], object]) -> None:
    """A copy that is collected would cut the connections of the original."""
    with pytest.raises(TypeError, match="make one in each process"):
        how(client)


def test_answer_is_neither_true_nor_false() -> None:
    """A "no" must not pass for a yes."""
    with pytest.raises(TypeError, match="neither"):
        bool(Answer(status="answered", message_id="m", option_id="no"))


def test_garbage_on_the_way(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """Messages that are none, of others, of new kinds: the answer still comes."""
    future = background(client.ask, "Which?", ["a", "b"], timeout=PATIENT)
    prompt = server.next_prompt()
    answer = {"type": "response", "answer": "a", "response_type": "text"}
    for text in (
        json.dumps({}),
        json.dumps({"id": 3, "correlation_id": ["x"]}),
        json.dumps({"correlation_id": prompt.id}),
        json.dumps({"correlation_id": prompt.id, "content": answer}),
        json.dumps({"correlation_id": prompt.id, "content": {"type": "dance"}}),
    ):
        server.send_text(text)
    server.post({"type": "dance"}, correlation_id=prompt.id)
    server.post({**answer, "response_type": "shrug"}, correlation_id=prompt.id)
    server.post(answer, correlation_id=prompt.id, sender_type="AGENT")
    server.post(answer, correlation_id=str(uuid.uuid4()), sender_type="HUMAN")
    assert not future.done()
    prompt.answer("b")
    assert future.result(PATIENT).option_id == "b"


def test_frozen_server_does_not_hold_the_caller(
    generation: str, background: InBackground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The withdrawal of what was not confirmed goes on without the caller, whose time is over."""
    monkeypatch.setattr(prompting, "_SECONDS_AFTER_INTERRUPT", 3600.0)
    monkeypatch.setattr(prompting, "_SECONDS_TO_WITHDRAW", 3600.0)
    go_on = threading.Event()
    with (
        FakeAiloopServer(generation) as server,  # type: ignore[arg-type]
        AiloopClient(server.url, timeout=PATIENT, accept_timeout=0.3) as client,
    ):
        client.server_info()
        answer = server.http.answer
        monkeypatch.setattr(
            server.http, "answer", lambda *request: (go_on.wait(PATIENT * 2), answer(*request))[1]
        )
        server.ignore_frames()
        try:
            with pytest.raises(NotAcceptedError):
                background(client.ask, "Which?", ["a", "b"]).result(PATIENT)
        finally:
            go_on.set()
