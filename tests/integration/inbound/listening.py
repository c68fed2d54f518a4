"""What the tests of listeners share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from buttdial_sync import AgentView, Client, InboundHandler, InboundMessage, Listener
from buttdial_sync.testing import LoopbackServer
from buttdial_sync.testing.simulate import message_payload

PATIENCE = 20.0


def client_of(server: LoopbackServer, **options: Any) -> Client:
    options.setdefault("agent_token", "tok-1")
    options.setdefault("sleep", lambda _: None)
    return Client(server.base_url, **options)


def briefly(_: float) -> None:
    """Let a pause be short, but long enough for a server to come back."""
    threading.Event().wait(0.005)


class Inbox:
    """An inbound handler that keeps what comes, and lets a test wait for it."""

    def __init__(self) -> None:
        self.handler = InboundHandler(allow_unsigned=["butt-dial"])
        self.got: list[InboundMessage] = []
        self._changed = threading.Condition()
        self.handler.on_message(self.keep)

    def keep(self, message: InboundMessage) -> None:
        with self._changed:
            self.got.append(message)
            self._changed.notify_all()

    @property
    def ids(self) -> list[str | None]:
        return [message.id for message in self.got]

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.got) >= count, PATIENCE), self.ids


def listener_of(client: AgentView, inbox: Inbox, /, **options: Any) -> Listener:
    options.setdefault("sleep", briefly)
    return Listener(client, inbox.handler, **options)


def deliver(server: LoopbackServer, number: int) -> bool:
    """Push a message, or let it wait where nobody listens, as the servers do."""
    payload = message_payload(number)
    if server.fake.push(payload):
        return True
    if server.fake.dialect == "open-source":
        return False  # where push() is the same as letting it wait
    waiting = {key: value for key, value in payload.items() if key not in {"type", "messageId"}}
    server.fake.add_waiting(externalId=payload["messageId"], **waiting)
    return False


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for another thread's doing; bounded."""
    limit = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < limit, "it did not happen"
        pause.wait(0.002)


def numbered(*numbers: int) -> list[str]:
    return [f"message-{number}" for number in numbers]
