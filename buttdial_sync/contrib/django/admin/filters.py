"""Filters of the lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, get_args

from django.contrib import admin
from django.db.models import F, Q
from django.http import HttpRequest

from buttdial_sync.contrib.django.admin.summaries import (
    BUSY,
    DEAD,
    DUE,
    EXPIRED,
    RESTING,
    UNKNOWN,
    WAITING,
)
from buttdial_sync.contrib.django.outbox import get_repository
from buttdial_sync.contrib.django.store import is_free, stored
from buttdial_sync.models.message import Channel
from buttdial_sync.retry.pauses import Pause


class ChannelFilter(admin.SimpleListFilter):
    """Offers the channels that there are; Django would look for those of all rows."""

    title = "channel"
    parameter_name = "channel"

    def lookups(self, _: HttpRequest, __: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [(channel, channel) for channel in get_args(Channel)]

    def queryset(self, _: HttpRequest, rows: Any) -> Any:
        """Return the rows of the chosen channel."""
        return rows if self.value() is None else rows.filter(channel=self.value())


class StateFilter(admin.SimpleListFilter):
    """Answers why messages do not go out, by the rules of ``summary_of_message``."""

    title = "what holds it up"
    parameter_name = "why"

    def lookups(self, _: HttpRequest, __: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [(state, text) for state, (text, _) in _CHOICES.items()]

    def queryset(self, _: HttpRequest, rows: Any) -> Any:
        """Return the rows in the chosen state."""
        if self.value() not in _CHOICES:
            return rows
        _, find = _CHOICES[self.value()]
        repository = get_repository()
        return rows.filter(find(repository.store.now(), repository.paused()))


def _is_paused(pauses: Sequence[Pause]) -> Q:
    agents = {pause.agent_id for pause in pauses}
    if None in agents:
        return Q(pk__isnull=False)
    paused = Q(agent_id__in=agents)
    return paused | Q(agent_id__isnull=True) if "" in agents else paused


def _waits(now: datetime) -> Q:
    """Select what is pending, in nobody's hands, certainly not sent, and not too late."""
    in_time = Q(expires_at__isnull=True) | Q(expires_at__gt=stored(now))
    return Q(status="pending", attempt_started_at__isnull=True) & is_free(now) & in_time


def _rests(now: datetime) -> Q:
    """Select those whose last attempt did not count, as far as a row knows."""
    spared = Q(retry_count=0) | Q(attempt_number__gt=F("retry_count"))
    return Q(next_retry_at__gt=stored(now), last_error__isnull=False) & spared


def _due(now: datetime, pauses: Sequence[Pause]) -> Q:
    return _waits(now) & ~_is_paused(pauses) & Q(next_retry_at__lte=stored(now))


def _waiting(now: datetime, pauses: Sequence[Pause]) -> Q:
    later = Q(next_retry_at__gt=stored(now))
    counted = Q(last_error__isnull=True) | (
        Q(retry_count__gt=0)
        & (Q(attempt_number__isnull=True) | Q(attempt_number__lte=F("retry_count")))
    )
    return _waits(now) & ~_is_paused(pauses) & later & counted


def _resting(now: datetime, pauses: Sequence[Pause]) -> Q:
    return _waits(now) & (_is_paused(pauses) | _rests(now))


def _unknown(now: datetime, _: Sequence[Pause]) -> Q:
    is_open = Q(status="dead") | (Q(status="pending") & is_free(now))
    return is_open & Q(attempt_started_at__isnull=False)


def _expired(now: datetime, _: Sequence[Pause]) -> Q:
    too_late = Q(status="pending", expires_at__lte=stored(now)) & is_free(now)
    given_up = Q(status="dead", expires_at__lte=F("resolved_at"))
    return (too_late | given_up) & Q(attempt_started_at__isnull=True)


def _dead(_: datetime, __: Sequence[Pause]) -> Q:
    in_time = Q(expires_at__isnull=True) | Q(expires_at__gt=F("resolved_at"))
    certain = Q(status="dead", attempt_started_at__isnull=True)
    return certain & (in_time | Q(resolved_at__isnull=True))


def _busy(now: datetime, _: Sequence[Pause]) -> Q:
    return Q(status="pending", leased_until__gt=stored(now))


_CHOICES: dict[str, tuple[str, Callable[[datetime, Sequence[Pause]], Q]]] = {
    DUE.name: ("Due now", _due),
    WAITING.name: ("Waits for its time", _waiting),
    RESTING.name: ("At rest: a limit, a pause, an outage", _resting),
    BUSY.name: ("In progress", _busy),
    UNKNOWN.name: ("Unknown whether it was sent", _unknown),
    EXPIRED.name: ("Expired", _expired),
    DEAD.name: ("Given up", _dead),
}
