"""The shop's tests: Django's own runner, no pytest."""

from __future__ import annotations

from typing import Any

import responses
from django.test import TestCase

from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.simulate import HostSimulator
from tests.hosts.django_shop.views import PARCELS

CUSTOMER = "+14155550123"


class ShipmentTests(TestCase):
    """What customers are told."""

    def ship(self) -> Any:
        responses.get(f"{PARCELS}7", json={"state": "on its way"})
        return self.client.post("/orders/7/ship/", {"to": CUSTOMER})

    @responses.activate
    def test_customer_is_told(self) -> None:
        """The host's own mocks and the fake server work side by side."""
        with FakeButtDialServer().mocked() as mocked:
            assert self.ship().json()["outcome"] == "sent"
            message = mocked.fake.assert_sent_once(to=CUSTOMER, thread_id="order-7")
        assert message.body == "Your order 7 is on its way."

    @responses.activate
    def test_other_server(self) -> None:
        """One client of the process meets the other kind of server at the same address."""
        with FakeButtDialServer(dialect="open-source").mocked() as mocked:
            assert self.ship().status_code == 200
            mocked.fake.assert_sent_once(channel="whatsapp")

    @responses.activate
    def test_refusal(self) -> None:
        """What the server says no to is no success, and counts as tried but not as sent."""
        fake = FakeButtDialServer()
        fake.on_send(error="no consent", code="NO_CONSENT", remediation="Ask first.")
        with fake.mocked():
            answer = self.ship()
        assert (answer.status_code, answer.json()["remediation"]) == (502, "Ask first.")
        with self.assertRaisesRegex(AssertionError, "refused"):  # noqa: PT027 - no pytest here
            fake.assert_sent(to=CUSTOMER)


class WebhookTests(TestCase):
    """What customers ask."""

    def setUp(self) -> None:
        self.server = FakeButtDialServer()
        self.server.install()
        self.addCleanup(self.server.uninstall)

    def receive(self, secret: str) -> Any:
        simulator = HostSimulator(whatsapp_secret=secret)
        delivery = simulator.whatsapp(
            {"text": {"body": "When are you open?"}, "from": "14155550123"}
        )
        return self.client.post(
            "/hooks/whatsapp/",
            delivery.body,
            content_type="application/json",
            headers=dict(delivery.headers),
        )

    def test_question_is_answered(self) -> None:
        """A signed webhook reaches the shop's handler, and the handler may send."""
        assert self.receive("app-secret").status_code == 200
        self.server.assert_sent_once(to="14155550123", body="We open at nine.")

    def test_forged_question(self) -> None:
        """A webhook with a wrong signature reaches nobody."""
        assert self.receive("another").status_code == 401
        self.server.assert_nothing_sent()
