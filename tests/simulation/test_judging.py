"""Each kind of broken promise is noticed, and the truth is not taken for one."""

from __future__ import annotations

import random
from typing import Any

import attrs
import pytest

from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.sending import SendResult
from buttdial_sync.retry.rows import as_row
from buttdial_sync.testing.dialects import DialectName
from tests.simulation.judging import broken_promises
from tests.simulation.kernel import Kernel
from tests.simulation.network import Server
from tests.simulation.plan import draw
from tests.simulation.process import Process
from tests.simulation.world import BEGIN, World


class Case:
    """A world at the end of a history."""

    def __init__(self, dialect: DialectName = "open-source") -> None:
        plan = attrs.evolve(
            draw(random.Random(1)), store="memory", dialect=dialect, on_unknown="dead"
        )
        self.world = World(Kernel(1), plan, None)
        self.server = Server(self.world, dialect)
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


def test_inbound(case: Case) -> None:
    """Lost after the answer 200, handled twice without an excuse, two of a sender at once."""
    notes = case.world.notes
    notes.accepted.add("in0")
    assert case.broken() == ["lost", "lost"]
    notes.handled["in0"] = [case.process, case.process]
    notes.overlaps.append("ann")
    assert case.broken() == ["lost", "handled 2 times", "two messages of ann were handled at once"]
    notes.paused = 1
    assert case.broken() == ["lost"]
