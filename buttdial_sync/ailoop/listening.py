"""Everything that is said on the channels, handed on from a thread of its own."""

from __future__ import annotations

import inspect
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from buttdial_sync.ailoop.connection import AiloopConnection, checked_channel
from buttdial_sync.ailoop.errors import AiloopConfigError, AiloopError, raised_as_ailoop_errors
from buttdial_sync.ailoop.hearing import End, Waiter
from buttdial_sync.ailoop.messages import Message, ResponseContent, message_of
from buttdial_sync.ailoop.prompting import open_viewer
from buttdial_sync.ailoop.server import ChannelInfo, ChannelList
from buttdial_sync.errors import ProtocolError
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.fork import leak_until_exit, reset_after_fork
from buttdial_sync.transport.pending import Failure
from buttdial_sync.transport.websocket_opening import WebSocketOpener

logger = logging.getLogger("buttdial_sync.ailoop")

Handler = Callable[[Message], object]

# The server replays this many messages of each channel to a connection that listens.
_REPLAYED = 500
_REMEMBERED = 10_000
_LOOKED_BACK = _REMEMBERED // 2
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


class Inbox(Waiter):
    """Takes what comes on a connection that listens. In its reading thread, so it only queues."""

    def take(self, message: dict[str, Any]) -> None:
        """Take a message."""
        self.put(message)

    def end(self, failure: Failure) -> None:
        """Tell that the connection is over."""
        self.put(End.LOST)


