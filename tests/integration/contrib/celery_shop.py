"""The Celery example with a real broker: its worker, and an application that asks it for work."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery

from buttdial_sync import Client, FailedMessage, InboundHandler
from buttdial_sync.contrib.celery import ButtDialTasks
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.integration.contrib.running import PATIENCE, environment, started

FOLDER = "celery_app"


class Shop:
    """The example's worker, its outbox, its server, and an application that asks it for work."""

    def __init__(self, server: LoopbackServer, broker: str, folder: Path) -> None:
        self.fake = server.fake
        self.url = server.base_url
        self.file = folder / "outbox.db"
        self.repository = SQLiteRepository(self.file)
        self.env = environment(
            server, folder, CELERY_BROKER_URL=broker, OUTBOX=str(self.file), SWEEP_EVERY="600"
        )
        # Celery would load the settings of the other example.
        del self.env["DJANGO_SETTINGS_MODULE"]
        self.app = Celery("asker", broker=broker, set_as_current=False)
        self.tasks = ButtDialTasks(
            self.app,
            client=lambda: Client(self.url, agent_token="agent-token"),
            repository=lambda: self.repository,
            inbound=InboundHandler(),
        )

    def add(self, count: int, **fields: Any) -> list[FailedMessage]:
        messages = [
            FailedMessage(id=f"m{number}", recipient="+1", body=f"m{number}", **fields)
            for number in range(count)
        ]
        self.repository.add_new(messages)
        return messages

    def wait_until_done(self, count: int) -> None:
        assert self.fake.wait_for(lambda: len(self.fake.sent_messages) >= count, PATIENCE)
        pause = threading.Event()
        for _ in range(600):
            if self.repository.stats()["delivered"] == count:
                return
            pause.wait(0.05)
        raise AssertionError(self.repository.stats())

    @property
    def sent(self) -> Counter[str | None]:
        return Counter(message.body for message in self.fake.sent_messages)

    def ask(self, name: str, *arguments: object) -> None:
        self.app.send_task(f"buttdial_sync.{name}", arguments)

    @contextmanager
    def working(self, *more: str, pool: str = "prefork") -> Iterator[subprocess.Popen[bytes]]:
        arguments = (
            *("-m", "celery", "-A", "outbox", "worker", "--pool", pool, "--concurrency", "2"),
            *("--loglevel", "ERROR", "--without-gossip", "--without-mingle", *more),
        )
        with started(*arguments, folder=FOLDER, env=self.env) as worker:
            yield worker


@contextmanager
def opened(broker: str, folder: Path) -> Iterator[Shop]:
    """Open the shop; what its broker still has at the end is thrown away."""
    with FakeButtDialServer().listen() as server:
        shop = Shop(server, broker, folder)
        yield shop
        shop.app.control.purge()
        shop.app.close()
        shop.repository.close()
