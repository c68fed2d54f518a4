"""
A process that drains an outbox: ``python -m tests.stress.outbox_victim URL DATABASE LEASE AHEAD``.

It says on its standard output that it is ready. From the first line of its standard input to the
end of that it drains; then it says how many it knows to be delivered. Its clock is AHEAD by so many
seconds.
"""

from __future__ import annotations

import logging
import sys
import threading
from datetime import timedelta

from buttdial_sync import Client, RetryLoop
from buttdial_sync.errors.moments import utc_now
from tests.integration.retry.victim import TOKEN, open_repository, say

WORKERS = 4
_PAUSE = 0.1


def wait_for_the_end(enough: threading.Event) -> None:
    """Wait until the standard input ends."""
    sys.stdin.read()
    enough.set()


def main(url: str, database: str, lease: float, ahead: float) -> None:
    """Drain until somebody says that it is enough."""
    logging.disable(logging.CRITICAL)
    enough = threading.Event()
    delivered = 0

    def clock() -> object:
        return utc_now() + timedelta(seconds=ahead)

    # PostgreSQL has a clock of its own, which counts for leases.
    options = {} if "://" in database else {"clock": clock}
    repository = open_repository(database, lease=lease, **options)
    with Client(url, agent_id="agent-1", agent_token=TOKEN, timeout=lease / 2) as client:
        loop = RetryLoop(
            repository,
            client,
            workers=WORKERS,
            batch_size=10,
            clock=clock,  # type: ignore[arg-type]
            backoff=lambda _: 0.2,
        )
        say("ready")
        sys.stdin.readline()
        threading.Thread(target=wait_for_the_end, args=(enough,), daemon=True).start()
        while not enough.is_set():
            delivered += loop.drain().delivered
            enough.wait(_PAUSE)
    say(str(delivered))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
