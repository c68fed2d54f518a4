"""What a test lets a host receive."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from buttdial_sync import (
    AccountsClient,
    AccountVerified,
    Client,
    DeliveryInProgressError,
    DeliveryReceipt,
    InboundHandler,
    InboundMessage,
    MemoryDeliveryLog,
)
from buttdial_sync.testing import FakeButtDialServer, HostSimulator


@pytest.fixture
def received() -> list[Any]:
    return []


@pytest.fixture
def inbound(received: list[Any]) -> InboundHandler:
    handler = InboundHandler(
        whatsapp_webhook_secret="app-secret",
        account_webhook_secret="hook-secret",
        allow_unsigned=["butt-dial"],
    )
    handler.on_message(received.append)
    handler.on_delivery_receipt(received.append)
    handler.on_account_verified(received.append)
    return handler


@pytest.fixture
def url(inbound: InboundHandler) -> Iterator[str]:
    """A host on a socket, as a framework's view would be."""

    class View(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = inbound.handle(self.path.strip("/"), body, dict(self.headers))
            self.send_response(answer.status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as above
            pass

    with HTTPServer(("127.0.0.1", 0), View) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_a_message_to_a_handler(dialect: Any, inbound: InboundHandler, received: list[Any]) -> None:
    """It comes as the dialect writes it."""
    fake = FakeButtDialServer(dialect=dialect)
    assert fake.simulate_inbound(inbound, sender="+1", text="hi", channel="sms") == 200
    (message,) = received
    assert isinstance(message, InboundMessage)
    assert (message.sender, message.text, message.channel) == ("+1", "hi", "sms")


def test_a_receipt_to_a_handler(inbound: InboundHandler, received: list[Any]) -> None:
    """It names the message."""
    fake = FakeButtDialServer()
    assert fake.simulate_receipt(inbound, message_sid="SM-1", status="read") == 200
    (receipt,) = received
    assert isinstance(receipt, DeliveryReceipt)
    assert (receipt.message_sid, receipt.status) == ("SM-1", "read")


@pytest.mark.parametrize("secret", [None, "app-secret"])
def test_two_messages_are_two(
    secret: str | None, inbound: InboundHandler, received: list[Any]
) -> None:
    """A second message, of another server too, is not a repetition of the first."""
    for text in ("one", "two", "three"):
        FakeButtDialServer().simulate_inbound(inbound, text=text, whatsapp_secret=secret)
    assert [each.text for each in received] == ["one", "two", "three"]


def test_ids_of_simulators_differ(inbound: InboundHandler, received: list[Any]) -> None:
    """A simulator made for one webhook does not write the ids of the one before."""
    FakeButtDialServer().simulate_inbound(inbound, text="one")
    for _ in range(2):
        webhook = HostSimulator().message()
        assert inbound.handle("butt-dial", webhook.body, webhook.headers).status == 200
    assert len(received) == 3


def test_two_accounts_are_two(url: str, received: list[Any]) -> None:
    """Each event has a delivery id and a token of its own."""
    fake = FakeButtDialServer()
    for org_id in ("org-1", "org-2"):
        fake.simulate_account_verified(f"{url}/account", secret="hook-secret", orgId=org_id)
    assert [each.org_id for each in received] == ["org-1", "org-2"]
    assert len({each.team_token for each in received}) == 2


def test_a_handler_that_fails() -> None:
    """The answer is the one that makes a server try again."""
    inbound = InboundHandler()

    @inbound.on_message
    def fail(message: InboundMessage) -> None:
        raise RuntimeError(message.text)

    assert FakeButtDialServer().simulate_inbound(inbound) == 500


def test_a_handler_that_another_process_runs() -> None:
    """The server has to try again then, too: the other one may still fail."""

    class Busy(MemoryDeliveryLog):
        def claim(self, delivery_id: str, lease: float) -> str | None:
            raise DeliveryInProgressError(delivery_id)

    inbound = InboundHandler(delivery_log=Busy())
    inbound.on_message(lambda _: None)
    assert FakeButtDialServer().simulate_inbound(inbound) == 500


def test_a_handler_answers_as_it_answers_the_webhook() -> None:
    """A message that lacks its sender is refused with 422, and the open-source server keeps it."""
    inbound = InboundHandler()
    fake = FakeButtDialServer(dialect="open-source")
    assert fake.simulate_inbound(inbound, sender="", channel="sms") == 422
    assert len(fake.waiting) == 1


def test_a_signature_is_taken_for_right(received: list[Any]) -> None:
    """Handlers of verified events get what servers sign, and not what they do not sign."""
    inbound = InboundHandler()
    inbound.on_message(verified_only=True)(received.append)
    inbound.on_account_verified(verified_only=True)(received.append)
    fake = FakeButtDialServer()
    assert fake.simulate_inbound(inbound, whatsapp_secret="any") == 200
    assert fake.simulate_inbound(inbound) == 200
    assert fake.simulate_account_verified(inbound) == 200
    assert [each.source for each in received] == ["whatsapp_webhook", "account_webhook"]
    webhook = HostSimulator(whatsapp_secret="any").whatsapp({"text": {"body": "x"}})
    assert inbound.handle("whatsapp", webhook.body, webhook.headers).status == 401


def test_a_delivery_is_known_again(inbound: InboundHandler, received: list[Any]) -> None:
    """The same delivery id is the same event for a handler, too."""
    fake = FakeButtDialServer()
    for _ in range(2):
        assert fake.simulate_account_verified(inbound, delivery_id="delivery-1") == 200
    assert len(received) == 1


def test_signed_over_http(url: str, received: list[Any]) -> None:
    """WhatsApp's and the account's webhooks are signed; a wrong secret is refused."""
    fake = FakeButtDialServer()
    assert fake.simulate_inbound(f"{url}/whatsapp", whatsapp_secret="app-secret") == 200
    assert fake.simulate_inbound(f"{url}/whatsapp", whatsapp_secret="wrong") == 401
    verified = {"secret": "hook-secret", "delivery_id": "delivery-1", "orgId": "org-9"}
    assert fake.simulate_account_verified(f"{url}/account", **verified) == 200
    assert fake.simulate_account_verified(f"{url}/account", **verified) == 200
    assert fake.simulate_account_verified(f"{url}/account", secret="wrong") == 401
    message, account = received
    assert message.text == "hello"
    assert isinstance(account, AccountVerified)
    assert account.org_id == "org-9"


def test_unsigned_over_http(url: str, received: list[Any]) -> None:
    """Butt-Dial's own format comes without a signature."""
    fake = FakeButtDialServer(dialect="open-source")
    assert fake.simulate_inbound(f"{url}/butt-dial", text="plain", channel="line") == 200
    assert received[0].channel == "line"


def test_what_the_host_does_not_take_waits() -> None:
    """The open-source server keeps it in its queue, also where nobody answers; the hosted not."""
    inbound = InboundHandler()

    @inbound.on_message
    def fail(message: InboundMessage) -> None:
        raise RuntimeError(message.text)

    fake = FakeButtDialServer(dialect="open-source")
    assert fake.simulate_inbound(inbound, sender="+1", text="one", channel="sms") == 500
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        nobody = f"http://127.0.0.1:{server.server_port}"
    assert fake.simulate_inbound(nobody, sender="+1", text="two") == 0
    assert [(each["from"], each["body"]) for each in fake.waiting] == [("+1", "one"), ("+1", "two")]
    hosted = FakeButtDialServer()
    assert hosted.simulate_inbound(inbound) == 500
    with pytest.raises(OSError, match="onnect"):
        hosted.simulate_inbound(nobody)
    assert hosted.waiting == []


def test_an_email_that_waits_has_its_subject_in_its_text() -> None:
    """The open-source server's queue has no column for it."""
    fake = FakeButtDialServer(dialect="open-source")
    fake.push({"channel": "email", "from": "a@b.example", "body": "See you", "subject": "Hi"})
    assert [each["body"] for each in fake.waiting] == ["[Hi] See you"]


def test_the_open_source_server_has_no_receipts(inbound: InboundHandler) -> None:
    """A test that needs one needs the hosted server."""
    fake = FakeButtDialServer(dialect="open-source")
    with pytest.raises(ValueError, match="receipts"):
        fake.simulate_receipt(inbound, message_sid="SM-1")
    with pytest.raises(ValueError, match="receipts"):
        fake.push({"type": "status", "messageId": "SM-1", "status": "read"})
    assert fake.waiting == []


@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_agents_have_queues_of_their_own(dialect: Any) -> None:
    """A token whose agent is known reads, and loses, what waits for that agent only."""
    fake = FakeButtDialServer(dialect=dialect, tokens={"of-ann": "ann", "of-bob": "bob"})
    with (
        fake.mocked() as mocked,
        Client(mocked.base_url, agent_token="of-ann") as ann,
        Client(mocked.base_url, agent_token="of-bob") as bob,
    ):
        for agent_id in ("ann", "bob", "bob"):
            fake.add_waiting(agentId=agent_id)
        assert len(ann.inbox.waiting().messages) == 1
        bob.ping()
        assert fake.lost_waiting == (0 if dialect == "hosted" else 2)
        ann.ping()
        assert len(bob.inbox.waiting().messages) == (2 if dialect == "hosted" else 0)


def test_an_agent_that_was_registered_has_its_queue() -> None:
    """The fake knows whose tokens it has made itself."""
    fake = FakeButtDialServer()
    with fake.mocked() as mocked, AccountsClient(mocked.base_url, team_token="team") as accounts:
        token = accounts.register_agent("ann", "Ann").agent_token
        fake.add_waiting(agentId="bob")
        fake.add_waiting(agentId="ann")
        with Client(mocked.base_url, agent_token=token) as client:
            assert [each.agent_id for each in client.inbox.waiting()] == ["ann"]


def test_what_the_host_takes_does_not_wait(inbound: InboundHandler) -> None:
    """A webhook that was answered with 2xx is done."""
    fake = FakeButtDialServer(dialect="open-source")
    assert fake.simulate_inbound(inbound) == 200
    assert fake.waiting == []
