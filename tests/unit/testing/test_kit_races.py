"""Fake servers whose threads are slow or stuck: a test finds what it waited for, and ends."""

from __future__ import annotations

from buttdial_sync import Client
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.http_messages import Request


def test_a_request_comes_with_its_call(
    fake_server: FakeButtDialServer, butt_dial_client: Client
) -> None:
    """Who has waited for the request finds the call in it."""
    calls_then = []

    class Requests(list[Request]):
        def append(self, request: Request) -> None:
            super().append(request)
            calls_then.append(len(fake_server.calls))

    fake_server.core.log.requests = Requests()
    assert butt_dial_client.send_message("+14155550123", "hi", "sms").ok
    assert calls_then[-1] == 1
