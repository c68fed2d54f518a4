"""What all simulated processes share: time, chance, the rows, and what is noted about them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import attrs

from buttdial_sync.inbound.deliveries import MemoryDeliveryLog
from buttdial_sync.inbound.inbox import inbox_schema
from buttdial_sync.models.inbound import DeliveryReceipt, InboundMessage
from buttdial_sync.models.sending import SendResult
from buttdial_sync.retry.receipts import receipts_schema
from buttdial_sync.retry.rows import outbox_schema
from buttdial_sync.stores.memory import MemoryStore
from buttdial_sync.stores.sqlite import SQLiteStore
from buttdial_sync.stores.store import Store
from tests.simulation.kernel import Kernel
from tests.simulation.plan import Place, Plan

if TYPE_CHECKING:
    from tests.simulation.process import Process

BEGIN = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
_TROUBLE = 4.0
_CALM_INTERVAL = 30.0
Tell = Callable[[str], object]


@attrs.define(eq=False)
class Notes:
    """
    What happened, for the judgement at the end.

    Attributes:
        enqueued: The ids of the rows whose writing was acknowledged, by text.
        written: When each row was written. It says itself when that began.
        expires: When it is too late to send a text.
        late: The texts that a process began to send after that.
        answers: What the client said about each text, and in which process.
        told_by_result: The texts whose end ``send_message`` returned.
        told_dead: The ids that ``on_dead_letter`` was called with.
        buried, delivered_by: Which process last committed that a row is dead, or delivered.
        failures_in_a_row: How often the store failed at a row since it last succeeded, at most.
        edited: The ids of rows that somebody edited by hand.
        crashed, paused, jumped: How many processes did.
        accepted: The texts of messages whose webhook was answered with 200.
        taken_in: The texts of messages that the inbox said it has.
        handled: The processes whose handlers had each text, to success.
        receipts: What the receipts said that were written, by the ids of their messages.
        overtaken: Of which text a less urgent one was fetched first.
        reached: How many requests with a text the server may have had.
        handling: Which senders have a handler running.
        overlaps: Senders of whom two messages were handled at once.
        undelivered: The texts that ``on_undelivered`` got.
        failed: The texts on which a handler failed.
    """

    enqueued: dict[str, str] = attrs.field(factory=dict)
    written: dict[str, datetime] = attrs.field(factory=dict)
    expires: dict[str, datetime] = attrs.field(factory=dict)
    late: set[str] = attrs.field(factory=set)
    answers: dict[str, list[tuple[Process, SendResult]]] = attrs.field(
        factory=lambda: defaultdict(list)
    )
    told_by_result: set[str] = attrs.field(factory=set)
    told_dead: Counter[str] = attrs.field(factory=Counter)
    buried: dict[str, Process] = attrs.field(factory=dict)
    delivered_by: dict[str, Process] = attrs.field(factory=dict)
    store_failures: Counter[str] = attrs.field(factory=Counter)
    edited: set[str] = attrs.field(factory=set)
    crashed: int = 0
    paused: int = 0
    jumped: int = 0
    accepted: set[str] = attrs.field(factory=set)
    taken_in: set[str] = attrs.field(factory=set)
    handled: dict[str, list[Process]] = attrs.field(factory=lambda: defaultdict(list))
    receipts: dict[str, set[str]] = attrs.field(factory=lambda: defaultdict(set))
    overtaken: set[str] = attrs.field(factory=set)
    reached: Counter[str] = attrs.field(factory=Counter)
    handling: Counter[str] = attrs.field(factory=Counter)
    overlaps: list[str] = attrs.field(factory=list)
    undelivered: set[str] = attrs.field(factory=set)
    failed: set[str] = attrs.field(factory=set)


def name_of(event: InboundMessage | DeliveryReceipt) -> str:
    """Return what something that came in is known as in the notes."""
    if isinstance(event, DeliveryReceipt):
        return f"{event.message_sid} {event.status}"
    return str(event.text)


class World:
    """
    Where a history takes place.

    Args:
        kernel: Has the time, and decides.
        plan: What may happen.
        tell: Gets each step as a line; None is faster.

    Attributes:
        outbox_rows, receipt_rows, inbox_rows: The rows, which survive every process.
        deliveries: What was handed over, which does too.
        is_calm: Nothing goes wrong any more.
    """

    def __init__(self, kernel: Kernel, plan: Plan, tell: Tell | None) -> None:
        self.kernel = kernel
        self.plan = plan
        self.dice = kernel.dice
        self.notes = Notes()
        self.is_calm = False
        self._trouble_until = 0.0
        self._tell = tell
        self.outbox_rows = self._store(outbox_schema())
        self.receipt_rows = self._store(receipts_schema("buttdial_outbox"))
        self.inbox_rows = self._store(inbox_schema())
        self.deliveries = MemoryDeliveryLog(clock=lambda: kernel.now)
        self._left = Counter(
            {"crash": plan.crashes, "pause": plan.pauses, "clock jump": plan.jumps}
            | {"killed in flight": plan.crashes}
        )

    @property
    def is_traced(self) -> bool:
        """Whether somebody reads what is told."""
        return self._tell is not None

    @property
    def interval(self) -> float:
        """Seconds between passes. Where nothing goes wrong, many of them only cost time."""
        return _CALM_INTERVAL if self.is_calm else self.plan.interval

    def close(self) -> None:
        """Drop the rows."""
        for rows in (self.outbox_rows, self.receipt_rows, self.inbox_rows):
            rows.close()

    def clock(self) -> datetime:
        """Return the true time."""
        return BEGIN + timedelta(seconds=self.kernel.now)

    def tell(self, who: str, what: str) -> None:
        """Write a line of the trace."""
        if self._tell is not None:
            self._tell(f"{self.kernel.now:10.3f}  {who:<8} {what}")

    def toss(self) -> bool:
        """Decide with even chances."""
        return self.dice.random() < 0.5

    def strike(self, where: Place, kinds: Sequence[str]) -> str | None:
        """Decide whether something goes wrong here, and what."""
        rate = self.plan.rates[where]
        if self.kernel.now < self._trouble_until:
            rate = min(_TROUBLE * rate, 0.5)
        if self.is_calm or self.dice.random() >= rate:
            return None
        possible = [kind for kind in kinds if kind in self.plan.faults]
        if not possible:
            return None
        kind = self.dice.choice(possible)
        if kind in self._left:
            if not self._left[kind]:
                return None
            self._left[kind] -= 1
        # Trouble seldom comes alone, and the rarest states need several strikes at one message.
        if self.toss():
            self._trouble_until = self.kernel.now + self.dice.uniform(0.0, 60.0)
        return kind

    def rows(self) -> list[dict[str, Any]]:
        """Return all outgoing rows."""
        return self.outbox_rows.newest(None, 1000)

    def _store(self, schema: Any) -> Store:
        if self.plan.store == "memory":
            return MemoryStore(schema, self.clock)
        return SQLiteStore(":memory:", schema, clock=self.clock)
