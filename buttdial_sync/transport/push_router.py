"""Routing of what comes in for an agent: waiting and pushed messages, the end of its stream."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from buttdial_sync.errors import (
    ButtDialError,
    ConfigError,
    EndpointNotAvailable,
    InvalidRequestError,
    TransportError,
)
from buttdial_sync.models.converter import structure
from buttdial_sync.models.inbox import WaitingMessage, WaitingMessages
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.fork import reset_after_fork
from buttdial_sync.transport.rest import Rest
from buttdial_sync.transport.token_location import Location

logger = logging.getLogger("buttdial_sync")

WAITING_PATH = "/api/v1/waiting-messages"
PAGES_AT_MOST = 1000
_PAGE = 10
_MESSAGE = "notifications/message"
_NOT_DRAINED = (
    "a stream was opened with the token in the URL, and nobody read the waiting queue before: the "
    "open-source server marks what waits for the agent as delivered, without delivering it. Give "
    "the client before_open, run a Listener with an inbox, or send with send_via='rest'"
)

_warned: dict[str, object] = {}


class QueueKeeper(Protocol):
    """Keeps what opening a stream would throw away."""

    def opening(self) -> None:
        """
        A stream that empties the waiting queue is about to be opened.

        Raises:
            ButtDialError: Nothing can be kept now: nothing is read, and no stream is opened.
        """

    def waiting(self, messages: Sequence[WaitingMessage]) -> None:
        """
        Messages that waited. They are no longer on the server.

        Raises:
            ButtDialError: They could not be kept: nothing more is read, and no stream is opened.
        """


class PushSink(Protocol):
    """
    Receives what comes in for one agent.

    Its methods are called in the thread that opens a stream and in the one that reads it: they may
    only queue. But :meth:`waiting` may wait until a page is stored, before the next one is read.

    """

    agent_id: str | None
    """Whose messages these are, where that is known: a token may be an organization's."""

    page_size: int
    """How many waiting messages to read at once."""

    def opening(self) -> None:
        """A stream is about to be opened; what waits is handed over first."""

    def waiting(self, messages: Sequence[WaitingMessage], deadline: Deadline) -> None:
        """Messages that waited. They are no longer on the server."""

    def pushed(self, notification: Mapping[str, Any]) -> None:
        """Something was pushed."""

    def ended(self) -> None:
        """The stream ended. All that was pushed on it was handed over before."""


