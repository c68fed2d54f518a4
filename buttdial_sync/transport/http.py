"""The HTTP layer: one pool of connections, no cookies, no redirects, one deadline a request."""

from __future__ import annotations

import json
import logging
import platform
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict
from requests.utils import select_proxy

from buttdial_sync._version import __version__
from buttdial_sync.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    ProtocolError,
    error_from_response,
)
from buttdial_sync.errors.answers import Exchange as RequestKind
from buttdial_sync.errors.scrubbing import SecretBytes, masked, scrub
from buttdial_sync.transport.adapter import (
    DeadlineAdapter,
    close_adapter,
    refuse_recorded_stream,
    reset_adapter,
)
from buttdial_sync.transport.connections import RequestProgress, bound_to_thread
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.failures import clear_frames, failure_of
from buttdial_sync.transport.fork import leak_until_exit, reset_after_fork
from buttdial_sync.transport.network import NetworkOptions, is_this_machine

logger = logging.getLogger("buttdial_sync.http")

# What a request can fail with: the exceptions of requests, of sockets, and of URLs and headers.
_FAILURES = (requests.exceptions.RequestException, OSError, ValueError)
OK = 200
# These want the same request sent elsewhere (RFC 9110). The other redirects may as well say where
# the result of a request is that was carried out.
_ASKS_ELSEWHERE = frozenset({307, 308})
_KEPT_PER_ORIGIN = 64
_ORIGINS_KEPT = 32
_FEW_ATTEMPTS = 3
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
USER_AGENT = (
    f"buttdial-sync/{__version__} python/{platform.python_version()} "
    f"requests/{requests.__version__}"
)


class SharedAdapter:
    """
    The open connections of this process, which all clients share. Safe between threads.

    A forked child starts with none. They are closed with the last client.
    """

    def __init__(self) -> None:
        self._users: weakref.WeakSet[Http] = weakref.WeakSet()
        self._make_empty()
        reset_after_fork(self)

    def _make_empty(self) -> None:
        self._lock = threading.Lock()
        self.adapter = DeadlineAdapter(
            pool_maxsize=_KEPT_PER_ORIGIN, pool_connections=_ORIGINS_KEPT, max_retries=0
        )

    def _reset_after_fork(self) -> None:
        """In a forked child: new connections, the inherited ones untouched."""
        leak_until_exit(self._lock, self.adapter)
        self._make_empty()

    def join(self, user: Http) -> DeadlineAdapter:
        """Keep the connections for a client, and return their adapter."""
        with self._lock:
            self._users.add(user)
            return self.adapter

    def leave(self, user: Http) -> None:
        """Close them if nobody else uses them."""
        with self._lock:
            self._users.discard(user)
            if not self._users:
                self.adapter.close()


@cache
def shared_adapter() -> SharedAdapter:
    """Return the connections of this process."""
    return SharedAdapter()


class _Request(requests.PreparedRequest):
    """
    A request whose secrets are masked until it is sent.

    Attributes:
        query: Goes into the URL, but not before it is sent.
    """

    query: Mapping[str, str] | None = None


class _NoCookies(RequestsCookieJar):
    """Keeps nothing: a session that threads share must not change."""

    def extract_cookies(self, *_: Any) -> None:
        """Keep nothing of an answer."""


class _Session(requests.Session):
    """A session whose only use is the way that mocks and recorders know: it keeps no state."""

    def __init__(self, adapter: BaseAdapter) -> None:
        super().__init__()
        self.cookies = _NoCookies()
        for scheme in ("https://", "http://"):
            self.mount(scheme, adapter)

    def resolve_redirects(self, *_: Any, **__: Any) -> Iterator[Any]:
        """Follow none, and do not even read where one leads."""
        return iter(())


