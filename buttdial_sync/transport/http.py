"""The HTTP layer: one pool of connections, no cookies, no redirects, one deadline a request."""

from __future__ import annotations

import platform
import threading
import weakref
from collections.abc import Mapping
from functools import cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests

from buttdial_sync._version import __version__
from buttdial_sync.errors import (
    ClientClosedError,
    ConfigError,
    ProtocolError,
)
from buttdial_sync.transport.adapter import DeadlineAdapter
from buttdial_sync.transport.connections import Exchange, running
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.failures import failure_of
from buttdial_sync.transport.fork import keep_unclosed, on_fork_start_anew

OK = 200
_KEPT_PER_ORIGIN = 64
_ORIGINS_KEPT = 32
_USER_AGENT = (
    f"buttdial-sync/{__version__} python/{platform.python_version()} "
    f"requests/{requests.__version__}"
)


class Connections:
    """
    The open connections of this process, which all clients share. Safe between threads.

    A forked child starts with none. When the last client is closed, so are they.
    """

    def __init__(self) -> None:
        self._users: weakref.WeakSet[Http] = weakref.WeakSet()
        self._make_empty()
        on_fork_start_anew(self)

    def _make_empty(self) -> None:
        self._lock = threading.Lock()
        self.adapter = DeadlineAdapter(
            pool_maxsize=_KEPT_PER_ORIGIN, pool_connections=_ORIGINS_KEPT, max_retries=0
        )

    def start_anew(self) -> None:
        """In a forked child: new connections, the inherited ones untouched."""
        keep_unclosed(self._lock, self.adapter)
        self._make_empty()

    def join(self, user: Http) -> None:
        """Keep the connections for a client."""
        with self._lock:
            self._users.add(user)

    def leave(self, user: Http) -> None:
        """Close them if nobody else uses them."""
        with self._lock:
            self._users.discard(user)
            if not self._users:
                self.adapter.close()


@cache
def shared_connections() -> Connections:
    """Return the connections of this process."""
    return Connections()


class Http:
    """
    Sends requests for one client. Safe to share between threads and across forks.

    Args:
        connect_timeout: In seconds, for each connection.
    """

    def __init__(self, *, connect_timeout: float) -> None:
        self._connect_timeout = connect_timeout
        self._environment = requests.Session()
        self._surroundings: dict[str, Mapping[str, Any]] = {}
        self._running: set[Exchange] = set()
        self._closed = False
        self._connections = shared_connections()
        self._connections.join(self)
        on_fork_start_anew(self)

    def start_anew(self) -> None:
        """In a forked child: what the parent has under way stays the parent's."""
        keep_unclosed(self._running)
        self._running = set()

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
                response = self._connections.adapter.send(
                    request, stream=stream, timeout=None, **self._surroundings_of(request.url)
                )
                if not (stream and response.status_code == OK):
                    response.content  # noqa: B018 - reads the body within the deadline
        except (requests.exceptions.RequestException, OSError, ValueError) as error:
            failure = failure_of(error, exchange, str(request.url), closed=self._closed)
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
        self._connections.leave(self)

    def _surroundings_of(self, url: str | None) -> Mapping[str, Any]:
        origin = origin_of(url or "")
        known = self._surroundings.get(origin)
        if known is None:
            found = self._environment.merge_environment_settings(url, {}, None, None, None)
            known = {name: found.get(name) for name in ("proxies", "verify", "cert")}
            self._surroundings[origin] = known
        return known


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