class PushRouter:
    """
    One sink for each token, and the host's ``before_open``. Safe to share between threads.

    Args:
        rest: Reads the waiting queue.
        before_open: The host's; it gets the messages of all agents.
        leaves_queue: Refuse to open a stream that would throw away what waits.
    """

    def __init__(
        self,
        rest: Rest,
        before_open: Callable[[Sequence[WaitingMessage]], object] | None,
        *,
        leaves_queue: bool = False,
    ) -> None:
        self._rest = rest
        self._before_open = before_open
        self._leaves_queue = leaves_queue
        self._keeper: QueueKeeper | None = None
        # Changed by single atomic operations only, so that a fork finds no lock held.
        self._sinks: dict[str, PushSink] = {}
        self._ending: dict[PushSink, str] = {}
        self._agent_ids: dict[str, str] = {}
        self._must_name_agent: set[str] = set()
        self._unheard: set[str] = set()
        self._reset_after_fork()
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: what the host could not take yet is for the parent to give again."""
        self._refused: dict[str, list[WaitingMessage]] = {}

    def name_agent(self, token: str, agent_id: str) -> None:
        """Keep which agent is meant by a token, which may be an organization's."""
        self._agent_ids[token] = agent_id

    def keep_waiting(self, keeper: QueueKeeper) -> None:
        """Give a keeper what waits, before a stream is opened that empties the queue."""
        self._keeper = keeper

    def add(self, token: str, sink: PushSink) -> None:
        """
        Route to a sink what comes in for a token.

        Raises:
            ConfigError: Another sink gets it already.
        """
        if self._sinks.setdefault(token, sink) is not sink:
            raise ConfigError(
                "another listener of this client listens for this agent",
                remediation="Run one listener for each agent.",
            )

    def retire(self, token: str, sink: PushSink) -> None:
        """Let another sink take over. Until then, or until it is removed, this one gets all."""
        self._ending[sink] = token  # first, so that there is a sink at every moment
        self._unregister(token, sink)

    def remove(self, token: str, sink: PushSink) -> None:
        """Route nothing more to a sink. Does nothing if it does not get the token's messages."""
        self._unregister(token, sink)
        self._ending.pop(sink, None)

    def _unregister(self, token: str, sink: PushSink) -> None:
        # Not atomic, but nobody else can be added while this sink is there.
        if self._sinks.get(token) is sink:
            del self._sinks[token]

    def _sink(self, token: str) -> PushSink | None:
        sink = self._sinks.get(token)
        if sink is not None:
            return sink
        return next((each for each, of in list(self._ending.items()) if of == token), None)

    def opening(self, token: str, location: Location, deadline: Deadline) -> None:
        """
        Drain the waiting queue before a stream is opened, if somebody takes what waits.

        Args:
            token: The agent's.
            location: Where it will be. A stream with the token in the header empties no queue.
            deadline: Until when.

        Raises:
            ButtDialError: The queue could not be read. The stream must not be opened then: on the
                open-source server that would empty the queue.
            ConfigError: Nobody takes what waits, and this router leaves it alone.
        """
        sink = self._sink(token)
        if sink is not None:
            sink.opening()
        keeper = self._keeper if location == "query" else None
        if keeper is not None:
            keeper.opening()
        if sink is not None or keeper is not None or self._before_open is not None:
            self._drain(token, sink, deadline)
        elif location == "query" and self._leaves_queue:
            raise ConfigError(
                "a stream with the token in the URL would empty the agent's waiting queue",
                remediation='Give the client before_open, or use one with send_via="stream".',
            )

    def takes_waiting(self, token: str) -> bool:
        """Whether somebody takes what waits for an agent before its stream is opened."""
        is_taken = self._keeper is not None or self._before_open is not None
        return is_taken or self._sink(token) is not None

    def opened(self, token: str, location: Location) -> None:
        """
        Warn, once in a process, if opening a stream emptied a queue that nobody had read.

        Args:
            token: The agent's.
            location: Where it was; only the open-source server wants it in the query.
        """
        if location == "header" or self.takes_waiting(token):
            return
        warning = object()  # of two threads, one finds its own
        if _warned.setdefault(_NOT_DRAINED, warning) is warning:
            logger.warning(_NOT_DRAINED)

    def drain(self, token: str, deadline: Deadline) -> int:
        """
        Read the waiting queue until it is empty.

        Returns:
            How many messages waited.

        Raises:
            ButtDialError: The queue could not be read.
        """
        return self._drain(token, self._sink(token), deadline)

    def _drain(self, token: str, sink: PushSink | None, deadline: Deadline) -> int:
        total = 0
        for _ in range(PAGES_AT_MOST):
            count, is_last = self._take_page(token, sink, deadline)
            total += count
            if is_last:
                break
        return total

    def take_page(self, token: str, deadline: Deadline) -> bool:
        """
        Read one page of the waiting queue, and pass it on. It is no longer on the server then.

        Returns:
            Whether more may wait.

        Raises:
            ButtDialError: The queue could not be read.
        """
        _, is_last = self._take_page(token, self._sink(token), deadline)
        return not is_last

    def _take_page(
        self, token: str, first: PushSink | None, deadline: Deadline
    ) -> tuple[int, bool]:
        # The sink for which the reading began may be removed meanwhile: it still keeps the page.
        self._tell_host(token, [])
        sink = self._sink(token) or first
        size = _PAGE if sink is None else sink.page_size
        agent_id = self._agent_ids.get(token) if sink is None else sink.agent_id
        messages = self._read_page(token, agent_id, deadline, size)
        sink = self._sink(token) or first
        if messages and sink is not None:
            sink.waiting(messages, deadline)
        if messages and self._keeper is not None:
            self._keeper.waiting(messages)
        self._tell_host(token, messages)
        return len(messages), len(messages) < size

    def _tell_host(self, token: str, messages: Sequence[WaitingMessage]) -> None:
        """
        Call ``before_open``, first with what it failed on before.

        Raises:
            TransportError: It failed. It gets these messages again, before others are read.
        """
        messages = [*self._refused.pop(token, ()), *messages]
        if not messages or self._before_open is None:
            return
        try:
            self._before_open(messages)
        except BaseException as error:
            self._keep_refused(token, messages)
            if not isinstance(error, Exception):
                raise
            logger.exception("before_open failed with %d messages", len(messages))
            raise TransportError(
                f"before_open failed with {len(messages)} messages: {type(error).__name__}",
                remediation="See the log. Until it works, nothing is read and no stream opened.",
            ) from None

    def _keep_refused(self, token: str, messages: list[WaitingMessage]) -> None:
        # A list that is kept is not changed: another thread may be taking it away.
        while self._refused.setdefault(token, messages) is not messages:
            messages = [*self._refused.pop(token, ()), *messages]

    def pushed(self, token: str, notification: Mapping[str, Any]) -> None:
        """Pass on what was pushed on a stream; warn once for each agent if nobody listens."""
        sink = self._sink(token)
        if sink is not None:
            sink.pushed(notification)
        elif notification.get("method") == _MESSAGE and token not in self._unheard:
            self._unheard.add(token)
            logger.warning(
                "the server pushed a message, and nobody listens for this agent: it is dropped, "
                "and so are later ones. Run a Listener, or give the agent a callback URL"
            )

    def ended(self, token: str) -> None:
        """Pass on that a stream ended."""
        sink = self._sink(token)
        if sink is not None:
            sink.ended()

    def _read_page(
        self, token: str, agent_id: str | None, deadline: Deadline, size: int
    ) -> Sequence[WaitingMessage]:
        try:
            answer = self._get_page(token, agent_id, deadline, size)
        except EndpointNotAvailable:
            return ()
        except ButtDialError as error:
            if error.outcome == "unknown":
                logger.error("the answer with the waiting messages was lost, and so are they")  # noqa: TRY400
            raise
        return structure(answer, WaitingMessages, source=WAITING_PATH).messages

    def _get_page(self, token: str, agent_id: str | None, deadline: Deadline, size: int) -> object:
        query = {"limit": str(size)}
        if agent_id is not None and token in self._must_name_agent:
            query["agentId"] = agent_id
        try:
            return self._rest.call("GET", WAITING_PATH, deadline, credential=token, query=query)
        except InvalidRequestError as refusal:
            is_for_lack_of_id = refusal.code == "AGENT_ID_REQUIRED" and "agentId" not in query
            if agent_id is None or not is_for_lack_of_id:
                raise
        # A token of an organization. It was refused, so no message was handed out.
        self._must_name_agent.add(token)
        return self._get_page(token, agent_id, deadline, size)


def forget_warnings() -> None:
    """Forget what this process was warned of, for tests."""
    _warned.clear()
