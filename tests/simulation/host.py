"""The host's program in each process: it sends, it retries, it handles what comes in."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, cast

from buttdial_sync.agent import context_of
from buttdial_sync.client import Client
from buttdial_sync.connection import Connection
from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.inbound.inbox import Inbox
from buttdial_sync.inbound.native import parse_waiting
from buttdial_sync.listening.inbox_worker import HandingOver, drain_inbox
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.inbound import DeliveryReceipt, InboundMessage
from buttdial_sync.models.inbox import WaitingMessage
from buttdial_sync.models.sending import SendResult
from buttdial_sync.retry.loop import RetryLoop
from buttdial_sync.retry.outbox import Outbox
from buttdial_sync.retry.table import TableRepository
from buttdial_sync.stores.store import Store
from buttdial_sync.testing.simulate import message_payload
from tests.simulation.network import Network, Server
from tests.simulation.plan import CLAIM, LEASE, TIMEOUT, Job
from tests.simulation.process import Process
from tests.simulation.storing import OutboxPointStore, PointLog, PointStore, StoreDownError
from tests.simulation.world import name_of

AGENTS = {"agent-1": "token-1", "agent-2": "token-2"}
_FIRST_PAUSE = 5.0
_ATTEMPTS = 8
_TRIES_TO_ENQUEUE = 3
# A machine that is busy may be slow between the look at the clock and the send.
_SLOWNESS = timedelta(seconds=10)
_RECIPIENT = "+14155550123"


class AbandonedConnection(Connection):
    """The connection of a process that may be killed."""

    def __del__(self) -> None:
        """Do nothing: a process that was killed closes nothing, and the server sees it later."""


class NotingClient(Client):
    """A client that notes what it said, to compare it with what became of the row."""

    process: Process

    def send_message(self, *args: Any, **kwargs: Any) -> SendResult:
        text, notes = str(kwargs.get("body")), self.process.world.notes
        expires = notes.expires.get(text)
        if expires is not None and self.process.clock() > expires + _SLOWNESS:
            self.process.tell(f"sends {text} too late")
            notes.late.add(text)
        result = super().send_message(*args, **kwargs)
        self.process.tell(f"knows: {text} is {result.outcome} ({result.error})")
        notes.answers[text].append((self.process, result))
        return result


class Host:
    """
    One process of the host's program.

    Args:
        process: Where it runs.
        server: Where it sends.
    """

    def __init__(self, process: Process, server: Server) -> None:
        self.process = process
        self._notes = process.world.notes
        plan, dice = process.world.plan, process.world.dice
        self._client = NotingClient(
            "https://butt-dial.test",
            agent_id="agent-1",
            agent_token=AGENTS["agent-1"],
            timeout=TIMEOUT,
            connect_timeout=TIMEOUT / 2,
            token_in=server.fake.core.dialect.token_in,
            send_via=plan.send_via,
            transport_adapter=Network(process, server),
            clock=process.monotonic,
            random_fraction=dice.random,
            proxies={},
        )
        self._client.process = process
        context_of(self._client).connection.__class__ = AbandonedConnection
        repository = TableRepository(
            cast("Store", OutboxPointStore(process.world.outbox_rows, process)),
            lease=LEASE,
            early_receipts=cast("Store", PointStore(process.world.receipt_rows, process)),
        )
        self._outbox = Outbox(
            self._client,
            repository,
            backoff=_backoff,
            max_retries=_ATTEMPTS,
            on_unknown=plan.on_unknown,
            clock=process.clock,
            sleep=process.sleep,
            random_fraction=dice.random,
        )
        self._loop = RetryLoop(
            repository,
            self._client,
            backoff=_backoff,
            batch_size=3,
            workers=plan.workers,
            on_dead_letter=self._told,
            on_unknown=plan.on_unknown,
            token_for=AGENTS.get,
            clock=process.clock,
            monotonic=process.monotonic,
            random_fraction=dice.random,
        )
        self._inbox = Inbox(
            cast("Store", PointStore(process.world.inbox_rows, process)), lease=CLAIM
        )
        given: Any = {
            "allow_unsigned": ["butt-dial"],
            "delivery_log": PointLog(process.world.deliveries, process),
            "lease": CLAIM,
        }
        self._at_once = InboundHandler(**given)
        self._inbound = InboundHandler(**given, inbox=self._inbox, deferred=True)
        for inbound in (self._at_once, self._inbound):
            inbound.on_message(self._handle)
            inbound.on_delivery_receipt(self._record)

    def run(self) -> None:
        """Run until the end of the process."""
        world = self.process.world
        interval = 0.0
        if world.plan.way != "start":
            self.process.spawn(self._retry, "retries")
        how = HandingOver(
            inbox=self._inbox,
            inbound=self._inbound,
            workers=world.plan.workers,
            on_undelivered=self._undelivered,
        )
        while True:
            if world.plan.way == "start" and interval != world.interval:
                interval = world.interval
                self._loop.stop()
                self._loop.start(interval=interval, warmup=0)
            if world.inbox_rows.count("pending"):
                try:
                    drain_inbox(how)
                except StoreDownError:
                    self.process.tell("the inbox cannot be read")
            self.process.sleep(world.interval)

    def _retry(self) -> None:
        world = self.process.world
        once = self._loop.run_once if world.plan.way == "run_once" else self._loop.drain
        while True:
            # Looking for nothing is most of what a loop does, and shows nothing here.
            if world.outbox_rows.count("pending"):
                once()
            self.process.sleep(world.interval)

    def send(self, job: Job) -> None:
        """Send or enqueue a message; what was not enqueued is tried again with its key."""
        agent = self.process.world.dice.choice(list(AGENTS))
        about: Any = {"agent_id": agent, "agent_token": AGENTS[agent], "channel": "sms"}
        try:
            if job.kind == "send":
                result = self._outbox.send_message(_RECIPIENT, job.text, **about)
                if not result.queued:
                    self._notes.told_by_result.add(job.text)
                return
        except StoreDownError:
            # The host was told that nothing was sent.
            self.process.tell(f"{job.text}: the outbox failed")
            return
        about |= {"idempotency_key": f"key-{job.text}", "ordering_key": job.ordering_key}
        about["priority"] = job.priority
        if job.expires_in is not None:
            expires = self.process.clock() + timedelta(seconds=job.expires_in)
            about["expires_at"] = self._notes.expires[job.text] = expires
        for _ in range(_TRIES_TO_ENQUEUE):
            try:
                message = self._outbox.enqueue(_RECIPIENT, job.text, **about)
            except StoreDownError:  # noqa: PERF203 - a few rounds
                self.process.sleep(1.0)
            else:
                self._notes.enqueued[job.text] = message.id
                return

    def receive(self, job: Job) -> int:
        """Answer the webhook that brings a message or a receipt."""
        payload: dict[str, Any] = {"messageId": job.text, "channel": "sms"}
        if job.kind == "receipt":
            payload |= {"status": job.status, "idempotencyKey": job.idempotency_key}
        else:
            payload = message_payload(1, "hosted", body=job.text, **payload, **{"from": job.sender})
        inbound = self._inbound if job.is_deferred else self._at_once
        headers = {"Content-Type": "application/json"}
        return inbound.handle("butt-dial", json.dumps(payload).encode(), headers).status

    def take_in(self, job: Job) -> None:
        """Write a message to the inbox that was read from the server's waiting queue."""
        waiting = WaitingMessage(
            id=f"queue-{job.text}",
            external_id=job.text,
            channel="sms",
            from_=job.sender,
            body=job.text,
        )
        try:
            self._inbox.write(parse_waiting(waiting))
        except StoreDownError:
            self.process.tell(f"{job.text} could not be taken in")
            return
        self._notes.taken_in.add(job.known_as)

    def _told(self, message: FailedMessage, reason: str) -> None:
        self.process.tell(f"is told that {message.body} is dead: {reason}")
        self._notes.told_dead[message.id] += 1

    def _handle(self, message: InboundMessage) -> None:
        notes, world = self._notes, self.process.world
        self.process.point(f"handles {message.text}")
        notes.handling[message.sender] += 1
        if notes.handling[message.sender] > 1:
            notes.overlaps.append(message.sender)
        try:
            if world.strike("handler", ("failing handler",)):
                notes.failed.add(message.text)
                raise OSError("one time in some")
            if world.strike("handler", ("slow handler",)):
                self.process.sleep(world.dice.uniform(1.0, 2 * LEASE))
            notes.handled[message.text].append(self.process)
        finally:
            notes.handling[message.sender] -= 1
        self.process.point(f"has handled {message.text}")

    def _record(self, receipt: DeliveryReceipt) -> None:
        try:
            is_found = self._outbox.record_receipt(receipt)
        except StoreDownError:
            self._notes.failed.add(name_of(receipt))
            raise
        self.process.tell(f"{receipt.message_sid} {receipt.status}: {is_found}")
        self._notes.receipts[receipt.message_sid].add(receipt.status)
        self._notes.handled[name_of(receipt)].append(self.process)

    def _undelivered(self, event: object) -> None:
        assert isinstance(event, InboundMessage | DeliveryReceipt)
        name = name_of(event)
        self.process.tell(f"is told that {name} is undelivered")
        self._notes.undelivered.add(name)


def _backoff(attempt: int) -> float:
    return float(min(_FIRST_PAUSE * 2**attempt, 120.0))
