"""
The ``responses`` face: the fake server behind the ``responses`` library, without a socket.

It registers in ``responses.mock``, the library's own global mock: a private one would be hidden
by a host's ``@responses.activate``. What the host registers for a URL of the fake server comes
first. Time-outs mean nothing here: where a real client would run into one, ``ReadTimeout`` is
raised at once.
"""

from __future__ import annotations

import fnmatch
import io
import re
import threading
from collections.abc import Callable
from typing import ClassVar, NoReturn, final
from urllib.parse import parse_qsl, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError

from buttdial_sync._extras import Extra
from buttdial_sync.testing.fake import FakeServer
from buttdial_sync.testing.http_messages import (
    BrokenConnection,
    HttpResponse,
    Request,
    StreamResponse,
)
from buttdial_sync.testing.stream import ServerStream
from buttdial_sync.transport.addresses import connection_guard
from buttdial_sync.transport.token_breaker import forget_token_breakers
from buttdial_sync.transport.token_location import forget_token_locations

with Extra("testing", "responses"):
    import responses

EVERYWHERE = "*"
_DEFAULT = "https://butt-dial.test"
_JOIN_TIMEOUT = 5.0

MAX_SILENCE = 60.0
"""A read that waits longer than this, in seconds, ends the stream: a thread never waits longer."""

_MOCK_GONE = (
    "A fake server is installed, but its mock has ended: @responses.activate and "
    "responses.reset() remove it with all the rest. Install the fake for each test, in setUp."
)

_Called = tuple[int, dict[str, str], bytes | io.BufferedReader]


class LiveBody(io.BufferedReader):
    """
    A response body that grows while it is read.

    Derived from `io.BufferedReader` because ``responses`` takes no other file-like body.

    Attributes:
        stream: The stream.
        reader: The thread that reads it, once one does.
    """

    def __init__(self, stream: ServerStream) -> None:
        super().__init__(io.BytesIO())
        self.stream = stream
        self.reader: threading.Thread | None = None
        self._rest = b""

    def read1(self, size: int | None = -1, /) -> bytes:
        """Read what is there, waiting for it if there is nothing; ``b""`` at the end."""
        self.reader = threading.current_thread()
        if not self._rest:
            self._rest = self.stream.read(MAX_SILENCE)
        if not self._rest:
            self.stream.end()
        wanted = len(self._rest) if size is None or size < 0 else size
        data, self._rest = self._rest[:wanted], self._rest[wanted:]
        return data

    def read(self, size: int | None = -1, /) -> bytes:
        """Read what is there if a ``size`` is given, else everything until the end."""
        if size is not None and size >= 0:
            return self.read1(size)
        return b"".join(iter(self.read1, b""))

    def close(self) -> None:
        """Leave, as a client does that closes its connection; wakes a reader."""
        # The garbage collector closes too, also an object whose constructor failed.
        if hasattr(self, "stream"):
            self.stream.end()
        super().close()


class _Registration(responses.CallbackResponse):
    """
    Everything at the fake server's origin, whatever the method.

    Attributes:
        origin: The origin, with ``*`` for what may be anything.
    """

    def __init__(
        self, origin: str, callback: Callable[[requests.PreparedRequest], _Called]
    ) -> None:
        # No request has this method, so no registration of the host's is equal to this one.
        super().__init__("FAKE-BUTT-DIAL", re.compile(fnmatch.translate(origin)), callback)
        self.origin = origin

    @property
    def call_count(self) -> int:
        """One at least: a test that wants all its own responses used need not use the fake."""
        return len(self._calls) or 1

    def matches(self, request: requests.PreparedRequest) -> tuple[bool, str]:
        if not fnmatch.fnmatchcase(_origin_of(str(request.url)), self.origin):
            return False, "URL is not the fake server's"
        # Of two that match, responses throws one away: so the host's own has the URL to itself.
        others = responses.mock.get_registry().registered
        for other in others:
            if not isinstance(other, _Registration) and other.matches(request)[0]:
                return False, "the host has registered this URL"
        return True, ""


