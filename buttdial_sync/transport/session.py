"""One live MCP session: a stream with the answers, and the address for the requests."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import attrs

from buttdial_sync._version import __version__
from buttdial_sync.errors import (
    ButtDialError,
    ClientClosedError,
    DeadlineExceededError,
    ProtocolError,
    SessionUnknownError,
    StreamLostError,
    TransportError,
    error_from_tool_answer,
)
from buttdial_sync.errors.scrubbing import Secret, scrub
from buttdial_sync.models.tools import Tool
from buttdial_sync.transport.deadline import Clock, Deadline
from buttdial_sync.transport.endpoint import BUFFERING_PROXY, lost_prefix, post_url
from buttdial_sync.transport.http import Http, json_bytes, load_json, refusal
from buttdial_sync.transport.pending import PendingAnswers, Waiter, copies_of
from buttdial_sync.transport.replies import ServerRequestReplier
from buttdial_sync.transport.sse import EventStream
from buttdial_sync.transport.token_breaker import TokenBreaker
from buttdial_sync.transport.tool_list import ToolList

logger = logging.getLogger("buttdial_sync.session")

PROTOCOL_VERSION = "2025-11-25"
# A POST that broke, or that a proxy answered with an error, may still have arrived. Then its answer
# comes on the stream soon.
_GRACE_AFTER_BROKEN_POST = 2.0
_REPLY_SECONDS = 10.0
_numbers = count(1)
_DROPPED = (
    "a client was dropped without close(); its sessions are ended. Make one client for the whole "
    "process, and close it, or use it as a context manager"
)
_warnings = iter((_DROPPED,))  # taking the next is atomic: one thread gets it

Notification = dict[str, Any]


@attrs.frozen(kw_only=True)
class SessionOptions:
    """
    What every session of a client has in common.

    Attributes:
        max_event_bytes: Larger events end the session.
        on_notification: Gets the token and what the server pushed. Called in the reading thread, so
            that closing a session does not drop what has arrived. It may only queue.
        breaker: Learns whether the server accepted the token of a post.
        on_end: Gets the token when the session cannot be used any more. Also called in that thread.
        clock: A monotonic clock, in seconds.
    """

    max_event_bytes: int
    on_notification: Callable[[str, Notification], None]
    on_end: Callable[[str], None]
    breaker: TokenBreaker
    clock: Clock


class McpSession:
    """
    A live session. Safe to share between threads; a broken one is replaced, never repaired.

    Requests run side by side. A caller registers, posts, and sleeps until the reader thread finds
    its answer on the stream and wakes it.

    Args:
        http: Sends the posts.
        stream: The opened stream; it belongs to the session from now on.
        token: The credential of each post.
        options: See :class:`SessionOptions`.
    """

    def __init__(
        self, http: Http, stream: EventStream, token: str, options: SessionOptions
    ) -> None:
        self._http = http
        self._stream = stream
        self._token = token
        self._options = options
        self._pending = PendingAnswers()
        # Not a SimpleQueue: up to Python 3.12 its get() can hang where little time is left.
        self._endpoints: queue.Queue[str | ButtDialError] = queue.Queue()
        self._closing = False
        self._abandoned = False
        self._tools = ToolList(self.request)
        self._can_post = threading.Event()
        name = f"buttdial-sync-{next(_numbers)}"
        self._replier = ServerRequestReplier(f"{name}-replies", self._post_reply)
        self._reader = threading.Thread(target=self._read, name=f"{name}-reader", daemon=True)

    def start(self, deadline: Deadline) -> None:
        """
        Read the stream from now on, and shake hands.

        Raises:
            ButtDialError: The stream does not come from an MCP server, or the deadline passed. The
                caller closes.
        """
        try:
            self._reader.start()
        except RuntimeError as error:  # the limit of threads, or the interpreter ends
            raise TransportError(
                f"no thread can be started ({error})",
                remediation="End threads that this process does not need, or raise its limit "
                "(ulimit -u, or pids of its container).",
            ) from None
        url = self._await_endpoint(deadline)
        self._post_request = self._http.prepare(
            "POST",
            url,
            headers={
                "Authorization": Secret(f"Bearer {self._token}"),
                "Content-Type": "application/json",
            },
        )
        self._can_post.set()
        hello = {
            "protocolVersion": PROTOCOL_VERSION,
            "capabilities": {},
            "clientInfo": {"name": "buttdial-sync", "version": __version__},
        }
        try:
            self.request("initialize", hello, deadline)
        except ButtDialError as error:
            raise lost_prefix(self._stream.url, url, error) or error from None
        self._post({"jsonrpc": "2.0", "method": "notifications/initialized"}, deadline)

    def request(self, method: str, params: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """
        Ask the server and wait for its answer.

        Returns:
            The answer's ``result``.

        Raises:
            ToolError: The server answered with a JSON-RPC error.
            ButtDialError: Anything else; ``outcome`` says what became of the request.
        """
        waiter = self._pending.register()
        message = {"jsonrpc": "2.0", "id": waiter.id, "method": method, "params": params}
        try:
            answer = self._ask(message, waiter, deadline)
        finally:
            self._pending.discard(waiter)
        if answer.get("error") is not None:
            raise self._json_rpc_error(answer["error"])
        result = answer.get("result")
        if not isinstance(result, dict):
            raise ProtocolError("an answer without a result", outcome="unknown", body=answer)
        return result

    def _json_rpc_error(self, error: Any) -> ButtDialError:
        details = error if isinstance(error, dict) else {"message": error}
        message = str(details.get("message") or "the server refused the request")
        code = details.get("code")
        return error_from_tool_answer(
            scrub(message, [self._token]), code=code if isinstance(code, int) else None
        )

    def ping(self, deadline: Deadline) -> float:
        """Ask for a sign of life and return the round trip in seconds."""
        started = self._options.clock()
        self.request("ping", {}, deadline)
        return self._options.clock() - started

    def list_tools(self, deadline: Deadline) -> list[Tool]:
        """Return the server's tools with their schemas, all pages; asked once per session."""
        return self._tools.get(deadline)

    @property
    def usable(self) -> bool:
        """Whether a request can still be answered."""
        return not self._closing and self._pending.usable

    @property
    def silent_for(self) -> float:
        """Seconds since the last byte came on the stream."""
        return self._options.clock() - self._stream.last_byte_at

    def close(
        self,
        seconds: float = 1.0,
        reason: type[TransportError | ClientClosedError] = StreamLostError,
    ) -> None:
        """
        End the session, and fail all waiting requests. Idempotent, from any thread.

        Args:
            seconds: The longest time to wait for the session's threads.
            reason: The class of the error with which the requests fail.
        """
        self._closing = True
        # First the waiters, then the stream: they get this reason and not that of a broken stream.
        self._endpoints.put(reason("the session was closed"))
        self._pending.end(lambda outcome: reason("the session was closed", outcome=outcome))
        self._replier.stop()
        self._stream.close()
        limit = Deadline(seconds)
        if self._reader.ident is None:
            self._stream.release()  # the reader does it otherwise, but it never started
        elif self._reader.is_alive() and self._reader is not threading.current_thread():
            self._reader.join(seconds)  # join() refuses one that is only about to be alive
        self._replier.join(limit.remaining())

    def finish(self, seconds: float) -> None:
        """
        End the session when all that the server has pushed was read. For one that no call uses.

        The kernel drops what is still on its way to a connection that is shut down at once.

        Args:
            seconds: The longest time to wait for the server's end of the stream.
        """
        self._closing = True
        if self._stream.leave() and self._reader is not threading.current_thread():
            self._reader.join(seconds)
        self.close()

    def abandon(self) -> None:
        """
        Have the reading thread end the session. For a client that is collected without close().

        A finalizer runs in any thread at any moment, so this takes no lock and waits for nothing.
        """
        self._abandoned = self._closing = True
        self._stream.close()

    def _ask(self, message: dict[str, Any], waiter: Waiter, deadline: Deadline) -> dict[str, Any]:
        try:
            self._post(message, deadline)
        except ButtDialError as error:
            if error.outcome != "unknown":
                raise
            answer = waiter.wait(deadline.within(_GRACE_AFTER_BROKEN_POST).remaining())
            if answer is None:
                raise
            return answer
        answer = waiter.wait(deadline.remaining())
        if answer is None:
            raise DeadlineExceededError(
                f"no answer to {message['method']} within {deadline.seconds:g} s",
                code="TIMEOUT",
                stage="tool_call",
                outcome="unknown",
            )
        return answer

    def _post(self, message: dict[str, Any], deadline: Deadline) -> None:
        generation = self._options.breaker.generation
        # Preparing a request costs a tenth of a send, and only the body differs between requests.
        response, _ = self._http.send(self._post_request, deadline, body=json_bytes(message))
        error = None if response.status_code < 300 else refusal(response, "message", self._token)
        self._options.breaker.learn(self._token, error, generation)
        if isinstance(error, SessionUnknownError):
            self._leave(error)  # otherwise the next attempt would use this session again
        if error is None:
            return
        try:
            raise error
        finally:
            # The error's traceback holds this frame, and so the whole client; the response's
            # headers may repeat the token.
            del error, response

    def _await_endpoint(self, deadline: Deadline) -> str:
        try:
            endpoint = self._endpoints.get(timeout=deadline.check("opening the session"))
        except queue.Empty:
            raise DeadlineExceededError(
                f"headers came, but no endpoint within {deadline.seconds:g} s: a proxy buffers",
                code="TIMEOUT",
                stage="session",
                remediation=BUFFERING_PROXY,
            ) from None
        if isinstance(endpoint, ButtDialError):
            raise endpoint
        return post_url(self._stream.url, endpoint)

    def _read(self) -> None:
        reason: ButtDialError = StreamLostError("the server ended the stream")
        try:
            for event in self._stream.events():
                # The last event of a stream that broke may be cut short: half an address would be
                # the address of something else.
                if event.event == "endpoint" and not self._stream.at_end:
                    self._endpoints.put(event.data)
                elif event.event == "message":
                    self._take(event.data)
        except ProtocolError as error:
            reason = error
        except Exception as error:  # noqa: BLE001 - a dying stream raises a dozen unrelated types
            reason = StreamLostError(scrub(f"the stream broke: {error}", [self._token]))
        finally:
            self._stream.release()
            self._end(reason)
            if self._abandoned:
                self._clean_up()

    def _clean_up(self) -> None:
        self._http.close()
        warning = next(_warnings, None)
        if warning is not None:
            logger.warning(warning)

    def _leave(self, reason: SessionUnknownError) -> None:
        # The answers of others may have arrived: the reader takes them, and then fails those who
        # still wait, for this reason.
        self._pending.refuse(copies_of(reason))
        is_first, self._closing = not self._closing, True
        self._stream.close()
        if is_first:
            logger.info("session ended: %s", reason.message)

    def _end(self, reason: ButtDialError) -> None:
        self._pending.end(copies_of(reason))
        if not self._closing:
            logger.info("session ended: %s", reason.message)  # a record must not keep its frames
        self._endpoints.put(reason.as_kind(type(reason)))
        self._replier.finish()
        self._options.on_end(self._token)

    def _take(self, data: str) -> None:
        try:
            messages = load_json(data)
        except json.JSONDecodeError:
            if self._stream.at_end:
                return  # the stream broke in the middle of this event
            raise ProtocolError("the stream carried something that is not JSON") from None
        except RecursionError:
            logger.warning("ignored an event that is nested too deeply to be read")
            return
        for message in messages if isinstance(messages, list) else [messages]:
            self._take_message(message)

    def _take_message(self, message: Any) -> None:
        if not isinstance(message, dict):
            logger.warning("ignored a JSON-RPC message that is not an object")
        elif "method" in message:
            self._take_from_server(message)
        elif not self._pending.resolve(message.get("id"), message):
            logger.debug("nobody waits for the answer with id %r", message.get("id"))

    def _take_from_server(self, message: dict[str, Any]) -> None:
        method = message["method"]
        if "id" in message:
            self._replier.reply_to(message)
        elif method == "notifications/tools/list_changed":
            self._tools.changed()
        else:
            self._options.on_notification(self._token, message)

    def _post_reply(self, reply: dict[str, Any]) -> None:
        deadline = Deadline(_REPLY_SECONDS, self._options.clock)
        # The server may ask before it has named the endpoint.
        if self._can_post.wait(deadline.remaining()):
            self._post(reply, deadline)
