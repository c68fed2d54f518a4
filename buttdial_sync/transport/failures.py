"""The cause of a failed request, without its URL."""

from __future__ import annotations

import errno
import re
import ssl
import traceback
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    SSLError,
)

from buttdial_sync.errors import (
    ButtDialError,
    ClientClosedError,
    DeadlineExceededError,
    Outcome,
    TransportError,
)
from buttdial_sync.errors.scrubbing import scrub
from buttdial_sync.transport.connections import RequestProgress

REMEDIES = {
    "DNS": "Check the host in base_url and this machine's name resolution.",
    "REFUSED": "Nothing listens there: check the host and port in base_url, and start the server.",
    "TLS": "Check the server's certificate, this machine's clock, and ca_bundle or "
    "REQUESTS_CA_BUNDLE; and client_cert, if the server wants one.",
    "PROXY": "Check the proxy's address and login: proxies, or HTTP_PROXY, HTTPS_PROXY, NO_PROXY.",
    "TIMEOUT": "Raise timeout, or find out why the server is slow.",
    "EMFILE": "This process has too many files and connections open: close what it does not need, "
    "make one client for the whole process, or raise the limit (ulimit -n).",
}
# OpenSSL's names: of what it finds in a certificate, and of what the server says about ours.
_CERTIFICATE = re.compile("CERTIFICATE|UNKNOWN_CA")
_PROXY_REFUSES = re.compile(r"Tunnel connection failed: (401|403|407)\b")
_NO_DESCRIPTOR_LEFT = frozenset({errno.EMFILE, errno.ENFILE})
_BEFORE_SENDING = (
    ClosedPoolError,
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    requests.exceptions.ConnectTimeout,
    requests.exceptions.InvalidURL,
)


def failure_of(
    error: Exception,
    progress: RequestProgress,
    url: str,
    *,
    closed: bool,
    handled: BaseException | None = None,
) -> ButtDialError:
    """
    Return the exception to raise for one that a request ended with.

    Args:
        error: What ``requests`` or the socket raised. It is not chained: its text holds the URL.
        progress: How far the request got.
        url: Where it went.
        closed: Whether the client was closed meanwhile.
        handled: What the caller was handling when it sent the request. Python takes it for the
            cause of the cause, but it has nothing to do with this request.
    """
    links = list(_chain(error, handled))
    # Without one of our connections, as with mocks, only the kind of error says how far it got.
    is_before_sending = any(isinstance(link, _BEFORE_SENDING) for link in links)
    sent = progress.bytes_may_have_left or not (progress.is_watched or is_before_sending)
    outcome: Outcome = "unknown" if sent else "not_sent"
    if closed:
        return ClientClosedError("the client was closed meanwhile", outcome=outcome)
    code, reason = _code_and_reason(links, progress)
    kind = DeadlineExceededError if code == "TIMEOUT" else TransportError
    host = urlsplit(url).netloc.rpartition("@")[2]
    return kind(
        scrub(f"{host}: {reason}"),
        code=code,
        outcome=outcome,
        remediation=REMEDIES.get(code or ""),
        retryable=False if _is_a_no(links) else None,
    )


def clear_frames(error: BaseException | None) -> None:
    """
    Empty the frames of what requests and urllib3 raised, once it was understood.

    They keep exceptions in locals. Such a frame and its exception hold each other, and with them
    the frames of the callers, and so the whole client until the garbage collector comes.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _chain(error: BaseException, handled: BaseException | None) -> Iterator[BaseException]:
    """Walk down from what requests raised to what really happened."""
    seen = {id(handled)}
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


def _is_a_no(links: Sequence[BaseException]) -> bool:
    """Whether a second attempt would end like the first: a certificate, a proxy that refuses."""
    return any(
        _CERTIFICATE.search(getattr(link, "reason", None) or "")
        if isinstance(link, ssl.SSLError)
        else _PROXY_REFUSES.search(str(link))
        for link in links
    )


def _code_and_reason(
    links: Sequence[BaseException], progress: RequestProgress
) -> tuple[str | None, str]:
    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in links)

    if progress.deadline is not None and progress.deadline.remaining() <= 0:
        return "TIMEOUT", f"not done within {progress.deadline.seconds:g} s"
    # First: it looks like any of the others, as names, certificates and proxies all need a file.
    for link in links:
        if isinstance(link, OSError) and link.errno in _NO_DESCRIPTOR_LEFT:
            return "EMFILE", f"no file descriptor is left ({_words(link)})"
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
            "no answer in time" if progress.bytes_may_have_left else "no connection in time",
        )
    return None, f"the connection broke ({_words(links[-1])})"


def _words(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
