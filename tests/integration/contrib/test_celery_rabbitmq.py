"""Celery with a real RabbitMQ and a prefork worker, on the example as it stands."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("celery")

from amqp.abstract_channel import AbstractChannel
from amqp.spec import Basic
from kombu.entity import Queue

from buttdial_sync import InboundHandler
from buttdial_sync.testing.simulate import HostSimulator
from tests.integration.contrib import rabbitmq
from tests.integration.contrib.celery_shop import Shop, opened

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "fork") or rabbitmq.program() is None,
        reason="needs fork and RabbitMQ: apt-get install rabbitmq-server",
    ),
]

ROWS = 100


@pytest.fixture(scope="module")
def broker() -> Iterator[rabbitmq.Broker]:
    with rabbitmq.running() as broker:
        yield broker


@pytest.fixture
def shop(broker: rabbitmq.Broker, tmp_path: Path) -> Iterator[Shop]:
    with opened(broker.url, tmp_path) as shop:
        yield shop


def test_each_due_row_is_sent_once(shop: Shop) -> None:
    """Several sweeps at once and every task twice send each row once, from forked workers."""
    for message in shop.add(ROWS):
        shop.tasks.deliver_soon(message)
    for _ in range(3):
        shop.ask("sweep")
    with shop.working():
        shop.wait_until_done(ROWS)
    assert shop.sent == Counter(f"m{number}" for number in range(ROWS))


def test_a_broker_that_hangs(shop: Shop, broker: rabbitmq.Broker) -> None:
    """Nobody waits for it for long; when it goes on, a sweep finds what was not announced."""
    messages = shop.add(ROWS)
    with broker.hanging():
        assert not any(shop.tasks.deliver_soon(message) for message in messages)
    shop.ask("sweep")
    with shop.working():
        shop.wait_until_done(ROWS)
    assert set(shop.sent.values()) == {1}


def test_a_task_that_the_broker_does_not_confirm(
    shop: Shop, broker: rabbitmq.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook is answered with an error, though the task is in the socket already."""
    (message,) = shop.add(1)
    assert shop.tasks.deliver_soon(message)  # now there is a connection
    front = InboundHandler(allow_unsigned=["butt-dial"])
    shop.tasks.forward(front)
    delivery = HostSimulator().message(body="hello", channel="sms")
    waited_for: list[Any] = []
    wait = AbstractChannel.wait

    def noted(channel: Any, method: Any, *args: Any, **options: Any) -> Any:
        waited_for.append(method)
        return wait(channel, method, *args, **options)

    monkeypatch.setattr(AbstractChannel, "wait", noted)
    with broker.hanging():
        assert front.handle("butt-dial", delivery.body, dict(delivery.headers)).status == 500
    # For one answer, and not for those to a goodbye.
    assert waited_for == [[Basic.Ack, Basic.Nack]]


def test_an_application_that_wants_no_confirmations(shop: Shop, broker: rabbitmq.Broker) -> None:
    """Its own setting wins: what is in the socket counts as taken."""
    shop.app.conf.broker_transport_options = {"confirm_publish": False}
    first, second = shop.add(2)
    assert shop.tasks.deliver_soon(first)
    with broker.hanging():
        assert shop.tasks.deliver_soon(second)


def test_a_task_that_the_broker_refuses(shop: Shop) -> None:
    """A full queue says no: that is told as a broker that did not take it."""
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    shop.app.conf.task_queues = [Queue("full", routing_key="full", queue_arguments=full)]  # type: ignore[no-untyped-call]
    shop.app.conf.task_default_queue = "full"
    first, second = shop.add(2)
    assert shop.tasks.deliver_soon(first)
    assert not shop.tasks.deliver_soon(second)
