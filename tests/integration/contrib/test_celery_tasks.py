"""The tasks themselves, called in this process: what they refuse, repeat and remember."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest.mock import Mock

import attrs
import pytest

pytest.importorskip("celery")

from celery import Celery
from celery.exceptions import Reject, Retry

from buttdial_sync import Client, FailedMessage, InboundHandler
from buttdial_sync.contrib.celery import ButtDialTasks
from buttdial_sync.contrib.celery.tasks import HandlerFailedError
from buttdial_sync.errors import ArgumentTypeError, ConfigError
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.inbound.serialized import as_arguments, as_event
from buttdial_sync.models.inbound import (
    AccountVerified,
    Attachment,
    DeliveryReceipt,
    InboundMessage,
    Location,
)
from buttdial_sync.retry import MemoryRepository
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.simulate import HostSimulator
from tests.unit.retry.test_limits import Limiter
from tests.unit.retry.test_outage import Counting
from tests.unit.retry.world import TOKEN
from tests.unit.retry.world import world as simulated

URL = "https://butt-dial.test"


class World:
    def __init__(self, fake: FakeButtDialServer) -> None:
        self.fake = fake
        self.client = Client(URL, agent_token="agent-token")
        self.repository = MemoryRepository()
        self.inbound = InboundHandler()
        self.app = Celery("tested", broker="memory://", set_as_current=False)
        self.tasks = ButtDialTasks(
            self.app,
            client=lambda: self.client,
            repository=lambda: self.repository,
            inbound=self.inbound,
            interval=30.0,
            batch_size=2,
            at_most=3,
        )

    def add(self, msg_id: str = "a", **fields: Any) -> None:
        given: dict[str, Any] = {"recipient": "+1", "body": msg_id, **fields}
        self.repository.add(FailedMessage(id=msg_id, **given))


@pytest.fixture
def world() -> Iterator[World]:
    fake = FakeButtDialServer()
    with fake.mocked(URL):
        made = World(fake)
        yield made
        made.client.close()
    made.app.close()


def test_a_message_is_sent_once(world: World) -> None:
    """The same task a second time, and one for a row that is gone, do nothing."""
    world.add()
    assert [world.tasks.deliver("a", 0) for _ in range(2)] == ["delivered", "taken"]
    assert world.tasks.deliver("gone", 0) == "taken"
    assert len(world.fake.sent_messages) == 1


def test_a_message_that_another_process_sends_is_not_asked_for(world: World) -> None:
    """The next in order may be on its way already: its task would send it a second time."""
    world.app.conf.task_default_queue = "on its way"
    now = utc_now()
    for number, msg_id in enumerate("ab"):
        world.add(msg_id, ordering_key="k", created_at=now + timedelta(microseconds=number))

    def send(_: Any) -> dict[str, str]:
        assert world.repository.begin_attempt("b", 1, utc_now())
        return {"messageId": "SM-1"}

    world.fake.on_tool("comms_send_message", send)
    assert world.tasks.deliver("a", 0) == "delivered"
    assert asked_for(world) == []


@pytest.mark.parametrize("paused", ["", None])
def test_nothing_is_sent_while_it_is_paused(world: World, paused: str | None) -> None:
    """Also what was asked for before; it is free for the sweep after somebody has resumed."""
    world.add()
    world.repository.pause(paused)
    assert world.tasks.deliver("a", 0) == "postponed"
    assert world.fake.sent_messages == []
    world.repository.resume(paused)
    assert world.tasks.deliver("a", 0) == "delivered"


def taken(world: World) -> list[Any]:
    """Take the tasks that wait in the broker."""
    with world.app.connection_for_read() as connection:
        queue = connection.SimpleQueue(world.app.conf.task_default_queue)
        tasks = [queue.get_nowait() for _ in range(queue.qsize())]
        for task in tasks:
            task.ack()
        queue.close()
    return tasks


def asked_for(world: World) -> list[list[Any]]:
    return [task.payload[0] for task in taken(world)]


def test_messages_in_their_order(world: World) -> None:
    """One that is asked for early is not sent; one that is settled asks for the next."""
    world.app.conf.task_default_queue = "in order"
    now = utc_now()
    for number, msg_id in enumerate("abc"):
        written = now + timedelta(microseconds=number)
        world.add(msg_id, ordering_key="k", created_at=written, max_retries=1)
    world.add("free")
    assert world.tasks.deliver("b", 0) == "postponed"
    assert world.tasks.deliver("a", 0) == "delivered"
    assert asked_for(world) == [["b", 0]]
    world.fake.on_send(error="busy", code="BUSY", count=1)
    assert world.tasks.deliver("b", 0) == "dead"
    assert asked_for(world) == [["c", 0]]
    assert {message.id for message in world.repository.fetch_due(5)} == {"c", "free"}
    assert world.tasks.deliver("b", 0) == "taken"
    assert world.tasks.deliver("free", 0) == "delivered"
    assert asked_for(world) == []
    assert [call.body for call in world.fake.delivered] == ["a", "free"]


def test_a_limit_of_an_agent() -> None:
    """The sweep goes by what the loop has learned: it hands out what may be sent, and one in need.

    Before, each sweep handed out all that waited, so that 400 messages cost 42 writes each.
    """
    with simulated() as here:
        limiter = Limiter(here)
        here.fake.on_tool("comms_send_message", limiter)
        for number in range(200):
            here.add(f"m{number:03}", agent_id="limited", body=f"limited {number}")
        app = Celery("limited", broker="memory://", set_as_current=False)
        app.conf.task_always_eager = True
        counting = Counting(here.repository)
        tasks = ButtDialTasks(
            app,
            client=lambda: here.client,
            repository=lambda: counting,
            token_for=lambda _: TOKEN,
            clock=here.clock,
            monotonic=lambda: here.seconds,
            sleep=here.sleep,
        )
        sweeps = 0
        while here.repository.count_pending() and sweeps < 30:
            tasks.sweep()
            here.go_on(61.0)
            sweeps += 1
        app.close()
        assert here.repository.stats()["delivered"] == 200
    assert sweeps <= 22
    assert limiter.refused <= 4
    # Three a message; the first sweep, which knew of no limit, put back what it had handed out.
    assert counting.writes <= 3 * 200 + 2 * 100 + 3 * limiter.refused


def test_a_postponed_message_is_left_until_it_is_due(world: World) -> None:
    """A late repetition of a task does not send what waits for a limit to end."""
    world.add(next_retry_at=utc_now() + timedelta(minutes=1))
    assert world.tasks.deliver("a", 0) == "taken"
    assert world.fake.sent_messages == []


def test_a_failure_is_written_into_the_row(world: World) -> None:
    """When to try again stands in the row, not in the broker."""
    world.fake.on_send(error="not now", code="NOT_NOW")
    world.add()
    assert world.tasks.deliver("a", 0) == "retried"
    row = world.repository.get("a")
    assert row is not None
    assert (row.status, row.retry_count) == ("pending", 1)


def test_a_sweep_is_bounded_and_claims(world: World) -> None:
    """A sweep hands out so many and no more; the next one gets the rest."""
    for number in range(5):
        world.add(f"m{number}")
    assert [world.tasks.sweep() for _ in range(3)] == [3, 2, 0]


def test_the_sweep_is_scheduled(world: World) -> None:
    """The beat finds the sweep in the schedule, which expires before the next."""
    world.app.finalize()
    entry = world.app.conf.beat_schedule["buttdial_sync.sweep"]
    assert (entry["task"], entry["schedule"]) == ("buttdial_sync.sweep", 30.0)
    assert entry["options"]["expires"] == 30.0


MESSAGE = InboundMessage(
    id="1",
    sender="+1",
    channel="whatsapp",
    text="hi",
    received_at=datetime(2026, 1, 2, tzinfo=timezone.utc),
    contacts=({"name": "Ana"},),
    session={"n": 1},
    attachments=(Attachment(filename="a.pdf", size=3),),
    location=Location(latitude=1.5, longitude=2.0),
    raw={"text": {"body": "hi"}},
)


@pytest.mark.parametrize(
    "event",
    [MESSAGE, DeliveryReceipt(message_sid="SM1", status="read", channel="sms")],
    ids=["message", "receipt"],
)
def test_events_travel_as_json(event: Any) -> None:
    """An event comes out of JSON as it was, with what it was made of."""
    kind, fields = json.loads(json.dumps(as_arguments(event)))
    back = as_event(kind, fields)
    assert back == event
    assert back.raw == event.raw


def test_a_credential_does_not_travel(world: World) -> None:
    """A verified account is refused, and so is a kind that nobody knows."""
    event = AccountVerified(org_id="o", owner_email="a@b.example", team_token="secret")
    with pytest.raises(ArgumentTypeError) as refused:
        as_arguments(event)
    assert "secret" not in str(refused.value)
    with pytest.raises(ArgumentTypeError):
        as_event("AccountVerified", {})


def work(world: World, event: Any = MESSAGE, **request: Any) -> None:
    """Do what a worker does with a task that it has got."""
    task: Any = world.tasks.handle_inbound
    kind, fields = as_arguments(event)
    given = {"id": "the task", "args": (kind, fields), "kwargs": {}, "called_directly": False}
    task.push_request(**{**given, **request})
    try:
        task.run(kind, fields)
    finally:
        task.pop_request()


def waiting(world: World) -> list[dict[str, Any]]:
    return [task.headers for task in taken(world)]


def test_a_handler_that_fails_is_tried_again(world: World) -> None:
    """With the same task, ten times and no more; handlers that succeeded are not called again."""
    world.app.conf.task_default_queue = "fails"
    handled: list[str | None] = []
    world.inbound.on_message(lambda message: handled.append(message.text))

    @world.inbound.on_message
    def fail(_: InboundMessage) -> None:
        handled.append("failed")
        raise OSError

    with pytest.raises(Retry):
        work(world)
    with pytest.raises(Retry):
        work(world, retries=9)
    with pytest.raises(HandlerFailedError, match="a handler failed"):
        work(world, retries=10)
    assert handled == ["hi", "failed", "failed", "failed"]
    asked = waiting(world)
    assert [(task["id"], task["retries"]) for task in asked] == [("the task", 1), ("the task", 10)]
    assert "hi" not in str(asked)


def test_the_pauses_grow(world: World) -> None:
    """Up to ten minutes: all ten together are longer than the lease of a handler."""
    world.inbound.on_message(Mock(side_effect=OSError))
    pauses: list[float] = []
    for retries in range(10):
        with pytest.raises(Retry) as told:
            work(world, retries=retries)
        pauses.append(told.value.when)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]
    assert sum(pauses) > InboundHandler().lease
    with pytest.raises(Retry) as told:
        work(world, retries=19, delivery_info={"redelivered": True})
    assert told.value.when == 600.0


def test_an_event_whose_worker_was_killed(world: World) -> None:
    """It is counted and tried again after a pause: one that kills each worker comes to an end."""
    world.app.conf.task_default_queue = "killed"
    handled: list[str | None] = []
    world.inbound.on_message(lambda message: handled.append(message.text))
    for retries in (0, 10, 19):
        with pytest.raises(Retry):
            work(world, retries=retries, delivery_info={"redelivered": True})
    with pytest.raises(HandlerFailedError, match="its worker has gone"):
        work(world, retries=20, delivery_info={"redelivered": True})
    assert handled == []
    assert [task["retries"] for task in waiting(world)] == [1, 11, 20]
    work(world, retries=20, delivery_info={"redelivered": False})
    assert handled == ["hi"]


def test_a_retry_that_the_broker_does_not_take(world: World) -> None:
    """The broker keeps the event that it has: Celery would have it thrown away."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("the broker is full")

    world.app.conf.task_routes = (refuse,)
    world.inbound.on_message(Mock(side_effect=OSError))
    with pytest.raises(Reject, match="the broker is full") as told:
        work(world)
    assert told.value.requeue


