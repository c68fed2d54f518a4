"""The errors of the Procedura client, and what frames mean."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest

from buttdial_sync import errors as tree
from buttdial_sync.errors import (
    ArgumentTypeError,
    AuthError,
    AuthLockedOutError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    DeadlineExceededError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    ProtocolError,
    ServerError,
    StreamLostError,
    ToolError,
    TransportError,
)
from buttdial_sync.procedura import errors as ours
from buttdial_sync.procedura.errors import (
    AckTimeoutError,
    ConnectionLostError,
    ModuleFailedError,
    ModuleUnknownError,
    ProceduraAuthError,
    ProceduraClosedError,
    ProceduraConfigError,
    ProceduraDeadlineError,
    ProceduraError,
    ProceduraProtocolError,
    ProceduraTransportError,
    ResultTimeoutError,
    as_procedura_error,
    raised_as_procedura_errors,
)
from buttdial_sync.procedura.events import Failed, Finished, Running, Started
from buttdial_sync.procedura.frames import event_of, module_error

CLASSES = [
    value
    for value in vars(ours).values()
    if inspect.isclass(value)
    and issubclass(value, BaseException)
    and value.__module__ == ours.__name__
]


@pytest.mark.parametrize("kind", CLASSES)
def test_each_class_is_one_of_the_tree_too(kind: type[ProceduraError]) -> None:
    """Either habit of catching works, and each has advice of its own."""
    assert issubclass(kind, ProceduraError)
    public = [base for base in kind.__mro__ if base.__module__ == "buttdial_sync.errors.tree"]
    assert ButtDialError in public
    assert kind is ProceduraError or len(public) > 1
    assert inspect.getdoc(kind)
    copy = pickle.loads(pickle.dumps(kind("text", code="C")))  # noqa: S301
    assert (type(copy), copy.message, copy.code) == (kind, "text", "C")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConfigError("x"), ProceduraConfigError),
        (ArgumentTypeError("x"), ProceduraConfigError),
        (ClientClosedError("x"), ProceduraClosedError),
        (AuthError("x"), ProceduraAuthError),
        (AuthLockedOutError("x"), ProceduraAuthError),
        (AuthError("x", outcome="unknown"), ProceduraAuthError),
        (PermissionDeniedError("x"), ProceduraAuthError),
        (DeadlineExceededError("x"), ProceduraDeadlineError),
        (DeadlineExceededError("x", outcome="unknown"), AckTimeoutError),
        (ProtocolError("x"), ProceduraProtocolError),
        (ProtocolError("x", outcome="unknown"), ConnectionLostError),
        (TransportError("x"), ProceduraTransportError),
        (StreamLostError("x"), ProceduraTransportError),
        (StreamLostError("x", outcome="unknown"), ConnectionLostError),
        (OutcomeUnknownError("x"), ConnectionLostError),
        (ServerError("x"), ProceduraTransportError),
        (ResultTimeoutError("x"), ResultTimeoutError),
    ],
)
def test_errors_of_the_transport(error: ButtDialError, kind: type[ProceduraError]) -> None:
    """They keep their attributes; what is unknown is always an OutcomeUnknownError."""
    error.code = "CODE"
    found = as_procedura_error(error)
    assert type(found) is kind
    assert found is not error
    assert (found.message, found.code, found.outcome) == ("x", "CODE", error.outcome)
    if error.outcome == "unknown" and not isinstance(error, AuthError):
        assert isinstance(found, OutcomeUnknownError)
        assert found.remediation == kind.remedy


def test_advice_of_an_instance_is_kept() -> None:
    """But for the name of an argument that is another here."""
    error = TransportError("x", remediation="Check the port in base_url.")
    assert as_procedura_error(error).remediation == "Check the port in url."


def test_errors_are_raised_without_what_they_were() -> None:
    """No frame of the transport is shown with them."""
    with pytest.raises(ProceduraTransportError) as caught, raised_as_procedura_errors():
        raise TransportError("x")
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        ({"message": "auth failed: Invalid password"}, ProceduraAuthError),
        ({"message": "Invalid token", "code": "AUTH_ERROR"}, ProceduraAuthError),
        ({"message": "Unauthorized"}, ProceduraAuthError),
        ({"message": "invalid token."}, ProceduraAuthError),
        ({"message": "Invalid token: expired"}, ProceduraAuthError),
        ({"message": "Invalid token '}' at line 3", "code": "PARSE_ERROR"}, ModuleFailedError),
        ({"message": "Invalid token '}' at line 3"}, ModuleFailedError),
        ({"message": "Unauthorized", "code": "WORLD_RULE"}, ModuleFailedError),
        ({"message": "Module not found", "module": "m"}, ModuleUnknownError),
        ({"message": "No glyph_prompt found at this coordinate."}, ModuleFailedError),
        ({}, ModuleFailedError),
    ],
)
def test_error_frames(frame: dict[str, Any], kind: type[ButtDialError]) -> None:
    """By the words and codes that are known of servers."""
    error = module_error("m", {"id": "1", "status": "error", **frame}, ())
    assert type(error) is kind
    assert (error.outcome, error.stage) == ("rejected", "tool_call")
    assert error.message == frame.get("message", "m failed")


def test_refused_login() -> None:
    """Of a login the words count, whatever the code is."""
    frame = {"message": "auth failed: Invalid password", "code": "LOGIN"}
    assert type(module_error("login_password", frame, ())) is ProceduraAuthError


def test_error_frame_keeps_every_field() -> None:
    """But its address, and the secrets."""
    frame = {
        "id": "1",
        "status": "error",
        "message": "bad tok-secret",
        "code": 7,
        "coord": [1, 2],
        "password": "p",
    }
    error = module_error("m", frame, ["tok-secret"])
    assert isinstance(error, ModuleFailedError)
    assert isinstance(error, ToolError)
    assert not isinstance(error, NotFoundError)
    assert (str(error), error.code, error.module) == ("bad ***", "7", "m")
    assert error.details == {
        "message": "bad ***",
        "code": 7,
        "coord": [1, 2],
        "password": "***",
    }


def test_events() -> None:
    """The four kinds; the frame's own fields stay the module's."""
    job = {"id": "1", "job_id": "j"}
    frames: list[dict[str, Any]] = [
        {**job, "status": "started"},
        {**job, "status": "running", "phase": "planting", "progress": {"done": 1}},
        {**job, "status": "finished", "result": None},
        {**job, "status": "error", "message": "no"},
        {**job, "status": "ack"},
        {**job, "status": ["odd"]},
    ]
    events = [event_of("m", frame, ()) for frame in frames]
    kinds = [type(event) for event in events]
    assert kinds == [Started, Running, Finished, Failed, type(None), type(None)]
    running = events[1]
    assert isinstance(running, Running)
    assert (running.phase, running.job_id) == ("running", "j")
    assert running.data == {"phase": "planting", "progress": {"done": 1}}
    assert running.raw is frames[1]


def test_stream_of_a_refused_token_raises() -> None:
    """It is no event of the module."""
    frame = {"id": "1", "status": "error", "message": "Invalid token", "code": "AUTH_ERROR"}
    with pytest.raises(ProceduraAuthError):
        event_of("m", frame, ())


def test_the_errors_know_the_tree() -> None:
    """The names of both differ, so that a host can import both."""
    assert not {kind.__name__ for kind in CLASSES} & set(tree.__all__)
