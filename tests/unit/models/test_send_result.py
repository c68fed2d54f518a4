"""What a result says about a failure: whom it concerns, and as which exception it is raised."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import requests
from urllib3.exceptions import NameResolutionError, SSLError

from buttdial_sync import (
    ArgumentValueError,
    AuthInvalidTokenError,
    ButtDialError,
    ComplianceError,
    ConfigError,
    Cure,
    Outcome,
    OutcomeUnknownError,
    SendResult,
    TransportError,
)
from buttdial_sync.errors import error_from_response, error_from_tool_answer, tree
from buttdial_sync.errors.texts import MEANING_OF_CODE
from buttdial_sync.transport.connections import RequestProgress
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.failures import REMEDIES, failure_of

PAGE = Path(__file__).parents[3] / "docs" / "outcomes.rst"
PROPERTIES = ("retryable", "permanent", "needs_operator")
RAISED = {"ARGUMENT_NOT_SUPPORTED", "CLIENT_CLOSED", "PREVIEW_NOT_SUPPORTED"}
"""The codes of what is raised, never reported."""

BROKEN = (
    requests.exceptions.SSLError(SSLError("bad certificate")),
    requests.exceptions.ProxyError("407"),
    requests.exceptions.ConnectionError(NameResolutionError("h", None, OSError())),  # type: ignore[arg-type]
    requests.exceptions.ConnectionError(ConnectionRefusedError()),
    requests.exceptions.ConnectTimeout(),
    requests.exceptions.ConnectionError(OSError(errno.EMFILE, "Too many open files")),
)


def columns(title: str) -> tuple[set[str], ...]:
    """The names in the three columns of a table of the page."""
    _, _, table = PAGE.read_text("utf-8").partition(f".. list-table:: {title}\n")
    cells = re.split(r"^   (?:\*|  ?)? ?- ", table.partition("\n\n\n")[0], flags=re.MULTILINE)
    header, names = cells[1:4], cells[4:7]
    assert tuple(re.findall(r"``(\w+)``", "".join(header))) == PROPERTIES
    return tuple(set(re.findall(r"``(\w+)``", cell.partition("\n\n")[0])) for cell in names)


def told_by(error: ButtDialError) -> list[str]:
    error.outcome = "rejected"
    result = SendResult.of(error)
    return [name for name in PROPERTIES if getattr(result, name)]


def failures_of_codes() -> Iterator[ButtDialError]:
    for code, meaning in MEANING_OF_CODE.items():
        yield meaning.kind("no", code=code)
    for kind in vars(tree).values():
        if isinstance(kind, type) and issubclass(kind, ButtDialError):
            if kind.default_code not in {None, *RAISED}:
                yield kind("no")
            for code in vars(kind).get("server_codes", ()):
                yield error_from_response(400, {"error": "no", "code": code, "retryable": False})
    for broken in BROKEN:
        progress = RequestProgress(Deadline(10.0), 5.0)
        yield failure_of(broken, progress, "https://butt-dial.test/", closed=False)


def test_each_code_stands_in_its_one_column() -> None:
    """The page's table is what results say, complete, and no code is in two columns."""
    wanted: dict[str, list[str]] = {}
    for error in failures_of_codes():
        assert wanted.setdefault(str(error.code), told_by(error)) == told_by(error)
    assert REMEDIES.keys() <= wanted.keys()
    listed = columns("Codes")
    assert sum(map(len, listed)) == len(set.union(*listed))
    pairs = zip(PROPERTIES, listed, strict=True)
    assert {code: [name] for name, codes in pairs for code in codes} == wanted


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (error_from_tool_answer({"error": "Invalid recipient phone number"}), "permanent"),
        (error_from_tool_answer({"error": "Compliance: opted out"}), "permanent"),
        (error_from_tool_answer({"error": "Compliance: threatening content"}), "permanent"),
        (error_from_tool_answer("Compliance: TCPA: calls not allowed at 22:00"), "retryable"),
        (error_from_tool_answer({"error": "no", "code": "NO_CHANNEL_ASSIGNED"}), "needs_operator"),
        (error_from_tool_answer({"error": "agentId is required"}), "needs_operator"),
        (error_from_response(400, {"error": "Missing agentId. It is auto-"}), "needs_operator"),
        (error_from_tool_answer("Rate limit exceeded. Resets in up to 60 seconds"), "retryable"),
        (error_from_tool_answer("Rate limit exceeded: per-day (5/5)"), "needs_operator"),
        (error_from_tool_answer({"error": "the provider is down"}), "retryable"),
        (error_from_tool_answer({"error": "no", "retryable": False}), "needs_operator"),
        (
            error_from_tool_answer({"error": "no", "code": "NEW", "retryable": False}),
            "needs_operator",
        ),
        (error_from_tool_answer({"error": "no", "code": "NEW"}), "retryable"),
        (TransportError("the connection broke"), "retryable"),
        (ArgumentValueError("nothing to send"), "permanent"),
        (ConfigError("only over https"), "needs_operator"),
        (error_from_response(401, {"error": "Invalid or revoked token"}), "needs_operator"),
        (error_from_response(429, {"error": "Too many failed attempts"}), "retryable"),
        (error_from_response(403, {"error": "Auth error: scope"}), "needs_operator"),
    ],
    ids=str,
)
def test_what_ends_a_failure(error: ButtDialError, said: str) -> None:
    """A recipient or a content for ever, a person, or time: exactly one of the three."""
    assert told_by(error) == [said]


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_only_a_failure_has_a_cure(outcome: Outcome) -> None:
    """A sent message has none of the three, and neither has one that may have been sent."""
    without = SendResult(outcome=outcome)
    result = SendResult.of(ComplianceError("no", outcome=outcome))
    for each in (without, result):
        said = [name for name in PROPERTIES if getattr(each, name)]
        assert len(said) == (1 if each.failed else 0)


