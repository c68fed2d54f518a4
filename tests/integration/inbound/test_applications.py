"""The WSGI and ASGI applications under gunicorn, uvicorn and wsgiref, over real sockets."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
import requests

from buttdial_sync import InboundHandler, InboundMessage
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from buttdial_sync.testing.simulate import HostSimulator
from tests.integration.contrib.running import PATIENCE, environment, serving
from tests.ports import free_port

HERE = "tests.integration.inbound.web_app"
sender = HostSimulator(whatsapp_secret="app-secret")
OPERATOR = {"Authorization": "Bearer of-the-operators"}
CHALLENGE = {"hub.mode": "subscribe", "hub.verify_token": "verify-me", "hub.challenge": "42"}


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer().listen() as loopback:
        yield loopback


@pytest.fixture
def env(server: LoopbackServer, tmp_path: Path) -> dict[str, str]:
    return environment(server, tmp_path, RECEIVED=str(tmp_path / "received"))


def received(env: dict[str, str]) -> list[Any]:
    return [json.loads(line) for line in Path(env["RECEIVED"]).read_text().splitlines()]


def under_gunicorn(application: str, env: dict[str, str]) -> Any:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork: gunicorn runs on POSIX only")
    port = free_port()
    arguments = ("--bind", f"127.0.0.1:{port}", "--log-level", "error", application)
    return serving("-m", "gunicorn", *arguments, folder=".", env=env, port=port)


def under_uvicorn(application: str, env: dict[str, str]) -> Any:
    port = free_port()
    arguments = ("--port", str(port), "--log-level", "error", application)
    return serving("-m", "uvicorn", *arguments, folder=".", env=env, port=port)


def post(url: str, body: object, **headers: str) -> int:
    return requests.post(url, data=body, headers=headers, timeout=PATIENCE).status_code  # type: ignore[arg-type]


def in_chunks(body: bytes) -> Iterator[bytes]:
    """Give a body whose length requests does not know, so that it sends it in chunks."""
    yield body[:10]
    yield body[10:]


def check_webhooks(url: str) -> None:
    """What each host's webhooks have to do, wherever they run; three messages get in."""
    delivery = sender.whatsapp({"text": {"body": "whole"}})
    assert post(f"{url}/whatsapp/", delivery.body, **delivery.headers) == 200
    delivery = sender.whatsapp({"text": {"body": "in chunks"}, "id": "wamid.2"})
    assert post(f"{url}/whatsapp", in_chunks(delivery.body), **delivery.headers) == 200
    delivery = sender.message(body="unsigned")
    assert post(f"{url}/butt-dial/", delivery.body) == 200
    forged = {**delivery.headers, "X-Hub-Signature-256": "sha256=" + "0" * 64}
    assert post(f"{url}/whatsapp/", delivery.body, **forged) == 401
    assert post(f"{url}/elsewhere/whatsapp/", delivery.body) == 401
    assert post(f"{url}/butt-dial/", b" " * (1024 * 1024 + 1)) == 413
    assert post(f"{url}/butt-dial/", in_chunks(b" " * (1024 * 1024 + 1))) == 413
    assert post(f"{url}/butt-dial/", b"") == 400
    answer = requests.get(f"{url}/whatsapp/", CHALLENGE, timeout=PATIENCE)
    assert (answer.status_code, answer.text) == (200, "42")
    assert answer.headers["Content-Type"].startswith("text/plain")
    head = requests.head(f"{url}/whatsapp/", params=CHALLENGE, timeout=PATIENCE)
    assert (head.status_code, head.content) == (200, b"")
    refused = requests.put(f"{url}/whatsapp/", timeout=PATIENCE)
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD, POST")


def check_operator(url: str) -> None:
    """Closed without the permission; with it open, and safe from other sites' forms."""
    agents = f"{url}/agents"
    assert requests.get(agents, timeout=PATIENCE).status_code == 403
    answer = requests.get(agents, headers=OPERATOR, timeout=PATIENCE)
    assert [agent["id"] for agent in answer.json()] == ["7", "8"]
    assert answer.headers["Cache-Control"] == "no-store"
    change = f"{agents}/7/deactivate"
    assert post(change, b"", **OPERATOR) == 403
    meant = {**OPERATOR, "X-Requested-With": "test"}
    assert post(change, b"", **meant, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert post(change, b"", **meant) == 200
    assert requests.get(change, headers=OPERATOR, timeout=PATIENCE).headers["Allow"] == "POST"
    query = {"limit": "1", "status": "pending"}
    rows = requests.get(f"{url}/failed-messages", query, headers=OPERATOR, timeout=PATIENCE)
    assert len(rows.json()) == 1


THREE = [
    ["whole", "whatsapp_webhook"],
    ["in chunks", "whatsapp_webhook"],
    ["unsigned", "butt_dial_webhook"],
]


def test_wsgi_under_gunicorn(env: dict[str, str]) -> None:
    """Without a proxy before it, so that chunks come as they are."""
    with under_gunicorn(f"{HERE}:wsgi", env) as url:
        check_webhooks(url)
    assert [each[:2] for each in received(env)] == THREE
    with under_gunicorn(f"{HERE}:wsgi_operator", env) as url:
        check_operator(url)


def test_asgi_under_uvicorn(env: dict[str, str]) -> None:
    """On its own; the handlers run in threads, so they may block."""
    with under_uvicorn(f"{HERE}:asgi", env) as url:
        check_webhooks(url)
    assert received(env) == [[*each, False] for each in THREE]


def test_mounted_in_starlette(env: dict[str, str]) -> None:
    """As FastAPI mounts applications, too."""
    with under_uvicorn(f"{HERE}:mounted", env) as url:
        check_webhooks(f"{url}/hooks")
        check_operator(f"{url}/operator")
    assert [each[:2] for each in received(env)] == THREE


class Silent(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None: ...


@contextmanager
def under_wsgiref(application: Any) -> Iterator[str]:
    with make_server("127.0.0.1", 0, application, WSGIServer, Silent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(PATIENCE)


def test_wsgi_under_wsgiref() -> None:
    """It puts no chunks together, and says so; what has a length comes in."""
    got: list[InboundMessage] = []
    inbound = InboundHandler(allow_unsigned=["butt-dial"])
    inbound.on_message(got.append)
    body = sender.message(body="hi").body
    with under_wsgiref(inbound.wsgi()) as url:
        assert post(f"{url}/butt-dial/", in_chunks(body)) == 411
        assert got == []
        assert post(f"{url}/butt-dial/", body) == 200
    assert [message.text for message in got] == ["hi"]
