"""Who gets what comes in for an agent: what waits for it, what is pushed, the end of its stream."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from buttdial_sync.calls.tool_call import AgentContext
from buttdial_sync.errors import ConfigError
from buttdial_sync.models.inbox import WaitingMessage, WaitingMessages
from buttdial_sync.tools.waiting import drain_queue, take_page
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.fork import start_anew_if_forked
from buttdial_sync.transport.rest import Rest
from buttdial_sync.transport.session import McpSession

logger = logging.getLogger("buttdial_sync")

_MESSAGE = "notifications/message"
_NOT_DRAINED = (
    "%d messages waited. Opening a stream on the open-source server marks those that wait as "
    "delivered without delivering them: give the client before_open, which gets them first"
)

BeforeOpen = Callable[[Sequence[WaitingMessage]], None]


class Subscriber(Protocol):
    """
    Takes in what comes for one agent.

    It is called in the thread that opens a stream and in the one that reads it: it may only queue.
    """

    def opening(self) -> None:
        """A stream is about to be opened; what waits is handed over first."""

    def waiting(self, messages: Sequence[WaitingMessage]) -> None:
        """Messages that waited. They are no longer on the server."""

    def pushed(self, notification: Mapping[str, Any]) -> None:
        """Something was pushed."""

    def ended(self) -> None:
        """The stream ended. All that was pushed on it was handed over before."""


class Subscriptions:
    """
    One subscriber for each token, and the host's ``before_open``. Safe to share between threads.

    Args:
        rest: Reads the waiting queue.
        before_open: The host's; it gets the messages of all agents.
    """

    def __init__(self, rest: Rest, before_open: BeforeOpen | None) -> None:
        self._rest = rest
        self._before_open = before_open
        # Changed by single atomic operations only, so that a fork finds no lock held.
        self._subscribers: dict[str, Subscriber] = {}
        self._unheard: set[str] = set()
        # Taking the next of an iterator is atomic: of two threads, one gets the warning.
        self._warnings = iter((_NOT_DRAINED,) if before_open is None else ())

    def add(self, token: str, subscriber: Subscriber) -> None:
        """
        Let a subscriber have what comes for a token.

        Raises:
            ConfigError: Another one has it.
        """
        if self._subscribers.setdefault(token, subscriber) is not subscriber:
            raise ConfigError(
                "another listener of this client listens for this agent",
                remediation="Run one listener for each agent.",
            )

    def remove(self, token: str) -> None:
        """Let nobody have it any more."""
        self._subscribers.pop(token, None)

    def before_open(self, token: str, deadline: Deadline) -> None:
        """
        Drain the waiting queue before a stream is opened, if anybody wants that.

        Raises:
            ButtDialError: The queue could not be read.
        """
        subscriber = self._subscribers.get(token)
        if subscriber is not None:
            subscriber.opening()
        if subscriber is not None or self._before_open is not None:
            self.drain(token, deadline)

    def drain(self, token: str, deadline: Deadline) -> None:
        """
        Read the waiting queue until it is empty.

        Raises:
            ButtDialError: The queue could not be read.
        """
        drain_queue(self._rest, token, deadline, partial(self._waiting, token))

    def take_page(self, token: str, deadline: Deadline) -> bool:
        """
        Read one page of the waiting queue; return whether more may wait.

        Raises:
            ButtDialError: The queue could not be read.
        """
        return take_page(self._rest, token, deadline, partial(self._waiting, token))

    def seen(self, waiting: WaitingMessages) -> WaitingMessages:
        """Return what was read; warn once that it could get lost, unless the client drains it."""
        warning = next(self._warnings, None) if waiting.messages else None
        if warning is not None:
            logger.warning(warning, len(waiting.messages))
        return waiting

    def pushed(self, token: str, notification: Mapping[str, Any]) -> None:
        """Pass on what was pushed on a stream; say once for each agent that nobody wants it."""
        subscriber = self._subscribers.get(token)
        if subscriber is not None:
            subscriber.pushed(notification)
        elif notification.get("method") == _MESSAGE and token not in self._unheard:
            self._unheard.add(token)
            logger.warning(
                "the server pushed a message, and nobody listens for this agent: it is dropped, "
                "and so are later ones. Run a Listener, or give the agent a callback URL"
            )

    def ended(self, token: str) -> None:
        """Pass on that a stream ended."""
        subscriber = self._subscribers.get(token)
        if subscriber is not None:
            subscriber.ended()

    def _waiting(self, token: str, messages: Sequence[WaitingMessage]) -> None:
        subscriber = self._subscribers.get(token)
        if subscriber is not None:
            subscriber.waiting(messages)
        if self._before_open is not None:
            self._before_open(messages)


class Subscription:
    """
    A subscriber's way to the session of its agent. Ends with :meth:`cancel`.

    Args:
        agent: Who listens.
        subscriptions: The client's.
        subscriber: Takes in what comes.

    Raises:
        ConfigError: There is no token, or another subscriber has it.
    """

    def __init__(
        self, agent: AgentContext, subscriptions: Subscriptions, subscriber: Subscriber
    ) -> None:
        start_anew_if_forked()
        self._connection = agent.connection
        self._subscriptions = subscriptions
        self._token = agent.token_or(None)
        subscriptions.add(self._token, subscriber)

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._connection.closed

    @contextmanager
    def session(self) -> Iterator[McpSession]:
        """
        Lend the client's session, opened if there is none. It is not given up while it is lent.

        Raises:
            ClientClosedError: The client was closed.
            ButtDialError: There is no session to be had.
        """
        with self._connection.pool.session(self._token, self._connection.deadline()) as session:
            yield session

    def ping(self, session: McpSession) -> None:
        """
        Ask for a sign of life.

        Raises:
            ButtDialError: There was none.
        """
        session.ping(self._connection.deadline())

    def drain(self) -> None:
        """
        Read the waiting queue until it is empty.

        Raises:
            ButtDialError: It could not be read.
        """
        self._subscriptions.drain(self._token, self._connection.deadline())

    def take_page(self) -> bool:
        """
        Read one page of the waiting queue; return whether more may wait.

        Raises:
            ButtDialError: It could not be read.
        """
        return self._subscriptions.take_page(self._token, self._connection.deadline())

    def leave(self) -> None:
        """Close the session, so that the server keeps what comes now, and take in nothing more."""
        self._connection.pool.drop(self._token)
        self.cancel()

    def cancel(self) -> None:
        """Take in nothing more. Idempotent."""
        self._subscriptions.remove(self._token)