def test_a_sent_message_raises_nothing() -> None:
    """It returns itself, so that a call can be read in one line."""
    result = SendResult(outcome="sent", message_sid="SM1")
    assert result.raise_for_outcome() is result


def test_a_failure_is_raised_as_what_it_is() -> None:
    """Class and attributes are those of the error; each raise has a traceback of its own."""
    result = SendResult.of(AuthInvalidTokenError("wrong", code="AUTH_INVALID_TOKEN"))
    raised = []
    for _ in range(2):
        with pytest.raises(AuthInvalidTokenError, match="wrong") as caught:
            result.raise_for_outcome()
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert vars(raised[0]) == vars(result.exception)
    assert result.exception is not None
    assert result.exception.__traceback__ is None


@pytest.mark.parametrize("kind", [TransportError, OutcomeUnknownError])
def test_an_unknown_outcome_is_raised_as_unknown(kind: type[ButtDialError]) -> None:
    """One class says that the message may have been sent, whatever was the cause."""
    result = SendResult.of(kind("cut", code="X", outcome="unknown"))
    with pytest.raises(OutcomeUnknownError, match="cut") as caught:
        result.raise_for_outcome()
    assert (caught.value.outcome, caught.value.code) == ("unknown", "X")
    advice = str(OutcomeUnknownError.remedy)
    assert advice not in caught.value.message
    assert str(caught.value).count(advice) <= 1  # on Python 3.10 the text has it, once


def test_a_result_without_an_exception_is_raised_too() -> None:
    """A host's own client may report no exception; the words are kept."""
    result = SendResult(
        outcome="rejected", error="no", error_code="X", remediation="do", retry_after=3.0
    )
    with pytest.raises(ButtDialError, match="no") as caught:
        result.raise_for_outcome()
    error = caught.value
    assert (error.code, error.outcome, error.remediation) == ("X", "rejected", "do")
    assert error.retry_after == 3.0


def test_the_cures() -> None:
    """Each has its property."""
    assert len(get_args(Cure)) == len(PROPERTIES)
