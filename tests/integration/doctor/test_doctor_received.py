"""Stages 6 and 7: the receipt and a person's answer, handed to a host's handler."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from buttdial_sync import (
    ArgumentTypeError,
    ArgumentValueError,
    Client,
    ConfigError,
    DoctorReport,
    InboundHandler,
    run_diagnostic,
)
from buttdial_sync.models.inbound import InboundMessage
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.integration.doctor.conftest import TOKEN

TO = "+14155550123"
SID = "SM-7"
RECEIPT, ACK = 5, 6


@pytest.fixture
def inbound() -> InboundHandler:
    return InboundHandler(allow_unsigned=["butt-dial"])


def examine(server: LoopbackServer, inbound: InboundHandler | None, **options: Any) -> DoctorReport:
    chosen = {"to": TO, "receipt_timeout": 0.2, "ack_timeout": 0.2, **options}
    with Client(server.base_url, agent_token=TOKEN) as client:
        return run_diagnostic(client, inbound_handler=inbound, **chosen)


def arriving(inbound: InboundHandler, *payloads: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Answer a send, after its webhooks: the server may be that quick."""

    def answer(_: dict[str, Any]) -> dict[str, Any]:
        for payload in payloads:
            body = json.dumps({"channel": "whatsapp", **payload}).encode()
            assert inbound.handle("butt-dial", body, {}).status == 200
        return {"messageId": SID}

    return answer


def receipt(status: str, sid: str = SID, **more: Any) -> dict[str, Any]:
    return {"type": "status", "messageId": sid, "status": status, "to": TO, **more}


def message(sender: str, text: str) -> dict[str, Any]:
    return {"type": "message", "messageId": f"in-{text}", "from": sender, "to": "+1", "body": text}


def test_all_seven_stages(server: LoopbackServer, inbound: InboundHandler) -> None:
    """A receipt and an answer that come before the send is answered are seen."""
    payloads = receipt("sent"), receipt("delivered"), message("14155550123", "I am here")
    server.fake.on_tool("comms_send_message", arriving(inbound, *payloads))
    report = examine(server, inbound, expect_ack=True)
    assert [stage.status for stage in report.stages] == ["ok"] * 7
    assert report.stages[RECEIPT].detail == "status delivered"
    assert report.stages[ACK].detail == "received 'I am here'"
    assert "reply" in str(server.fake.sent_messages[0].body)


def test_others_are_not_taken_for_it(server: LoopbackServer, inbound: InboundHandler) -> None:
    """Other messages' receipts and other people's answers count for nothing."""
    payloads = receipt("delivered", "SM-8"), message("+14155550199", "hello")
    server.fake.on_tool("comms_send_message", arriving(inbound, *payloads))
    stage = examine(server, inbound).failure
    assert stage is not None
    assert (stage.name, stage.code) == ("Delivery receipt", "NO_RECEIPT")
    assert "callback URL" in str(stage.remediation)


def test_no_answer(server: LoopbackServer, inbound: InboundHandler) -> None:
    """Nobody replies: what to do, and how long was waited."""
    server.fake.on_tool("comms_send_message", arriving(inbound, receipt("read")))
    stage = examine(server, inbound, expect_ack=True).failure
    assert stage is not None
    assert (stage.name, stage.code) == ("Human ack loopback", "NO_ACK")
    assert "within 0.2 s" in str(stage.detail)


def test_an_interim_receipt_is_better_than_none(
    server: LoopbackServer, inbound: InboundHandler
) -> None:
    """A message that is only on its way has proved the way of the receipts."""
    server.fake.on_tool("comms_send_message", arriving(inbound, receipt("sent")))
    report = examine(server, inbound)
    assert report.ok
    assert report.stages[RECEIPT].detail == "status sent"
    assert report.stages[ACK].skipped


def test_undelivered(server: LoopbackServer, inbound: InboundHandler) -> None:
    """A receipt that says no is a failure."""
    server.fake.on_tool("comms_send_message", arriving(inbound, receipt("undelivered")))
    stage = examine(server, inbound).failure
    assert stage is not None
    assert "undelivered" in str(stage.detail)
    assert stage.outcome == "rejected"


def test_the_hosts_handlers_go_on(server: LoopbackServer, inbound: InboundHandler) -> None:
    """The host gets what comes during a diagnosis, and the doctor nothing after it."""
    seen: list[str] = []

    @inbound.on_message
    def keep(arrived: InboundMessage) -> None:
        seen.append(arrived.text)

    before = inbound._dispatcher._registrations
    server.fake.on_tool("comms_send_message", arriving(inbound, message("+1999", "during")))
    examine(server, inbound)
    assert seen == ["during"]
    assert inbound._dispatcher._registrations == before


def test_open_source_server_sends_no_receipts(inbound: InboundHandler) -> None:
    """Stage 6 is skipped and says so; the answer is waited for all the same."""
    with FakeButtDialServer(dialect="open-source").listen() as server:
        report = examine(server, inbound, expect_ack=True)
    assert report.stages[RECEIPT].skipped
    assert "does not send delivery receipts" in str(report.stages[RECEIPT].detail)
    assert report.failure is report.stages[ACK]


def test_without_a_recipient_nothing_is_sent(server: LoopbackServer) -> None:
    """The last three stages are skipped, each with a reason, and that is no failure."""
    report = examine(server, None, to=None)
    assert report.ok
    assert [stage.skipped for stage in report.stages] == [False] * 4 + [True] * 3
    assert all(stage.detail for stage in report.stages[4:])
    assert server.fake.calls == []


def test_without_a_handler_receipts_are_skipped(server: LoopbackServer) -> None:
    """The message is sent; that nothing receives webhooks is said."""
    report = examine(server, None)
    assert report.ok
    assert "inbound_handler" in str(report.stages[RECEIPT].detail)


@pytest.mark.parametrize(
    ("to", "channel", "used"),
    [(TO, None, "whatsapp"), ("a@b.example", None, "email"), (TO, "sms", "sms")],
)
def test_channel(server: LoopbackServer, to: str, channel: Any, used: str) -> None:
    """An address with an @ gets an email, unless a channel is named."""
    assert examine(server, None, to=to, channel=channel).ok
    assert server.fake.sent_messages[0].channel == used


def test_a_diagnosis_uses_one_session(server: LoopbackServer) -> None:
    """The handshake, the tools and the message go over the client's own session."""
    assert examine(server, None).ok
    assert server.fake.streams_opened == 1


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"receipt_timeout": 0}, ArgumentValueError),
        ({"ack_timeout": "soon"}, ArgumentTypeError),
        ({"to": 14155550123}, ArgumentTypeError),
        ({"channel": "fax"}, ArgumentValueError),
    ],
)
def test_arguments_are_checked(
    server: LoopbackServer, options: dict[str, Any], kind: type[ConfigError]
) -> None:
    """A mistake of the caller's is raised, and nothing is sent."""
    with pytest.raises(kind, match=next(iter(options))):
        examine(server, None, **options)
    assert server.fake.requests == []