def test_an_event_that_another_worker_handles(world: World) -> None:
    """It may be a worker that was killed: the event comes again once its claim has ended."""
    world.app.conf.task_default_queue = "busy"

    @world.inbound.on_message
    def handle(_: InboundMessage) -> None:
        for retries in (0, 19):
            with pytest.raises(Retry) as told:
                work(world, retries=retries)
            assert told.value.when == world.inbound.lease
        with pytest.raises(HandlerFailedError, match="busy"):
            work(world, retries=20)

    work(world)
    assert [task["retries"] for task in waiting(world)] == [1, 20]


def test_an_event_without_an_id(world: World) -> None:
    """It is known by its task: a handler that has had it is not called again."""
    handled: list[str | None] = []
    world.inbound.on_message(lambda message: handled.append(message.text))
    world.inbound.on_message(Mock(side_effect=[OSError, None, None, None, None]))
    nameless = attrs.evolve(MESSAGE, id="")
    with pytest.raises(Retry):
        work(world, nameless)
    work(world, nameless, retries=1)
    assert handled == ["hi"]
    work(world, nameless, id="another task")
    assert handled == ["hi", "hi"]
    for _ in range(2):
        work(world, nameless, id=None, called_directly=True)  # nothing identifies it
    assert handled == 4 * ["hi"]


