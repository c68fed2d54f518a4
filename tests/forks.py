"""Children of tests that are forked."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

from buttdial_sync.transport import fork


def forked(work: Callable[[], object]) -> int:
    """Run work in a child; exit code 0 means that it raised nothing."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:  # noqa: BLE001 - a child must never return into pytest
        traceback.print_exc(file=sys.stderr)
        os._exit(1)
    os._exit(0)


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def is_leaked(inherited: object) -> bool:
    """Whether an object is kept until the process ends, so that nothing closes it in a child."""
    return any(each is inherited for each in fork._leaked)
