"""One message over WebSocket: sent once, acknowledged, waited on, recovered, withdrawn."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal

import attrs

from buttdial_sync.ailoop.answers import LOST, Prompt, Reply, reply_of
from buttdial_sync.ailoop.connection import PENDING, AiloopConnection
from buttdial_sync.ailoop.errors import (
    AiloopClosedError,
    AiloopError,
    AuthenticationError,
    MessageNotFoundError,
    NotAcceptedError,
    ailoop_error,
    raised_as_ailoop_errors,
)
from buttdial_sync.ailoop.hearing import End, Receiver, Waiter, Waiters
from buttdial_sync.ailoop.messages import VIEWER_HELLO
from buttdial_sync.ailoop.server import PendingList
from buttdial_sync.errors import ButtDialError, StreamLostError
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.pool import SessionPool
from buttdial_sync.transport.websocket import R, WebSocket
from buttdial_sync.transport.websocket_opening import WebSocketOpener, WebSocketOptions

logger = logging.getLogger("buttdial_sync.ailoop")

Standing = Literal["shown", "behind", "gone", "unknown"]

_NEVER_IDLE = 365 * 24 * 3600.0
_HISTORY = 500
_SECONDS_TO_WITHDRAW = 5.0
# How long a caller waits for the withdrawal, whose time may be over; it goes on without it. After
# Ctrl-C or close() the process may end, and the withdrawal with it.
_SECONDS_FOR_CALLER = 0.3
_SECONDS_AFTER_INTERRUPT = 5.0
_POLL_SECONDS = 1.0
_SHORT_POLL_SECONDS = 0.1
_SECONDS_TO_SETTLE = 3.0
_LONGEST_PAUSE = 5.0
_UNANSWERED = Reply(verdict="timed_out", ends=False)


class Sockets:
    """
    The WebSockets of one client: one that sends, and one that only listens where that is needed.

    Args:
        connection: The client's connection.
        insecure_hosts: Hosts to which the token may go unencrypted.
    """

    def __init__(self, connection: AiloopConnection, insecure_hosts: Collection[str]) -> None:
        self._connection = connection
        self._token = connection.token or ""
        self.waiters = Waiters()
        self._options = WebSocketOptions(
            connect_timeout=connection.connect_timeout,
            insecure_hosts=insecure_hosts,
            ca_file=connection.network.ca_bundle,
            clock=connection.clock,
        )
        self._opener = self.new_opener(partial(Receiver, self.waiters))
        self._agents = SessionPool(self._opener.open, max_sessions=1, idle_ping=_NEVER_IDLE)
        self._viewers = SessionPool(
            partial(open_viewer, self._opener), max_sessions=1, idle_ping=_NEVER_IDLE
        )

    def new_opener(self, make_receiver: Callable[[], R]) -> WebSocketOpener[R]:
        """Return what opens connections to the server; each gets a receiver of its own."""
        url, events = self._connection.websocket_url, self._connection.events
        return WebSocketOpener(url, make_receiver, self._options, events.emit)

    def send(self, waiter: Waiter, frame: Mapping[str, Any], deadline: Deadline) -> None:
        """
        Send a message once, and have the waiter listen on the connection that it left on.

        Raises:
            ButtDialError: It was not sent; or, where ``outcome`` is ``"unknown"``, perhaps.
        """
        try:
            self._send_once(waiter, frame, deadline)
        except StreamLostError as error:
            # It was lost while it was idle. If no byte has left, a new one is used.
            if error.outcome != "not_sent":
                raise
            self._send_once(waiter, frame, deadline)

    def listen(self, waiter: Waiter, held: ExitStack, deadline: Deadline) -> None:
        """
        Have a waiter listen on the connection that hears all channels, for as long as it is held.

        Raises:
            ButtDialError: It could not be opened.
        """
        socket = held.enter_context(self._viewers.session(self._token, deadline))
        self.waiters.listen(waiter, socket.receiver)

    def stop_listening(self) -> None:
        """Close the connection that hears all channels, unless somebody still holds it."""
        self._viewers.drop(self._token)

    def close(self, deadline: Deadline) -> None:
        """Fail whoever waits, give them the time to withdraw, and close all."""
        self.waiters.close(deadline.remaining())
        self._opener.close()
        self._agents.close(deadline.remaining())
        self._viewers.close(deadline.remaining())

    def abandon(self) -> None:
        """End all at once, for a client that is collected unclosed."""
        self._agents.abandon()
        self._viewers.abandon()

    def _send_once(self, waiter: Waiter, frame: Mapping[str, Any], deadline: Deadline) -> None:
        with self._agents.session(self._token, deadline) as socket:
            self.waiters.listen(waiter, socket.receiver)
            self.waiters.check_open()
            socket.send(frame, deadline)


def open_viewer(opener: WebSocketOpener[R], token: str, deadline: Deadline) -> WebSocket[R]:
    """Open a connection that hears all channels."""
    socket = opener.open(token, deadline)
    try:
        socket.send(VIEWER_HELLO, deadline)
    except BaseException:  # whatever it was, nobody else has the socket
        socket.close(0)
        raise
    return socket


@attrs.frozen(kw_only=True)
class Prompter:
    """
    Sends messages and waits for what becomes of them. Safe to share between threads.

    Attributes:
        connection: The client's connection.
        sockets: Its WebSockets.
        accept_timeout: Seconds within which the server must have echoed a message.
    """

    connection: AiloopConnection
    sockets: Sockets
    accept_timeout: float

    def tell(
        self, frame: Mapping[str, Any], deadline: Deadline, *, is_prompt: bool = False
    ) -> None:
        """
        Send a message whose answer nobody waits for, and wait until the server has it.

        Args:
            frame: The message as it goes over the wire.
            deadline: Until when to wait.
            is_prompt: Whether to withdraw it if the server may have it all the same.

        Raises:
            NotAcceptedError: It did not confirm it.
            AiloopError: It could not be sent.
        """
        waiter = self.sockets.waiters.register(frame["id"])
        try:
            if not self._is_confirmed(waiter, frame, deadline):
                raise NotAcceptedError("the connection ended before the server confirmed it")
        except AiloopError as error:
            if is_prompt and error.outcome == "unknown":
                self.withdraw_soon(waiter.message_id, 0)
            raise
        finally:
            self.sockets.waiters.discard(waiter)

    def ask(
        self,
        prompt: Prompt,
        frame: Mapping[str, Any],
        deadline: Deadline,
        *,
        wait_if_skipped: bool = True,
    ) -> Reply:
        """
        Send a prompt once, and wait until it is over. Whatever ends the wait early withdraws it.

        Args:
            prompt: The prompt.
            frame: The prompt as it goes over the wire.
            deadline: Until when to wait.
            wait_if_skipped: Whether to wait on after a skip: the server asks again.

        Returns:
            The last reply. ``lost`` if what became of the prompt cannot be known.

        Raises:
            NotAcceptedError: The server did not confirm it.
            AiloopError: It could not be sent.
        """
        waiter = self.sockets.waiters.register(prompt.id)
        wait = _Wait(self, prompt, waiter, deadline, wait_if_skipped)
        patience = _SECONDS_AFTER_INTERRUPT
        is_over = False
        try:
            # A prompt whose connection ended first is looked for: the server may have it.
            self._is_confirmed(waiter, frame, deadline)
            with wait.held:
                reply = wait.result()
        except AiloopError as error:
            is_over = error.outcome != "unknown"  # the server never had it
            if not isinstance(error, AiloopClosedError):
                patience = _SECONDS_FOR_CALLER
            raise
        else:
            patience = _SECONDS_FOR_CALLER
            is_over = reply.ends
            return reply
        finally:
            self.sockets.stop_listening()
            if not is_over:
                self.withdraw_soon(prompt.id, patience)
            self.sockets.waiters.discard(waiter)

    def is_settled(self, prompt: Prompt, deadline: Deadline) -> bool:
        """Whether the server no longer asks a prompt that was answered. Needs ``/pending``."""
        shown_until = deadline.within(_SECONDS_TO_SETTLE)
        while deadline.remaining() > 0:
            try:
                standing = self.standing(prompt.id, deadline)
            except AiloopError:
                return False
            if standing == "gone":
                return True
            if standing == "shown" and shown_until.remaining() <= 0:
                return False
            self.connection.sleep(min(_SHORT_POLL_SECONDS, deadline.remaining()))
        return False

    def standing(self, message_id: str, deadline: Deadline) -> Standing:
        """
        Where a prompt stands, as far as the server tells.

        ``"behind"``: others are shown, and this one may wait behind them or be over.
        """
        if not self.connection.known_info(deadline).supports_pending:
            return "unknown"
        shown = self.connection.call("GET", PENDING, PendingList, deadline=deadline).items
        if any(each.message_id == message_id for each in shown):
            return "shown"
        return "behind" if shown else "gone"

    def withdraw_soon(self, message_id: str, patience: float) -> None:
        """
        Withdraw a prompt in a thread of its own; wait for it at most ``patience`` seconds.

        The client's ``close()`` waits for it, too.
        """
        thread = threading.Thread(
            target=self._withdraw,
            args=(self.sockets.waiters.hold(message_id),),
            name="buttdial-sync-ailoop-withdraw",
            daemon=True,
        )
        thread.start()
        thread.join(patience)

    def _withdraw(self, held: Waiter) -> None:
        limit = Deadline(_SECONDS_TO_WITHDRAW, self.connection.clock)
        try:
            self.connection.respond(held.message_id, None, "timeout", limit)
        except AiloopError as error:
            logger.info("the prompt %s could not be withdrawn: %s", held.message_id, error.message)
        finally:
            self.sockets.waiters.discard(held)

    def _is_confirmed(self, waiter: Waiter, frame: Mapping[str, Any], deadline: Deadline) -> bool:
        """
        Send a message; return whether the server confirmed it, or the connection ended before.

        Raises:
            NotAcceptedError: It did neither.
            AiloopError: It could not be sent.
        """
        self.connection.check_open()
        try:
            self.sockets.send(waiter, frame, deadline)
        except ButtDialError as error:
            failure: AiloopError = ailoop_error(error)
            if failure.outcome == "unknown":
                failure = failure.as_kind(NotAcceptedError)
        else:
            heard = waiter.get(deadline.within(self.accept_timeout).remaining())
            if heard is not None:
                if isinstance(heard, End) or heard.get("id") != waiter.message_id:
                    waiter.put_back(heard)
                return not isinstance(heard, End)
            # Perhaps it is another server than the one that was examined.
            self.connection.forget_info()
            failure = NotAcceptedError(
                f"the server did not confirm the message within {self.accept_timeout:g} s"
            )
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame, and so the whole client


@attrs.define(eq=False)
class _Wait:
    """The wait for what becomes of one prompt, in the caller's thread."""

    _prompter: Prompter
    _prompt: Prompt
    _waiter: Waiter
    _deadline: Deadline
    _wait_if_skipped: bool
    held: ExitStack = attrs.field(factory=ExitStack)
    _last: Reply = _UNANSWERED
    # After a loss, until the server says that it still asks this prompt.
    _in_doubt: bool = False
    _seen_gone: bool = False

    def result(self) -> Reply:
        while True:
            seconds = self._deadline.remaining()
            heard = self._waiter.get(min(seconds, _POLL_SECONDS) if self._in_doubt else seconds)
            if heard is None:
                reply = self._reply_of_silence()
            elif heard is End.CLOSED:
                raise AiloopClosedError("the client was closed meanwhile", outcome="unknown")
            elif heard is End.LOST:
                reply = self._reply_after_loss()
            else:
                reply = self._reply_of_message(heard)
            if reply is not None:
                return reply

    def _reply_of_message(self, message: Mapping[str, Any]) -> Reply | None:
        reply = reply_of(self._prompt, message)
        if reply is None or reply.ends:
            return reply
        self._last = reply
        return reply if reply.verdict == "skipped" and not self._wait_if_skipped else None

    def _reply_of_silence(self) -> Reply | None:
        if self._deadline.remaining() <= 0:
            return LOST if self._in_doubt else self._last
        try:
            standing = self._prompter.standing(self._prompt.id, self._deadline)
        except AiloopError:
            return None  # the end of the connection, or of the time, tells more
        if standing == "gone" and self._seen_gone:
            return LOST
        self._seen_gone = standing == "gone"
        self._in_doubt = standing != "shown"
        return None

    def _reply_after_loss(self) -> Reply | None:
        """Listen again, and look whether the answer came meanwhile. The prompt is never resent."""
        self._in_doubt = True
        self._seen_gone = False
        pause = _SHORT_POLL_SECONDS
        while True:
            try:
                self._recover()
            except AiloopClosedError:
                self._waiter.put(End.CLOSED)
                return None
            except MessageNotFoundError:
                self._prompter.connection.forget_info()
                return LOST  # a restarted server has forgotten it
            except AuthenticationError:
                return LOST
            except AiloopError as error:
                logger.info("ailoop is not reachable: %s", error.message)
            else:
                return None
            if self._deadline.remaining() <= 0:
                return LOST
            jitter = 0.5 + self._prompter.connection.random_fraction() / 2
            self._prompter.connection.sleep(min(pause * jitter, self._deadline.remaining()))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _recover(self) -> None:
        self.held.close()
        with raised_as_ailoop_errors():
            self._prompter.sockets.listen(self._waiter, self.held, self._deadline)
        prompt = self._prompt
        self._prompter.connection.message(prompt.id, self._deadline)
        for message in self._prompter.connection.history(prompt.channel, _HISTORY, self._deadline):
            if message.get("correlation_id") == prompt.id:
                self._waiter.put(message)
