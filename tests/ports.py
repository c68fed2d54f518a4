"""Ports for programs that tests start."""

from __future__ import annotations

import os
import socket
from itertools import count, islice

# Below those that Linux gives to sockets by itself: another test's server or connection could get
# the port before the program has started, and would be taken for it. Each process begins elsewhere.
_FIRST, _MANY = 20_000, 12_000
_numbers = count(os.getpid() * 131)


def free_port() -> int:
    """Return a port of this machine that nobody uses, and that no socket gets by chance."""
    for number in islice(_numbers, _MANY):
        port = _FIRST + number % _MANY
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
