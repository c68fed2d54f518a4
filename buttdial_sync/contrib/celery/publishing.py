"""Handing tasks to the broker within a bounded time, from a web request too."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from celery import Celery
from celery.result import AsyncResult
from kombu.exceptions import KombuError, LimitExceeded
from kombu.messaging import Producer
from kombu.pools import ProducerPool

from buttdial_sync.contrib.shared import OnePerProcess
from buttdial_sync.transport.deadline import check_seconds
from buttdial_sync.transport.fork import reset_after_fork

logger = logging.getLogger("buttdial_sync.celery")

_REST = 30.0
_CONNECTIONS = 10
_REDIS = frozenset({"redis", "rediss", "sentinel"})
_AMQP = frozenset({"amqp", "amqps", "pyamqp"})


class BrokerUnavailableError(Exception):
    """The broker did not take a task, or rests because it did not take the one before."""


class Publisher:
    """
    Publishes tasks over connections of its own. Safe to share between threads and across forks.

    Celery would try again while a web request waits, and wait without an end for a broker that
    accepts and stays silent. Here a task is tried once. After a failure the broker rests for half a
    minute: meanwhile nobody waits for it.

    A broker that speaks AMQP, such as RabbitMQ, has to confirm each task. Without that it would
    count as taken when it is in the socket. An application that sets ``confirm_publish`` in
    ``broker_transport_options`` has its own way.

    Args:
        app: The application.
        timeout: How long to wait for a connection, and for each answer of the broker, in seconds.
        monotonic: A monotonic clock, in seconds.

    Raises:
        ArgumentValueError: ``timeout`` is not a number of seconds.
    """

    def __init__(
        self, app: Celery, timeout: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._timeout = check_seconds(timeout, "publish_timeout")
        self._monotonic = monotonic
        self._producers = OnePerProcess(self._make_producers, inherited=False)
        self._reset_after_fork()
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: a new lock, and a broker that has not failed yet."""
        self._lock = threading.Lock()
        self._rests_until: float | None = None

    def publish(self, task: Any, arguments: Sequence[Any], **options: Any) -> AsyncResult:
        """
        Hand a task to the broker, or run it where the application runs tasks eagerly.

        Args:
            task: The task.
            arguments: Its arguments.
            **options: Options of ``apply_async``.

        Returns:
            The result of ``apply_async``: an ``EagerResult`` if the task has run.

        Raises:
            BrokerUnavailableError: The broker did not take it, or rests.
        """
        if self._app.conf.task_always_eager:
            return task.apply_async(arguments, **options)
        self._check_rest()
        producers = self._producers.get()
        connection = producers.connections.connection
        not_taken = (KombuError, LimitExceeded, OSError)
        not_taken += connection.connection_errors + connection.channel_errors
        try:
            with (
                producers.acquire(block=True, timeout=self._timeout) as producer,  # type: ignore[no-untyped-call]
                _hanging_up(producer, not_taken),
            ):
                result = task.apply_async(arguments, producer=producer, retry=False, **options)
        except not_taken as error:
            self._rests_until = self._monotonic() + _REST
            reason = str(error) or repr(error.__cause__)
            raise BrokerUnavailableError(
                f"the broker did not take a task: {type(error).__name__}: {reason}"
            ) from error
        self._rests_until = None
        return result

    def _check_rest(self) -> None:
        with self._lock:
            now, until = self._monotonic(), self._rests_until
            if until is None:
                return
            if now < until:
                raise BrokerUnavailableError("the broker rests, because it did not take a task")
            # This call finds out whether it is back; the others do not wait with it.
            self._rests_until = now + _REST

    def _make_producers(self) -> ProducerPool:
        options = dict(self._app.conf.broker_transport_options or {})
        kind = self._app.connection_for_write().transport_cls
        if kind in _REDIS:
            options |= {"socket_timeout": self._timeout, "socket_connect_timeout": self._timeout}
        elif kind in _AMQP:
            options.setdefault("confirm_publish", True)
            options |= {"read_timeout": self._timeout, "write_timeout": self._timeout}
        connection = self._app.connection_for_write(
            connect_timeout=self._timeout, transport_options={**options, "max_retries": 0}
        )
        pool = connection.Pool(_CONNECTIONS)
        return ProducerPool(pool, limit=_CONNECTIONS)  # type: ignore[no-untyped-call]


@contextmanager
def _hanging_up(producer: Producer, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Close an AMQP connection on which a block failed without another word to the broker."""
    try:
        yield
    except errors:
        # The pool would say goodbye twice, and wait for two answers of a broker that hangs.
        if producer.connection.connected:
            collect = getattr(producer.connection.connection, "collect", None)
            if collect is not None:
                collect()
        raise
