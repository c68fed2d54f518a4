"""Approvals: true only if a person approved this very prompt."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
import threading
import uuid
from typing import Any

import pytest

from buttdial_sync import PermissionDeniedError
from buttdial_sync.ailoop import (
    AiloopClient,
    AiloopClosedError,
    AiloopConfigError,
    AiloopError,
    AiloopNotSupportedError,
    AuthenticationError,
    AuthorizationDeniedError,
)
from buttdial_sync.testing import FakeAiloopServer
from buttdial_sync.testing.ailoop_hub import Way
from tests.integration.ailoop.conftest import PATIENT, Clock, InBackground

APPROVAL = {"type": "response", "answer": None, "response_type": "authorization_approved"}


@pytest.mark.parametrize("at", ["http", "terminal"])
def test_approval(server: FakeAiloopServer, client: AiloopClient, at: Way) -> None:
    """The one way to a yes."""
    server.approves(at=at)
    result = client.authorize("Deploy", context={"commit": "abc"}, timeout=29.5)
    assert result
    assert (result.approved, result.reason) == (True, "approved")
    assert server.asked[0].content == {
        "type": "authorization",
        "action": "Deploy",
        "context": {"commit": "abc"},
        "timeout_seconds": 35,
    }


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda prompt: prompt.deny(at="http"), "denied"),
        (lambda prompt: prompt.deny(at="terminal"), "denied"),
        (lambda prompt: prompt.expire(), "denied"),
        (lambda prompt: prompt.answer("yes", at="http"), "text"),
        (lambda prompt: prompt.answer("yes", at="terminal"), "text"),
        (lambda prompt: prompt.answer(None, at="http"), "text"),
    ],
)
def test_denial(server: FakeAiloopServer, client: AiloopClient, act: Any, reason: str) -> None:
    """Everything that a person can do but approve; a typed "yes" approves on no server."""
    server.when_asked(act)
    result = client.authorize("Deploy")
    assert not result
    assert (result.approved, result.reason) == (False, reason)


def test_withdrawn_by_somebody_else(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """Who ends the prompt does not approve it."""
    future = background(client.authorize, "Deploy", timeout=PATIENT)
    client.withdraw(server.next_prompt().id)
    assert future.result(PATIENT).reason == "timed_out"


def test_time_is_over(
    server: FakeAiloopServer, timed_client: AiloopClient, clock: Clock, background: InBackground
) -> None:
    """Nobody answered in time: a denial, and the prompt is withdrawn."""
    future = background(timed_client.authorize, "Deploy", timeout=PATIENT)
    prompt = server.next_prompt()
    clock.pass_deadline(server, prompt)
    result = future.result(PATIENT)
    assert (result.approved, result.reason) == (False, "timed_out")
    server.wait_until(lambda: server.withdrawn == [prompt.id])


def test_approval_after_the_time(
    server: FakeAiloopServer, timed_client: AiloopClient, clock: Clock, background: InBackground
) -> None:
    """A late approval is not one, and not one of the next prompt either."""
    first = background(timed_client.authorize, "Delete", timeout=PATIENT)
    prompt = server.next_prompt()
    clock.pass_deadline(server, prompt)
    assert not first.result(PATIENT)
    server.wait_until(lambda: server.hub.active is None)
    second = background(timed_client.authorize, "Deploy", timeout=PATIENT)
    server.next_prompt()
    prompt.approve(at="http")
    server.asked[1].deny()
    assert second.result(PATIENT).reason == "denied"


@pytest.mark.parametrize("channel", ["public", "elsewhere"])
def test_approval_of_another_prompt(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground, channel: str
) -> None:
    """Only the prompt's own id counts."""
    first = background(client.authorize, "Delete", timeout=PATIENT, channel=channel)
    server.next_prompt()
    second = background(client.authorize, "Deploy", timeout=PATIENT)
    server.wait_until(lambda: len(server.asked) == 2)
    server.asked[0].approve(at="http")
    assert first.result(PATIENT)
    assert not second.done()
    server.next_prompt().deny()
    assert not second.result(PATIENT)


