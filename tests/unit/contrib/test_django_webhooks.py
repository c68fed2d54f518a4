"""Webhooks of the Django app, through Django's test client."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from django.db import connection
from django.dispatch import Signal
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

from buttdial_sync import InboundHandler
from buttdial_sync.contrib.django import get_handler, signals
from buttdial_sync.contrib.django.models import Delivery as Row
from buttdial_sync.testing.simulate import Delivery, HostSimulator
from tests.unit.contrib import own_handler, undelivered
from tests.unit.contrib.django_settings import BUTT_DIAL

pytestmark = pytest.mark.usefixtures("project")

server = HostSimulator(whatsapp_secret="app-secret")


@pytest.fixture
def http() -> Client:
    return Client(enforce_csrf_checks=True, raise_request_exception=True)


class Receiver:
    """Keeps what a signal sends, and fails as often as told."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.failures = 0

    def __call__(self, *, event: Any, **_: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the host's fault")
        self.events.append(event)


@pytest.fixture
def receivers() -> Iterator[dict[str, Receiver]]:
    found = {name: each for name, each in vars(signals).items() if isinstance(each, Signal)}
    receivers = {name: Receiver() for name in found}
    for name, signal in found.items():
        signal.connect(receivers[name], dispatch_uid=name)
    yield receivers
    for name, signal in found.items():
        signal.disconnect(dispatch_uid=name)


def send(http: Client, channel: str, delivery: Delivery, **headers: str) -> int:
    answer = http.post(
        f"/hooks/{channel}/",
        delivery.body,
        content_type="application/json",
        headers={**delivery.headers, **headers},
    )
    return int(answer.status_code)


def test_a_forged_webhook_is_refused(http: Client, receivers: dict[str, Receiver]) -> None:
    """A wrong signature is 401, nobody is called, and nothing is written."""
    delivery = server.whatsapp({"text": {"body": "hi"}})
    wrong = {"X-Hub-Signature-256": "sha256=" + 64 * "0"}
    assert send(http, "whatsapp", delivery, **wrong) == 401
    assert receivers["message_received"].events == []
    assert not Row.objects.exists()


def test_an_unknown_channel_is_refused(http: Client) -> None:
    """A channel that there is not is 401, like one without a secret."""
    assert send(http, "telegram", server.message()) == 401


def test_a_large_body_is_refused(http: Client) -> None:
    """A body above max_body_bytes is 413, and above Django's own limit too."""
    for size in (1024 * 1024 + 1, 3 * 1024 * 1024):
        large = Delivery(body=b" " * size, headers={})
        assert send(http, "butt-dial", large) == 413


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize(
    "way", [{"HTTP_TRANSFER_ENCODING": "chunked"}, {"SERVER_PROTOCOL": "HTTP/2"}]
)
def test_a_body_without_a_length(
    http: Client, receivers: dict[str, Receiver], way: dict[str, Any], ends: bool
) -> None:
    """It is read if the server tells where it ends; else the sender has to say its length."""
    answer = http.generic(
        "POST",
        "/hooks/butt-dial/",
        "",
        CONTENT_LENGTH="",
        **{"wsgi.input": BytesIO(server.message(body="hi").body), "wsgi.input_terminated": ends},
        **way,
    )
    assert answer.status_code == (200 if ends else 411)
    assert [event.text for event in receivers["message_received"].events] == ["hi"] * ends


def test_a_failed_receiver_gets_the_retry(
    http: Client, receivers: dict[str, Receiver], caplog: pytest.LogCaptureFixture
) -> None:
    """A receiver that fails makes the answer 500; the sender's retry comes through, once."""
    receivers["account_verified"].failures = 1
    delivery = server.account_verified()
    with caplog.at_level(logging.CRITICAL, "buttdial_sync"):
        assert send(http, "account", delivery) == 500
    assert send(http, "account", delivery) == 200
    assert send(http, "account", delivery) == 200
    assert [event.org_id for event in receivers["account_verified"].events] == ["org-1"]


def test_signals(http: Client, receivers: dict[str, Receiver]) -> None:
    """Each kind of event goes to its signal, and to no other."""
    assert send(http, "whatsapp", server.whatsapp({"text": {"body": "hi"}})) == 200
    receipt = server.message(status="delivered", type="status")
    update = server.message(type="status_update", kind="channel_lost")
    for delivery in (receipt, update):
        assert send(http, "butt-dial", delivery) == 200
    assert send(http, "account", server.account_verified()) == 200
    counts = {name: len(receiver.events) for name, receiver in receivers.items()}
    assert counts == dict.fromkeys(counts, 1)
    assert receivers["message_received"].events[0].text == "hi"


def test_a_signal_without_receivers(http: Client, caplog: pytest.LogCaptureFixture) -> None:
    """It is told: typically the module with the receivers is not imported in this process."""
    delivery = server.whatsapp({"text": {"body": "hi"}})
    assert send(http, "whatsapp", delivery) == 200
    (told,) = [each for each in caplog.records if each.name == "buttdial_sync.django"]
    assert told.levelname == "WARNING"
    assert "no receiver of the signal message_received" in told.getMessage()


def test_a_signal_with_receivers(
    http: Client, receivers: dict[str, Receiver], caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is told, and nothing of a project whose handlers get what comes in."""
    assert send(http, "whatsapp", server.whatsapp({"text": {"body": "hi"}})) == 200
    for name in receivers:
        getattr(signals, name).disconnect(dispatch_uid=name)
    with override_settings(
        BUTT_DIAL={**BUTT_DIAL, "HANDLER": "tests.unit.contrib.own_handler.inbound"}
    ):
        assert send(http, "butt-dial", server.message(channel="sms", body="hi")) == 200
    assert "no receiver" not in caplog.text


def test_what_cannot_be_read_is_kept(http: Client, receivers: dict[str, Receiver]) -> None:
    """ON_UNDELIVERED gets it, once, though the settings were made anew meanwhile."""
    undelivered.kept.clear()
    delivery = server.message(body="", messageId="m1")
    for _ in range(2):
        assert send(http, "butt-dial", delivery) == 200
    assert [getattr(event, "reason", None) for event in undelivered.kept] == ["it has no content"]
    with override_settings(BUTT_DIAL={**BUTT_DIAL, "ON_UNDELIVERED": None}):
        assert send(http, "butt-dial", delivery) == 422
    assert receivers["message_received"].events == []


def test_a_message_costs_two_statements(http: Client, receivers: dict[str, Receiver]) -> None:
    """It is claimed before the receivers run and marked done after; a repetition is looked up."""
    # The first claim of a process deletes old rows too.
    assert send(http, "whatsapp", server.whatsapp({"text": {"body": "First"}})) == 200
    delivery = server.whatsapp({"text": {"body": "Hi"}})

    def statements() -> list[str]:
        return [each["sql"].split()[0] for each in queries.captured_queries]

    def note(**_: Any) -> None:
        before_the_receiver.extend(statements())

    before_the_receiver: list[str] = []
    signals.message_received.connect(note, dispatch_uid="note")
    try:
        with CaptureQueriesContext(connection) as queries:
            assert send(http, "whatsapp", delivery) == 200
        assert before_the_receiver == ["INSERT"]
        assert statements() == ["INSERT", "UPDATE"]
        with CaptureQueriesContext(connection) as queries:
            assert send(http, "whatsapp", delivery) == 200
        assert statements() == ["INSERT", "UPDATE", "SELECT"]
    finally:
        signals.message_received.disconnect(dispatch_uid="note")
    assert len(receivers["message_received"].events) == 2


def test_receivers_run_outside_of_a_transaction(http: Client) -> None:
    """A claim is seen by other workers at once, though the project has ATOMIC_REQUESTS."""
    inside: list[bool] = []

    def look(**_: Any) -> None:
        inside.append(connection.in_atomic_block)

    signals.message_received.connect(look)
    assert send(http, "butt-dial", server.message(body="hi")) == 200
    signals.message_received.disconnect(look)
    assert inside == [False]


def test_the_slash_may_be_absent(http: Client, receivers: dict[str, Receiver]) -> None:
    """Senders follow no redirects, so the address works without its last slash."""
    delivery = server.message(body="hi")
    answer = http.post("/hooks/butt-dial", delivery.body, content_type="application/json")
    assert answer.status_code == 200


def test_the_subscription_challenge(http: Client) -> None:
    """WhatsApp's GET is answered with its challenge if the token is right."""
    query = {"hub.mode": "subscribe", "hub.verify_token": "verify-me", "hub.challenge": "42"}
    answer = http.get("/hooks/whatsapp/", query)
    assert (answer.status_code, answer.content) == (200, b"42")
    assert answer["Content-Type"] == "text/plain"
    assert http.get("/hooks/whatsapp/", {**query, "hub.verify_token": "x"}).status_code == 403


def test_other_methods_are_not_allowed(http: Client) -> None:
    """PUT and DELETE are 405."""
    assert http.put("/hooks/whatsapp/").status_code == 405


def test_the_hosts_own_handler(http: Client, receivers: dict[str, Receiver]) -> None:
    """HANDLER names the host's handler; the signals are sent all the same, and once."""
    configured = {**BUTT_DIAL, "HANDLER": "tests.unit.contrib.own_handler.inbound"}
    own_handler.orders.clear()
    for number in range(2):
        with override_settings(BUTT_DIAL=configured):
            assert get_handler() is own_handler.inbound
            assert send(http, "butt-dial", server.message(channel="sms", body=f"{number}")) == 200
    assert own_handler.orders == ["0", "1"]
    assert [event.text for event in receivers["message_received"].events] == ["0", "1"]


class Interrupted(InboundHandler):
    """Raises when the third of its handlers is added for the first time."""

    was_interrupted = False

    def on_status_update(self, handler: Any = None, **options: Any) -> Any:
        if not self.was_interrupted:
            self.was_interrupted = True
            raise TimeoutError("the time limit of a task")
        return super().on_status_update(handler, **options)


interrupted = Interrupted(allow_unsigned=["butt-dial"])


def test_a_first_use_that_was_interrupted(http: Client, receivers: dict[str, Receiver]) -> None:
    """The next use adds what was not added, and nothing twice."""
    configured = {**BUTT_DIAL, "HANDLER": f"{__name__}.interrupted"}
    with override_settings(BUTT_DIAL=configured):
        with pytest.raises(TimeoutError):
            get_handler()
        assert send(http, "butt-dial", server.message(body="hi")) == 200
        update = server.message(type="status_update", kind="channel_lost")
        assert send(http, "butt-dial", update) == 200
    assert [event.text for event in receivers["message_received"].events] == ["hi"]
    assert len(receivers["status_update"].events) == 1
