"""
Faults: what can go wrong between a client and a server, on demand.

A fault waits until a request comes that fits it, replaces what the server would have done, and is
used up. Faults of one kind are used in the order in which they were set.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Literal, get_args

import attrs

from buttdial_sync.testing.exchange import (
    JSON_TYPE,
    Answer,
    Broken,
    Reply,
    html_answer,
    json_answer,
    text_answer,
)

FaultKind = Literal[
    "refuse",
    "reset",
    "hang",
    "drip",
    "status",
    "html",
    "redirect",
    "no_endpoint",
    "foreign_endpoint",
    "cut",
    "silence",
    "late",
    "garbage",
    "huge",
    "no_content",
    "jsonrpc_error",
]
"""
The kinds of faults, and their options.

====================  =====================================================================
``refuse``            the connection is reset (under ``responses``: refused) before the request
                      is looked at; it is not recorded
``reset``             the connection is reset after the request was read; ``delivered=False``
``hang``              the request is read and nothing is answered; ``delivered=False``
``drip``              a header comes byte by byte and never ends (socket face only);
                      ``interval=0.05`` seconds, ``delivered=False``
``status``            an HTTP answer of its own: ``status``, ``body`` (JSON or str), ``headers``,
                      ``delivered=False``. Without a ``body`` 429 is the limiter of the address, and
                      any other status as good as a proxy's: nothing that the server itself says
``html``              an HTML page with ``status=200``
``redirect``          ``status=307`` to ``location``
``no_endpoint``       the stream opens and stays silent
``foreign_endpoint``  the endpoint is at ``origin="https://elsewhere.example"``
``cut``               202, then the stream is cut; ``delivered=True``; ``partial=True`` lets half
                      of the answer's event out first; ``clean=True`` ends the stream properly
``silence``           202, and never an answer; ``delivered=True``
``late``              202; the answer is held until ``release()``
``garbage``           the answer is not JSON: ``data="{not json"``
``huge``              the answer is a text of ``size=1_000_000`` characters
``no_content``        the answer's result is ``{}``
``jsonrpc_error``     the answer is a JSON-RPC error: ``code=-32603``, ``message``, ``data``
====================  =====================================================================
"""

Place = Literal["call", "stream", "post", "rest"]
"""
Where a fault strikes.

