"""``onboard`` on a terminal, and killed in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from buttdial_sync.testing.workspace import OTP
from tests.integration.cli.process import (
    PROGRAM,
    SECONDS,
    environment,
    on_terminal,
    read_until,
    run,
)

ACCOUNT = ("onboard", "--org", "Acme", "--email", "alice@acme.example")


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer(tokens=[]).listen() as loopback:
        yield loopback


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal(server: LoopbackServer, tmp_path: Path) -> None:
    """It asks for everything, asks again after a wrong passcode, and shows no token."""
    shown = b""
    address = {"BUTT_DIAL_BASE_URL": server.base_url}
    with on_terminal("onboard", cwd=tmp_path, **address) as (process, terminal):
        for prompt, typed in (
            ("workspace's name:", "Acme"),
            ("owner's address:", "alice@acme.example"),
            ("do not open it):", "verify-org-1"),
            ("owner's phone (empty: later)", "+14155550199"),
            ("The passcode:", "000000"),
            ("is wrong.\r\nThe passcode:", OTP),
            ("agent's name:", "Maya"),
            ("whatsapp, email, line) [sms]:", "fax"),
            ("whatsapp, email, line) [sms]:", ""),
            ("first message (empty: nobody)", "+14155550123"),
        ):
            shown += read_until(terminal, prompt.encode())
            os.write(terminal, f"{typed}\n".encode())
        shown += read_until(terminal, b"The first message is sent: ")
        assert process.wait(SECONDS) == 0
    server.fake.assert_sent_once(to="+14155550123", body="Hello from Maya")
    state = json.loads((tmp_path / "butt-dial-onboarding.json").read_text("utf-8"))
    for secret in (state["team_token"], state["agent_token"], state["poll_token"], "verify-org-1"):
        assert secret.encode() not in shown
    assert b"Traceback" not in shown


def test_killed_while_registering(server: LoopbackServer, tmp_path: Path) -> None:
    """After ``kill -9`` in the middle of a request the next run goes on, and nothing is twice."""
    variables = {"BUTT_DIAL_BASE_URL": server.base_url}
    server.fake.fault("hang", on="rest", delivered=True)
    process = subprocess.Popen(
        [sys.executable, *PROGRAM, *ACCOUNT], cwd=tmp_path, env=environment(**variables)
    )
    with process:
        assert server.fake.wait_for(lambda: server.fake.workspace.orgs, SECONDS)
        process.kill()
    waits = run(*ACCOUNT, cwd=tmp_path, **variables)
    assert waits.returncode == 75, waits.stderr
    assert list(server.fake.workspace.orgs) == ["org-1"]
    server.fake.fault("hang", on="rest", delivered=True)
    link = {"BUTT_DIAL_VERIFICATION_LINK": "verify-org-1"}
    server.fake.workspace.terms_required = True  # so that the link may be used twice
    process = subprocess.Popen(
        [sys.executable, *PROGRAM, "onboard"], cwd=tmp_path, env=environment(**variables, **link)
    )
    with process:
        assert server.fake.wait_for(lambda: server.fake.workspace.onboarding, SECONDS)
        process.kill()
    server.fake.workspace.terms_required = False
    done = run("onboard", "--agent-name", "Maya", cwd=tmp_path, **variables, **link)
    assert done.returncode == 0, done.stderr
    assert len(server.fake.workspace.agents) == 1
