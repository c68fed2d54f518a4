"""
Let a coding agent work on a repository at night, and report by WhatsApp.

Set HAPPY_SERVER_URL, HAPPY_TOKEN, HAPPY_SECRET, AILOOP_SERVER, BUTT_DIAL_BASE_URL and
BUTT_DIAL_AGENT_TOKEN, then: python nightly.py machine-1 /srv/shop +14155550123

What the agent does is written to nightly.log. Where it wants a permission, a person is asked
through ailoop, and no answer within 15 minutes is a no. A report that cannot be sent waits in
outbox.db for the next night. The exit code is 0 if the agent completed its work.
"""

import sys

from buttdial_sync import Client, Outbox, RetryLoop
from buttdial_sync.ailoop import AiloopClient
from buttdial_sync.happy import (
    Approval,
    Denial,
    HappyClient,
    HappyError,
    PermissionRequest,
    ToolCallStarted,
    Update,
)
from buttdial_sync.retry import SQLiteRepository

PROMPT = "Update the dependencies, run the tests, and fix what breaks. Commit, but do not push."
LONGEST_REPORT = 1500
SECONDS_TO_WORK = 3600.0
SECONDS_TO_ANSWER = 900.0


def work(machine: str, directory: str) -> tuple[bool, str]:
    """Have the agent work; return whether it is done, and what to report."""
    with (
        HappyClient.from_env() as happy,
        AiloopClient.from_env() as ailoop,
        open("nightly.log", "a", encoding="utf-8") as log,
    ):

        def ask(request: PermissionRequest) -> Approval | Denial:
            action = f"The agent in {directory} wants to use {request.tool}"
            if ailoop.authorize(action, context=dict(request.arguments), timeout=SECONDS_TO_ANSWER):
                return Approval()
            return Denial(reason="Nobody allowed it. Go on without it if you can.")

        def note(update: Update) -> None:
            if isinstance(update, ToolCallStarted):
                print(update.created_at, update.name, update.arguments, file=log, flush=True)

        try:
            result = happy.run_task(
                machine,
                directory,
                PROMPT,
                timeout_seconds=SECONDS_TO_WORK,
                name="Nightly update",
                permission_mode="acceptEdits",
                on_permission=ask,
                on_update=note,
            )
        except HappyError as error:
            return False, f"{type(error).__name__}: {error}. {error.remediation or ''}"
    return result.ok, f"{result.status}: {result.text}"


def report(to: str, text: str) -> None:
    """Send the report, and those of earlier nights that still wait."""
    with Client.from_env() as client, SQLiteRepository("outbox.db") as repository:
        RetryLoop(repository, client).drain()
        result = Outbox(client, repository).send_message(to, text[:LONGEST_REPORT], "whatsapp")
        if not result.ok:
            print(f"the report: {result.outcome}: {result.error}", file=sys.stderr)


def main(machine: str, directory: str, to: str) -> int:
    """Work, report, and return the exit code."""
    is_done, text = work(machine, directory)
    report(to, f"Nightly update of {directory}: {text}")
    return 0 if is_done else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
