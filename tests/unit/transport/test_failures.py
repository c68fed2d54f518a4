"""What a failed request is called, and what its error says about what was sent."""

from __future__ import annotations

import ssl
import weakref
from typing import Any

import pytest
import requests
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    SSLError,
)

from buttdial_sync.errors import (
    ButtDialError,
    ClientClosedError,
    DeadlineExceededError,
    TransportError,
)
from buttdial_sync.transport.connections import RequestProgress
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.failures import REMEDIES, clear_frames, failure_of

URL = "https://user:pw@h.example:8443/x?token=s3cret"
NOBODY: Any = None


def progress_of(*, watched: bool = True, sent: bool = False, left: float = 10.0) -> RequestProgress:
    clock = iter([0.0])
    progress = RequestProgress(Deadline(10.0, lambda: next(clock, 10.0 - left)), 5.0)
    progress.is_watched, progress.bytes_may_have_left = watched, sent
    return progress


def failure(
    error: Exception, progress: RequestProgress | None = None, *, closed: bool = False
) -> ButtDialError:
    return failure_of(error, progress or progress_of(), URL, closed=closed)


def wrapped(reason: Exception, kind: type[Exception] = requests.ConnectionError) -> Exception:
    """As requests wraps what urllib3 raises: the reason is inside of a first argument."""
    return kind(MaxRetryError(NOBODY, "/x?token=s3cret", reason))


REFUSED = NewConnectionError(NOBODY, "cannot connect: refused")
REASONS = [
    (wrapped(ProxyError("no way", OSError("403 Forbidden"))), "PROXY", "the proxy does not let"),
    (requests.exceptions.ProxyError("403 Forbidden"), "PROXY", "ProxyError: 403 Forbidden"),
    (wrapped(NameResolutionError("h.example", NOBODY, NOBODY)), "DNS", "the name cannot be"),
    (wrapped(SSLError("bad certificate")), "TLS", "SSLError: bad certificate"),
    (ssl.SSLError(1, "wrong version"), "TLS", "SSLError: wrong version"),
    (wrapped(REFUSED), "REFUSED", "no connection (NewConnectionError"),
    (ConnectionRefusedError(111, "refused"), "REFUSED", "no connection (ConnectionRefusedError"),
    (wrapped(ConnectTimeoutError(NOBODY, "slow")), "TIMEOUT", "no connection in time"),
    (requests.exceptions.ReadTimeout("slow"), "TIMEOUT", "no connection in time"),
    (ConnectionResetError(104, "reset"), None, "broke (ConnectionResetError: reset)"),
    (wrapped(SSLError(OSError(24, "too many"))), "EMFILE", "no file descriptor is left"),
    (wrapped(NewConnectionError(NOBODY, str(OSError(23, "x")))), "REFUSED", "no connection"),
    (OSError(), None, "the connection broke (OSError)"),
]


