"""
A client for Procedura, which drives an agent in a world over WebSocket.

::

    from buttdial_sync.procedura import RemoteAgent

    with RemoteAgent("ws://127.0.0.1:8765") as agent:
        agent.login_password("admin@procedura.org:secret123")
        print(agent.worldstate_snapshot(terse=True))

It needs ``pip install 'buttdial-sync[procedura]'``. The names are loaded on first use.
"""

from __future__ import annotations

from buttdial_sync._lazy import names_of_stub

__getattr__, __dir__ = names_of_stub(__name__, __file__)
