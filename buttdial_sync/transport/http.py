"""The HTTP layer: one pool of connections, no cookies, no redirects, one deadline a request."""

from __future__ import annotations

import platform
import ssl
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    SSLError,
)

from buttdial_sync._version import __version__
from buttdial_sync.errors import (
    ButtDialError,
    ClientClosedError,
    ConfigError,
    DeadlineExceededError,
    ProtocolError,
    TransportError,
)
from buttdial_sync.transport.connections import DeadlineAdapter, Exchange, running
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.fork import keep_unclosed, on_fork_start_anew
from buttdial_sync.transport.secrets import scrub

OK = 200
_USER_AGENT = (
    f"buttdial-sync/{__version__} python/{platform.python_version()} "
    f"requests/{requests.__version__}"
)

REMEDIES = {
    "DNS": "Check the host in base_url and this machine's name resolution.",
    "REFUSED": "Nothing listens there: check the host and port in base_url, and start the server.",
    "TLS": "Check the server's certificate, this machine's clock, and REQUESTS_CA_BUNDLE.",
    "PROXY": "Check HTTP_PROXY, HTTPS_PROXY and NO_PROXY.",
    "TIMEOUT": "Raise timeout, or find out why the server is slow.",
}


class Http:
    """
    Sends requests. Safe to share between threads.

    A forked child starts with connections of its own.

    Args:
        connect_timeout: In seconds, for each connection.
        pool_size: Connections kept for reuse.
    """

    def __init__(self, *, connect_timeout: float, pool_size: int = 64) -> None:
        self._connect_timeout = connect_timeout
        self._pool_size = pool_size
        self._environment = requests.Session()
        self._surroundings: dict[str, Mapping[str, Any]] = {}
        self._closed = False
        self._make_connections()
        on_fork_start_anew(self)

    def _make_connections(self) -> None:
        self._adapter = DeadlineAdapter(
            pool_maxsize=self._pool_size, pool_connections=8, max_retries=0
        )
        self._running: set[Exchange] = set()

    def start_anew(self) -> None:
        """In a forked child: new connections, the inherited ones untouched."""
        keep_unclosed(self._adapter, self._running)
        self._make_connections()

    def prepare(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None
    ) -> requests.PreparedRequest:
        """Prepare a request, without cookies and ``.netrc``, which could swap the token."""
        request = requests.PreparedRequest()
        try:
            for value in headers.values():
                value.encode("latin-1")  # http.client would find out only when it sends
            request.prepare(
                method=method,
                url=url,
                headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **headers},
                data=body,
            )
        except (requests.exceptions.RequestException, ValueError):
            reason = "base_url and the token make no valid request"
        else:
            return request
        raise ConfigError(reason, remediation="Check both for blanks and line breaks.")

    def send(
        self, request: requests.PreparedRequest, deadline: Deadline, *, stream: bool = False
    ) -> tuple[requests.Response, Exchange]:
        """
        Send a request and wait for its answer: whole, or for a good ``stream`` only its headers.

        Raises:
            ClientClosedError: :meth:`close` was called.
            DeadlineExceededError: The deadline passed.
            TransportError: Anything else; ``outcome`` says whether the server may have it.
        """
        deadline.check("sending")
        exchange = Exchange(deadline, self._connect_timeout)
        self._running.add(exchange)
        try:
            if self._closed:
                raise ClientClosedError("the client is closed")
            with running(exchange):
                response = self._adapter.send(
                    request, stream=stream, timeout=None, **self._surroundings_of(request.url)
                )
                if not (stream and response.status_code == OK):
                    response.content  # noqa: B018 - reads the body within the deadline
        except (requests.exceptions.RequestException, OSError, ValueError) as error:
            failure = self._failure(error, exchange, str(request.url))
        else:
            if response.is_redirect:
                response.close()
                failure = _redirected(response)
            else:
                return response, exchange
        finally:
            self._running.discard(exchange)
        # Raised out here so that no exception with a token in its URL is chained to it.
        raise failure

    def close(self) -> None:
        """End every request that is under way, and let go of the connections."""
        self._closed = True
        for exchange in self._running.copy():
            exchange.abort()
        self._adapter.close()

    def _surroundings_of(self, url: str | None) -> Mapping[str, Any]:
        origin = origin_of(url or "")
        known = self._surroundings.get(origin)
        if known is None:
            found = self._environment.merge_environment_settings(url, {}, None, None, None)
            known = {name: found.get(name) for name in ("proxies", "verify", "cert")}
            self._surroundings[origin] = known
        return known

    def _failure(self, error: Exception, exchange: Exchange, url: str) -> ButtDialError:
        sent = exchange.bytes_may_have_left or not (
            exchange.is_watched or _is_before_sending(error)
        )
        outcome = "unknown" if sent else "not_sent"
        host = urlsplit(url).netloc.rpartition("@")[2]
        if self._closed:
            return ClientClosedError("the client was closed meanwhile", outcome=outcome)  # type: ignore[arg-type]
        code, reason = _code_and_reason(error, exchange)
        kind = DeadlineExceededError if code == "TIMEOUT" else TransportError
        return kind(
            scrub(f"{host}: {reason}"),
            code=code,
            outcome=outcome,  # type: ignore[arg-type]
            remediation=REMEDIES.get(code or ""),
        )


