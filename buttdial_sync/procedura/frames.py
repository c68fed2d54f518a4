"""What the server's frames mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from buttdial_sync.errors.scrubbing import scrub_error
from buttdial_sync.procedura.errors import (
    ModuleFailedError,
    ModuleUnknownError,
    ProceduraAuthError,
    ProceduraError,
)
from buttdial_sync.procedura.events import Failed, Finished, Running, Started, StreamEvent

# The server's own words, from its public test scripts.
_AUTH_CODES = frozenset({"AUTH_ERROR"})
_AUTH_TEXT = re.compile(r"(auth failed|invalid token|unauthorized)[.!]?(\s*:.*)?", re.I | re.S)
_UNKNOWN_CODES = frozenset({"MODULE_NOT_FOUND"})
_UNKNOWN_TEXT = re.compile(r"module not found|unknown module", re.IGNORECASE)
_ADDRESS = frozenset({"id", "job_id", "status"})

Frame = Mapping[str, Any]


def event_of(module: str, frame: Frame, secrets: Collection[str]) -> StreamEvent | None:
    """
    Return the event of a frame, or None for a frame that is not an event.

    Args:
        module: The module that runs.
        frame: The server's frame.
        secrets: What must not stand in an error.

    Raises:
        ProceduraAuthError: The server refuses the token.
    """
    status = frame.get("status")
    job = frame.get("job_id")
    known: dict[str, Any] = {"job_id": None if job is None else str(job), "raw": frame}
    if status == "started":
        return Started(**known)
    if status == "running":
        return Running(data=_without_address(frame), **known)
    if status == "finished":
        return Finished(result=frame.get("result"), **known)
    if status == "error":
        error = module_error(module, frame, secrets)
        if not isinstance(error, ModuleFailedError):
            raise error
        return Failed(error=error, **known)
    return None


def module_error(module: str, frame: Frame, secrets: Collection[str]) -> ProceduraError:
    """
    Return the error of an error frame: code, message and every other field.

    Args:
        module: The module that ran.
        frame: The server's frame.
        secrets: What must not stand in the error.
    """
    message = str(frame.get("message") or f"{module} failed")
    code = frame.get("code")
    kind: type[ProceduraError] = ModuleFailedError
    # Without a code of its own: a module may say the same of something else.
    is_plain = code is None or module == "login_password"
    if code in _AUTH_CODES or (is_plain and _AUTH_TEXT.fullmatch(message)):
        kind = ProceduraAuthError
    elif code in _UNKNOWN_CODES or _UNKNOWN_TEXT.match(message):
        kind = ModuleUnknownError
    error = kind(
        message,
        code=None if code is None else str(code),
        stage="tool_call",
        body=_without_address(frame),
    )
    scrub_error(error, list(secrets))
    if isinstance(error, ModuleFailedError):
        error.module, error.details = module, error.body
    return error


def _without_address(frame: Frame) -> dict[str, Any]:
    return {name: value for name, value in frame.items() if name not in _ADDRESS}
