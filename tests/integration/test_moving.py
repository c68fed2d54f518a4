"""The published SDK's four examples, moved: each does what it did before."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from buttdial_sync.testing.simulate import HostSimulator
from tests.integration.contrib.running import (
    PATIENCE,
    ROOT,
    environment,
    serving,
)
from tests.ports import free_port

pytestmark = pytest.mark.slow

FOLDER = "moving"
AFTER = {
    "minimal": "minimal.py",
    "with-inbound": "inbound_app.py",
    "with-retry": "retry.py",  # its test: tests/integration/retry/test_published_table.py
    "with-onboarding-handshake": "handshake.py",
}
"""Each published example, and the program that it became."""
PUBLISHED = Path("buttdial", "_examples")
RECIPE = re.compile(
    r"^( +)\.\. code-block:: python\n(?:\1 +:.*\n)*((?:\s*\n|\1 +.*\n)+)", re.MULTILINE
)


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer(tokens=["agent-token"]).listen() as loopback:
        yield loopback


def send_one(program: Path, server: LoopbackServer, tmp_path: Path, **more: str) -> tuple[int, str]:
    """Run the smallest example, and return its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, program, "+14155550123"],
        env=environment(server, tmp_path, BUTT_DIAL_AGENT_ID="agent-1", **more),
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    return done.returncode, done.stdout


AFTER_MINIMAL = ROOT / "examples" / FOLDER / AFTER["minimal"]


def test_minimal(server: LoopbackServer, tmp_path: Path) -> None:
    """It sends, tells a refusal with its remedy, and does not call an unknown outcome failed."""
    server.fake.on_send(sid="SM-1")
    assert send_one(AFTER_MINIMAL, server, tmp_path) == (0, "sent: SM-1\n")
    server.fake.on_send(error="no consent", remediation="ask them first")
    code, said = send_one(AFTER_MINIMAL, server, tmp_path)
    assert (code, said) == (
        1,
        "failed at stage server: no consent\n  fix: ask them first\n",
    )
    wrong = send_one(AFTER_MINIMAL, server, tmp_path, BUTT_DIAL_AGENT_TOKEN="wrong")
    assert (wrong[0], "Invalid token" in wrong[1]) == (1, True), "as before: a result"


def test_minimal_with_a_lost_answer() -> None:
    """What a server without keys may have sent is neither sent nor failed."""
    with FakeButtDialServer(dialect="open-source").listen() as server:
        server.fake.fault("cut", delivered=True)
        code, said = send_one(AFTER_MINIMAL, server, Path())
    assert (code, said.startswith("perhaps sent, under the key ")) == (3, True), said


def test_with_inbound(server: LoopbackServer, tmp_path: Path) -> None:
    """Both kinds of webhooks come in, WhatsApp's is answered, a stranger's is not let in."""
    port = free_port()
    env = environment(server, tmp_path, WA_VERIFY_TOKEN="verify-me", WA_WEBHOOK_SECRET="app-secret")
    arguments = ("-m", "uvicorn", "inbound_app:app", "--port", str(port), "--log-level", "warning")
    with serving(*arguments, folder=FOLDER, env=env, port=port) as url:
        hooks = f"{url}/api/webhook"
        subscription = {
            "hub.mode": "subscribe",
            "hub.verify_token": "verify-me",
            "hub.challenge": "1158201444",
        }
        verified = requests.get(f"{hooks}/whatsapp", subscription, timeout=PATIENCE)
        assert (verified.status_code, verified.text) == (200, "1158201444")
        good = HostSimulator(whatsapp_secret="app-secret").whatsapp({"text": {"body": "hi"}})
        assert good.send(f"{hooks}/whatsapp", timeout=PATIENCE) == 200
        server.fake.assert_sent_once(body="you said: hi", channel="whatsapp")
        assert good.send(f"{hooks}/whatsapp", timeout=PATIENCE) == 200  # repeated: dropped
        forged = HostSimulator(whatsapp_secret="guessed").whatsapp({"text": {"body": "pay me"}})
        assert forged.send(f"{hooks}/whatsapp", timeout=PATIENCE) == 401
        own = {"messageId": "m1", "channel": "sms", "from": "+14155550124", "body": "hello"}
        assert requests.post(f"{hooks}/butt-dial", json=own, timeout=PATIENCE).status_code == 200
        assert requests.post(f"{hooks}/other", json=own, timeout=PATIENCE).status_code == 401
        to = {"to": "+14155550125", "body": "from a view"}
        answer = requests.get(f"{url}/send", to, timeout=PATIENCE).json()
        assert answer["ok"], answer
    assert [message.body for message in server.fake.delivered] == ["you said: hi", "from a view"]