def origin_of(url: str) -> str:
    """Return scheme, host and port, with the default port written out; "" for no URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return ""
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def is_private_way(url: str) -> bool:
    """Whether nobody on the way can read the URL: TLS, or this machine itself."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    try:
        is_this_machine = ip_address(host).is_loopback
    except ValueError:
        is_this_machine = host == "localhost"
    return parts.scheme == "https" or is_this_machine


def _redirected(response: requests.Response) -> ProtocolError:
    target = origin_of(response.headers.get("location", ""))
    return ProtocolError(
        f"the server redirects (HTTP {response.status_code}) to {target}; that is not followed",
        status_code=response.status_code,
        remediation="Give the address that it redirects to as base_url, if it is yours.",
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Walk down from what requests raised to what really happened."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        inner = [arg for arg in current.args if isinstance(arg, BaseException)]
        reason = getattr(current, "reason", None)
        current = (
            reason
            if isinstance(reason, BaseException)
            else (inner[0] if inner else current.__cause__ or current.__context__)
        )


_BEFORE_SENDING = (ConnectTimeoutError, NewConnectionError, NameResolutionError)


def _is_before_sending(error: Exception) -> bool:
    kinds = (*_BEFORE_SENDING, requests.exceptions.ConnectTimeout, requests.exceptions.InvalidURL)
    return any(isinstance(link, kinds) for link in _chain(error))


def _code_and_reason(error: Exception, exchange: Exchange) -> tuple[str | None, str]:
    links = list(_chain(error))

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in links)

    if exchange.deadline is not None and exchange.deadline.remaining() <= 0:
        return "TIMEOUT", f"not done within {exchange.deadline.seconds:g} s"
    if has(ProxyError, requests.exceptions.ProxyError):
        return "PROXY", f"the proxy does not let it through ({_words(links[-1])})"
    if has(NameResolutionError):
        return "DNS", "the name cannot be resolved"
    if has(SSLError, ssl.SSLError):
        return "TLS", f"no secure connection ({_words(links[-1])})"
    if has(ConnectionRefusedError, NewConnectionError):
        return "REFUSED", f"no connection ({_words(links[-1])})"
    if has(ConnectTimeoutError, requests.exceptions.Timeout):
        return (
            "TIMEOUT",
            "no answer in time" if exchange.bytes_may_have_left else "no connection in time",
        )
    return None, f"the connection broke ({_words(links[-1])})"


def _words(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
