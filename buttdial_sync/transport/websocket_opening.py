"""Opening a WebSocket: the way there, the certificate and its pin, the upgrade with the token."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from typing import Any, Generic
from urllib.parse import SplitResult, urlsplit

import attrs
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy
from urllib3.exceptions import HTTPError

from buttdial_sync.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    AuthError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    DeadlineExceededError,
    ProtocolError,
    TransportError,
    error_from_response,
)
from buttdial_sync.errors.scrubbing import Secret
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.transport.connections import RequestProgress
from buttdial_sync.transport.deadline import Clock, Deadline
from buttdial_sync.transport.deadline_socket import DeadlineSocket, SecuredSocket
from buttdial_sync.transport.descriptors import KeptSocket
from buttdial_sync.transport.failures import clear_frames, failure_of
from buttdial_sync.transport.fork import leak_until_exit, reset_after_fork
from buttdial_sync.transport.http import USER_AGENT, decoded
from buttdial_sync.transport.network import address_of, is_private, is_this_machine
from buttdial_sync.transport.tunnel import connect_socket
from buttdial_sync.transport.websocket import (
    MISSING,
    R,
    ReadingConnection,
    WebSocket,
    factory_of,
    wire_logger,
)

try:
    from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
    from websockets.sync.client import connect
except ImportError as error:
    raise ImportError(MISSING) from error

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REFUSED_TOKENS = frozenset({401, 403})
_MOST_WORDS = 200
_HTTP_SCHEMES = {"ws": "http", "wss": "https"}
_CLOSE_SECONDS = 0.5
_SHA256_HEX = re.compile(r"[0-9a-f]{64}")
_NOT_IN_A_SUBPROTOCOL = re.compile(r"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_CA_FILES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def check_pins(pins: str | Collection[str]) -> frozenset[str]:
    """
    Return certificate pins in lower case, without colons and without ``sha256:``.

    Raises:
        ArgumentValueError: One is not a SHA-256 in hexadecimal.
    """
    listed = [pins] if isinstance(pins, str) else list(pins)
    plain = {pin.lower().removeprefix("sha256:").replace(":", "") for pin in listed}
    if not all(_SHA256_HEX.fullmatch(pin) for pin in plain):
        raise ArgumentValueError("a pin must be the SHA-256 of a certificate, in hexadecimal")
    return frozenset(plain)


@attrs.frozen(kw_only=True)
class WebSocketOptions:
    """
    What every connection of a client has in common.

    Attributes:
        connect_timeout: Seconds for the whole opening: proxy, TLS, upgrade.
        max_size: Larger messages end the connection, in bytes.
        ping_interval: Seconds between pings.
        ping_timeout: Seconds after which an unanswered ping ends the connection.
        ssl_context: TLS settings; those of ``ca_file`` when None.
        ca_file: A file of certificates to trust instead of the usual ones.
        pins: SHA-256 of the certificates that the server may have, in hexadecimal. Checked besides
            the usual verification, before the token is sent. Empty for any.
        insecure_hosts: Hosts to which a token may go unencrypted. This machine always may.
        token_as_subprotocol: Send the token as a subprotocol too, if it can be one.
        compress: Offer to compress messages. It makes small ones slower.
        clock: A monotonic clock, in seconds.
    """

    connect_timeout: float = 10.0
    max_size: int = 8 * 1024 * 1024
    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    ssl_context: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    ca_file: str | None = None
    pins: Collection[str] = attrs.field(default=(), converter=check_pins)
    insecure_hosts: Collection[str] = ()
    token_as_subprotocol: bool = False
    compress: bool = False
    clock: Clock = time.monotonic


def check_websocket_url(url: str, name: str) -> str:
    """
    Return the address of a WebSocket server as given, without blanks around it.

    Raises:
        ArgumentTypeError: It is not text.
        ArgumentValueError: It is not a plain ws(s) address.
    """
    if not isinstance(url, str):
        raise ArgumentTypeError(f"{name} must be text")
    parts = address_of(url, _HTTP_SCHEMES)
    if parts is None:
        raise ArgumentValueError(f"{name} must begin with ws:// or wss:// and name a host")
    if parts.fragment or parts.username is not None:
        raise ArgumentValueError(f"{name} must be a plain address: no fragment, no user")
    return url.strip()


class WebSocketOpener(Generic[R]):
    """
    Opens connections to one address. Safe to share between threads.

    Args:
        url: The address, checked by :func:`check_websocket_url`.
        make_receiver: Makes what gets the messages of a connection.
        options: See :class:`WebSocketOptions`.
        on_event: Called for each connection that is opened.

    Raises:
        ConfigError: The options do not fit the address.
    """

    def __init__(
        self,
        url: str,
        make_receiver: Callable[[], R],
        options: WebSocketOptions,
        on_event: Callable[[ClientEvent], None],
    ) -> None:
        self._url = url
        self._parts = urlsplit(url)
        self._make_receiver = make_receiver
        self._options = options
        self._on_event = on_event
        self._closed = False
        self._starting: set[RequestProgress] = set()
        if self._parts.scheme == "ws" and (options.pins or options.ca_file or options.ssl_context):
            raise ArgumentValueError("TLS settings need an address that begins with wss://")
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: what the parent is opening stays the parent's."""
        leak_until_exit(self._starting)
        self._starting = set()

    def open(self, token: str, deadline: Deadline) -> WebSocket[R]:
        """
        Connect and shake hands.

        Args:
            token: Sent in the upgrade; "" for none.
            deadline: The deadline of the call that needs the connection.

        Raises:
            AuthError: The server refused the token.
            ButtDialError: No connection, for another reason. Nothing was sent.
        """
        token = Secret(token)  # this frame is that of the error
        started = self._options.clock()
        limit = deadline.within(self._options.connect_timeout)
        progress = RequestProgress(limit, self._options.connect_timeout)
        self._starting.add(progress)
        try:
            found = self._opened(token, progress, limit)
        finally:
            self._starting.discard(progress)
        if isinstance(found, ButtDialError):
            found.outcome = "rejected" if isinstance(found, AuthError) else "not_sent"
            try:
                raise found
            finally:
                del found  # its traceback holds this frame, and so the whole client
        try:
            seconds = self._options.clock() - started
            self._on_event(ClientEvent(kind="connect", operation="websocket", seconds=seconds))
            return found  # noqa: TRY300 - not after the try, where Ctrl-C would lose it
        except BaseException:  # Ctrl-C while the host's function runs: nobody has the connection
            found.close(0)
            raise

    def close(self) -> None:
        """End the connections that are being opened, and open no more."""
        self._closed = True
        for progress in self._starting.copy():
            progress.abort()

    def _opened(
        self, token: str, progress: RequestProgress, limit: Deadline
    ) -> WebSocket[R] | ButtDialError:
        """Return the connection or the error to raise; no frame of that error holds a token."""
        try:
            headers = self._headers(token)
            if self._closed:
                return ClientClosedError("the client is closed")
            kept = self._connected(progress)
            progress.runs_on(kept)
            return self._upgraded(kept, token, headers, limit)
        except (ButtDialError, HTTPError, OSError, ValueError, WebSocketException) as error:
            failure = self._failure_of(error, token, progress)
            clear_frames(error)
        return failure

    def _failure_of(self, error: Exception, token: str, progress: RequestProgress) -> ButtDialError:
        if self._closed:
            return ClientClosedError("the client was closed meanwhile")
        if isinstance(error, ButtDialError):
            return error.as_kind(type(error))
        # websockets 17 wraps a redirect that it cannot follow.
        status = error if isinstance(error, InvalidStatus) else error.__cause__
        if isinstance(status, InvalidStatus):
            return _refusal(status, token)
        if isinstance(error, InvalidHandshake):
            return _bad_handshake(error)
        return failure_of(error, progress, self._url, closed=False)

    def _headers(self, token: str) -> dict[str, str]:
        if not token:
            return {}
        if not (token.isascii() and token.isprintable()):
            raise ArgumentValueError("the token has characters that cannot be sent")
        if not is_private(self._url, self._options.insecure_hosts):
            raise ConfigError(
                "the token would travel unencrypted, and everybody on the way could read it",
                remediation="Use wss://, or name the host in insecure_hosts.",
            )
        return {"Authorization": Secret(f"Bearer {token}")}

    def _connected(self, progress: RequestProgress) -> KeptSocket:
        """Connect as the HTTP side does, up to the end of the TLS handshake."""
        proxy = self._proxy()
        tls = {"ssl_context": self._context()} if self._parts.scheme == "wss" else {}
        return connect_socket(_as_http(self._parts), proxy, progress, check=self._check_pin, **tls)

    def _proxy(self) -> SplitResult | None:
        http_url = _as_http(self._parts)
        if is_this_machine(http_url):
            return None
        found = select_proxy(http_url, get_environ_proxies(http_url))
        if not found:
            return None
        proxy = urlsplit(found if "://" in found else f"http://{found}")
        if proxy.scheme != "http" or not proxy.hostname:
            raise ConfigError(
                f"the proxy of the environment is not one for WebSockets ({proxy.scheme})",
                remediation="Give an http:// proxy, or name the host in NO_PROXY.",
            )
        return proxy

    def _context(self) -> ssl.SSLContext:
        if self._options.ssl_context is not None:
            return self._options.ssl_context
        named = next((os.environ[name] for name in _CA_FILES if os.environ.get(name)), None)
        file = self._options.ca_file or named or DEFAULT_CA_BUNDLE_PATH
        with suppress(OSError, ValueError):
            if os.path.isdir(file):
                return ssl.create_default_context(capath=file)
            return ssl.create_default_context(cafile=file)
        raise ConfigError(
            f"the certificates to trust cannot be read: {file}",
            remediation="Give a file of certificates in PEM as ca_file.",
        )

    def _check_pin(self, sock: Any) -> None:
        if not self._options.pins:
            return
        digest = hashlib.sha256(sock.getpeercert(binary_form=True)).hexdigest()
        if digest not in self._options.pins:
            raise TransportError(
                f"the server's certificate is not a pinned one; its SHA-256 is {digest}",
                code="TLS",
                remediation="If the server has a new certificate, pin that. Else somebody is in "
                "between. The token was not sent.",
            )

    def _upgraded(
        self, kept: KeptSocket, token: str, headers: dict[str, str], limit: Deadline
    ) -> WebSocket[R]:
        options = self._options
        wire = DeadlineSocket(kept)
        socket = WebSocket(self._make_receiver(), secrets=(token,), clock=options.clock)
        in_library: dict[str, Any] = {
            "sock": wire,
            "ssl": _SECURED if self._parts.scheme == "wss" else None,
            "additional_headers": headers,
            "user_agent_header": USER_AGENT,
            "proxy": None,
            "compression": "deflate" if options.compress else None,
            "open_timeout": max(limit.remaining(), 0.001),
            "ping_interval": options.ping_interval,
            "ping_timeout": options.ping_timeout,
            "close_timeout": _CLOSE_SECONDS,
            "max_size": options.max_size,
            "logger": wire_logger,
            "create_connection": factory_of(socket),
        }
        if options.token_as_subprotocol and token and not _NOT_IN_A_SUBPROTOCOL.search(token):
            in_library["subprotocols"] = [token]
        # A context, because a plain call warns from websockets 17.1 on. close() ends it.
        try:
            connection = ExitStack().enter_context(connect(self._url, **in_library))
        except TimeoutError:
            raise DeadlineExceededError(
                f"no WebSocket within {limit.seconds:.3g} s", code="TIMEOUT"
            ) from None
        except BaseException:  # Ctrl-C, too: nobody else has the socket
            wire.close()
            raise
        assert isinstance(connection, ReadingConnection)  # noqa: S101 - what factory_of makes
        socket.attach(connection)
        return socket


