"""
32 threads on one Procedura connection: 3,200 calls and streams a round, in each way of naming them.

By hand: ``python -m tests.stress.procedura [rounds [way ...]]``, 50 and all ways by default.
"""

from __future__ import annotations

import sys
import time
from typing import get_args

from buttdial_sync.testing import Addressing
from tests.integration.procedura.crowd import THREADS, rounds

CALLS = 100


def main() -> int:
    """Do the rounds; return the exit code."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    failed = False
    for addressing in get_args(Addressing):
        if sys.argv[2:] and addressing not in sys.argv[2:]:
            continue
        started = time.monotonic()
        wrong = rounds(addressing, count, CALLS)
        seconds = time.monotonic() - started
        told = f"{addressing:<10}{count * THREADS * CALLS:>9} calls{seconds:>8.1f} s"
        sys.stdout.write(f"{told}{len(wrong):>6} wrong\n")
        sys.stdout.writelines(f"  {each}\n" for each in wrong[:20])
        sys.stdout.flush()
        failed = failed or bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
