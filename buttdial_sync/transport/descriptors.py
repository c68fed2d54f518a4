"""
Telling a descriptor of ours from somebody else's under the same number.

Code that makes a process a daemon closes every descriptor (``os.closerange(3, 256)``). The numbers
are soon used again, for the host's own sockets. So a number that was kept is compared before it is
used, and one that is no longer ours is neither written to nor read from nor closed.
"""

from __future__ import annotations

import os
import stat

Identity = tuple[int, int, int]


def identity_of(descriptor: int) -> Identity | None:
    """
    Return what tells an open descriptor from another one, or None where nothing does.

    Windows has no such numbers for sockets; nothing there closes the descriptors of others.
    """
    if os.name == "nt":
        return None
    status = os.fstat(descriptor)
    return stat.S_IFMT(status.st_mode), status.st_dev, status.st_ino


def is_still(descriptor: int, identity: Identity | None) -> bool:
    """Whether the descriptor is open, and the one that had this identity."""
    try:
        return identity_of(descriptor) == identity
    except OSError:
        return False
