"""Spans and metrics for OpenTelemetry; needs ``buttdial-sync[opentelemetry]``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from buttdial_sync._extras import Extra
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.retry.report import OutboxEvent
from buttdial_sync.stores.figures import Figures

with Extra("opentelemetry", "opentelemetry"):
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter
    from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_tracer

_NAME = "buttdial_sync"
_NANOSECONDS = 1_000_000_000


class Telemetry:
    """
    Tells OpenTelemetry what clients and retry loops do: give it to their ``on_event``.

    Each attempt of a client is a span, below the one that is current in the calling thread, and is
    counted by a histogram of its seconds. Of a loop's figures there are gauges. No recipient and no
    text is an attribute. Safe to share between threads and clients. Make one in a process.

    Args:
        tracer_provider: Makes the spans; the global one when None.
        meter_provider: Makes the metrics; the global one when None.
        clock: Tells the time in nanoseconds since 1970.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._clock = clock
        self._tracer = get_tracer(_NAME, tracer_provider=tracer_provider)
        meter = get_meter(_NAME, meter_provider=meter_provider)
        self._seconds = meter.create_histogram(
            "buttdial.attempt.duration", unit="s", description="How long attempts took"
        )
        self._figures: Figures | None = None
        for name, unit, description, observe in (
            ("messages", "{message}", "Messages of each status", _messages),
            ("oldest_due", "s", "How long the oldest message that is due has waited", _oldest_due),
            ("sent_last_minute", "{message}", "Messages sent in the last minute", _sent),
            ("in_doubt", "{message}", "Dead messages that may have been sent", _in_doubt),
        ):
            meter.create_observable_gauge(
                f"buttdial.outbox.{name}",
                callbacks=[partial(self._observe, observe)],
                unit=unit,
                description=description,
            )

    def __call__(self, event: ClientEvent | OutboxEvent) -> None:
        """Tell of an event."""
        if isinstance(event, OutboxEvent):
            self._figures = event.figures
        elif event.kind in {"answer", "connect"} and event.seconds is not None:
            self._tell_attempt(event, event.seconds)

    def _tell_attempt(self, event: ClientEvent, seconds: float) -> None:
        attributes = {"buttdial.operation": event.operation, "buttdial.kind": event.kind}
        if event.outcome is not None:
            attributes["buttdial.outcome"] = event.outcome
        if event.error is not None:
            attributes["error.type"] = event.code or event.error
        end = self._clock()
        span = self._tracer.start_span(
            event.operation,
            kind=SpanKind.CLIENT,
            attributes={**attributes, "buttdial.attempt": event.attempt},
            start_time=end - int(seconds * _NANOSECONDS),
        )
        if event.error is not None:
            span.set_status(Status(StatusCode.ERROR, event.error))
        span.end(end)
        self._seconds.record(seconds, attributes)

    def _observe(
        self, observe: Callable[[Figures], Iterator[Observation]], _: CallbackOptions
    ) -> Iterator[Observation]:
        # Nothing before the first event: no outbox is not an empty one.
        if self._figures is not None:
            yield from observe(self._figures)


def _messages(figures: Figures) -> Iterator[Observation]:
    for status, count in figures.counts.items():
        yield Observation(count.value, {"buttdial.status": status})


def _oldest_due(figures: Figures) -> Iterator[Observation]:
    yield Observation(figures.oldest_due_seconds)


def _sent(figures: Figures) -> Iterator[Observation]:
    yield Observation(figures.sent_last_minute.value)


def _in_doubt(figures: Figures) -> Iterator[Observation]:
    yield Observation(figures.in_doubt.value)
