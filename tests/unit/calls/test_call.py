"""Which failures are tried again, how often, and after which pauses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from buttdial_sync.calls.call import Call
from buttdial_sync.connection import Connection
from buttdial_sync.errors import (
    ArgumentNotSupported,
    AuthError,
    AuthInvalidTokenError,
    AuthLockedOutError,
    ButtDialError,
    ClientClosedError,
    ComplianceError,
    ConfigError,
    DeadlineExceededError,
    EndpointNotAvailable,
    InvalidRequestError,
    NoChannelAssigned,
    NotFoundError,
    Outcome,
    PermissionDeniedError,
    ProtocolError,
    ProviderWebhookWireFailed,
    RateLimitError,
    ServerError,
    SessionUnknownError,
    StreamLostError,
    ToolError,
    TransportError,
)
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.transport.deadline import Deadline

_made: list[Connection] = []


@pytest.fixture(autouse=True)
def _close_connections() -> Iterator[None]:
    yield
    while _made:
        _made.pop().close()


class Script(Call):
    """A call whose attempts fail as they are told, and a clock that moves only by pauses."""

    def __init__(
        self,
        *results: Any,
        max_attempts: int = 5,
        seconds: float = 60.0,
        fraction: float = 1.0,
    ) -> None:
        self.results = list(results)
        self.numbers: list[int] = []
        self.pauses: list[float] = []
        self.events: list[ClientEvent] = []
        self.asked = 0
        self.now = 0.0
        self.on_attempt: Callable[[], None] = lambda: None
        self.on_pause: Callable[[], None] = lambda: None
        self.repeatable = False
        connection = Connection(
            "https://butt-dial.test",
            timeout=seconds,
            connect_timeout=5.0,
            max_attempts=max_attempts,
            on_event=self.events.append,
            clock=lambda: self.now,
            sleep=self.sleep,
            random_fraction=lambda: fraction,
        )
        _made.append(connection)
        deadline = Deadline(seconds, lambda: self.now)
        super().__init__(connection, "comms_x", deadline, reads_only=False, arguments={})

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        self.on_pause()

    @property
    def retries(self) -> list[tuple[int, str | None, float | None]]:
        told = (event for event in self.events if event.kind == "retry")
        return [(event.attempt, event.error, event.seconds) for event in told]

    def _attempt(self) -> Any:
        self.numbers.append(self.attempts)
        self.on_attempt()
        result = self.results[min(self.attempts, len(self.results)) - 1]
        if isinstance(result, BaseException):
            raise result
        return result

    def _server_honours_key(self) -> bool:
        self.asked += 1
        return self.repeatable

    def fails(self, kind: type[BaseException] = ButtDialError) -> Any:
        with pytest.raises(kind) as caught:
            self.run()
        return caught.value


def refused(outcome: Outcome = "not_sent") -> TransportError:
    return TransportError("refused", outcome=outcome)


def test_first_success_is_returned() -> None:
    """A good attempt is the only one."""
    script = Script("ok")
    assert script.run() == "ok"
    assert (script.numbers, script.pauses) == ([1], [])


def test_pauses_grow() -> None:
    """Pauses double from half a second to eight; the jitter takes away half of it at most."""
    script = Script(refused(), max_attempts=7)
    script.fails(TransportError)
    assert script.numbers == [1, 2, 3, 4, 5, 6, 7]
    assert script.pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    low = Script(refused(), max_attempts=3, fraction=0.0)
    low.fails()
    assert low.pauses == [0.25, 0.5]


def test_success_after_failures() -> None:
    """What was not sent is tried again, and the pauses are announced before they begin."""
    script = Script(refused(), refused(), "ok")
    assert script.run() == "ok"
    assert script.retries == [(1, "TransportError", 0.5), (2, "TransportError", 1.0)]


@pytest.mark.parametrize(
    "error",
    [
        refused(),
        DeadlineExceededError("no connection"),
        SessionUnknownError("gone"),
        StreamLostError("gone", outcome="not_sent"),
        ServerError("busy", status_code=503),
        RateLimitError("slow", status_code=429, outcome="not_sent"),
        RateLimitError("slow", retry_after=1.0),
        ProviderWebhookWireFailed("rolled back", retryable=True),
        ToolError("rolled back", retryable=True),
    ],
    ids=str,
)
def test_repeated(error: ButtDialError) -> None:
    """What was certainly not carried out is tried again up to ``max_attempts`` times."""
    script = Script(error, max_attempts=3)
    assert script.fails() is error
    assert script.numbers == [1, 2, 3]
    assert script.asked == 0


@pytest.mark.parametrize(
    "error",
    [
        AuthError("401"),
        AuthInvalidTokenError("401", retryable=True),
        AuthLockedOutError("locked", retry_after=1.0),
        ClientClosedError("closed"),
        ConfigError("no token"),
        ArgumentNotSupported("media"),
        EndpointNotAvailable("404"),
        ProtocolError("html"),
        ToolError("no"),
        ComplianceError("no consent"),
        InvalidRequestError("bad"),
        PermissionDeniedError("403"),
        NotFoundError("404"),
        NoChannelAssigned("none"),
        RateLimitError("the agent's own quota"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_final(error: ButtDialError) -> None:
    """A refusal is told at once; a 401 is never tried again."""
    script = Script(error)
    assert script.fails() is error
    assert script.numbers == [1]
    assert script.pauses == []


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt()], ids=repr)
def test_foreign_exceptions_pass(error: BaseException) -> None:
    """What is not ours is neither caught nor repeated."""
    script = Script(error)
    assert script.fails(type(error)) is error
    assert script.numbers == [1]


def test_unknown_is_repeated_only_if_it_does_no_harm() -> None:
    """Whether a lost answer may be asked for again is asked for each time, and obeyed."""
    script = Script(StreamLostError("cut", outcome="unknown"))
    assert script.fails().outcome == "unknown"
    assert (script.numbers, script.asked) == ([1], 1)
    script = Script(StreamLostError("cut", outcome="unknown"), "ok")
    script.repeatable = True
    assert script.run() == "ok"
    assert (script.numbers, script.asked, script.pauses) == ([1, 2], 1, [0.0])


@pytest.mark.parametrize(
    "later",
    [refused(), ToolError("no", retryable=True), ServerError("busy", status_code=503)],
    ids=str,
)
def test_unknown_stays_unknown(later: ButtDialError) -> None:
    """A later "not sent" or "rejected" does not prove that the first attempt did nothing."""
    script = Script(StreamLostError("cut", outcome="unknown"), later, max_attempts=2)
    script.repeatable = True
    error = script.fails()
    assert error is later
    assert (error.outcome, error.retryable) == ("unknown", None)


def test_unknown_stays_unknown_over_several_attempts() -> None:
    """Also the third attempt inherits the first one's uncertainty."""
    errors = (StreamLostError("cut", outcome="unknown"), refused(), refused())
    script = Script(*errors, max_attempts=3)
    script.repeatable = True
    assert script.fails().outcome == "unknown"
    assert script.numbers == [1, 2, 3]


