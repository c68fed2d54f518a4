"""Advice stands where people look: in tracebacks, notebooks and reports of tests."""

from __future__ import annotations

import copy
import pickle
import sys
import traceback

import pytest

from buttdial_sync.errors import (
    AgentNotFound,
    AuthInvalidTokenError,
    ButtDialError,
    ConfigError,
    ServerError,
)
from buttdial_sync.errors.scrubbing import scrub_error
from buttdial_sync.models.sending import SendResult

needs_notes = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no notes")
CHECK = AuthInvalidTokenError.remedy


def shown(error: BaseException) -> list[str]:
    """Return the end of a traceback, without the name of the class."""
    lines = "".join(traceback.format_exception_only(error)).splitlines()
    return [lines[0].partition(": ")[2], *lines[1:]]


def test_a_traceback_ends_with_the_advice() -> None:
    """Also where pytest shows it."""
    with pytest.raises(AuthInvalidTokenError) as caught:
        raise AuthInvalidTokenError("Invalid token")
    assert shown(caught.value) == ["Invalid token", CHECK]
    assert caught.exconly().endswith(f"Invalid token\n{CHECK}")


def test_an_error_without_advice() -> None:
    """It has a single line."""
    assert shown(ServerError("down", remediation=None).as_kind(ConfigError, remediation=None)) == [
        "down"
    ]
    assert shown(AgentNotFound("no agent a")) == ["no agent a"]


@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        lambda error: pickle.loads(pickle.dumps(error)),  # noqa: S301 - our own bytes
        lambda error: error.as_kind(type(error)),
        lambda error: pickle.loads(pickle.dumps(copy.copy(error))),  # noqa: S301
    ],
    ids=["copied", "pickled", "as another kind", "both"],
)
def test_advice_is_shown_once(again: object) -> None:
    """However an error travels, and also if its advice changes on the way."""
    assert callable(again)
    error = ServerError("down", remediation="Wait.")
    twin = again(error)
    assert shown(twin) == ["down", "Wait."]
    twin.remediation = "Call us."
    assert shown(twin) == ["down", "Call us."]
    assert shown(error) == ["down", "Wait."]
    twin.remediation = None
    assert shown(twin) == ["down"]


def test_another_kind_has_its_own_advice() -> None:
    """What is given replaces what there was."""
    error = ServerError("down").as_kind(ConfigError, "up", remediation="Rest.")
    assert shown(error) == ["up", "Rest."]


@needs_notes
def test_notes_of_others_stay() -> None:
    """Whoever adds a note keeps it, below the advice."""
    error = ServerError("down", remediation="Wait.")
    error.add_note("order 7")  # type: ignore[attr-defined]
    error.remediation = "Call us."
    assert shown(error) == ["down", "Call us.", "order 7"]
    assert shown(error.as_kind(ConfigError)) == ["down", "Call us.", "order 7"]


def test_no_secret_is_in_a_note() -> None:
    """Scrubbing an error scrubs what is shown of its advice."""
    error = ServerError("down", remediation="Do not show secret-token-1.")
    scrub_error(error, ["secret-token-1"])
    assert "secret-token-1" not in "".join(traceback.format_exception_only(error))
    assert shown(error)[1].startswith("Do not show ")


@needs_notes
def test_the_text_is_the_message() -> None:
    """Logs and programs that read ``str(error)`` read what they always did."""
    assert str(AuthInvalidTokenError("Invalid token")) == "Invalid token"


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="newer Pythons have notes")
def test_the_text_has_the_advice_without_notes() -> None:
    """On the oldest Python it is the second line."""
    assert str(AuthInvalidTokenError("Invalid token")) == f"Invalid token\n{CHECK}"


def test_message_and_result_have_no_advice() -> None:
    """On every Python."""
    error: ButtDialError = AuthInvalidTokenError("Invalid token")
    assert error.message == "Invalid token"
    result = SendResult.of(error)
    assert (result.error, result.remediation) == ("Invalid token", CHECK)
    assert result.exception is not None
    assert shown(result.exception) == ["Invalid token", CHECK]
