"""The exception tree: its drawing, its defaults, and its travels."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import traceback
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, get_args

import pytest

from buttdial_sync import errors
from buttdial_sync.errors import AuthError, ServerError, tree
from buttdial_sync.errors.accounts import OnboardingRequired

ButtDialError = errors.ButtDialError
DETAILS: dict[str, Any] = {
    "code": "CODE",
    "stage": "tool_call",
    "outcome": "unknown",
    "remediation": "Do this.",
    "status_code": 418,
    "body": {"error": ["x"]},
    "retryable": True,
    "retry_after": 2.5,
    "remaining_attempts": 3,
    "locked_until": datetime(2026, 1, 2, tzinfo=timezone.utc),
}


def kinds(base: type[ButtDialError] = ButtDialError) -> Iterator[type[ButtDialError]]:
    yield base
    for child in base.__subclasses__():
        if child.__module__.startswith("buttdial_sync.errors"):
            yield from kinds(child)


ALL = sorted(set(kinds()), key=lambda kind: kind.__name__)
each_kind = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)


def drawn() -> dict[str, set[str]]:
    """The drawing in the docstring: each class with the parents that it hangs from."""
    parents: dict[str, set[str]] = {}
    way: list[str] = []
    block = str(inspect.getdoc(tree)).partition("::\n\n")[2]
    for line in block.splitlines():
        found = re.match(r"    ([│├└─ ]*)(\w+(?:, \w+)*)", line)
        assert found, line
        depth = len(found[1]) // 4
        names = found[2].split(", ")
        for name in names if depth else ():
            parents.setdefault(name, set()).add(way[depth - 1])
        way[depth:] = [names[-1]]
    return parents


def test_drawing_is_the_tree() -> None:
    """The tree in the docstring has every class of the module, under its real parents."""
    shown = drawn()
    shown.pop("AccountsError")
    real = {
        kind.__name__: {base.__name__ for base in kind.__bases__ if issubclass(base, ButtDialError)}
        for kind in ALL
        if kind.__module__ == tree.__name__ and kind is not ButtDialError
    }
    assert shown == real


@each_kind
def test_other_base_is_drawn(kind: type[ButtDialError]) -> None:
    """A built-in base class is named beside its class in the drawing."""
    builtin = [base.__name__ for base in kind.__bases__ if base.__module__ == "builtins"]
    if kind not in {ButtDialError, errors.AgentNotFound, errors.AgentNotProvisioned}:
        for name in builtin:
            assert re.search(rf"{kind.__name__}\s+\(also an? {name}\)", str(inspect.getdoc(tree)))


@each_kind
def test_defaults_are_allowed_values(kind: type[ButtDialError]) -> None:
    """Every class has a stage and an outcome that exist, and its remedy as remediation."""
    error = kind("what happened")
    assert error.message == "what happened"
    assert error.stage == kind.default_stage
    assert error.stage in get_args(errors.Stage)
    assert error.outcome in get_args(errors.Outcome)
    assert error.remediation == kind.remedy
    assert kind("x", remediation="the server's").remediation == "the server's"
    assert kind.__doc__


@each_kind
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_with_everything(kind: type[ButtDialError], protocol: int) -> None:
    """An error crosses process boundaries with all its attributes."""
    error = kind("what happened", **DETAILS)
    back = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
    assert type(back) is kind
    assert back.args == error.args
    assert vars(back) == vars(error)
    assert {name: getattr(back, name) for name in DETAILS} == DETAILS


@each_kind
def test_copies_without_traceback(kind: type[ButtDialError]) -> None:
    """A copy has the attributes, and is another object, for a second thread to raise."""
    try:
        raise kind("what happened", **DETAILS)
    except ButtDialError as caught:
        error = caught
    twin = copy.copy(error)
    assert twin is not error
    assert vars(twin) == vars(error)
    assert twin.__traceback__ is None


def test_channel_details_pickle() -> None:
    """Attributes that are set after the construction travel too."""
    error = errors.NoChannelAssigned("no")
    error.channel, error.action, error.provider = "sms", "send", "twilio"
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (back.channel, back.action, back.provider) == ("sms", "send", "twilio")


def test_onboarding_required_pickles() -> None:
    """The one class with attributes of its own keeps them."""
    error = OnboardingRequired(
        org_id="o", onboarding_url="u", onboarding_session_id="s", expires_at="2026"
    )
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (back.org_id, back.onboarding_url, back.onboarding_session_id) == ("o", "u", "s")
    assert back.expires_at == "2026"
    assert str(back) == str(error)


def test_codes_have_one_class() -> None:
    """No server code stands in two classes."""
    codes = [code for kind in ALL for code in vars(kind).get("server_codes", ())]
    assert len(codes) == len(set(codes))


def test_revoked_token_is_an_alias() -> None:
    """The published name stays."""
    assert errors.RevokedToken is errors.AuthTokenRevokedError


def test_key_error_prints_its_message() -> None:
    """``AgentNotFound`` is a ``KeyError`` without its quotes."""
    error = errors.AgentNotFound("no agent a")
    assert isinstance(error, KeyError)
    assert str(error) == "no agent a"
    assert "'no agent a'" not in "".join(traceback.format_exception_only(error))


def test_builtin_bases() -> None:
    """A host that catches the built-in classes catches ours."""
    assert issubclass(errors.ArgumentTypeError, TypeError)
    assert issubclass(errors.ArgumentValueError, ValueError)
    assert issubclass(errors.DeadlineExceededError, TimeoutError)
    assert issubclass(errors.AgentNotProvisioned, ValueError)


def test_as_another_kind() -> None:
    """All that an error says is said by the other one, but for what is given."""
    error = AuthError(
        "no",
        code="C",
        stage="parse",
        outcome="unknown",
        remediation="do",
        status_code=401,
        body={"x": 1},
        retryable=True,
        retry_after=5.0,
        remaining_attempts=3,
    )
    other = error.as_kind(ServerError)
    assert type(other) is ServerError
    assert other.message == "no"
    assert vars(other) == vars(error)
    changed = error.as_kind(ServerError, "yes", code="D", retry_after=None)
    assert changed.message == "yes"
    assert vars(changed) == {**vars(error), "code": "D", "retry_after": None}
    assert error.code == "C"
    assert (other.__cause__, other.__traceback__) == (None, None)


def test_the_usual_code() -> None:
    """The given one, else the library's, else the first that servers use for the class."""
    assert errors.RateLimitError("no", code="C").code == "C"
    assert errors.DeadlineExceededError("no").code == "TIMEOUT"
    assert errors.RateLimitError("no").code == "RATE_LIMITED"
    assert errors.TransportError("no").code is None