def test_retry_after_is_honoured() -> None:
    """The server's time is the pause."""
    script = Script(RateLimitError("slow", retry_after=12.5), "ok")
    assert script.run() == "ok"
    assert script.pauses == [12.5]


def test_retry_after_beyond_the_deadline() -> None:
    """A pause that is longer than what is left is told at once, with the server's time."""
    script = Script(RateLimitError("slow", retry_after=60.0), seconds=60.0)
    assert script.fails(RateLimitError).retry_after == 60.0
    assert (script.numbers, script.pauses) == ([1], [])


def test_deadline_ends_the_attempts() -> None:
    """No pause reaches beyond the deadline."""
    script = Script(refused(), max_attempts=100, seconds=5.0)
    script.fails(TransportError)
    assert script.pauses == [0.5, 1.0, 2.0]
    assert script.now < 5.0


def test_nothing_is_asked_once_the_deadline_passed() -> None:
    """After the deadline neither the schema is asked nor another attempt made."""
    script = Script(StreamLostError("cut", outcome="unknown"))
    script.repeatable = True
    script.now = 100.0
    script.fails(StreamLostError)
    assert (script.numbers, script.asked) == ([1], 0)


@pytest.mark.parametrize("error", [SessionUnknownError("gone"), StreamLostError("cut")], ids=str)
def test_reopening_needs_no_pause(error: ButtDialError) -> None:
    """The first reopening happens at once, the later ones after pauses."""
    script = Script(error, max_attempts=3)
    script.fails()
    assert script.pauses == [0.0, 1.0]