``"call"``: at a ``tools/call``. ``"post"``: at any JSON-RPC message, the handshake included.
``"stream"``: at ``GET /sse``. ``"rest"``: at anything else.
"""

Stage = Literal["http", "open", "answer"]

_LIMITER: Final = "Too many requests"
_EVERYWHERE: Final = ("call", "post", "stream", "rest")
_POSTED: Final = ("call", "post")
_DELIVERED: Final[Mapping[str, Any]] = {"delivered": False}


@attrs.frozen
class _Kind:
    stage: Stage
    places: tuple[Place, ...]
    options: Mapping[str, Any]


_KINDS: Final[Mapping[str, _Kind]] = {
    "refuse": _Kind("http", _EVERYWHERE, {}),
    "reset": _Kind("http", _EVERYWHERE, _DELIVERED),
    "hang": _Kind("http", _EVERYWHERE, _DELIVERED),
    "drip": _Kind("http", _EVERYWHERE, {**_DELIVERED, "interval": 0.05}),
    "status": _Kind(
        "http", _EVERYWHERE, {**_DELIVERED, "status": 500, "body": None, "headers": None}
    ),
    "html": _Kind("http", _EVERYWHERE, {"status": 200}),
    "redirect": _Kind(
        "http", _EVERYWHERE, {"status": 307, "location": "https://elsewhere.example/"}
    ),
    "no_endpoint": _Kind("open", ("stream",), {}),
    "foreign_endpoint": _Kind("open", ("stream",), {"origin": "https://elsewhere.example"}),
    "cut": _Kind("answer", _POSTED, {"delivered": True, "partial": False, "clean": False}),
    "silence": _Kind("answer", _POSTED, {"delivered": True}),
    "late": _Kind("answer", _POSTED, {}),
    "garbage": _Kind("answer", (*_POSTED, "rest"), {"data": "{not json"}),
    "huge": _Kind("answer", (*_POSTED, "rest"), {"size": 1_000_000}),
    "no_content": _Kind("answer", _POSTED, {}),
    "jsonrpc_error": _Kind(
        "answer", _POSTED, {"code": -32603, "message": "Internal error", "data": None}
    ),
}


@attrs.frozen
class Fault:
    """One fault that waits for its request."""

    kind: FaultKind
    on: Place
    tool: str | None
    options: Mapping[str, Any]

    @property
    def delivered(self) -> bool:
        """Whether a call is carried out all the same."""
        return bool(self.options.get("delivered", True))

    def fits(self, stage: Stage, places: tuple[Place, ...], tool: str | None) -> bool:
        """Whether it strikes at this point of this request."""
        if _KINDS[self.kind].stage != stage or self.on not in places:
            return False
        return self.tool is None or self.tool == tool


def make_fault(kind: str, on: str, tool: str | None, options: Mapping[str, Any]) -> Fault:
    """
    Make a fault, with the defaults of its kind.

    Raises:
        ValueError: The kind, its place or an option is unknown.
    """
    known = _KINDS.get(kind)
    if known is None:
        msg = f"unknown fault {kind!r}: one of {sorted(_KINDS)}"
        raise ValueError(msg)
    if on not in known.places:
        msg = f"fault {kind!r} cannot strike on {on!r}: only on {known.places}"
        raise ValueError(msg)
    unknown = options.keys() - known.options.keys()
    if unknown:
        msg = f"fault {kind!r} has no option {sorted(unknown)}: only {sorted(known.options)}"
        raise ValueError(msg)
    if tool is not None and on not in _POSTED:
        msg = f"a fault on {on!r} knows no tool"
        raise ValueError(msg)
    name: FaultKind = next(each for each in get_args(FaultKind) if each == kind)
    place: Place = next(each for each in get_args(Place) if each == on)
    return Fault(name, place, tool, {**known.options, **options})


class FaultBook:
    """The faults that wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def __len__(self) -> int:
        return len(self._faults)

    def add(self, fault: Fault, count: int) -> None:
        """
        Let a fault strike at the next ``count`` requests that fit.

        Raises:
            ValueError: ``count`` is less than one.
        """
        if count < 1:
            msg = f"count must be at least 1, not {count}"
            raise ValueError(msg)
        with self._lock:
            self._faults.extend([fault] * count)

    def take(self, stage: Stage, *places: Place, tool: str | None = None) -> Fault | None:
        """Use up the first fault that fits."""
        if not self._faults:
            return None
        with self._lock:
            for number, fault in enumerate(self._faults):
                if fault.fits(stage, places, tool):
                    return self._faults.pop(number)
        return None

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()


def http_reply(fault: Fault) -> Reply:
    """Do to a request what a fault of the ``http`` stage says."""
    options = fault.options
    if fault.kind == "status":
        return _status_answer(options["status"], options["body"], options["headers"] or {})
    if fault.kind == "html":
        return html_answer(options["status"], "Welcome")
    if fault.kind == "redirect":
        return Answer(options["status"], headers={"Location": options["location"]})
    if fault.kind == "drip":
        return Broken("drip", float(options["interval"]))
    if fault.kind == "hang":
        return Broken("hang")
    return Broken("refuse" if fault.kind == "refuse" else "reset")


def rest_reply(fault: Fault) -> Answer:
    """Answer a REST request with what a fault of the ``answer`` stage says."""
    if fault.kind == "huge":
        return json_answer(200, {"text": "x" * int(fault.options["size"])})
    return Answer(200, str(fault.options["data"]).encode(), JSON_TYPE)


def _status_answer(status: int, body: object, headers: Mapping[str, str]) -> Answer:
    if body is None:
        text = _LIMITER if status == HTTPStatus.TOO_MANY_REQUESTS else f"Status {status}"
        return json_answer(status, {"error": text}, headers)
    if isinstance(body, bytes):
        return Answer(status, body, headers=headers)
    if isinstance(body, str):
        return text_answer(status, body, headers)
    return json_answer(status, body, headers)
