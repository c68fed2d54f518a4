"""An open event stream: bytes go in at one end, a face takes them out at the other."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

Sink = Callable[[bytes], object]

MAX_WAITING_CHUNKS = 10_000


class ServerStream:
    """
    The server's end of one event stream.

    A face either attaches a sink, which gets each chunk in the thread that sends it (no queue and
    no second thread between an answer and the socket), or reads chunk by chunk with `read`.
    """

    def __init__(self, on_end: Callable[[], object] | None = None) -> None:
        self._condition = threading.Condition()
        self._writing = threading.Lock()
        self._chunks: deque[bytes] = deque()
        self._sink: Sink | None = None
        self._hang_up: Callable[[], object] | None = None
        self._on_end = on_end
        self._ended = False
        self._clean = False

    @property
    def ended(self) -> bool:
        """Whether the stream is over."""
        return self._ended

    def send(self, chunk: bytes) -> bool:
        """
        Put bytes on the stream.

        Returns:
            False if the stream is over; the bytes went nowhere.
        """
        with self._writing:
            delivered = self._deliver(chunk)
        if not delivered:
            self.end()
        return delivered

    def _deliver(self, chunk: bytes) -> bool:
        if self._ended:
            return False
        if self._sink is not None:
            try:
                self._sink(chunk)
            except OSError:
                return False
            return True
        with self._condition:
            self._chunks.append(chunk)
            self._condition.notify_all()
        return len(self._chunks) <= MAX_WAITING_CHUNKS

    def attach(self, sink: Sink, hang_up: Callable[[], object]) -> None:
        """
        Let each chunk be written by ``sink``.

        Args:
            sink: Gets every chunk, those that wait already first. An empty chunk is a clean end.
            hang_up: Called when the stream ends; it has to free a ``sink`` that is blocked.
        """
        with self._writing:
            self._hang_up = hang_up
            while self._chunks:
                sink(self._chunks.popleft())
            self._sink = sink
            if self._clean:
                sink(b"")
        if self._ended:
            hang_up()

    def read(self, timeout: float) -> bytes:
        """
        Take everything that waits, waiting for it if there is nothing.

        Args:
            timeout: The longest wait, in seconds.

        Returns:
            The bytes, or ``b""`` when the stream is over or the time is up.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._chunks or self._ended, timeout)
            data = b"".join(self._chunks)
            self._chunks.clear()
        return data

    def end(self, *, clean: bool = False) -> None:
        """
        End the stream. Calling it again does nothing.

        Args:
            clean: Finish the HTTP answer properly; else the connection is just cut.
        """
        if clean:
            with self._writing:
                self._clean = not self._ended
                if self._sink is not None:
                    self._deliver(b"")
        with self._condition:
            if self._ended:
                return
            self._ended = True
            self._condition.notify_all()
        # Without the writing lock: a writer may hold it, blocked on a client that reads nothing,
        # and hanging up is what frees it.
        if self._hang_up is not None:
            self._hang_up()
        if self._on_end is not None:
            self._on_end()


def encode_event(name: str, data: str) -> bytes:
    """Write one event with one ``data`` line for each line of ``data``."""
    lines = [f"event: {name}", *(f"data: {line}" for line in data.split("\n"))]
    return "\n".join(lines).encode() + b"\n\n"


def encode_message(message: Mapping[str, Any]) -> bytes:
    """Write one JSON-RPC message as an event."""
    return encode_event("message", json.dumps(message, separators=(",", ":")))
