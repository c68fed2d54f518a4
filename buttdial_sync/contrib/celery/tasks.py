"""The tasks: send one message, sweep for due messages, handle an inbound event."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

from celery import Celery
from celery.exceptions import Reject
from celery.result import EagerResult

from buttdial_sync.client import Client
from buttdial_sync.contrib.celery.publishing import BrokerUnavailableError, Publisher
from buttdial_sync.contrib.shared import OnePerProcess
from buttdial_sync.errors import ConfigError
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.inbound.serialized import as_arguments, as_event
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.retry.loop import RetryLoop
from buttdial_sync.retry.report import STEPS, RetryReport
from buttdial_sync.retry.repository import FailedMessageRepository

logger = logging.getLogger("buttdial_sync.celery")

PREFIX = "buttdial_sync"
_CLOCKS_DIFFER = timedelta(seconds=5)
_RETRIES = 10
_MOST_RETRIES = 20
_LONGEST_PAUSE = 600.0
# Celery would print an event's text and sender: in its log, in its events, and so in Flower.
_HIDDEN: Mapping[str, str] = {"argsrepr": "(an inbound event)"}


class StoredMessages(FailedMessageRepository, Protocol):
    """A repository that also finds one message; those that are shipped do."""

    def get(self, msg_id: str) -> FailedMessage | None:
        """Return a message, or None when there is none with this id."""
        ...


class HandlerFailedError(Exception):
    """An inbound event was not handled. Where a handler raised, its own error is in the log."""


class ButtDialTasks:
    """
    The tasks of one Celery application. Safe to share between threads, and across forks.

    The database's rows are the memory, the broker only carries ids: a task that is lost, repeated
    or late changes nothing about what :class:`~buttdial_sync.RetryLoop` promises. So the tasks do
    without Celery's own retries and results, and the broker may be emptied at any time.

    ``sweep`` is put into the application's beat schedule; run one ``celery beat``.

    Args:
        app: The application.
        client: Makes the client of a process, on first use.
        repository: Makes its repository, on first use; in a forked worker, after the fork.
        inbound: Has the handlers that ``handle_inbound`` calls, and a delivery log that all
            workers share. Without it there is no such task.
        interval: Seconds between sweeps.
        batch_size: How many messages a sweep claims at once.
        at_most: How many messages one sweep hands out.
        publish_timeout: How long to wait for the broker's connection, and for its answer, when a
            task is handed to it, in seconds.
        **retry: Further arguments of :class:`~buttdial_sync.RetryLoop`, such as ``token_for``.

    Attributes:
        deliver: Task ``buttdial_sync.deliver``; use :meth:`deliver_soon`.
        sweep: Task ``buttdial_sync.sweep``: claims what is due and hands it out. Safe to repeat.
        handle_inbound: Task ``buttdial_sync.handle_inbound``, or None; use :meth:`forward`.
    """

    def __init__(
        self,
        app: Celery,
        *,
        client: Callable[[], Client],
        repository: Callable[[], StoredMessages],
        inbound: InboundHandler | None = None,
        interval: float = 60.0,
        batch_size: int = 100,
        at_most: int = 10_000,
        publish_timeout: float = 2.0,
        **retry: Any,
    ) -> None:
        self._client = OnePerProcess(client, lambda made: made.close(timeout=0.0))
        # A forked child has its own, because database connections cannot be shared.
        self._repository = OnePerProcess(repository, _close, inherited=False)
        # Never started: it sends single messages, and remembers refused tokens and limits.
        self._loop = OnePerProcess(
            lambda: RetryLoop(self._repository.get(), self._client.get(), **retry), inherited=False
        )
        self._publisher = Publisher(app, publish_timeout)
        self._app = app
        self._inbound = inbound
        self._batch_size = batch_size
        self._at_most = at_most
        self.deliver, self.sweep = self._outgoing_tasks(app)
        self.handle_inbound = None if inbound is None else self._inbound_task(app)
        app.on_after_finalize.connect(self._schedule, weak=False)
        self._interval = interval

    def deliver_soon(self, message: FailedMessage) -> bool:
        """
        Ask for a message to be sent, after its row was committed.

        For messages of :meth:`~buttdial_sync.Outbox.enqueue`. Asking twice sends the message once.
        It waits for the broker for ``publish_timeout``, once in half a minute; it does not raise
        because of it.

        Args:
            message: As it was written or fetched.

        Returns:
            Whether the broker took it. Otherwise a sweep hands it out.
        """
        # When its lease is over, the next sweep hands it out again.
        lease = self._repository.get().lease
        arguments = (message.id, message.retry_count)
        try:
            self._publisher.publish(self.deliver, arguments, expires=lease)
        except BrokerUnavailableError as error:
            logger.warning("%s: a sweep will hand out message %s", error, message.id)
            return False
        return True

    def forward(self, inbound: InboundHandler) -> None:
        """
        Have the handler of the webhooks pass its events on to ``handle_inbound``.

        A webhook is answered once the broker has the event, and with an error where it does not
        take it within ``publish_timeout``. Verified accounts are not passed on:
        they hold a token, which must not reach a broker; handle them where they arrive.

        Args:
            inbound: Checks the signatures; another one than that of the tasks.

        Raises:
            ConfigError: The tasks have no handlers, or this is their own.
        """
        if self._inbound is None or self._inbound is inbound:
            raise ConfigError(
                "the tasks need an InboundHandler of their own",
                remediation="Give ButtDialTasks the one that has the handlers, and forward another "
                "one, which answers the webhooks.",
            )
        inbound.on_message(self._pass_on)
        inbound.on_delivery_receipt(self._pass_on)
        inbound.on_status_update(self._pass_on)

    def _schedule(self, sender: Celery, **_: Any) -> None:
        sender.add_periodic_task(
            self._interval, self.sweep.s(), name=f"{PREFIX}.sweep", expires=self._interval
        )

    def _outgoing_tasks(self, app: Celery) -> tuple[Any, Any]:
        # Acknowledged late: if a worker dies, the task is delivered again, and the row shows what
        # happened to the message.
        @_task(app, "deliver", acks_late=True, reject_on_worker_lost=True)
        def deliver(msg_id: str, retry_count: int) -> str:
            return self._deliver(msg_id, retry_count)

        @_task(app, "sweep")
        def sweep() -> int:
            return self._sweep()

        return deliver, sweep

    def _inbound_task(self, app: Celery) -> Any:
        # Acknowledged late, and not if its worker is killed, also by a time limit: its webhook was
        # answered, so the broker has the only copy.
        late = {"acks_late": True, "reject_on_worker_lost": True, "acks_on_timeout": False}

        @_task(app, "handle_inbound", bind=True, **late)
        def handle_inbound(task: Any, kind: str, fields: dict[str, Any]) -> None:
            self._handle_inbound(task, kind, fields)

        return handle_inbound

    def _deliver(self, msg_id: str, retry_count: int) -> str:
        message = self._repository.get().get(msg_id)
        if message is None or not _is_waiting(message, retry_count):
            return "taken"
        report = self._loop.get().run_message(message)
        if report.delivered or report.dead:
            self._announce_next(message)
        return _word(report)

    def _announce_next(self, settled: FailedMessage) -> None:
        """Ask for the message that waited for this one, so that not each waits for a sweep."""
        find_first = getattr(self._repository.get(), "first_in_order", None)
        # Tasks that run eagerly run inside of each other: the sweep comes to the next one anyway.
        if settled.ordering_key is None or find_first is None or self._app.conf.task_always_eager:
            return
        following = find_first(settled)
        # A leased one is on its way: somebody else has asked for it.
        if following is not None and following.leased_until is None:
            self.deliver_soon(following)

    def _sweep(self) -> int:
        repository = self._repository.get()
        handed_out = 0
        for due in self._loop.get().fetch_batches(self._batch_size, self._at_most):
            for index, message in enumerate(due):
                if message.unreadable is not None:
                    self._loop.get().run_message(message)  # tells that it is given up
                elif not self.deliver_soon(message):
                    # For the next sweep; where they cannot be put back, when their leases end.
                    release = getattr(repository, "release", None)
                    if release is not None:
                        release(due[index:])
                    return handed_out
                handed_out += 1
        return handed_out

    def _pass_on(self, event: InboundEvent) -> None:
        assert self.handle_inbound is not None  # noqa: S101 - forward() made sure of it
        result = self._publisher.publish(self.handle_inbound, as_arguments(event), **_HIDDEN)
        if isinstance(result, EagerResult):
            result.get()  # raises what the task raised

    def _handle_inbound(self, task: Any, kind: str, fields: dict[str, Any]) -> None:
        inbound, request = self._inbound, task.request
        assert inbound is not None  # noqa: S101 - the task exists only then
        pause = min(2.0**request.retries, _LONGEST_PAUSE)
        if (request.delivery_info or {}).get("redelivered"):
            # Its worker was killed, perhaps by this event. Celery does not count that, and an event
            # that kills each worker would come again without an end. So it is counted as a retry;
            # more of these are allowed, because a worker that stops returns what it has not begun.
            why, most = "its worker has gone", _MOST_RETRIES
        else:
            # The task's id stays the same when it is tried again: by it the handlers that have had
            # the event are known, if it has no id of its own.
            keys = () if request.id is None else (f"task:{request.id}",)
            report = inbound.dispatch_event(as_event(kind, fields), keys)
            if report.failed:
                why, most = "a handler failed", _RETRIES
            elif report.busy:
                why, most = "another worker is busy with it", _MOST_RETRIES
                # Its claim has ended then. So this costs one retry; the others are for failures.
                pause = inbound.lease
            else:
                return
        failure = HandlerFailedError(f"{kind}: {why}")
        if request.is_eager:
            raise failure
        try:
            raise task.retry(exc=failure, countdown=pause, max_retries=most, **_HIDDEN)
        except Reject as refused:
            # The broker did not take it. Celery would throw away what it has, the only copy.
            raise Reject(refused.reason, requeue=True) from None


def _task(app: Celery, name: str, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    made: Callable[[Callable[..., Any]], Any] = app.task(
        name=f"{PREFIX}.{name}", shared=False, ignore_result=True, **options
    )
    return made


def _close(repository: object) -> None:
    close = getattr(repository, "close", None)
    if close is not None:
        close()


def _is_waiting(message: FailedMessage, retry_count: int) -> bool:
    """Whether nobody has tried, settled or postponed the message since it was handed out."""
    due = message.next_retry_at
    return (
        message.status == "pending"
        and message.retry_count == retry_count
        and (due is None or due <= utc_now() + _CLOCKS_DIFFER)
    )


def _word(report: RetryReport) -> str:
    return next((step for step in STEPS if getattr(report, step)), "taken")
