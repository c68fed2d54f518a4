"""Spans and metrics, as the real SDK of OpenTelemetry gets them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from buttdial_sync import Client, FailedMessage, RetryLoop
from buttdial_sync.contrib.opentelemetry import Telemetry
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.retry import MemoryRepository
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.conformance import SettableClock

URL = "https://butt-dial.test"
NOW = 1_700_000_000_000_000_000


class Collected:
    """A telemetry, and what comes out of it."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self._meters = MeterProvider([self._reader])
        self.telemetry = Telemetry(self.tracers, self._meters, clock=lambda: NOW)

    def close(self) -> None:
        self._meters.shutdown()
        self.tracers.shutdown()

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def metrics(self) -> dict[str, list[Any]]:
        """The points of each metric."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def collected() -> Iterator[Collected]:
    made = Collected()
    yield made
    made.close()


def test_a_send_is_a_span_below_the_hosts(collected: Collected) -> None:
    """It has the name of the operation and says nothing of recipient, text or token."""
    fake = FakeButtDialServer()
    with (
        fake.mocked(URL),
        Client(URL, agent_token="secret-token", on_event=collected.telemetry) as client,
        collected.tracers.get_tracer("host").start_as_current_span("checkout") as host,
    ):
        assert client.send_message("+14155550123", "Hello", "sms").ok
    spans = {span.name: span for span in collected.spans}
    assert set(spans) == {"session", "comms_send_message", "checkout"}
    send = spans["comms_send_message"]
    assert send.parent is not None
    assert send.parent.span_id == host.get_span_context().span_id
    assert (send.kind, send.status.status_code) == (SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(send.attributes or {}) == {
        "buttdial.operation": "comms_send_message",
        "buttdial.kind": "answer",
        "buttdial.outcome": "sent",
        "buttdial.attempt": 1,
    }
    told = "".join(span.to_json() for span in collected.spans)
    for secret in ("4155550123", "Hello", "secret-token"):
        assert secret not in told


def test_an_attempt_that_failed(collected: Collected) -> None:
    """It is an error with its code, as long as the attempt took, and counted under both."""
    collected.telemetry(ClientEvent(kind="attempt", operation="comms_react", attempt=2))
    collected.telemetry(
        ClientEvent(
            kind="answer",
            operation="comms_react",
            attempt=2,
            seconds=1.5,
            outcome="unknown",
            error="RequestTimeoutError",
            code="TIMEOUT",
        )
    )
    collected.telemetry(ClientEvent(kind="retry", operation="comms_react", seconds=3.0))
    (span,) = collected.spans
    assert (span.start_time, span.end_time) == (NOW - 1_500_000_000, NOW)
    assert (span.status.status_code, span.status.description) == (
        StatusCode.ERROR,
        "RequestTimeoutError",
    )
    assert (span.attributes or {})["error.type"] == "TIMEOUT"
    (point,) = collected.metrics()["buttdial.attempt.duration"]
    assert (point.count, point.sum) == (1, 1.5)
    assert dict(point.attributes) == {
        "buttdial.operation": "comms_react",
        "buttdial.kind": "answer",
        "buttdial.outcome": "unknown",
        "error.type": "TIMEOUT",
    }


def test_the_figures_of_a_loop(collected: Collected) -> None:
    """There are none before the first event; then those of the last."""
    assert "buttdial.outbox.in_doubt" not in collected.metrics()
    clock = SettableClock()
    repository = MemoryRepository(clock=clock)
    for msg_id in ("a", "b"):
        repository.add(FailedMessage(id=msg_id, recipient="+1", body="x"))
    clock.move(30)
    with FakeButtDialServer().mocked(URL), Client(URL, agent_token="t") as client:
        loop = RetryLoop(repository, client, on_event=collected.telemetry, clock=clock)
        loop.run_once()
    told = collected.metrics()
    by_status = {
        point.attributes["buttdial.status"]: point.value
        for point in told["buttdial.outbox.messages"]
    }
    # Measured before the batch was fetched.
    assert by_status == {"pending": 2, "delivered": 0, "dead": 0, "dismissed": 0}
    assert [point.value for point in told["buttdial.outbox.oldest_due"]] == [30.0]
    assert [point.value for point in told["buttdial.outbox.sent_last_minute"]] == [0]
    assert [point.value for point in told["buttdial.outbox.in_doubt"]] == [0]
