"""The event stream: bytes in, events out."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import suppress

import requests
from sseclient import Event, SSEClient

from buttdial_sync.errors import ProtocolError
from buttdial_sync.transport.connections import RequestProgress
from buttdial_sync.transport.deadline import Clock

_READ_SIZE = 65536
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


class EventStream:
    """
    An open stream of server-sent events.

    One thread iterates; :meth:`close` may be called from any.

    Args:
        response: The streamed answer.
        progress: Its progress, whose deadline is lifted: a good stream may be silent for long.
        url: Where it was opened, without the token; what it names is relative to this.
        max_event_bytes: Events larger than this end the stream.
        clock: A monotonic clock, in seconds.

    Attributes:
        url: As given.
        last_byte_at: When something last arrived, by the clock.
        at_end: Nothing more will come; what is dispatched now may be cut short.
    """

    def __init__(
        self,
        response: requests.Response,
        progress: RequestProgress,
        *,
        url: str,
        max_event_bytes: int,
        clock: Clock,
    ) -> None:
        self.url = url
        self._response = response
        self._progress = progress
        self._max_event_bytes = max_event_bytes
        self._clock = clock
        self.last_byte_at = clock()
        self.at_end = False
        progress.deadline = None

    def events(self) -> Iterator[Event]:
        """
        Yield the events until the stream ends.

        Raises:
            ProtocolError: An event is larger than ``max_event_bytes``, or no UTF-8.
            Exception: Whatever ``requests``, ``urllib3`` and ``http.client`` raise when a stream
                breaks or is closed; there is no common base.
        """
        try:
            for event in SSEClient(_without_byte_order_mark(self._chunks())).events():
                self._check_size(len(event.data))
                yield event
        except UnicodeDecodeError:
            if self.at_end:
                return  # the stream broke in the middle of a character
            raise ProtocolError("the stream is not UTF-8") from None

    def close(self) -> None:
        """End the stream. A reader that is blocked in it wakes up. Never waits."""
        if not self._progress.abort():
            # No socket: a mocked answer, whose body knows how to end itself.
            with suppress(Exception):
                self._response.raw.close()

    def leave(self) -> bool:
        """
        Have the server end the stream. What it has sent by then still comes. Never waits.

        Returns:
            Whether the server can be told.
        """
        return self._progress.end_sending()

    def release(self) -> None:
        """Let go of the connection; for the reading thread, when it has stopped reading."""
        with suppress(Exception):
            self._response.close()

    def _chunks(self) -> Iterator[bytes]:
        # sseclient would read 128 bytes at a time, and iter_content(1) is quadratic; read1 returns
        # what has arrived, however little.
        read = self._response.raw.read1
        open_size = 0
        tail = b""
        while chunk := read(_READ_SIZE):
            self.last_byte_at = self._clock()
            window = tail + chunk
            open_size = _open_size(open_size, window, len(tail))
            self._check_size(open_size)
            tail = window[-3:]
            yield chunk
        self.at_end = True

    def _check_size(self, size: int) -> None:
        if size > self._max_event_bytes:
            raise ProtocolError(
                f"an event of more than {self._max_event_bytes} bytes",
                remediation="Raise max_event_bytes if such answers are wanted.",
            )


def _without_byte_order_mark(chunks: Iterator[bytes]) -> Iterator[bytes]:
    start = b""
    for chunk in chunks:
        start += chunk
        if len(start) >= len(BOM_UTF8) or not BOM_UTF8.startswith(start):
            break
    yield start.removeprefix(BOM_UTF8)
    yield from chunks


def _open_size(before: int, window: bytes, overlap: int) -> int:
    """Return the size of the event that is still open at the window's end."""
    ends = [window.rfind(end) + len(end) for end in _EVENT_ENDS if end in window]
    return len(window) - max(ends) if ends else before + len(window) - overlap
