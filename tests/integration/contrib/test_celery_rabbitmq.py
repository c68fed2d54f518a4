"""Celery with a real RabbitMQ and a prefork worker, on the example as it stands."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("celery")

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
