"""Each kind of broken promise is noticed, and the truth is not taken for one."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import attrs
import pytest

from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.sending import SendResult
from buttdial_sync.retry.rows import as_row
from buttdial_sync.stores.schema import Claim
from buttdial_sync.testing.dialects import DialectName
from tests.simulation.judging import broken_promises
from tests.simulation.kernel import Kernel
from tests.simulation.network import Server
from tests.simulation.plan import draw
from tests.simulation.process import Process
from tests.simulation.storing import OutboxPointStore
from tests.simulation.world import BEGIN, World


class Case:
    """A world at the end of a history."""

    def __init__(self, dialect: DialectName = "open-source") -> None:
        plan = attrs.evolve(
            draw(random.Random(1)),
            store="memory",
            dialect=dialect,
            send_via="stream",
            on_unknown="dead",
        )
        self.world = World(Kernel(1), plan, None)
        self.server = Server(self.world, dialect, print)
        self.process = Process(self.world, "p0", print)

    def row(self, **fields: Any) -> None:
        defaults: dict[str, Any] = {"id": "1", "recipient": "+1", "body": "m", "channel": "sms"}
        message = FailedMessage(
            **{**defaults, "created_at": BEGIN, "next_retry_at": BEGIN, **fields}
        )
        self.world.outbox_rows.insert(as_row(message))

    def dead(self, **fields: Any) -> None:
        self.row(status="dead", last_error="why", **fields)
        self.world.notes.buried["1"] = self.process

    def broken(self) -> list[str]:
        return [promise.partition(":")[0] for promise in broken_promises(self.world, self.server)]


@pytest.fixture
def case() -> Case:
    return Case()


def test_the_truth(case: Case) -> None:
    """Sent and delivered once; refused and given up, and told."""
    case.row(status="delivered", message_sid="SM-m-1")
    case.server.executed["m"] = 1
    case.row(id="2", body="bad", status="dead", last_error="no")
    case.server.refused["bad"] = 1
    case.world.notes.told_dead["2"] = 1
    assert case.broken() == []


def test_lost_and_stuck(case: Case) -> None:
    case.world.notes.enqueued["gone"] = "9"
    case.row(status="pending")
    assert case.broken() == ["lost", "stuck"]


@pytest.mark.parametrize("sid", ["SM-m-1", None])
def test_delivered_but_not_sent(case: Case, sid: str | None) -> None:
    case.row(status="delivered", message_sid=sid)
    assert case.broken() == ["untrue"]


def test_dead_but_sent(case: Case) -> None:
    """A row that says nothing of doubt must not be of a message that was sent."""
    case.dead()
    case.server.executed["m"] = case.server.refused["m"] = 1
    case.world.notes.told_dead["1"] = 1
    assert case.broken() == ["untrue"]


def test_dead_for_no_reason(case: Case) -> None:
    case.dead()
    case.world.notes.told_dead["1"] = 1
    assert case.broken() == ["given up for no fault of its own"]


def test_sent_twice(case: Case) -> None:
    """With a key, too; unless the host asked for it, and the server honours no keys."""
    for each in (case, Case("hosted")):
        each.row(status="delivered", message_sid="SM-m-2")
        each.server.executed["m"] = 2
        assert each.broken() == ["twice"]
        each.world.plan = attrs.evolve(each.world.plan, on_unknown="retry")
        assert each.broken() == ([] if each is case else ["twice"])


def test_known_but_thrown_away(case: Case) -> None:
    """What a process knew that was killed is lost with it."""
    case.dead(attempt_started_at=BEGIN)
    case.world.notes.told_dead["1"] = 1
    case.world.notes.answers["m"].append((case.process, SendResult(outcome="sent")))
    assert case.broken() == ["known to be sent, but m is dead"]
    case.process.group.is_dead = True
    assert case.broken() == []


def test_untold(case: Case) -> None:
    case.dead(attempt_started_at=BEGIN)
    assert case.broken() == ["untold"]
    case.process.group.is_dead = True
    assert case.broken() == []


def test_a_receipt_that_the_row_lacks(case: Case) -> None:
    """The last one counts, in whichever order they came; a killed process may have lost it."""
    case.row(status="delivered", message_sid="SM-m-1", receipt_status="delivered")
    case.server.executed["m"] = 1
    case.world.notes.receipts["SM-m-1"] |= {"delivered", "failed"}
    assert case.broken() == []
    case.world.notes.receipts["SM-m-1"].add("read")
    assert case.broken() == ["receipt of m"]
    case.world.notes.delivered_by["1"] = case.process
    case.process.group.is_dead = True
    assert case.broken() == []


def test_a_receipt_that_the_database_did_not_give(case: Case) -> None:
    """Each try asks for two rows, the message and its early receipt; either may be refused."""
    case.row(status="delivered", message_sid="SM-m-1")
    case.server.executed["m"] = 1
    case.world.notes.receipts["SM-m-1"] |= {"read"}
    case.world.notes.store_failures.update({"1": 3, "SM-m-1": 1})
    assert case.broken() == ["receipt of m"]
    case.world.notes.store_failures["SM-m-1"] += 1
    assert case.broken() == []


def test_an_attempt_that_the_server_cannot_have_had(case: Case) -> None:
    case.row(status="delivered", message_sid="SM-m-1", retry_count=2)
    case.server.executed["m"] = 1
    case.world.notes.reached["m"] = 1
    assert case.broken() == ["spent"]
    case.world.notes.reached["m"] = 2
    assert case.broken() == []


@pytest.mark.parametrize("written", [1, 3])
def test_order(case: Case, written: int) -> None:
    """What was written before the other began is sent before it."""
    ordered: dict[str, Any] = {"status": "delivered", "ordering_key": "ann", "agent_id": "agent-1"}
    begun = BEGIN + timedelta(seconds=2)
    case.row(**ordered, message_sid="SM-m-1")
    case.row(**ordered, id="2", body="n", message_sid="SM-n-1", created_at=begun)
    case.server.executed |= {"m": 1, "n": 1}
    case.server.order[:] = ["n", "m"]
    case.world.notes.written["1"] = BEGIN + timedelta(seconds=written)
    case.world.notes.written["2"] = begun + timedelta(seconds=written)
    assert case.broken() == (["out of order"] if written == 1 else [])
    case.server.order[:] = ["m", "n"]
    assert case.broken() == []


def test_overtaken(case: Case) -> None:
    """Of the rows that were there when somebody looked, the most urgent is taken."""
    store = OutboxPointStore(case.world.outbox_rows, case.process)
    case.world.is_calm = True
    case.row(agent_id="agent-1")
    case.row(id="2", body="code", agent_id="agent-1", priority=5)
    case.row(id="3", body="other", agent_id="agent-2")
    lease = BEGIN + timedelta(seconds=60)
    claims = {ids: Claim(now=BEGIN, leased_until=lease, limit=1) for ids in ("1", "2", "3")}

    def take(row_id: str) -> None:
        store._note("turns", (BEGIN,), [object()])
        store._note("claim", (claims[row_id],), [case.world.outbox_rows.find(row_id)])

    take("2")
    take("3")
    assert case.world.notes.overtaken == set()
    take("1")
    assert "overtaken by what is less urgent" in case.broken()


def test_inbound(case: Case) -> None:
    """Lost after the answer 200, handled twice without an excuse, two of a sender at once."""
    notes = case.world.notes
    notes.accepted.add("in0")
    assert case.broken() == ["lost"]
    notes.taken_in.add("in0")
    assert case.broken() == ["lost", "lost"]
    notes.handled["in0"] = [case.process, case.process]
    notes.overlaps.append("ann")
    assert case.broken() == ["lost", "handled 2 times", "two messages of ann were handled at once"]
    notes.paused = 1
    assert case.broken() == ["lost"]


def test_inbound_given_up_for_no_reason(case: Case) -> None:
    """A claim of somebody who was killed is none: no handler has failed."""
    notes = case.world.notes
    notes.undelivered.add("in0")
    assert case.broken() == ["given up for no fault of its own"]
    notes.failed.add("in0")
    assert case.broken() == []