_SECURED = SecuredSocket(ssl.PROTOCOL_TLS_CLIENT)


def _as_http(parts: SplitResult) -> str:
    return parts._replace(scheme=_HTTP_SCHEMES[parts.scheme]).geturl()


def _refusal(error: InvalidStatus, token: str) -> ButtDialError:
    response = error.response
    status = response.status_code
    if status in _REDIRECTS:
        return ProtocolError(
            f"the server redirects (HTTP {status}); that is not followed", status_code=status
        )
    body = decoded(bytes(response.body or b""), token)
    if status in _REFUSED_TOKENS:  # with or without words, as this is not a server's HTTP API
        words = body if isinstance(body, str) and len(body) < _MOST_WORDS else ""
        told = f"the server refuses the upgrade (HTTP {status}) {words}".strip()
        return AuthError(told, status_code=status, body=body)
    return error_from_response(status, body, dict(response.headers.raw_items()), exchange="stream")


def _bad_handshake(error: InvalidHandshake) -> ButtDialError:
    if isinstance(error.__cause__, EOFError | OSError):
        return TransportError("the server ended the connection instead of an upgrade")
    # Not the error's own text: it may hold the token, in the case of the letters of another.
    return ProtocolError(
        f"the server's answer is not that of a WebSocket server ({type(error).__name__})",
        remediation="Check the address, and that it is a WebSocket server's.",
    )
