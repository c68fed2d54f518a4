"""The gateway under the real django-two-factor-auth."""

from __future__ import annotations

import re
from typing import Any

from django.contrib.auth.models import User
from django.test import TestCase, override_settings
from django_otp.util import random_hex
from two_factor.plugins.phonenumber.models import PhoneDevice

from buttdial_sync import ButtDialError
from buttdial_sync.testing import FakeButtDialServer, ToolFailure

PHONE = "+14155550123"


class GatewayTests(TestCase):
    """How a code reaches its user."""

    def setUp(self) -> None:
        self.serve("hosted")
        user = User.objects.create_user("ana")
        self.device = PhoneDevice.objects.create(
            user=user, name="default", number=PHONE, method="sms", key=random_hex()
        )

    def serve(self, dialect: Any) -> None:
        self.server = FakeButtDialServer(dialect=dialect)
        self.server.install()
        self.addCleanup(self.server.uninstall)

    def test_sms(self) -> None:
        """The code of the text is the one that the device takes."""
        self.device.generate_challenge()
        body = self.server.assert_sent_once(to=PHONE, channel="sms").body or ""
        (code,) = re.findall(r"\d{6}", body)
        assert self.device.verify_token(int(code))

    @override_settings(TWO_FACTOR_WHATSAPP=True)
    def test_whatsapp(self) -> None:
        """The same as a WhatsApp message."""
        self.device.generate_challenge()
        self.server.assert_sent_once(to=PHONE, channel="whatsapp")

    def test_call(self) -> None:
        """A call says the digits one by one, twice."""
        self.device.method = "call"
        self.device.generate_challenge()
        said = self.server.assert_called("comms_send_voice_message", to=PHONE).args["text"]
        digits = re.findall(r"\d", said)
        assert digits[:6] == digits[6:]
        assert self.device.verify_token(int("".join(digits[:6])))

    def test_refused(self) -> None:
        """What was not sent is an error, which the wizard shows."""
        self.server.on_send(error="Recipient has not consented", code="NO_CONSENT")
        with self.assertRaisesRegex(ButtDialError, "not consented"):  # noqa: PT027 - no pytest here
            self.device.generate_challenge()
        self.server.on_tool("comms_send_voice_message", ToolFailure("no phone number"))
        self.device.method = "call"
        with self.assertRaisesRegex(ButtDialError, "no phone number"):  # noqa: PT027 - as above
            self.device.generate_challenge()

    def test_lost_answers(self) -> None:
        """A code that may have arrived is asked for, and not sent a second time by itself."""
        self.server.uninstall()
        self.serve("open-source")
        for method in ("sms", "call"):
            self.device.method = method
            self.server.fault("cut", delivered=True)
            with self.assertLogs("two_factor_gateway", "WARNING") as logged:
                self.device.generate_challenge()
            assert "may have been" in logged.output[0]
            assert re.search(r"\d{6}", logged.output[0]) is None
        assert len(self.server.calls) == 2
