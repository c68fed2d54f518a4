"""Connecting a socket that is not for requests, through a proxy and over TLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from urllib3.exceptions import NewConnectionError, ProxyError
from urllib3.util import make_headers

from buttdial_sync.errors.scrubbing import Secret
from buttdial_sync.transport.connections import (
    DeadlineConnection,
    DeadlineHTTPSConnection,
    RequestProgress,
    bound_to_thread,
)
from buttdial_sync.transport.descriptors import KeptSocket, socket_identity


def connect_socket(
    url: str,
    proxy: SplitResult | None,
    progress: RequestProgress,
    *,
    check: Callable[[Any], object] | None = None,
    **tls: Any,
) -> KeptSocket:
    """
    Connect as the HTTP side does, up to the end of the TLS handshake.

    Args:
        url: The server, as http(s).
        proxy: The proxy's address, or None for the direct way.
        progress: Has the deadline; :meth:`RequestProgress.abort` ends the attempt.
        check: Looks at the socket, and raises if it must not be used.
        **tls: What urllib3 has to know for TLS.

    Returns:
        The socket, for the caller to close.

    Raises:
        urllib3.exceptions.ProxyError: The proxy is not there, or refuses.
        OSError: Any other fault, or an ``HTTPError`` of urllib3.
    """
    parts = urlsplit(url)
    is_secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if is_secure else 80)
    first = (host, port) if proxy is None else (proxy.hostname or "", proxy.port or 80)
    connection = DeadlineHTTPSConnection(*first, **tls) if is_secure else DeadlineConnection(*first)
    if proxy is not None:
        connection.set_tunnel(host, port, _login_of(proxy), scheme="http")
    try:
        with bound_to_thread(progress):
            connection.connect()
        if check is not None:
            check(connection.sock)
    except BaseException as error:
        connection.close()
        # http.client says of a proxy that refuses nothing but OSError.
        if proxy is not None and (isinstance(error, NewConnectionError) or type(error) is OSError):
            raise ProxyError("no way through the proxy", error) from None
        raise
    sock, connection.sock = connection.sock, None
    return KeptSocket(sock, socket_identity(sock))


def _login_of(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    # Quoted in the address; masked, because frames show it.
    login = Secret(f"{unquote(proxy.username)}:{unquote(proxy.password or '')}")
    headers = make_headers(proxy_basic_auth=login)
    return {name: Secret(value) for name, value in headers.items()}
