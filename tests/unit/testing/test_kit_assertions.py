"""The assertions of the test kit, and what they say when they fail."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from buttdial_sync import Client
from buttdial_sync.testing import FakeButtDialServer


@pytest.fixture
def fake(fake_server: FakeButtDialServer, butt_dial_client: Client) -> FakeButtDialServer:
    """A server that got one message."""
    butt_dial_client.send_message("+1415", "Order 7 is on its way.", "sms", thread_id="order-7")
    return fake_server


def failure(check: Callable[[], object]) -> str:
    with pytest.raises(AssertionError) as caught:
        check()
    return str(caught.value)


def test_sent(fake: FakeButtDialServer) -> None:
    """A message is found by any of its fields, by pattern too, and is returned."""
    message = fake.assert_sent(to="+1415", body=re.compile(r"order 7", re.IGNORECASE))
    assert message is fake.assert_sent_once(thread_id="order-7", channel="sms", subject=None)
    assert message.media == message.fallback_channels == ()
    assert message.template_vars == {}
    assert fake.assert_sent() is message


def test_other_fields(fake: FakeButtDialServer) -> None:
    """The failure says what was wanted, what came, and in what they differ."""
    assert failure(lambda: fake.assert_sent(to="+1415", body="Hello", thread_id=None)) == (
        "message to='+1415' body='Hello' thread_id=None was not sent\n"
        "The server got 1:\n"
        "  1. to='+1415' channel='sms' body='Order 7 is on its way.' thread_id='order-7' "
        "(other body, thread_id)\n"
        "The nearest one, against what was wanted (-):\n"
        "  body\n"
        "    - Hello\n"
        "    + Order 7 is on its way.\n"
        "  thread_id\n"
        "    - None\n"
        "    + 'order-7'"
    )


def test_the_nearest_of_many(fake_server: FakeButtDialServer, butt_dial_client: Client) -> None:
    """Among sixty messages the ones that are alike are listed, and one is shown as a diff."""
    for number in range(60):
        assert butt_dial_client.send_message(f"+1415{number:02}", f"Order {number}", "sms").ok
    said = failure(lambda: fake_server.assert_sent(to="+141542", body="Order 42 is late"))
    lines = said.splitlines()
    assert lines[1] == "The server got 60, here the nearest 5:"
    assert "  43. to='+141542' channel='sms' body='Order 42' (other body)" in lines[2:7]
    assert lines[7:] == [
        "The nearest one, against what was wanted (-):",
        "  body",
        "    - Order 42 is late",
        "    + Order 42",
    ]


def test_a_long_text_is_not_shown_whole(
    fake_server: FakeButtDialServer, butt_dial_client: Client
) -> None:
    """A diff of two long texts is two beginnings; a pattern is shown as it is."""
    assert butt_dial_client.send_message("+1415", "x" * 4000, "sms").ok
    said = failure(lambda: fake_server.assert_sent(body="y" * 4000))
    assert max(map(len, said.splitlines())) < 200
    assert "    - 'order'" in failure(lambda: fake_server.assert_sent(body=re.compile("order")))


def test_nothing_came(fake_server: FakeButtDialServer) -> None:
    """An idle server says so; nothing sent is then right."""
    said = failure(lambda: fake_server.assert_sent(body=re.compile("order")))
    assert said == "message body='order' was not sent\nThe server got nothing."
    fake_server.assert_nothing_sent()


def test_refused_is_not_sent(fake_server: FakeButtDialServer, butt_dial_client: Client) -> None:
    """A refused message was not sent, but it was tried."""
    fake_server.on_send(error="no consent")
    butt_dial_client.send_message("+1415", "hi", "sms")
    line = "  1. to='+1415' channel='sms' body='hi' (refused, lost or repeated)"
    assert line in failure(lambda: fake_server.assert_sent(to="+1415"))
    assert line in failure(fake_server.assert_nothing_sent)


TROUBLE: dict[str, Callable[[FakeButtDialServer], None]] = {
    "fault": lambda fake: fake.fault("status", status=400, body={"error": "no"}),
    "reset": lambda fake: fake.fault("reset", count=9),
    "lost answer": lambda fake: fake.fault("cut", delivered=False, count=9),
    "token": lambda fake: fake.revoke("agent-token"),
}


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("send_via", ["stream", "rest"])
@pytest.mark.butt_dial(dialect="open-source")
def test_a_message_that_was_lost_was_tried(
    fake_server: FakeButtDialServer, trouble: str, send_via: Any
) -> None:
    """A server whose answer is lost, or that lets nobody in, has seen the message all the same."""
    with Client(
        "https://butt-dial.test",
        agent_token="agent-token",
        max_attempts=1,
        send_via=send_via,
    ) as client:
        if send_via == "stream":
            client.ping()
            TROUBLE[trouble](fake_server)
        elif trouble == "token":
            fake_server.revoke("agent-token")
        else:
            fake_server.fault("reset", on="rest")
        assert not client.send_message("+14155550123", "hi", "sms").ok
    assert [call.body for call in fake_server.sent_messages] == ["hi"]
    assert fake_server.delivered == []
    assert "body='hi'" in failure(fake_server.assert_nothing_sent)


REACHES: list[Callable[[Client], object]] = [
    lambda client: client.otp.send("+14155550123", "sms"),
    lambda client: client.voice.send_message("+14155550123", "hello"),
    lambda client: client.voice.make_call("+14155550123"),
    lambda client: client.voice.call_on_behalf("+14155550123", "+14155550124"),
    lambda client: client.whatsapp.forward("wamid.1", "+14155550123"),
    lambda client: client.whatsapp.post_status(body="hello"),
]


@pytest.mark.parametrize("reach", REACHES)
def test_whatever_reaches_people_counts(
    fake_server: FakeButtDialServer, butt_dial_client: Client, reach: Callable[[Client], object]
) -> None:
    """Nothing sent means: no call, no passcode, no forwarded message."""
    fake_server.assert_nothing_sent()
    reach(butt_dial_client)
    assert "by comms_" in failure(fake_server.assert_nothing_sent)


REFUSALS = (
    '{"success": false, "error": "no credit"}',
    '{"error": "no credit"}',
    '{"messageId": null}',
    "Sorry",
)


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_without_the_mark_of_an_error_is_one(
    fake_server: FakeButtDialServer, text: str
) -> None:
    """What the client does not take for sent was not, and a key is not used up by it."""
    fake_server.on_send(raw_text=text)
    with Client("https://butt-dial.test", agent_token="t", max_attempts=1) as client:
        assert not client.send_message("+14155550123", "hi", "sms", idempotency_key="k").ok
        failure(fake_server.assert_sent)
        assert client.send_message("+14155550123", "hi", "sms", idempotency_key="k").ok
    fake_server.assert_sent_once()


def test_sent_twice(fake: FakeButtDialServer, butt_dial_client: Client) -> None:
    """Two messages are not one; a repetition with the same key is."""
    for _ in range(2):
        assert butt_dial_client.send_message("+1416", "x" * 500, "sms", idempotency_key="k").ok
    fake.assert_sent_once(to="+1416")
    said = failure(lambda: fake.assert_sent_once(channel="sms"))
    assert said.startswith("message channel='sms' was sent 2 times\nThe server got 3:\n  1. ")
    assert max(map(len, said.splitlines())) < 200


def test_whatsapp_messages_count(fake_server: FakeButtDialServer, butt_dial_client: Client) -> None:
    """Nothing sent means: no poll either."""
    butt_dial_client.whatsapp.mark_read("wamid.1")
    fake_server.assert_nothing_sent()
    butt_dial_client.whatsapp.send_poll("+1415", "When?", ["Today", "Tomorrow"])
    assert "send_poll" in failure(fake_server.assert_nothing_sent)
    fake_server.assert_called("comms_whatsapp_action", action="send_poll", title="When?")


def test_called(fake: FakeButtDialServer) -> None:
    """A call that did not come is missed, with the values of the arguments that were asked for."""
    said = failure(lambda: fake.assert_called("comms_ping"))
    assert said == "comms_ping was not called\nThe server got 1:\n  1. comms_send_message"
    said = failure(lambda: fake.assert_called("comms_send_message", to="+2"))
    assert said.endswith("  1. comms_send_message to='+1415'")


def test_what_was_given_is_found(fake_server: FakeButtDialServer, butt_dial_client: Client) -> None:
    """Lists and datetimes are found as they were given to ``send_message``, and not by others."""
    when = datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    url, ways = "https://shop.example/a.png", ["email"]
    butt_dial_client.send_message(
        "+14155550123", "hi", "sms", media_url=url, scheduled_at=when, fallback_channels=ways
    )
    message = fake_server.assert_sent(media=[url], scheduled_at=when, fallback_channels=ways)
    assert message is fake_server.assert_sent(scheduled_at=when.astimezone(timezone.utc))
    fake_server.assert_called("comms_send_message", fallbackChannels=("email",), media=(url,))
    failure(lambda: fake_server.assert_sent(scheduled_at=when + timedelta(seconds=1)))
    failure(lambda: fake_server.assert_sent(scheduled_at=when.replace(tzinfo=None)))
    failure(lambda: fake_server.assert_sent(fallback_channels=["sms"]))
    failure(lambda: fake_server.assert_sent(body=when))


def test_unknown_argument(fake_server: FakeButtDialServer, butt_dial_client: Client) -> None:
    """A misspelt argument is a mistake in the test, also if it is not wanted."""
    butt_dial_client.whatsapp.react("wamid.1", "👍")
    fake_server.assert_called("comms_whatsapp_action", emoji="👍", body=None)
    with pytest.raises(TypeError, match="comms_whatsapp_action has no emojii; it has action,"):
        fake_server.assert_called("comms_whatsapp_action", emojii=None)
    with Client("https://butt-dial.test", agent_token="t", check_schema=False) as client:
        client.whatsapp.action("pin", message_id="wamid.1", seconds=7)
    fake_server.assert_called("comms_whatsapp_action", seconds=7)  # it came, so there is one


def test_unknown_field(fake_server: FakeButtDialServer) -> None:
    """A field that no message has is a mistake in the test, not a failure."""
    with pytest.raises(TypeError, match="no recipient; it has body, channel"):
        fake_server.assert_sent(recipient="+1415")


@pytest.mark.butt_dial(tokens=["agent-token"])
def test_no_token_is_shown(fake: FakeButtDialServer) -> None:
    """What a failing test prints has no token in it."""
    assert fake.delivered[0].token == "agent-token"
    checks = (fake.assert_nothing_sent, lambda: fake.assert_called("x", to=1))
    shown = [failure(check) for check in checks]
    assert "agent-token" not in "".join([*shown, repr(fake.sent_messages)])


def test_no_credential_is_shown(fake_server: FakeButtDialServer, butt_dial_client: Client) -> None:
    """Keys of providers are in the call, and not in what is printed."""
    given = {"accountSid": "AC1", "authToken": "hidden-1"}
    butt_dial_client.organization.register_provider("twilio", given)
    said = failure(
        lambda: fake_server.assert_called(
            "comms_register_provider", provider="vonage", credentials={"apiKey": "hidden-2"}
        )
    )
    assert "vonage" in said
    assert "twilio" in said
    assert "hidden" not in said + repr(fake_server.calls)
    fake_server.assert_called("comms_register_provider", credentials=given)
