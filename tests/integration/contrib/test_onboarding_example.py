"""The onboarding example, from registering to the token on the disk."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from buttdial_sync.testing.simulate import HostSimulator
from tests.integration.contrib.running import PATIENCE, environment, python, serving
from tests.ports import free_port

FOLDER = "onboarding"


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer().listen() as loopback:
        yield loopback


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "workspace.json"


@pytest.fixture
def env(server: LoopbackServer, store: Path, tmp_path: Path) -> dict[str, str]:
    env = environment(server, tmp_path, WORKSPACE_FILE=str(store))
    arguments = ("register", "Acme", "owner@acme.example", "https://acme.example/hooks/account/")
    python("onboard.py", *arguments, folder=FOLDER, env=env)
    return env


def kept(store: Path) -> dict[str, Any]:
    assert stat.S_IMODE(store.stat().st_mode) == 0o600
    found: dict[str, Any] = json.loads(store.read_text("utf-8"))
    return found


def test_the_link_in_the_mail(store: Path, env: dict[str, str]) -> None:
    """The token of the link brings the workspace's token, which is kept."""
    link = f"verify-{kept(store)['org_id']}"
    assert python("onboard.py", "verify", link, folder=FOLDER, env=env).strip() == "verified"
    assert kept(store)["team_token"]


def test_the_webhook(store: Path, env: dict[str, str]) -> None:
    """A signed webhook brings the token too; a forged one does not."""
    port = free_port()
    workspace = kept(store)
    with serving("onboard.py", "serve", str(port), folder=FOLDER, env=env, port=port) as url:
        org = {"orgId": workspace["org_id"], "teamToken": "brought by the webhook"}
        assert HostSimulator(account_secret="guessed").account_verified(**org).send(url) == 401
        good = HostSimulator(account_secret=workspace["webhook_secret"]).account_verified(**org)
        assert good.send(url, timeout=PATIENCE) == 200
    assert kept(store)["team_token"] == "brought by the webhook"
