"""The Flask example under werkzeug, over real sockets."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from buttdial_sync import SQLiteInbox
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from buttdial_sync.testing.simulate import HostSimulator
from tests.integration.contrib.running import (
    PATIENCE,
    environment,
    python,
    serving,
    started,
)
from tests.ports import free_port

FOLDER = "flask_app"
sender = HostSimulator(whatsapp_secret="app-secret", account_secret="webhook-secret")


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer().listen() as loopback:
        yield loopback


@pytest.fixture
def env(server: LoopbackServer, tmp_path: Path) -> dict[str, str]:
    return environment(server, tmp_path)


@pytest.fixture
def shop(env: dict[str, str]) -> Iterator[str]:
    port = free_port()
    with serving(
        "-m", "flask", "run", "--port", str(port), folder=FOLDER, env=env, port=port
    ) as url:
        yield f"{url}/butt-dial"


def test_forged_and_stale_webhooks(server: LoopbackServer, shop: str) -> None:
    """A wrong signature and an old one are 401; nothing is sent."""
    forger = HostSimulator(whatsapp_secret="guessed", account_secret="guessed")
    assert forger.whatsapp({"text": {"body": "hi"}}).send(f"{shop}/whatsapp/") == 401
    stale = sender.account_verified(signed_at=time.time() - 301)
    assert stale.send(f"{shop}/account/") == 401
    assert server.fake.sent_messages == []


def test_one_delivery_to_several_threads(server: LoopbackServer, shop: str) -> None:
    """A delivery that fails, and then comes many times at once, is answered once."""
    server.fake.on_send(error="not now", code="NOT_NOW")
    delivery = sender.whatsapp({"text": {"body": "hi"}})
    assert delivery.send(f"{shop}/whatsapp/") == 500
    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(lambda _: delivery.send(f"{shop}/whatsapp/"), range(16)))
    assert answers <= {200, 500}
    assert delivery.send(f"{shop}/whatsapp/") == 200
    assert len(server.fake.sent_messages) == 2


def test_a_body_in_chunks_under_gunicorn(server: LoopbackServer, env: dict[str, str]) -> None:
    """Without a proxy before it, gunicorn gives Flask a body without a length."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork: gunicorn runs on POSIX only")
    port = free_port()
    arguments = ("--bind", f"127.0.0.1:{port}", "--log-level", "error", "app:app")
    delivery = sender.whatsapp({"text": {"body": "hi"}})
    with serving("-m", "gunicorn", *arguments, folder=FOLDER, env=env, port=port) as url:
        chunks = iter([delivery.body[:10], delivery.body[10:]])
        address = f"{url}/butt-dial/whatsapp/"
        answer = requests.post(address, chunks, headers=delivery.headers, timeout=PATIENCE)
    assert answer.status_code == 200
    assert len(server.fake.sent_messages) == 1


def test_the_operator_api(shop: str) -> None:
    """Closed without the token; with it open, and safe from other sites' forms."""
    address = f"{shop}/operator"
    assert requests.get(f"{address}/agents", timeout=PATIENCE).status_code == 403
    token = {"Authorization": "Bearer of-the-operators"}
    overview = requests.get(f"{address}/overview", headers=token, timeout=PATIENCE).json()
    assert overview["connection_status"] == "connected"
    change = f"{address}/agents/shop/activate"
    assert requests.post(change, headers=token, timeout=PATIENCE).status_code == 403
    meant = {**token, "X-Requested-With": "test"}
    assert requests.post(change, headers=meant, timeout=PATIENCE).json()["status"] == "active"


def test_listen(server: LoopbackServer, env: dict[str, str]) -> None:
    """What waits is answered; SIGTERM ends the command with 0."""
    server.fake.add_waiting(body="waited", externalId="w1", channel="sms")
    with started("-m", "flask", "buttdial", "listen", folder=FOLDER, env=env) as listening:
        assert server.fake.wait_for(lambda: len(server.fake.sent_messages) == 1, PATIENCE)
        listening.terminate()
        assert listening.wait(PATIENCE) == 0


def test_poll(server: LoopbackServer, env: dict[str, str]) -> None:
    """``flask buttdial poll`` hands over what waits."""
    server.fake.add_waiting(body="waited", externalId="w1")
    polled = python("-m", "flask", "buttdial", "poll", folder=FOLDER, env=env)
    assert polled.strip() == "1 handed over"


def test_it_survives_a_restart(server: LoopbackServer, env: dict[str, str], tmp_path: Path) -> None:
    """What was handled is known to the next process, and what comes in is on disk first."""
    delivery = sender.whatsapp({"text": {"body": "hi"}})
    for _ in range(2):
        port = free_port()
        arguments = ("-m", "flask", "run", "--port", str(port))
        with serving(*arguments, folder=FOLDER, env=env, port=port) as url:
            assert delivery.send(f"{url}/butt-dial/whatsapp/") == 200
    assert len(server.fake.sent_messages) == 1
    server.fake.add_waiting(body="waited", externalId="w1")
    python("-m", "flask", "buttdial", "poll", folder=FOLDER, env=env)
    with SQLiteInbox(next(tmp_path.rglob("inbox.sqlite3"))) as inbox:
        assert [stored.status for stored in inbox.list()] == ["handled"]
