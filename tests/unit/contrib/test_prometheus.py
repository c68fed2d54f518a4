"""The metrics for Prometheus."""

from __future__ import annotations

from datetime import timedelta

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest

from buttdial_sync import Client, FailedMessage
from buttdial_sync.contrib.prometheus import ClientMetrics, OutboxCollector
from buttdial_sync.retry import MemoryRepository
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.conformance import SettableClock


def test_the_figures_of_an_outbox() -> None:
    """They are measured when Prometheus asks, not when the collector is registered."""
    clock = SettableClock()
    made: list[MemoryRepository] = []

    def repository() -> MemoryRepository:
        if not made:
            made.append(MemoryRepository(clock=clock))
            for name, agent in (("a", "agent-1"), ("b", "agent-1"), ("c", None)):
                made[0].add(FailedMessage(id=name, recipient="+1", body="x", agent_id=agent))
            assert made[0].begin_attempt("a", 1, clock())
            assert made[0].mark_delivered("a", "SM", 1)
        return made[0]

    registry = CollectorRegistry()
    registry.register(OutboxCollector(repository))
    assert made == []
    repository()
    clock.move(30)
    told = registry.get_sample_value
    assert told("buttdial_outbox_messages", {"status": "pending"}) == 2
    assert told("buttdial_outbox_messages", {"status": "delivered"}) == 1
    assert told("buttdial_outbox_oldest_due_seconds") == 30.0
    assert told("buttdial_outbox_sent_last_minute") == 1
    assert told("buttdial_outbox_in_doubt") == 0
    assert told("buttdial_outbox_pending", {"agent_id": "agent-1"}) == 1
    assert told("buttdial_outbox_pending", {"agent_id": ""}) == 1
    clock.move(timedelta(minutes=2).total_seconds())
    assert told("buttdial_outbox_sent_last_minute") == 0


def test_without_a_series_for_each_agent() -> None:
    """A host with thousands of agents leaves them out."""
    repository = MemoryRepository()
    repository.add(FailedMessage(id="a", recipient="+1", body="x", agent_id="agent-1"))
    registry = CollectorRegistry()
    registry.register(OutboxCollector(lambda: repository, by_agent=False))
    text = generate_latest(registry).decode()
    assert 'buttdial_outbox_messages{status="pending"} 1.0' in text
    assert "agent-1" not in text


def test_what_a_client_does(fake_server: FakeButtDialServer) -> None:
    """Attempts are counted by operation, outcome and code; no recipient is a label."""
    registry = CollectorRegistry()
    metrics = ClientMetrics(registry)
    with Client("https://butt-dial.test", agent_token="tok", on_event=metrics) as client:
        client.send_message("+14155550123", "Hello")
        fake_server.on_send(error="no consent", code="NO_CONSENT")
        client.send_message("+14155550123", "Hello")
    labels = {"operation": "comms_send_message", "outcome": "sent", "code": ""}
    assert registry.get_sample_value("buttdial_answers_total", labels) == 1
    labels = {**labels, "outcome": "rejected", "code": "NO_CONSENT"}
    assert registry.get_sample_value("buttdial_answers_total", labels) == 1
    operation = {"operation": "comms_send_message"}
    assert registry.get_sample_value("buttdial_answer_seconds_count", operation) == 2
    assert registry.get_sample_value("buttdial_connects_total") == 1
    assert "4155550123" not in generate_latest(registry).decode()
