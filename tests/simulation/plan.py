"""What a history is made of, drawn from its seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from buttdial_sync.retry.recorder import OnUnknown
from buttdial_sync.settings import SendVia
from buttdial_sync.testing.dialects import DialectName

StoreKind = Literal["memory", "sqlite"]
Place = Literal["process", "network", "store", "server", "handler"]
JobKind = Literal["send", "enqueue", "inbound", "receipt"]
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
RECEIPTS = ("sent", "failed", "delivered", "read")
"""What a receipt may say; a later one never gives way to an earlier one."""
LEASE = 60.0
CLAIM = 5 * LEASE
"""How long an event that came in is kept from others. Longer than a failing one is tried again."""
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
    """
    A message that the host wants to be sent, or something that comes in.

    Attributes:
        at: When it begins.
        text: What it is known by; of a receipt, the id of its message.
        kind: What it is.
        sender: Who wrote a message that comes in.
        is_deferred: Whether its webhook only writes it to the inbox.
        status: What a receipt says.
        idempotency_key: With which a receipt names its message too.
        priority, ordering_key: As for ``enqueue``.
        expires_in: After how many seconds it is too late.
    """

    at: float
    text: str
    kind: JobKind
    sender: str = ""
    is_deferred: bool = True
    status: str = ""
    idempotency_key: str | None = None
    priority: int = 0
    ordering_key: str | None = None
    expires_in: float | None = None

    @property
    def known_as(self) -> str:
        """What it is known as in the notes."""
        return f"{self.text} {self.status}".strip()


@attrs.frozen(kw_only=True)
class Plan:
    """
    The frame of a history.

    Each history has some kinds of faults only. Where all of them strike, few messages ever get as
    far as the rare states.

    Attributes:
        dialect: Which server: the hosted one honours keys.
        send_via: How messages are sent: over REST no server knows keys.
        store: What keeps the rows.
        on_unknown: As for the loop.
        processes: How many share the rows.
        workers: How many threads of each send.
        way: By which method the loop is run.
        interval: Seconds between passes.
        rates: How likely a fault strikes at a point, by where the point is.
        faults: Which kinds may.
        latency: How long the server takes for an answer, at most.
        receipts: How likely the server tells what became of a message.
        crashes, pauses, jumps: How many at most.
        events: What happens to the world.
        jobs: The messages.
    """

    dialect: DialectName
    send_via: SendVia
    store: StoreKind
    on_unknown: OnUnknown
    processes: int
    workers: int
    way: Way
    interval: float
    rates: Mapping[Place, float]
    faults: frozenset[str]
    latency: float
    receipts: float
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
        plan = attrs.evolve(plan, **dice.choice((_SLOW_DATABASE, _long_outage(dice))))
    return plan


def _anything(dice: random.Random) -> Plan:
    share = dice.choice((0.15, 0.5, 0.85))
    faults = [kind for kind in FAULTS if dice.random() < share]
    dialect: DialectName = dice.choice(("hosted", "open-source", "open-source"))
    return Plan(
        dialect=dialect,
        # Only this server has the endpoint.
        send_via="rest" if dialect == "open-source" and dice.random() < 0.2 else "stream",
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
        receipts=dice.choice((0.0, 0.5)),
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
_HOUR = 3600.0


def _long_outage(dice: random.Random) -> dict[str, Any]:
    # Mostly one hour, which no message may die of; each further one costs as much as all the rest.
    seconds = dice.choice((_HOUR, _HOUR, _HOUR, 3 * _HOUR))
    return {"interval": 60.0, "events": (Event(at=1.0, kind="outage", seconds=seconds),)}


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
            priority=dice.choice((0, 0, 5)),
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
    # Their order is not kept, so each has a sender of its own.
    at_once = [
        Job(
            at=dice.uniform(0.0, span),
            text=f"now{number}",
            kind="inbound",
            sender=f"carol{number}",
            is_deferred=False,
        )
        for number in range(dice.randint(0, 2))
    ]
    return out + into + at_once
