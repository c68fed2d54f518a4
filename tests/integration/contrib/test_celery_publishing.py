"""Brokers that are down, or accept and stay silent: nobody waits for them for long."""

from __future__ import annotations

import gc
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

pytest.importorskip("celery")

from celery import Celery

from buttdial_sync import Client, FailedMessage, InboundHandler
from buttdial_sync.contrib.celery import ButtDialTasks
from buttdial_sync.contrib.celery.publishing import BrokerUnavailableError, Publisher
from buttdial_sync.retry import MemoryRepository
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.simulate import HostSimulator

pytestmark = pytest.mark.slow

TIMEOUT = 0.2


class SilentBroker:
    """Accepts connections, and never says anything."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.accepted: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self.accepted.append(self._socket.accept()[0])

    def close(self) -> None:
        # A connection of ours wakes accept(), which a close does not on every system.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(30)
        for each in self.accepted:
            each.close()


@pytest.fixture
def silent() -> Iterator[SilentBroker]:
    broker = SilentBroker()
    yield broker
    broker.close()


@contextmanager
def application(url: str) -> Iterator[Celery]:
    app = Celery("asker", broker=url, set_as_current=False)
    yield app
    app.close()
    with warnings.catch_warnings():  # kombu leaves the sockets of failed attempts to the collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_accepts_and_stays_silent(silent: SilentBroker, scheme: str) -> None:
    """A hundred messages wait for it once; the sweep has them all."""
    repository = MemoryRepository()
    with application(f"{scheme}://127.0.0.1:{silent.port}//") as app:
        tasks = ButtDialTasks(
            app,
            client=Client.from_env,
            repository=lambda: repository,
            publish_timeout=TIMEOUT,
        )
        for number in range(100):
            message = FailedMessage(id=f"m{number}", recipient="+1", body="x")
            repository.add(message)
            assert tasks.deliver_soon(message) is False
    assert len(silent.accepted) == 1
    assert repository.count_pending() == 100


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_down(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is told, a webhook is answered with an error, and a sweep ends at once."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    repository = MemoryRepository()
    for name in ("a", "b"):
        repository.add(FailedMessage(id=name, recipient="+1", body="x"))
    with application(f"{scheme}://127.0.0.1:{port}//") as app:
        tasks = ButtDialTasks(
            app,
            client=lambda: Client("https://butt-dial.example", agent_token="t"),
            repository=lambda: repository,
            inbound=InboundHandler(),
        )
        front = InboundHandler(allow_unsigned=["butt-dial"])
        tasks.forward(front)
        delivery = HostSimulator().message(body="hello", channel="sms")
        answer = front.handle("butt-dial", delivery.body, dict(delivery.headers))
        assert answer.status == 500
        assert tasks.sweep() == 0
        assert repository.leased() == {}
    assert "a sweep will hand out message a" in caplog.text
    assert "message b" not in caplog.text


def test_a_broker_that_is_back() -> None:
    """After half a minute one task finds out; then all are handed over again."""
    now = [0.0]
    with application("memory://") as app:

        @app.task(name="asked")
        def asked() -> None:
            raise AssertionError("nobody works here")

        publisher = Publisher(app, TIMEOUT, monotonic=lambda: now[0])
        failing = True

        class Task:
            def apply_async(self, *args: object, **options: object) -> None:
                if failing:
                    raise ConnectionResetError("gone")
                asked.apply_async(*args, **options)

        with pytest.raises(BrokerUnavailableError, match="gone"):
            publisher.publish(Task(), ())
        now[0] = 29.0
        failing = False
        with pytest.raises(BrokerUnavailableError, match="rests"):
            publisher.publish(Task(), ())
        now[0] = 31.0
        publisher.publish(Task(), ())
        publisher.publish(Task(), ())


def test_one_at_a_time_finds_out_whether_it_is_back() -> None:
    """While the first one waits for the broker, the others are refused at once."""
    now = [0.0]
    refused: list[str] = []
    with application("memory://") as app:
        publisher = Publisher(app, TIMEOUT, monotonic=lambda: now[0])

        class Task:
            def apply_async(self, *_: object, **__: object) -> None:
                if now[0] > 0:
                    with pytest.raises(BrokerUnavailableError, match="rests") as other:
                        publisher.publish(self, ())
                    refused.append(str(other.value))
                raise ConnectionResetError("gone")

        for now[0] in (0.0, 31.0):
            with pytest.raises(BrokerUnavailableError, match="gone"):
                publisher.publish(Task(), ())
    assert len(refused) == 1


def test_eager_tasks(fake_server: FakeButtDialServer) -> None:
    """Without a broker, in tests, deliver_soon sends at once."""
    repository = MemoryRepository()
    message = FailedMessage(id="a", recipient="+1", body="x")
    repository.add(message)
    with (
        application("redis://127.0.0.1:1//") as app,
        Client("https://butt-dial.test", agent_token="tok") as client,
    ):
        app.conf.task_always_eager = True
        tasks = ButtDialTasks(app, client=lambda: client, repository=lambda: repository)
        assert tasks.deliver_soon(message)
    assert [each.body for each in fake_server.delivered] == ["x"]
