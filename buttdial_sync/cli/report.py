"""The result of a command, and how it is printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime
from typing import Any

import attrs
import click

from buttdial_sync.cli.status_line import STATUS_LINE
from buttdial_sync.errors import ButtDialError
from buttdial_sync.errors.exits import DONE, exit_code_of_failure


@attrs.frozen(kw_only=True)
class Failure:
    """
    A failure, in words for a person.

    Attributes:
        message: What happened.
        remediation: What to do about it, or None.
    """

    message: str
    remediation: str | None = None


@attrs.frozen(kw_only=True)
class Report:
    """
    The result of a command.

    Attributes:
        data: What ``--json`` prints, besides ``ok``: whether the exit code is 0.
        lines: The lines that are printed otherwise.
        failure: Goes to stderr in both cases.
        exit_code: How the program ends.
    """

    data: Mapping[str, Any] = attrs.field(factory=dict)
    lines: Sequence[str] = ()
    failure: Failure | None = None
    exit_code: int = DONE

    @classmethod
    def of_error(cls, error: ButtDialError) -> Report:
        """Report an exception, under the names that a ``SendResult`` has."""
        data = {
            "outcome": error.outcome,
            "error": error.message,
            "error_code": error.code,
            "stage_failed": error.stage,
            "remediation": error.remediation,
            "retry_after": error.retry_after,
        }
        return cls(
            data=data,
            failure=Failure(
                message=described(error.message, error.code, error.retry_after),
                remediation=error.remediation,
            ),
            exit_code=exit_code_of_failure(error.outcome, error.stage),
        )

    def json(self) -> str:
        """Return the object that ``--json`` prints."""
        told: dict[str, Any] = {}
        if self.failure is not None:
            told = {"error": self.failure.message, "remediation": self.failure.remediation}
        return json.dumps({"ok": self.exit_code == DONE, **told, **self.data})

    def show(self, *, as_json: bool) -> None:
        """Print it: the result to stdout, a failure to stderr."""
        if as_json:
            click.echo(self.json())
        else:
            for line in self.lines:
                say(line)
        if self.failure is not None:
            say(f"Error: {on_one_line(self.failure.message)}", err=True)
            if self.failure.remediation:
                say(f"  -> {on_one_line(self.failure.remediation)}", err=True)


def plain_fields(value: attrs.AttrsInstance) -> dict[str, Any]:
    """Return an object's fields as JSON can hold them."""
    return attrs.asdict(value, value_serializer=_plain)


def _plain(_: object, __: object, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return dict(value) if isinstance(value, Mapping) else value


def described(error: str, code: str | None, retry_after: float | None) -> str:
    """Join what is known about a failure into one line."""
    named = f"{error} ({code})" if code and code not in error else error
    return named if retry_after is None else f"{named}; try again in {retry_after:g} s"


def say(text: str, *, err: bool = False) -> None:
    """
    Print a line that any terminal can show.

    Raises:
        OSError: Stdout cannot be written. For stderr it is not raised: nobody could be told.
    """
    STATUS_LINE.clear()
    stream = sys.stderr if err else sys.stdout
    with suppress(OSError) if err else nullcontext():
        click.echo(printable(text, getattr(stream, "encoding", None) or "ascii"), err=err)


def printable(text: str, encoding: str) -> str:
    """
    Escape characters that a terminal cannot show, and control characters.

    Args:
        text: May come from a server.
        encoding: The terminal's.
    """
    safe = "".join(map(_visible, text))
    return safe.encode(encoding, "backslashreplace").decode(encoding)


def _visible(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode("ascii")


def on_one_line(text: str) -> str:
    """Return a text that may have several lines as one."""
    return " ".join(text.split())