def test_close_during_a_pause() -> None:
    """Closing during a pause ends the call without another attempt."""
    script = Script(refused())

    script.on_pause = script.connection.close
    error = script.fails(ClientClosedError)
    assert error.outcome == "not_sent"
    assert script.numbers == [1]


def test_close_during_a_pause_after_an_unknown() -> None:
    """Closing after an unknown attempt leaves the outcome unknown."""
    script = Script(StreamLostError("cut", outcome="unknown"), "never")
    script.repeatable = True

    script.on_pause = script.connection.close
    assert script.fails(ClientClosedError).outcome == "unknown"


def test_closed_before() -> None:
    """A closed client makes no attempt."""
    script = Script("ok")
    script.connection.close()
    assert script.fails(ClientClosedError).outcome == "not_sent"
    assert script.numbers == []


def test_close_during_an_attempt() -> None:
    """What the attempt says is told, and no pause is announced that would end at once."""
    error = refused()
    script = Script(error)
    script.on_attempt = script.connection.close
    assert script.fails() is error
    assert (script.numbers, script.pauses, script.retries) == ([1], [], [])


def test_a_credential_that_rests() -> None:
    """What the server refused is not used, not even for an attempt that is told to the host."""
    script = Script("never")
    script._credential = "wrong"
    script.connection.logins.breaker.learn("wrong", AuthInvalidTokenError("401"))
    script.fails(AuthInvalidTokenError)
    assert (script.numbers, script.events) == ([], [])


def test_one_attempt_at_most() -> None:
    """``max_attempts=1`` means one."""
    script = Script(refused(), max_attempts=1)
    script.fails(TransportError)
    assert (script.numbers, script.pauses, script.retries) == ([1], [], [])


def test_unknown_of_any_kind_may_be_repeated() -> None:
    """Where a repetition does no harm, every unknown outcome is worth one."""
    script = Script(ToolError("failed inside", outcome="unknown"), "ok")
    script.repeatable = True
    assert script.run() == "ok"


class Unsure(Script):
    """A call that does not say whether the server carries out a repetition once."""

    _server_honours_key = Call._server_honours_key


def test_keys_are_not_honoured_unless_said() -> None:
    """A call of no special kind is not repeated on suspicion."""
    script = Unsure(StreamLostError("cut", outcome="unknown"), "never")
    script.fails(StreamLostError)
    assert script.numbers == [1]


def test_events_of_a_failure() -> None:
    """Each failed attempt is reported with its duration and outcome."""
    script = Script(refused(), max_attempts=2)
    script.now = 10.0
    script.fails()
    told = [(e.attempt, e.seconds, e.outcome) for e in script.events if e.kind == "answer"]
    assert told == [(1, 0.0, "not_sent"), (2, 0.0, "not_sent")]


@pytest.mark.parametrize("outcome", ["unknown", "not_sent"])
def test_closed_while_it_is_under_way(outcome: Outcome) -> None:
    """What may have been carried out is told as that, with what to do."""
    script = Script(ClientClosedError("the session was closed", outcome=outcome))
    error = script.fails(ClientClosedError)
    assert error.outcome == outcome
    may_have_been = "comms_x may have been carried out: the session was closed"
    assert error.message == (may_have_been if outcome == "unknown" else "the session was closed")
    assert ("before you repeat it" in error.remediation) is (outcome == "unknown")


def test_results_that_do_not_fit_hold_no_token() -> None:
    """An answer that cannot be made into an object is an error without the call's secrets."""
    script = Script({"id": 5, "note": "token-s3cret"})
    script._arguments = {"in": {"authToken": "token-s3cret"}}
    with pytest.raises(ProtocolError) as caught:
        script.result(list[int])
    assert "s3cret" not in str(caught.value) + repr(vars(caught.value))
    assert Script(None).result(dict) == {}
