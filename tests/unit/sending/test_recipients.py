"""Recipients on their way: checked by each call that reaches people, before anything is sent."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from buttdial_sync import ArgumentTypeError, ArgumentValueError, Client, Outbox
from buttdial_sync.retry import MemoryRepository
from buttdial_sync.testing import FakeButtDialServer

NATIONAL = "0415 555 012"
WRITTEN, SENT = "+1 (415) 555-0123", "+14155550123"


@pytest.fixture
def fake() -> FakeButtDialServer:
    return FakeButtDialServer()


def test_a_bad_recipient_is_a_result(fake: FakeButtDialServer) -> None:
    """It is a permanent failure with advice, and the server never hears of it."""
    with fake.listen() as server, Client(server.base_url, agent_token="good-token") as client:
        result = client.send_message(NATIONAL, "Hello", "sms")
        assert (result.outcome, result.error_code) == ("not_sent", "INVALID_RECIPIENT")
        assert (result.permanent, result.attempts) == (True, 0)
        assert "country code" in str(result.remediation)
        assert client.send_message(WRITTEN, "Hello", "sms").ok
    assert [sent.args["to"] for sent in fake.sent_messages] == [SENT]


def test_a_view_checks_as_its_client_does(fake: FakeButtDialServer) -> None:
    """``as_agent`` keeps the client's options."""
    with (
        fake.listen() as server,
        Client(server.base_url, agent_token="t", check_recipients=False) as careless,
        Client(server.base_url, agent_token="t", default_region="AU") as australian,
    ):
        assert careless.as_agent("good-token").send_message("hello", "x").ok
        assert australian.as_agent("good-token").check_recipient(NATIONAL, "sms") == "+61415555012"
    assert [sent.args["to"] for sent in fake.sent_messages] == ["hello"]


@pytest.mark.parametrize(
    ("family", "method", "arguments", "names"),
    [
        ("otp", "send", {"channel": "sms"}, {"to": "to"}),
        ("otp", "verify", {"code": "1", "channel": "whatsapp"}, {"to": "to"}),
        ("otp", "verify", {"code": "1"}, {"to": "to"}),
        ("voice", "make_call", {}, {"to": "to"}),
        ("voice", "send_message", {"text": "x"}, {"to": "to"}),
        ("voice", "call_on_behalf", {"requester_phone": "+1"}, {"target": "target"}),
        ("voice", "call_on_behalf", {"target": "+1"}, {"requester_phone": "requesterPhone"}),
        ("whatsapp", "typing", {}, {"to": "to"}),
        ("whatsapp", "forward", {"message_id": "m"}, {"to": "to"}),
        ("whatsapp", "action", {"action": "new"}, {"to": "to"}),
        ("whatsapp", "send_poll", {"title": "?", "options": ["a", "b"]}, {"to": "to"}),
    ],
)
def test_families(
    fake: FakeButtDialServer,
    family: str,
    method: str,
    arguments: dict[str, Any],
    names: dict[str, str],
) -> None:
    """They raise for a bad recipient, and send a good one as the server takes it."""
    with fake.listen() as server, Client(server.base_url, agent_token="good-token") as client:
        call = getattr(getattr(client, family), method)
        [(name, wire)] = names.items()
        with pytest.raises(ArgumentValueError, match="country code"):
            call(**arguments, **{name: NATIONAL})
        assert not fake.calls
        call(**arguments, **{name: WRITTEN})
    assert fake.calls[-1].args[wire] == SENT


def test_the_outbox_refuses_a_bad_recipient_at_once() -> None:
    """A row that can never be sent is not written."""
    repository = MemoryRepository()
    with Client("http://127.0.0.1:9", agent_token="t") as client:
        outbox = Outbox(client, repository)
        with pytest.raises(ArgumentValueError, match="country code"):
            outbox.enqueue(NATIONAL, "Hello", "sms")
        outbox.enqueue(WRITTEN, "Hello", "sms")
    assert repository.count_pending() == 1


def test_the_outbox_writes_a_plain_recipient() -> None:
    """Also where nothing else of the message stands for a text."""
    from django.utils.functional import lazystr

    with Client("http://127.0.0.1:9", agent_token="t") as client:
        row = Outbox(client, MemoryRepository()).enqueue(lazystr("+14155550124"), "Hello")
    assert type(row.recipient) is str


def test_the_outbox_writes_plain_texts() -> None:
    """What frameworks use for texts, and times, are texts in a row."""
    from django.utils.functional import lazystr

    repository = MemoryRepository()
    with Client("http://127.0.0.1:9", agent_token="t") as client:
        row = Outbox(client, repository).enqueue(
            lazystr("+14155550123"),
            lazystr("Hello"),
            scheduled_at=datetime(2026, 12, 24, tzinfo=timezone.utc),
            template_vars={"price": Decimal("9.90")},
        )
    assert (type(row.recipient), type(row.body)) == (str, str)
    assert row.scheduled_at == "2026-12-24T00:00:00+00:00"
    assert row.template_vars == {"price": "9.90"}
    assert [stored.template_vars for stored in repository.list()] == [row.template_vars]


@pytest.mark.parametrize("channel", ["whatsapp", "sms", "email", "line"])
def test_every_sender_can_be_answered(fake: FakeButtDialServer, channel: Any) -> None:
    """The sender of an example of each channel is a recipient on it."""
    senders = {
        "whatsapp": ["14155550123", "+14155550123", "120363025246125486@g.us"],
        "sms": ["+14155550123", "24636"],
        "email": ["ann@example.com", "Ann <ann@example.com>"],
        "line": ["U4af4980629"],
    }
    with fake.listen() as server, Client(server.base_url, agent_token="good-token") as client:
        for sender in senders[channel]:
            assert client.send_message(sender, "Thanks", channel).ok


@pytest.mark.parametrize("arguments", [["a"], "text", 5])
def test_arguments_that_are_not_a_mapping(arguments: Any) -> None:
    """A tool's arguments are named in the error, not met somewhere below."""
    with (
        Client("http://127.0.0.1:9", agent_token="t") as client,
        pytest.raises(ArgumentTypeError, match=r"^arguments must be Mapping\[str, Any\] or None"),
    ):
        client.call_tool("comms_ping", arguments)


def test_a_poll_has_two_options() -> None:
    """With one there is nothing to choose."""
    with (
        Client("http://127.0.0.1:9", agent_token="t") as client,
        pytest.raises(ArgumentValueError, match="two options"),
    ):
        client.whatsapp.send_poll("+14155550123", "Tea?", ["yes"])
