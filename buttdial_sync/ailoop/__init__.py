"""
The client of ailoop: ask a person, and get the answer.

::

    from buttdial_sync.ailoop import AiloopClient

    with AiloopClient("http://localhost:8080") as client:
        if client.authorize("Deploy to production"):
            deploy()
"""

from __future__ import annotations

from buttdial_sync._lazy import names_of_stub

__getattr__, __dir__ = names_of_stub(__name__, __file__)
