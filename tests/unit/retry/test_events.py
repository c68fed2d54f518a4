"""The figures that a loop tells."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from buttdial_sync import ArgumentValueError, ConfigError
from buttdial_sync.retry.report import OutboxEvent
from tests.unit.retry.test_outage import break_server
from tests.unit.retry.world import World


def test_figures_are_told_so_often_and_no_more(here: World) -> None:
    """Before a batch is fetched, at most once in their time, however many batches there are."""
    told: list[OutboxEvent] = []
    for number in range(50):
        here.add(f"m{number}")
    loop = here.loop(on_event=told.append, figures_every=10)
    assert loop.drain().delivered == 50
    assert [event.figures.counts["pending"].value for event in told] == [50]
    assert told[0].kind == "figures"
    here.go_on(9.5)
    loop.run_once()
    assert len(told) == 1
    here.go_on(0.5)
    loop.run_once()
    assert [event.figures.counts["delivered"].value for event in told] == [0, 50]
    assert told[1].figures.flow == "idle"


def test_figures_are_told_during_an_outage(here: World) -> None:
    """That is when somebody wants to know."""
    told: list[OutboxEvent] = []
    here.add()
    break_server(here, "refuse", "stream")
    loop = here.loop(on_event=told.append, figures_every=60)
    for _ in range(10):
        loop.run_once()
        here.go_on(60)
    assert len(told) == 10
    assert told[-1].figures.counts["pending"].value == 1


def test_a_hook_that_fails(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; the messages go all the same, and the next figures come in their time."""
    caplog.set_level(logging.ERROR, "buttdial_sync.retry")
    calls: list[Any] = []

    def hook(event: OutboxEvent) -> None:
        calls.append(event)
        raise RuntimeError("the host's fault")

    here.add()
    loop = here.loop(on_event=hook)
    report = loop.run_once()
    assert (report.delivered, report.errors) == (1, 0)
    loop.run_once()
    assert len(calls) == 1
    assert "the figures of the outbox could not be told" in caplog.text


def test_a_repository_without_figures(here: World) -> None:
    """It is refused at once, and so is a wrong time."""

    class Plain:
        lease = 300.0

    with pytest.raises(ConfigError, match="figures"):
        here.loop(Plain(), on_event=print)
    with pytest.raises(ArgumentValueError, match="figures_every"):
        here.loop(on_event=print, figures_every=0)
