"""The event stream: bytes in, events out, however they are cut."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator

import pytest
import requests
from sseclient import Event
from urllib3 import HTTPResponse

from buttdial_sync.errors import ProtocolError
from buttdial_sync.transport.connections import RequestProgress
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.sse import EventStream

MIB = 1024 * 1024
ENDINGS = {"LF": b"\n", "CRLF": b"\r\n", "CR": b"\r"}
LINES = (
    "event: endpoint",
    "data: /messages?sessionId=1",
    "",
    ": ping - a comment",
    "",
    "id: 7",
    "retry: 3000",
    "event: message",
    'data: {"a":',
    'data: "\u00e9\u2028\u20ac"}',
    "",
    "unknown: field",
    "data:without blank",
    "",
    "event: nothing to say",
    "",
    "data",
    "data: second line",
    "",
)
WANTED = [
    ("endpoint", "/messages?sessionId=1"),
    ("message", '{"a":\n"\u00e9\u2028\u20ac"}'),
    ("message", "without blank"),
    ("message", "\nsecond line"),
]


class Pieces(io.RawIOBase):
    """A body whose reads return exactly these pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        super().__init__()
        self._pieces = iter(pieces)
        self.reads = 0

    def read1(self, size: int = -1) -> bytes:
        self.reads += 1
        piece = next(self._pieces, b"")
        assert size < 0 or len(piece) <= size
        return piece


def stream_of(raw: object, max_event_bytes: int = 16 * MIB) -> EventStream:
    response = requests.Response()
    response.raw = raw
    return EventStream(
        response,
        RequestProgress(Deadline(5), 5),
        url="https://h.test/sse",
        max_event_bytes=max_event_bytes,
        clock=lambda: 17.0,
    )


def events_of(pieces: Iterable[bytes], max_event_bytes: int = 16 * MIB) -> list[tuple[str, str]]:
    return [(e.event, e.data) for e in stream_of(Pieces(pieces), max_event_bytes).events()]


def body_with(ending: bytes) -> bytes:
    return b"".join(line.encode() + ending for line in LINES)


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_every_split_point(ending: bytes) -> None:
    """Wherever the bytes are cut in two, the same events come out."""
    body = body_with(ending)
    for cut in range(1, len(body)):
        assert events_of([body[:cut], body[cut:]]) == WANTED, f"cut at {cut}: {body[:cut]!r}"


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_small_pieces(ending: bytes, size: int) -> None:
    """Bytes that drip give the same events."""
    body = body_with(ending)
    assert events_of(body[at : at + size] for at in range(0, len(body), size)) == WANTED


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_real_responses(ending: bytes) -> None:
    """A body from ``io.BytesIO`` and one from urllib3 are read alike."""
    body = body_with(ending)
    wrapped = HTTPResponse(io.BytesIO(body), status=200, preload_content=False)
    for raw in (io.BytesIO(body), wrapped):
        assert [(e.event, e.data) for e in stream_of(raw).events()] == WANTED
    wrapped.close()


def test_fields() -> None:
    """``id`` and ``retry`` are read, and the next event does not inherit them."""
    events: list[Event] = list(stream_of(io.BytesIO(body_with(b"\n"))).events())
    assert (events[1].id, events[1].retry) == ("7", "3000")
    assert events[2].id is None


def test_byte_order_mark_is_skipped() -> None:
    """A byte order mark before the first event does not hide its name."""
    assert events_of([b"\xef\xbb\xbf" + body_with(b"\n")]) == WANTED
    assert events_of([b"\xef", b"\xbb", b"\xbf" + body_with(b"\n")]) == WANTED


def test_empty_body() -> None:
    """A body without bytes, and one of comments alone, has no events."""
    assert events_of([]) == []
    assert events_of([b": ping\n\n", b": ping\r\n\r\n", b"\n\n\n"]) == []


def test_big_event_is_read_in_as_many_pieces_as_it_has() -> None:
    """Four MiB in pieces of 64 KiB: one read for each piece, and one for the end."""
    data = b"data: " + b"x" * (4 * MIB) + b"\n\n"
    pieces = [data[at : at + 65536] for at in range(0, len(data), 65536)]
    raw = Pieces(pieces)
    (event,) = stream_of(raw).events()
    assert len(event.data) == 4 * MIB
    assert raw.reads == len(pieces) + 1


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("piece", [65536, 1000, 7])
def test_too_big(ending: bytes, piece: int) -> None:
    """An event over the limit ends the stream, whether it comes in one piece or in many."""
    data = b"data: " + b"x" * 20_000 + ending * 2
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
    with pytest.raises(ProtocolError, match="more than 10000 bytes"):
        events_of(pieces, max_event_bytes=10_000)


