"""The Django example under gunicorn with two workers, and its listener, over real sockets."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from buttdial_sync.testing.simulate import Delivery, HostSimulator
from tests.integration.contrib.running import (
    PATIENCE,
    environment,
    python,
    serving,
    started,
)
from tests.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]

FOLDER = "django_app"
ROUNDS = 50  # until each worker got one of the requests: which one gets it is chance
sender = HostSimulator(whatsapp_secret="app-secret", account_secret="webhook-secret")


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer().listen() as loopback:
        yield loopback


@pytest.fixture
def env(server: LoopbackServer, tmp_path: Path) -> dict[str, str]:
    env = environment(server, tmp_path)
    python("manage.py", "migrate", "--verbosity", "0", folder=FOLDER, env=env)
    return env


@pytest.fixture
def access_log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def shop(env: dict[str, str], access_log: Path) -> Iterator[str]:
    port = free_port()
    arguments = (
        *("-m", "gunicorn", "--workers", "2", "--bind", f"127.0.0.1:{port}"),
        *("--log-level", "error", "--access-logfile", str(access_log)),
        *("--access-logformat", "%(p)s %(s)s", "shop.wsgi"),
    )
    with serving(*arguments, folder=FOLDER, env=env, port=port) as url:
        yield f"{url}/butt-dial"


def statuses(delivery: Delivery, url: str, times: int) -> Counter[int]:
    """Send a delivery that often, at the same time, each over a connection of its own."""
    with ThreadPoolExecutor(times) as pool:
        return Counter(pool.map(lambda _: delivery.send(url, timeout=PATIENCE), range(times)))


def workers(access_log: Path) -> set[str]:
    """The workers that answered something so far."""
    return {line.split()[0] for line in access_log.read_text().splitlines()}


def test_a_body_in_chunks(server: LoopbackServer, shop: str) -> None:
    """Without a proxy before it gunicorn gives Django a body without a length."""
    delivery = sender.whatsapp({"text": {"body": "hi"}})
    url = f"{shop}/whatsapp/"
    for _ in range(2):
        chunks = iter([delivery.body[:10], delivery.body[10:]])
        answer = requests.post(url, chunks, headers=delivery.headers, timeout=PATIENCE)
        assert answer.status_code == 200
    assert len(server.fake.sent_messages) == 1
    large = iter([b" " * (1024 * 1024 + 1)])
    assert requests.post(url, large, timeout=PATIENCE).status_code == 413


def test_under_an_asgi_server(server: LoopbackServer, env: dict[str, str]) -> None:
    """The views are the same there; Django gives them a body that is whole."""
    port = free_port()
    application = ("--factory", "django.core.asgi:get_asgi_application")
    arguments = ("--port", str(port), "--log-level", "error", "--lifespan", "off", *application)
    delivery = sender.whatsapp({"text": {"body": "hi"}})
    with serving("-m", "uvicorn", *arguments, folder=FOLDER, env=env, port=port) as url:
        address = f"{url}/butt-dial/whatsapp/"
        assert delivery.send(address) == 200
        chunks = iter([delivery.body[:10], delivery.body[10:]])
        answer = requests.post(address, chunks, headers=delivery.headers, timeout=PATIENCE)
        assert answer.json()["status"] == "repeated"
    assert len(server.fake.sent_messages) == 1


def test_forged_and_stale_webhooks(server: LoopbackServer, shop: str) -> None:
    """A wrong signature and an old one are 401; nothing is sent."""
    forger = HostSimulator(whatsapp_secret="guessed", account_secret="guessed")
    assert forger.whatsapp({"text": {"body": "hi"}}).send(f"{shop}/whatsapp/") == 401
    assert forger.account_verified().send(f"{shop}/account/") == 401
    stale = sender.account_verified(signed_at=time.time() - 301)
    assert stale.send(f"{shop}/account/") == 401
    assert sender.message().send(f"{shop}/butt-dial/") == 401
    assert server.fake.sent_messages == []


def test_one_delivery_to_several_workers(
    server: LoopbackServer, shop: str, access_log: Path
) -> None:
    """A delivery that fails, and then comes many times to both workers, is answered once."""
    server.fake.on_send(error="not now", code="NOT_NOW")
    delivery = sender.whatsapp({"text": {"body": "hi"}})
    assert delivery.send(f"{shop}/whatsapp/") == 500
    for _ in range(ROUNDS):
        assert set(statuses(delivery, f"{shop}/whatsapp/", 16)) <= {200, 500}
        if len(workers(access_log)) == 2:
            break
    assert len(workers(access_log)) == 2
    assert delivery.send(f"{shop}/whatsapp/") == 200
    bodies = [message.body for message in server.fake.sent_messages]
    assert bodies == ["We got your message: hi"] * 2


def test_an_account_event_that_is_repeated(shop: str) -> None:
    """The same delivery id, signed anew, is recognized by whichever worker gets it."""
    words = []
    for _ in range(6):
        delivery = sender.account_verified(delivery_id="delivery-7")
        answer = requests.post(
            f"{shop}/account/", data=delivery.body, headers=dict(delivery.headers), timeout=PATIENCE
        )
        words.append(answer.json()["status"])
    assert words == ["handled", *["repeated"] * 5]


def test_the_subscription_and_the_closed_door(shop: str) -> None:
    """WhatsApp subscribes; the operator API is closed to strangers."""
    query = {"hub.mode": "subscribe", "hub.verify_token": "verify-me", "hub.challenge": "42"}
    assert requests.get(f"{shop}/whatsapp/", params=query, timeout=PATIENCE).text == "42"
    assert requests.get(f"{shop}/operator/overview", timeout=PATIENCE).status_code == 403


def test_listen(server: LoopbackServer, env: dict[str, str]) -> None:
    """What waits and what is pushed is answered; SIGTERM ends the command with 0."""
    server.fake.add_waiting(body="waited", externalId="w1", channel="sms")
    with started("manage.py", "buttdial_listen", folder=FOLDER, env=env) as listening:
        assert server.fake.wait_for(lambda: len(server.fake.sent_messages) == 1, PATIENCE)
        pushed = {"type": "message", "id": "p1", "channel": "sms", "from": "+1", "body": "pushed"}
        assert server.fake.push(pushed) == 1
        assert server.fake.wait_for(lambda: len(server.fake.sent_messages) == 2, PATIENCE)
        listening.terminate()
        assert listening.wait(PATIENCE) == 0
    bodies = [message.body for message in server.fake.sent_messages]
    assert bodies == ["We got your message: waited", "We got your message: pushed"]


def test_poll_and_send(server: LoopbackServer, env: dict[str, str]) -> None:
    """The other two commands do what they say."""
    server.fake.add_waiting(body="waited", externalId="w1")
    polled = python("manage.py", "buttdial_poll", folder=FOLDER, env=env)
    assert polled.strip() == "1 handed over"
    python("manage.py", "buttdial_send", "+14155550123", "by hand", folder=FOLDER, env=env)
    assert [message.body for message in server.fake.sent_messages][-1] == "by hand"


def test_the_shop_is_sound(env: dict[str, str]) -> None:
    """The example's settings pass the system checks, and it lacks no migration."""
    python("manage.py", "check", "--fail-level", "WARNING", folder=FOLDER, env=env)
    python("manage.py", "makemigrations", "--check", "--dry-run", folder=FOLDER, env=env)