class Listening:
    """
    Hands on the messages of the channels, each once, until it is stopped.

    It reconnects for as long as it takes, and then catches up on what the server's history has.
    Answers from the terminal and from Telegram are sent once and are in no history: those that come
    while the connection is broken are lost.

    Handlers are plain functions. They run one after the other in the listener's thread, so they may
    call the client. What they raise is logged and counted.

    Attributes:
        handled: How many messages were handed on.
        failed: How many calls of a handler raised.
        unreadable: How many messages could not be read.
    """

    def __init__(
        self,
        connection: AiloopConnection,
        new_opener: Callable[[Callable[[], Inbox]], WebSocketOpener[Inbox]],
        *,
        channels: Collection[str] | None,
        replay: bool,
    ) -> None:
        self.handled = 0
        self.failed = 0
        self.unreadable = 0
        self._connection = connection
        self._opener = new_opener(lambda: self._inbox)
        self._channels = None if channels is None else {checked_channel(each) for each in channels}
        self._replay = replay
        self._seen: dict[str, OrderedDict[str, None]] = {}
        self._has_seen_history = False
        self._message_handlers: list[Handler] = []
        self._answer_handlers: list[Handler] = []
        self._keeps = False
        self._make_locks()
        self._thread = threading.Thread(
            target=self._run, name="buttdial-sync-ailoop-listener", daemon=True
        )
        reset_after_fork(self)

    def _make_locks(self) -> None:
        self._inbox = Inbox()
        self._kept = Waiter()
        self._stopped = threading.Event()
        self._connected = threading.Event()

    def _reset_after_fork(self) -> None:
        """In a forked child: there is no thread that listens, and nobody holds a lock."""
        leak_until_exit(self._inbox, self._kept, self._stopped, self._connected)
        self._make_locks()
        self._stopped.set()
        self._kept.put(End.CLOSED)

    def start(self, *, keeps: bool = False) -> None:
        """Begin; ``keeps`` keeps the messages for ``__iter__``."""
        self._keeps = keeps
        self._thread.start()

    def on_message(self, handler: Handler) -> Handler:
        """
        Have a function called with each message.

        Raises:
            AiloopConfigError: It is a coroutine function.
        """
        self._message_handlers.append(_plain(handler))
        return handler

    def on_answer(self, handler: Handler) -> Handler:
        """
        Have a function called with each response to a prompt; ``correlation_id`` names the prompt.

        One answer in the web page brings two: what was typed, and what the server made of it.

        Raises:
            AiloopConfigError: It is a coroutine function.
        """
        self._answer_handlers.append(_plain(handler))
        return handler

    def remove_handler(self, handler: Handler) -> None:
        """Call a function no longer. Unknown ones are ignored."""
        for handlers in (self._message_handlers, self._answer_handlers):
            if handler in handlers:
                handlers.remove(handler)

    def wait_connected(self, timeout: float) -> bool:
        """Wait until it listens; return whether it does. ``timeout`` is in seconds."""
        return self._connected.wait(timeout)

    def end(self) -> None:
        """Stop without waiting. Idempotent, from any thread."""
        self._stopped.set()
        self._opener.close()
        self._inbox.put(End.CLOSED)
        self._kept.put(End.CLOSED)

    def stop(self, timeout: float = 2.0) -> bool:
        """
        Stop. Idempotent, from any thread, a handler's too.

        Args:
            timeout: How long to wait for the handler that runs, in seconds.

        Returns:
            Whether the thread has ended.
        """
        self.end()
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __iter__(self) -> Iterator[Message]:
        """
        Give each message, and wait for the next, until it is stopped.

        Raises:
            AiloopConfigError: A handler was given to ``listen``; it gets the messages.
        """
        if not self._keeps:
            raise AiloopConfigError("a handler gets the messages: call listen() without one")
        return self._messages()

    def _messages(self) -> Iterator[Message]:
        while True:
            kept = self._kept.get(_LONGEST_PAUSE)
            if kept is End.CLOSED:
                self._kept.put(kept)  # for other iterators
                return
            if isinstance(kept, Mapping):
                yield message_of(kept)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while not (self._stopped.is_set() or self._connection.closed):
                try:
                    self._listen_until_lost()
                    pause = _FIRST_PAUSE
                    continue
                except AiloopError as error:
                    logger.warning("listening to ailoop: %s", error.message)
                except BaseException:  # of the host too: nobody would see that the thread has ended
                    logger.exception("listening to ailoop failed, and goes on")
                self._stopped.wait(pause * (0.5 + self._connection.random_fraction() / 2))
                pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            self._kept.put(End.CLOSED)

    def _listen_until_lost(self) -> None:
        if not (self._replay or self._has_seen_history):
            self._see_history()
        self._inbox = Inbox()
        limit = self._connection.deadline()
        with raised_as_ailoop_errors():
            socket = open_viewer(self._opener, self._connection.token or "", limit)
        try:
            self._catch_up(limit)
            self._connected.set()
            while not self._stopped.is_set():
                heard = self._inbox.get(_LONGEST_PAUSE)
                if isinstance(heard, End):
                    return
                if heard is not None:
                    self._hand_on(heard)
        finally:
            self._connected.clear()
            socket.close(0.5)

    def _see_history(self) -> None:
        limit = self._connection.deadline()
        for channel in self._heard_channels(limit):
            for message in self._connection.history(channel.name, _LOOKED_BACK, limit):
                self._is_new(message)
        self._has_seen_history = True

    def _catch_up(self, limit: Deadline) -> None:
        channels = self._heard_channels(limit)
        # Of a channel that the server has forgotten, nothing comes again.
        names = {each.name for each in channels}
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
        # The replay has the last of each channel only.
        for channel in channels:
            if channel.message_count > _REPLAYED:
                for message in self._connection.history(channel.name, _LOOKED_BACK, limit):
                    self._hand_on(message)

    def _heard_channels(self, limit: Deadline) -> Sequence[ChannelInfo]:
        listed = self._connection.call("GET", "/api/channels", ChannelList, deadline=limit).channels
        return [each for each in listed if self._channels is None or each.name in self._channels]

    def _hand_on(self, raw: Mapping[str, Any]) -> None:
        if self._channels is not None and str(raw.get("channel")) not in self._channels:
            return
        if not self._is_new(raw):
            return
        try:
            message = message_of(raw)
        except ProtocolError as error:
            self.unreadable += 1
            logger.warning("a message of ailoop cannot be read: %s", error.message)
            return
        self.handled += 1
        if self._keeps:
            self._kept.put(raw)
        self._call(self._message_handlers, message)
        if isinstance(message.content, ResponseContent):
            self._call(self._answer_handlers, message)

    def _is_new(self, raw: Mapping[str, Any]) -> bool:
        # The server may store two messages with one id; but a replay brings the same one again.
        seen = self._seen.setdefault(str(raw.get("channel")), OrderedDict())
        message_id = str(raw.get("id"))
        if message_id in seen:
            return False
        seen[message_id] = None
        if len(seen) > _REMEMBERED:
            seen.popitem(last=False)
        return True

    def _call(self, handlers: list[Handler], message: Message) -> None:
        for handler in tuple(handlers):
            self.failed += not _succeeds(handler, message)


def _succeeds(handler: Handler, message: Message) -> bool:
    try:
        handler(message)
    except BaseException:  # in a thread sys.exit() or a cancelled task would end only the listening
        logger.exception("a handler of ailoop's messages failed")
        return False
    return True


def _plain(handler: Handler) -> Handler:
    if inspect.iscoroutinefunction(handler):
        raise AiloopConfigError("a handler must be a plain function, not a coroutine function")
    return handler
