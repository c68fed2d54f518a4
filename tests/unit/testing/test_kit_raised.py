"""What a test's own function raises inside a fake server: the client hears it, the test fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from buttdial_sync import Client
from buttdial_sync.ailoop import AiloopClient
from buttdial_sync.happy import HappyClient
from buttdial_sync.procedura import ModuleFailedError, ProceduraError, RemoteAgent
from buttdial_sync.testing import (
    FakeAiloopServer,
    FakeButtDialServer,
    FakeHappyServer,
    FakeProceduraServer,
)


class MistakeError(Exception):
    """What a check of the test's own raises."""


def wrong(*_: object) -> Any:
    raise MistakeError("not what was expected")


def wrong_later(_: object) -> Iterator[dict[str, Any]]:
    yield {"progress": 1}
    raise MistakeError("not what was expected")


def test_an_answer_on_a_socket() -> None:
    """The client is told, once, and closing the server raises."""
    fake = FakeButtDialServer()
    fake.on_tool("comms_send_message", wrong)
    server = fake.listen()
    with Client(server.base_url, agent_token="t") as client:
        result = client.send_message("+14155550123", "hi", "sms")
    assert (result.outcome, result.attempts) == ("unknown", 1)
    assert "MistakeError" in str(result.error)
    with pytest.raises(MistakeError):
        server.close()
    server.close()


def test_an_endpoint_on_a_socket() -> None:
    """The end of a with block raises, too: the first of several."""
    fake = FakeButtDialServer()
    fake.on_rest("GET", "/api/v1/voices", wrong, public=True)
    fake.on_rest("GET", "/api/v1/usage", lambda _: json.loads("?"), public=True)
    server = fake.listen()
    for path in ("voices", "usage"):
        assert requests.get(f"{server.base_url}/api/v1/{path}", timeout=10).status_code == 500
    with pytest.raises(MistakeError), server:
        assert server.base_url


def test_a_reaction() -> None:
    """Its prompt expires at once, and the next ones are shown and answered."""
    server = FakeAiloopServer()
    with AiloopClient(server.url) as client:
        server.when_asked(wrong)
        assert not client.authorize("delete it", timeout=600).approved
        server.approves()
        assert client.authorize("keep it", timeout=600).approved
    with pytest.raises(MistakeError):
        server.close()
    server.close()


@pytest.mark.parametrize("module", [wrong, wrong_later])
def test_a_module(module: Callable[[list[str]], Any]) -> None:
    """It ends with an error frame."""
    server = FakeProceduraServer()
    server.module("check", module)
    with RemoteAgent(server.url) as agent, pytest.raises(ModuleFailedError, match="MistakeError"):
        agent.run("check")
    with pytest.raises(MistakeError):
        server.close()
    server.close()


def test_a_result_that_is_not_json() -> None:
    """There is no frame for it: the connection is cut."""
    server = FakeProceduraServer()
    server.module("check", lambda _: object())
    with RemoteAgent(server.url) as agent, pytest.raises(ProceduraError):
        agent.run("check")
    with pytest.raises(TypeError, match="JSON"):
        server.close()


@pytest.mark.parametrize("is_instant", [True, False])
def test_an_agent(is_instant: bool) -> None:
    """Its turn fails, and it takes the next prompt."""
    server = FakeHappyServer()
    machine = server.add_machine(agent=wrong, is_instant=is_instant)
    with HappyClient(server.server_url, token=server.token, secret_b64=server.secret_b64) as client:
        result = client.run_task(machine.id, "/repo", "do it", timeout_seconds=60)
        assert result.status == "failed"
        machine.agent = lambda turn: turn.say("better")
        result = client.run_task(machine.id, "/repo", "again", timeout_seconds=60)
        assert result.status == "completed"
    with pytest.raises(MistakeError):
        server.close()
    server.close()
