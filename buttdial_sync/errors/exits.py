"""The exit codes of the commands, and the one place that picks them."""

from __future__ import annotations

from typing import Final

from buttdial_sync.errors.tree import Outcome, Stage

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
TRY_LATER: Final = 75
INTERRUPTED: Final = 130
TERMINATED: Final = 143

EXIT_CODES: Final = """\b
Exit codes:
  0    done
  1    the server refused
  2    wrong usage or configuration; nothing was sent
  3    the server was not reached or understood, or the outcome is unknown
  75   nothing failed, but messages have to wait; run it again later
  130  interrupted with Ctrl-C
  143  ended by SIGTERM
"""

_BY_OUTCOME: dict[Outcome, int] = {
    "sent": DONE,
    "rejected": REFUSED,
    "not_sent": UNREACHABLE,
    "unknown": UNREACHABLE,
}


def exit_code(outcome: Outcome, stage: Stage | None) -> int:
    """
    Pick the exit code.

    Args:
        outcome: The ``outcome`` of an exception or of a ``SendResult``.
        stage: Where it failed, or None.
    """
    if outcome == "not_sent" and stage == "config":
        return USAGE
    return _BY_OUTCOME[outcome]


def exit_code_of_failure(outcome: Outcome, stage: Stage | None) -> int:
    """
    Pick the exit code for an exception: never :data:`DONE`.

    With the outcome "sent" the server did answer, but in a way that is not understood.
    """
    return exit_code(outcome, stage) or UNREACHABLE