def test_with_onboarding_handshake(server: LoopbackServer, tmp_path: Path) -> None:
    """A customer signs up; the token comes by webhook, signed, and once is enough."""
    port = free_port()
    env = environment(server, tmp_path, PUBLIC_URL="https://acme.example")
    arguments = ("-m", "uvicorn", "handshake:app", "--port", str(port), "--log-level", "warning")
    with serving(*arguments, folder=FOLDER, env=env, port=port) as url:
        signed_up = requests.post(
            f"{url}/signup", json={"name": "Acme", "email": "alice@acme.example"}, timeout=PATIENCE
        ).json()
        assert signed_up["verification_sent"] is True
        org = server.fake.workspace.org(signed_up["org_id"])
        assert org.webhook_secret is not None
        assert org.webhook_secret not in str(signed_up)
        state = f"{url}/workspaces/{signed_up['workspace_id']}"
        assert requests.get(state, timeout=PATIENCE).json()["provisioned"] is False
        hook = f"{url}/api/webhooks/butt-dial/account"
        event: dict[str, Any] = {"orgId": org.id, "teamToken": "brought by the webhook"}
        forged = HostSimulator(account_secret="guessed").account_verified(**event)
        assert forged.send(hook, timeout=PATIENCE) == 401
        assert requests.get(state, timeout=PATIENCE).json()["provisioned"] is False
        good = HostSimulator(account_secret=org.webhook_secret).account_verified(**event)
        assert [good.send(hook, timeout=PATIENCE) for _ in range(2)] == [200, 200]
        assert requests.get(state, timeout=PATIENCE).json()["provisioned"] is True


def test_a_view_in_fastapi() -> None:
    """The guide's endpoint for FastAPI answers as the handler does."""
    from starlette.testclient import TestClient

    page = (ROOT / "docs" / "migrating.rst").read_text("utf-8")
    (recipe,) = [textwrap.dedent(found[2]) for found in RECIPE.finditer(page)]
    names: dict[str, Any] = {}
    # FastAPI resolves annotations in the module's globals, which these names are.
    exec(compile(recipe, "migrating.rst", "exec"), names)  # noqa: S102 - our own page
    seen: list[str | None] = []
    names["handler"].on_message(lambda message: seen.append(message.text))
    with TestClient(names["app"]) as asking:
        own = {"messageId": "m1", "channel": "sms", "from": "+14155550124", "body": "hello"}
        assert asking.post("/hooks/butt-dial", json=own).status_code == 200
        assert asking.post("/hooks/whatsapp", json=own).status_code == 401
        assert asking.post("/hooks/butt-dial", content=b"no JSON").status_code == 400
    assert seen == ["hello"]


def test_every_published_example_has_moved() -> None:
    """The package of the published SDK, where it is installed, has these examples and no other."""
    examples = published_examples()
    assert {each.name for each in examples.iterdir() if each.is_dir()} == AFTER.keys()
    assert all((ROOT / "examples" / FOLDER / name).is_file() for name in AFTER.values())


def test_minimal_before_and_after(server: LoopbackServer, tmp_path: Path) -> None:
    """The published program and the moved one say the same about the same answers."""
    before = shutil.copy(published_examples() / "minimal" / "send_one.py", tmp_path)
    for program in (Path(before), AFTER_MINIMAL):
        server.fake.on_send(sid="SM-1")
        assert send_one(program, server, tmp_path) == (0, "sent: SM-1\n")
        wrong = send_one(program, server, tmp_path, BUTT_DIAL_AGENT_TOKEN="wrong")
        assert wrong[0] == 1
        assert wrong[1].startswith("failed at stage ")


def published_examples() -> Path:
    for entry in sys.path:
        if (found := Path(entry or os.getcwd()) / PUBLISHED).is_dir():
            return found
    pytest.skip("needs the published SDK: pip install butt-dial-sdk==0.9.0")
