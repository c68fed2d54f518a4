"""What a history is made of, drawn from its seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from buttdial_sync.retry.recorder import OnUnknown
from buttdial_sync.testing.dialects import DialectName

StoreKind = Literal["memory", "sqlite"]
Place = Literal["process", "network", "store", "server", "handler"]
Way = Literal["start", "run_once", "drain"]

FAULTS = (
    *("crash", "pause", "clock jump"),
    *("store refuses", "lost acknowledgement", "refusal", "failing handler", "slow handler"),
    *("refused", "reset before", "reset after", "hangs", "killed in flight", "proxy", "busy"),
    *("limited", "late", "lost answer", "cut", "slow answer"),
)
EVENTS = (
    "outage",
    "restart",
    "limit",
    "limit",
    "lockout",
    "revoked token",
    "edit by hand",
    "retry by hand",
)
LEASE = 60.0
TIMEOUT = 10.0
SPAN = 150.0


@attrs.frozen(kw_only=True)
class Event:
    """Something that happens to the world, at a time, for some seconds."""

    at: float
    kind: str
    seconds: float


@attrs.frozen(kw_only=True)
class Job:
    """A message that the host wants to be sent, maybe in an order, or one that comes in."""

    at: float
    text: str
    kind: Literal["send", "enqueue", "inbound"]
    sender: str = ""
    ordering_key: str | None = None
    expires_in: float | None = None


@attrs.frozen(kw_only=True)
class Plan:
    """
    The frame of a history.

    Each history has some kinds of faults only. Where all of them strike, few messages ever get as
    far as the rare states.

    Attributes:
        dialect: Which server: the hosted one honours keys.
        store: What keeps the rows.
        on_unknown: As for the loop.
        processes: How many share the rows.
        workers: How many threads of each send.
        way: By which method the loop is run.
        interval: Seconds between passes.
        rates: How likely a fault strikes at a point, by where the point is.
        faults: Which kinds may.
        latency: How long the server takes for an answer, at most.
        crashes, pauses, jumps: How many at most.
        events: What happens to the world.
        jobs: The messages.
    """

    dialect: DialectName
    store: StoreKind
    on_unknown: OnUnknown
    processes: int
    workers: int
    way: Way
    interval: float
    rates: Mapping[Place, float]
    faults: frozenset[str]
    latency: float
    crashes: int
    pauses: int
    jumps: int
    events: tuple[Event, ...]
    jobs: tuple[Job, ...]


def draw(dice: random.Random) -> Plan:
    """Draw a plan: of anything, or of what rarely meets."""
    plan = _anything(dice)
    if dice.random() < _RARE:
        # Some states need several strikes at one message, at the right times.
        plan = attrs.evolve(plan, **dice.choice((_SLOW_DATABASE, _LONG_OUTAGE)))
    return plan


def _anything(dice: random.Random) -> Plan:
    share = dice.choice((0.15, 0.5, 0.85))
    faults = [kind for kind in FAULTS if dice.random() < share]
    return Plan(
        dialect=dice.choice(("hosted", "open-source", "open-source")),
        store=dice.choice(("memory", "sqlite")),
        on_unknown="retry" if dice.random() < 0.15 else "dead",
        processes=dice.randint(2, 3),
        workers=dice.choice((1, 1, 2)),
        way=dice.choice(("start", "run_once", "drain")),
        interval=dice.choice((1.0, 5.0)),
        rates={
            "process": dice.choice((0.01, 0.05)),
            "network": dice.choice((0.02, 0.1, 0.2)),
            "store": dice.choice((0.02, 0.1, 0.3)),
            "server": dice.choice((0.0, 0.1)),
            "handler": dice.choice((0.0, 0.1)),
        },
        faults=frozenset(faults),
        latency=dice.choice((0.05, 15.0)),
        crashes=dice.randint(0, 5),
        pauses=dice.randint(0, 3),
        jumps=dice.randint(0, 3),
        events=tuple(_events(dice)),
        jobs=tuple(_jobs(dice)),
    )


_RARE = 0.2
_SLOW_DATABASE: dict[str, Any] = {
    "dialect": "open-source",
    "processes": 3,
    "interval": 1.0,
    "rates": {"process": 0.0, "network": 0.3, "store": 0.3, "server": 0.0, "handler": 0.0},
    "faults": frozenset({"lost acknowledgement", "limited", "slow answer"}),
    "latency": 15.0,
}
_LONG_OUTAGE: dict[str, Any] = {
    "interval": 30.0,
    "events": (Event(at=1.0, kind="outage", seconds=1800.0),),
}


def _events(dice: random.Random) -> list[Event]:
    kinds = dice.choices(EVENTS, k=dice.randint(0, 5))
    return [
        Event(at=dice.uniform(0.0, SPAN), kind=kind, seconds=dice.uniform(5.0, 120.0))
        for kind in kinds
    ]


def _jobs(dice: random.Random) -> list[Job]:
    # Most of them close together, so that they meet.
    span = dice.choice((5.0, SPAN))
    out = [
        Job(
            at=dice.uniform(0.0, span),
            text=f"{'bad' if dice.random() < 0.1 else 'm'}{number}",
            kind="send" if dice.random() < 0.4 else "enqueue",
            ordering_key=dice.choice((None, "ann", "bob")),
            expires_in=dice.choice((None, None, dice.uniform(1.0, 120.0))),
        )
        for number in range(dice.randint(2, 7))
    ]
    into = [
        Job(
            at=dice.uniform(0.0, span),
            text=f"in{number}",
            kind="inbound",
            sender=dice.choice(("ann", "bob")),
        )
        for number in range(dice.randint(0, 4))
    ]
    return out + into