@final
class MockedServer:
    """
    A fake server behind ``responses``: a context manager.

    Args:
        fake: The server.
        base_url: The origin that the fake server has. ``*`` stands for anything, so ``"*"`` is
            every origin, and ``"https://*.example.com"`` those of one domain.

    Attributes:
        fake: The server.
        base_url: The URL that a client has to be given; of a pattern, one that fits.
    """

    _patch: ClassVar[object] = None
    """What a fake server has put in the place of ``HTTPAdapter.send``, if one has."""

    def __init__(self, fake: FakeServer, base_url: str = _DEFAULT) -> None:
        self.fake = fake
        origin = base_url if base_url == EVERYWHERE else _origin_of(base_url)
        self.base_url = _DEFAULT if origin == EVERYWHERE else origin.replace("*", "butt-dial")
        self._registration = _Registration(origin, self._called)
        self._lock = threading.Lock()
        self._installed = False
        self._bodies: list[LiveBody] = []

    def __enter__(self) -> MockedServer:
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        self.uninstall()

    def install(self) -> None:
        """
        Register, and start ``responses.mock`` if it does not run yet.

        Calling it again repairs what a host's ``@responses.activate`` or ``responses.reset()``
        has undone. Until `uninstall`, a client that finds the mock gone connects to this machine
        only. When the mock starts, ``responses.calls`` begins anew.

        Raises:
            RuntimeError: Another fake server has this origin.
        """
        self._register()
        before = HTTPAdapter.send
        responses.mock.start()
        if HTTPAdapter.send is not before:
            MockedServer._patch = HTTPAdapter.send
            # Calls recorded before belong to a mock that has ended. They keep its server alive.
            responses.mock.calls.reset()
        self._installed = True
        connection_guard.reasons[self] = self._reason_to_stay

    def _register(self) -> None:
        registered = responses.mock.get_registry().registered
        # By identity: ``responses`` takes registrations of the same URL for equal.
        if any(each is self._registration for each in registered):
            return
        others = [each for each in registered if isinstance(each, _Registration)]
        if any(each.origin == self._registration.origin for each in others):
            msg = f"another fake server is installed at {self._registration.origin}"
            raise RuntimeError(msg)
        forget_token_breakers()
        forget_token_locations()  # it may be another kind of server than the last one here
        responses.mock.add(self._registration)

    def uninstall(self) -> None:
        """
        End all streams, and undo `install`, but nothing of the host's.

        It waits, at most some seconds, until the clients have left their sessions: what they send
        next goes to the next server in a session of its own.
        """
        connection_guard.reasons.pop(self, None)
        registered = responses.mock.get_registry().registered
        registered[:] = [each for each in registered if each is not self._registration]
        is_last = not any(isinstance(each, _Registration) for each in registered)
        if is_last and MockedServer._patch is not None:
            if HTTPAdapter.send is MockedServer._patch:
                responses.mock.stop(allow_assert=False)
            MockedServer._patch = None
        with self._lock:
            self._installed = False
            bodies, self._bodies = self._bodies, []
        for body in bodies:
            body.stream.end()
        for body in bodies:
            _wait_for_client(body.reader)

    @staticmethod
    def _reason_to_stay() -> str | None:
        """Return why a client must not leave this machine, or None while the mock runs."""
        is_real = HTTPAdapter.send.__module__ == HTTPAdapter.__module__
        return _MOCK_GONE if is_real else None

    def _keep(self, body: LiveBody) -> None:
        with self._lock:
            self._bodies = [each for each in self._bodies if not each.stream.ended]
            if self._installed:
                self._bodies.append(body)
                return
        body.stream.end()

    def _called(self, prepared: requests.PreparedRequest) -> _Called:
        reply = self.fake.handle(_read(prepared))
        if isinstance(reply, StreamResponse):
            body = LiveBody(reply.stream)
            self._keep(body)
            return 200, {"Content-Type": "text/event-stream"}, body
        if isinstance(reply, HttpResponse):
            if reply.then is not None:
                reply.then()
            return reply.status, {"Content-Type": reply.content_type, **reply.headers}, reply.body
        if isinstance(reply, BrokenConnection):
            _fail(reply, prepared)
        raise RuntimeError("this reply needs a socket: use listen()")


def _wait_for_client(reader: threading.Thread | None) -> None:
    """Wait for the end of a thread that reads a stream, if it is one of a client's."""
    if reader is None or reader is threading.current_thread():
        return
    if reader.name.startswith("buttdial-sync-"):
        reader.join(_JOIN_TIMEOUT)


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def _read(prepared: requests.PreparedRequest) -> Request:
    parts = urlsplit(str(prepared.url))
    body = prepared.body or b""
    return Request(
        str(prepared.method),
        parts.path,
        dict(parse_qsl(parts.query, keep_blank_values=True)),
        {name.lower(): _text(value) for name, value in prepared.headers.items()},
        body.encode() if isinstance(body, str) else bytes(body),
    )


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _fail(broken: BrokenConnection, prepared: requests.PreparedRequest) -> NoReturn:
    if broken.how == "hang":
        msg = "Read timed out. (the fake server's 'hang' fault)"
        raise requests.exceptions.ReadTimeout(msg, request=prepared)
    if broken.how == "reset":
        reset = ConnectionResetError(104, "Connection reset by peer")
        lost = ProtocolError("Connection aborted.", reset)
        raise requests.exceptions.ConnectionError(lost, request=prepared)
    host = urlsplit(str(prepared.url)).hostname or ""
    refused = NewConnectionError(HTTPSConnection(host), "[Errno 111] Connection refused")
    failed = MaxRetryError(HTTPSConnectionPool(host), prepared.path_url, refused)
    raise requests.exceptions.ConnectionError(failed, request=prepared) from refused
