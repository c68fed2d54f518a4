"""Answering the requests that a server sends over the stream."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from buttdial_sync.errors import ButtDialError

logger = logging.getLogger("buttdial_sync.session")

METHOD_NOT_FOUND = -32601
_WAITING_AT_MOST = 1_000

Message = dict[str, Any]


class ServerRequestReplier:
    """
    Answers a ``ping`` with an empty result, and every other request with "not supported".

    The thread that reads the stream must not send: what it sends may wait for something that only
    it can read. So one daemon thread sends the replies, started by the first request.

    Args:
        name: The thread's name.
        post: Sends a reply; called in that thread.
    """

    def __init__(self, name: str, post: Callable[[Message], None]) -> None:
        self._name = name
        self._post = post
        # Looked up late: gevent replaces the class, and may do so after this module is imported.
        self._requests: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def reply_to(self, request: Message) -> None:
        """Queue a request. Only the reading thread calls this, so starting needs no lock."""
        if self._requests.qsize() >= _WAITING_AT_MOST:
            logger.warning("the server sends more requests than can be answered: one is dropped")
            return
        self._requests.put(request)
        if self._thread is None and not self._stopped:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the next request tries it again
                logger.warning("the server's requests wait: no thread can be started (%s)", error)
                return
            self._thread = thread  # only now: another thread may join it at once

    def finish(self) -> None:
        """End the thread when all that is queued is answered. Never waits."""
        self._requests.put(None)

    def stop(self) -> None:
        """Drop what is queued, and end the thread after the reply under way. Never waits."""
        self._stopped = True
        self._requests.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the thread's end, unless this is that thread."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _run(self) -> None:
        while (request := self._requests.get()) is not None and not self._stopped:
            reply = _reply_to(request)
            try:
                self._post(reply)
            except ButtDialError as error:
                logger.warning(
                    "the server's %s stays unanswered: %s", request["method"], error.message
                )


def _reply_to(request: Message) -> Message:
    method = request["method"]
    refusal = {"code": METHOD_NOT_FOUND, "message": f"{method} is not supported"}
    answer: Message = {"result": {}} if method == "ping" else {"error": refusal}
    return {"jsonrpc": "2.0", "id": request["id"], **answer}
