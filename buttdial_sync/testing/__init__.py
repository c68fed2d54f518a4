"""
A Butt-Dial server for tests.

`FakeButtDialServer` answers as the hosted service or as the open-source server, records what
came, and fails on demand. It can be reached over a real socket (``listen()``) or by way of the
``responses`` library (``mocked()``). Only the latter needs ``buttdial-sync[testing]``.
"""

from __future__ import annotations

from buttdial_sync._lazy import names_of_stub

__getattr__, __dir__ = names_of_stub(__name__, __file__)
