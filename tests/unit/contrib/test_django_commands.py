"""The management commands of the Django app."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from buttdial_sync.contrib.django import signals
from buttdial_sync.contrib.django.models import Delivery
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.testing import FakeButtDialServer
from tests.fakes import failed_logins
from tests.unit.contrib.django_settings import BUTT_DIAL

pytestmark = pytest.mark.usefixtures("project")

undelivered: list[InboundEvent] = []


def keep(event: InboundEvent) -> None:
    undelivered.append(event)


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue().strip()


@pytest.fixture
def received() -> Iterator[list[Any]]:
    events: list[Any] = []

    def receive(*, event: Any, **_: Any) -> None:
        events.append(event)

    signals.message_received.connect(receive)
    yield events
    signals.message_received.disconnect(receive)


@pytest.mark.parametrize("command", [("buttdial_send", "+1", "hi"), ("buttdial_poll",)])
@pytest.mark.parametrize("settings", [{}, {"NO": "SUCH KEY"}], ids=["no server", "wrong key"])
def test_wrong_settings_are_usage_errors(command: tuple[str, ...], settings: Any) -> None:
    """A command without a server ends with 2, and says what to do."""
    with override_settings(BUTT_DIAL=settings), pytest.raises(CommandError) as failure:
        run(*command)
    assert failure.value.returncode == 2


def test_a_refused_message_ends_with_1(fake_server: FakeButtDialServer) -> None:
    """What the server says is said, with the remedy."""
    fake_server.on_send(error="Recipient has not consented", code="NO_CONSENT")
    with pytest.raises(CommandError, match="was not sent: Recipient has not consented") as failure:
        run("buttdial_send", "+14155550123", "hi")
    assert failure.value.returncode == 1


def test_a_lost_answer_ends_with_3(fake_server: FakeButtDialServer) -> None:
    """A message that may have been sent is not called a failure."""
    fake_server.fault("cut")
    once = override_settings(BUTT_DIAL={**BUTT_DIAL, "CLIENT": {"max_attempts": 1}})
    with once, pytest.raises(CommandError, match="may have been sent") as failure:
        run("buttdial_send", "+14155550123", "hi")
    assert failure.value.returncode == 3


def test_a_refused_token_ends_the_poll(fake_server: FakeButtDialServer) -> None:
    """A refused token ends the command with 1, after one failed login."""
    fake_server.revoke("agent-token")
    with pytest.raises(CommandError) as failure:
        run("buttdial_poll")
    assert failure.value.returncode == 1
    assert failed_logins(fake_server) == 1


def test_send(fake_server: FakeButtDialServer) -> None:
    """A message goes out over the named channel, with its options."""
    said = run(
        "buttdial_send",
        "a@b.test",
        "hi",
        "--channel",
        "email",
        "--subject",
        "Hello",
        "--thread-id",
        "t-1",
    )
    assert said.startswith("sent over email as ")
    [message] = fake_server.sent_messages
    assert (message.to, message.body, message.channel) == ("a@b.test", "hi", "email")
    assert (message.args["subject"], message.args["threadId"]) == ("Hello", "t-1")


def test_doctor(fake_server: FakeButtDialServer) -> None:
    """The stages are shown; without a recipient nothing is sent."""
    assert "[OK] Tool list" in run("buttdial_doctor")
    fake_server.assert_nothing_sent()


def test_doctor_ends_with_1_when_the_token_is_refused(fake_server: FakeButtDialServer) -> None:
    """The stage that failed is named."""
    fake_server.revoke("agent-token")
    with pytest.raises(CommandError, match="SSE handshake") as failure:
        run("buttdial_doctor")
    assert failure.value.returncode == 1


def test_poll(fake_server: FakeButtDialServer, received: list[Any]) -> None:
    """What waits is handed over once, and remembered in the database."""
    fake_server.add_waiting(body="one", externalId="x1")
    fake_server.add_waiting(body="two", externalId="x2")
    assert run("buttdial_poll") == "2 handed over"
    assert run("buttdial_poll") == "0 handed over"
    assert [event.text for event in received] == ["one", "two"]
    # Each as one that is signed and one that is not, for a webhook may bring it again.
    assert Delivery.objects.exclude(done_at=None).count() == 4


def test_what_cannot_be_handed_over_is_kept(fake_server: FakeButtDialServer) -> None:
    """Without an inbox ON_UNDELIVERED gets it, for it is no longer on the server."""

    def fail(**_: Any) -> None:
        raise RuntimeError("the host's fault")

    undelivered.clear()
    options = {"INBOX": False, "LISTENER": {"max_attempts": 1}}
    keeping = {"ON_UNDELIVERED": f"{__name__}.keep", **options}
    fake_server.add_waiting(body="lost?", externalId="x3")
    signals.message_received.connect(fail)
    try:
        with override_settings(BUTT_DIAL={**BUTT_DIAL, **keeping}):
            assert run("buttdial_poll") == "0 handed over"
    finally:
        signals.message_received.disconnect(fail)
    assert [getattr(event, "text", None) for event in undelivered] == ["lost?"]
