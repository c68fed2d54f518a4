"""
Turns of a Happy agent while the live connection is cut in each phase of them.

By hand: ``python -m tests.stress.happy [turns]``, 100 in each phase by default.
"""

from __future__ import annotations

import sys
import time
from typing import get_args

from buttdial_sync.testing.happy_server import FakeHappyServer
from tests.integration.happy.conftest import client_of
from tests.integration.happy.cutting import Phase, turns


def main() -> int:
    """Do the turns; return the exit code."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    failed = False
    for phase in get_args(Phase):
        started = time.monotonic()
        with FakeHappyServer() as server, client_of(server) as client:
            wrong = turns(server, server.add_machine(), client, phase, count)
        seconds = time.monotonic() - started
        sys.stdout.write(f"{phase:<16}{count:>6} turns{seconds:>8.1f} s{len(wrong):>6} wrong\n")
        sys.stdout.writelines(f"  {each}\n" for each in wrong[:20])
        sys.stdout.flush()
        failed = failed or bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