@pytest.mark.parametrize(("error", "code", "words"), REASONS, ids=range(len(REASONS)))
def test_reasons(error: Exception, code: str | None, words: str) -> None:
    """Each kind of failure has its code, its words and its remedy; the URL is not shown."""
    found = failure(error)
    assert found.code == code
    assert str(found).startswith("h.example:8443: ")
    assert words in str(found)
    assert found.remediation == (REMEDIES[code] if code else TransportError.remedy)
    assert type(found) is (DeadlineExceededError if code == "TIMEOUT" else TransportError)
    assert "s3cret" not in str(found)
    assert "pw" not in str(found)


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] no")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (tls_error("CERTIFICATE_VERIFY_FAILED"), False),
        (wrapped(SSLError(tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"))), False),
        (tls_error("TLSV1_ALERT_UNKNOWN_CA"), False),
        (tls_error("UNEXPECTED_EOF_WHILE_READING"), None),
        (wrapped(ProxyError("no", OSError("Tunnel connection failed: 407 Login"))), False),
        (wrapped(ProxyError("no", OSError("Tunnel connection failed: 401 Login"))), False),
        (wrapped(ProxyError("no", OSError("Tunnel connection failed: 403 Filtered"))), False),
        (wrapped(ProxyError("no", OSError("Tunnel connection failed: 4031 X"))), None),
        (wrapped(ProxyError("no", OSError("Tunnel connection failed: 502 Bad Gateway"))), None),
        (wrapped(REFUSED), None),
    ],
    ids=range(10),
)
def test_what_a_second_attempt_cannot_cure(error: Exception, retryable: bool | None) -> None:
    """A certificate, and a proxy that says no; anything else may pass."""
    assert failure(error).retryable is retryable


def test_host_without_a_user() -> None:
    """The host is named also where the URL has no user."""
    found = failure_of(OSError("x"), progress_of(), "http://h.example/x", closed=False)
    assert str(found).startswith("h.example: ")


@pytest.mark.parametrize(
    ("sent", "words"), [(True, "no answer in time"), (False, "no connection in time")]
)
def test_timeouts_say_what_was_waited_for(sent: bool, words: str) -> None:
    """Before anything was sent it was the connection, afterwards the answer."""
    found = failure(requests.exceptions.ReadTimeout("slow"), progress_of(sent=sent))
    assert words in str(found)


def test_passed_deadline_wins() -> None:
    """Whatever broke when the time was up: the time was up."""
    found = failure(wrapped(REFUSED), progress_of(left=0.0))
    assert isinstance(found, DeadlineExceededError)
    assert "not done within 10 s" in str(found)
    assert found.remediation == REMEDIES["TIMEOUT"]


def test_open_stream_has_no_deadline() -> None:
    """Where the deadline was lifted, the reason is what broke."""
    progress = progress_of(left=0.0)
    progress.deadline = None
    assert failure(ConnectionResetError("reset"), progress).code is None


@pytest.mark.parametrize("watched", [True, False])
def test_sent_is_unknown(watched: bool) -> None:
    """Once bytes may have left, the outcome is unknown, whatever the error says."""
    found = failure(wrapped(REFUSED), progress_of(watched=watched, sent=True))
    assert found.outcome == "unknown"


def test_watched_and_nothing_left() -> None:
    """One of our connections knows for certain that nothing was sent."""
    assert failure(ConnectionResetError("reset")).outcome == "not_sent"


@pytest.mark.parametrize(
    "error",
    [
        wrapped(REFUSED),
        wrapped(NameResolutionError("h.example", NOBODY, NOBODY)),
        wrapped(ConnectTimeoutError(NOBODY, "slow")),
        wrapped(ClosedPoolError(NOBODY, "closed")),
        requests.exceptions.ConnectTimeout("slow"),
        requests.exceptions.InvalidURL("bad"),
    ],
    ids=range(6),
)
def test_unwatched_and_before_sending(error: Exception) -> None:
    """Without one of our connections, some kinds of error can only come before sending."""
    assert failure(error, progress_of(watched=False)).outcome == "not_sent"


def test_unwatched_and_perhaps_sent() -> None:
    """Any other error of an unwatched connection leaves it open."""
    error = requests.ConnectionError(ProtocolError("aborted", ConnectionResetError(104, "reset")))
    assert failure(error, progress_of(watched=False)).outcome == "unknown"


@pytest.mark.parametrize(("sent", "outcome"), [(True, "unknown"), (False, "not_sent")])
def test_closed_meanwhile(sent: bool, outcome: str) -> None:
    """A request that the client's end broke says so, and what became of it."""
    found = failure(OSError("shut down"), progress_of(sent=sent), closed=True)
    assert isinstance(found, ClientClosedError)
    assert found.outcome == outcome


def chained(*, cause: Exception | None = None, context: Exception | None = None) -> Exception:
    error = requests.ConnectionError("outer")
    error.__cause__, error.__context__ = cause, context
    return error


@pytest.mark.parametrize(
    "error",
    [
        chained(cause=ConnectionRefusedError("inner")),
        chained(context=ConnectionRefusedError("inner")),
        chained(cause=ConnectionRefusedError("inner"), context=OSError("other")),
        ProtocolError("text", ConnectionRefusedError("inner"), OSError("other")),
    ],
    ids=["cause", "context", "cause before context", "first argument"],
)
def test_inner_errors_are_found(error: Exception) -> None:
    """What really happened is looked for in arguments, then in the cause, then in the context."""
    found = failure(error)
    assert found.code == "REFUSED"
    assert "inner" in str(found)


class CircularError(OSError):
    """An error that is its own reason; it says no when it is asked again and again."""

    visits = 0

    @property
    def reason(self) -> CircularError:
        self.visits += 1
        assert self.visits < 5
        return self


def test_errors_in_a_circle() -> None:
    """A chain that bites its own tail ends."""
    assert "CircularError: round" in str(failure(CircularError("round")))


class Treasure:
    """Something that a frame holds."""


def raised(kept: list[weakref.ref[Treasure]], **chain: Exception) -> Exception:
    """Return an error whose traceback's frame holds a treasure."""

    def fail() -> None:
        treasure = Treasure()
        kept.append(weakref.ref(treasure))
        raise OSError("no")

    with pytest.raises(OSError, match="no") as caught:
        fail()
    error = caught.value
    error.__cause__, error.__context__ = chain.get("cause"), chain.get("context")
    return error


@pytest.mark.parametrize("link", ["cause", "context"])
def test_frames_are_cleared(link: str) -> None:
    """The frames of an error and of what it is chained to let go of what they hold."""
    kept: list[weakref.ref[Treasure]] = []
    error = raised(kept, **{link: raised(kept)})
    assert all(treasure() is not None for treasure in kept)
    clear_frames(error)
    assert [treasure() for treasure in kept] == [None, None]


class RingError(Exception):
    """An error that is its own cause."""

    visits = 0

    @property
    def __cause__(self) -> RingError:  # type: ignore[override]
        self.visits += 1
        assert self.visits < 5
        return self


def test_frames_of_a_circle() -> None:
    """Clearing ends, also where the errors hold each other."""
    error = RingError()
    clear_frames(error)
    assert error.visits == 1


def test_what_the_caller_was_handling_is_no_cause() -> None:
    """A client that is used in an ``except`` block describes its own failure."""
    handled = ConnectionRefusedError("the caller's own")
    broken = ConnectionResetError("reset")
    broken.__context__ = handled
    found = failure_of(broken, progress_of(watched=False), URL, closed=False, handled=handled)
    assert (found.code, found.outcome) == (None, "unknown")
    assert "ConnectionResetError: reset" in str(found)
