"""
The blocking, thread-safe client for Butt-Dial.

::

    from buttdial_sync import Client

    with Client("https://butt-dial.example", agent_token="…") as client:
        result = client.send_message("+14155550123", "Your order has shipped.")

The public names are loaded on first use: importing this package loads neither ``requests`` nor
``cattrs``.
"""

from __future__ import annotations

from buttdial_sync._lazy import names_of_stub
from buttdial_sync._version import __version__ as __version__

__getattr__, __dir__ = names_of_stub(__name__, __file__)
