"""What a stream yields, and what logging in and the diagnosis return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import attrs

from buttdial_sync.models.result import ReceivedObject
from buttdial_sync.procedura.errors import ModuleFailedError

Phase = Literal["started", "running", "finished", "error"]


@attrs.frozen(kw_only=True)
class StreamEvent(ReceivedObject):
    """
    One event of a stream. ``phase`` says which of the four kinds it is.

    Attributes:
        job_id: The server's name for the run, or None if it did not tell it yet.
        raw: The whole frame.
    """

    phase: ClassVar[Phase]
    job_id: str | None = None


@attrs.frozen(kw_only=True)
class Started(StreamEvent):
    """The module runs."""

    phase: ClassVar[Phase] = "started"


@attrs.frozen(kw_only=True)
class Running(StreamEvent):
    """
    News of a module that runs.

    Attributes:
        data: What the module tells: the frame without its address and its status.
    """

    phase: ClassVar[Phase] = "running"
    data: Mapping[str, Any]


@attrs.frozen(kw_only=True)
class Finished(StreamEvent):
    """
    The module ended well. It is the last event.

    Attributes:
        result: Any JSON, also None.
    """

    phase: ClassVar[Phase] = "finished"
    result: Any


@attrs.frozen(kw_only=True)
class Failed(StreamEvent):
    """
    The module ended with an error. It is the last event.

    Attributes:
        error: What :meth:`RemoteAgent.run` would raise: code, message, and every other field.
    """

    phase: ClassVar[Phase] = "error"
    error: ModuleFailedError = attrs.field(eq=False)


@attrs.frozen(kw_only=True)
class Login(ReceivedObject):
    """
    A login that went well.

    Attributes:
        session_token: The token. The agent uses it from now on.
        account: Whose it is, as the server says it, otherwise as in the credential.
        device: The device that it is for.
        raw: The module's whole result.
    """

    session_token: str = attrs.field(repr=False)
    account: str | None
    device: str


@attrs.frozen(kw_only=True)
class Diagnosis:
    """
    What is known about a connection.

    Attributes:
        url: The server.
        seconds: The round trip of a ping.
        ws_metrics: What the server tells of its connections; None if it does not know that module.
        auth: What the server tells of this login; None if it does not know that module.
    """

    url: str
    seconds: float
    ws_metrics: Any = None
    auth: Any = None