@pytest.mark.parametrize(
    ("kind", "details", "cure"),
    [
        (ServerError, {"code": "OTHER"}, "time"),
        (ServerError, {"code": "OTHER", "retryable": True}, "time"),
        # the server says no, of a failure that its class does not know
        (ServerError, {"code": "OTHER", "retryable": False}, "operator"),
        (errors.TransportError, {"retryable": False}, "operator"),
        # the class knows the code, and so what ends it
        (ServerError, {"retryable": False}, "time"),
        (errors.RateLimitError, {"code": "RATE_LIMIT_EXCEEDED", "retryable": False}, "time"),
        (errors.ArgumentValueError, {"retryable": False}, "nothing"),
        # the code alone says it
        (errors.RateLimitError, {"code": "QUOTA_EXCEEDED"}, "operator"),
        (errors.ArgumentValueError, {"code": "CALLING_HOURS", "retryable": False}, "time"),
    ],
)
def test_what_ends_a_failure(
    kind: type[ButtDialError], details: dict[str, Any], cure: tree.Cure
) -> None:
    """A message waits only for what time ends; the rest needs somebody, or is for nothing."""
    assert kind("no", **details).cured_by == cure


@pytest.mark.parametrize(
    ("own", "first", "advice"),
    [
        ("Do this.", "Find out.", "Find out. Do this."),
        ("Do this.", None, "Do this."),
        ("Find out.", "Find out.", "Find out."),
        (None, "Find out.", "Find out."),  # its class has a remedy, which is for another outcome
        (None, None, None),
    ],
)
def test_advice_for_an_unknown_outcome(
    own: str | None, first: str | None, advice: str | None
) -> None:
    """What to do about the outcome, and what the error has to say beyond its class."""
    assert errors.ClientClosedError("no", remediation=own).advice_if_unknown(first) == advice