class Http:
    """
    Sends requests for one client. Safe to share between threads and across forks.

    Args:
        connect_timeout: In seconds, for each address.
        network: The client's own proxies, certificates, headers and adapter.

    Attributes:
        closed: Whether :meth:`close` was called.
    """

    def __init__(self, *, connect_timeout: float, network: NetworkOptions | None = None) -> None:
        self._connect_timeout = connect_timeout
        self._network = network or NetworkOptions()
        self._proxy_and_tls: dict[str, Mapping[str, Any]] = {}
        self._under_way: set[RequestProgress] = set()
        self.closed = False
        self._connections = shared_adapter()
        self._session = self._make_session()
        reset_after_fork(self)

    def _make_session(self) -> _Session:
        own = self._connections.join(self)
        return _Session(self._network.transport_adapter or own)

    def _reset_after_fork(self) -> None:
        """In a forked child: what the parent has under way stays the parent's."""
        leak_until_exit(self._under_way, self._session)
        self._under_way = set()
        if self._network.transport_adapter is not None:
            reset_adapter(self._network.transport_adapter)
        self._session = self._make_session()

    def prepare(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> requests.PreparedRequest:
        """
        Prepare a request, without cookies and ``.netrc``, which could swap the token.

        Args:
            method: The HTTP method.
            url: Without a query.
            headers: More than those of every request.
            query: Goes into the URL.
            body: The bytes.
        """
        request = _Request()
        with suppress(requests.exceptions.RequestException, ValueError):
            for value in headers.values():
                value.encode("latin-1")  # http.client would find out only when it sends
            request.prepare(
                method=method,
                url=url,
                headers={
                    "User-Agent": USER_AGENT,
                    "Accept-Encoding": "identity",
                    **self._network.headers,
                    **headers,
                },
                data=body,
            )
            request.query = query
            return request
        # Not chained to what it is raised for, whose frames hold the token.
        raise ConfigError(
            "base_url or the token cannot be sent in a request",
            remediation="Check both for blanks and line breaks.",
        )

    def send(
        self,
        request: requests.PreparedRequest,
        deadline: Deadline,
        *,
        body: bytes | None = None,
        stream: bool = False,
    ) -> tuple[requests.Response, RequestProgress]:
        """
        Send a request and wait for its answer: whole, or for a good ``stream`` only its headers.

        Args:
            request: Stays as it is, so that it can be sent again.
            deadline: Until when.
            body: The bytes to send in place of the request's own.
            stream: Leave the body of a good answer to the caller.

        Raises:
            ClientClosedError: :meth:`close` was called.
            DeadlineExceededError: The deadline passed.
            TransportError: Anything else; ``outcome`` says whether the server may have it.
        """
        seconds = deadline.check("sending")
        # Our connections keep both limits by themselves. For them the two are one here, because
        # setting another timeout lets go of the GIL.
        is_ours = self._network.transport_adapter is None
        connect_timeout = seconds if is_ours else min(self._connect_timeout, seconds)
        progress = RequestProgress(deadline, self._connect_timeout)
        handled = sys.exc_info()[1]  # by the caller, while it calls
        plain = _Request()
        vars(plain).update(vars(request))
        self._under_way.add(progress)
        try:
            if self.closed:
                raise ClientClosedError("the client is closed")  # noqa: TRY301 - goes as it is
            if stream:
                refuse_recorded_stream()
            _unmask(plain, body)
            with bound_to_thread(progress):
                response = self._session.send(
                    plain,
                    stream=True,
                    allow_redirects=False,
                    timeout=(connect_timeout, seconds),
                    **self._proxy_and_tls_of(str(request.url)),
                )
                _mask(response, request)
                if stream and response.status_code == OK:
                    progress.adopt(response.raw)
                else:
                    # Reads the body within the deadline. Tokens come in it, too.
                    response._content = SecretBytes(response.content)
        except _FAILURES as error:
            failure = failure_of(
                error, progress, str(request.url), closed=self.closed, handled=handled
            )
            clear_frames(error)
        except ButtDialError:
            raise
        except BaseException as error:  # noqa: BLE001 - a signal's, a task's or a greenlet's
            # It came in the middle of requests, urllib3 or http.client, whose frames, and whose own
            # exceptions, hold the request as it is sent.
            error.__context__ = handled
            with suppress(UnboundLocalError):
                del response
            raise error.with_traceback(None)  # noqa: B904 - still the same exception
        else:
            if response.is_redirect:
                failure = _redirected(response, is_opening=stream)
                del response
            else:
                return response, progress
        finally:
            del plain
            self._under_way.discard(progress)
        # Raised out here so that no exception with a token in its URL is chained to it.
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame, and so the whole client

    def is_private_way(self, url: str) -> bool:
        """
        Whether nobody on the way can read the URL: over TLS, or on this machine without a proxy.

        Raises:
            ConfigError: The environment names a proxy or certificates that cannot be used.
        """
        if urlsplit(url).scheme == "https":
            return True
        return is_this_machine(url) and not select_proxy(
            url, dict(self._proxy_and_tls_of(url)["proxies"])
        )

    def close(self) -> None:
        """End every request that is under way, and let go of the connections."""
        self.closed = True
        for progress in self._under_way.copy():
            progress.abort()
        self._connections.leave(self)
        if self._network.transport_adapter is not None:
            close_adapter(self._network.transport_adapter)

    def _proxy_and_tls_of(self, url: str) -> Mapping[str, Any]:
        origin = url[: url.find("/", len("https://"))]
        known = self._proxy_and_tls.get(origin)
        if known is None:
            found = self._network.for_url(url, self._session)
            # An address of a proxy may hold a password.
            known = self._proxy_and_tls[origin] = {**found, "proxies": masked(found["proxies"])}
        return known


def _unmask(request: _Request, body: bytes | None) -> None:
    """Write the secrets into a request that is sent at once, and another body if one is given."""
    if request.query:
        request.url = f"{request.url}?{urlencode(request.query)}"
    # Not subclasses of str and bytes: recorders such as vcr.py write down the type too.
    headers = {name: str(value) for name, value in request.headers.items()}
    request.headers = CaseInsensitiveDict(headers)
    if body is not None:
        request.headers["Content-Length"] = str(len(body))
        request.body = body
    request.body = bytes(request.body) if isinstance(request.body, bytes) else request.body


def _mask(response: requests.Response, request: requests.PreparedRequest) -> None:
    """Make a response the answer to the masked request: callers keep it, and frames show it."""
    response.request, response.url = request, str(request.url)
    if hasattr(response.raw, "_request_url"):
        response.raw._request_url = request.path_url


def origin_of(url: str) -> str:
    """Return scheme, host and port, with the default port written out; "" for no URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return ""
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def _redirected(response: requests.Response, *, is_opening: bool) -> ProtocolError:
    target = origin_of(response.headers.get("location", ""))
    return ProtocolError(
        f"the server redirects (HTTP {response.status_code}) to {target}; that is not followed",
        status_code=response.status_code,
        outcome="not_sent" if is_opening or response.status_code in _ASKS_ELSEWHERE else "unknown",
        remediation="Give the address that it redirects to as base_url, if it is yours.",
    )


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """
    Return the JSON of an object, compact and in UTF-8.

    Raises:
        ArgumentTypeError: It contains a value that JSON cannot represent.
        ArgumentValueError: It contains itself, a text that is not valid Unicode, or a number that
            is not finite.
    """
    try:
        return SecretBytes(_ENCODER.encode(value).encode())
    except TypeError as error:
        raise ArgumentTypeError(f"the arguments cannot be sent as JSON: {error}") from None
    except (ValueError, RecursionError):
        raise ArgumentValueError(
            "the arguments cannot be sent as JSON: invalid Unicode, a number that is not finite, "
            "or a circular reference"
        ) from None


def decoded(content: bytes, *secrets: str | None) -> Any:
    """Return an answer's JSON, or its text where it is none; the secrets in neither."""
    return decoded_text(scrub(content.decode("utf-8", "replace"), secrets))


def decoded_text(text: str) -> Any:
    """Return the JSON that a text holds, or the text."""
    try:
        return load_json(text)
    except (ValueError, RecursionError):
        return text


def load_json(text: str) -> Any:
    """
    Return the JSON of a text. Integers that are too long for Python become floats.

    Raises:
        json.JSONDecodeError: It is not JSON.
        RecursionError: It is nested too deeply.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer of more than 4,300 digits
        return json.loads(text, parse_int=_number)


def _number(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:
        return float(digits)


def refusal(response: requests.Response, kind: RequestKind, *secrets: str | None) -> ButtDialError:
    """Return the exception for an answer of 4xx or 5xx, and warn of a lockout that is near."""
    body = decoded(response.content, *secrets)
    error = error_from_response(response.status_code, body, response.headers, exchange=kind)
    if error.remaining_attempts is not None and error.remaining_attempts <= _FEW_ATTEMPTS:
        logger.warning(
            "%d more failed logins and the server locks this address out: correct the token first",
            error.remaining_attempts,
        )
    return error
