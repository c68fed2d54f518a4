"""
Faults: what can go wrong between a client and a server, on demand.

A fault waits until a request comes that fits it, replaces what the server would have done, and is
used up. Faults that fit the same request are used in the order in which they were set.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, Literal, TypeVar, get_args

import attrs

from buttdial_sync.testing.http_messages import (
    BrokenConnection,
    HttpResponse,
    Reply,
    html_response,
    json_response,
    text_response,
)
from buttdial_sync.testing.stream import ServerStream, encode_message

FaultKind = Literal["refuse", "reset", "hang", "status", "html", "cut", "silence", "late"]
"""
The kinds of faults, and their options.

===========  ======================================================================================
``refuse``   the connection is reset (under ``responses``: refused) before the request is looked at;
             it is not recorded
``reset``    the connection is reset after the request was read; ``delivered=False``
``hang``     the request is read and nothing is answered; ``delivered=False``
``status``   an HTTP answer of its own: ``status``, ``body`` (JSON or str), ``headers``,
             ``delivered=False``. Without a ``body`` 429 is the limiter of the address, and any
             other status could be a proxy's: the answer has nothing that the server itself says
``html``     an HTML page with ``status=200``
``cut``      202, then the stream is cut; ``delivered=True``; ``partial=True`` lets half of the
             answer's event out first; ``clean=True`` ends the stream properly
``silence``  202, and never an answer; ``delivered=True``
``late``     202; the answer is held until ``release()``
===========  ======================================================================================
"""

Place = Literal["call", "stream", "post", "rest"]
"""
Where a fault strikes.

``"call"``: at a ``tools/call``. ``"post"``: at any JSON-RPC message, the handshake included.
``"stream"``: at ``GET /sse``. ``"rest"``: at anything else.
"""

Emit = Callable[[ServerStream, Mapping[str, Any]], object]

_LIMITER: Final = "Too many requests"
_POSTED: Final[tuple[Place, ...]] = ("call", "post")


@attrs.frozen(kw_only=True)
class RequestFault:
    """
    A fault that replaces the answer to an HTTP request.

    Attributes:
        on: Where it strikes.
        tool: Only at calls of this tool.
        reply: The reply instead of the server's own.
        delivered: Whether the request is carried out all the same.
    """

    on: Place
    tool: str | None = None
    reply: Reply
    delivered: bool = False


@attrs.frozen(kw_only=True)
class AnswerFault:
    """
    A fault that strikes after the POST was accepted with 202, at the answer on the stream.

    Attributes:
        on: Where it strikes.
        tool: Only at calls of this tool.
        emit: Gets the stream and the JSON-RPC answer, and does what is wrong with it. None holds
            the answer until ``release()``.
        delivered: Whether the call is carried out.
    """

    on: Place
    tool: str | None = None
    emit: Emit | None = None
    delivered: bool = True


Fault = TypeVar("Fault", RequestFault, AnswerFault)


def _status(*, status: int, body: object, headers: Mapping[str, str] | None) -> HttpResponse:
    if body is None:
        text = _LIMITER if status == HTTPStatus.TOO_MANY_REQUESTS else f"Status {status}"
        body = {"error": text}
    if isinstance(body, bytes):
        return HttpResponse(status, body, headers=headers or {})
    if isinstance(body, str):
        return text_response(status, body, headers or {})
    return json_response(status, body, headers or {})


def _html(*, status: int) -> HttpResponse:
    return html_response(status, "Welcome")


def _cut(stream: ServerStream, answer: Mapping[str, Any], *, partial: bool, clean: bool) -> None:
    if partial:
        event = encode_message(answer)
        stream.send(event[: len(event) // 2])
    stream.end(clean=clean)


def _silence(_stream: ServerStream, _answer: Mapping[str, Any]) -> None:
    """Send nothing."""


@attrs.frozen
class _Kind:
    """Makes the faults of one kind: out of ``reply`` or ``emit``, which get the options."""

    options: Mapping[str, Any] = attrs.field(factory=dict)
    reply: Callable[..., Reply] | None = None
    emit: Callable[..., object] | None = None

    def make(
        self, on: Place, tool: str | None, options: Mapping[str, Any]
    ) -> RequestFault | AnswerFault:
        chosen = {**self.options, **options}
        if self.reply is not None:
            delivered = chosen.pop("delivered", False)
            return RequestFault(on=on, tool=tool, reply=self.reply(**chosen), delivered=delivered)
        delivered = chosen.pop("delivered", True)
        emit = self.emit and functools.partial(self.emit, **chosen)
        return AnswerFault(on=on, tool=tool, emit=emit, delivered=delivered)


_KINDS: Final[Mapping[FaultKind, _Kind]] = {
    "refuse": _Kind(reply=functools.partial(BrokenConnection, "refuse")),
    "reset": _Kind({"delivered": False}, reply=functools.partial(BrokenConnection, "reset")),
    "hang": _Kind({"delivered": False}, reply=functools.partial(BrokenConnection, "hang")),
    "status": _Kind(
        {"delivered": False, "status": 500, "body": None, "headers": None}, reply=_status
    ),
    "html": _Kind({"status": 200}, reply=_html),
    "cut": _Kind({"delivered": True, "partial": False, "clean": False}, emit=_cut),
    "silence": _Kind({"delivered": True}, emit=_silence),
    "late": _Kind(),
}


def make_fault(
    kind: FaultKind, on: Place, tool: str | None, options: Mapping[str, Any]
) -> RequestFault | AnswerFault:
    """
    Make a fault, with the defaults of its kind.

    Raises:
        ValueError: The kind, its place or an option is unknown.
    """
    known = _KINDS.get(kind)
    if known is None:
        raise ValueError(f"unknown fault {kind!r}: one of {sorted(_KINDS)}")
    places = _POSTED if known.reply is None else get_args(Place)
    if on not in places:
        raise ValueError(f"fault {kind!r} cannot strike on {on!r}: only on {places}")
    unknown = options.keys() - known.options.keys()
    if unknown:
        only = sorted(known.options)
        raise ValueError(f"fault {kind!r} has no option {sorted(unknown)}: only {only}")
    if tool is not None and on not in _POSTED:
        raise ValueError(f"a fault on {on!r} cannot be limited to a tool")
    return known.make(on, tool, options)


@attrs.define(eq=False)
class _WaitingFault:
    fault: RequestFault | AnswerFault
    times_left: int


class Faults:
    """The faults that wait for their requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_WaitingFault] = []

    def add(self, fault: RequestFault | AnswerFault, count: int = 1) -> None:
        """
        Let a fault strike at the next ``count`` requests that fit.

        Raises:
            ValueError: ``count`` is less than one.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        with self._lock:
            self._waiting.append(_WaitingFault(fault, count))

    def take(
        self, kind: type[Fault], places: tuple[Place, ...], tool: str | None = None
    ) -> Fault | None:
        """Use up the first fault of this kind that fits."""
        with self._lock:
            for waiting in self._waiting:
                fault = waiting.fault
                fits = fault.on in places and fault.tool in {None, tool}
                if fits and isinstance(fault, kind):
                    waiting.times_left -= 1
                    if not waiting.times_left:
                        self._waiting.remove(waiting)
                    return fault
        return None

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._waiting.clear()
