"""
A client for Happy, which runs coding agents on the machines of a user.

::

    from buttdial_sync.happy import HappyClient

    with HappyClient.from_env() as client:
        result = client.run_task("machine-1", "/home/user/project", "Fix the failing test.")
        print(result.status, result.text)

It needs ``pip install 'buttdial-sync[happy]'``.
"""

from __future__ import annotations

from buttdial_sync._lazy import names_of_stub

__getattr__, __dir__ = names_of_stub(__name__, __file__)
