"""The transport's tests, as Healthchecks would have them."""

from __future__ import annotations

import io
import json
import logging
from datetime import timedelta
from typing import Any
from unittest import mock

from django.test import TestCase
from hc.api.models import Channel, Check, Flip, Notification
from healthchecks_transport import take_receipt

from buttdial_sync import InboundHandler
from buttdial_sync.testing import FakeButtDialServer, ToolFailure

TOKEN = "agent-token-of-healthchecks"
PHONE = "+14155550123"


class TransportTests(TestCase):
    """What happens to somebody who is to be told."""

    dialect = "hosted"

    def setUp(self) -> None:
        self.server = FakeButtDialServer(dialect=self.dialect)  # type: ignore[arg-type]
        self.server.install()
        self.addCleanup(self.server.uninstall)
        self.log = io.StringIO()
        handler = logging.StreamHandler(self.log)
        root = logging.getLogger()
        root.addHandler(handler)
        self.addCleanup(root.setLevel, root.level)
        root.setLevel(logging.DEBUG)
        self.addCleanup(root.removeHandler, handler)
        self.check = Check.objects.create(name="Backups")

    def channel(self, kind: str = "bd_sms", **phone: Any) -> Channel:
        value = json.dumps({"value": PHONE, **phone})
        return Channel.objects.create(kind=kind, value=value)

    def tell(self, channel: Channel, status: str = "down") -> str:
        error = channel.notify(Flip(self.check, status))
        channel.refresh_from_db()
        assert TOKEN not in error + self.log.getvalue()
        return error

    def notification(self) -> Notification:
        return Notification.objects.get()

    def test_sms(self) -> None:
        """A message goes out under the code of its row."""
        assert self.tell(self.channel()) == ""
        sent = self.server.assert_sent_once(
            to=PHONE, channel="sms", body="The check Backups is DOWN."
        )
        assert sent.args["idempotencyKey"] == str(self.notification().code)
        assert self.notification().error == ""

    def test_whatsapp(self) -> None:
        """The same over WhatsApp."""
        self.tell(self.channel("bd_whatsapp"), "up")
        self.server.assert_sent_once(channel="whatsapp", body="The check Backups is UP.")

    def test_not_wanted(self) -> None:
        """Who does not want to hear of it is not told."""
        assert self.tell(self.channel(notify_up=False), "up") == "no-op"
        assert self.tell(self.channel("bd_call"), "up") == "no-op"
        self.server.assert_nothing_sent()

    def test_call(self) -> None:
        """A call says it."""
        assert self.tell(self.channel("bd_call")) == ""
        self.server.assert_called(
            "comms_send_voice_message", to=PHONE, text="The check Backups is DOWN."
        )

    def test_permanent(self) -> None:
        """Who does not want any message has the channel disabled."""
        self.server.on_send(error="Recipient has opted out", code="DO_NOT_CONTACT")
        channel = self.channel()
        assert "opted out" in self.tell(channel)
        assert channel.disabled

    def test_wrong_number(self) -> None:
        """A number that is none is permanent too, and nothing is sent."""
        channel = self.channel(value="0415 555")
        self.tell(channel)
        assert channel.disabled
        self.server.assert_nothing_sent()

    def test_server_is_away(self) -> None:
        """What ends by itself is tried again for a while, and disables nothing."""
        starting = {"error": "starting", "retryable": True}
        self.server.fault("status", on="stream", status=503, body=starting, count=3)
        channel = self.channel()
        assert "starting" in self.tell(channel)
        assert not channel.disabled
        self.server.assert_nothing_sent()
        self.server.fault("status", on="stream", status=503, body=starting, count=2)
        assert self.tell(channel) == ""

    def test_revoked_token(self) -> None:
        """A refused token is no reason to disable a channel, and the next one is told."""
        self.server.fault("status", on="stream", status=401, body={"error": "Invalid token"})
        channel = self.channel()
        assert self.tell(channel) != ""
        assert not channel.disabled

    def test_failed_call(self) -> None:
        """A call that was refused is an error of the row; what is for ever disables it."""
        channel = self.channel("bd_call")
        suspended, opted_out = 'Agent "one" is not active', "Compliance: Do Not Contact"
        for reason, is_permanent in ((suspended, False), (opted_out, True)):
            self.server.on_tool("comms_send_voice_message", ToolFailure(reason))
            assert reason in self.tell(channel)
            assert channel.disabled == is_permanent


class LostAnswerTests(TransportTests):
    """The same on a server without keys, where an answer may get lost for good."""

    dialect = "open-source"

    def test_sms(self) -> None:
        """There is no key to look at."""
        assert self.tell(self.channel()) == ""
        self.server.assert_sent_once(to=PHONE, channel="sms")

    def test_unknown(self) -> None:
        """A message that may have been sent says so, and is not sent again here."""
        self.server.fault("cut", delivered=True)
        channel = self.channel()
        assert "may have been sent" in self.tell(channel)
        assert not channel.disabled
        assert len(self.server.delivered) == 1

    def test_unknown_call(self) -> None:
        """The same of a call."""
        self.server.fault("cut", delivered=True)
        assert "may have been a call" in self.tell(self.channel("bd_call"))


class ReceiptTests(TestCase):
    """What becomes of a message later."""

    def setUp(self) -> None:
        check = Check.objects.create(name="Backups")
        self.channel = Channel.objects.create(kind="bd_sms", value="{}")
        self.row = Notification.objects.create(owner=check, channel=self.channel)
        self.inbound = InboundHandler()
        self.inbound.on_delivery_receipt(take_receipt)

    def receive(self, status: str, code: object) -> None:
        receipt = {"messageId": "SM1", "status": status, "idempotencyKey": str(code)}
        self.inbound.dispatch({**receipt, "channel": "sms", "error": "unreachable"})
        self.row.refresh_from_db()
        self.channel.refresh_from_db()

    def test_not_delivered(self) -> None:
        """The reason stands in the row, and in the channel."""
        self.receive("undelivered", self.row.code)
        assert self.row.error == "Delivery failed: unreachable"
        assert self.channel.last_error == "Delivery failed: unreachable"

    def test_nothing_to_write(self) -> None:
        """Good news, and news about other messages, change nothing."""
        self.receive("delivered", self.row.code)
        self.receive("failed", "another key")
        self.receive("failed", "00000000-0000-4000-8000-000000000000")
        assert (self.row.error, self.channel.last_error) == ("", "")

    def test_too_late(self) -> None:
        """After an hour a receipt is not waited for any more."""
        with mock.patch("healthchecks_transport._RECEIPTS_FOR", timedelta(0)):
            self.receive("failed", self.row.code)
        assert self.row.error == ""
