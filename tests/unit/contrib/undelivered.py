"""Where the tests' Django project keeps what could not be handed over."""

from __future__ import annotations

from buttdial_sync.models.inbound import InboundEvent

kept: list[InboundEvent] = []


def keep(event: InboundEvent) -> None:
    kept.append(event)
