"""Webhooks over real HTTP, as servers send and repeat them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from buttdial_sync import AccountVerified, InboundHandler, InboundMessage
from buttdial_sync.testing.simulate import Delivery, HostSimulator

PATIENCE = 10.0


class Host:
    """Two workers of a host, which share a handler."""

    def __init__(self, inbound: InboundHandler) -> None:
        class Face(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = inbound.handle(self.path.strip("/"), body, self.headers)  # type: ignore[arg-type]
                self.send_response(answer.status)
                self.end_headers()
                self.wfile.write(answer.body.encode())

            def log_message(self, *_: Any) -> None: ...

        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), Face) for _ in range(2)]
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.01,)) for server in self._servers
        ]
        for thread in self._threads:
            thread.start()

    def urls(self, channel: str) -> list[str]:
        return [f"http://127.0.0.1:{server.server_port}/{channel}" for server in self._servers]

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join(PATIENCE)


@pytest.fixture
def inbound() -> InboundHandler:
    return InboundHandler(
        whatsapp_webhook_secret="app-secret",
        account_webhook_secret={"org-1": "webhook-secret"}.get,
        allow_unsigned=["butt-dial"],
    )


@pytest.fixture
def host(inbound: InboundHandler) -> Iterator[Host]:
    running = Host(inbound)
    yield running
    running.close()


def test_account_verified_is_repeated_until_it_worked(host: Host, inbound: InboundHandler) -> None:
    """The same delivery goes to another worker after a failure, and is handed over once."""
    got: list[AccountVerified] = []
    failures = iter([True, True, False])
    pauses: list[float] = []
    inbound.on_account_verified(got.append)

    @inbound.on_account_verified
    def fail_twice(_: AccountVerified) -> None:
        if next(failures):
            raise OSError("the database is away")

    simulator = HostSimulator(sleep=pauses.append)
    delivery = simulator.account_verified()
    assert simulator.deliver(delivery, *host.urls("account")) == [500, 500, 200]
    assert pauses == [1.0, 5.0]
    assert simulator.deliver(delivery, *host.urls("account")) == [200]
    assert [event.org_id for event in got] == ["org-1"]


def test_the_last_repetition_of_the_same_bytes_is_too_old() -> None:
    """Its time stamp is that of the first attempt, twelve minutes before."""
    now = [1_767_000_000.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    inbound = InboundHandler(account_webhook_secret="webhook-secret", now=lambda: now[0])

    @inbound.on_account_verified
    def fail(_: AccountVerified) -> None:
        raise OSError("the vault is away")

    simulator = HostSimulator(now=lambda: now[0], sleep=sleep)
    host = Host(inbound)
    statuses = simulator.deliver(simulator.account_verified(), *host.urls("account"))
    host.close()
    assert statuses == [500] * 5 + [401]


@pytest.mark.parametrize("kind", ["forged", "stale", "early", "unknown org", "unsigned"])
def test_what_is_not_right_is_refused(host: Host, inbound: InboundHandler, kind: str) -> None:
    """Another secret, an old or a future signature, another org, none at all: 401, no handler."""
    got: list[AccountVerified] = []
    inbound.on_account_verified(got.append)
    simulator = HostSimulator(sleep=lambda _: None)
    made = {
        "forged": lambda: HostSimulator(account_secret="guessed").account_verified(),
        "stale": lambda: simulator.account_verified(signed_at=time.time() - 301),
        "early": lambda: simulator.account_verified(signed_at=time.time() + 302),
        "unknown org": lambda: simulator.account_verified(orgId="org-2"),
        "unsigned": lambda: Delivery(body=simulator.account_verified().body, headers={}),
    }
    assert simulator.deliver(made[kind](), *host.urls("account")) == [401] * 6
    assert got == []


def test_messages_of_all_three_kinds(host: Host, inbound: InboundHandler) -> None:
    """WhatsApp's and Butt-Dial's own in both dialects reach the same handler, once each."""
    got: list[InboundMessage] = []
    inbound.on_message(got.append)
    simulator = HostSimulator(whatsapp_secret="app-secret")
    deliveries = [
        ("whatsapp", simulator.whatsapp({"text": {"body": "a"}}, {"text": {"body": "b"}})),
        ("butt-dial", simulator.message(body="c")),
        ("butt-dial", simulator.message("open-source", body="d", channel="line")),
    ]
    for channel, delivery in deliveries * 2:
        assert simulator.deliver(delivery, *host.urls(channel)) == [200]
    assert [(m.channel, m.text) for m in got] == [
        ("whatsapp", "a"),
        ("whatsapp", "b"),
        ("sms", "c"),
        ("line", "d"),
    ]


def test_forged_whatsapp_is_refused(host: Host) -> None:
    """WhatsApp's webhook with another secret is answered 401."""
    forged = HostSimulator(whatsapp_secret="guessed").whatsapp({"text": {"body": "a"}})
    assert forged.send(host.urls("whatsapp")[0]) == 401


def test_nobody_listens() -> None:
    """A host that is down gets all six attempts."""
    pauses: list[float] = []
    simulator = HostSimulator(sleep=pauses.append)
    delivery = simulator.account_verified()
    assert simulator.deliver(delivery, "http://127.0.0.1:1/account") == [0] * 6
    assert pauses == [1.0, 5.0, 25.0, 120.0, 600.0]