def test_too_big_without_an_end() -> None:
    """An event that never ends is given up at the limit, and not read further."""
    endless = Pieces(b"x" * 1000 for _ in range(1_000_000))
    with pytest.raises(ProtocolError):
        list(stream_of(endless, max_event_bytes=10_000).events())
    assert endless.reads < 20


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("piece", [1, 2, 3, 4, 64, 65536])
def test_limit_is_for_one_event(ending: bytes, piece: int) -> None:
    """Many small events are together larger than the limit, and that is fine."""
    body = (b"data: " + b"x" * 50 + ending * 2 + b": ping" + ending * 2) * 50
    pieces = [body[at : at + piece] for at in range(0, len(body), piece)]
    assert len(events_of(pieces, max_event_bytes=200)) == 50


def test_invalid_utf8() -> None:
    """Bytes that are not UTF-8 are a protocol error, without the bytes in it."""
    with pytest.raises(ProtocolError, match="is not UTF-8") as caught:
        events_of([b"data: ok\n\n", b"data: \xff\xfe\n\n"])
    assert caught.value.__cause__ is None


def test_multibyte_character_is_cut() -> None:
    """A character whose bytes come in two pieces is whole."""
    body = "data: \u20ac\U0001f600\n\n".encode()
    for cut in range(1, len(body)):
        assert events_of([body[:cut], body[cut:]]) == [("message", "\u20ac\U0001f600")]


def test_truncated_last_event_is_marked() -> None:
    """What is dispatched after the last byte may be cut short; ``at_end`` says so."""
    stream = stream_of(Pieces([b'data: {"a": 1}\n\n', b'data: {"a": ']))
    seen = [(event.data, stream.at_end) for event in stream.events()]
    assert seen == [('{"a": 1}', False), ('{"a": ', True)]


@pytest.mark.parametrize("left", [1, 2, 3])
def test_a_stream_that_ends_within_a_character(left: int) -> None:
    """It was cut, as anywhere else: no error of the server's, so that the call is tried again."""
    cut = "data: \U0001f600".encode()[: left - 4]
    stream = stream_of(Pieces([b"data: ok\n\n", cut]))
    assert [event.data for event in stream.events()] == ["ok"]
    assert stream.at_end


def test_last_byte_is_timed() -> None:
    """The clock is read with each piece, so that silence can be measured."""
    times: Iterator[float] = iter([1.0, 2.0, 3.0])
    response = requests.Response()
    response.raw = Pieces([b"data: a\n\n", b": ping\n\n"])
    stream = EventStream(
        response,
        RequestProgress(Deadline(5), 5),
        url="u",
        max_event_bytes=100,
        clock=lambda: next(times),
    )
    assert stream.last_byte_at == 1.0
    assert len(list(stream.events())) == 1
    assert stream.last_byte_at == 3.0


def test_open_stream_has_no_deadline() -> None:
    """A good stream may be silent for longer than any call takes."""
    progress = RequestProgress(Deadline(5), 5)
    response = requests.Response()
    response.raw = io.BytesIO()
    EventStream(response, progress, url="u", max_event_bytes=1, clock=lambda: 0.0)
    assert progress.deadline is None
    assert progress.time_left() is None


class BlockingBody(Pieces):
    """A body without a socket that says nothing until it is closed."""

    def __init__(self) -> None:
        super().__init__(iter(lambda: b"", None))
        self.reading, self._ended = threading.Event(), threading.Event()

    def read1(self, size: int = -1) -> bytes:
        self.reading.set()
        self._ended.wait(5)
        return b""

    def close(self) -> None:
        if hasattr(self, "_ended"):
            self._ended.set()
        super().close()


def test_close_wakes_a_reader() -> None:
    """``close`` from another thread ends a blocked read; it may be called again."""
    body = BlockingBody()
    stream = stream_of(body)
    reader = threading.Thread(target=lambda: list(stream.events()))
    reader.start()
    assert body.reading.wait(5)
    stream.close()
    stream.close()
    reader.join(5)
    assert not reader.is_alive()
    stream.release()
    stream.release()


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"data:x\n\n",
        b"data:x\r\n\r\n",
        b"data:x\n\ndata:x\r\rdata:x\n\n",
        b"data:x\r\rdata:x\n\n",
    ],
    ids=repr,
)
@pytest.mark.parametrize("cut", [0, 3, 20])
def test_limit_is_exact(before: bytes, cut: int) -> None:
    """An event that is still open counts from the end of the last one, to the byte."""
    limit = 40
    open_event = b"data:" + b"y" * (limit - 5)
    head, rest = before + open_event[:cut], open_event[cut:]
    pieces = [head, rest] if head else [rest]
    assert events_of(pieces, limit)
    with pytest.raises(ProtocolError, match="more than 40 bytes"):
        events_of([*pieces, b"y"], limit)
    with pytest.raises(ProtocolError, match="more than 40 bytes"):
        events_of([*pieces[:-1], pieces[-1] + b"y"], limit)


def test_limit_of_a_whole_event() -> None:
    """An event whose text is as long as the limit is dispatched."""
    assert events_of([b"data:", b"y" * 30, b"\n\n"], 37) == [("message", "y" * 30)]
