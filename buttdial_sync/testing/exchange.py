"""What travels between the fake server's core and its faces: requests and replies."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    from buttdial_sync.testing.stream import EventStream

JSON_TYPE = "application/json"
HTML_TYPE = "text/html; charset=utf-8"
TEXT_TYPE = "text/plain; charset=utf-8"

_HIDDEN = "[hidden]"
_SECRET_QUERY = frozenset({"token", "poll_token"})
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def _hide_authorization(headers: Mapping[str, str]) -> str:
    return repr({k: _HIDDEN if k == "authorization" else v for k, v in headers.items()})


def _hide_tokens(query: Mapping[str, str]) -> str:
    return repr({k: _HIDDEN if k in _SECRET_QUERY else v for k, v in query.items()})


@attrs.frozen
class Request:
    """
    One HTTP request as the server got it.

    Attributes:
        method: The method, upper case.
        path: The path without the query.
        query: The query parameters; of a repeated one the last.
        headers: The headers, with lower-case names.
        body: The body's bytes.
        origin: Scheme and host that the client used, for absolute endpoints.
    """

    method: str
    path: str
    query: Mapping[str, str] = attrs.field(default=_NO_HEADERS, repr=_hide_tokens)
    headers: Mapping[str, str] = attrs.field(default=_NO_HEADERS, repr=_hide_authorization)
    # A body may carry a secret (an OTP, a poll token), so its content stays out of the repr too.
    body: bytes = attrs.field(default=b"", repr=lambda body: f"<{len(body)} bytes>")
    origin: str = ""

    @property
    def json(self) -> Any:
        """The body, decoded from JSON."""
        return json.loads(self.body)

    @property
    def bearer(self) -> str | None:
        """The token of the ``Authorization: Bearer`` header, or None."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None


@attrs.frozen
class Answer:
    """
    A whole HTTP answer.

    Attributes:
        status: The status code.
        body: The body's bytes.
        content_type: The ``Content-Type``.
        headers: Further headers.
        then: Called by the face once the answer has left.
    """

    status: int
    body: bytes = b""
    content_type: str = TEXT_TYPE
    headers: Mapping[str, str] = _NO_HEADERS
    then: Callable[[], object] | None = attrs.field(default=None, eq=False)


@attrs.frozen
class OpenStream:
    """An answer that stays open: an event stream."""

    stream: EventStream


@attrs.frozen
class Broken:
    """
    No answer, but trouble with the connection.

    Attributes:
        how: ``"refuse"`` and ``"reset"`` reset the connection, ``"hang"`` says nothing and
            ``"drip"`` sends a header that never ends.
        interval: Between two bytes of a drip, in seconds.
    """

    how: Literal["refuse", "reset", "hang", "drip"]
    interval: float = 0.05


Reply: TypeAlias = Answer | OpenStream | Broken


def json_answer(status: int, value: object, headers: Mapping[str, str] = _NO_HEADERS) -> Answer:
    """Make an answer out of something that JSON can hold."""
    return Answer(status, json.dumps(value).encode(), JSON_TYPE, headers)


def text_answer(status: int, text: str, headers: Mapping[str, str] = _NO_HEADERS) -> Answer:
    """Make an answer of plain text."""
    return Answer(status, text.encode(), TEXT_TYPE, headers)


def html_answer(status: int, title: str) -> Answer:
    """Make an answer that is an HTML page, as web frameworks send them for their own errors."""
    head = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head>"
    page = f"{head}<body><pre>{title}</pre></body></html>\n"
    return Answer(status, page.encode(), HTML_TYPE)
