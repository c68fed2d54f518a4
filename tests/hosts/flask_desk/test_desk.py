"""The desk's tests: pytest, with the plugin's fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
import responses
from flask.testing import FlaskClient

from buttdial_sync import Client
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from buttdial_sync.testing.simulate import HostSimulator
from tests.hosts.flask_desk.app import make_app


@contextmanager
def desk(base_url: str = "https://butt-dial.test") -> Iterator[FlaskClient]:
    app, butt_dial = make_app(BUTT_DIAL_BASE_URL=base_url, BUTT_DIAL_AGENT_TOKEN="agent-token")
    try:
        yield app.test_client()
    finally:
        butt_dial.close(app)


def test_closing_a_ticket(fake_server: FakeButtDialServer) -> None:
    """The view's message reaches the fake server, without a socket."""
    with desk() as browser:
        assert browser.post("/tickets/5/close/+1415").json == {"outcome": "sent"}
    fake_server.assert_sent_once(to="+1415", body="Ticket 5 is closed.", channel="sms")
    assert fake_server.connections == 0


@pytest.mark.parametrize("fake_server", ["hosted", "open-source"], indirect=True)
def test_both_servers(fake_server: FakeButtDialServer) -> None:
    """One test for both kinds of server."""
    with desk() as browser:
        assert browser.post("/tickets/5/close/+1415").json == {"outcome": "sent"}
    fake_server.assert_sent_once(to="+1415")


@pytest.mark.butt_dial(dialect="open-source")
def test_lost_answer(loopback_server: LoopbackServer) -> None:
    """Over a real socket: an answer that gets lost is neither a success nor a failure."""
    loopback_server.fake.fault("cut", delivered=True)
    with desk(loopback_server.base_url) as browser:
        assert browser.post("/tickets/5/close/+1415").json == {"outcome": "unknown"}
    loopback_server.fake.assert_sent_once(to="+1415")


def test_webhook(fake_server: FakeButtDialServer) -> None:
    """A signed webhook is answered by a message."""
    delivery = HostSimulator(whatsapp_secret="app-secret").whatsapp(
        {"text": {"body": "It is broken."}, "from": "14155550123"}
    )
    with desk() as browser:
        answer = browser.post(
            "/butt-dial/whatsapp/", data=delivery.body, headers=dict(delivery.headers)
        )
        assert answer.status_code == 200
    fake_server.assert_sent_once(to="14155550123", body="A ticket was opened.")


@responses.activate
def test_beside_own_mocks(fake_server: FakeButtDialServer, butt_dial_client: Client) -> None:
    """The desk's own mocks, by decorator, do not hide the fake server."""
    responses.get("https://parts.example/", json={"parts": 3})
    assert requests.get("https://parts.example/", timeout=5).json() == {"parts": 3}
    assert butt_dial_client.send_message("+1415", "3 parts", "sms").ok
    fake_server.assert_sent(body="3 parts")


def test_nothing_is_said(fake_server: FakeButtDialServer) -> None:
    """Each test has a server of its own, which has heard nothing."""
    fake_server.assert_nothing_sent()
