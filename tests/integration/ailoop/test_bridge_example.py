"""The bridge to WhatsApp: buttons go out, a tap comes back, and it settles the prompt once."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import make_server

import pytest

from buttdial_sync import Client, InboundHandler, InboundMessage
from buttdial_sync.ailoop import AiloopClient, AiloopError, PendingQuestions
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.testing import FakeAiloopServer, LoopbackServer, ToolCall, ToolFailure
from buttdial_sync.testing.simulate import HostSimulator
from tests.integration.ailoop.conftest import PATIENT, Clock, InBackground

PROGRAM = Path(__file__).parents[3] / "examples" / "ailoop_bridge" / "bridge.py"
PERSON = "+14155550123"
SECRET = "app-secret"


class Scene:
    """A bridge between two servers, with webhooks over HTTP."""

    def __init__(
        self, ailoop: FakeAiloopServer, butt_dial: LoopbackServer, folder: Path, clock: Clock
    ) -> None:
        self.ailoop = ailoop
        self.fake = butt_dial.fake
        self.folder = folder
        self.clock = clock
        self.program = runpy.run_path(str(PROGRAM))
        self.whatsapp = HostSimulator(whatsapp_secret=SECRET)
        self.agent = AiloopClient(ailoop.url, timeout=PATIENT, accept_timeout=PATIENT)
        self.client = Client(butt_dial.base_url, agent_token="agent-token", timeout=PATIENT)
        self.bridge = self.new_bridge()
        inbound = InboundHandler(whatsapp_webhook_secret=SECRET)
        inbound.on_message(self.take)
        self.server = make_server("127.0.0.1", 0, inbound.wsgi(), self.program["Server"])
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def new_bridge(self) -> Any:
        path = str(self.folder / "bridge.db")
        return self.program["Bridge"](self.agent, self.client, PERSON, path, self.clock)

    def take(self, message: InboundMessage) -> None:
        self.bridge.take(message)

    def restart(self) -> None:
        self.bridge.close()
        self.bridge = self.new_bridge()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(PATIENT)
        self.bridge.close()
        self.client.close()
        self.agent.close()

    def ask(self, *choices: str) -> str:
        questions = PendingQuestions.in_memory()
        if choices:
            return self.agent.post_question(questions, "Where to?", choices)
        return self.agent.post_authorization(questions, "Deploy", context={"version": "1.4"})

    @property
    def asked(self) -> list[dict[str, Any]]:
        """What was sent with buttons."""
        return [dict(call.args) for call in self.fake.calls if call.tool == "comms_whatsapp_action"]

    @property
    def reminders(self) -> list[ToolCall]:
        """The SMS that the person got."""
        return [call for call in self.fake.delivered if call.tool == "comms_send_message"]

    @property
    def responses(self) -> list[tuple[str, str | None, str]]:
        """What came to ailoop: the prompt, the answer, and the response's type."""
        return [
            (each["correlation_id"], each["content"]["answer"], each["content"]["response_type"])
            for each in self.ailoop.hub.responses
        ]

    def tap(self, button: str, sender: str = PERSON, whatsapp: HostSimulator | None = None) -> int:
        reply = {"type": "button_reply", "button_reply": {"id": button, "title": "?"}}
        message = {"from": sender.lstrip("+"), "type": "interactive", "interactive": reply}
        delivery = (whatsapp or self.whatsapp).whatsapp(message)
        url = f"http://127.0.0.1:{self.server.server_port}/whatsapp/"
        return delivery.send(url, timeout=PATIENT)


@pytest.fixture
def scene(
    ailoop_server: FakeAiloopServer, loopback_server: LoopbackServer, tmp_path: Path, clock: Clock
) -> Iterator[Scene]:
    ailoop_server.stays_silent()
    scene = Scene(ailoop_server, loopback_server, tmp_path, clock)
    yield scene
    scene.close()


