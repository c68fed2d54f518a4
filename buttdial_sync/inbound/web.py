"""The two interfaces of Python's web servers, WSGI and ASGI, for what answers requests."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

import attrs

Environ: TypeAlias = dict[str, Any]
WsgiApplication: TypeAlias = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApplication: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]


@attrs.frozen(kw_only=True)
class Request:
    """
    A request, whichever server it came through.

    Attributes:
        method: As in ``"POST"``.
        path: Below the place where the application is mounted, without slashes at its ends.
        query: Its parameters; of one that came twice, the last.
        headers: By their names in lower case.
        body: At most one byte more than the application takes.
        surroundings: WSGI's environ, or ASGI's scope.
    """

    method: str
    path: str
    query: Mapping[str, str] = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    surroundings: Mapping[str, Any] = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Response:
    """The answer to a :class:`Request`."""

    status: int
    body: str
    headers: Mapping[str, str]


Respond: TypeAlias = Callable[[Request], Response]

_LATER_PROTOCOLS = ("HTTP/2", "HTTP/3")
_LENGTH = re.compile("[0-9]{1,18}")
_LENGTH_REQUIRED = Response(
    status=411,
    body='{"error": "the server does not tell where the body ends: send a Content-Length"}',
    headers={"Content-Type": "application/json"},
)


def lacks_length(environ: Mapping[str, Any]) -> bool:
    """Whether a WSGI request may have a body, but does not say how long it is."""
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        return True
    # Before HTTP/2 a request without chunks and without a length has no body.
    is_later = environ.get("SERVER_PROTOCOL", "").startswith(_LATER_PROTOCOLS)
    has_body = environ.get("REQUEST_METHOD") not in {"GET", "HEAD"}
    return is_later and has_body and not environ.get("CONTENT_LENGTH")


def has_unknown_length(environ: Mapping[str, Any]) -> bool:
    """Whether a body has no length, and the WSGI server does not tell where it ends either."""
    return lacks_length(environ) and not environ.get("wsgi.input_terminated")


def headers_of(environ: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers of a WSGI request, by their names in lower case."""
    return {
        name[len("HTTP_") :].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }


def read_body(environ: Mapping[str, Any], at_most: int) -> bytes:
    """
    Read the body of a WSGI request of which not :func:`has_unknown_length`.

    Returns:
        The body; of one that is longer than ``at_most`` only one byte more, which is enough to
        refuse it.
    """
    length = at_most + 1
    # A server that puts such a body together ends the stream behind it.
    if not lacks_length(environ):
        declared = environ.get("CONTENT_LENGTH") or ""
        length = min(length, int(declared) if _LENGTH.fullmatch(declared) else 0)
    stream, body = environ["wsgi.input"], bytearray()
    while len(body) < length and (part := stream.read(length - len(body))):
        body += part
    return bytes(body)


def wsgi_application(respond: Respond, max_body_bytes: int) -> WsgiApplication:
    """
    Return a WSGI application. Safe to share between threads and forks.

    Args:
        respond: Answers a request.
        max_body_bytes: No more than one byte more than this is read of a body.
    """

    def application(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if has_unknown_length(environ):
            response = _LENGTH_REQUIRED
        else:
            response = respond(_request_of(environ, max_body_bytes))
        content = response.body.encode()
        start_response(
            f"{response.status} {HTTPStatus(response.status).phrase}",
            [*response.headers.items(), ("Content-Length", str(len(content)))],
        )
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [content]

    return application


def asgi_application(respond: Respond, max_body_bytes: int) -> AsgiApplication:
    """
    Return an ASGI application, for servers on asyncio.

    Args:
        respond: Answers a request. It may block, because it runs in a thread.
        max_body_bytes: As in :func:`wsgi_application`.
    """
    import asyncio  # late: it is large, and only those who have it already need it

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": f"{scope['type']}.close"})
            return
        body = await _receive_body(receive, max_body_bytes)
        if body is None:
            return
        response = await asyncio.to_thread(respond, _request_in(scope, body))
        content = response.body.encode()
        headers = {**response.headers, "Content-Length": str(len(content))}
        await send(
            {
                "type": "http.response.start",
                "status": response.status,
                "headers": [(name.lower().encode(), headers[name].encode()) for name in headers],
            }
        )
        is_head = scope["method"] == "HEAD"
        await send({"type": "http.response.body", "body": b"" if is_head else content})

    return application


def _request_of(environ: Environ, max_body_bytes: int) -> Request:
    # WSGI hands over bytes as text: each byte is a character.
    path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
    return Request(
        method=environ["REQUEST_METHOD"],
        path=path.strip("/"),
        query=dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)),
        headers=headers_of(environ),
        body=read_body(environ, max_body_bytes),
        surroundings=environ,
    )


def _request_in(scope: Message, body: bytes) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        # Joined as WSGI servers do: of two signatures neither may win.
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    root = scope.get("root_path", "").strip("/")
    # Some routers leave the place where they mounted an application in its path, others do not. A
    # path that is the root itself is not left over: it is a channel with the name of the place.
    path = scope["path"].strip("/").removeprefix(f"{root}/")
    return Request(
        method=scope["method"],
        path=path.strip("/"),
        query=dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
        headers=headers,
        body=body,
        surroundings=scope,
    )


async def _receive_body(receive: Receive, at_most: int) -> bytes | None:
    """Return the body, or None if the client went away before its end."""
    body = bytearray()
    while len(body) <= at_most:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return bytes(body)


async def _live(receive: Receive, send: Send) -> None:
    """Answer the server's start and end: there is nothing to prepare."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
