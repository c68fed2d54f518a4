"""One run of a listener: open the stream, hand over what comes, open it again."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from functools import partial

import attrs

from buttdial_sync.calls.tool_call import AgentContext
from buttdial_sync.errors import (
    AuthError,
    AuthLockedOutError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    RateLimitError,
    ToolError,
)
from buttdial_sync.inbound.dispatch import ends_process
from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.listening.inbound_queue import InboundQueue, QueuedEvent
from buttdial_sync.listening.inbox_sink import InboxSink, InboxWriter
from buttdial_sync.listening.inbox_worker import HandingOver, InboxWorkers
from buttdial_sync.listening.pauses import WHILE_BUSY, exponential
from buttdial_sync.listening.request_budget import budget_of
from buttdial_sync.models.converter import structure
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.models.profile import AgentProfile
from buttdial_sync.transport.push_router import PAGES_AT_MOST
from buttdial_sync.transport.session import McpSession
from buttdial_sync.transport.signals import wait_for

logger = logging.getLogger("buttdial_sync.inbound")

_SECONDS_TO_END = 10.0
# Also when the handlers have used up all the time: what has arrived here must not be dropped.
_SECONDS_TO_TAKE_IN = 1.0
_ME = "/api/v1/agents/me"
_LATE = "buttdial-sync-late"
# After a stream that lived for so many seconds, the pauses start again with the first one.
_GOOD_AFTER = 10.0


@attrs.frozen(kw_only=True)
class ListenerOptions:
    """The options of all runs of a listener; see :class:`~buttdial_sync.Listener`."""

    handing_over: HandingOver | None
    page_size: int
    inbound: InboundHandler
    on_undelivered: Callable[[InboundEvent], object] | None
    max_attempts: int
    longest_pause: float
    idle_ping: float
    poll_every: float
    polls_per_minute: float
    clock: Callable[[], float]
    sleep: Callable[[float], object] | None
    random_fraction: Callable[[], float]


def _is_final(error: ButtDialError) -> bool:
    """Whether an error ends a listener; a lockout of the address passes by itself."""
    if isinstance(error, AuthLockedOutError):
        return False
    return isinstance(error, AuthError | ClientClosedError | ConfigError)


class StreamRunner:
    """
    One run of a listener. One thread calls :meth:`run` or :meth:`poll`, once.

    Any thread may read the attributes and call the other methods.

    Args:
        agent: The agent that listens.
        options: The options of the listener.

    Attributes:
        connected: Whether the stream is open and what waited was read.
        reconnects: How often the stream had to be opened again, or could not be opened.
        error: The error that ended :meth:`run`, or None.

    Raises:
        ConfigError: There is no token, or another listener listens for the agent.
    """

    def __init__(self, agent: AgentContext, options: ListenerOptions) -> None:
        self.connected = False
        self.reconnects = 0
        self._handed_over = 0
        self.error: ButtDialError | None = None
        self._options = options
        self._connection = agent.connection
        self._token = agent.token_or(None)
        self._session: McpSession | None = None
        self._polls = False
        self._workers: InboxWorkers | None = None
        self._queue: InboundQueue | InboxSink
        if options.handing_over is None:
            self._queue = InboundQueue(self._take_late, agent.agent_id, options.page_size)
        else:
            self._workers = InboxWorkers(options.handing_over, options.sleep)
            self._writer = InboxWriter(
                options.handing_over.inbox, self._workers.wake, self._take_late, options.sleep
            )
            self._queue = InboxSink(self._writer, agent.agent_id, options.page_size)
        self._budget = budget_of(self._connection.origin, options.polls_per_minute)
        self._poll_at = math.inf
        self._turn: float | None = None
        self._is_said = False
        self._short_streams = 0
        self._thread_id: int | None = None
        self._stopping = threading.Event()
        self._stop_at: float | None = None
        self._ended = threading.Event()
        self._sleep = options.sleep or partial(wait_for, self._stopping.wait)
        # In the constructor, so that a second listener for the agent is refused before its thread
        # starts.
        self._connection.router.add(self._token, self._queue)

    @property
    def handed_over(self) -> int:
        """How many events the handlers got; repetitions do not count."""
        return self._handed_over + (self._workers.handled if self._workers else 0)

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self._ended.is_set()

    def run(self) -> None:
        """
        Listen until :meth:`stop` is called or the client is closed.

        Raises:
            AuthError: The token was refused.
            ConfigError: A setting is wrong.
            RuntimeError: No thread can be started.
        """
        self._thread_id = threading.get_ident()
        try:
            if self._workers is not None:
                self._writer.start()
                self._workers.start()
            self._learn_agent_id()
            self._keep_listening()
        except ClientClosedError:
            logger.info("the client was closed; the listener ends")
        except ButtDialError as error:
            self.error = error
            raise
        except BaseException:  # the process ends: no more handlers
            self._stop_at = self._options.clock()
            raise
        finally:
            self._stopping.set()  # from here on one attempt for each event
            self._finish()

    def poll(self) -> None:
        """
        Hand over what waits, once, without opening a stream.

        Raises:
            ButtDialError: The queue could not be read. What was read before is handed over.
        """
        self._thread_id, self._polls = threading.get_ident(), True
        try:
            if self._workers is not None:
                self._writer.write_here()
                self._writer.start()  # for the pages that other threads read
            try:
                self._dispatch_pages()
            finally:
                if self._workers is not None:
                    self._workers.drain()
        except ButtDialError:
            raise
        except BaseException:  # the process ends: no more handlers
            self._stop_at = self._options.clock()
            raise
        finally:
            self._finish()

    def stop(self, timeout: float) -> bool:
        """
        Tell the run to end, and wait for that.

        Args:
            timeout: How long to wait, in seconds. What is not handed over by then is given up.

        Returns:
            Whether it has ended.
        """
        self._stop_at = self._options.clock() + timeout
        self._stopping.set()
        self._queue.wake()
        is_own_thread = self._thread_id == threading.get_ident()
        if self._workers is not None:
            self._workers.tell_to_stop()
            is_own_thread = is_own_thread or self._workers.is_own_thread
        # If a handler calls this, the run cannot end before the handler returns: do not wait.
        return self._ended.wait(0.0 if is_own_thread else timeout)

    def cancel(self) -> None:
        """Stop taking in events. Idempotent."""
        self._connection.router.remove(self._token, self._queue)

    def abandon(self) -> None:
        """End a run that could not begin. What came in meanwhile is told."""
        self._stop_at = self._options.clock()
        self._stopping.set()
        self._end()

    def _learn_agent_id(self) -> None:
        """
        Ask whose pushes these will be, if the host did not say it.

        Pushes do not name the agent, but the waiting queue and webhooks do: a message that comes in
        two ways is known again by its id and the agent's. Only servers that push have the answer.
        """
        if self._queue.agent_id is not None:
            return
        deadline = self._connection.deadline()
        try:
            answer = self._connection.rest.call("GET", _ME, deadline, credential=self._token)
            self._queue.agent_id = structure(answer, AgentProfile, source=_ME).agent_id
        except ButtDialError as error:
            logger.info("the server does not say which agent this is: %s", error.message)

    def _keep_listening(self) -> None:
        while not self._stopping.is_set():
            failure: ButtDialError | None = None
            try:
                deadline = self._connection.deadline()
                with self._connection.pool.session(self._token, deadline) as session:
                    self._session = session
                    self._attend(session)
            except ButtDialError as error:
                if _is_final(error):
                    raise
                failure = error
            finally:
                self.connected = False
            # The stream has ended, but events that came on it may still be in the queue.
            while not self._stopping.is_set() and (queued := self._take()) is not None:
                self._dispatch(queued)
            if self._connection.closed:
                raise ClientClosedError("the client is closed")
            if not self._stopping.is_set():
                self._back_off(failure)

    def _attend(self, session: McpSession) -> None:
        """Hand over what comes for as long as the session lives."""
        # The generation is taken before the queue is read: if another thread opens a newer stream
        # meanwhile, the pushes on that one must not be released here.
        opened_at, generation = self._options.clock(), self._queue.generation
        self._drain()
        self._plan_poll()
        self._queue.release_pushed(generation)
        self.connected = True
        try:
            while session.usable and not self._stopping.is_set():
                queued = self._take()
                if queued is not None:
                    self._dispatch(queued)
                elif self._seconds_until_poll() <= 0:
                    self._poll(session)
                else:
                    self._wait(session)
        finally:
            if self._options.clock() - opened_at >= _GOOD_AFTER:
                self._short_streams = 0

    def _take(self) -> QueuedEvent | None:
        return self._queue.take(self._options.clock())

    def _drain(self) -> None:
        """Read the waiting queue again: messages may have come between the last reading and now."""
        try:
            self._connection.router.drain(self._token, self._connection.deadline())
        except ButtDialError as error:
            if _is_final(error):
                raise
            logger.warning("the waiting queue could not be read: %s", error.message)

    def _seconds_until_poll(self) -> float:
        """Return how long it is until the queue is read again; when it is time, take a turn."""
        now = self._options.clock()
        if self._turn is None:
            if now < self._poll_at:
                return self._poll_at - now
            self._turn = self._budget.next_turn(now)
        return self._turn - now

    def _plan_poll(self) -> None:
        self._poll_at, self._turn = self._options.clock() + self._options.poll_every, None

    def _poll(self, session: McpSession) -> None:
        """
        Read the queue while the stream is open.

        A hosted server pushes what comes, and lets it wait only when it knows of no session. So if
        something waits, another process of the agent has opened and closed a stream, and with that
        taken the pushes away: the stream has to be opened again.
        """
        self._plan_poll()
        found = 0
        try:
            found = self._connection.router.drain(self._token, self._connection.deadline())
        except ButtDialError as error:
            if _is_final(error):
                raise
            logger.warning("the waiting queue could not be read: %s", error.message)
            if isinstance(error, RateLimitError):
                self._budget.limited(self._options.clock(), error.retry_after)
                return
        self._budget.succeeded()
        if found and self._connection.pushes_to_sessions:
            logger.warning(
                "%d messages waited although the stream is open: another process has opened one "
                "for this agent, and the server pushes nothing to this one any more. Connecting "
                "again; let only one process speak for an agent",
                found,
            )
            session.close(0)
        elif found and not self._is_said:
            self._is_said = True
            logger.info("this server pushes no messages: the waiting queue is read regularly")

    def _wait(self, session: McpSession) -> None:
        idle_ping = self._options.idle_ping
        if session.silent_for >= idle_ping:
            try:
                session.ping(self._connection.deadline())
            except ToolError:
                logger.debug("the server has no ping, but it answered, so it is alive")
            except ButtDialError as error:
                if not _is_final(error):
                    session.close(0)  # it does not answer, so the next round opens another
                raise
        # Not shorter than a tenth, or a server without ping would be asked all the time.
        pause = max(idle_ping - session.silent_for, idle_ping / 10)
        seconds = min(pause, max(self._seconds_until_poll(), 0.0))
        until_due = self._queue.seconds_until_due(self._options.clock())
        if until_due < seconds and self._options.sleep is not None:
            self._options.sleep(until_due)
        else:
            self._queue.wait(min(seconds, until_due))

    def _back_off(self, failure: ButtDialError | None) -> None:
        pause = exponential(self._options.longest_pause, self._short_streams)
        pause *= 0.5 + self._options.random_fraction() / 2
        asked_for = failure.retry_after if failure is not None else None
        seconds = max(pause, asked_for or 0.0)
        self._short_streams += 1
        self.reconnects += 1
        logger.warning(
            "no stream (%s); connecting again in %.2f s, no. %d",
            failure.message if failure is not None else "it ended",
            seconds,
            self.reconnects,
        )
        self._sleep(seconds)

    def _dispatch_pages(self) -> None:
        for _ in range(PAGES_AT_MOST):
            is_last = self._stopping.is_set() or not self._connection.router.take_page(
                self._token, self._connection.deadline()
            )
            self._dispatch_rest()
            if is_last:
                return

    def _dispatch(self, queued: QueuedEvent) -> None:
        """Hand an event over; it is not on the server any more, so it is tried again later."""
        try:
            report = self._options.inbound.dispatch_event(queued.event, [queued.key])
        except BaseException:  # the process ends, but the host can still keep the event
            self._give_up(queued.event)
            raise
        self._handed_over += report.handled
        if report.unreadable:
            self._give_up(queued.event)
        elif report.failed or report.busy:
            self._postpone_or_give_up(queued, is_busy=bool(report.busy))

    def _postpone_or_give_up(self, queued: QueuedEvent, *, is_busy: bool) -> None:
        # No handler has failed then. Whoever has the claim ends, or else the claim does.
        if is_busy and queued.waited < self._options.inbound.lease:
            pause = WHILE_BUSY
            queued.waited += pause
        else:
            pause = exponential(self._options.longest_pause, queued.attempts)
            queued.attempts += 1
        if queued.attempts >= self._options.max_attempts or self._stopping.is_set():
            self._give_up(queued.event)
        else:
            assert isinstance(self._queue, InboundQueue)  # noqa: S101 - the other one gives none out
            self._queue.postpone(queued, self._options.clock() + pause)

    def _finish(self) -> None:
        self._connection.router.retire(self._token, self._queue)
        try:
            self._finish_handlers()
        finally:
            try:
                self._end_session()
            finally:
                self._end()

    def _finish_handlers(self) -> None:
        """
        Let the handlers end, while this still takes in what comes.

        A handler that answers may open a session: what waits is read before that, and what is
        pushed on it is for the handlers too.
        """
        self._stop_workers()
        # Without a session the server keeps new messages in its queue, instead of pushing them.
        self._end_session()
        while self._dispatch_rest():
            self._end_session()

    def _stop_workers(self) -> None:
        if self._workers is not None and not self._workers.stop(self._seconds_left()):
            logger.warning("a handler still runs; its event is handed over again after its lease")

    def _end_session(self) -> None:
        """Close the session, when its reader has passed on what the server has pushed."""
        if self._polls and not self._connection.pushes_to_sessions:
            return  # nothing is pushed on it, and the next one would empty the waiting queue
        # A part of the time: there may be no end of the stream, and then handlers need the rest.
        seconds = max(self._seconds_left() / 2, _SECONDS_TO_TAKE_IN)
        self._connection.pool.drop(self._token, lambda session: session.finish(seconds))
        if self._connection.closed and self._session is not None:
            self._session.close(seconds)  # the pool has let go of it, but its reader may still read

    def _end(self) -> None:
        """Take in nothing more, and tell what nobody got."""
        self.cancel()
        self._queue.close()
        try:
            self._dispatch_rest()
            if self._workers is not None:
                for event in self._writer.close(max(self._seconds_left(), _SECONDS_TO_TAKE_IN)):
                    self._give_up(event)
        finally:
            self._ended.set()

    def _take_late(self, events: Sequence[InboundEvent]) -> None:
        """
        Keep what a thread took from the server before the end, and hands over only now.

        In a thread of its own: a reader must not run the host's code, and a thread of the host may
        be inside a transaction. The process waits for it.
        """
        try:
            threading.Thread(target=self._keep_late, args=(events,), name=_LATE).start()
        except RuntimeError:  # the limit of threads, or the interpreter ends: better here than not
            self._keep_late(events)

    def _keep_late(self, events: Sequence[InboundEvent]) -> None:
        if self._workers is None or not self._writer.write_late(events):
            for event in events:
                self._give_up(event)

    def _seconds_left(self) -> float:
        if self._stop_at is None:
            return _SECONDS_TO_END
        return max(0.0, self._stop_at - self._options.clock())

    def _dispatch_rest(self) -> int:
        """
        Hand over all that was taken in while there is time, and give up what is left.

        Returns:
            How often a handler was called: it may have brought in more.
        """
        count = 0
        self._queue.release_pushed(self._queue.generation)
        try:
            while True:
                now = self._options.clock()
                queued = self._queue.take(math.inf if self._stopping.is_set() else now)
                if queued is None:
                    seconds = self._queue.seconds_until_due(now)
                    if seconds == math.inf:
                        return count
                    self._sleep(seconds)
                elif self._has_time():
                    count += 1
                    self._dispatch(queued)
                else:
                    self._give_up(queued.event)
        except BaseException:  # a second signal: give the others up at once, so the host keeps them
            self._stop_at = self._options.clock()
            self._dispatch_rest()
            raise

    def _has_time(self) -> bool:
        return self._stop_at is None or self._options.clock() < self._stop_at

    def _give_up(self, event: InboundEvent) -> None:
        """Give the host an event that could not be handed over."""
        what = f"{type(event).__name__} {getattr(event, 'id', None)!r:.80}"
        if self._options.on_undelivered is None:
            logger.error("%s could not be handed over and is lost: give on_undelivered", what)
            return
        logger.error("%s could not be handed over", what)
        try:
            self._options.on_undelivered(event)
        except BaseException as error:
            logger.exception("on_undelivered failed; %s is lost", what)
            if ends_process(error):
                raise