def asked_by(scene: Scene, *choices: str) -> str:
    """Ask, and let the bridge send it on."""
    prompt_id = scene.ask(*choices)
    assert scene.ailoop.next_prompt().id == prompt_id
    scene.bridge.look()
    return prompt_id


def test_choice(scene: Scene) -> None:
    """The options are buttons; the first tap settles the prompt, and a second one does nothing."""
    prompt_id = asked_by(scene, "staging", "a very long name of a place")
    (sent,) = scene.asked
    assert (sent["action"], sent["to"]) == ("send_buttons", PERSON)
    assert sent["body"] == "Where to?\n1. staging\n2. a very long name of a place"
    assert [each["title"] for each in sent["buttons"]] == ["1. staging", "2. a very long name…"]
    first, second = (each["id"] for each in sent["buttons"])
    assert [scene.tap(second), scene.tap(second), scene.tap(first)] == [200, 200, 200]
    for _ in range(3):
        scene.bridge.look()
    assert scene.responses == [(prompt_id, "a very long name of a place", "text")]
    assert not scene.agent.pending()
    assert len(scene.asked) == 1


@pytest.mark.parametrize(
    ("place", "response"), [(0, "authorization_approved"), (1, "authorization_denied")]
)
def test_authorization(scene: Scene, place: int, response: str) -> None:
    """An approval and a denial are what the person tapped; the message shows the context."""
    prompt_id = asked_by(scene)
    (sent,) = scene.asked
    assert sent["body"] == 'Deploy\n{"version": "1.4"}'
    scene.tap(sent["buttons"][place]["id"])
    scene.bridge.look()
    assert scene.responses == [(prompt_id, None, response)]


def test_strangers(scene: Scene) -> None:
    """Neither another number, nor a forged webhook, nor an unknown prompt settles anything."""
    asked_by(scene)
    approve = scene.asked[0]["buttons"][0]["id"]
    assert scene.tap(approve, sender="+19995550123") == 200
    assert scene.tap(approve, whatsapp=HostSimulator(whatsapp_secret="forged")) == 401
    assert scene.tap("another-prompt:approve") == 200
    scene.bridge.look()
    assert scene.responses == []
    scene.tap(approve)
    scene.bridge.look()
    assert len(scene.responses) == 1


def test_answered_elsewhere(scene: Scene) -> None:
    """A tap that comes after an answer at the terminal is not passed on, and nobody is reminded."""
    asked_by(scene)
    scene.ailoop.asked[0].deny(at="terminal")
    scene.tap(scene.asked[0]["buttons"][0]["id"])
    scene.clock.now += 1000
    for _ in range(2):
        scene.bridge.look()
    assert scene.responses == []
    assert scene.reminders == []


def test_behind_another(scene: Scene) -> None:
    """What waits behind another prompt is sent when it is shown."""
    asked_by(scene)
    scene.ask("here", "there")
    scene.bridge.look()
    assert len(scene.asked) == 1
    scene.tap(scene.asked[0]["buttons"][0]["id"])
    scene.bridge.look()
    scene.ailoop.next_prompt()
    scene.bridge.look()
    assert [each["body"].splitlines()[0] for each in scene.asked] == ["Deploy", "Where to?"]


def test_reminder(scene: Scene) -> None:
    """One SMS, when the time is over and not before; it waits in the outbox if it must."""
    prompt_id = asked_by(scene)
    scene.clock.now += scene.program["REMIND_AFTER"] - 1
    for _ in range(2):
        scene.bridge.look()
    assert scene.reminders == []
    scene.clock.now += 1
    scene.fake.on_send(error="the gateway rests", code="PROVIDER_UNAVAILABLE")
    for _ in range(3):
        scene.bridge.look()
    assert scene.reminders == []
    scene.restart()
    with SQLiteRepository(scene.folder / "bridge.db") as repository:
        (waiting,) = [*repository.list("pending"), *repository.list("dead")]
        repository.force_retry(waiting.id)
    for _ in range(3):
        scene.bridge.look()
    (sms,) = scene.reminders
    assert (sms.to, sms.args["channel"]) == (PERSON, "sms")
    assert str(sms.body).endswith("in ailoop: Deploy")
    assert sms.args["idempotencyKey"] == f"reminder-{prompt_id}"
    scene.tap(scene.asked[0]["buttons"][0]["id"])
    scene.bridge.look()
    assert len(scene.responses) == 1


