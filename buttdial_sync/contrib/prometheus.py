"""Metrics for Prometheus, of an outbox and of clients; needs ``buttdial-sync[prometheus]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from buttdial_sync._extras import Extra
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.stores.figures import Figures

with Extra("prometheus", "prometheus_client"):
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector

_PREFIX = "buttdial_outbox"


class Measured(Protocol):
    """An outbox that tells its figures; the repositories of this library do."""

    def figures(self) -> Figures:
        """Measure the outbox."""
        ...


class OutboxCollector(Collector):
    """
    The figures of an outbox, measured anew each time that Prometheus asks.

    Register it in one process: ``REGISTRY.register(OutboxCollector(get_repository))``. The host's
    exceptions of a database that is down are raised, so that the scrape fails and is noticed.

    Args:
        repository: Returns the outbox.
        by_agent: Whether to tell what waits for each agent: a time series for each of them.
    """

    def __init__(self, repository: Callable[[], Measured], *, by_agent: bool = True) -> None:
        self._repository = repository
        self._by_agent = by_agent

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Return nothing, so that registering does not ask the database."""
        yield from ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Measure the outbox, and return its metrics."""
        figures = self._repository().figures()
        counts = GaugeMetricFamily(
            f"{_PREFIX}_messages",
            "Messages of each status, counted to 10000 each",
            labels=["status"],
        )
        for status, count in figures.counts.items():
            counts.add_metric([status], count.value)
        yield counts
        for name, told, value in (
            ("in_doubt", "Dead messages that may have been sent", figures.in_doubt.value),
            (
                "oldest_due_seconds",
                "How long the oldest message that is due has waited",
                figures.oldest_due_seconds,
            ),
            (
                "sent_last_minute",
                "Messages that the server took in the last minute, counted to 10000",
                figures.sent_last_minute.value,
            ),
            (
                "sent_per_minute",
                "Messages a minute, in the last hour",
                figures.sent_per_minute,
            ),
        ):
            yield GaugeMetricFamily(f"{_PREFIX}_{name}", told, value=value)
        if self._by_agent:
            waiting = GaugeMetricFamily(
                f"{_PREFIX}_pending",
                "Messages that wait for an agent, for the 100 that wait longest; some 2000 in all",
                labels=["agent_id"],
            )
            for agent in figures.agents:
                waiting.add_metric([agent.agent_id], agent.pending.value)
            yield waiting


class ClientMetrics:
    """
    What clients do, by operation and outcome: ``Client(on_event=ClientMetrics())``.

    Safe to share between threads and clients. Make one in a process.

    Args:
        registry: Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._answers = Counter(
            "buttdial_answers",
            "Attempts that ended, by how",
            ("operation", "outcome", "code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "buttdial_answer_seconds",
            "How long attempts took",
            ("operation",),
            registry=registry,
        )
        self._retries = Counter(
            "buttdial_retries", "Attempts that were repeated", ("operation",), registry=registry
        )
        self._connects = Counter(
            "buttdial_connects", "Sessions that were opened", registry=registry
        )

    def __call__(self, event: ClientEvent) -> None:
        """Count an event."""
        if event.kind == "answer":
            labels = (event.operation, event.outcome or "", event.code or "")
            self._answers.labels(*labels).inc()
            if event.seconds is not None:
                self._seconds.labels(event.operation).observe(event.seconds)
        elif event.kind == "retry":
            self._retries.labels(event.operation).inc()
        elif event.kind == "connect":
            self._connects.inc()