def test_an_event_is_not_printed(world: World) -> None:
    """Celery's log, its events and Flower have no text and no sender."""
    world.app.conf.task_default_queue = "forwarded"
    front = InboundHandler(allow_unsigned=["butt-dial"])
    world.tasks.forward(front)
    delivery = HostSimulator().message(body="a private word", sender="+14155550123")
    assert front.handle("butt-dial", delivery.body, dict(delivery.headers)).status == 200
    (task,) = waiting(world)
    assert "private" not in str(task)
    assert "4155550123" not in str(task)


def test_an_eager_task_tells_the_webhook(world: World) -> None:
    """In tests of the host: a handler that fails makes the answer 500, and is tried once."""
    world.app.conf.task_always_eager = True
    handler = Mock(side_effect=[OSError, OSError, None])
    world.inbound.on_message(handler)
    front = InboundHandler(allow_unsigned=["butt-dial"])
    world.tasks.forward(front)
    delivery = HostSimulator().message(body="hello")
    answers = [
        front.handle("butt-dial", delivery.body, dict(delivery.headers)).status for _ in range(4)
    ]
    assert answers == [500, 500, 200, 200]
    assert handler.call_count == 3


def test_the_webhooks_need_a_handler_of_their_own(world: World) -> None:
    """Forwarding the tasks' own handler would go round for ever."""
    with pytest.raises(ConfigError):
        world.tasks.forward(world.inbound)


def test_threads_of_a_loop_are_no_option_of_the_tasks(world: World) -> None:
    """A host's workers=… does not keep messages from being sent: Celery has workers of its own."""
    world.add()
    with Celery("other", broker="memory://", set_as_current=False) as app:
        tasks = ButtDialTasks(
            app, client=lambda: world.client, repository=lambda: world.repository, workers=3
        )
        assert tasks.deliver("a", 0) == "delivered"
