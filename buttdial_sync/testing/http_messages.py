"""Requests and replies between the fake server's core and its faces."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import attrs

if TYPE_CHECKING:
    from buttdial_sync.testing.raised import RaisedErrors
    from buttdial_sync.testing.stream import ServerStream

JSON_TYPE = "application/json"
HTML_TYPE = "text/html; charset=utf-8"
TEXT_TYPE = "text/plain; charset=utf-8"

_HIDDEN = "[hidden]"
_SECRET_QUERY = frozenset({"token", "poll_token"})
_NOTHING: Mapping[str, str] = MappingProxyType({})


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
    """

    method: str
    path: str
    query: Mapping[str, str] = attrs.field(default=_NOTHING, repr=_hide_tokens)
    headers: Mapping[str, str] = attrs.field(default=_NOTHING, repr=_hide_authorization)
    # A body may carry a secret (an OTP, a poll token), so its content stays out of the repr too.
    body: bytes = attrs.field(default=b"", repr=lambda body: f"<{len(body)} bytes>")

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
class HttpResponse:
    """
    A whole HTTP response.

    Attributes:
        status: The status code.
        body: The body's bytes.
        content_type: The ``Content-Type``.
        headers: Further headers.
        then: Called by the face when the response has left.
    """

    status: int
    body: bytes = b""
    content_type: str = TEXT_TYPE
    headers: Mapping[str, str] = _NOTHING
    then: Callable[[], object] | None = attrs.field(default=None, eq=False)


@attrs.frozen
class StreamResponse:
    """A response that stays open: an event stream."""

    stream: ServerStream


@attrs.frozen
class BrokenConnection:
    """
    No response, but trouble with the connection.

    Attributes:
        how: ``"refuse"`` and ``"reset"`` reset the connection, ``"hang"`` says nothing.
    """

    how: Literal["refuse", "reset", "hang"]


@attrs.frozen
class RawResponse:
    """
    Bytes that are not an HTTP response. Only the socket face can send them.

    Attributes:
        write: Gets the socket, and uses it until the connection is over.
    """

    write: Callable[[socket.socket], object]


Reply: TypeAlias = HttpResponse | StreamResponse | BrokenConnection | RawResponse


class Answering(Protocol):
    """
    A server without a socket: what the socket face serves.

    Attributes:
        raised: Keeps what `handle` raises.
    """

    raised: RaisedErrors

    def handle(self, request: Request) -> Reply:
        """Answer one request. Each comes in a thread of its own."""

    def count_connection(self) -> None:
        """Note that a connection was accepted."""


def json_response(
    status: int, value: object, headers: Mapping[str, str] = _NOTHING
) -> HttpResponse:
    """Make a response of something that JSON can hold."""
    return HttpResponse(status, json.dumps(value).encode(), JSON_TYPE, headers)


def text_response(status: int, text: str, headers: Mapping[str, str] = _NOTHING) -> HttpResponse:
    """Make a response of plain text."""
    return HttpResponse(status, text.encode(), TEXT_TYPE, headers)


def html_response(status: int, title: str) -> HttpResponse:
    """Make a response that is an HTML page, as web frameworks send them for their own errors."""
    head = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head>"
    page = f"{head}<body><pre>{title}</pre></body></html>\n"
    return HttpResponse(status, page.encode(), HTML_TYPE)