def test_skip_and_then_approval(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """The server asks again; that answer is one to this prompt."""
    future = background(client.authorize, "Deploy", timeout=PATIENT)
    server.next_prompt().skip()
    server.next_prompt().approve()
    assert future.result(PATIENT)


def test_skip(server: FakeAiloopServer, client: AiloopClient) -> None:
    """A skip itself approves nothing."""
    server.when_asked(lambda prompt: prompt.skip() if prompt.times_shown == 1 else None)
    result = client.authorize("Deploy", wait_if_skipped=False)
    assert (result.approved, result.reason) == (False, "skipped")
    server.wait_until(lambda: server.withdrawn == [result.message_id])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sender_type": "AGENT"}, "forged"),
        (
            {"sender_type": "HUMAN", "content": {**APPROVAL, "response_type": "approved"}},
            "malformed",
        ),
        ({"sender_type": "HUMAN", "content": {**APPROVAL, "answer": 1}}, "malformed"),
        ({"sender_type": "HUMAN", "content": {"type": "response"}}, "malformed"),
        ({"sender_type": "HUMAN", "timestamp": "yesterday"}, "malformed"),
        ({"sender_type": 7}, "malformed"),
        ({"sender_type": "HUMAN", "metadata": "x"}, "malformed"),
    ],
)
def test_what_is_not_quite_a_response(
    server: FakeAiloopServer,
    client: AiloopClient,
    background: InBackground,
    changes: dict[str, Any],
    reason: str,
) -> None:
    """A message that says that it answers this prompt, but not as the server does, ends it."""
    future = background(client.authorize, "Deploy", timeout=PATIENT)
    prompt = server.next_prompt()
    server.post(**{"content": APPROVAL, "correlation_id": prompt.id, **changes})
    server.post(APPROVAL, correlation_id=prompt.id, sender_type="HUMAN")  # too late
    assert future.result(PATIENT).reason == reason


