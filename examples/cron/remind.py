"""
Send reminders from cron: each once, however often the job runs.

Set BUTT_DIAL_BASE_URL and BUTT_DIAL_AGENT_TOKEN, then: python remind.py reminders.csv

Messages that were sent are noted in sent.txt. The job prints nothing when all went well, because
cron mails its output. The exit code is 1 if a message failed (the next run tries it again), and 3
if the outcome of one is unknown (no run tries it again: find out whether it arrived). When the
server is down or the token is wrong, the job ends at the first row: the next run sends the rest.

The same file works with: buttdial-sync send-many reminders.csv --db outbox.db
"""

import csv
import sys
from pathlib import Path

from buttdial_sync import Client

DONE = Path("sent.txt")


def main(reminders: str) -> int:
    """Send what has not been sent, and return the exit code."""
    done = set(DONE.read_text("utf-8").split()) if DONE.exists() else set()
    exit_code = 0
    with (
        Client.from_env() as client,
        open(reminders, encoding="utf-8", newline="") as file,
        DONE.open("a", encoding="utf-8") as notes,
    ):
        for row in csv.DictReader(file):
            if row["id"] in done:
                continue
            # After a crash before the note the next run sends with the same key, which a server
            # that honours keys takes for the same message.
            result = client.send_message(
                row["to"],
                row["body"],
                channel=row["channel"],
                idempotency_key=f"reminder-{row['id']}",
            )
            if not result.failed:
                print(row["id"], file=notes, flush=True)
            if not result.ok:
                print(f"{row['id']}: {result.outcome}: {result.error}", file=sys.stderr)
                exit_code = max(exit_code, 3 if result.unknown else 1)
            # The server is down, the token is wrong, a quota is used up: other rows would fail too.
            if result.needs_operator or result.stage_failed in {"transport", "session"}:
                break
    return exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