def test_restart(scene: Scene) -> None:
    """After a restart nobody is asked again, and a tap from before it is passed on."""
    asked_by(scene)
    scene.tap(scene.asked[0]["buttons"][0]["id"])
    scene.restart()
    scene.bridge.look()
    scene.bridge.look()
    assert (len(scene.asked), len(scene.responses)) == (1, 1)


def test_ailoop_is_down(scene: Scene) -> None:
    """A tap waits until ailoop can be reached."""
    asked_by(scene)
    scene.tap(scene.asked[0]["buttons"][0]["id"])
    with AiloopClient("http://127.0.0.1:1", timeout=PATIENT) as nobody:
        scene.bridge._ailoop = nobody
        with pytest.raises(AiloopError):
            scene.bridge.look()
    scene.bridge._ailoop = scene.agent
    scene.bridge.look()
    assert len(scene.responses) == 1


@pytest.mark.parametrize("choices", [("a", "b", "c", "d"), ("a", "b")])
def test_no_buttons(scene: Scene, choices: tuple[str, ...]) -> None:
    """If there are too many options, or the buttons are refused, the SMS tells of the prompt."""
    scene.fake.on_tool("comms_whatsapp_action", ToolFailure("no session", "PROVIDER_ERROR"))
    asked_by(scene, *choices)
    scene.clock.now += scene.program["REMIND_AFTER"]
    for _ in range(3):
        scene.bridge.look()
    assert len(scene.asked) == (1 if len(choices) == 2 else 0)
    assert len(scene.reminders) == 1


def test_the_program(
    ailoop_server: FakeAiloopServer,
    loopback_server: LoopbackServer,
    tmp_path: Path,
    background: InBackground,
) -> None:
    """The program as it stands: an agent waits for an approval, and the tap gives it."""
    ailoop_server.stays_silent()
    fake = loopback_server.fake
    shutil.copytree(PROGRAM.parent, tmp_path / "ailoop_bridge")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "bridge.py", "0", PERSON],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path / "ailoop_bridge",
        env={
            **os.environ,
            "PYTHONPATH": str(PROGRAM.parents[2]),
            "AILOOP_SERVER": ailoop_server.url,
            "BUTT_DIAL_BASE_URL": loopback_server.base_url,
            "BUTT_DIAL_AGENT_TOKEN": "agent-token",
            "WHATSAPP_WEBHOOK_SECRET": SECRET,
            "WHATSAPP_VERIFY_TOKEN": "verify",
        },
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().split()[-1]
        with AiloopClient(ailoop_server.url, timeout=PATIENT, accept_timeout=PATIENT) as agent:
            waiting = background(agent.authorize, "Deploy", timeout=4 * PATIENT)
            assert fake.wait_for(lambda: fake.calls, PATIENT)
            asked = fake.assert_called("comms_whatsapp_action", action="send_buttons")
            button = {"id": asked.args["buttons"][0]["id"], "title": "Approve"}
            reply = {"type": "button_reply", "button_reply": button}
            tap = HostSimulator(whatsapp_secret=SECRET).whatsapp(
                {"from": "14155550123", "type": "interactive", "interactive": reply}
            )
            url = f"http://127.0.0.1:{port}/whatsapp/"
            assert tap.send(url, timeout=PATIENT) == 200
            assert waiting.result(4 * PATIENT)
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=PATIENT)
    finally:
        process.kill()
    assert (process.returncode, said) == (0, "bye\n"), complained