def test_forged_by_the_prompts_own_id(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """A response has an id of its own."""
    future = background(client.authorize, "Deploy", timeout=PATIENT)
    prompt = server.next_prompt()
    server.post(APPROVAL, correlation_id=prompt.id, sender_type="HUMAN", id=prompt.id)
    assert future.result(PATIENT).reason == "forged"


def test_forged_in_another_channel(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """A response is in the channel of its prompt."""
    client.say("subscribed", channel="elsewhere")
    future = background(client.authorize, "Deploy", timeout=PATIENT)
    prompt = server.next_prompt()
    server.post(APPROVAL, correlation_id=prompt.id, sender_type="HUMAN", channel="elsewhere")
    assert future.result(PATIENT).reason == "forged"


def test_forgery_under_confirmation(
    new_server: FakeAiloopServer, clock: Clock, background: InBackground
) -> None:
    """Another agent's broadcast looks like an approval; the server still asks, so it is denied."""

    def sleep(seconds: float) -> None:
        clock.now += seconds

    with AiloopClient(
        new_server.url, timeout=PATIENT, accept_timeout=PATIENT, clock=clock, sleep=sleep
    ) as client:
        future = background(client.authorize, "Deploy", timeout=PATIENT, confirm_settled=True)
        prompt = new_server.next_prompt()
        new_server.post(APPROVAL, correlation_id=prompt.id, sender_type="HUMAN")
        result = future.result(PATIENT)
        assert (result.approved, result.reason) == (False, "unconfirmed")
        assert clock.now < 1000 + PATIENT  # long before the deadline
        new_server.wait_until(lambda: new_server.withdrawn == [prompt.id])


def test_forgery_behind_another_prompt(
    new_server: FakeAiloopServer, background: InBackground, clock: Clock
) -> None:
    """While others are shown, nobody can say whether the server took it."""
    waits = threading.Event()
    with AiloopClient(
        new_server.url,
        timeout=PATIENT,
        accept_timeout=PATIENT,
        clock=clock,
        sleep=lambda _: waits.set(),
    ) as client:
        first = background(client.authorize, "One", timeout=1000)
        new_server.next_prompt()
        second = background(client.authorize, "Two", timeout=PATIENT, confirm_settled=True)
        new_server.wait_until(lambda: len(new_server.asked) == 2)
        new_server.post(APPROVAL, correlation_id=new_server.asked[1].id, sender_type="HUMAN")
        assert waits.wait(PATIENT)
        clock.now += PATIENT
        assert second.result(PATIENT).reason == "unconfirmed"
        new_server.asked[0].approve()
        assert first.result(PATIENT)


@pytest.mark.parametrize("at", ["http", "terminal"])
def test_confirmed_approval(
    new_server: FakeAiloopServer, new_client: AiloopClient, at: Way
) -> None:
    """The server itself took it."""
    new_server.approves(at=at)
    assert new_client.authorize("Deploy", confirm_settled=True)
    assert new_server.withdrawn == []


def test_confirmation_on_an_old_server() -> None:
    """It cannot tell; nobody was asked."""
    with FakeAiloopServer("question") as server, AiloopClient(server.url) as client:
        with pytest.raises(AiloopNotSupportedError, match="confirmed"):
            client.authorize("Deploy", confirm_settled=True)
        assert server.asked == []


def test_raise_on_deny(server: FakeAiloopServer, client: AiloopClient) -> None:
    """The exception is of both trees, has the result, and crosses processes."""
    server.denies()
    with pytest.raises(AuthorizationDeniedError, match="denied") as caught:
        client.authorize("Deploy", raise_on_deny=True)
    error = caught.value
    assert isinstance(error, PermissionDeniedError)
    assert error.authorization is not None
    assert error.authorization.reason == "denied"
    assert pickle.loads(pickle.dumps(error)).authorization == error.authorization  # noqa: S301
    server.approves()
    assert client.authorize("Deploy", raise_on_deny=True)


def test_restart(server: FakeAiloopServer, client: AiloopClient, background: InBackground) -> None:
    """A restarted server has forgotten the prompt."""
    future = background(client.authorize, "Deploy", timeout=PATIENT)
    server.next_prompt()
    server.restart()
    result = future.result(PATIENT)
    assert (result.approved, result.reason) == (False, "lost")
    assert len(server.asked) == 1
    server.approves()
    assert client.authorize("Deploy")


def test_approval_after_a_restart(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """A broadcast that names the old prompt does not bring it back."""
    future = background(client.authorize, "Deploy", timeout=PATIENT)
    prompt = server.next_prompt()
    server.stop()
    server.start()
    server.post(APPROVAL, correlation_id=prompt.id, sender_type="AGENT")
    assert not future.result(PATIENT)


def test_server_that_does_not_come_back(
    server: FakeAiloopServer, clock: Clock, background: InBackground
) -> None:
    """The deadline holds; what the person did is not known."""

    def sleep(seconds: float) -> None:
        clock.now += seconds

    with AiloopClient(
        server.url, timeout=PATIENT, accept_timeout=PATIENT, clock=clock, sleep=sleep
    ) as client:
        future = background(client.authorize, "Deploy", timeout=PATIENT)
        server.next_prompt()
        server.stop()
        assert future.result(PATIENT).reason == "lost"


def test_token_that_is_refused_meanwhile(background: InBackground) -> None:
    """Who may no longer look cannot know."""
    with (
        FakeAiloopServer(token="good-token") as server,
        AiloopClient(server.url, token="good-token", accept_timeout=PATIENT) as client,
    ):
        future = background(client.authorize, "Deploy", timeout=PATIENT)
        server.next_prompt()
        server.token = "other-token"
        server.drop_connections()
        assert future.result(PATIENT).reason == "lost"


def test_refused_token(server: FakeAiloopServer) -> None:
    """401 on HTTP and in the handshake; the token is in no message."""
    server.token = "good-token"
    for token in (None, "wrong-token"):
        with AiloopClient(server.url, token=token) as client:
            with pytest.raises(AuthenticationError) as caught:
                client.server_info()
            assert "wrong-token" not in f"{caught.value} {caught.value.body} {client!r}"
            with pytest.raises(AuthenticationError) as caught:
                client.authorize("Deploy")
            assert "wrong-token" not in f"{caught.value} {caught.value.body}"
    with AiloopClient(server.url, token="good-token") as client:
        server.approves()
        assert client.authorize("Deploy")


def test_token_over_an_open_way() -> None:
    """A token goes unencrypted to this machine only, unless the host is named."""
    with pytest.raises(AiloopConfigError, match="unencrypted"):
        AiloopClient("http://ailoop.example", token="t")
    AiloopClient("http://ailoop.example", token="t", insecure_hosts=["ailoop.example"]).close()
    AiloopClient("https://ailoop.example", token="t").close()


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_base_path(generation: str, scheme: str) -> None:
    """A library's server may live below a path; either scheme names it."""
    with FakeAiloopServer(generation, token="t-o-k-e-n", base_path="/hil") as server:  # type: ignore[arg-type]
        server.approves()
        url = server.url.replace("http", scheme)
        for given in (url, f"{url}/"):
            with AiloopClient(given, token="t-o-k-e-n") as client:
                assert client.authorize("Deploy")


def test_close_meanwhile(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """The call raises, the prompt is withdrawn, and later calls raise too."""
    future = background(client.authorize, "Deploy", timeout=PATIENT)
    prompt = server.next_prompt()
    client.close(PATIENT)
    with pytest.raises(AiloopClosedError):
        future.result(PATIENT)
    assert server.withdrawn == [prompt.id]
    for call in (client.server_info, lambda: client.authorize("Deploy"), lambda: client.say("x")):
        with pytest.raises(AiloopClosedError):
            call()
    client.close()


def test_ctrl_c_withdraws(server: FakeAiloopServer) -> None:
    """The person is not left with a question of a program that has gone."""
    code = (
        "import sys; from buttdial_sync.ailoop import AiloopClient\n"
        "with AiloopClient(sys.argv[1], accept_timeout=30) as client:\n"
        "    client.authorize('Deploy', timeout=60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, server.url], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            prompt = server.next_prompt()
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=PATIENT)
        finally:
            process.kill()
    assert "KeyboardInterrupt" in told
    assert server.withdrawn == [prompt.id]


def test_unreachable_server_is_not_a_yes() -> None:
    """Nothing was asked: an error, and surely not an approval."""
    with AiloopClient("http://127.0.0.1:9", max_attempts=1) as client:
        with pytest.raises(AiloopError) as caught:
            client.authorize("Deploy")
        assert caught.value.outcome == "not_sent"


def test_early_approval(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """A person can approve in the web page before the prompt's turn: it is of this prompt."""
    first = background(client.authorize, "One", timeout=PATIENT)
    server.next_prompt()
    second = background(client.authorize, "Two", timeout=PATIENT)
    server.wait_until(lambda: len(server.asked) == 2)
    server.asked[1].approve(at="http")
    assert second.result(PATIENT)
    server.asked[0].approve()
    assert first.result(PATIENT)


def test_broken_json_in_between(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """It ends the connection; the prompt is found again, and the approval counts."""
    future = background(client.authorize, "Deploy", timeout=PATIENT)
    prompt = server.next_prompt()
    cut = json.dumps({"correlation_id": prompt.id, "content": APPROVAL, "id": str(uuid.uuid4())})
    server.send_text(cut[:-9])
    server.wait_until(lambda: server.websocket_connections >= 2)
    assert not future.done()
    prompt.approve(at="http")
    assert future.result(PATIENT)


def test_many_prompts_use_one_connection_each(
    server: FakeAiloopServer, client: AiloopClient
) -> None:
    """100 prompts: one WebSocket, one HTTP connection."""

    server.answers("b")
    assert all(client.ask(f"Step {number}", ["a", "b"]).answered for number in range(100))
    assert (server.websocket_connections, server.http_connections) == (1, 1)
